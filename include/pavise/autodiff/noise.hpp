// SPDX-License-Identifier: MIT
// Noise on images, drawn anew in every pass, in evaluation as in training.
#pragma once

#include <cstdint>

#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/dropout.hpp"
#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/core/philox.hpp"

namespace pavise {

/// x + sigma N(0, I), not clipped. The noise is a function of the pass's key (seed, iteration, image), the purpose, the
/// layer and the element. x: any shape; layer: at most 65,535.
template <class T>
Var<T> gaussian_noise(Var<T> x, detail::Scalar<T> sigma, Purpose purpose, std::uint32_t layer) {
  Tape<T>& tape = x.tape();
  Var<T> noise = tape.input(x.shape());
  const detail::LayerKeys<T> keys(tape, purpose, layer);
  tape.each_group([&](std::int64_t g) {
    kernels::run([&](auto isa) { random_normal<T>(isa, noise.data(g), noise.size(), tape.lanes(), keys.of(tape, g)); });
  });
  return x + scale(noise, sigma);
}

/// x + U(-a, a) for every element, not clipped; keyed as gaussian_noise.
template <class T>
Var<T> uniform_noise(Var<T> x, detail::Scalar<T> a, Purpose purpose, std::uint32_t layer) {
  Tape<T>& tape = x.tape();
  Var<T> noise = tape.input(x.shape());
  const detail::LayerKeys<T> keys(tape, purpose, layer);
  tape.each_group([&](std::int64_t g) {
    kernels::run(
        [&](auto isa) { random_uniform<T>(isa, noise.data(g), noise.size(), tape.lanes(), keys.of(tape, g)); });
  });
  return x + affine(noise, 2 * a, -a);
}

}  // namespace pavise
