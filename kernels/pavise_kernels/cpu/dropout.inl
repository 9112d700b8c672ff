// SPDX-License-Identifier: MIT
// Dropout of one group: whether element e of an image is dropped depends on word e mod 4 of block floor(e/4) of the
// image's own sequence (random.inl), whichever lane the image is in. The same numbers are drawn again for the
// derivative, which is the same map: nothing is stored. Oracle: the scalar numbers of core/philox.hpp, in
// tests/autodiff/dropout_test.cpp.

/// Elements [first, n); `first` is a multiple of 4.
template <class T, int L>
PAVISE_LANES void dropout_lanes(const T* in, T* out, std::int64_t first, std::int64_t n, std::int32_t threshold,
                                T scale, const LaneKeys& keys, bool accumulate, const T* mask) {
  using P = Pack<T, L>;
  using U = Pack<std::uint32_t, L>;
  const P zero = P::broadcast(T{0});
  const P factor = P::broadcast(scale);
  const U image = U::load(keys.image);
  const U tag = (U::load(keys.restart) << 16) ^ U::broadcast(keys.purpose);
  const auto last = Pack<std::int32_t, L>::broadcast(threshold - 1);
  for (std::int64_t e = first; e < n; e += 4) {
    U c[4] = {U::broadcast(static_cast<std::uint32_t>(e / 4)), image, U::broadcast(keys.iteration), tag};
    philox<L>(c, keys.seed);
    for (int i = 0; i < 4 && e + i < n; ++i) {
      const auto keep = bits<std::int32_t>(c[i] >> 8) > last;
      const std::int64_t at = (e + i) * L;
      P y = P::load(in + at) * factor;
      if constexpr (sizeof(T) == 4) {
        y = select(keep, y, zero);
      } else {
        // The mask in as many lanes of twice the size.
        alignas(64) std::int32_t narrow[L];
        alignas(64) std::int64_t wide[L];
        keep.store(narrow);
        for (int lane = 0; lane < L; ++lane) {
          wide[lane] = narrow[lane];
        }
        y = select(Pack<std::int64_t, L>::load(wide), y, zero);
      }
      if (mask != nullptr) {
        y = select(P::load(mask + at) > zero, y, zero);
      }
      if (accumulate) {
        y = y + P::load(out + at);
      }
      y.store(out + at);
    }
  }
}

/// out = in * scale where the upper 24 bits of the element's word are `threshold` or more, 0 elsewhere; stored or
/// added, and 0 where `mask` (as out, or null) is not positive. in, out: (n)[lanes].
template <class T>
void dropout(Tag, const T* in, T* out, std::int64_t n, std::int32_t threshold, T scale, const LaneKeys& keys,
             bool accumulate, const T* mask, int lanes) {
  lanes == 16 ? dropout_lanes<T, 16>(in, out, 0, n, threshold, scale, keys, accumulate, mask)
              : dropout_lanes<T, 1>(in, out, 0, n, threshold, scale, keys, accumulate, mask);
}
