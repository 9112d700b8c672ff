// SPDX-License-Identifier: MIT
// Registers of the AVX-512 kernels: 64 bytes, thirty-two of them; a pack of sixteen floats is one register, and a
// weight is broadcast by the multiply-add that uses it.
struct Tag {};

#define PAVISE_REGISTERS_INLINE [[gnu::always_inline]]

inline constexpr int kRegisterBytes = 64;
inline constexpr int kMaxRows = 12;           ///< rows of the matrix micro-kernel, each a pack of 16 accumulators
inline constexpr int kTileAccumulators = 24;  ///< packs of accumulators that a tile of several points has, at most
inline constexpr int kGradientRows = 4;       ///< rows and taps of a weight gradient's tile
inline constexpr int kGradientTaps = 6;

// The compilers' builtins rather than <immintrin.h>: see registers_avx2.inl. And GCC 12 takes the undefined
// pass-through of its AVX-512 intrinsics for a variable that is used uninitialised, and warns in the user's program.
using FloatRegister = float __attribute__((vector_size(64)));
using DoubleRegister = double __attribute__((vector_size(64)));
using WordRegister = int __attribute__((vector_size(64)));
using SignedWideRegister = long long __attribute__((vector_size(64)));
using WideRegister = unsigned long long __attribute__((vector_size(64)));
inline constexpr int kCurrentRounding = 4;

template <class T, class V>
[[gnu::always_inline]] inline V register_fma(V a, V b, V c) {
  if constexpr (std::is_same_v<T, float>) {
    return (V)__builtin_ia32_vfmaddps512_mask((FloatRegister)a, (FloatRegister)b, (FloatRegister)c, -1,
                                              kCurrentRounding);
  } else {
    return (V)__builtin_ia32_vfmaddpd512_mask((DoubleRegister)a, (DoubleRegister)b, (DoubleRegister)c, -1,
                                              kCurrentRounding);
  }
}

template <class T, class V>
[[gnu::always_inline]] inline V register_sqrt(V a) {
#ifdef __clang__
  if constexpr (std::is_same_v<T, float>) {
    return (V)__builtin_ia32_sqrtps512((FloatRegister)a, kCurrentRounding);
  } else {
    return (V)__builtin_ia32_sqrtpd512((DoubleRegister)a, kCurrentRounding);
  }
#else
  if constexpr (std::is_same_v<T, float>) {
    return (V)__builtin_ia32_sqrtps512_mask((FloatRegister)a, (FloatRegister)a, -1, kCurrentRounding);
  } else {
    return (V)__builtin_ia32_sqrtpd512_mask((DoubleRegister)a, (DoubleRegister)a, -1, kCurrentRounding);
  }
#endif
}

/// Products of the low halves of 64-bit elements.
[[gnu::always_inline]] inline WideRegister register_multiply_low(WideRegister a, WideRegister b) {
#ifdef __clang__
  return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#else
  return (WideRegister)__builtin_ia32_pmuludq512_mask((WordRegister)a, (WordRegister)b, SignedWideRegister{}, 0xFF);
#endif
}

/// High and low halves of the 32x32-bit products of the elements.
template <class U>
[[gnu::always_inline]] inline void register_multiply_wide(U a, std::uint32_t b, U& high, U& low) {
  const WideRegister m = WideRegister{} + b;
  const WideRegister even = register_multiply_low((WideRegister)a, m);
  const WideRegister odd = register_multiply_low((WideRegister)a >> 32, m);
  low = __builtin_shufflevector((U)even, (U)(odd << 32), 0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29, 14, 31);
  high = __builtin_shufflevector((U)(even >> 32), (U)odd, 0, 17, 2, 19, 4, 21, 6, 23, 8, 25, 10, 27, 12, 29, 14, 31);
}
