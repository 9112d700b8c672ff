// SPDX-License-Identifier: MIT
// Registers of the AVX2 kernels: 32 bytes, sixteen of them; fused multiply-add.
struct Tag {};

inline constexpr int kRegisterBytes = 32;
inline constexpr int kMaxRows = 6;          ///< rows of the matrix micro-kernel, each a pack of 16 accumulators
inline constexpr int kMaxAccumulators = 6;  ///< packs of accumulators that fit in registers

template <class T, class V>
[[gnu::always_inline]] inline V register_fma(V a, V b, V c) {
  if constexpr (std::is_same_v<T, float>) {
    return (V)_mm256_fmadd_ps((__m256)a, (__m256)b, (__m256)c);
  } else {
    return (V)_mm256_fmadd_pd((__m256d)a, (__m256d)b, (__m256d)c);
  }
}

template <class T, class V>
[[gnu::always_inline]] inline V register_sqrt(V a) {
  if constexpr (std::is_same_v<T, float>) {
    return (V)_mm256_sqrt_ps((__m256)a);
  } else {
    return (V)_mm256_sqrt_pd((__m256d)a);
  }
}

/// High and low halves of the 32x32-bit products of the elements.
template <class U>
[[gnu::always_inline]] inline void register_multiply_wide(U a, std::uint32_t b, U& high, U& low) {
  const __m256i m = _mm256_set1_epi32(static_cast<int>(b));
  const __m256i even = _mm256_mul_epu32((__m256i)a, m);
  const __m256i odd = _mm256_mul_epu32(_mm256_srli_epi64((__m256i)a, 32), m);
  low = (U)_mm256_blend_epi32(even, _mm256_slli_epi64(odd, 32), 0xAA);
  high = (U)_mm256_blend_epi32(_mm256_srli_epi64(even, 32), odd, 0xAA);
}
