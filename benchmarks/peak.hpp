// SPDX-License-Identifier: MIT
// The machine's fused multiply-add peak, measured by a loop of nothing else: what shares of the peak are shares of.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>

#include "pavise/core/parallel.hpp"
#include "pavise_kernels/cpu/isa.hpp"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pavise::benchmarks {

inline double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

#if defined(__x86_64__)
[[gnu::target("avx2,fma"), gnu::noinline]] inline void fma_loop_avx2(std::int64_t n) {
  const __m256 x = _mm256_set1_ps(1.0000001f);
  const __m256 y = _mm256_set1_ps(1e-9f);
  __m256 a[12];
  for (auto& v : a) {
    v = _mm256_setzero_ps();
  }
  for (std::int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < 12; ++k) {
      a[k] = _mm256_fmadd_ps(x, y, a[k]);
    }
    asm volatile(""
                 : "+x"(a[0]), "+x"(a[1]), "+x"(a[2]), "+x"(a[3]), "+x"(a[4]), "+x"(a[5]), "+x"(a[6]), "+x"(a[7]),
                   "+x"(a[8]), "+x"(a[9]), "+x"(a[10]), "+x"(a[11]));
  }
}
[[gnu::target("avx512f"), gnu::noinline]] inline void fma_loop_avx512(std::int64_t n) {
  const __m512 x = _mm512_set1_ps(1.0000001f);
  const __m512 y = _mm512_set1_ps(1e-9f);
  __m512 a[12];
  for (auto& v : a) {
    v = _mm512_setzero_ps();
  }
  for (std::int64_t i = 0; i < n; ++i) {
#pragma GCC unroll 12
    for (int k = 0; k < 12; ++k) {
      a[k] = _mm512_fmadd_ps(x, y, a[k]);
    }
    asm volatile(""
                 : "+v"(a[0]), "+v"(a[1]), "+v"(a[2]), "+v"(a[3]), "+v"(a[4]), "+v"(a[5]), "+v"(a[6]), "+v"(a[7]),
                   "+v"(a[8]), "+v"(a[9]), "+v"(a[10]), "+v"(a[11]));
  }
}
#endif

/// Single-precision peak in GFLOP/s of all threads together: the best of `repeats` short runs (a few milliseconds
/// each), with the widest registers that the kernels use. 0 where the portable kernels are in use.
inline double peak_gflops(int repeats = 10) {
  const kernels::Isa isa = kernels::isa();
  const int lanes = isa == kernels::Isa::avx512 ? 16 : isa == kernels::Isa::avx2 ? 8 : 0;
  constexpr std::int64_t kIterations = 2'000'000;
  double best = 0.0;
  for (int r = 0; r < repeats && lanes > 0; ++r) {
    const int threads = thread_count();
    const double start = now();
    parallel_for(threads, [&](std::int64_t) {
#if defined(__x86_64__)
      isa == kernels::Isa::avx512 ? fma_loop_avx512(kIterations) : fma_loop_avx2(kIterations);
#endif
    });
    best = std::max(best, 2.0 * 12 * lanes * static_cast<double>(kIterations) * threads / (now() - start) / 1e9);
  }
  return best;
}

}  // namespace pavise::benchmarks
