// SPDX-License-Identifier: MIT
// Functions of two values, element by element, with NumPy's broadcasting between the shapes of one image: shapes are
// aligned at their last axis, and an axis of extent 1 (or one that is not there) is repeated. Either operand may be
// shared (a parameter); its gradient is summed over positions, groups and lanes, in an order that does not depend on
// the number of threads.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

namespace detail {

/// The shape that both broadcast to; throws ShapeError where there is none.
inline Shape broadcast_shape(const char* name, const Shape& a, const Shape& b) {
  std::int64_t extent[Shape::kMaxRank] = {};
  const std::size_t rank = std::max(a.rank(), b.rank());
  const auto at = [rank](const Shape& s, std::size_t d) {
    return d + s.rank() >= rank ? s[static_cast<std::ptrdiff_t>(d + s.rank() - rank)] : std::int64_t{1};
  };
  for (std::size_t d = 0; d < rank; ++d) {
    const std::int64_t x = at(a, d);
    const std::int64_t y = at(b, d);
    require<ShapeError>(x == y || x == 1 || y == 1, name, ": shapes ", a, " and ", b, " do not broadcast");
    extent[d] = x == 1 ? y : x;
  }
  return Shape(extent, rank);
}

/// Row-major strides of `s` along the axes of `out`, 0 where it is broadcast.
inline void broadcast_strides(const Shape& s, const Shape& out, std::int64_t (&stride)[Shape::kMaxRank]) {
  std::int64_t step = 1;
  for (std::size_t k = 0; k < out.rank(); ++k) {
    const std::size_t d = out.rank() - 1 - k;
    if (k < s.rank()) {
      const std::int64_t n = s[static_cast<std::ptrdiff_t>(s.rank() - 1 - k)];
      stride[d] = n == 1 ? 0 : step;
      step *= n;
    } else {
      stride[d] = 0;
    }
  }
}

struct BroadcastLoops {
  kernels::StridedLoop all;        ///< over the result: arrays result, a, b
  kernels::StridedLoop kept[2];    ///< over the elements of a, of b
  kernels::StridedLoop summed[2];  ///< over the positions where a, b is repeated
};

inline BroadcastLoops broadcast_loops(const Shape& a, const Shape& b, const Shape& out) {
  std::int64_t stride[3][Shape::kMaxRank];
  broadcast_strides(out, out, stride[0]);
  broadcast_strides(a, out, stride[1]);
  broadcast_strides(b, out, stride[2]);
  BroadcastLoops loops;
  for (std::size_t d = 0; d < out.rank(); ++d) {
    const std::int64_t n = out[static_cast<std::ptrdiff_t>(d)];
    loops.all.push(n, stride[0][d], stride[1][d], stride[2][d]);
    for (int k = 0; k < 2; ++k) {
      (stride[k + 1][d] == 0 ? loops.summed[k] : loops.kept[k]).push(n, stride[0][d], stride[1][d], stride[2][d]);
    }
  }
  loops.all = loops.all.collapsed();
  for (int k = 0; k < 2; ++k) {
    loops.kept[k] = loops.kept[k].collapsed();
    loops.summed[k] = loops.summed[k].collapsed();
  }
  return loops;
}

template <kernels::Binary F, int Operand, class T>
void binary_gradient(Tape<T>& t, const BroadcastLoops& loops, Var<T> a, Var<T> b, Var<T> y) {
  const Var<T> to = Operand == 1 ? a : b;
  if (!t.needs_gradient(to)) {
    return;
  }
  const int lanes = t.lanes();
  const auto target = t.target(to);
  const auto& kept = loops.kept[Operand - 1];
  const auto& summed = loops.summed[Operand - 1];
  const std::int64_t a_step = a.shared() ? 0 : a.size() * lanes;
  const std::int64_t b_step = b.shared() ? 0 : b.size() * lanes;
  if (to.shared()) {
    add_over_batch(t, to.size(), [&](const kernels::RunningSums<T>& running) {
      parallel_chunks(to.size(), 16, [&](std::int64_t begin, std::int64_t end) {
        kernels::run_light([&](auto isa) {
          binary_backward_shared<F, Operand, T>(isa, kept, summed, {a.data(), a_step}, {b.data(), b_step},
                                                t.gradient(y), y.size() * lanes, t.groups(), target.data, begin, end,
                                                running);
        });
      });
    });
    return;
  }
  const bool contiguous = !a.shared() && !b.shared() && a.shape() == b.shape();
  const std::int64_t n = to.size() * lanes;
  t.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      if (contiguous) {
        binary_backward_contiguous<F, Operand, T>(isa, a.data(g), b.data(g), t.gradient(y, g), target.data + g * n, n,
                                                  target.accumulate);
      } else {
        binary_backward<F, Operand, T>(isa, kept, summed, {a.data(g), a_step}, {b.data(g), b_step}, t.gradient(y, g),
                                       target.data + g * n, target.accumulate, lanes);
      }
    });
  });
}

template <kernels::Binary F, class T>
Var<T> binary(const char* name, Var<T> a, Var<T> b) {
  Tape<T>& tape = a.tape();
  const Shape shape = broadcast_shape(name, a.shape(), b.shape());
  const BroadcastLoops loops = broadcast_loops(a.shape(), b.shape(), shape);
  Var<T> y = tape.result(name, shape, {a, b});
  const bool contiguous = !a.shared() && !b.shared() && a.shape() == b.shape();
  if (contiguous) {
    trace_function(y, {a, b}, [] { return traced::Elementwise{F}; });
  }
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      if (contiguous) {
        binary_forward_contiguous<F, T>(isa, a.data(g), b.data(g), y.data(g), y.size() * tape.lanes());
      } else {
        binary_forward<F, T>(isa, loops.all, a.data(g), a.shared(), b.data(g), b.shared(), y.data(g), tape.lanes());
      }
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    binary_gradient<F, 1>(t, loops, a, b, y);
    binary_gradient<F, 2>(t, loops, a, b, y);
  });
  return y;
}

}  // namespace detail

/// a + b, broadcast. Throws ShapeError where the shapes do not fit; so do the others.
template <class T>
Var<T> add(Var<T> a, Var<T> b) {
  return detail::binary<kernels::Binary::add>("add", a, b);
}
/// a - b, broadcast.
template <class T>
Var<T> sub(Var<T> a, Var<T> b) {
  return detail::binary<kernels::Binary::sub>("sub", a, b);
}
/// a * b, broadcast.
template <class T>
Var<T> mul(Var<T> a, Var<T> b) {
  return detail::binary<kernels::Binary::mul>("mul", a, b);
}
/// a / b, broadcast.
template <class T>
Var<T> div(Var<T> a, Var<T> b) {
  return detail::binary<kernels::Binary::div>("div", a, b);
}
/// The larger of a and b, broadcast. The gradient goes to it; to a where they are equal.
template <class T>
Var<T> maximum(Var<T> a, Var<T> b) {
  return detail::binary<kernels::Binary::maximum>("maximum", a, b);
}
/// The smaller of a and b, broadcast. The gradient goes to it; to a where they are equal.
template <class T>
Var<T> minimum(Var<T> a, Var<T> b) {
  return detail::binary<kernels::Binary::minimum>("minimum", a, b);
}

template <class T>
Var<T> operator+(Var<T> a, Var<T> b) {
  return add(a, b);
}
template <class T>
Var<T> operator-(Var<T> a, Var<T> b) {
  return sub(a, b);
}
template <class T>
Var<T> operator*(Var<T> a, Var<T> b) {
  return mul(a, b);
}
template <class T>
Var<T> operator/(Var<T> a, Var<T> b) {
  return div(a, b);
}
template <class T>
Var<T> operator-(Var<T> a) {
  return neg(a);
}
template <class T>
Var<T> operator+(Var<T> a, detail::Scalar<T> b) {
  return shift(a, b);
}
template <class T>
Var<T> operator+(detail::Scalar<T> a, Var<T> b) {
  return shift(b, a);
}
template <class T>
Var<T> operator-(Var<T> a, detail::Scalar<T> b) {
  return shift(a, -b);
}
template <class T>
Var<T> operator-(detail::Scalar<T> a, Var<T> b) {
  return affine(b, T{-1}, a);
}
template <class T>
Var<T> operator*(Var<T> a, detail::Scalar<T> b) {
  return scale(a, b);
}
template <class T>
Var<T> operator*(detail::Scalar<T> a, Var<T> b) {
  return scale(b, a);
}
template <class T>
Var<T> operator/(Var<T> a, detail::Scalar<T> b) {
  return detail::unary<kernels::Unary::quotient>("divide", a, b);
}
template <class T>
Var<T> operator/(detail::Scalar<T> a, Var<T> b) {
  return reciprocal(b, a);
}

}  // namespace pavise
