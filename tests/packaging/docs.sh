#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# docs.sh: the reference of the API is made without a warning, and has the functions and classes of every floor.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
need_compiler doxygen
cmake -S "$root" -B "$scratch/build" -DPAVISE_BUILD_TESTS=OFF -DPAVISE_BUILD_EXAMPLES=OFF -DPAVISE_BUILD_BENCHMARKS=OFF >"$scratch/log"
cmake --build "$scratch/build" --target pavise_docs >"$scratch/log" 2>&1 || { cat "$scratch/log"; exit 1; }
pages=$scratch/build/docs/html
for name in pavise::conv2d pavise::attack::Pgd pavise::certify::Sampler pavise::io::save_model pavise::mpi::World; do
  grep -rqwF "$name" "$pages" || { echo "FAILED: the reference has no $name"; exit 1; }
done
echo "$(find "$pages" -name '*.html' | wc -l) pages"
