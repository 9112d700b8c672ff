#!/usr/bin/env bash
# SPDX-License-Identifier: MIT
# Builds the CUDA kernels, checks them on the GPU against the CPU's bits, times them, times PyTorch on the same GPU, and
# prints a short table last. Needs nvcc 12 or newer, g++ and python3; PyTorch for the last part; nothing else, and no
# network. Every part has a limit, and all of them together 8.5 minutes; one that fails leaves the others' results.
#
#   benchmarks/gpu.sh                 all of: build check bench peers sanitizer
#   benchmarks/gpu.sh PART...         these alone (build again only where something changed)
#   OUT=DIR                           where results go: results.json, bench.jsonl, peers.jsonl and logs
#                                     (default build/gpu/results)
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
build=build/gpu
OUT=${OUT:-$build/results}
mkdir -p "$build" "$OUT"
total=510
cores=$(nproc)
export OMP_WAIT_POLICY=passive PYTHONUNBUFFERED=1

say() { printf '%s\n' "$*"; }
# limited SECONDS COMMAND...: within its own limit and what is left of all.
limited() {
  local limit=$1 left=$((total - SECONDS))
  shift
  if [ "$left" -lt 5 ]; then
    say "no time left for: $*"
    return 124
  fi
  timeout --kill-after=5s "$((limit < left ? limit : left))s" "$@"
}

nvcc=$(command -v nvcc || echo /usr/local/cuda/bin/nvcc)
[ -x "$nvcc" ] || { say "gpu.sh: there is no nvcc on the path or in /usr/local/cuda/bin: install the CUDA toolkit"; exit 1; }
arch=${PAVISE_GPU_ARCH:-90a}
target=(-gencode="arch=compute_$arch,code=sm_$arch")
device_flags=(-std=c++20 -O3 "${target[@]}" -fmad=false -ftz=false -prec-div=true -prec-sqrt=true
              --expt-relaxed-constexpr -diag-suppress 1675 -Iinclude -Ikernels)
host_flags=(-std=c++20 -O2 -Xcompiler -fopenmp -Iinclude -Ikernels -Itests)

# compile OBJECT SOURCE: unless the object is newer than every source.
compile() {
  if [ -e "$1" ] && [ -z "$(find include kernels tests/cuda benchmarks/gpu -newer "$1" -type f ! -name "*.py" -print -quit)" ]; then return 0; fi
  case $2 in
    *.cu) "$nvcc" "${device_flags[@]}" -c "$2" -o "$1" ;;
    *) "$nvcc" "${host_flags[@]}" -c "$2" -o "$1" ;;
  esac || { rm -f "$1"; say "FAILED to compile $2"; return 1; }
}

if [ "${1:-}" = --compile ]; then
  compile "$2" "$3"
  exit
fi

part_build() {
  local sources=(kernels/pavise_kernels/cuda/gather_gemm.cu tests/cuda/gpu_main.cpp benchmarks/gpu/bench.cpp) kernels=() f
  for f in kernels/pavise_kernels/cuda/*.cu; do
    [ "$f" = "${sources[0]}" ] || sources+=("$f")
    kernels+=("$build/$(basename "$f").o")
  done
  printf '%s\n' "${sources[@]}" |
    limited 200 xargs -P "$cores" -I FILE bash -c '"$0" --compile "$1/$(basename "$2").o" "$2"' "$PWD/benchmarks/gpu.sh" "$build" FILE ||
    return 1
  limited 60 "$nvcc" "${target[@]}" -Xcompiler -fopenmp "$build/gpu_main.cpp.o" "${kernels[@]}" -lz -o "$build/gpu_checks" &&
    limited 60 "$nvcc" "${target[@]}" -Xcompiler -fopenmp "$build/bench.cpp.o" "${kernels[@]}" -lz -o "$build/bench"
}

part_check() { limited 100 "$build/gpu_checks"; }

part_bench() { limited 170 "$build/bench" "$OUT/bench.jsonl"; }

part_peers() { limited 200 python3 benchmarks/gpu/peers.py "$OUT/peers.jsonl" --seconds 170; }

part_sanitizer() {
  command -v compute-sanitizer >/dev/null || { say "compute-sanitizer is not installed"; return 1; }
  limited 60 compute-sanitizer --tool memcheck --error-exitcode 9 "$build/gpu_checks" --quick random attack_steps losses pools weight_gradients \
    bf16 image_gradients sums running_norm &&
    limited 60 compute-sanitizer --tool racecheck --error-exitcode 9 "$build/gpu_checks" --quick winograd bf16 image_gradients
}

parts=("$@")
if [ $# -eq 0 ]; then parts=(build check bench peers sanitizer); fi
for part in "${parts[@]}"; do
  declare -F "part_$part" >/dev/null || { say "gpu.sh: no part '$part'; the parts are: build check bench peers sanitizer"; exit 1; }
done
nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm,clocks.max.sm --format=csv,noheader 2>/dev/null | tee "$OUT/device.txt"

failed=()
for part in "${parts[@]}"; do
  say "== $part"
  begin=$SECONDS
  "part_$part" 2>&1 | tee "$OUT/$part.log" | tail -40
  [ "${PIPESTATUS[0]}" -eq 0 ] || failed+=("$part")
  say "== $part: $((SECONDS - begin)) s"
done
python3 benchmarks/gpu/table.py "$OUT"
if [ ${#failed[@]} -ne 0 ]; then
  say "FAILED: ${failed[*]}"
  exit 1
fi
