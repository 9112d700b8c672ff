// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pavise/autodiff/keep.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/defend/filter/border.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::defend {

/// Settings of a bilateral filter, as OpenCV's.
struct BilateralOptions {
  std::int64_t diameter = 5;  ///< of the disc of neighbours, in pixels; odd
  double sigma_color = 0.1;   ///< of the sum over channels of a neighbour's differences, in units of the pixels
  double sigma_space = 2.0;   ///< of its distance, in pixels
};

namespace detail {

inline void check_bilateral(const BilateralOptions& o) {
  require(o.diameter >= 1 && o.diameter % 2 == 1 && o.diameter <= 101, "bilateral: diameter ", o.diameter,
          ", expected an odd number of 1 to 101");
  require(std::isfinite(o.sigma_color) && o.sigma_color > 0 && std::isfinite(o.sigma_space) && o.sigma_space > 0,
          "bilateral: sigmas ", o.sigma_color, " of colours and ", o.sigma_space,
          " of distances, expected more than 0");
}

/// The windows' places, and the weights of the neighbours' distances.
template <class T>
struct BilateralTables {
  std::vector<std::int64_t> y, x;
  std::vector<T> space;
};
template <class T>
BilateralTables<T> bilateral_tables(const Shape& s, const BilateralOptions& o) {
  const std::int64_t radius = o.diameter / 2;
  std::vector<T> space;
  for (std::int64_t r = -radius; r <= radius; ++r) {
    for (std::int64_t c = -radius; c <= radius; ++c) {
      const auto square = static_cast<double>(r * r + c * c);
      space.push_back(r * r + c * c <= radius * radius
                          ? static_cast<T>(std::exp(-square / (2 * o.sigma_space * o.sigma_space)))
                          : T{0});
    }
  }
  return {border_places(s[1], radius, radius, Border::reflect_101),
          border_places(s[2], radius, radius, Border::reflect_101), std::move(space)};
}

}  // namespace detail

/// The bilateral filter (Tomasi and Manduchi 1998, "Bilateral filtering for gray and color images") by OpenCV's rules:
/// the mean of the neighbours within a disc, weighed by e^(-d^2 / 2 sigma_space^2) e^(-D^2 / 2 sigma_color^2), d a
/// neighbour's distance and D the sum over channels of its differences' sizes; the border is mirrored without its last
/// pixel. Differentiable. x: (1,H,W) or (3,H,W). Throws ShapeError for other channels, ValueError for what cannot be.
template <class T>
Var<T> bilateral(Var<T> x, const BilateralOptions& options = {}) {
  detail::check_bilateral(options);
  const Shape s = x.shape();
  require<ShapeError>(s.rank() == 3 && (s[0] == 1 || s[0] == 3) && !x.shared(),
                      "bilateral: the input is (1,H,W) or (3,H,W), got ", s);
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result("bilateral", s, {x});
  const auto tables = detail::bilateral_tables<T>(s, options);
  const T slope = static_cast<T>(-0.5 / (options.sigma_color * options.sigma_color));
  trace_function(y, {x}, [&] {
    return traced::Bilateral{{s[1], s[2], options.diameter, options.diameter, tables.y, tables.x},
                             {tables.space.begin(), tables.space.end()},
                             slope};
  });
  const kernels::Windows windows{s[1],
                                 s[2],
                                 options.diameter,
                                 options.diameter,
                                 pavise::detail::keep(tape, tables.y),
                                 pavise::detail::keep(tape, tables.x)};
  const T* space = pavise::detail::keep(tape, tables.space);
  tape.each_group([&](std::int64_t g) {
    kernels::run([&](auto isa) {
      bilateral_forward<T>(isa, std::as_const(x).data(g), y.data(g), windows, space, s[0], slope, tape.lanes());
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    T* dx = t.add_target(x);
    t.each_group([&](std::int64_t g) {
      kernels::run([&](auto isa) {
        bilateral_backward<T>(isa, std::as_const(x).data(g), t.gradient(y, g), dx + g * x.size() * t.lanes(), windows,
                              space, s[0], slope, t.lanes());
      });
    });
  });
  return y;
}

/// See bilateral.
template <class T>
class Bilateral : public Filter<T> {
 public:
  explicit Bilateral(BilateralOptions options = {}) : options_(options) { detail::check_bilateral(options); }
  std::string text() const override {
    return concat("bilateral:", options_.diameter, "-", options_.sigma_color, "-", options_.sigma_space);
  }
  Var<T> apply(Var<T> x) const override { return bilateral(x, options_); }
  Shape output_shape(const Shape& in) const override {
    Filter<T>::output_shape(in);
    require<ShapeError>(in[0] == 1 || in[0] == 3, text(), ": expects 1 or 3 channels, got ", in);
    return in;
  }

 private:
  BilateralOptions options_;
};

}  // namespace pavise::defend
