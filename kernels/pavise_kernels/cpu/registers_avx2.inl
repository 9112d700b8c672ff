// SPDX-License-Identifier: MIT
// Registers of the AVX2 kernels: 32 bytes, sixteen of them; fused multiply-add.
struct Tag {};

#define PAVISE_REGISTERS_INLINE [[gnu::always_inline]]

inline constexpr int kRegisterBytes = 32;
inline constexpr int kMaxRows = 6;           ///< rows of the matrix micro-kernel, each a pack of 16 accumulators
inline constexpr int kTileAccumulators = 3;  ///< packs of accumulators that a tile of several points has, at most
inline constexpr int kGradientRows = 2;      ///< rows and taps of a weight gradient's tile
inline constexpr int kGradientTaps = 3;

// The compilers' builtins rather than <immintrin.h>, which alone costs a third of the umbrella header's compile time.
using FloatRegister = float __attribute__((vector_size(32)));
using DoubleRegister = double __attribute__((vector_size(32)));
using WordRegister = int __attribute__((vector_size(32)));
using WideRegister = unsigned long long __attribute__((vector_size(32)));

template <class T, class V>
[[gnu::always_inline]] inline V register_fma(V a, V b, V c) {
  if constexpr (std::is_same_v<T, float>) {
    return (V)__builtin_ia32_vfmaddps256((FloatRegister)a, (FloatRegister)b, (FloatRegister)c);
  } else {
    return (V)__builtin_ia32_vfmaddpd256((DoubleRegister)a, (DoubleRegister)b, (DoubleRegister)c);
  }
}

template <class T, class V>
[[gnu::always_inline]] inline V register_sqrt(V a) {
  if constexpr (std::is_same_v<T, float>) {
    return (V)__builtin_ia32_sqrtps256((FloatRegister)a);
  } else {
    return (V)__builtin_ia32_sqrtpd256((DoubleRegister)a);
  }
}

/// Products of the low halves of 64-bit elements.
[[gnu::always_inline]] inline WideRegister register_multiply_low(WideRegister a, WideRegister b) {
#ifdef __clang__
  return (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#else
  return (WideRegister)__builtin_ia32_pmuludq256((WordRegister)a, (WordRegister)b);
#endif
}

/// High and low halves of the 32x32-bit products of the elements.
template <class U>
[[gnu::always_inline]] inline void register_multiply_wide(U a, std::uint32_t b, U& high, U& low) {
  const WideRegister m = WideRegister{} + b;
  const WideRegister even = register_multiply_low((WideRegister)a, m);
  const WideRegister odd = register_multiply_low((WideRegister)a >> 32, m);
  low = __builtin_shufflevector((U)even, (U)(odd << 32), 0, 9, 2, 11, 4, 13, 6, 15);
  high = __builtin_shufflevector((U)(even >> 32), (U)odd, 0, 9, 2, 11, 4, 13, 6, 15);
}
