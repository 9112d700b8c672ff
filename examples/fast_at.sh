#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: examples/fast_at.sh [--help] [--data DIRECTORY] [--count N] [--out DIRECTORY]

Repeats a published result: the MNIST network of "Fast is better than free" (Wong et al. 2020), trained against FGSM with
random start at epsilon 0.3 for 10 epochs; published are 98.50 % clean, 88.77 % under PGD-50 with 10 restarts, and 82.93 %
under AutoAttack. Trains it with Pavise, attacks it with both, and writes a report with the verdict. On two cores training
takes half a minute and AutoAttack on all 10,000 images about half an hour; stopped and started again, it goes on.

  --data DIRECTORY  MNIST's four files, as IDX, gzipped or not (default: mnist in $PAVISE_DATA, ../shared/data or data)
  --count N         the first N test images (default: 10000)
  --out DIRECTORY   where model, records and report go (default: runs/fast-at)
TEXT
}

data=mnist
count=10000
out=runs/fast-at
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --data) data=mnist:${2:?--data needs a directory}; shift 2 ;;
    --count) count=${2:?--count needs a number}; shift 2 ;;
    --out) out=${2:?--out needs a directory}; shift 2 ;;
    *) echo "fast_at.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
done

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up "${pavise_packages[@]}"
(cd "$pavise_root" && cmake --preset release && cmake --build --preset release --target pavise_program -j "$(cores)")
pavise=$pavise_root/build/release/examples/pavise
mkdir -p "$out"
model=$out/model.safetensors

if [ ! -e "$model" ]; then
  "$pavise" train --data "$data" --model small-cnn --defense fgsm-rs --eps 0.3 --step-size 0.375 --epochs 10 \
    --batch-size 100 --learning-rate 5e-3 --schedule cyclic --seed 0 --label "Fast-AT" --runs "$out" --out "$model"
fi
common=(--model-file "$model" --data "$data" --eps 0.3 --count "$count" --seed 0)
"$pavise" attack "${common[@]}" --attack pgd --steps 50 --step-size 0.01 --restarts 10 --json "$out/pgd.json"
"$pavise" evaluate "${common[@]}" --gallery 12 --state "$out/auto-$count.state" --json "$out/auto.json"
"$pavise" report --in "$out" --out "$out/report"
