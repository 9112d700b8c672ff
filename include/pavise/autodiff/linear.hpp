// SPDX-License-Identifier: MIT
// The operations that apply weights: convolution, transposed convolution, fully connected layer. All of them are one
// matrix micro-kernel run by a plan (kernels/pavise_kernels/cpu/gather_plan.hpp), in both directions.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "pavise/autodiff/over_batch.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

/// Options of conv2d and conv_transpose2d, as in PyTorch; the same along both axes.
struct ConvOptions {
  std::int64_t stride = 1;
  std::int64_t padding = 0;
  std::int64_t dilation = 1;
  std::int64_t groups = 1;
  std::int64_t output_padding = 0;  ///< of conv_transpose2d
  bool relu = false;                ///< applies max(0, .) to the result, at no cost of its own
};

namespace detail {

using kernels::ConvGeometry;

template <class T>
using OperatorKind = typename LinearOperator<T>::Kind;

template <class T>
bool is_winograd(OperatorKind<T> kind) {
  return kind == OperatorKind<T>::winograd_forward || kind == OperatorKind<T>::winograd_backward;
}

/// How a convolution is computed, from its shape alone: by Winograd's algorithm in float where that pays.
template <class T>
OperatorKind<T> choose_kind(const ConvGeometry& geometry, bool backward) {
  using Kind = OperatorKind<T>;
  if (std::is_same_v<T, float> && kernels::uses_winograd(geometry)) {
    return backward ? Kind::winograd_backward : Kind::winograd_forward;
  }
  return backward ? Kind::backward : Kind::forward;
}

template <class T>
void pack_operator(LinearOperator<T>& op, const T* weight, int lanes) {
  const std::int64_t rows = kernels::run([&](auto isa) { return tile_rows(isa, lanes); });
  auto& packed = op.packed[lanes == 1 ? 1 : 0];
  const auto parallel = [](std::int64_t n, const auto& body) { parallel_for(n, body); };
  if (is_winograd<T>(op.kind)) {
    kernels::pack_winograd(op.geometry, op.kind == OperatorKind<T>::winograd_backward, weight, rows, lanes == 1, packed,
                           parallel);
  } else {
    kernels::pack_weights(op.plan, weight, rows, lanes == 1, packed, parallel);
  }
}

template <class T>
void plan_operator(LinearOperator<T>& op, bool matrix) {
  using Kind = OperatorKind<T>;
  const ConvGeometry& g = op.geometry;
  const bool back = op.kind == Kind::backward || op.kind == Kind::winograd_backward;
  if (is_winograd<T>(op.kind)) {  // its products are over channels
    op.plan = kernels::matrix_plan(back ? g.in_channels : g.out_channels, back ? g.out_channels : g.in_channels, false);
  } else if (matrix) {
    op.plan = back ? kernels::matrix_plan(g.in_channels, g.out_channels, true)
                   : kernels::matrix_plan(g.out_channels, g.in_channels, false);
  } else {
    op.plan = back ? kernels::backward_plan(g) : kernels::forward_plan(g);
  }
}

/// The packed operator of a weight for this geometry. `matrix`: the geometry is that of a fully connected layer.
template <class T>
const LinearOperator<T>& operator_of(Var<T> weight, OperatorKind<T> kind, const ConvGeometry& geometry, bool matrix) {
  Tape<T>& tape = weight.tape();
  return tape.node(weight).parameter->linear_operator(kind, geometry, matrix, tape.lanes(), plan_operator<T>,
                                                      pack_operator<T>);
}

/// apply_operator for Winograd's algorithm. A template, so that only programs with convolutions compile it; T is float.
template <class T>
void apply_winograd(Tape<T>& tape, const LinearOperator<T>& op, const T* x, T* y, const kernels::Epilogue<T>& e) {
  const int lanes = tape.lanes();
  const kernels::WinogradShape shape{op.plan.taps, op.plan.rows, op.geometry.in_height, op.geometry.in_width};
  const std::int64_t points = shape.height * shape.width * lanes;
  tape.each_group([&](std::int64_t g) {
    thread_local AlignedVector<T> scratch;
    kernels::run([&](auto isa) {
      scratch.resize(static_cast<std::size_t>(winograd_scratch(isa, shape.channels) * lanes) + 16);
      auto epilogue = e;
      if (e.mask != nullptr) {
        epilogue.mask = e.mask + g * shape.rows * points;
      }
      winograd_conv(isa, shape, op.packed[lanes == 1 ? 1 : 0], op.plan.classes[0], x + g * shape.channels * points,
                    y + g * shape.rows * points, epilogue, scratch.data(), lanes);
    });
  });
}

/// y = operator(x), for every group of the tape; `e.mask` and y are [group][size][lanes].
template <class T>
void apply_operator(Tape<T>& tape, const LinearOperator<T>& op, const T* x, T* y, const kernels::Epilogue<T>& e) {
  if constexpr (std::is_same_v<T, float>) {
    if (is_winograd<T>(op.kind)) {
      apply_winograd(tape, op, x, y, e);
      return;
    }
  }
  const int lanes = tape.lanes();
  const auto& packed = op.packed[lanes == 1 ? 1 : 0];
  tape.each_group([&](std::int64_t g) {
    kernels::run([&](auto isa) {
      auto epilogue = e;
      if (e.mask != nullptr) {
        epilogue.mask = e.mask + g * op.plan.out_size * lanes;
      }
      gather_gemm<T>(isa, op.plan, packed, x + g * op.plan.in_size * lanes, y + g * op.plan.out_size * lanes, epilogue,
                     lanes);
    });
  });
}

template <class T>
void check_weight(const char* name, Var<T> weight, std::size_t rank, Var<T> bias, std::int64_t out) {
  require<ShapeError>(weight.shape().rank() == rank, name, ": the weight has ", rank, " axes, got ", weight.shape());
  require<Error>(weight.tape().node(weight).parameter != nullptr, name, ": the weight must be a parameter");
  if (bias) {
    require<ShapeError>(bias.shared() && bias.size() == out, name, ": weight ", weight.shape(), " expects a bias of ",
                        out, " elements, got ", bias.shape());
  }
}

/// db += sum over groups, points and lanes of dy, and the same for any channel of a (channels, points) gradient.
template <class T>
void add_bias_gradient(Tape<T>& tape, Var<T> bias, const T* dy, std::int64_t dy_size, std::int64_t points) {
  T* db = tape.target(bias).data;
  add_over_batch(tape, bias.size(), [&](const kernels::RunningSums<T>& running) {
    parallel_chunks(bias.size(), 8, [&](std::int64_t begin, std::int64_t end) {
      kernels::run([&](auto isa) {
        for (std::int64_t c = begin; c < end; ++c) {
          bias_gradient<T>(isa, dy, tape.groups(), dy_size, points, db, c, running);
        }
      });
    });
  });
}

/// dw += the weight gradient of a convolution with geometry g, whose input is x and whose output's gradient is dy.
template <class T>
void add_conv_weight_gradient(Tape<T>& tape, const ConvGeometry& g, const T* x, const T* dy, T* dw) {
  const auto mark = tape.arena().mark();
  const std::int64_t padded_height = g.in_height + 2 * g.padding;
  const std::int64_t padded_width = g.in_width + 2 * g.padding;
  const std::int64_t x_size = g.in_channels * g.in_height * g.in_width;
  const std::int64_t padded_size = g.in_channels * padded_height * padded_width;
  const T* padded = x;
  if (g.padding > 0) {
    T* copy = tape.arena().template allocate<T>(static_cast<std::size_t>(tape.groups() * padded_size * tape.lanes()));
    tape.each_group([&](std::int64_t group) {
      kernels::run([&](auto isa) {
        pad_image<T>(isa, x + group * x_size * tape.lanes(), copy + group * padded_size * tape.lanes(), g.in_channels,
                     g.in_height, g.in_width, g.padding);
      });
    });
    padded = copy;
  }
  const std::int64_t channels = g.in_channels / g.groups;
  const std::int64_t rows = g.out_channels / g.groups;
  std::vector<std::int32_t> offset;
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t ky = 0; ky < g.kernel_height; ++ky) {
      for (std::int64_t kx = 0; kx < g.kernel_width; ++kx) {
        offset.push_back(
            static_cast<std::int32_t>((c * padded_height + ky * g.dilation) * padded_width + kx * g.dilation));
      }
    }
  }
  const auto taps = static_cast<std::int64_t>(offset.size());
  const kernels::WeightGradientJob job{
      .groups = tape.groups(),
      .dy_size = g.out_channels * g.out_height * g.out_width,
      .x_size = padded_size,
      .out_height = g.out_height,
      .out_width = g.out_width,
      .x_row = g.stride * padded_width,
      .x_step = g.stride,
  };
  const auto [tile_rows, tile_taps] = kernels::run([](auto isa) { return weight_gradient_tile_size(isa); });
  const std::int64_t row_tiles = (rows + tile_rows - 1) / tile_rows;
  const std::int64_t tap_tiles = (taps + tile_taps - 1) / tile_taps;
  // As many tiles at a time as leave every thread some parts; the sums are the same whatever their number.
  const std::int64_t together =
      std::clamp<std::int64_t>(g.groups * row_tiles * tap_tiles / (4 * thread_count()), 1, kernels::kGradientTiles);
  const std::int64_t parts = (tap_tiles + together - 1) / together;
  add_over_batch(tape, g.groups * rows * taps, [&, rt = tile_rows, tt = tile_taps](const auto& running) {
    parallel_for(g.groups * row_tiles * parts, [&](std::int64_t i) {
      const std::int64_t group = i / (row_tiles * parts);
      const std::int64_t row = i / parts % row_tiles * rt;
      const std::int64_t tap = i % parts * tt * together;
      kernels::RunningSums<T> own = running;
      own.lanes = running.lanes != nullptr ? running.lanes + group * rows * taps * 16 : nullptr;
      kernels::run([&](auto isa) {
        weight_gradient<T>(isa, job, dy + group * rows * g.out_height * g.out_width * 16,
                           padded + group * channels * padded_height * padded_width * 16, offset,
                           dw + group * rows * taps, rows, row, tap, tap + tt * together, own);
      });
    });
  });
  tape.arena().rewind(mark);
}

/// dw (rows, columns) += dy x^T over all images, for a fully connected layer.
template <class T>
void add_matrix_weight_gradient(Tape<T>& tape, const T* x, std::int64_t columns, const T* dy, std::int64_t rows,
                                T* dw) {
  const auto mark = tape.arena().mark();
  const std::int64_t tiles = (columns + 15) / 16;
  const std::int64_t scratch_size = tape.groups() * 256;
  T* scratch = tape.arena().template allocate<T>(static_cast<std::size_t>(tiles * scratch_size));
  add_over_batch(tape, rows * tiles, [&](const kernels::RunningSums<T>& running) {
    parallel_for(tiles, [&](std::int64_t tile) {
      kernels::run([&](auto isa) {
        matrix_gradient<T>(isa, dy, x, tape.groups(), rows, columns, tile, scratch + tile * scratch_size, dw, running);
      });
    });
  });
  tape.arena().rewind(mark);
}

/// Where ReLU was fused into the node, makes its gradient that of the sum before it.
template <class T>
void mask_own_gradient(Tape<T>& tape, Var<T> y) {
  auto& n = tape.node(y);
  if (!n.relu || !n.unmasked) {
    return;
  }
  tape.each_group([&](std::int64_t g) {
    T* dy = n.gradient + g * n.size * tape.lanes();
    const T* v = n.value + g * n.size * tape.lanes();
    for (std::int64_t i = 0; i < n.size * tape.lanes(); ++i) {
      dy[i] = v[i] > T{0} ? dy[i] : T{0};
    }
  });
}

inline std::int64_t conv_extent(const char* name, std::int64_t in, std::int64_t kernel, const ConvOptions& o) {
  const std::int64_t span = o.dilation * (kernel - 1) + 1;
  require<ShapeError>(in + 2 * o.padding >= span, name, ": a kernel of ", kernel, " (dilation ", o.dilation,
                      ") does not fit in ", in, " with padding ", o.padding);
  return (in + 2 * o.padding - span) / o.stride + 1;
}

/// Of a convolution of images (C,H,W) by a weight (O, C/groups, KH, KW).
inline ConvGeometry conv_geometry(const char* name, const Shape& in, const Shape& weight, const ConvOptions& o) {
  return {.in_channels = in[0],
          .in_height = in[1],
          .in_width = in[2],
          .out_channels = weight[0],
          .kernel_height = weight[2],
          .kernel_width = weight[3],
          .stride = o.stride,
          .padding = o.padding,
          .dilation = o.dilation,
          .groups = o.groups,
          .out_height = conv_extent(name, in[1], weight[2], o),
          .out_width = conv_extent(name, in[2], weight[3], o)};
}

inline void check_options(const char* name, const ConvOptions& o) {
  require(o.stride >= 1 && o.dilation >= 1 && o.groups >= 1 && o.padding >= 0 && o.output_padding >= 0, name,
          ": stride ", o.stride, ", padding ", o.padding, ", dilation ", o.dilation, ", groups ", o.groups,
          ": expected stride, dilation, groups >= 1 and padding >= 0");
}

/// A fully connected layer of weight (O,I) as a convolution of one point.
inline ConvGeometry matrix_geometry(const Shape& weight) {
  return {.in_channels = weight[1],
          .in_height = 1,
          .in_width = 1,
          .out_channels = weight[0],
          .kernel_height = 1,
          .kernel_width = 1,
          .out_height = 1,
          .out_width = 1};
}

inline void check_addressable(const char* name, const ConvGeometry& g) {
  constexpr std::int64_t kLimit = std::int64_t{1} << 31;
  require<ShapeError>(
      g.in_channels * g.in_height * g.in_width < kLimit && g.out_channels * g.out_height * g.out_width < kLimit, name,
      ": an image of more than 2^31 elements");
}

/// The operation itself: y = operator(x) + bias, and its backward pass. `transposed`: the operator is the derivative of
/// the convolution or fully connected layer, so its own derivative is that layer.
template <class T>
Var<T> linear_map(const char* name, Var<T> x, Var<T> weight, Var<T> bias, const ConvGeometry& geometry, Shape shape,
                  bool matrix, bool relu, bool transposed = false) {
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result(name, shape, {x, weight, bias});
  tape.node(y).relu = relu;
  if (auto* trace = tape.trace()) {
    trace->push_back({.kind = TracedOperation<T>::Kind::linear,
                      .output = y.id(),
                      .inputs = {x.id(), -1},
                      .relu = relu,
                      .matrix = matrix,
                      .transposed = transposed,
                      .geometry = geometry,
                      .weight = tape.node(weight).parameter,
                      .bias = bias ? tape.node(bias).parameter : nullptr});
  }
  apply_operator<T>(tape, operator_of(weight, choose_kind<T>(geometry, transposed), geometry, matrix), x.data(),
                    y.data(),
                    {.bias = bias ? bias.data() : nullptr, .mask = nullptr, .relu = relu, .accumulate = false});
  tape.on_backward(y, [=](Tape<T>& t) {
    mask_own_gradient(t, y);
    const T* dy = t.gradient(y);
    if (t.needs_gradient(bias) && bias.size() > 0) {
      add_bias_gradient(t, bias, dy, y.size(), y.size() / bias.size());
    }
    if (t.needs_gradient(weight)) {
      T* dw = t.target(weight).data;
      if (matrix && transposed) {
        add_matrix_weight_gradient(t, dy, y.size(), x.data(), x.size(), dw);
      } else if (matrix) {
        add_matrix_weight_gradient(t, x.data(), x.size(), dy, y.size(), dw);
      } else {
        add_conv_weight_gradient(t, geometry, transposed ? dy : x.data(), transposed ? x.data() : dy, dw);
      }
    }
    if (t.needs_gradient(x)) {
      const auto& op = operator_of(weight, choose_kind<T>(geometry, !transposed), geometry, matrix);
      const auto target = t.target(x, true);
      apply_operator<T>(t, op, dy, target.data,
                        {.bias = nullptr, .mask = target.mask, .relu = false, .accumulate = target.accumulate});
    }
  });
  return y;
}

}  // namespace detail

/// Two-dimensional convolution (cross-correlation), as torch.nn.functional.conv2d for each image:
/// y[o][i][j] = bias[o] + sum over c, u, v of weight[o][c][u][v] * x[c][i*stride - padding + u*dilation][...].
/// x: (C,H,W); weight: parameter (O, C/groups, KH, KW); bias: parameter (O), or none (`{}`). Returns (O,OH,OW).
/// Throws ShapeError where they do not fit.
template <class T>
Var<T> conv2d(Var<T> x, Var<T> weight, Var<T> bias, ConvOptions options = {}) {
  detail::check_options("conv2d", options);
  const Shape& s = x.shape();
  const Shape& w = weight.shape();
  require<ShapeError>(s.rank() == 3 && !x.shared(), "conv2d: the input is (C,H,W), got ", s);
  detail::check_weight("conv2d", weight, 4, bias, w.rank() > 0 ? w[0] : 0);
  require<ShapeError>(s[0] == w[1] * options.groups && w[0] % options.groups == 0, "conv2d: weight ", w, " with ",
                      options.groups, " groups expects ", w[1] * options.groups,
                      " input channels and output channels divisible by the groups, got ", s);
  const kernels::ConvGeometry geometry = detail::conv_geometry("conv2d", s, w, options);
  detail::check_addressable("conv2d", geometry);
  return detail::linear_map("conv2d", x, weight, bias, geometry, Shape{w[0], geometry.out_height, geometry.out_width},
                            false, options.relu);
}

/// Fully connected layer: y[o] = bias[o] + sum over i of weight[o][i] * x[i]. x: any shape with I elements (flattened
/// in row-major order); weight: parameter (O,I); bias: parameter (O) or none. Returns (O).
template <class T>
Var<T> linear(Var<T> x, Var<T> weight, Var<T> bias, bool relu = false) {
  const Shape& w = weight.shape();
  detail::check_weight("linear", weight, 2, bias, w.rank() > 0 ? w[0] : 0);
  require<ShapeError>(!x.shared() && x.size() == w[1], "linear: weight ", w, " expects ", w[1], " inputs, got ",
                      x.shape());
  return detail::linear_map("linear", x, weight, bias, detail::matrix_geometry(w), Shape{w[0]}, true, relu);
}

/// The derivative of `linear` with respect to its input, as a forward operation: y[i] = sum over o of weight[o][i] *
/// x[o]. x: any shape with O elements; weight: parameter (O,I). Returns (I).
template <class T>
Var<T> linear_transpose(Var<T> x, Var<T> weight) {
  const Shape& w = weight.shape();
  detail::check_weight("linear_transpose", weight, 2, Var<T>{}, 0);
  require<ShapeError>(!x.shared() && x.size() == w[0], "linear_transpose: weight ", w, " expects ", w[0],
                      " inputs, got ", x.shape());
  return detail::linear_map("linear_transpose", x, weight, Var<T>{}, detail::matrix_geometry(w), Shape{w[1]}, true,
                            false, true);
}

/// Sum over i of weight[i] * x[i]: a fully connected layer of one output. x: as many elements as the weight, a parameter
/// of any shape. Returns (1).
template <class T>
Var<T> inner_product(Var<T> x, Var<T> weight) {
  detail::check_weight("inner_product", weight, weight.shape().rank(), Var<T>{}, 0);
  require<ShapeError>(!x.shared() && x.size() == weight.size(), "inner_product: weight ", weight.shape(), " expects ",
                      weight.size(), " elements, got ", x.shape());
  return detail::linear_map("inner_product", x, weight, Var<T>{}, detail::matrix_geometry(Shape{1, weight.size()}),
                            Shape{1}, true, false);
}

/// Transposed convolution, as torch.nn.functional.conv_transpose2d: the derivative of conv2d with respect to its input,
/// as a forward operation. x: (C,H,W); weight: parameter (C, O/groups, KH, KW); bias: parameter (O) or none. Returns
/// (O,OH,OW) with OH = (H-1)*stride - 2*padding + dilation*(KH-1) + output_padding + 1.
template <class T>
Var<T> conv_transpose2d(Var<T> x, Var<T> weight, Var<T> bias, ConvOptions options = {}) {
  detail::check_options("conv_transpose2d", options);
  const Shape& s = x.shape();
  const Shape& w = weight.shape();
  require<ShapeError>(s.rank() == 3 && !x.shared(), "conv_transpose2d: the input is (C,H,W), got ", s);
  detail::check_weight("conv_transpose2d", weight, 4, bias, w.rank() > 1 ? w[1] * options.groups : 0);
  require<ShapeError>(s[0] == w[0] && s[0] % options.groups == 0, "conv_transpose2d: weight ", w, " expects ", w[0],
                      " input channels, divisible by ", options.groups, " groups, got ", s);
  require(options.output_padding < std::max(options.stride, options.dilation), "conv_transpose2d: output padding ",
          options.output_padding, ", expected less than the stride or the dilation");
  const auto extent = [&](std::int64_t in, std::int64_t kernel) {
    return (in - 1) * options.stride - 2 * options.padding + options.dilation * (kernel - 1) + options.output_padding +
           1;
  };
  const std::int64_t height = extent(s[1], w[2]);
  const std::int64_t width = extent(s[2], w[3]);
  require<ShapeError>(height >= 1 && width >= 1, "conv_transpose2d: input ", s, " and weight ", w, " leave no output");
  // The convolution whose derivative this is goes from the output to the input.
  const kernels::ConvGeometry geometry{.in_channels = w[1] * options.groups,
                                       .in_height = height,
                                       .in_width = width,
                                       .out_channels = s[0],
                                       .kernel_height = w[2],
                                       .kernel_width = w[3],
                                       .stride = options.stride,
                                       .padding = options.padding,
                                       .dilation = options.dilation,
                                       .groups = options.groups,
                                       .out_height = s[1],
                                       .out_width = s[2]};
  detail::check_addressable("conv_transpose2d", geometry);
  return detail::linear_map("conv_transpose2d", x, weight, bias, geometry, Shape{geometry.in_channels, height, width},
                            false, options.relu, true);
}

}  // namespace pavise
