// SPDX-License-Identifier: MIT
// The attack on a smoothed classifier.
#pragma once

#include <cmath>
#include <cstdint>
#include <utility>

#include "pavise/attack/classifier.hpp"
#include "pavise/autodiff/noise.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/core/error.hpp"
#include "pavise/core/philox.hpp"

namespace pavise::attack {

struct SmoothedOptions {
  std::int64_t draws = 32;  ///< of the noise, whose mean softmax an attack's queries see
  /// Whether all queries of an attack on an image see the same noise, as published; otherwise each draws anew.
  bool repeated = true;
};

namespace detail {

/// Tells the noise of smoothing from that of layers within the model.
inline constexpr std::uint32_t kSmoothingLayer = 65535;

}  // namespace detail

/// The smoothed classifier of `base` (Cohen et al. 2019), argmax_k P(base(x + N(0, sigma^2 I)) = k), as what is attacked:
/// any attack on it is SmoothAdv (Salman et al. 2019, "Provably robust deep learning via adversarially trained smoothed
/// classifiers", section 2.2). The cross-entropy is that of the mean softmax over the draws,
///   -log(1/m sum_i softmax(base(x + sigma n_i))_y),
/// and not the mean of the draws' cross-entropies; other losses see log(1/m sum_i softmax(...)) as logits. An attack's
/// predictions are majorities of its m draws; whether an image is broken is judged by the votes of fresh draws
/// (RunOptions::judging_draws), none of which an attack has seen. sigma: in units of the pixels; noise is not clipped to
/// the box. A query with gradient costs 2m forward and m backward passes. The base's model must outlive the result.
/// Throws ValueError for a sigma that is not more than 0.
inline Classifier smoothed(const Classifier& base, double sigma, SmoothedOptions options = {}) {
  require(std::isfinite(sigma) && sigma > 0.0, "smoothed: sigma ", sigma,
          ", expected more than 0, in units of the pixels");
  nn::Declaration declaration = base.declaration();
  declaration.random = true;
  const auto deviation = static_cast<float>(sigma);
  auto logits = [base, deviation](Var<float> x) {
    return base(gaussian_noise(x, deviation, Purpose::gaussian_noise, detail::kSmoothingLayer));
  };
  return Classifier(concat("smoothed(", base.name(), ", sigma ", sigma, ")"), base.input_shape(), base.classes(),
                    std::move(logits), declaration)
      .with_draws(options.draws, options.repeated)
      .with_mean(Mean::softmax);
}

}  // namespace pavise::attack
