// SPDX-License-Identifier: MIT
// Functions of one number, applied to every element: the shape stays. Float uses the library's own exp, log, tanh and
// normal distribution (a few units in the last place, the same bits on every instruction set), double the C library's.
// The derivative of each is beside its value in kernels/pavise_kernels/cpu/elementwise.inl.
#pragma once

#include <type_traits>

#include "pavise/autodiff/over_batch.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

/// A shared value (a parameter) copied into every lane of every group; its gradient is summed over groups, then lanes.
/// A value that has lanes is returned as it is. The operations that take shared values directly are cheaper.
template <class T>
Var<T> spread(Var<T> x) {
  if (!x.shared()) {
    return x;
  }
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result("spread", x.shape(), {x});
  const std::int64_t size = x.size();
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) { spread_forward<T>(isa, x.data(), y.data(g), size, tape.lanes()); });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    T* dx = t.target(x).data;
    detail::add_over_batch(t, size, [&](const kernels::RunningSums<T>& running) {
      parallel_chunks(size, 64, [&](std::int64_t begin, std::int64_t end) {
        kernels::run_light(
            [&](auto isa) { spread_backward<T>(isa, t.gradient(y), size, t.groups(), dx, begin, end, running); });
      });
    });
  });
  return y;
}

namespace detail {

template <kernels::Unary F, class T>
Var<T> unary(const char* name, Var<T> x, T a = 0, T b = 0) {
  x = spread(x);
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result(name, x.shape(), {kernels::is_constant(F) ? Var<T>{} : x});
  if (auto* trace = tape.trace()) {
    trace->push_back({.kind = TracedOperation<T>::Kind::unary,
                      .output = y.id(),
                      .inputs = {x.id(), -1},
                      .function = F,
                      .a = a,
                      .b = b});
  }
  const std::int64_t n = x.size() * tape.lanes();
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) { unary_forward<F, T>(isa, x.data(g), y.data(g), n, a, b); });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto target = t.target(x);
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        unary_backward<F, T>(isa, x.data(g), y.data(g), t.gradient(y, g), target.data + g * n, n, a, b,
                             target.accumulate);
      });
    });
  });
  return y;
}

/// A scalar argument beside a Var<T>: converted, and no part of the deduction of T.
template <class T>
using Scalar = std::type_identity_t<T>;

}  // namespace detail

/// max(0, x); the derivative at 0 is 0. Convolutions and fully connected layers apply it at no cost of its own.
template <class T>
Var<T> relu(Var<T> x) {
  return detail::unary<kernels::Unary::relu>("relu", x);
}
/// x for x > 0, slope * x elsewhere.
template <class T>
Var<T> leaky_relu(Var<T> x, detail::Scalar<T> slope = static_cast<T>(0.01)) {
  return detail::unary<kernels::Unary::leaky_relu>("leaky_relu", x, slope);
}
/// x for x > 0, alpha * (e^x - 1) elsewhere (Clevert et al., 2016).
template <class T>
Var<T> elu(Var<T> x, detail::Scalar<T> alpha = 1) {
  return detail::unary<kernels::Unary::elu>("elu", x, alpha);
}
/// x * P(N <= x) for a standard normal N: the exact form (1 + erf(x/sqrt 2)) x/2 (Hendrycks and Gimpel, 2016).
template <class T>
Var<T> gelu(Var<T> x) {
  return detail::unary<kernels::Unary::gelu>("gelu", x);
}
/// x / (1 + e^-x)
template <class T>
Var<T> silu(Var<T> x) {
  return detail::unary<kernels::Unary::silu>("silu", x);
}
/// 1 / (1 + e^-x)
template <class T>
Var<T> sigmoid(Var<T> x) {
  return detail::unary<kernels::Unary::sigmoid>("sigmoid", x);
}
/// Hyperbolic tangent.
template <class T>
Var<T> tanh(Var<T> x) {
  return detail::unary<kernels::Unary::tanh>("tanh", x);
}
/// The error function 2/sqrt(pi) * integral of e^(-t^2) from 0 to x.
template <class T>
Var<T> erf(Var<T> x) {
  return detail::unary<kernels::Unary::erf>("erf", x);
}
/// log(1 + e^x), without overflow.
template <class T>
Var<T> softplus(Var<T> x) {
  return detail::unary<kernels::Unary::softplus>("softplus", x);
}
/// e^x; in float 0 where e^x would be denormal.
template <class T>
Var<T> exp(Var<T> x) {
  return detail::unary<kernels::Unary::exp>("exp", x);
}
/// Natural logarithm; -infinity at 0 (in float: of denormal numbers, too), NaN below.
template <class T>
Var<T> log(Var<T> x) {
  return detail::unary<kernels::Unary::log>("log", x);
}
/// Square root; the derivative at 0 is infinite.
template <class T>
Var<T> sqrt(Var<T> x) {
  return detail::unary<kernels::Unary::sqrt>("sqrt", x);
}
/// |x|; the derivative at 0 is 0.
template <class T>
Var<T> abs(Var<T> x) {
  return detail::unary<kernels::Unary::abs>("abs", x);
}
/// x^2
template <class T>
Var<T> square(Var<T> x) {
  return detail::unary<kernels::Unary::square>("square", x);
}
/// numerator / x
template <class T>
Var<T> reciprocal(Var<T> x, detail::Scalar<T> numerator = 1) {
  return detail::unary<kernels::Unary::reciprocal>("reciprocal", x, numerator);
}
/// min(max(x, low), high); the derivative is 1 within the bounds (bounds included) and 0 outside.
template <class T>
Var<T> clamp(Var<T> x, detail::Scalar<T> low, detail::Scalar<T> high) {
  require(low <= high, "clamp: bounds ", low, " and ", high, ", expected low <= high");
  return detail::unary<kernels::Unary::clamp>("clamp", x, low, high);
}
/// 1, or 0 where x is negative. A constant: no gradient goes through it.
template <class T>
Var<T> step(Var<T> x) {
  return detail::unary<kernels::Unary::step>("step", x);
}
/// scale * x + shift, rounded once.
template <class T>
Var<T> affine(Var<T> x, detail::Scalar<T> scale, detail::Scalar<T> shift) {
  return detail::unary<kernels::Unary::affine>("affine", x, scale, shift);
}
/// factor * x
template <class T>
Var<T> scale(Var<T> x, detail::Scalar<T> factor) {
  return affine(x, factor, T{0});
}
/// x + offset
template <class T>
Var<T> shift(Var<T> x, detail::Scalar<T> offset) {
  return affine(x, T{1}, offset);
}
/// -x
template <class T>
Var<T> neg(Var<T> x) {
  return affine(x, T{-1}, T{0});
}

}  // namespace pavise
