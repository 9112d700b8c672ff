// SPDX-License-Identifier: MIT
// How a convolution or a fully connected layer becomes work for tensor cores in bf16 (gather_gemm_bf16.cu):
//
//   out[row][point] = sum over kernel positions k and channels c of  weight[row][c][k] * in[c][place(point, k)]
//
// A *tile* is up to sixteen points that read the same kernel positions. All places that a tile reads are its *cells*:
// they are fetched once for all kernel positions, and where a point finds its own is said by a table. Places outside the
// image are cells of zeros. Points of strided derivatives that read different kernel positions lie in different tiles.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "pavise_kernels/cpu/gather_plan.hpp"

namespace pavise::kernels::cuda {

struct PatchPlan {
  std::int64_t rows = 0, channels = 0;
  std::int64_t kernel = 1;                   ///< positions
  std::int64_t in_size = 0, out_size = 0;    ///< elements of one image
  std::int64_t in_plane = 1, out_plane = 1;  ///< of one channel, one row
  std::int64_t weight_row = 0;               ///< elements of the weight from one row to the next,
  std::int64_t weight_channel = 0;           ///< and from one channel to the next; kernel positions lie side by side

  /// What an output position along one axis reads: (kernel position, input position), outside the input too.
  using Reads = std::vector<std::pair<std::int64_t, std::int64_t>>;
  std::vector<Reads> y{}, x{};
  std::int64_t in_height = 1, in_width = 1, kernel_width = 1;
};

/// Whether the layer, in one of its directions, has a plan: as many channels and rows as make tensor cores worth while.
inline bool has_patches(const ConvGeometry& g) {
  return g.groups == 1 && std::min(g.in_channels, g.out_channels) >= 16;
}

/// The plan of a convolution, or of its derivative with respect to the input where `back`. A fully connected layer is a
/// convolution of single points.
inline PatchPlan patch_plan(const ConvGeometry& g, bool back) {
  const std::int64_t kernel = g.kernel_height * g.kernel_width;
  PatchPlan plan{.rows = back ? g.in_channels : g.out_channels,
                 .channels = back ? g.out_channels : g.in_channels,
                 .kernel = kernel,
                 .in_plane = back ? g.out_height * g.out_width : g.in_height * g.in_width,
                 .out_plane = back ? g.in_height * g.in_width : g.out_height * g.out_width,
                 .weight_row = back ? kernel : g.in_channels * kernel,
                 .weight_channel = back ? g.in_channels * kernel : kernel,
                 .in_height = back ? g.out_height : g.in_height,
                 .in_width = back ? g.out_width : g.in_width,
                 .kernel_width = g.kernel_width};
  plan.in_size = plan.channels * plan.in_plane;
  plan.out_size = plan.rows * plan.out_plane;
  const auto axis = [&](std::int64_t positions, std::int64_t extent) {
    std::vector<PatchPlan::Reads> all(static_cast<std::size_t>(positions));
    for (std::int64_t p = 0; p < positions; ++p) {
      for (std::int64_t k = 0; k < extent; ++k) {
        const std::int64_t at = back ? p + g.padding - k * g.dilation : p * g.stride - g.padding + k * g.dilation;
        if (!back) {
          all[static_cast<std::size_t>(p)].emplace_back(k, at);
        } else if (((at % g.stride) + g.stride) % g.stride == 0) {
          all[static_cast<std::size_t>(p)].emplace_back(k, (at - (at < 0 ? g.stride - 1 : 0)) / g.stride);
        }
      }
    }
    return all;
  };
  plan.y = axis(back ? g.in_height : g.out_height, g.kernel_height);
  plan.x = axis(back ? g.in_width : g.out_width, g.kernel_width);
  return plan;
}

/// Tiles of a plan for blocks of `columns` points; a tile of fewer places takes several groups of images.
struct PatchTiles {
  struct Tile {
    std::int32_t first_cell, cells;    ///< of `cell`
    std::int32_t first_tap, taps;      ///< of `tap`
    std::int32_t first_point, places;  ///< of `point`; 1, 2, 4, 8 or 16
    std::int32_t first_index;          ///< of `index`: [tap][place], cells counted from the tile's first
    std::int32_t part;                 ///< this one of `places` tiles for the same places: which groups of a chunk
  };
  std::vector<Tile> tiles;
  std::vector<std::int32_t> cell;   ///< element of a channel's plane; -1: outside, zeros
  std::vector<std::int32_t> tap;    ///< kernel position
  std::vector<std::int32_t> point;  ///< element of a row's plane; -1: an empty place
  std::vector<std::int32_t> index;
  std::int32_t most_cells = 0, most_taps = 0;  ///< of a tile, over all of its groups
  double cells_read = 0, taps_done = 0;        ///< over all tiles of `columns` groups of images, of all their columns
};

namespace detail {

/// Positions along an axis by the kernel positions that they read, in order.
inline std::vector<std::vector<std::int64_t>> phases_of(const std::vector<PatchPlan::Reads>& axis) {
  std::map<std::vector<std::int64_t>, std::vector<std::int64_t>> phases;
  for (std::size_t p = 0; p < axis.size(); ++p) {
    std::vector<std::int64_t> key;
    for (const auto& [k, at] : axis[p]) {
      key.push_back(k);
    }
    phases[key].push_back(static_cast<std::int64_t>(p));
  }
  std::vector<std::vector<std::int64_t>> out;
  for (auto& [key, positions] : phases) {
    out.push_back(std::move(positions));
  }
  return out;
}

/// Points of one phase in an order whose neighbours are near each other: strips of rows, column after column. A strip has
/// 4, 2 or 1 rows, so that of two neighbours at even places the second reads what lies behind what the first reads.
inline std::vector<std::pair<std::int64_t, std::int64_t>> in_strips(const std::vector<std::int64_t>& ys,
                                                                    const std::vector<std::int64_t>& xs,
                                                                    std::size_t height) {
  std::vector<std::pair<std::int64_t, std::int64_t>> out;
  for (std::size_t y = 0; y < ys.size();) {
    while (height > ys.size() - y) {
      height /= 2;
    }
    for (const std::int64_t x : xs) {
      for (std::size_t i = 0; i < height; ++i) {
        out.emplace_back(ys[y + i], x);
      }
    }
    y += height;
  }
  return out;
}

/// What one point reads, tap after tap: body(place), of (row, column) of the input.
template <class Body>
void each_place(const PatchPlan& plan, std::int64_t y, std::int64_t x, const Body& body) {
  for (const auto& [ky, iy] : plan.y[static_cast<std::size_t>(y)]) {
    for (const auto& [kx, ix] : plan.x[static_cast<std::size_t>(x)]) {
      body(std::pair{iy, ix});
    }
  }
}

/// The places that points [first, first+count) read, row by row.
inline std::map<std::pair<std::int64_t, std::int64_t>, std::int32_t> cells_of(
    const PatchPlan& plan, const std::vector<std::pair<std::int64_t, std::int64_t>>& points, std::size_t first,
    std::size_t count) {
  std::map<std::pair<std::int64_t, std::int64_t>, std::int32_t> cells;
  for (std::size_t p = first; p < std::min(first + count, points.size()); ++p) {
    each_place(plan, points[p].first, points[p].second, [&](const auto& place) { cells.emplace(place, 0); });
  }
  return cells;
}

}  // namespace detail

inline PatchTiles patch_tiles(const PatchPlan& plan, int columns) {
  PatchTiles out;
  const std::size_t height = columns >= 16 ? 4 : columns >= 8 ? 2 : 1;
  for (const auto& ys : detail::phases_of(plan.y)) {
    for (const auto& xs : detail::phases_of(plan.x)) {
      const auto points = detail::in_strips(ys, xs, height);
      const auto first_tap = static_cast<std::int32_t>(out.tap.size());
      for (const auto& [ky, iy] : plan.y[static_cast<std::size_t>(ys.front())]) {
        for (const auto& [kx, ix] : plan.x[static_cast<std::size_t>(xs.front())]) {
          out.tap.push_back(static_cast<std::int32_t>(ky * plan.kernel_width + kx));
        }
      }
      const auto taps = static_cast<std::int32_t>(out.tap.size()) - first_tap;
      std::int32_t room = 64;  // cells for all groups of a tile: as many as a tile of full width has, or these
      for (std::size_t first = 0; first < points.size();) {
        // As many places as are left, to a power of two; more, some of them empty, where groups would need too many cells.
        std::size_t places = 1;
        while (places * 2 <= std::min(points.size() - first, static_cast<std::size_t>(columns))) {
          places *= 2;
        }
        auto cells = detail::cells_of(plan, points, first, places);
        const auto groups = [&] { return columns / static_cast<std::int32_t>(places); };
        while (groups() > 1 && static_cast<std::int32_t>(cells.size()) * groups() > room) {
          places *= 2;
          cells = detail::cells_of(plan, points, first, places);
        }
        PatchTiles::Tile tile{.first_cell = static_cast<std::int32_t>(out.cell.size()),
                              .cells = static_cast<std::int32_t>(cells.size()),
                              .first_tap = first_tap,
                              .taps = taps,
                              .first_point = static_cast<std::int32_t>(out.point.size()),
                              .places = static_cast<std::int32_t>(places),
                              .first_index = static_cast<std::int32_t>(out.index.size()),
                              .part = 0};
        if (groups() == 1) {
          room = std::max(room, tile.cells);
        }
        std::int32_t number = 0;
        for (auto& [place, n] : cells) {
          const auto [iy, ix] = place;
          const bool inside = iy >= 0 && iy < plan.in_height && ix >= 0 && ix < plan.in_width;
          out.cell.push_back(inside ? static_cast<std::int32_t>(iy * plan.in_width + ix) : -1);
          n = number++;
        }
        out.index.resize(out.index.size() + static_cast<std::size_t>(taps) * places);
        for (std::size_t p = 0; p < places; ++p) {
          const bool empty = first + p >= points.size();
          const auto [y, x] = points[std::min(first + p, points.size() - 1)];
          out.point.push_back(empty ? -1 : static_cast<std::int32_t>(y * static_cast<std::int64_t>(plan.x.size()) + x));
          std::size_t at = static_cast<std::size_t>(tile.first_index) + p;
          detail::each_place(plan, y, x, [&](const auto& place) {
            out.index[at] = cells.at(place);
            at += places;
          });
        }
        out.most_cells = std::max(out.most_cells, tile.cells * groups());
        out.most_taps = std::max(out.most_taps, taps);
        out.cells_read += static_cast<double>(tile.cells) * columns;
        out.taps_done += static_cast<double>(taps) * static_cast<double>(places);
        for (; tile.part < tile.places; ++tile.part) {
          out.tiles.push_back(tile);
        }
        first += places;
      }
    }
  }
  return out;
}

}  // namespace pavise::kernels::cuda
