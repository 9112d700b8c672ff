#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# arm64.sh PROGRAM: compiles the table of operations for arm64, runs its tests under qemu, and compares the bits of every
# operation, value and gradient in float, with those of PROGRAM, the autodiff tests of this machine. Needs Debian's
# g++-aarch64-linux-gnu and qemu-user-static.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
program=$1
compiler=aarch64-linux-gnu-g++
need_compiler $compiler
need_compiler qemu-aarch64-static

# doctest is a header in /usr/include, among those of this machine's C library, which a cross compiler must not see.
mkdir "$scratch/include"
for directory in /usr/include/doctest /usr/local/include/doctest; do
  if [ -d "$directory" ]; then ln -s "$directory" "$scratch/include/doctest"; break; fi
done
printf '#include "%s.cpp"\n' autodiff/op_check autodiff/op_table_test autodiff/op_table_values_test \
  autodiff/op_table_structure_test autodiff/op_table_losses_test >"$scratch/tests.cpp"
for source in "$root/tests/main.cpp" "$scratch/tests.cpp"; do
  $compiler -std=c++20 -O1 -fopenmp -Wall -Wextra -Werror -I "$root/include" -I "$root/kernels" -I "$root/tests" \
    -isystem "$scratch/include" -c "$source" -o "$scratch/$(basename "$source").o"
done
$compiler -fopenmp "$scratch"/*.o -o "$scratch/arm64"

export PAVISE_PRINT_BITS=1 OMP_WAIT_POLICY=passive
"$program" -tc='operation table*' >"$scratch/here.log"
qemu-aarch64-static -L /usr/aarch64-linux-gnu "$scratch/arm64" -tc='operation table*' >"$scratch/arm64.log" ||
  { grep -v '^bits' "$scratch/arm64.log"; echo "FAILED: the tests of operations on arm64"; exit 1; }
grep '^bits' "$scratch/here.log" | sort >"$scratch/here"
grep '^bits' "$scratch/arm64.log" | sort >"$scratch/there"
[ -s "$scratch/there" ] || { echo "FAILED: no operation printed its bits"; exit 1; }
diff "$scratch/here" "$scratch/there" || { echo "FAILED: these bits differ (left: this machine, right: arm64)"; exit 1; }
tail -n 3 "$scratch/arm64.log"
echo "arm64: the bits of $(wc -l <"$scratch/there") operations are those of $(uname -m)"
