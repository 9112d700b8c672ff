#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# headers_alone.sh COMPILER [OPTIONS...]: a public header compiles alone, twice included, without a warning. In a git clone
# those that the last 20 commits touched, and a tenth of the others, another one at each commit; all of them with
# PAVISE_ALL_HEADERS=1, and where there is no git: they take ten minutes.
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
if [ -z "${PAVISE_ALL_HEADERS:-}" ] && commit=$(git -C "$root" rev-parse HEAD 2>/dev/null); then
  touched=$(git -C "$root" log -20 --format= --name-only | sed -n 's/^\(include\|kernels\)\///p')
  while read -r header; do
    if grep -qxF "$header" <<<"$touched" || [ $((16#$(sha256sum <<<"$commit $header" | cut -c1-4) % 10)) -eq 0 ]; then
      echo "$header"
    fi
  done <"$scratch/headers" >"$scratch/chosen"
  mv "$scratch/chosen" "$scratch/headers"
fi
[ -s "$scratch/headers" ] || { echo "FAILED: no headers found"; exit 1; }
xargs -P "$(cores)" -I HEADER bash -c 'check "$@"' check HEADER \
  "$compiler" -std=c++20 -Wall -Wextra -Werror -fsyntax-only "${includes[@]}" "$@" -x c++ - <"$scratch/headers"
echo "$(wc -l <"$scratch/headers") headers, each alone, $compiler $*"
