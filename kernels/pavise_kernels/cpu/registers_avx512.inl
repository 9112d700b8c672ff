// SPDX-License-Identifier: MIT
// Registers of the AVX-512 kernels: 64 bytes, thirty-two of them; a pack of sixteen floats is one register, and a weight is
// broadcast by the multiply-add that uses it.
struct Tag {};

inline constexpr int kRegisterBytes = 64;
inline constexpr int kMaxRows = 12;          ///< rows of the matrix micro-kernel, each a pack of 16 accumulators
inline constexpr int kMaxAccumulators = 24;  ///< packs of accumulators that fit in registers

template <class T, class V>
[[gnu::always_inline]] inline V register_fma(V a, V b, V c) {
  if constexpr (std::is_same_v<T, float>) {
    return (V)_mm512_fmadd_ps((__m512)a, (__m512)b, (__m512)c);
  } else {
    return (V)_mm512_fmadd_pd((__m512d)a, (__m512d)b, (__m512d)c);
  }
}

template <class T, class V>
[[gnu::always_inline]] inline V register_sqrt(V a) {
  if constexpr (std::is_same_v<T, float>) {
    return (V)_mm512_sqrt_ps((__m512)a);
  } else {
    return (V)_mm512_sqrt_pd((__m512d)a);
  }
}

/// High and low halves of the 32x32-bit products of the elements.
template <class U>
[[gnu::always_inline]] inline void register_multiply_wide(U a, std::uint32_t b, U& high, U& low) {
  const __m512i m = _mm512_set1_epi32(static_cast<int>(b));
  const __m512i even = _mm512_mul_epu32((__m512i)a, m);
  const __m512i odd = _mm512_mul_epu32(_mm512_srli_epi64((__m512i)a, 32), m);
  low = (U)_mm512_mask_blend_epi32(0xAAAA, even, _mm512_slli_epi64(odd, 32));
  high = (U)_mm512_mask_blend_epi32(0xAAAA, _mm512_srli_epi64(even, 32), odd);
}
