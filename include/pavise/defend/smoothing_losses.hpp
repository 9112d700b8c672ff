// SPDX-License-Identifier: MIT
// Losses of networks that are to be smoothed: all of them take the logits that the same images get under several draws of
// the noise, and give one number for each image.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <type_traits>

#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/autodiff/reduce.hpp"
#include "pavise/autodiff/softmax.hpp"

namespace pavise::defend {

namespace detail {

/// Probabilities below this count as this: the least that the published codes of smoothing take a logarithm of.
inline constexpr float kLeastProbability = 1e-20f;

/// Mean of f(z) over the draws' logits z.
template <class T, class F>
Var<T> mean_over_draws(std::span<const Var<T>> draws, const F& f) {
  require(!draws.empty(), "smoothing: no draws, expected 1 or more");
  Var<T> sum = f(draws.front());
  for (const Var<T>& z : draws.subspan(1)) {
    sum = sum + f(z);
  }
  return scale(sum, T{1} / static_cast<T>(draws.size()));
}

template <class T>
Var<T> log_probability(Var<T> p) {
  return log(clamp(p, static_cast<T>(kLeastProbability), T{1}));
}

/// The quantile of N(0,1) at p in (0,1), to a few units in the last place of a double: a start that is right to 5e-4
/// (Abramowitz and Stegun 26.2.23), then two steps of Halley's method. Infinite at 0 and 1.
inline double normal_quantile(double p) {
  if (!(p > 0 && p < 1)) {
    return p <= 0 ? -std::numeric_limits<double>::infinity() : std::numeric_limits<double>::infinity();
  }
  const double tail = std::min(p, 1 - p);
  const double t = std::sqrt(-2 * std::log(tail));
  double x = t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308)));
  for (int step = 0; step < 2; ++step) {
    const double excess = 0.5 * std::erfc(x * 0.70710678118654752) - tail;
    const double newton = excess / (0.39894228040143268 * std::exp(-0.5 * x * x));
    x += newton / (1 - 0.5 * x * newton);
  }
  return p < 0.5 ? -x : x;
}

/// 1 over the density of N(0,1) at its quantile x: the derivative of the quantile.
inline double quantile_slope(double x) { return 2.50662827463100050 * std::exp(0.5 * x * x); }

}  // namespace detail

/// -log of the mean probability of the label, the cross-entropy of the smoothed classifier: what SmoothAdv's adversary
/// maximises (Salman et al. 2019, equation 6) and MACER's classification loss. logits: (classes) each; returns ().
template <class T>
Var<T> mean_probability_loss(std::span<const Var<T>> draws, const std::int32_t* labels) {
  return neg(
      detail::log_probability(detail::mean_over_draws(draws, [&](Var<T> z) { return pick(softmax(z), labels); })));
}

/// mean over the draws of CE(z, y) + lambda KL(p || softmax z), plus eta times the entropy of p, the mean of the draws'
/// softmax: the loss of consistency regularisation (Jeong and Shin 2020, equation 8).
template <class T>
Var<T> consistency_loss(std::span<const Var<T>> draws, const std::int32_t* labels, std::type_identity_t<T> lambda,
                        std::type_identity_t<T> eta, std::type_identity_t<T> smoothing = 0) {
  const Var<T> own = detail::mean_over_draws(draws, [&](Var<T> z) { return cross_entropy(z, labels, smoothing); });
  const Var<T> p = detail::mean_over_draws(draws, [](Var<T> z) { return softmax(z); });
  const Var<T> mean_log = detail::mean_over_draws(draws, [](Var<T> z) { return log_softmax(z); });
  // sum_k p_k ((lambda - eta) log p_k - lambda mean log q_k)
  return own + sum(p * (scale(detail::log_probability(p), lambda - eta) - scale(mean_log, lambda)));
}

/// CE(clean, y) + lambda H(softmax clean, softmax noisy), H(p, q) = -sum_k p_k log q_k: stability training (Zheng et al.
/// 2016, equations 3 and 5), as Li et al. (2019, "Certified adversarial robustness with additive noise") train for
/// smoothing.
template <class T>
Var<T> stability_loss(Var<T> clean, Var<T> noisy, const std::int32_t* labels, std::type_identity_t<T> lambda,
                      std::type_identity_t<T> smoothing = 0) {
  const Var<T> log_noisy = log_softmax(noisy);  // one after another, in one order whatever the compiler prefers
  const Var<T> agreement = scale(sum(softmax(clean) * log_noisy), lambda);
  return cross_entropy(clean, labels, smoothing) - agreement;
}

/// max(0, gamma - (Phi^-1(p_y) - Phi^-1(max_{k != y} p_k))) where y has the largest probability, else 0: by how much the
/// certified radius, in units of sigma/2, falls short of gamma. Where the difference is not finite, it is 0. p:
/// (classes), at least 2; returns ().
template <class T>
Var<T> radius_hinge(Var<T> p, const std::int32_t* labels, std::type_identity_t<T> gamma) {
  const std::int64_t classes = pavise::detail::check_logits("radius_hinge", p, 2);
  Tape<T>& tape = p.tape();
  const std::int32_t* own = pavise::detail::own_labels("radius_hinge", tape, labels, classes);
  const int lanes = tape.lanes();
  return pavise::detail::sparse_loss(
      "radius_hinge", p, [=](auto, const T* x, std::int64_t g, T* y, auto* index, T* weight) {
        for (int lane = 0; lane < lanes; ++lane) {
          const auto at = [&](std::int64_t k) { return x[k * lanes + lane]; };
          const std::int64_t label = own[g * lanes + lane];
          std::int64_t other = label == 0 ? 1 : 0;
          for (std::int64_t k = other + 1; k < classes; ++k) {
            other = k != label && at(k) > at(other) ? k : other;
          }
          const double first = detail::normal_quantile(static_cast<double>(at(label)));
          const double second = detail::normal_quantile(static_cast<double>(at(other)));
          const double missing = static_cast<double>(gamma) - (first - second);
          const bool active = first > second && std::isfinite(first - second) && missing > 0;
          y[lane] = active ? static_cast<T>(missing) : T{0};
          for (std::int64_t entry = 0; index != nullptr && entry < pavise::detail::kSparseEntries; ++entry) {
            index[entry * lanes + lane] = -1;
            weight[entry * lanes + lane] = T{0};
          }
          if (index != nullptr && active) {
            index[lane] = static_cast<std::remove_reference_t<decltype(*index)>>(label);
            weight[lane] = static_cast<T>(-detail::quantile_slope(first));
            index[lanes + lane] = static_cast<std::remove_reference_t<decltype(*index)>>(other);
            weight[lanes + lane] = static_cast<T>(detail::quantile_slope(second));
          }
        }
      });
}

/// The loss of MACER (Zhai et al. 2020, equation 8): the smoothed classifier's cross-entropy, plus lambda sigma/2 times
/// radius_hinge of the mean of softmax(beta z), whose temperature 1/beta brings it near the votes that a certificate
/// counts.
template <class T>
Var<T> macer_loss(std::span<const Var<T>> draws, const std::int32_t* labels, std::type_identity_t<T> sigma,
                  std::type_identity_t<T> lambda, std::type_identity_t<T> gamma, std::type_identity_t<T> beta) {
  const Var<T> sharp = detail::mean_over_draws(draws, [&](Var<T> z) { return softmax(scale(z, beta)); });
  return mean_probability_loss(draws, labels) + scale(radius_hinge(sharp, labels, gamma), lambda * sigma / 2);
}

}  // namespace pavise::defend
