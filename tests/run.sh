#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: tests/run.sh [--help] [CTEST-ARGUMENTS...]

Installs what is missing (Debian packages; as root or with sudo), builds, and runs all tests with ctest.
The exit status is 0 if and only if every test passed.

Examples:
  tests/run.sh                    all tests
  tests/run.sh -LE packaging      all but the tests of the packaging (which compile a lot)
  tests/run.sh -R autodiff -V     one floor, with its output

Environment:
  PAVISE_PRESET   the CMake preset: release (default), debug, asan, clang, no-openmp
  PAVISE_DATA     where the tests find MNIST and CIFAR-10; those that need them say so when they skip
  PAVISE_TORCH_PYTHON   a Python with PyTorch and safetensors, for the check of imported models (skipped without)
TEXT
}
case ${1:-} in -h | --help) usage; exit 0 ;; esac

source "$(dirname "${BASH_SOURCE[0]}")/../examples/setup.sh"
set_up "${pavise_packages[@]}" "$pavise_dataset"
is_there "$pavise_dataset" || say "Going on without Fashion-MNIST: the tests that need it say that they skip."

preset=${PAVISE_PRESET:-release}
cd "$pavise_root"
cmake --preset "$preset" -DPAVISE_TEST_BATCH=100 ${PAVISE_CMAKE_ARGUMENTS:-}
cmake --build --preset "$preset" --target pavise_tests -j "$(cores)"
exec ctest --preset "$preset" -j "$(cores)" --no-tests=error "$@"
