// SPDX-License-Identifier: MIT
// Registers of the portable kernels: 16-byte vectors of GCC and Clang, which every target has. fma() must
// round once, as the hardware's does, so that the bits agree; where the processor lacks the instruction it is a (slow)
// library call.
struct Tag {};

inline constexpr int kRegisterBytes = 16;
inline constexpr int kMaxRows = 2;           ///< rows of the matrix micro-kernel, each a pack of 16 accumulators
inline constexpr int kTileAccumulators = 1;  ///< packs of accumulators that a tile of several points has, at most
inline constexpr int kGradientRows = 1;      ///< rows and taps of a weight gradient's tile
inline constexpr int kGradientTaps = 2;

// On x86-64 (a processor without AVX2) each lane of an fma is a library call anyway: operations on packs are kept out of
// line, which leaves the kernels small.
#if defined(__x86_64__)
#define PAVISE_REGISTERS_INLINE [[gnu::noinline]]
#else
#define PAVISE_REGISTERS_INLINE [[gnu::always_inline]]
#endif

template <class T, class V>
[[gnu::always_inline]] inline V register_fma(V a, V b, V c) {
  V r{};
  for (std::size_t i = 0; i < sizeof(V) / sizeof(T); ++i) {
    if constexpr (std::is_same_v<T, float>) {
      r[i] = __builtin_fmaf(a[i], b[i], c[i]);
    } else {
      r[i] = __builtin_fma(a[i], b[i], c[i]);
    }
  }
  return r;
}

template <class T, class V>
[[gnu::always_inline]] inline V register_sqrt(V a) {
  V r{};
  for (std::size_t i = 0; i < sizeof(V) / sizeof(T); ++i) {
    r[i] = static_cast<T>(__builtin_sqrt(static_cast<double>(a[i])));  // double then float rounds as sqrtf does
  }
  return r;
}

/// High and low halves of the 32x32-bit products of the elements.
template <class U>
PAVISE_REGISTERS_INLINE inline void register_multiply_wide(U a, std::uint32_t b, U& high, U& low) {
  for (std::size_t i = 0; i < sizeof(U) / 4; ++i) {
    const std::uint64_t p = std::uint64_t{a[i]} * b;
    high[i] = static_cast<std::uint32_t>(p >> 32);
    low[i] = static_cast<std::uint32_t>(p);
  }
}
