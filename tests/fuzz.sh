#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Fuzzes the readers of files with libFuzzer, under the address and undefined-behaviour sanitizers (tests/fuzz/).
#   tests/fuzz.sh [SECONDS]            every target, so many seconds each (300), two at a time
#   tests/fuzz.sh SECONDS TARGET...    only these
# The corpus grows in build/fuzz/corpus/TARGET and is the next run's beginning. What fails lies in build/fuzz/failures/TARGET:
# build/fuzz/tests/fuzz/pavise_fuzz TARGET FILE repeats it. The status is 0 if and only if nothing failed.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source examples/setup.sh
set_up "${pavise_packages[@]}" clang:clang++

seconds=${1:-300}
shift || true
programs=(pavise_fuzz pavise_fuzz_texts)
if [ -n "${PAVISE_FUZZ_SHORT:-}" ]; then programs=(pavise_fuzz); fi  # CI: without what takes minutes to compile

cmake --preset fuzz >/dev/null
cmake --build --preset fuzz --target "${programs[@]}" -- -j "$(cores)"

# PROGRAM TARGET: one target; prints one line, or the failure.
fuzz_one() {
  local program=$1 target=$2 folder=build/fuzz log
  mkdir -p $folder/{corpus,failures,logs}/"$target"
  log=$folder/logs/$target/log
  rm -rf "$folder/seeds/$target"
  if "$folder/tests/fuzz/$program" "$target" --seeds "$folder/seeds/$target" >"$log" 2>&1 &&
    "$folder/tests/fuzz/$program" "$target" -max_total_time="$seconds" -timeout=25 -rss_limit_mb=2560 -malloc_limit_mb=1024 \
      -max_len=16384 -use_value_profile=1 -print_final_stats=1 -artifact_prefix="$folder/failures/$target/" \
      "$folder/corpus/$target" "$folder/seeds/$target" >"$log" 2>&1; then
    printf '%-20s %s files\n' "$target" "$(sed -n 's/^stat::number_of_executed_units: //p' "$log")"
  else
    printf 'FAILED: %s\n' "$target"
    grep -v '^#' "$log" | tail -n 60
    return 1
  fi
}
export -f fuzz_one
export seconds

for program in "${programs[@]}"; do
  if [ $# -gt 0 ]; then targets=("$@"); else mapfile -t targets < <("build/fuzz/tests/fuzz/$program" --list); fi
  for target in "${targets[@]}"; do
    if "build/fuzz/tests/fuzz/$program" --list | grep -qxF -- "$target"; then echo "$program $target"; fi
  done
done | xargs -P "$(cores)" -L 1 bash -c 'fuzz_one "$@"' fuzz_one
