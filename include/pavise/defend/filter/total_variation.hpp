// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "pavise/autodiff/dropout.hpp"
#include "pavise/autodiff/substitute.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::defend {

/// Settings of total-variation minimisation.
struct TotalVariationOptions {
  double weight = 0.03;      ///< of the total variation
  double drop = 0.5;         ///< share of the pixels that are forgotten
  std::int64_t steps = 100;  ///< of the primal-dual algorithm; there is no other stopping rule
};

namespace detail {

inline void check_variation(const TotalVariationOptions& o) {
  require(std::isfinite(o.weight) && o.weight > 0, "tv: weight ", o.weight, ", expected more than 0");
  require(o.drop >= 0 && o.drop < 1, "tv: drop ", o.drop, ", expected 0 or more and less than 1");
  require(o.steps >= 1 && o.steps <= 100000, "tv: ", o.steps, " steps, expected 1 to 100000");
}

}  // namespace detail

/// Total-variation minimisation (Guo et al. 2018, "Countering adversarial images using input transformations", equation
/// 2): a random share of the pixels is forgotten, and the image is rebuilt from the others as
///   min_z |kept (z - x)|_2 + weight sum_c (sum_i |z(c,i,:) - z(c,i-1,:)|_2 + sum_j |z(c,:,j) - z(c,:,j-1)|_2)
/// by a fixed number of steps of Chambolle and Pock's algorithm, from x. Which pixels are kept is drawn anew in every
/// pass, from its key and `layer`, for each channel of each pixel. The derivative is that of x itself. x: (C,H,W).
template <class T>
Var<T> total_variation(Var<T> x, const TotalVariationOptions& options, std::uint32_t layer) {
  detail::check_variation(options);
  const Shape s = x.shape();
  require<ShapeError>(s.rank() == 3 && !x.shared(), "tv: the input is (C,H,W), got ", s);
  Tape<T>& tape = x.tape();
  const int lanes = tape.lanes();
  const std::int64_t n = x.size() * lanes;
  const pavise::detail::LayerKeys<T> keys(tape, Purpose::defense, layer);
  Var<T> kept = tape.input(s);
  tape.each_group([&](std::int64_t g) {
    kernels::run([&](auto isa) {
      random_uniform<T>(isa, kept.data(g), x.size(), lanes, keys.of(tape, g));
      keep_above<T>(isa, kept.data(g), n, static_cast<T>(options.drop));
    });
  });
  Var<T> y = tape.result("total_variation", s, {x});
  trace_function(y, {x}, [&] { return traced::TotalVariation{s, options.weight, options.drop, options.steps, layer}; });
  tape.each_group([&](std::int64_t g) {
    thread_local AlignedVector<T> scratch;
    scratch.resize(static_cast<std::size_t>(3 * n));
    kernels::run([&](auto isa) {
      total_variation<T>(isa, std::as_const(x).data(g), std::as_const(kept).data(g), y.data(g), s[0], s[1], s[2],
                         static_cast<T>(options.weight), options.steps, scratch.data(), lanes);
    });
  });
  pavise::detail::pass_gradient(y, x);
  return y;
}

/// See total_variation. Random, and not differentiable.
template <class T>
class TotalVariation : public Filter<T> {
 public:
  explicit TotalVariation(TotalVariationOptions options = {}) : options_(options) { detail::check_variation(options); }
  std::string text() const override { return concat("tv:", options_.weight, "-", options_.drop, "-", options_.steps); }
  Var<T> apply(Var<T> x) const override { return total_variation(x, options_, this->layer()); }
  nn::Declaration declaration() const override { return nn::together(detail::substituted(), detail::drawn()); }

 private:
  TotalVariationOptions options_;
};

}  // namespace pavise::defend
