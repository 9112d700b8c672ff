// SPDX-License-Identifier: MIT
// Linear maps along one axis of an image: blurs, transforms of blocks, changes of size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "pavise/autodiff/keep.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

/// A linear map from an axis of `in` elements to one of `out`: element i is the sum of `taps` elements, weights[i*taps +
/// t] times the one at places[i*taps + t].
template <class T>
struct AxisMap {
  std::int64_t in = 0;
  std::int64_t out = 0;
  std::int64_t taps = 0;
  std::vector<std::int64_t> places;
  std::vector<T> weights;

  AxisMap() = default;
  /// Room for the taps; places and weights are 0.
  AxisMap(std::int64_t in_size, std::int64_t out_size, std::int64_t tap_count)
      : in(in_size),
        out(out_size),
        taps(tap_count),
        places(static_cast<std::size_t>(out_size * tap_count)),
        weights(static_cast<std::size_t>(out_size * tap_count)) {}

  void set(std::int64_t i, std::int64_t tap, std::int64_t place, double weight) {
    places[static_cast<std::size_t>(i * taps + tap)] = place;
    weights[static_cast<std::size_t>(i * taps + tap)] = static_cast<T>(weight);
  }
};

/// second(first(.)), with the product of their numbers of taps.
template <class T>
AxisMap<T> compose(const AxisMap<T>& first, const AxisMap<T>& second) {
  require<ShapeError>(first.out == second.in, "compose: the first map gives ", first.out,
                      " elements, the second takes ", second.in);
  AxisMap<T> both(first.in, second.out, first.taps * second.taps);
  for (std::int64_t i = 0; i < second.out; ++i) {
    for (std::int64_t s = 0; s < second.taps; ++s) {
      const auto at = static_cast<std::size_t>(i * second.taps + s);
      for (std::int64_t f = 0; f < first.taps; ++f) {
        const auto from = static_cast<std::size_t>(second.places[at] * first.taps + f);
        both.set(i, s * first.taps + f, first.places[from],
                 static_cast<double>(second.weights[at]) * static_cast<double>(first.weights[from]));
      }
    }
  }
  return both;
}

/// The map applied along `axis` of x; the derivative is its transpose. x: any shape whose extent there is map.in.
/// Returns that shape with map.out in its place. Sums run over the taps in their order.
/// Throws ShapeError for another extent.
template <class T>
Var<T> resample(Var<T> x, std::size_t axis, const AxisMap<T>& map) {
  const Shape s = x.shape();
  require<ShapeError>(!x.shared() && axis < s.rank() && s[axis] == map.in, "resample: axis ", axis, " of ", s,
                      ", expected an extent of ", map.in);
  std::int64_t extents[Shape::kMaxRank];
  std::int64_t outer = 1;
  std::int64_t inner = 1;
  for (std::size_t i = 0; i < s.rank(); ++i) {
    extents[i] = i == axis ? map.out : s[i];
    outer *= i < axis ? s[i] : 1;
    inner *= i > axis ? s[i] : 1;
  }
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result("resample", Shape(extents, s.rank()), {x});
  trace_function(y, {x}, [&] {
    return traced::Resample{
        outer, map.in, map.out, inner, map.taps, map.places, {map.weights.begin(), map.weights.end()}};
  });
  const bool watched = tape.needs_gradient(y);
  const kernels::AxisTaps<T> taps{outer,
                                  map.in,
                                  map.out,
                                  inner,
                                  map.taps,
                                  watched ? detail::keep(tape, map.places) : map.places.data(),
                                  watched ? detail::keep(tape, map.weights) : map.weights.data()};
  tape.each_group([&](std::int64_t g) {
    kernels::run([&](auto isa) { resample_axis<T>(isa, std::as_const(x).data(g), y.data(g), taps, tape.lanes()); });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    T* dx = t.add_target(x);
    const std::int64_t step = x.size() * t.lanes();
    t.each_group([&](std::int64_t g) {
      kernels::run([&](auto isa) { resample_axis_adjoint<T>(isa, t.gradient(y, g), dx + g * step, taps, t.lanes()); });
    });
  });
  return y;
}

}  // namespace pavise
