#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# headers_alone.sh COMPILER [OPTIONS...]: every public header compiles alone, twice included, without a warning.
set -euo pipefail
source "$(dirname "${BASH_SOURCE[0]}")/common.sh"
compiler=$1
shift
need_compiler "$compiler"

check() {
  local header=$1
  shift
  printf '#include "%s"\n#include "%s"\n' "$header" "$header" | "$@" || { echo "FAILED: $header"; return 1; }
}
export -f check
public_headers >"$scratch/headers"
[ -s "$scratch/headers" ] || { echo "FAILED: no headers found"; exit 1; }
xargs -P "$(cores)" -I HEADER bash -c 'check "$@"' check HEADER \
  "$compiler" -std=c++20 -Wall -Wextra -Werror -fsyntax-only "${includes[@]}" "$@" -x c++ - <"$scratch/headers"
echo "$(wc -l <"$scratch/headers") headers, each alone, $compiler $*"
