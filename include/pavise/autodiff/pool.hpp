// SPDX-License-Identifier: MIT
// Pooling: the maximum or the mean over windows, or over the whole of each channel.
#pragma once

#include <cstdint>

#include "pavise/autodiff/tape.hpp"

namespace pavise {

/// Options of max_pool2d and avg_pool2d, as in PyTorch; the same along both axes.
struct PoolOptions {
  std::int64_t kernel = 2;
  std::int64_t stride = 0;  ///< 0: the kernel's extent, so that windows lie side by side
  std::int64_t padding = 0;
  std::int64_t dilation = 1;      ///< of max_pool2d
  bool count_include_pad = true;  ///< of avg_pool2d: whether the padding counts as zeros in the mean
};

namespace detail {

inline kernels::ConvGeometry pool_geometry(const char* name, const Shape& s, bool shared, const PoolOptions& o) {
  require<ShapeError>(s.rank() == 3 && !shared, name, ": the input is (C,H,W), got ", s);
  require(o.kernel >= 1 && o.stride >= 0 && o.dilation >= 1 && o.padding >= 0, name, ": kernel ", o.kernel, ", stride ",
          o.stride, ", padding ", o.padding, ", dilation ", o.dilation,
          ": expected kernel, dilation >= 1 and stride, padding >= 0");
  require(2 * o.padding <= o.kernel, name, ": padding ", o.padding, ", expected at most half of the kernel (", o.kernel,
          ")");
  const std::int64_t stride = o.stride > 0 ? o.stride : o.kernel;
  const auto extent = [&](std::int64_t in) {
    const std::int64_t span = o.dilation * (o.kernel - 1) + 1;
    require<ShapeError>(in + 2 * o.padding >= span, name, ": a window of ", o.kernel, " (dilation ", o.dilation,
                        ") does not fit in ", in, " with padding ", o.padding);
    return (in + 2 * o.padding - span) / stride + 1;
  };
  return {.in_channels = s[0],
          .in_height = s[1],
          .in_width = s[2],
          .out_channels = s[0],
          .kernel_height = o.kernel,
          .kernel_width = o.kernel,
          .stride = stride,
          .padding = o.padding,
          .dilation = o.dilation,
          .out_height = extent(s[1]),
          .out_width = extent(s[2])};
}

/// One window over the whole of each channel.
inline kernels::ConvGeometry global_geometry(const char* name, const Shape& s, bool shared) {
  require<ShapeError>(s.rank() == 3 && !shared, name, ": the input is (C,H,W), got ", s);
  require<ShapeError>(s[1] >= 1 && s[2] >= 1, name, ": channels of at least one element are expected, got ", s);
  return {.in_channels = s[0],
          .in_height = s[1],
          .in_width = s[2],
          .out_channels = s[0],
          .kernel_height = s[1],
          .kernel_width = s[2],
          .out_height = 1,
          .out_width = 1};
}

template <class T>
Var<T> max_pool(const char* name, Var<T> x, const kernels::ConvGeometry& geometry, Shape shape) {
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result(name, shape, {x});
  if (auto* trace = tape.trace()) {
    trace->push_back(
        {.kind = TracedOperation<T>::Kind::max_pool, .output = y.id(), .inputs = {x.id(), -1}, .geometry = geometry});
  }
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) { max_pool<T>(isa, geometry, x.data(g), y.data(g), tape.lanes()); });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto target = t.target(x, true);
    const std::int64_t step = x.size() * t.lanes();
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        max_pool_backward<T>(isa, geometry, x.data(g), y.data(g), t.gradient(y, g), target.data + g * step,
                             target.accumulate, target.mask != nullptr ? target.mask + g * step : nullptr, t.lanes());
      });
    });
  });
  return y;
}

template <class T>
Var<T> avg_pool(const char* name, Var<T> x, const kernels::ConvGeometry& geometry, Shape shape, bool include_padding) {
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result(name, shape, {x});
  if (auto* trace = tape.trace()) {
    trace->push_back({.kind = TracedOperation<T>::Kind::avg_pool,
                      .output = y.id(),
                      .inputs = {x.id(), -1},
                      .include_padding = include_padding,
                      .geometry = geometry});
  }
  tape.each_group([&](std::int64_t g) {
    kernels::run_light(
        [&](auto isa) { avg_pool<T>(isa, geometry, include_padding, x.data(g), y.data(g), tape.lanes()); });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto target = t.target(x, true);
    const std::int64_t step = x.size() * t.lanes();
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        avg_pool_backward<T>(isa, geometry, include_padding, t.gradient(y, g), target.data + g * step,
                             target.accumulate, target.mask != nullptr ? target.mask + g * step : nullptr, t.lanes());
      });
    });
  });
  return y;
}

}  // namespace detail

/// The largest element of each window, as torch.nn.functional.max_pool2d for each image: padding never wins, NaN always
/// does. The derivative goes to the first maximum in row-major order (to the last NaN). x: (C,H,W). Returns (C,OH,OW)
/// with OH = floor((H + 2*padding - dilation*(kernel-1) - 1) / stride) + 1. Throws ShapeError where no window fits,
/// ValueError for a padding of more than half of the kernel.
template <class T>
Var<T> max_pool2d(Var<T> x, PoolOptions options = {}) {
  const auto g = detail::pool_geometry("max_pool2d", x.shape(), x.shared(), options);
  return detail::max_pool("max_pool2d", x, g, Shape{g.out_channels, g.out_height, g.out_width});
}

/// The mean of each window, as torch.nn.functional.avg_pool2d for each image. x: (C,H,W). Returns (C,OH,OW), as
/// max_pool2d. Throws ShapeError where no window fits, ValueError for a dilation or a padding of more than half of the
/// kernel.
template <class T>
Var<T> avg_pool2d(Var<T> x, PoolOptions options = {}) {
  require(options.dilation == 1, "avg_pool2d: dilation ", options.dilation, ", expected 1");
  const auto g = detail::pool_geometry("avg_pool2d", x.shape(), x.shared(), options);
  return detail::avg_pool("avg_pool2d", x, g, Shape{g.out_channels, g.out_height, g.out_width},
                          options.count_include_pad);
}

/// The largest element of each channel. x: (C,H,W). Returns (C). Ties and NaN as in max_pool2d.
template <class T>
Var<T> global_max_pool(Var<T> x) {
  const auto g = detail::global_geometry("global_max_pool", x.shape(), x.shared());
  return detail::max_pool("global_max_pool", x, g, Shape{g.out_channels});
}

/// The mean of each channel. x: (C,H,W). Returns (C).
template <class T>
Var<T> global_avg_pool(Var<T> x) {
  const auto g = detail::global_geometry("global_avg_pool", x.shape(), x.shared());
  return detail::avg_pool("global_avg_pool", x, g, Shape{g.out_channels}, true);
}

}  // namespace pavise
