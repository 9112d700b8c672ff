// SPDX-License-Identifier: MIT
// The transforms of Winograd's F(4x4, 3x3); see winograd.inl. The CUDA kernels share them.

/// B^T d for one line of six.
template <class P>
PAVISE_INLINE void winograd_input_line(const P (&d)[6], P (&t)[6]) {
  const auto c = [](float v) { return P::broadcast(v); };
  const P a = fma(d[2], c(-4.0f), d[4]);
  const P b = fma(d[1], c(-4.0f), d[3]);
  const P e = d[4] - d[2];
  const P f = d[3] - d[1];
  t[0] = fma(d[0], c(4.0f), fma(d[2], c(-5.0f), d[4]));
  t[1] = a + b;
  t[2] = a - b;
  t[3] = fma(f, c(2.0f), e);
  t[4] = fma(f, c(-2.0f), e);
  t[5] = fma(d[1], c(4.0f), fma(d[3], c(-5.0f), d[5]));
}

/// A^T m for one line of six.
template <class P>
PAVISE_INLINE void winograd_output_line(const P (&m)[6], P (&y)[4]) {
  const auto c = [](float v) { return P::broadcast(v); };
  const P a = m[1] + m[2];
  const P b = m[1] - m[2];
  const P e = m[3] + m[4];
  const P f = m[3] - m[4];
  y[0] = (m[0] + a) + e;
  y[1] = fma(f, c(2.0f), b);
  y[2] = fma(e, c(4.0f), a);
  y[3] = fma(f, c(8.0f), b) + m[5];
}

/// out[xi][c], xi = 0..35, for the input tile whose first output is (y, x); what lies outside the image is 0.
template <int L>
PAVISE_LANES void winograd_input(const WinogradShape& s, const float* in, std::int64_t y, std::int64_t x, float* out,
                                 std::int64_t xi_stride) {
  using P = Pack<float, L>;
  const bool inside = y >= 1 && x >= 1 && y + 5 <= s.height && x + 5 <= s.width;
  for (std::int64_t c = 0; c < s.channels; ++c) {
    const float* channel = in + c * s.height * s.width * L;
    P half[6][6];
    for (int j = 0; j < 6; ++j) {
      P d[6];
      P t[6];
      if (inside) {
#pragma GCC unroll 6
        for (int i = 0; i < 6; ++i) {
          d[i] = P::load(channel + ((y - 1 + i) * s.width + x - 1 + j) * L);
        }
      } else {
        for (int i = 0; i < 6; ++i) {
          const std::int64_t iy = y - 1 + i;
          const std::int64_t ix = x - 1 + j;
          const bool valid = iy >= 0 && iy < s.height && ix >= 0 && ix < s.width;
          d[i] = valid ? P::load(channel + (iy * s.width + ix) * L) : P::broadcast(0.0f);
        }
      }
      winograd_input_line(d, t);
#pragma GCC unroll 6
      for (int i = 0; i < 6; ++i) {
        half[i][j] = t[i];
      }
    }
    for (int i = 0; i < 6; ++i) {
      P t[6];
      winograd_input_line(half[i], t);
#pragma GCC unroll 6
      for (int j = 0; j < 6; ++j) {
        t[j].store(out + (i * 6 + j) * xi_stride + c * L);
      }
    }
  }
}

/// Output transform of one row's 36 sums, each [L] and `xi_stride` elements apart, into the image at (y, x).
template <int L>
PAVISE_LANES void winograd_output(const WinogradShape& s, const float* sums, std::int64_t xi_stride, std::int64_t y,
                                  std::int64_t x, float bias, float* out, const float* mask, const Epilogue<float>& e) {
  using P = Pack<float, L>;
  P half[4][6];
  for (int j = 0; j < 6; ++j) {
    P m[6];
    P t[4];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) {
      m[i] = P::load(sums + (i * 6 + j) * xi_stride);
    }
    winograd_output_line(m, t);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      half[i][j] = t[i];
    }
  }
  const P zero = P::broadcast(0.0f);
  const P b = P::broadcast(bias);
  for (int i = 0; i < 4 && y + i < s.height; ++i) {
    P t[4];
    winograd_output_line(half[i], t);
    for (int j = 0; j < 4 && x + j < s.width; ++j) {
      const std::int64_t at = ((y + i) * s.width + x + j) * L;
      P v = t[j] + b;
      if (e.relu) {
        v = max(zero, v);  // keeps NaN
      }
      if (mask != nullptr) {
        v = select(P::load(mask + at) > zero, v, zero);
      }
      if (e.accumulate) {
        v = v + P::load(out + at);
      }
      v.store(out + at);
    }
  }
}
