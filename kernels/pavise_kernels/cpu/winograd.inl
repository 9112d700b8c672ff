// SPDX-License-Identifier: MIT
// 3x3 convolution with stride 1 and padding 1 by Winograd's minimal filtering, F(4x4, 3x3) (Lavin and Gray 2016, "Fast
// algorithms for convolutional neural networks"): a 6x6 tile of the input gives 4x4 outputs with 36 multiplications a
// channel instead of 144. With the lanes innermost the transforms are plain arithmetic on packs. Its rounding error is
// about ten times that of the direct sum (relative 1e-5). Oracle: the direct convolution,
// tests/kernels/winograd_test.cpp.
//
// For a block of tiles: transform the input once; then, for each tile of rows, 36 small matrix products whose results
// go through the output transform while they are still in the first-level cache.

/// B^T d for one line of six.
template <class P>
[[gnu::always_inline]] inline void winograd_input_line(const P (&d)[6], P (&t)[6]) {
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
[[gnu::always_inline]] inline void winograd_output_line(const P (&m)[6], P (&y)[4]) {
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
inline void winograd_input(const WinogradShape& s, const float* in, std::int64_t y, std::int64_t x, float* out,
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

/// Output transform of one row's 36 sums, [36][L], into the image at (y, x).
template <int L>
inline void winograd_output(const WinogradShape& s, const float* sums, std::int64_t y, std::int64_t x, float bias,
                            float* out, const float* mask, const Epilogue<float>& e) {
  using P = Pack<float, L>;
  P half[4][6];
  for (int j = 0; j < 6; ++j) {
    P m[6];
    P t[4];
#pragma GCC unroll 6
    for (int i = 0; i < 6; ++i) {
      m[i] = P::load(sums + (i * 6 + j) * L);
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

/// sums[t][r][xi] for the `tiles` input tiles and one tile of rows.
template <int Rows>
inline void winograd_products(int rows, const float* weight, const TapClass& taps, const float* v,
                              std::int64_t channels, int tiles, int max_tiles, float* sums) {
  if constexpr (Rows > 1) {
    if (rows < Rows) {
      winograd_products<Rows - 1>(rows, weight, taps, v, channels, tiles, max_tiles, sums);
      return;
    }
  }
  const Epilogue<float> plain;
  for (int xi = 0; xi < 36; ++xi) {
    for (int t = 0; t < tiles; ++t) {
      gemm_tile<float, Rows, 1>(weight + xi * channels * Rows, taps, v + (xi * max_tiles + t) * channels * 16, 0,
                                sums + (t * Rows * 36 + xi) * 16, 36 * 16, 0, nullptr, nullptr, plain);
    }
  }
}

/// Tiles that go through the matrix products together: their transformed input should stay in the second-level cache.
inline int winograd_block(std::int64_t channels) {
  return static_cast<int>(std::clamp<std::int64_t>(9000 / (36 * channels), 1, 4));
}

/// Elements of scratch memory that winograd_conv needs, for one lane.
inline std::int64_t winograd_scratch(Tag, std::int64_t channels) {
  return 36 * channels * winograd_block(channels) + 36 * 16 * 4;
}

/// out (rows,H,W) = 3x3 convolution of in (channels,H,W), stride 1, padding 1, for one group. Weights as transformed by
/// pack_winograd; `taps` holds 0, 1, ..., channels-1.
template <class Array>
void winograd_conv(Tag, const WinogradShape& s, const PackedWeights<Array>& weights, const TapClass& taps,
                   const float* in, float* out, const Epilogue<float>& e, float* scratch, int lanes) {
  const std::int64_t tiles_x = (s.width + 3) / 4;
  const std::int64_t total = (s.height + 3) / 4 * tiles_x;
  const int block = winograd_block(s.channels);
  float* v = scratch;
  float* sums = scratch + 36 * s.channels * block * lanes;
  for (std::int64_t first = 0; first < total; first += block) {
    const int tiles = static_cast<int>(std::min<std::int64_t>(block, total - first));
    for (int t = 0; t < tiles; ++t) {
      const std::int64_t y = (first + t) / tiles_x * 4;
      const std::int64_t x = (first + t) % tiles_x * 4;
      float* to = v + t * s.channels * lanes;
      lanes == 16 ? winograd_input<16>(s, in, y, x, to, block * s.channels * 16)
                  : winograd_input<1>(s, in, y, x, to, block * s.channels);
    }
    for (const RowTile& tile : weights.tiles) {
      const float* w = weights.data.data() + tile.at;
      if (lanes == 16) {
        winograd_products<kMaxRows>(tile.rows, w, taps, v, s.channels, tiles, block, sums);
      } else {
        for (int xi = 0; xi < 36; ++xi) {
          for (int t = 0; t < tiles; ++t) {
            alignas(64) float rows[1][16] = {};
            gemv_tile<float, 1, 1>(w + xi * s.channels * 16, 0, taps, v + (xi * block + t) * s.channels, 0, rows);
            for (int r = 0; r < tile.rows; ++r) {
              sums[(t * tile.rows + r) * 36 + xi] = rows[0][r];
            }
          }
        }
      }
      for (int t = 0; t < tiles; ++t) {
        const std::int64_t y = (first + t) / tiles_x * 4;
        const std::int64_t x = (first + t) % tiles_x * 4;
        for (int r = 0; r < tile.rows; ++r) {
          const std::int64_t at = (tile.first + r) * s.height * s.width * lanes;
          const float bias = e.bias != nullptr ? e.bias[tile.first + r] : 0.0f;
          const float* m = sums + (t * tile.rows + r) * 36 * lanes;
          const float* mask = e.mask != nullptr ? e.mask + at : nullptr;
          lanes == 16 ? winograd_output<16>(s, m, y, x, bias, out + at, mask, e)
                      : winograd_output<1>(s, m, y, x, bias, out + at, mask, e);
        }
      }
    }
  }
}
