// SPDX-License-Identifier: MIT
// The pieces of the differentiable JPEG that are not linear maps along an axis: colours mixed at every pixel, and soft
// rounding of coefficients. Oracle: tests/filter/soft_jpeg_test.cpp.

/// Element i of n of each channel: see below.
template <class T, int L>
PAVISE_INLINE void mix_pixel(const T* in, T* out, std::int64_t n, std::int64_t i, const T (&m)[9], const T (&offset)[3],
                             bool add) {
  using P = Pack<T, L>;
  const P x[3] = {P::load(in + i), P::load(in + n + i), P::load(in + 2 * n + i)};
  for (int c = 0; c < 3; ++c) {
    const P start = add ? P::load(out + c * n + i) : P::broadcast(offset[c]);
    fma(x[0], m[3 * c], fma(x[1], m[3 * c + 1], fma(x[2], m[3 * c + 2], start))).store(out + c * n + i);
  }
}

/// out_c = sum_d m[c][d] in_d + offset[c] at every pixel, over three channels. in, out: (3,pixels)[lanes] as n =
/// pixels*lanes values for each channel; `add`: to what is there.
template <class T>
void mix_channels(Tag, const T* in, T* out, std::int64_t n, const T (&m)[9], const T (&offset)[3], bool add) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    mix_pixel<T, 16>(in, out, n, i, m, offset, add);
  }
  for (; i < n; ++i) {
    mix_pixel<T, 1>(in, out, n, i, m, offset, add);
  }
}

/// One coefficient at `at`: see below.
template <class T, int L>
PAVISE_INLINE void soft_round_one(const T* c, const T* dy, T* out, std::int64_t at, T step) {
  using P = Pack<T, L>;
  const P t = P::load(c + at) / P::broadcast(step);
  const P k = round_product(t, T{1});
  const P d = t - k;
  const P square = d * d;
  if (dy != nullptr) {
    fma(square * P::broadcast(T{3}), P::load(dy + at), P::load(out + at)).store(out + at);
  } else {
    (fma(square, d, k) * P::broadcast(step)).store(out + at);
  }
}

/// Soft rounding of coefficients c of (height,width) to multiples of the 8x8 table q: with t = c/q and the nearest
/// integer k, q (k + (t - k)^3) (Shin and Song 2017); or, where `dy` is given, its derivative 3 (t - k)^2 times dy,
/// added.
template <class T, int L>
PAVISE_LANES void soft_round_lanes(const T* c, const T* dy, T* out, std::int64_t height, std::int64_t width,
                                   const T* q) {
  for (std::int64_t i = 0; i < height; ++i) {
    for (std::int64_t j = 0; j < width; ++j) {
      soft_round_one<T, L>(c, dy, out, (i * width + j) * L, q[i % 8 * 8 + j % 8]);
    }
  }
}
template <class T>
void soft_round(Tag, const T* c, const T* dy, T* out, std::int64_t height, std::int64_t width, const T* q, int lanes) {
  lanes == 16 ? soft_round_lanes<T, 16>(c, dy, out, height, width, q)
              : soft_round_lanes<T, 1>(c, dy, out, height, width, q);
}
