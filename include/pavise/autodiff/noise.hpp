// SPDX-License-Identifier: MIT
// Noise on images, drawn anew in every pass, in evaluation as in training.
#pragma once

#include <cstdint>

#include "pavise/autodiff/dropout.hpp"
#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/substitute.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/core/philox.hpp"

namespace pavise {

/// x + sigma N(0, I), not clipped. The noise is a function of the pass's key (seed, iteration, image), the purpose, the
/// layer and the element. x: any shape; layer: at most 65,535.
template <class T>
Var<T> gaussian_noise(Var<T> x, detail::Scalar<T> sigma, Purpose purpose, std::uint32_t layer) {
  Tape<T>& tape = x.tape();
  const detail::LayerKeys<T> keys(tape, purpose, layer);
  const Var<T> y = straight_through("gaussian_noise", x, [&](std::int64_t g, const T* in, T* out) {
    kernels::run([&](auto isa) { add_normal<T>(isa, in, out, x.size(), sigma, T{0}, tape.lanes(), keys.of(tape, g)); });
  });
  trace_function(y, {x}, [&] { return traced::Noise{kernels::Distribution::normal, sigma, 0.0, purpose, layer}; });
  return y;
}

/// x + U(-a, a) for every element, not clipped; keyed as gaussian_noise.
template <class T>
Var<T> uniform_noise(Var<T> x, detail::Scalar<T> a, Purpose purpose, std::uint32_t layer) {
  Tape<T>& tape = x.tape();
  const detail::LayerKeys<T> keys(tape, purpose, layer);
  const Var<T> y = straight_through("uniform_noise", x, [&](std::int64_t g, const T* in, T* out) {
    kernels::run([&](auto isa) { add_uniform<T>(isa, in, out, x.size(), 2 * a, -a, tape.lanes(), keys.of(tape, g)); });
  });
  trace_function(y, {x}, [&] { return traced::Noise{kernels::Distribution::uniform, 2 * a, -a, purpose, layer}; });
  return y;
}

}  // namespace pavise
