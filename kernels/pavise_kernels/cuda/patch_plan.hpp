// SPDX-License-Identifier: MIT
// How a convolution or a fully connected layer becomes work for tensor cores in bf16 (gather_gemm_bf16.cu):
//
//   out[row][point] = sum over taps t and channels c of  weight[row][c][t] * in[c][place(point, t)]
//
// A *tile* is up to eight points with the same taps. All places that a tile reads are its *cells*: they are fetched once
// for all taps, and where a point finds its own is said by a table. Tensor cores read the cells of two neighbouring points
// at once, the second one's behind the first one's; outside the image are two cells of zeros, before and behind all others.
//
// Tensor cores take 64 rows at a time. So the derivative of a strided convolution with few rows is *wide*: points that lie
// within one stride of each other, its phases, are rows of one point of a coarser grid; what one phase reads and another
// does not has zero weights (an infinite value there makes NaN of all of them). In effect those are sixteen rows at a stride
// of two. In the derivative of any other strided convolution points of different phases lie in
// different tiles.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <utility>
#include <vector>

#include "pavise_kernels/cpu/gather_plan.hpp"

namespace pavise::kernels::cuda {

/// One axis of a layer, in one of its directions.
struct PatchAxis {
  /// What each position of the grid of points reads: (tap, input position), outside the input too.
  std::vector<std::vector<std::pair<std::int64_t, std::int64_t>>> reads{};
  std::vector<std::vector<std::int64_t>> out{};     ///< [phase][position]: of the output, -1: outside
  std::vector<std::vector<std::int64_t>> kernel{};  ///< [phase][tap]: kernel position, -1: none
  std::int64_t in = 1;                              ///< extent of the input
};

struct PatchPlan {
  std::int64_t rows = 0;  ///< of the layer, times the phases
  std::int64_t channels = 0;
  std::int64_t phases = 1;                   ///< row / phases is the layer's row
  std::int64_t taps = 1;                     ///< of the packed weights
  std::vector<std::int32_t> tap_kernel{};    ///< [phase][tap]: kernel position, -1: zero
  std::int64_t in_size = 0, out_size = 0;    ///< elements of one image
  std::int64_t in_plane = 1, out_plane = 1;  ///< of one channel, one row
  std::int64_t weight_row = 0;               ///< elements of the weight from one row of the layer to the next,
  std::int64_t weight_channel = 0;           ///< and from one channel to the next; kernel positions lie side by side
  PatchAxis y{}, x{};
};

/// Whether a layer's derivative with respect to the input is wide.
inline bool has_wide_patches(const ConvGeometry& g, bool back) {
  return back && g.stride > 1 && g.in_channels * g.stride * g.stride <= 64;
}
/// Whether the layer has a plan: as many channels and rows as make it worth while. (Measured on an H200: the first layer
/// of small-cnn and of resnet18, with every kernel position as a channel, took up to twice the time of TF32's kernel; the
/// gradient of a grey image, wide, that of the kernel for few rows.)
inline bool has_patches(const ConvGeometry& g) { return g.groups == 1 && std::min(g.in_channels, g.out_channels) >= 8; }

namespace detail {

inline PatchAxis patch_axis(std::int64_t in, std::int64_t out, std::int64_t kernel, const ConvGeometry& g, bool back,
                            bool wide) {
  PatchAxis axis{.in = back ? out : in};
  const auto floored = [](std::int64_t a, std::int64_t b) { return (a - (a < 0 ? b - 1 : 0)) / b; };
  if (!wide) {
    axis.out.emplace_back();
    for (std::int64_t p = 0; p < (back ? in : out); ++p) {
      axis.out.front().push_back(p);
      auto& reads = axis.reads.emplace_back();
      for (std::int64_t k = 0; k < kernel; ++k) {
        const std::int64_t at = back ? p + g.padding - k * g.dilation : p * g.stride - g.padding + k * g.dilation;
        if (!back || at == floored(at, g.stride) * g.stride) {
          reads.emplace_back(k, back ? floored(at, g.stride) : at);
        }
      }
    }
    axis.kernel.emplace_back();
    for (std::int64_t k = 0; k < kernel; ++k) {
      axis.kernel.front().push_back(k);
    }
    return axis;
  }
  // Output position q * stride + phase - padding reads q + (phase - k * dilation) / stride, where that is whole.
  std::map<std::int64_t, std::int64_t> tap_of;  // distance from q -> tap
  const auto each = [&](const auto& body) {
    for (std::int64_t phase = 0; phase < g.stride; ++phase) {
      for (std::int64_t k = 0; k < kernel; ++k) {
        const std::int64_t at = phase - k * g.dilation;
        if (at == floored(at, g.stride) * g.stride) {
          body(phase, k, floored(at, g.stride));
        }
      }
    }
  };
  each([&](std::int64_t, std::int64_t, std::int64_t distance) { tap_of.emplace(distance, 0); });
  std::int64_t taps = 0;
  for (auto& [distance, tap] : tap_of) {
    tap = taps++;
  }
  axis.kernel.assign(static_cast<std::size_t>(g.stride), std::vector<std::int64_t>(tap_of.size(), -1));
  each([&](std::int64_t phase, std::int64_t k, std::int64_t distance) {
    axis.kernel[static_cast<std::size_t>(phase)][static_cast<std::size_t>(tap_of.at(distance))] = k;
  });
  axis.out.resize(static_cast<std::size_t>(g.stride));
  for (std::int64_t q = g.padding / g.stride; q * g.stride - g.padding < in; ++q) {
    for (std::int64_t phase = 0; phase < g.stride; ++phase) {
      const std::int64_t p = q * g.stride + phase - g.padding;
      axis.out[static_cast<std::size_t>(phase)].push_back(p >= 0 && p < in ? p : -1);
    }
    auto& reads = axis.reads.emplace_back();
    for (const auto& [distance, tap] : tap_of) {
      reads.emplace_back(tap, q + distance);
    }
  }
  return axis;
}

}  // namespace detail

/// The plan of a convolution, or of its derivative with respect to the input where `back`. A fully connected layer is a
/// convolution of single points.
inline PatchPlan patch_plan(const ConvGeometry& g, bool back) {
  const std::int64_t kernel = g.kernel_height * g.kernel_width;
  const bool wide = has_wide_patches(g, back);
  PatchPlan plan{.rows = back ? g.in_channels : g.out_channels,
                 .channels = back ? g.out_channels : g.in_channels,
                 .in_plane = back ? g.out_height * g.out_width : g.in_height * g.in_width,
                 .out_plane = back ? g.in_height * g.in_width : g.out_height * g.out_width,
                 .weight_row = back ? kernel : g.in_channels * kernel,
                 .weight_channel = back ? g.in_channels * kernel : kernel,
                 .y = detail::patch_axis(g.in_height, g.out_height, g.kernel_height, g, back, wide),
                 .x = detail::patch_axis(g.in_width, g.out_width, g.kernel_width, g, back, wide)};
  plan.in_size = plan.channels * plan.in_plane;
  plan.out_size = plan.rows * plan.out_plane;
  for (const auto& ky : plan.y.kernel) {
    for (const auto& kx : plan.x.kernel) {
      for (const std::int64_t y : ky) {
        for (const std::int64_t x : kx) {
          plan.tap_kernel.push_back(y < 0 || x < 0 ? -1 : static_cast<std::int32_t>(y * g.kernel_width + x));
        }
      }
    }
  }
  plan.phases = static_cast<std::int64_t>(plan.y.kernel.size() * plan.x.kernel.size());
  plan.taps = static_cast<std::int64_t>(plan.tap_kernel.size()) / plan.phases;
  plan.rows *= plan.phases;
  return plan;
}

/// Tiles of a plan for blocks of `columns` points; a tile of fewer places takes several groups of images.
struct PatchTiles {
  struct Tile {
    std::int32_t first_cell, cells;    ///< of `cell`
    std::int32_t first_tap, taps;      ///< of `tap`
    std::int32_t first_point, places;  ///< of `point`; 1, 2, 4 or 8
    std::int32_t first_index;          ///< of `index`: [tap][place], cells counted from the tile's first
    std::int32_t part;                 ///< this one of `places` tiles for the same places: which groups of a chunk
  };
  std::vector<Tile> tiles;
  std::vector<std::int32_t> cell;   ///< element of a channel's plane
  std::vector<std::int32_t> tap;    ///< of the packed weights
  std::vector<std::int32_t> point;  ///< [point][phase], element of a row's plane; -1: outside, or an empty place
  std::vector<std::int32_t> index;  ///< kZerosBefore, kZerosBehind, or a cell
  static constexpr std::int32_t kZerosBefore = -1, kZerosBehind = -2;
  std::int32_t most_cells = 0, most_taps = 0;  ///< of a tile, over all of its groups
  double cells_read = 0, taps_done = 0;        ///< over all tiles of `columns` groups of images, of all their columns
};

namespace detail {

using Point = std::pair<std::int64_t, std::int64_t>;  // row, column

/// Positions along an axis by the taps that they have, in order.
inline std::vector<std::vector<std::int64_t>> classes_of(const PatchAxis& axis) {
  std::map<std::vector<std::int64_t>, std::vector<std::int64_t>> classes;
  for (std::size_t p = 0; p < axis.reads.size(); ++p) {
    std::vector<std::int64_t> key;
    for (const auto& [tap, at] : axis.reads[p]) {
      key.push_back(tap);
    }
    classes[key].push_back(static_cast<std::int64_t>(p));
  }
  std::vector<std::vector<std::int64_t>> out;
  for (auto& [key, positions] : classes) {
    out.push_back(std::move(positions));
  }
  return out;
}

/// Points in an order whose neighbours are near each other: strips of rows, column after column. A strip has two rows or
/// one, so that of two neighbours at even places the second reads what lies behind what the first reads.
inline std::vector<Point> in_strips(const std::vector<std::int64_t>& ys, const std::vector<std::int64_t>& xs,
                                    std::size_t height) {
  std::vector<Point> out;
  for (std::size_t y = 0; y < ys.size(); y += height) {
    while (height > ys.size() - y) {
      height /= 2;
    }
    for (const std::int64_t x : xs) {
      for (std::size_t i = 0; i < height; ++i) {
        out.emplace_back(ys[y + i], x);
      }
    }
  }
  return out;
}

/// Makes the tiles of points with the same taps.
class PatchTiler {
 public:
  PatchTiler(const PatchPlan& plan, int columns, PatchTiles& out) : plan_(plan), columns_(columns), out_(out) {}

  void add(const std::vector<Point>& points) {
    const auto first_tap = static_cast<std::int32_t>(out_.tap.size());
    const auto width = static_cast<std::int64_t>(plan_.x.kernel.front().size());
    each_read(points.front(), [&](std::int64_t ty, std::int64_t tx, const Point&) {
      out_.tap.push_back(static_cast<std::int32_t>(ty * width + tx));
    });
    const auto taps = static_cast<std::int32_t>(out_.tap.size()) - first_tap;
    // Cells for all groups of a tile: as many as a tile of full width has, or 64 where there is none.
    std::int32_t room = points.size() < static_cast<std::size_t>(columns_) ? 64 : 0;
    for (std::size_t first = 0; first < points.size();) {
      // As many places as are left, to a power of two; more, some of them empty, where groups would need too many cells.
      std::size_t places = 1;
      while (places * 2 <= std::min(points.size() - first, static_cast<std::size_t>(columns_))) {
        places *= 2;
      }
      const auto groups = [&] { return columns_ / static_cast<std::int32_t>(places); };
      const auto take = [&] {
        here_.clear();
        for (std::size_t p = 0; p < places; ++p) {
          here_.push_back(points[std::min(first + p, points.size() - 1)]);
        }
        find_cells();
      };
      take();
      while (groups() > 1 && cell_count() * groups() > room) {
        places *= 2;
        take();
      }
      if (groups() == 1) {
        room = std::max(room, cell_count());
      }
      PatchTiles::Tile tile{
          .first_cell = static_cast<std::int32_t>(out_.cell.size()),
          .cells = cell_count(),
          .first_tap = first_tap,
          .taps = taps,
          .first_point = static_cast<std::int32_t>(out_.point.size()) / static_cast<std::int32_t>(plan_.phases),
          .places = static_cast<std::int32_t>(places),
          .first_index = static_cast<std::int32_t>(out_.index.size()),
          .part = 0};
      add_cells(taps);
      for (std::size_t p = 0; p < places; ++p) {
        for (const auto& ys : plan_.y.out) {
          for (const auto& xs : plan_.x.out) {
            const std::int64_t y = ys[static_cast<std::size_t>(here_[p].first)];
            const std::int64_t x = xs[static_cast<std::size_t>(here_[p].second)];
            const bool outside = first + p >= points.size() || y < 0 || x < 0;
            out_.point.push_back(outside ? -1 : static_cast<std::int32_t>(y * out_width() + x));
          }
        }
      }
      out_.most_cells = std::max(out_.most_cells, tile.cells * groups());
      out_.most_taps = std::max(out_.most_taps, taps);
      out_.cells_read += static_cast<double>(tile.cells) * columns_;
      out_.taps_done += static_cast<double>(taps) * static_cast<double>(places);
      for (; tile.part < tile.places; ++tile.part) {
        out_.tiles.push_back(tile);
      }
      first += places;
    }
  }

 private:
  std::int32_t cell_count() const { return static_cast<std::int32_t>(cells_.size()); }
  std::int64_t out_width() const {
    std::int64_t last = 0;
    for (const auto& xs : plan_.x.out) {
      last = std::max(last, *std::max_element(xs.begin(), xs.end()));
    }
    return last + 1;
  }
  /// What a point reads: body(tap along y, along x, place).
  template <class Body>
  void each_read(const Point& point, const Body& body) const {
    for (const auto& [ty, iy] : plan_.y.reads[static_cast<std::size_t>(point.first)]) {
      for (const auto& [tx, ix] : plan_.x.reads[static_cast<std::size_t>(point.second)]) {
        body(ty, tx, Point{iy, ix});
      }
    }
  }
  bool inside(const Point& place) const {
    const auto [y, x] = place;
    return y >= 0 && y < plan_.y.in && x >= 0 && x < plan_.x.in;
  }
  /// The places in the image that the points here read, row by row.
  void find_cells() {
    cells_.clear();
    for (const Point& p : here_) {
      each_read(p, [&](std::int64_t, std::int64_t, const Point& place) {
        if (inside(place)) {
          cells_.emplace(place, 0);
        }
      });
    }
    cells_.emplace(cells_.empty() ? Point{0, 0} : cells_.begin()->first, 0);  // there is one
    std::int32_t number = 0;
    for (auto& [place, n] : cells_) {
      n = number++;
    }
  }
  void add_cells(std::int32_t taps) {
    for (const auto& [place, n] : cells_) {
      out_.cell.push_back(static_cast<std::int32_t>(place.first * plan_.x.in + place.second));
    }
    const std::size_t places = here_.size();
    const std::size_t at = out_.index.size();
    out_.index.resize(at + static_cast<std::size_t>(taps) * places);
    for (std::size_t p = 0; p < places; ++p) {
      std::size_t to = at + p;
      each_read(here_[p], [&](std::int64_t, std::int64_t, const Point& place) {
        const bool second = p % 2 == 1 && out_.index[to - 1] != PatchTiles::kZerosBefore;
        out_.index[to] = inside(place) ? cells_.at(place)
                         : second      ? PatchTiles::kZerosBehind
                                       : PatchTiles::kZerosBefore;
        to += places;
      });
    }
  }

  const PatchPlan& plan_;
  std::int32_t columns_;
  PatchTiles& out_;
  std::vector<Point> here_;              // of the tile; empty places repeat the last point
  std::map<Point, std::int32_t> cells_;  // place -> number
};

}  // namespace detail

inline PatchTiles patch_tiles(const PatchPlan& plan, int columns) {
  PatchTiles out;
  const std::size_t height = columns >= 8 ? 2 : 1;
  detail::PatchTiler tiler(plan, columns, out);
  for (const auto& ys : detail::classes_of(plan.y)) {
    for (const auto& xs : detail::classes_of(plan.x)) {
      tiler.add(detail::in_strips(ys, xs, height));
    }
  }
  return out;
}

}  // namespace pavise::kernels::cuda
