// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

namespace detail {

template <bool Log, class T>
Var<T> softmax_over_classes(const char* name, Var<T> x, T temperature) {
  x = spread(x);
  const Shape s = x.shape();
  require<ShapeError>(s.rank() >= 1 && s[0] >= 1, name, ": the input is (classes) or (classes, ...), got ", s);
  require(temperature > T{0}, name, ": temperature ", temperature, ", expected more than 0");
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result(name, s, {x});
  const std::int64_t classes = s[0];
  const std::int64_t inner = x.size() / classes;
  const T inverse = T{1} / temperature;
  const int lanes = tape.lanes();
  tape.each_group([&](std::int64_t g) {
    kernels::run_light(
        [&](auto isa) { softmax_forward<Log, T>(isa, x.data(g), y.data(g), classes, inner, inverse, lanes); });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto target = t.target(x);
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        softmax_backward<Log, T>(isa, y.data(g), t.gradient(y, g), target.data + g * classes * inner * lanes, classes,
                                 inner, inverse, target.accumulate, lanes);
      });
    });
  });
  return y;
}

}  // namespace detail

/// e^(x_i/t) / sum_j e^(x_j/t) over the first axis: (classes), or (classes,H,W) for each position. Same shape. Throws
/// ShapeError for a scalar, ValueError for a temperature that is not positive.
template <class T>
Var<T> softmax(Var<T> x, detail::Scalar<T> temperature = 1) {
  return detail::softmax_over_classes<false>("softmax", x, temperature);
}

/// x_i/t - log(sum_j e^(x_j/t)) over the first axis; as softmax.
template <class T>
Var<T> log_softmax(Var<T> x, detail::Scalar<T> temperature = 1) {
  return detail::softmax_over_classes<true>("log_softmax", x, temperature);
}

}  // namespace pavise
