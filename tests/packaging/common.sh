# SPDX-License-Identifier: MIT
# Sourced by the packaging tests: where things are, a scratch directory, the compiler or a visible skip.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

need_compiler() {
  if command -v "$1" >/dev/null; then return 0; fi
  if [ -n "${PAVISE_REQUIRE_COMPILERS:-}" ]; then echo "FAILED: $1 is not installed" >&2; exit 1; fi
  echo "SKIPPED: $1 is not installed"
  exit 77
}

# The public headers, as a user writes them in an #include. Files *.inl are parts of headers.
public_headers() { (cd "$root/include" && find pavise -name '*.hpp'; cd "$root/kernels" && find pavise_kernels -name '*.hpp') | sort; }

# As a user's compiler would find the headers, and those of the libraries that the opt-in headers need.
includes=(-I "$root/include" -I "$root/kernels")
for directory in /usr/include/eigen3 /usr/local/include/eigen3 /usr/include/stb /usr/local/include/stb; do
  if [ -d "$directory" ]; then includes+=(-isystem "$directory"); fi
done

# find_openmp COMPILER: `openmp` gets the options that turn OpenMP on, or none, and `openmp_link` more of them for linking. Of
# LLVM's runtime Debian installs one version at a time; it serves newer compilers too, with its header.
find_openmp() {
  local header
  printf '#include <omp.h>\nint main() { return omp_get_max_threads() < 1; }\n' >"$scratch/openmp.cpp"
  for header in "" /usr/lib/llvm-*/lib/clang/*/include/omp.h; do
    openmp=(-fopenmp)
    openmp_link=()
    if [ -n "$header" ]; then
      mkdir -p "$scratch/openmp"
      cp "$header" "$scratch/openmp/" 2>/dev/null || continue
      openmp+=(-isystem "$scratch/openmp")
      openmp_link=(-L "${header%/clang/*}")
    fi
    if "$1" "${openmp[@]}" "${openmp_link[@]}" "$scratch/openmp.cpp" -o "$scratch/openmp.out" 2>/dev/null && "$scratch/openmp.out"; then return; fi
  done
  openmp=()
  openmp_link=()
}
cores() { nproc 2>/dev/null || echo 2; }
