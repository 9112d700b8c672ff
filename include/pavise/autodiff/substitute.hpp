// SPDX-License-Identifier: MIT
// Backward passes that are not the derivative of what was computed: backward pass differentiable approximation (Athalye,
// Carlini and Wagner 2018, "Obfuscated gradients give a false sense of security", section 4.1).
#pragma once

#include <algorithm>
#include <cstdint>
#include <utility>

#include "pavise/autodiff/tape.hpp"

namespace pavise {

namespace detail {

/// The gradient of y goes to `carrier`, which has its shape, as it is.
template <class T>
void pass_gradient(Var<T> y, Var<T> carrier) {
  const std::int64_t n = y.size() * y.tape().lanes();
  y.tape().on_backward(y, [=](Tape<T>& t) {
    if (!t.needs_gradient(carrier)) {
      return;
    }
    const auto target = t.target(carrier);
    t.each_group([&](std::int64_t g) {
      const T* dy = t.gradient(y, g);
      T* dx = target.data + g * n;
      for (std::int64_t i = 0; i < n; ++i) {
        dx[i] = target.accumulate ? dx[i] + dy[i] : dy[i];
      }
    });
  });
}

}  // namespace detail

/// The value of `value` with the derivative of `carrier`: in the backward pass all of the gradient goes to the carrier.
/// Both have the same shape, which the result has too; throws ShapeError otherwise.
template <class T>
Var<T> with_gradient_of(Var<T> value, Var<T> carrier) {
  require<ShapeError>(value.shape() == carrier.shape(), "bpda: the function gives ", value.shape(), ", its substitute ",
                      carrier.shape(), ", expected equal shapes");
  require<ShapeError>(!value.shared() && !carrier.shared(), "bpda: a value is a parameter, ", value.shape(),
                      ", expected values with lanes");
  Tape<T>& tape = value.tape();
  Var<T> y = tape.result("bpda", value.shape(), {value, carrier});
  const std::int64_t n = value.size() * tape.lanes();
  trace_function(y, {value, carrier}, [] { return traced::Substitute{}; });
  tape.each_group([&](std::int64_t g) { std::copy_n(std::as_const(value).data(g), n, y.data(g)); });
  detail::pass_gradient(y, carrier);
  return y;
}

/// A function of x that keeps its shape, with the derivative of x itself, which it has (added noise) or stays close to
/// (a quantiser). forward(group, in, out) gets the pointers to one group's values.
template <class T, class Forward>
Var<T> straight_through(const char* name, Var<T> x, const Forward& forward) {
  require<ShapeError>(!x.shared(), name, ": the input is a parameter, ", x.shape());
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result(name, x.shape(), {x});
  tape.each_group([&](std::int64_t g) { forward(g, std::as_const(x).data(g), y.data(g)); });
  detail::pass_gradient(y, x);
  return y;
}

}  // namespace pavise
