#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Trains, attacks and certifies in one process for MINUTES (60), printing its memory. Fails where that grows by more than
# MIB (8) after the first tenth of the time, or where a round has other results than the first.
#   tests/soak.sh [MINUTES [MIB]]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source examples/setup.sh
set_up "${pavise_packages[@]}"
cmake --preset release >/dev/null
cmake --build --preset release --target pavise_soak
OMP_WAIT_POLICY=passive exec nice build/release/tests/pavise_soak "${1:-60}" "${2:-8}"
