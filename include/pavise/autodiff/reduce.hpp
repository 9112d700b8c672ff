// SPDX-License-Identifier: MIT
// Reductions over axes of one image: sum, mean, max, min. The lanes (the batch) are never reduced. Sums have a fixed
// order.
#pragma once

#include <cstdint>
#include <initializer_list>

#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

/// The axes that a reduction removes; negative ones count from the end. Without any: all of them, and the result is ().
using Axes = std::initializer_list<int>;

namespace detail {

struct ReduceLoops {
  kernels::StridedLoop kept, reduced;
  Shape shape;
};

inline ReduceLoops reduce_loops(const char* name, const Shape& s, Axes axes, bool keepdim) {
  const auto rank = static_cast<int>(s.rank());
  bool gone[Shape::kMaxRank] = {};
  for (const int axis : axes) {
    const int i = axis < 0 ? axis + rank : axis;
    require<ShapeError>(i >= 0 && i < rank, name, ": shape ", s, " has no axis ", axis);
    require<ShapeError>(!gone[i], name, ": axis ", axis, " is named twice");
    gone[i] = true;
  }
  std::int64_t extent[Shape::kMaxRank] = {};
  std::size_t out_rank = 0;
  std::int64_t in_stride[Shape::kMaxRank] = {};
  std::int64_t out_stride[Shape::kMaxRank] = {};
  std::int64_t in_step = 1;
  std::int64_t out_step = 1;
  for (int d = rank - 1; d >= 0; --d) {
    gone[d] = gone[d] || axes.size() == 0;
    in_stride[d] = in_step;
    out_stride[d] = out_step;
    in_step *= s[d];
    out_step *= gone[d] ? 1 : s[d];
  }
  ReduceLoops loops;
  for (int d = 0; d < rank; ++d) {
    (gone[d] ? loops.reduced : loops.kept).push(s[d], in_stride[d], gone[d] ? 0 : out_stride[d]);
    if (!gone[d] || keepdim) {
      extent[out_rank++] = gone[d] ? 1 : s[d];
    }
  }
  loops.kept = loops.kept.collapsed();
  loops.reduced = loops.reduced.collapsed();
  loops.shape = Shape(extent, out_rank);
  return loops;
}

template <kernels::Reduction R, class T>
Var<T> reduce(const char* name, Var<T> x, Axes axes, bool keepdim, bool mean = false) {
  x = spread(x);
  Tape<T>& tape = x.tape();
  const ReduceLoops loops = reduce_loops(name, x.shape(), axes, keepdim);
  const std::int64_t count = loops.reduced.count();
  require<ShapeError>(count > 0 || (R == kernels::Reduction::sum && !mean), name, ": shape ", x.shape(),
                      " has no elements to take it of");
  const T scale = mean ? T{1} / static_cast<T>(count) : T{1};
  Var<T> y = tape.result(name, loops.shape, {x});
  if (R == kernels::Reduction::sum && !mean) {
    trace_function(y, {x}, [&] { return traced::Sum{loops.kept, loops.reduced}; });
  }
  const int lanes = tape.lanes();
  tape.each_group([&](std::int64_t g) {
    kernels::run_light(
        [&](auto isa) { reduce_forward<R, T>(isa, loops.kept, loops.reduced, x.data(g), y.data(g), scale, lanes); });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto target = t.target(x);
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        reduce_backward<R, T>(isa, loops.kept, loops.reduced, x.data(g), y.data(g), t.gradient(y, g),
                              target.data + g * x.size() * lanes, scale, target.accumulate, lanes);
      });
    });
  });
  return y;
}

}  // namespace detail

/// Sum over `axes`, or over everything. `keepdim`: reduced axes stay with extent 1. Throws ShapeError for axes that are
/// not there; so do the others.
template <class T>
Var<T> sum(Var<T> x, Axes axes = {}, bool keepdim = false) {
  return detail::reduce<kernels::Reduction::sum>("sum", x, axes, keepdim);
}
/// Mean over `axes`, or over everything.
template <class T>
Var<T> mean(Var<T> x, Axes axes = {}, bool keepdim = false) {
  return detail::reduce<kernels::Reduction::sum>("mean", x, axes, keepdim, true);
}
/// The largest element along `axes`, NaN if there is one. Its gradient goes to the first of equals.
template <class T>
Var<T> max(Var<T> x, Axes axes = {}, bool keepdim = false) {
  return detail::reduce<kernels::Reduction::max>("max", x, axes, keepdim);
}
/// The smallest element along `axes`, NaN if there is one. Its gradient goes to the first of equals.
template <class T>
Var<T> min(Var<T> x, Axes axes = {}, bool keepdim = false) {
  return detail::reduce<kernels::Reduction::min>("min", x, axes, keepdim);
}

}  // namespace pavise
