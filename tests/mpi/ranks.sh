#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# ranks.sh PROGRAM RANKS: what RANKS processes of `pavise` give together is what one gives, byte for byte; and a job that
# loses a rank ends with a message and a checkpoint from which another number of ranks goes on.
set -euo pipefail
program=$1
ranks=$2
command -v mpirun >/dev/null || { echo "FAILED: mpirun is not installed" >&2; exit 1; }
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

# Several processes on few cores, in a container too: they may be root's, more than there are cores, and without ptrace.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_rmaps_base_oversubscribe=1
export OMPI_MCA_btl_vader_single_copy_mechanism=none OMP_NUM_THREADS=1

fail() { echo "FAILED: $*" >&2; exit 1; }
# pavise RANKS DIRECTORY ARGUMENTS...: in a directory of its own, so that files have equal names; 0 ranks: without MPI.
pavise() {
  local n=$1 directory=$2
  shift 2
  mkdir -p "$directory"
  if [ "$n" = 0 ]; then
    (cd "$directory" && "$program" "$@")
  else
    (cd "$directory" && mpirun -n "$n" "$program" "$@")
  fi
}
same() { cmp "one/$1" "${2:-many}/$1" || fail "$1 of $ranks ranks is another than that of one"; }
# A record without what differs from run to run: times, and threads.
plain() { grep -v -E '"(seconds|images_per_second|date|threads)":' "$1"; }

train=(train --data drawn-digits --train-count 1500 --epochs 2 --defense pgd --steps 3 --eps 0.05 --batch-size 50 --validation 100
  --quiet --out m.safetensors --checkpoint m.checkpoint --checkpoint-interval 1)
attack=(attack --model-file m.safetensors --data drawn-digits --attack square --set queries=100 --eps 0.1 --count 50 --gallery 3
  --quiet --json attack.json)
smoothing=(certify --model-file m.safetensors --data drawn-digits --sigma 0.25 --radius 0.25 --n 2000 --count 150 --quiet
  --out smoothing.jsonl)
bounds=(certify --method crown --eps 0.02 --model-file m.safetensors --data drawn-digits --count 40 --quiet --out bounds.jsonl)

for n in 0 "$ranks"; do
  directory=$([ "$n" = 0 ] && echo one || echo many)
  pavise "$n" $directory "${train[@]}"
  pavise "$n" $directory "${attack[@]}"
  pavise "$n" $directory "${smoothing[@]}"
  pavise "$n" $directory "${bounds[@]}"
done
same m.safetensors
same smoothing.jsonl
same bounds.jsonl
diff <(plain one/attack.json) <(plain many/attack.json) || fail "the attack of $ranks ranks finds something else"

# Half a file of certificates, cut within a line, goes on to the whole one.
size=$(stat -c %s one/smoothing.jsonl)
mkdir -p rest && cp one/m.safetensors rest && head -c $((size / 2)) one/smoothing.jsonl >rest/smoothing.jsonl
pavise "$ranks" rest "${smoothing[@]}"
same smoothing.jsonl rest

# The last rank is killed once there is a checkpoint.
mkdir -p killed
(cd killed && exec mpirun -n "$ranks" "$program" "${train[@]}" >log 2>&1) &
launcher=$!
until [ -e killed/m.checkpoint ] || ! kill -0 $launcher 2>/dev/null; do sleep 0.01; done
rank=$(grep -ls "^PPid:[[:space:]]*$launcher\$" /proc/[0-9]*/status | tail -n 1)
kill -KILL "$(basename "$(dirname "$rank")")"
if wait $launcher; then fail "the job ended well though a rank was killed"; fi
grep -q 'exited on signal 9' killed/log || { cat killed/log; fail "no word of the rank that was killed"; }
[ ! -e killed/m.safetensors ] || fail "the run had ended before the rank was killed"
pavise $((ranks + 1)) killed "${train[@]}" | tee killed/rest
same m.safetensors killed

# A failure of a rank names it and ends all.
if pavise "$ranks" refused "${attack[@]}" >refused.log 2>&1; then fail "an attack on a model that is not there"; fi
grep -q "rank [0-9]* of $ranks: pavise: .*m.safetensors" refused.log || { cat refused.log; fail "no word of what failed"; }
if pavise "$ranks" many evaluate --model-file m.safetensors --data drawn-digits >refused.log 2>&1; then
  fail "evaluate ran as $ranks processes"
fi
grep -q "evaluate: started as $ranks processes, expected one" refused.log || { cat refused.log; fail "no word of the ranks"; }
echo "$ranks ranks: the files of one process"
