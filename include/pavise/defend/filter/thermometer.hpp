// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "pavise/autodiff/tape.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::defend {

namespace detail {

inline void check_levels(std::int64_t levels) {
  require(levels >= 2 && levels <= 256, "thermometer: ", levels, " levels, expected 2 to 256");
}

}  // namespace detail

/// The thermometer code of every pixel (Buckman et al. 2018, "Thermometer encoding: one hot way to resist adversarial
/// examples"), in the form of Athalye, Carlini and Wagner (2018): code k of a pixel is 1 where x > k/levels and 0
/// elsewhere, k = 0 ... levels-1. The derivative is that of the smooth code 1 / (1 + e^-(levels x - k)). x: (C,H,W).
/// Returns (C levels, H, W), the codes of channel c at c levels + k. ValueError for levels that are not 2 to 256.
template <class T>
Var<T> thermometer(Var<T> x, std::int64_t levels) {
  detail::check_levels(levels);
  const Shape s = x.shape();
  require<ShapeError>(s.rank() == 3 && !x.shared(), "thermometer: the input is (C,H,W), got ", s);
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result("thermometer", Shape{s[0] * levels, s[1], s[2]}, {x});
  const std::int64_t pixels = s[1] * s[2];
  trace_function(y, {x}, [&] { return traced::Thermometer{s[0], pixels, levels}; });
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      thermometer_forward<T>(isa, std::as_const(x).data(g), y.data(g), s[0], pixels, levels, tape.lanes());
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const auto target = t.target(x);
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        thermometer_backward<T>(isa, std::as_const(x).data(g), t.gradient(y, g), target.data + g * x.size() * t.lanes(),
                                s[0], pixels, levels, target.accumulate, t.lanes());
      });
    });
  });
  return y;
}

/// See thermometer. The model behind it has `levels` times the channels: train it with this filter inside.
template <class T>
class Thermometer : public Filter<T> {
 public:
  explicit Thermometer(std::int64_t levels) : levels_(levels) { detail::check_levels(levels); }
  std::string text() const override { return concat("thermometer:", levels_); }
  Var<T> apply(Var<T> x) const override { return thermometer(x, levels_); }
  nn::Declaration declaration() const override { return detail::substituted(); }
  Shape output_shape(const Shape& in) const override {
    Filter<T>::output_shape(in);
    return {in[0] * levels_, in[1], in[2]};
  }
  Shape input_shape(const Shape& out) const override {
    require<ShapeError>(out.rank() == 3 && out[0] % levels_ == 0, text(), ": gives a multiple of ", levels_,
                        " channels, the model expects ", out, ": it was not trained with this code");
    return {out[0] / levels_, out[1], out[2]};
  }

 private:
  std::int64_t levels_;
};

}  // namespace pavise::defend
