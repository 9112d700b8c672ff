// SPDX-License-Identifier: MIT
// How a linear map that gathers becomes work for the matrix micro-kernel. A convolution, its derivative with respect to
// the input, a transposed convolution and a fully connected layer (and its derivative) are all
//
//   out[row][point] = bias[row] + sum over taps t of  weight[row][t] * in[base(point) + offset(t)]
//
// A *tap* is one weight of a row and the place that it reads. Points with the same taps form a class: the inside of an
// image is one, each kind of border another (taps that fall outside are left out, so nothing is padded), and the
// derivative of a strided convolution has one for each phase of the stride. Built once for a layer; kernels only read
// it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace pavise::kernels {

/// Taps [begin, begin+count) of a class read consecutive packed weights, from packed tap `weight` on.
struct TapSegment {
  std::int32_t weight;
  std::int32_t begin;
  std::int32_t count;
};

/// The taps that a point of this class reads, in the order in which they are added.
struct TapClass {
  std::vector<std::int32_t> offset;  ///< element of the input, relative to the point's base
  std::vector<TapSegment> segments;
};

/// `count` points of one class, evenly spaced in input and output.
struct PointRun {
  std::int32_t tap_class;
  std::int32_t count;
  std::int64_t in, in_step;
  std::int64_t out, out_step;
};

/// The extents of a two-dimensional convolution of one image: in (C,H,W), weight (O, C/groups, KH, KW), out (O, OH,
/// OW).
struct ConvGeometry {
  std::int64_t in_channels = 0, in_height = 0, in_width = 0;
  std::int64_t out_channels = 0, kernel_height = 0, kernel_width = 0;
  std::int64_t stride = 1, padding = 0, dilation = 1, groups = 1;
  std::int64_t out_height = 0, out_width = 0;
  friend bool operator==(const ConvGeometry&, const ConvGeometry&) = default;
};

struct GatherPlan {
  std::int64_t rows = 0;  ///< of each group of channels
  std::int64_t taps = 0;  ///< of each row
  std::int64_t channel_groups = 1;
  std::int64_t in_size = 0;  ///< elements of the whole input and output, of one image
  std::int64_t out_size = 0;
  std::int64_t in_group = 0;  ///< elements from one group of channels to the next
  std::int64_t out_group = 0;
  std::int64_t out_row = 0;              ///< elements from one row of the output to the next
  std::vector<std::int64_t> tap_source;  ///< packed tap -> element of the weight, for row 0 of group 0
  std::int64_t weight_row = 0;           ///< elements of the weight from one row to the next
  std::int64_t weight_group = 0;         ///< and from one group to the next
  std::vector<TapClass> classes;
  std::vector<PointRun> runs;
  std::vector<std::int32_t> blocks;  ///< runs [blocks[i], blocks[i+1]) go through all rows together
  ConvGeometry derivative_of{};      ///< the convolution whose derivative by its input this is; no channels: it is none
};

/// What happens to a sum before it is stored.
template <class T>
struct Epilogue {
  const T* bias = nullptr;  ///< one for each row of all groups of channels
  const T* mask = nullptr;  ///< as the output; where it is not positive, 0 is stored (the derivative of ReLU)
  bool relu = false;
  bool accumulate = false;  ///< adds to what is there
};

/// Tiles of taps that one call of weight_gradient takes, at most.
inline constexpr std::int64_t kGradientTiles = 4;

/// What a tile of a convolution's weight gradient reads.
struct WeightGradientJob {
  std::int64_t groups;           ///< groups of sixteen images
  std::int64_t dy_size, x_size;  ///< elements of one group's output gradient and padded input
  std::int64_t out_height, out_width;
  std::int64_t x_row, x_step;  ///< elements of the padded input from one output row, and column, to the next
};

namespace detail {

/// Which kernel positions k meet which input positions, for one output position along one axis.
using AxisTaps = std::vector<std::pair<std::int64_t, std::int64_t>>;  // (k, input position)

/// Output positions along one axis that read the same kernel positions at the same distances.
struct AxisClass {
  AxisTaps taps;  ///< (k, input position relative to the anchor)
  /// The positions, and the input position that each one's distances count from.
  std::vector<std::int64_t> out, anchor;
};

inline std::vector<AxisClass> classify(const std::vector<AxisTaps>& positions) {
  std::vector<AxisClass> classes;
  for (std::size_t p = 0; p < positions.size(); ++p) {
    AxisTaps relative = positions[p];
    const std::int64_t anchor = relative.empty() ? 0 : relative.front().second;
    for (auto& tap : relative) {
      tap.second -= anchor;
    }
    std::size_t c = 0;
    while (c < classes.size() && classes[c].taps != relative) {
      ++c;
    }
    if (c == classes.size()) {
      classes.push_back({std::move(relative), {}, {}});
    }
    classes[c].out.push_back(static_cast<std::int64_t>(p));
    classes[c].anchor.push_back(anchor);
  }
  return classes;
}

inline std::vector<AxisTaps> forward_taps(std::int64_t out, std::int64_t in, std::int64_t kernel, std::int64_t stride,
                                          std::int64_t padding, std::int64_t dilation) {
  std::vector<AxisTaps> positions(static_cast<std::size_t>(out));
  for (std::int64_t o = 0; o < out; ++o) {
    for (std::int64_t k = 0; k < kernel; ++k) {
      const std::int64_t i = o * stride - padding + k * dilation;
      if (i >= 0 && i < in) {
        positions[static_cast<std::size_t>(o)].emplace_back(k, i);
      }
    }
  }
  return positions;
}

/// The transpose of forward_taps: for each input position, the outputs that read it.
inline std::vector<AxisTaps> backward_taps(std::int64_t out, std::int64_t in, std::int64_t kernel, std::int64_t stride,
                                           std::int64_t padding, std::int64_t dilation) {
  std::vector<AxisTaps> positions(static_cast<std::size_t>(in));
  for (std::int64_t i = 0; i < in; ++i) {
    for (std::int64_t k = 0; k < kernel; ++k) {
      const std::int64_t scaled = i + padding - k * dilation;
      if (scaled >= 0 && scaled % stride == 0 && scaled / stride < out) {
        positions[static_cast<std::size_t>(i)].emplace_back(k, scaled / stride);
      }
    }
  }
  return positions;
}

/// Runs of evenly spaced positions of a class along the row, so that the kernel can take several at a time.
inline void append_runs(GatherPlan& plan, std::int32_t tap_class, const AxisClass& x, std::int64_t in_base,
                        std::int64_t out_base) {
  std::size_t i = 0;
  while (i < x.out.size()) {
    std::size_t n = 1;
    std::int64_t in_step = 0;
    std::int64_t out_step = 0;
    if (i + 1 < x.out.size()) {
      in_step = x.anchor[i + 1] - x.anchor[i];
      out_step = x.out[i + 1] - x.out[i];
      while (i + n < x.out.size() && x.anchor[i + n] - x.anchor[i + n - 1] == in_step &&
             x.out[i + n] - x.out[i + n - 1] == out_step) {
        ++n;
      }
    }
    plan.runs.push_back(
        {tap_class, static_cast<std::int32_t>(n), in_base + x.anchor[i], in_step, out_base + x.out[i], out_step});
    i += n;
  }
}

/// Input (in elements of one image) above which a block is one row of points: what a thread re-reads should stay in L2.
inline constexpr std::int64_t kBlockElements = 6000;

/// Fills classes, runs, blocks and tap_source from the taps along both axes. `phase`, for each kernel position: taps of
/// one phase are packed together. `weight_channel`: elements of the weight from one reduction channel to the next.
inline void build(GatherPlan& plan, std::int64_t channels, std::int64_t kernel_width, std::int64_t in_height,
                  std::int64_t in_width, std::int64_t out_width, const std::vector<AxisTaps>& y_taps,
                  const std::vector<AxisTaps>& x_taps, std::int64_t weight_channel,
                  const std::vector<std::int64_t>& phase) {
  const auto kernel = static_cast<std::int64_t>(phase.size());
  plan.taps = channels * kernel;
  // Packed order: by phase, then channel, then kernel position.
  std::vector<std::pair<std::int64_t, std::int64_t>> order;  // (phase, kernel position)
  for (std::int64_t k = 0; k < kernel; ++k) {
    order.emplace_back(phase[static_cast<std::size_t>(k)], k);
  }
  std::sort(order.begin(), order.end());
  std::vector<std::int32_t> packed(static_cast<std::size_t>(plan.taps));  // (c, k) -> packed tap
  plan.tap_source.clear();
  for (std::size_t first = 0; first < order.size();) {
    std::size_t last = first;
    while (last < order.size() && order[last].first == order[first].first) {
      ++last;
    }
    for (std::int64_t c = 0; c < channels; ++c) {
      for (std::size_t i = first; i < last; ++i) {
        const std::int64_t k = order[i].second;
        packed[static_cast<std::size_t>(c * kernel + k)] = static_cast<std::int32_t>(plan.tap_source.size());
        plan.tap_source.push_back(c * weight_channel + k);
      }
    }
    first = last;
  }

  const auto y_classes = classify(y_taps);
  const auto x_classes = classify(x_taps);
  for (const auto& y : y_classes) {
    for (const auto& x : x_classes) {
      TapClass taps;
      for (std::int64_t c = 0; c < channels; ++c) {
        for (const auto& [ky, dy] : y.taps) {
          for (const auto& [kx, dx] : x.taps) {
            const auto weight = packed[static_cast<std::size_t>(c * kernel + ky * kernel_width + kx)];
            const auto at = static_cast<std::int32_t>(taps.offset.size());
            taps.offset.push_back(static_cast<std::int32_t>((c * in_height + dy) * in_width + dx));
            if (!taps.segments.empty() && taps.segments.back().weight + taps.segments.back().count == weight) {
              ++taps.segments.back().count;
            } else {
              taps.segments.push_back({weight, at, 1});
            }
          }
        }
      }
      plan.classes.push_back(std::move(taps));
    }
  }
  // Runs in the order of the output's rows.
  std::vector<std::pair<std::size_t, std::size_t>> row_class(y_taps.size());
  for (std::size_t c = 0; c < y_classes.size(); ++c) {
    for (std::size_t i = 0; i < y_classes[c].out.size(); ++i) {
      row_class[static_cast<std::size_t>(y_classes[c].out[i])] = {c, i};
    }
  }
  const bool one_block = plan.in_size <= kBlockElements;
  for (std::size_t y = 0; y < y_taps.size(); ++y) {
    if (y == 0 || !one_block) {
      plan.blocks.push_back(static_cast<std::int32_t>(plan.runs.size()));
    }
    const auto [c, i] = row_class[y];
    for (std::size_t x = 0; x < x_classes.size(); ++x) {
      append_runs(plan, static_cast<std::int32_t>(c * x_classes.size() + x), x_classes[x],
                  y_classes[c].anchor[i] * in_width, static_cast<std::int64_t>(y) * out_width);
    }
  }
  plan.blocks.push_back(static_cast<std::int32_t>(plan.runs.size()));
}

}  // namespace detail

/// The plan of a convolution: rows are output channels.
inline GatherPlan forward_plan(const ConvGeometry& g) {
  GatherPlan plan;
  const std::int64_t channels = g.in_channels / g.groups;
  plan.rows = g.out_channels / g.groups;
  plan.channel_groups = g.groups;
  plan.in_size = g.in_channels * g.in_height * g.in_width;
  plan.out_size = g.out_channels * g.out_height * g.out_width;
  plan.in_group = channels * g.in_height * g.in_width;
  plan.out_row = g.out_height * g.out_width;
  plan.out_group = plan.rows * plan.out_row;
  plan.weight_row = channels * g.kernel_height * g.kernel_width;
  plan.weight_group = plan.rows * plan.weight_row;
  const std::int64_t kernel = g.kernel_height * g.kernel_width;
  detail::build(plan, channels, g.kernel_width, g.in_height, g.in_width, g.out_width,
                detail::forward_taps(g.out_height, g.in_height, g.kernel_height, g.stride, g.padding, g.dilation),
                detail::forward_taps(g.out_width, g.in_width, g.kernel_width, g.stride, g.padding, g.dilation), kernel,
                std::vector<std::int64_t>(static_cast<std::size_t>(kernel), 0));
  return plan;
}

/// The plan of the convolution's derivative with respect to its input (which is also the forward of the transposed
/// convolution): it reads the output's gradient (O,OH,OW) and writes (C,H,W); rows are input channels.
inline GatherPlan backward_plan(const ConvGeometry& g) {
  GatherPlan plan;
  plan.derivative_of = g;
  const std::int64_t out_channels = g.out_channels / g.groups;
  const std::int64_t kernel = g.kernel_height * g.kernel_width;
  plan.rows = g.in_channels / g.groups;
  plan.channel_groups = g.groups;
  plan.in_size = g.out_channels * g.out_height * g.out_width;
  plan.out_size = g.in_channels * g.in_height * g.in_width;
  plan.in_group = out_channels * g.out_height * g.out_width;
  plan.out_row = g.in_height * g.in_width;
  plan.out_group = plan.rows * plan.out_row;
  plan.weight_row = kernel;
  plan.weight_group = out_channels * plan.rows * kernel;
  // Kernel positions that meet the same input positions, those of one phase of the stride.
  std::vector<std::int64_t> phase;
  for (std::int64_t ky = 0; ky < g.kernel_height; ++ky) {
    for (std::int64_t kx = 0; kx < g.kernel_width; ++kx) {
      phase.push_back(ky * g.dilation % g.stride * g.stride + kx * g.dilation % g.stride);
    }
  }
  detail::build(plan, out_channels, g.kernel_width, g.out_height, g.out_width, g.in_width,
                detail::backward_taps(g.out_height, g.in_height, g.kernel_height, g.stride, g.padding, g.dilation),
                detail::backward_taps(g.out_width, g.in_width, g.kernel_width, g.stride, g.padding, g.dilation),
                plan.rows * kernel, phase);
  return plan;
}

/// The plan of a matrix product out = W in for W (rows, taps) row-major, or of W transposed where `transposed`.
inline GatherPlan matrix_plan(std::int64_t rows, std::int64_t taps, bool transposed) {
  GatherPlan plan;
  plan.rows = rows;
  plan.taps = taps;
  plan.in_size = taps;
  plan.out_size = rows;
  plan.out_row = 1;
  plan.weight_row = transposed ? 1 : taps;
  TapClass all;
  for (std::int64_t t = 0; t < taps; ++t) {
    plan.tap_source.push_back(transposed ? t * rows : t);
    all.offset.push_back(static_cast<std::int32_t>(t));
  }
  all.segments.push_back({0, 0, static_cast<std::int32_t>(taps)});
  plan.classes.push_back(std::move(all));
  plan.runs.push_back({0, 1, 0, 0, 0, 0});
  plan.blocks = {0, 1};
  return plan;
}

}  // namespace pavise::kernels
