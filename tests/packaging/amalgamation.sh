#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# amalgamation.sh COMPILER: the one header compiles alone without a warning, twice included, and a program that has nothing
# else prints what the same program with the headers prints.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
compiler=$1
need_compiler "$compiler"
need_compiler python3
mkdir "$scratch/include"
python3 "$root/tests/packaging/amalgamate.py" "$root" "$scratch/include/pavise.hpp"

compile() {  # compile PROGRAM OPTIONS...
  "$compiler" -std=c++20 -O1 -Wall -Wextra -Werror "${@:2}" "$root/tests/packaging/amalgamation/main.cpp" -lz -o "$scratch/$1" \
    -MD -MF "$scratch/$1.d"
}
compile headers "${includes[@]}" &
compile one_header -DPAVISE_ONE_HEADER -I "$scratch/include" -include pavise.hpp
wait $!
if grep -E "$root/(include|kernels)|eigen3|nlohmann|stb_image" "$scratch/one_header.d"; then
  echo "FAILED: the one header includes others"
  exit 1
fi
for program in headers one_header; do "$scratch/$program" | tee "$scratch/$program.txt"; done
cmp "$scratch/headers.txt" "$scratch/one_header.txt" || { echo "FAILED: the one header's program does something else"; exit 1; }
