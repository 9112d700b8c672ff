#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# two_units.sh COMPILER [pair]: two translation units that include every public header link into one program, in either order,
# and agree on what they compute: without optimisation, with -O2, and where one unit is built for this machine, with OpenMP
# (where the compiler has it), and the other is not. With `pair` only the two that differ most: one without optimisation, one
# for this machine.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
compiler=$1
need_compiler "$compiler"

public_headers | sed 's/.*/#include "&"/' >"$scratch/everything.hpp"
compile() {  # compile UNIT OUTPUT OPTIONS...
  "$compiler" -std=c++20 -Wall -Wextra -Werror "${includes[@]}" -I "$scratch" -DUNIT="$1" -DPAVISE_UNIT_NAME="\"$1\"" "${@:3}" \
    -c "$root/tests/packaging/two_units/unit.cpp" -o "$scratch/$1-$2.o"
}
find_openmp "$compiler"
if [ ${#openmp[@]} -eq 0 ]; then echo "$compiler has no OpenMP here"; fi
"$compiler" -std=c++20 -c "$root/tests/packaging/two_units/main.cpp" -o "$scratch/main.o"
compile first O0 -O0 &
compile second native -O2 -march=native "${openmp[@]}"
wait $!
pairs=("first-O0 second-native" "second-native first-O0")
if [ "${2:-}" != pair ]; then
  compile second O0 -O0 &
  compile first O2 -O2
  wait $!
  pairs+=("first-O0 second-O0" "second-O0 first-O0" "first-O2 second-native" "second-native first-O2")
fi

for pair in "${pairs[@]}"; do
  set -- $pair
  "$compiler" "$scratch/main.o" "$scratch/$1.o" "$scratch/$2.o" -lz "${openmp[@]}" "${openmp_link[@]}" -o "$scratch/program"
  "$scratch/program" >"$scratch/output" || { echo "FAILED: $1 then $2: units disagree"; cat "$scratch/output"; exit 1; }
  echo "$1 then $2: $(cat "$scratch/output")"
done
