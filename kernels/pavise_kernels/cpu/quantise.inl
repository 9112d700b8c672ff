// SPDX-License-Identifier: MIT
// Values rounded to the nearest of a number of levels, element by element over contiguous memory. Oracle: exact products
// and std::nearbyint in double, in tests/filter/bit_depth_test.cpp.

/// The nearest integer, ties to even, of |x| < 2^22 (float) or 2^51 (double): 1.5 * 2^23 or 2^52 is added and
/// subtracted. `x` is a product a*b, rounded once with it.
template <class T, int L>
PAVISE_INLINE Pack<T, L> round_product(Pack<T, L> a, T b) {
  const auto magic = Pack<T, L>::broadcast(sizeof(T) == 4 ? static_cast<T>(0x1.8p23) : static_cast<T>(0x1.8p52));
  return fma(a, b, magic) - magic;
}

/// out = round(in * steps) / steps, ties to even. n elements, a multiple of 16 or of one image.
template <class T>
void quantise(Tag, const T* in, T* out, std::int64_t n, T steps) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    using P = Pack<T, 16>;
    (round_product(P::load(in + i), steps) / P::broadcast(steps)).store(out + i);
  }
  for (; i < n; ++i) {
    using P = Pack<T, 1>;
    (round_product(P::load(in + i), steps) / P::broadcast(steps)).store(out + i);
  }
}
