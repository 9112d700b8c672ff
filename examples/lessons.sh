#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
set -euo pipefail

usage() {
  cat <<'TEXT'
Usage: examples/lessons.sh [--help] [--update] [--out DIRECTORY] [LESSON...]

Installs what is missing (Debian packages; as root or with sudo), builds the lessons, runs them (or those given by number: 0 2 5),
and checks each: it ends well, its claims hold, its pictures are there, its README shows what it prints, and its program has at
most 150 lines. A few minutes on two cores.

  --update          put what the lessons print, and their pictures, into their folders
  --out DIRECTORY   where output and pictures go (default: build/lessons)
TEXT
}

source "$(dirname "${BASH_SOURCE[0]}")/setup.sh"
out=$pavise_root/build/lessons
update=no
numbers=()
while [ $# -gt 0 ]; do
  case $1 in
    -h | --help) usage; exit 0 ;;
    --update) update=yes; shift ;;
    --out) out=${2:?--out needs a directory}; shift 2 ;;
    [0-9]) numbers+=("$1"); shift ;;
    *) echo "lessons.sh: unknown argument '$1'" >&2; usage >&2; exit 2 ;;
  esac
done
if [ ${#numbers[@]} -eq 0 ]; then numbers=(0 1 2 3 4 5 6); fi

set_up "${pavise_packages[@]}" "$pavise_dataset"
cd "$pavise_root"
lessons=()
targets=()
for number in "${numbers[@]}"; do
  folder=$(compgen -G "examples/lesson_${number}_*") || fail "there is no lesson $number"
  lessons+=("$folder")
  targets+=("pavise_example_$(basename "$folder")")
done
begin=$SECONDS
cmake --preset release && cmake --build --preset release --target "${targets[@]}" -j "$(cores)"
say "" "built in $((SECONDS - begin)) s"

failed=0
wrong() { say "  WRONG: $*"; failed=1; }

# The block of text behind <!-- output --> in a README, and the README with another one in its place.
block_of() { awk '/^<!-- output -->/ { seen = 1 } seen && /^```$/ { exit } inside { print } seen && /^```text$/ { inside = 1 }' "$1"; }
with_block() {
  awk -v file="$2" '/^<!-- output -->/ { seen = 1 }
    seen && inside && /^```$/ { while ((getline line < file) > 0) print line; inside = seen = 0 }
    !inside { print }
    seen && /^```text$/ { inside = 1 }' "$1"
}

# most FILE LINES: the lesson fits into so many.
most() { [ "$(wc -l <"$1")" -le "$2" ] || wrong "$1 has $(wc -l <"$1") lines, expected at most $2"; }

for folder in "${lessons[@]}"; do
  name=$(basename "$folder")
  to=$out/$name
  readme=$folder/README.md
  rm -rf "$to"
  mkdir -p "$to"
  begin=$SECONDS
  status=0
  timeout 600 "build/release/examples/$name" --out "$to" >"$to/output.txt" 2>"$to/progress.txt" || status=$?
  say "$name: $((SECONDS - begin)) s, $(grep -c '^holds: ' "$to/output.txt") claims hold"
  if [ $status -ne 0 ]; then
    grep '^DOES NOT HOLD' "$to/output.txt" || tail -n 5 "$to/progress.txt"
    wrong "$name ended with status $status"
    continue  # what it left is nothing to show
  fi
  [ "$(grep -c '^holds: ' "$to/output.txt")" -ge 2 ] || wrong "$name: expected two claims that hold, or more"
  most "$folder/main.cpp" 150
  for file in "$folder"/*.hpp; do
    if [ -e "$file" ]; then most "$file" 50; fi
  done
  pictures=$(sed -n 's/^picture: //p' "$to/output.txt")
  [ -n "$pictures" ] || wrong "$name made no picture"
  for picture in $pictures; do
    grep -q '</svg>' "$to/$picture" || wrong "$to/$picture is no picture"
    grep -qF "]($picture)" "$readme" || wrong "$readme does not show $picture"
    if [ $update = yes ]; then cp "$to/$picture" "$folder/$picture"; fi
    [ -s "$folder/$picture" ] || wrong "$folder/$picture is not there: examples/lessons.sh --update"
  done
  if ! is_there "$pavise_dataset"; then
    say "  without Fashion-MNIST the README's numbers are not compared"
  elif [ $update = yes ]; then
    with_block "$readme" "$to/output.txt" >"$to/README.md"
    cp "$to/README.md" "$readme"
  elif ! diff <(block_of "$readme") "$to/output.txt" >"$to/difference.txt"; then
    head -n 20 "$to/difference.txt"
    wrong "$readme shows another output: examples/lessons.sh --update, and look at its text"
  fi
done
if [ $failed -ne 0 ]; then fail "FAILED"; fi
say "All is as the course says. Output and pictures: $out"
