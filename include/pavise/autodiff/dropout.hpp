// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "pavise/autodiff/tape.hpp"
#include "pavise/core/philox.hpp"

namespace pavise {

namespace detail {

/// What a layer's random numbers are keyed by, for every lane of the pass, kept as long as the pass's values.
template <class T>
class LayerKeys {
 public:
  LayerKeys(Tape<T>& tape, Purpose purpose, std::uint32_t layer)
      : seed_(tape.key().seed), iteration_(tape.key().iteration), purpose_(purpose) {
    const auto count = static_cast<std::size_t>(tape.groups() * tape.lanes());
    auto* images = tape.arena().template allocate<std::uint32_t>(count);
    auto* layers = tape.arena().template allocate<std::uint32_t>(static_cast<std::size_t>(tape.lanes()));
    for (std::size_t i = 0; i < count; ++i) {
      images[i] = tape.key().images != nullptr ? tape.key().images[i] : static_cast<std::uint32_t>(i);
    }
    std::fill_n(layers, tape.lanes(), layer);
    images_ = images;
    layers_ = layers;
  }

  kernels::LaneKeys of(const Tape<T>& tape, std::int64_t group) const {
    return {seed_, static_cast<std::uint32_t>(purpose_), iteration_, images_ + group * tape.lanes(), layers_};
  }

 private:
  std::uint64_t seed_;
  std::uint32_t iteration_;
  Purpose purpose_;
  const std::uint32_t* images_;
  const std::uint32_t* layers_;
};

}  // namespace detail

/// Dropout (Srivastava et al., 2014): in a training pass each element is 0 with probability `rate` and x / (1 - rate)
/// otherwise; in an evaluation pass the result is x itself. What is dropped is a function of the pass's key (seed,
/// iteration, image), `layer` and the element: the same whatever the batch, its order, the lanes or the threads. x: any
/// shape; rate: in [0,1), rounded to a multiple of 2^-24; layer: the number of this layer in its model, at most 65,535.
/// Returns the shape of x. Throws ValueError for another rate or layer.
template <class T>
Var<T> dropout(Var<T> x, double rate, std::uint32_t layer) {
  require(rate >= 0 && rate < 1, "dropout: rate ", rate, ", expected 0 or more and less than 1");
  require(layer <= 65535, "dropout: layer ", layer, ", expected at most 65535");
  Tape<T>& tape = x.tape();
  require<ShapeError>(!x.shared(), "dropout: the input is a parameter, ", x.shape());
  const auto threshold = static_cast<std::int32_t>(std::min(std::round(rate * 0x1p24), 0x1p24 - 1));
  if (tape.mode() == Mode::evaluation || threshold == 0) {
    return x;
  }
  const T scale = static_cast<T>(1.0 / (1.0 - threshold * 0x1p-24));
  Var<T> y = tape.result("dropout", x.shape(), {x});
  if (auto* trace = tape.trace()) {
    trace->push_back({.kind = TracedOperation<T>::Kind::dropout,
                      .output = y.id(),
                      .inputs = {x.id(), -1},
                      .a = scale,
                      .threshold = threshold,
                      .layer = layer});
  }
  const detail::LayerKeys<T> keys(tape, Purpose::dropout, layer);
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      dropout<T>(isa, x.data(g), y.data(g), x.size(), threshold, scale, keys.of(tape, g), false, nullptr, tape.lanes());
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto target = t.target(x, true);
    const std::int64_t step = x.size() * t.lanes();
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        dropout<T>(isa, t.gradient(y, g), target.data + g * step, x.size(), threshold, scale, keys.of(t, g),
                   target.accumulate, target.mask != nullptr ? target.mask + g * step : nullptr, t.lanes());
      });
    });
  });
  return y;
}

}  // namespace pavise
