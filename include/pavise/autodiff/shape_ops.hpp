// SPDX-License-Identifier: MIT
// Operations that move elements and compute nothing: reshape and flatten (free), slice, concat, pad, permute,
// transpose.
#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <utility>

#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

namespace detail {

inline void row_major_strides(const Shape& s, std::int64_t (&stride)[Shape::kMaxRank]) {
  std::int64_t step = 1;
  for (auto d = static_cast<int>(s.rank()) - 1; d >= 0; --d) {
    stride[d] = step;
    step *= s[d];
  }
}

inline int checked_axis(const char* name, const Shape& s, int axis) {
  const int i = axis < 0 ? axis + static_cast<int>(s.rank()) : axis;
  require<ShapeError>(i >= 0 && i < static_cast<int>(s.rank()), name, ": shape ", s, " has no axis ", axis);
  return i;
}

/// A box of one array that is copied to a box of another: loops (array 0: y, array 1: x) and where the boxes begin.
struct BoxCopy {
  kernels::StridedLoop loop;
  std::int64_t y_begin = 0;
  std::int64_t x_begin = 0;
};

/// The same copy the other way round.
inline kernels::StridedLoop reversed(kernels::StridedLoop loop) {
  for (int d = 0; d < loop.rank; ++d) {
    std::swap(loop.stride[0][d], loop.stride[1][d]);
  }
  return loop;
}

template <class T>
void copy_forward(Tape<T>& tape, const BoxCopy& box, Var<T> x, Var<T> y) {
  const int lanes = tape.lanes();
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      strided_copy<T>(isa, box.loop, x.data(g) + box.x_begin * lanes, y.data(g) + box.y_begin * lanes, false, lanes);
    });
  });
}

/// dx += dy through the box; elements of x outside of it get nothing.
template <class T>
void copy_backward(Tape<T>& tape, const BoxCopy& box, Var<T> x, Var<T> y) {
  if (!tape.needs_gradient(x)) {
    return;
  }
  const int lanes = tape.lanes();
  const bool covered = box.loop.count() == x.size();
  bool accumulate = true;
  T* dx = nullptr;
  if (covered) {
    const auto target = tape.target(x);
    dx = target.data;
    accumulate = target.accumulate;
  } else {
    dx = tape.add_target(x);
  }
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      strided_copy<T>(isa, reversed(box.loop), tape.gradient(y, g) + box.y_begin * lanes,
                      dx + (g * x.size() + box.x_begin) * lanes, accumulate, lanes);
    });
  });
}

template <class T>
traced::Boxes::Box traced_box(const BoxCopy& box, Var<T> x) {
  return {box.loop, box.y_begin, box.x_begin, box.loop.count() == x.size()};
}

/// The copy of a box of extents `extent`, at `x_at` in x and `y_at` in y.
inline BoxCopy box_copy(const Shape& x, const std::int64_t* x_at, const Shape& y, const std::int64_t* y_at,
                        const Shape& extent) {
  std::int64_t xs[Shape::kMaxRank];
  std::int64_t ys[Shape::kMaxRank];
  row_major_strides(x, xs);
  row_major_strides(y, ys);
  BoxCopy box;
  for (int d = 0; d < static_cast<int>(x.rank()); ++d) {
    box.loop.push(extent[d], ys[d], xs[d]);
    box.x_begin += x_at[d] * xs[d];
    box.y_begin += y_at[d] * ys[d];
  }
  box.loop = box.loop.collapsed();
  return box;
}

}  // namespace detail

/// The same elements in row-major order under another shape: no copy, neither forward nor backward. A parameter stays
/// one. Throws ShapeError where the number of elements differs.
template <class T>
Var<T> reshape(Var<T> x, Shape shape) {
  require<ShapeError>(shape.numel() == x.size(), "reshape: ", x.shape(), " has ", x.size(), " elements, ", shape,
                      " has ", shape.numel());
  Tape<T>& tape = x.tape();
  const auto from = tape.node(x);
  Var<T> y = tape.view(shape, from.value, from.needs_gradient);
  auto& n = tape.node(y);
  n.name = "reshape";
  if (from.shared) {  // another view of the parameter and of its gradient
    n.shared = true;
    n.parameter = from.parameter;
    n.gradient = from.gradient;
    n.has_gradient = from.has_gradient;
    return y;
  }
  if (auto* trace = tape.trace()) {
    trace->push_back({.kind = TracedOperation<T>::Kind::reshape, .output = y.id(), .inputs = {x.id(), -1}});
  }
  tape.on_backward(y, [=](Tape<T>& t) {
    auto& to = t.node(x);
    to.unmasked = to.unmasked || to.relu;
    if (!to.has_gradient) {  // nobody needs the gradient of y any more: x goes on with it
      to.gradient = t.node(y).gradient;
      to.has_gradient = true;
      return;
    }
    const std::int64_t n = x.size();
    kernels::StridedLoop loop;
    loop.push(n, 1, 1);
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        strided_copy<T>(isa, loop, t.gradient(y, g), to.gradient + g * n * t.lanes(), true, t.lanes());
      });
    });
  });
  return y;
}

/// All elements in one axis.
template <class T>
Var<T> flatten(Var<T> x) {
  return reshape(x, Shape{x.size()});
}

/// Elements [begin, end) of axis `axis`. Throws ShapeError for an axis or a range that is not there.
template <class T>
Var<T> slice(Var<T> x, int axis, std::int64_t begin, std::int64_t end) {
  x = spread(x);
  const Shape s = x.shape();
  axis = detail::checked_axis("slice", s, axis);
  require<ShapeError>(begin >= 0 && begin <= end && end <= s[axis], "slice: [", begin, ", ", end, ") of axis ", axis,
                      " of shape ", s);
  Shape out = s;
  out.set(axis, end - begin);
  std::int64_t at[Shape::kMaxRank] = {};
  const std::int64_t zero[Shape::kMaxRank] = {};
  at[axis] = begin;
  const auto box = detail::box_copy(s, at, out, zero, out);
  Var<T> y = x.tape().result("slice", out, {x});
  trace_function(y, {x}, [&] { return traced::Boxes{{detail::traced_box(box, x)}}; });
  detail::copy_forward(x.tape(), box, x, y);
  x.tape().on_backward(y, [=](Tape<T>& t) { detail::copy_backward(t, box, x, y); });
  return y;
}

/// a, then b, along `axis`; the other extents are equal. Throws ShapeError where they are not.
template <class T>
Var<T> concat(Var<T> a, Var<T> b, int axis) {
  a = spread(a);
  b = spread(b);
  const Shape sa = a.shape();
  const Shape sb = b.shape();
  axis = detail::checked_axis("concat", sa, axis);
  bool fits = sa.rank() == sb.rank();
  for (int d = 0; fits && d < static_cast<int>(sa.rank()); ++d) {
    fits = d == axis || sa[d] == sb[d];
  }
  require<ShapeError>(fits, "concat: shapes ", sa, " and ", sb, " along axis ", axis);
  Shape out = sa;
  out.set(axis, sa[axis] + sb[axis]);
  const std::int64_t zero[Shape::kMaxRank] = {};
  std::int64_t at[Shape::kMaxRank] = {};
  at[axis] = sa[axis];
  const auto box_a = detail::box_copy(sa, zero, out, zero, sa);
  const auto box_b = detail::box_copy(sb, zero, out, at, sb);
  Var<T> y = a.tape().result("concat", out, {a, b});
  trace_function(y, {a, b}, [&] {
    return traced::Boxes{{detail::traced_box(box_a, a), detail::traced_box(box_b, b)}};
  });
  detail::copy_forward(a.tape(), box_a, a, y);
  detail::copy_forward(a.tape(), box_b, b, y);
  a.tape().on_backward(y, [=](Tape<T>& t) {
    detail::copy_backward(t, box_a, a, y);
    detail::copy_backward(t, box_b, b, y);
  });
  return y;
}

/// Several values along `axis`: the first, then the second, ...
template <class T>
Var<T> concat(std::initializer_list<Var<T>> values, int axis) {
  require<ShapeError>(values.size() >= 1, "concat: no values");
  Var<T> y = *values.begin();
  for (const Var<T>* v = values.begin() + 1; v != values.end(); ++v) {
    y = concat(y, *v, axis);
  }
  return y;
}

/// x with `value` around it: before[d] elements in front of axis d and after[d] behind, for every axis.
template <class T>
Var<T> pad(Var<T> x, Shape before, Shape after, detail::Scalar<T> value = 0) {
  x = spread(x);
  const Shape s = x.shape();
  require<ShapeError>(before.rank() == s.rank() && after.rank() == s.rank(), "pad: shape ", s, " with ", before,
                      " before and ", after, " after it, expected as many axes");
  Shape out = s;
  for (int d = 0; d < static_cast<int>(s.rank()); ++d) {
    out.set(d, before[d] + s[d] + after[d]);
  }
  const std::int64_t zero[Shape::kMaxRank] = {};
  const auto box = detail::box_copy(s, zero, out, before.begin(), s);
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result("pad", out, {x});
  tape.each_group([&](std::int64_t g) { std::fill_n(y.data(g), y.size() * tape.lanes(), value); });
  detail::copy_forward(tape, box, x, y);
  tape.on_backward(y, [=](Tape<T>& t) { detail::copy_backward(t, box, x, y); });
  return y;
}

/// (C,H,W) with `padding` rows and columns of `value` on each side.
template <class T>
Var<T> pad2d(Var<T> x, std::int64_t padding, detail::Scalar<T> value = 0) {
  require<ShapeError>(x.shape().rank() == 3, "pad2d: the input is (C,H,W), got ", x.shape());
  return pad(x, Shape{0, padding, padding}, Shape{0, padding, padding}, value);
}

/// Axis d of the result is axis order[d] of x. Throws ShapeError unless `order` names every axis once.
template <class T>
Var<T> permute(Var<T> x, std::initializer_list<int> order) {
  x = spread(x);
  const Shape s = x.shape();
  require<ShapeError>(order.size() == s.rank(), "permute: shape ", s, " with an order of ", order.size(), " axes");
  bool named[Shape::kMaxRank] = {};
  std::int64_t extent[Shape::kMaxRank] = {};
  std::int64_t xs[Shape::kMaxRank];
  std::int64_t ys[Shape::kMaxRank];
  detail::row_major_strides(s, xs);
  std::size_t d = 0;
  int from[Shape::kMaxRank] = {};
  for (const int o : order) {
    const int axis = detail::checked_axis("permute", s, o);
    require<ShapeError>(!named[axis], "permute: axis ", o, " is named twice");
    named[axis] = true;
    from[d] = axis;
    extent[d++] = s[axis];
  }
  const Shape out(extent, s.rank());
  detail::row_major_strides(out, ys);
  detail::BoxCopy box;
  for (std::size_t i = 0; i < s.rank(); ++i) {
    box.loop.push(extent[i], ys[i], xs[from[i]]);
  }
  box.loop = box.loop.collapsed();
  Var<T> y = x.tape().result("permute", out, {x});
  trace_function(y, {x}, [&] { return traced::Boxes{{detail::traced_box(box, x)}}; });
  detail::copy_forward(x.tape(), box, x, y);
  x.tape().on_backward(y, [=](Tape<T>& t) { detail::copy_backward(t, box, x, y); });
  return y;
}

/// (M,N) as (N,M).
template <class T>
Var<T> transpose(Var<T> x) {
  require<ShapeError>(x.shape().rank() == 2, "transpose: expected (M,N), got ", x.shape());
  return permute(x, {1, 0});
}

}  // namespace pavise
