// SPDX-License-Identifier: MIT
// When a convolution goes by Winograd's algorithm, and its transformed weights; winograd.inl computes with them.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pavise_kernels/cpu/packed_weights.hpp"

namespace pavise::kernels {

/// One image's extents as the Winograd kernel sees them.
struct WinogradShape {
  std::int64_t channels, rows, height, width;
};

/// Whether F(4x4, 3x3) serves this convolution: from its shape alone, so that an image's bits never depend on timing.
/// Both directions need enough channels for the transforms to pay, and tiles of 4x4 that do not waste much of the
/// image.
inline bool uses_winograd(const ConvGeometry& g) {
  const auto rounded = [](std::int64_t n) { return (n + 3) / 4 * 4; };
  return g.kernel_height == 3 && g.kernel_width == 3 && g.stride == 1 && g.padding == 1 && g.dilation == 1 &&
         g.groups == 1 && g.in_channels >= 32 && g.out_channels >= 32 &&
         10 * rounded(g.in_height) * rounded(g.in_width) <= 14 * g.in_height * g.in_width;
}

/// U = G g G^T of the weights g of one row and channel, (3,3), in double; `turned` by 180 degrees.
template <class T>
constexpr void winograd_weights(const T* g, bool turned, double (&u)[6][6]) {
  const auto line = [](double a, double b, double c, double(&out)[6]) {
    out[0] = a / 4;
    out[1] = -(a + b + c) / 6;
    out[2] = -(a - b + c) / 6;
    out[3] = a / 24 + b / 12 + c / 6;
    out[4] = a / 24 - b / 12 + c / 6;
    out[5] = c;
  };
  double columns[3][6] = {};
  for (int x = 0; x < 3; ++x) {
    const int from = turned ? 2 - x : x;
    line(static_cast<double>(g[turned ? 6 + from : from]), static_cast<double>(g[3 + from]),
         static_cast<double>(g[turned ? from : 6 + from]), columns[x]);
  }
  for (int y = 0; y < 6; ++y) {
    line(columns[0][y], columns[1][y], columns[2][y], u[y]);
  }
}

/// Transforms and packs weights (O,C,3,3) by winograd_weights, for each tile of rows [36][channel][row]. `backward`:
/// for the derivative with respect to the input, with rows C, channels O and the kernel turned by 180 degrees.
template <class T, class Array, class Parallel>
void pack_winograd(const ConvGeometry& g, bool backward, const T* weight, std::int64_t max_rows, bool fixed_width,
                   PackedWeights<Array>& packed, const Parallel& parallel) {
  const std::int64_t rows = backward ? g.in_channels : g.out_channels;
  const std::int64_t channels = backward ? g.out_channels : g.in_channels;
  packed.tiles = row_tiles(rows, 36 * channels, max_rows, fixed_width);
  packed.group_size = 0;
  const auto last = packed.tiles.back();
  packed.data.resize(static_cast<std::size_t>(last.at + 36 * channels * (fixed_width ? max_rows : last.rows)));
  parallel(static_cast<std::int64_t>(packed.tiles.size()), [&](std::int64_t i) {
    const RowTile& tile = packed.tiles[static_cast<std::size_t>(i)];
    const std::int64_t width = fixed_width ? max_rows : tile.rows;
    T* out = packed.data.data() + tile.at;
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::int64_t r = 0; r < width; ++r) {
        double u[6][6] = {};
        if (r < tile.rows) {
          const std::int64_t row = tile.first + r;
          winograd_weights(weight + (backward ? c * rows + row : row * channels + c) * 9, backward, u);
        }
        for (int xi = 0; xi < 36; ++xi) {
          out[(xi * channels + c) * width + r] = static_cast<T>(u[xi / 6][xi % 6]);
        }
      }
    }
  });
}

}  // namespace pavise::kernels
