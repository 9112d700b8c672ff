#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# consumer.sh (add_subdirectory|find_package) COMPILER [CMAKE-OPTIONS...]: a project outside this tree configures, builds and
# runs against Pavise, as sources in a subdirectory or as an installed package, and inherits no flags that it did not ask for.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
mode=$1
compiler=$2
shift 2
need_compiler "$compiler"
cp -r "$root/tests/packaging/consumer" "$scratch/consumer"

generator=(-G "Unix Makefiles")
if command -v ninja >/dev/null; then generator=(-G Ninja); fi
export CMAKE_GENERATOR=${generator[1]}

quietly() { "$@" >"$scratch/log" 2>&1 || { cat "$scratch/log"; echo "FAILED: $*"; exit 1; }; }

options=(-DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_EXPORT_COMPILE_COMMANDS=ON "$@")
if [ "$mode" = add_subdirectory ]; then
  options+=(-DPAVISE_SOURCE="$root")
else
  quietly cmake -S "$root" -B "$scratch/pavise" -DPAVISE_BUILD_TESTS=OFF -DPAVISE_BUILD_EXAMPLES=OFF -DPAVISE_BUILD_BENCHMARKS=OFF
  quietly cmake --install "$scratch/pavise" --prefix "$scratch/prefix"
  installed=$(cd "$scratch/prefix/include" && find . -name '*.hpp' | wc -l)
  [ "$installed" = "$(public_headers | wc -l)" ] || { echo "FAILED: $installed headers were installed"; exit 1; }
  if grep -rF "$root" "$scratch/prefix"; then echo "FAILED: the installed package names the source tree"; exit 1; fi
  options+=(-DCMAKE_PREFIX_PATH="$scratch/prefix")
fi

quietly cmake -S "$scratch/consumer" -B "$scratch/build" "${options[@]}"
quietly cmake --build "$scratch/build"
grep -o '"command": .*' "$scratch/build/compile_commands.json" >"$scratch/commands"
case "$*" in
  *CMAKE_BUILD_TYPE*) forbidden='-march|-mavx|-ffast-math' ;;
  *) forbidden='-march|-mavx|-ffast-math| -O| -g| -DNDEBUG' ;;
esac
if grep -E -e "$forbidden" "$scratch/commands"; then echo "FAILED: the package exports flags of its own"; exit 1; fi
case "$*" in
  *PAVISE_OPENMP=OFF*) if grep openmp "$scratch/commands"; then echo "FAILED: OpenMP in spite of PAVISE_OPENMP=OFF"; exit 1; fi ;;
esac
"$scratch/build/consumer"

if [ "$mode" = find_package ]; then
  if cmake -S "$scratch/consumer" -B "$scratch/newer" "${options[@]}" -DPAVISE_WANTED=99.0 >"$scratch/log" 2>&1; then
    echo "FAILED: version 99.0 was asked for and found"
    exit 1
  fi
fi
