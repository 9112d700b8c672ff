// SPDX-License-Identifier: MIT
// 3x3 convolution with stride 1 and padding 1 by Winograd's minimal filtering, F(4x4, 3x3) (Lavin and Gray 2016, "Fast
// algorithms for convolutional neural networks"): a 6x6 tile of the input gives 4x4 outputs with 36 multiplications a
// channel instead of 144. With the lanes innermost the transforms are plain arithmetic on packs. Its rounding error is
// about ten times that of the direct sum (relative 1e-5). Oracle: the direct convolution,
// tests/kernels/winograd_test.cpp.
//
// For a block of tiles: transform the input once; then, for each tile of rows, 36 small matrix products whose results
// go through the output transform while they are still in the first-level cache.

/// sums[t][r][xi] for the `tiles` input tiles and one tile of rows.
template <int Rows>
PAVISE_LANES void winograd_products(int rows, const float* weight, const TapClass& taps, const float* v,
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
PAVISE_LANES std::int64_t winograd_scratch(Tag, std::int64_t channels) {
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
          lanes == 16 ? winograd_output<16>(s, m, 16, y, x, bias, out + at, mask, e)
                      : winograd_output<1>(s, m, 1, y, x, bias, out + at, mask, e);
        }
      }
    }
  }
}
