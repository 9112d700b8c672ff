#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: examples/quickstart.sh [--help] [--out DIRECTORY] [--epochs N]

Installs what is missing (Debian packages; as root or with sudo), builds the `pavise` program, and on Fashion-MNIST trains a
small network three times (plainly, against FGSM with random start, against PGD with 7 steps), attacks each with PGD and judges
the outcome, shows what filters of the input and defensive distillation are worth, certifies a network behind noise and one by
bounds, and writes a report that needs nothing but a browser. Ten to fifteen minutes on two cores.

  --out DIRECTORY   where the report goes (default: robustness-report, where you are)
  --epochs N        epochs of each training run (default: 5)

Where Fashion-MNIST cannot be installed, digits drawn by the program take its place, and the report says so.
TEXT
}

out=robustness-report
epochs=5
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --out) out=${2:?--out needs a directory}; shift 2 ;;
    --epochs) epochs=${2:?--epochs needs a number}; shift 2 ;;
    *) echo "quickstart.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
done

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
set_up "${pavise_packages[@]}" "$pavise_dataset"
export OMP_WAIT_POLICY=${OMP_WAIT_POLICY:-passive}  # threads that spin while they wait are slow beside other programs
data=(--data fashion-mnist)
if ! is_there "$pavise_dataset"; then
  say "Fashion-MNIST is not there; digits drawn by the program take its place."
  data=(--data drawn-digits --data-note "Fashion-MNIST (Debian package dataset-fashion-mnist) could not be installed")
fi

build=$pavise_root/build/release
(cd "$pavise_root" && cmake --preset release && cmake --build --preset release --target pavise_program -j "$(cores)")
pavise=$build/examples/pavise
runs=$(dirname "$out")/runs/quickstart
mkdir -p "$runs"
rm -f "$runs"/{plain,fgsm-rs,pgd,filters,distillation,noise,bounds}.*

# LABEL DEFENSE...: trains one model, attacks it, and asks whether the outcome can be relied on. The epsilon is in pixels of [0,1]:
# 0.1 is 25.5 of 255 grey levels.
eps=0.1
run() {
  local label=$1 name=$2
  shift 2
  say "" "$label"
  "$pavise" train "${data[@]}" --model small-cnn "$@" --epochs "$epochs" --seed 0 --label "$label" --runs "$runs" \
    --out "$runs/$name.safetensors"
  "$pavise" attack --model-file "$runs/$name.safetensors" "${data[@]}" --attack pgd --steps 50 --restarts 10 --eps $eps \
    --count 1000 --curve 0,0.02,0.05,0.1,0.15,0.2,0.3 --gallery 8 --label "$label" --json "$runs/$name.json"
  "$pavise" evaluate --model-file "$runs/$name.safetensors" "${data[@]}" --suite quick --eps $eps --count 200 --label "$label" \
    --json "$runs/$name.evaluation.json" | sed -n 's/^  verdict/verdict/p'
}
run "Plain training" plain --defense none
run "FGSM with random start" fgsm-rs --defense fgsm-rs --eps $eps
run "PGD, 7 steps" pgd --defense pgd --steps 7 --eps $eps

say "" "Filters in front of the plain model"
"$pavise" filters --model-file "$runs/plain.safetensors" "${data[@]}" --filter bit-depth:3 --filter jpeg:30 --eps $eps --count 100 \
  --steps 20 --queries 200 --gallery 2 --label "Plain training" --json "$runs/filters.json"

say "" "Defensive distillation"
"$pavise" distill "${data[@]}" --temperatures 1,10,100 --epochs 1 --eps $eps --count 200 --jsma-count 50 --cw-count 50 --seed 0 \
  --json "$runs/distillation.json"

say "" "Randomized smoothing"
"$pavise" train "${data[@]}" --model small-cnn --defense gaussian --gaussian-sigma 0.25 --epochs "$epochs" --seed 0 \
  --label "Noise, sigma 0.25" --out "$runs/noise.safetensors"
"$pavise" certify --model-file "$runs/noise.safetensors" "${data[@]}" --sigma 0.25 --radii 0.125,0.25,0.5,0.75 --n 20000 --count 200 \
  --seed 0 --out "$runs/noise.jsonl" --json "$runs/noise.certified.json"
"$pavise" attack --model-file "$runs/noise.safetensors" "${data[@]}" --smooth 0.25 --norm l2 --attack pgd --steps 20 --eps 0.5 \
  --curve 0.25,0.5,0.75,1 --count 100 --label "Noise, sigma 0.25" --json "$runs/noise.json"

run "Interval bounds" bounds --defense ibp --eps $eps --learning-rate 3e-3
"$pavise" certify --method crown --model-file "$runs/bounds.safetensors" "${data[@]}" --eps $eps --count 1000 \
  --out "$runs/bounds.jsonl" --json "$runs/bounds.certified.json"

"$pavise" report --in "$runs" --out "$out"
say "" "The report: $(cd "$out" && pwd)/index.html"
