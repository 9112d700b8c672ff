// SPDX-License-Identifier: MIT
// Signs of masked gradients that a classifier shows before anyone attacks it (Athalye, Carlini and Wagner 2018,
// "Obfuscated gradients give a false sense of security"): gradients that vanish, that are not the derivative of what is
// computed, or that are mostly noise.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/threat.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/evaluate/interval.hpp"
#include "pavise/evaluate/probe.hpp"
#include "pavise/evaluate/report.hpp"

namespace pavise::evaluate {

/// A sign that is a share: `count` of `total` images. It passes up to the threshold, fails where even the lower end of
/// the exact interval lies above it, and is unclear in between.
inline Sign share_sign(std::string name, std::int64_t count, std::int64_t total, double threshold, double confidence,
                       std::string sentence) {
  Sign sign;
  sign.name = std::move(name);
  sign.threshold = threshold;
  sign.images = total;
  sign.sentence = std::move(sentence);
  if (total == 0) {
    sign.state = SignState::unclear;
    return sign;
  }
  sign.value = static_cast<double>(count) / static_cast<double>(total);
  sign.interval = clopper_pearson(count, total, confidence);
  sign.state = sign.value <= threshold         ? SignState::passed
               : sign.interval.low > threshold ? SignState::failed
                                               : SignState::unclear;
  return sign;
}

/// A sign that says nothing about this classifier, and why.
inline Sign no_sign(std::string name, std::string why) {
  Sign sign;
  sign.name = std::move(name);
  sign.sentence = std::move(why);
  return sign;
}

namespace detail {

/// Below this a gradient has lost digits on its way: float's normal numbers end at 1.2e-38, and factors on the way back
/// are as small as 1e-8.
inline constexpr float kUnderflow = 1e-30f;

/// Points near the images, away from the box's walls so that a step of `margin` stays inside: the clean image moved by
/// uniform noise of a 32nd of the box. Exact values of a pixel (0, or steps of 1/255) may be where a defence is
/// special.
inline Tensor<float> points_near(const Probe& probe, const attack::Threat& threat, std::uint64_t seed) {
  const double box = threat.high - threat.low;
  Tensor<float> points = probe.images;
  for (std::int64_t i = 0; i < probe.size(); ++i) {
    auto random = probe_sequence(seed, probe.ids[static_cast<std::size_t>(i)], 0);
    for (float& v : points.row(i)) {
      const double moved = static_cast<double>(v) + random.uniform(-box / 32, box / 32);
      v = static_cast<float>(std::clamp(moved, threat.low + box / 32, threat.high - box / 32));
    }
  }
  return points;
}

inline std::string counted(std::int64_t count, std::int64_t total) { return concat(count, " of ", total); }

}  // namespace detail

/// The share of images at which the loss has no gradient: all of it zero, below 1e-30, or not a number, at the image
/// itself or at a random point near it.
inline Sign zero_gradients(const attack::Classifier& model, const Probe& probe, const attack::Threat& threat,
                           const attack::Loss& loss, std::uint64_t seed, double confidence) {
  std::vector<std::uint8_t> dead(static_cast<std::size_t>(probe.size()), 0);
  std::int64_t zeros = 0;
  std::int64_t elements = 0;
  for (const auto& points : {probe.images, detail::points_near(probe, threat, seed)}) {
    const auto answers = ask(model, probe, points, loss, true, seed, kProbeNumber);
    for (std::int64_t i = 0; i < probe.size(); ++i) {
      float largest = 0;
      bool finite = true;
      for (const float g : answers.gradient.row(i)) {
        largest = std::max(largest, std::abs(g));
        finite = finite && std::isfinite(g);
        zeros += g == 0.0f ? 1 : 0;
        ++elements;
      }
      if (!finite || largest < detail::kUnderflow) {
        dead[static_cast<std::size_t>(i)] = 1;
      }
    }
  }
  const auto count = std::count(dead.begin(), dead.end(), std::uint8_t{1});
  const double share = elements == 0 ? 0 : static_cast<double>(zeros) / static_cast<double>(elements);
  // One image in twenty: a few very confident images are no defence, and cost an attack no more than that.
  return share_sign("zero gradients", count, probe.size(), 0.05, confidence,
                    concat("at ", detail::counted(count, probe.size()),
                           " images the gradient of the loss is zero, below 1e-30 or not a number, so that an attack "
                           "that follows it stands still (of all derivatives ",
                           detail::percent(share), " are exactly zero)"));
}

namespace detail {

/// Directional derivatives by the gradient and by central differences, for each image and direction, at the first step
/// at which the change stands out of the rounding.
struct Differences {
  std::vector<double> predicted, measured;  ///< [M][directions]
  std::vector<std::uint8_t> informative;    ///< [M]: whether there is any change to compare
};

/// The margin loss differs from others by a factor alone and has no saturation of its own: what is compared here is the
/// model's backward pass with its forward pass. `direction(i, k, out)` writes direction k of image i, elements of
/// about 1.
template <class Direction>
Differences differences(const attack::Classifier& model, const Probe& probe, const Tensor<float>& points,
                        const Tensor<float>& gradient, const attack::Threat& threat, const Direction& direction,
                        std::int64_t directions, std::uint64_t seed) {
  const std::int64_t m = probe.size();
  const std::int64_t n = probe.image_size();
  const attack::Loss margin = [](Var<float> z, const std::int32_t* labels) { return margin_loss(z, labels); };
  Differences out;
  out.predicted.resize(static_cast<std::size_t>(m * directions));
  out.measured.resize(out.predicted.size());
  out.informative.resize(static_cast<std::size_t>(m));
  // Steps in parts of the box: the smallest that is seen above the rounding is the closest to the derivative. A
  // function of steps shows no change at the small ones, and then its treads at the large ones.
  for (const double part : {1.0 / 512, 1.0 / 128, 1.0 / 32}) {
    const double h = part * (threat.high - threat.low);
    Differences now = out;
    std::vector<double> noise(static_cast<std::size_t>(m), 0.0);
    for (std::int64_t k = 0; k < directions; ++k) {
      Tensor<float> ahead = points;
      Tensor<float> behind = points;
      std::vector<float> d(static_cast<std::size_t>(n));
      for (std::int64_t i = 0; i < m; ++i) {
        direction(i, k, d.data());
        double sum = 0;
        for (std::int64_t e = 0; e < n; ++e) {
          const double step = h * static_cast<double>(d[static_cast<std::size_t>(e)]);
          ahead[i * n + e] = static_cast<float>(static_cast<double>(points[i * n + e]) + step);
          behind[i * n + e] = static_cast<float>(static_cast<double>(points[i * n + e]) - step);
          // What the floats really differ by.
          sum += static_cast<double>(gradient[i * n + e]) *
                 (static_cast<double>(ahead[i * n + e]) - static_cast<double>(behind[i * n + e]));
        }
        now.predicted[static_cast<std::size_t>(i * directions + k)] = sum;
      }
      const auto a = ask(model, probe, ahead, margin, false, seed, kProbeNumber);
      const auto b = ask(model, probe, behind, margin, false, seed, kProbeNumber);
      for (std::int64_t i = 0; i < m; ++i) {
        const auto at = static_cast<std::size_t>(i);
        now.measured[static_cast<std::size_t>(i * directions + k)] =
            static_cast<double>(a.loss[at]) - static_cast<double>(b.loss[at]);
        for (std::int64_t c = 0; c < a.classes; ++c) {
          noise[at] =
              std::max(noise[at], std::abs(static_cast<double>(a.logits[static_cast<std::size_t>(i * a.classes + c)])));
        }
      }
    }
    for (std::int64_t i = 0; i < m; ++i) {
      double change = 0;
      for (std::int64_t k = 0; k < directions; ++k) {
        const auto at = static_cast<std::size_t>(i * directions + k);
        change = std::max({change, std::abs(now.predicted[at]), std::abs(now.measured[at])});
      }
      // Rounding of a network's sums: about 1e-5 of its largest logit. A hundred times that leaves two digits.
      if (out.informative[static_cast<std::size_t>(i)] == 0 && change > 1e-3 * noise[static_cast<std::size_t>(i)] &&
          change > 0) {
        out.informative[static_cast<std::size_t>(i)] = 1;
        for (std::int64_t k = 0; k < directions; ++k) {
          const auto at = static_cast<std::size_t>(i * directions + k);
          out.predicted[at] = now.predicted[at];
          out.measured[at] = now.measured[at];
        }
      }
    }
  }
  return out;
}

}  // namespace detail

/// Whether gradients are derivatives: predicted against measured changes of the margin loss near each image, in random
/// directions (two signs) and along the sign of the gradient. Of a random classifier for one draw.
inline std::array<Sign, 2> finite_differences(const attack::Classifier& model, const Probe& probe,
                                              const attack::Threat& threat, std::uint64_t seed, double confidence) {
  constexpr std::int64_t kDirections = 8;
  const attack::Classifier one = model.with_draws(1);
  const std::int64_t n = probe.image_size();
  const auto points = detail::points_near(probe, threat, seed);
  const attack::Loss margin = [](Var<float> z, const std::int32_t* labels) { return margin_loss(z, labels); };
  Tensor<float> gradient = ask(one, probe, points, margin, true, seed, kProbeNumber).gradient;
  for (float& g : gradient) {
    g = std::isfinite(g) ? g : 0.0f;
  }
  const auto random = detail::differences(
      one, probe, points, gradient, threat,
      [&](std::int64_t i, std::int64_t k, float* d) {
        auto sequence = probe_sequence(seed, probe.ids[static_cast<std::size_t>(i)], 1 + static_cast<std::uint32_t>(k));
        for (std::int64_t e = 0; e < n; ++e) {
          d[e] = (sequence.word() & 0x80000000U) != 0 ? 1.0f : -1.0f;
        }
      },
      kDirections, seed);
  const auto along = detail::differences(
      one, probe, points, gradient, threat,
      [&](std::int64_t i, std::int64_t, float* d) {
        for (std::int64_t e = 0; e < n; ++e) {
          d[e] = static_cast<float>((gradient[i * n + e] > 0.0f) - (gradient[i * n + e] < 0.0f));
        }
      },
      1, seed);
  std::int64_t random_total = 0;
  std::int64_t random_bad = 0;
  std::int64_t along_total = 0;
  std::int64_t along_bad = 0;
  for (std::int64_t i = 0; i < probe.size(); ++i) {
    double pp = 0;
    double mm = 0;
    double pm = 0;
    for (std::int64_t k = 0; k < kDirections; ++k) {
      const double p = random.predicted[static_cast<std::size_t>(i * kDirections + k)];
      const double q = random.measured[static_cast<std::size_t>(i * kDirections + k)];
      pp += p * p;
      mm += q * q;
      pm += p * q;
    }
    if (random.informative[static_cast<std::size_t>(i)] != 0) {
      ++random_total;
      random_bad += pm >= 0.8 * std::sqrt(pp) * std::sqrt(mm) && pp > 0 && mm > 0 ? 0 : 1;
    }
    if (along.informative[static_cast<std::size_t>(i)] != 0) {
      ++along_total;
      const double ratio = along.measured[static_cast<std::size_t>(i)] / along.predicted[static_cast<std::size_t>(i)];
      along_bad += ratio >= 0.5 && ratio <= 1.5 ? 0 : 1;
    }
  }
  // Kinks of ReLUs within a step cost a smooth network's images some agreement, seldom a fifth of it; one image in ten
  // is allowed to.
  return {
      share_sign("finite differences in random directions", random_bad, random_total, 0.1, confidence,
                 concat("at ", detail::counted(random_bad, random_total),
                        " images the changes of the margin that the gradient predicts in ", kDirections,
                        " random directions correlate by less than 0.8 with the changes that are measured: there it "
                        "is not the derivative of what the model computes")),
      share_sign("finite differences along the gradient", along_bad, along_total, 0.1, confidence,
                 concat("at ", detail::counted(along_bad, along_total),
                        " images a small step along the sign of the gradient changes the margin by less than half "
                        "or more than one and a half times what the gradient predicts"))};
}

/// How much of the gradient of a random classifier is signal: the median over images of the cosine between two
/// independent estimates, each a mean over the draws of one query.
inline Sign gradient_variance(const attack::Classifier& model, const Probe& probe, const attack::Loss& loss,
                              std::uint64_t seed) {
  const auto a = ask(model, probe, probe.images, loss, true, seed, kProbeNumber + 1);
  const auto b = ask(model, probe, probe.images, loss, true, seed, kProbeNumber + 2);
  std::vector<double> cosines;
  for (std::int64_t i = 0; i < probe.size(); ++i) {
    double aa = 0;
    double bb = 0;
    double ab = 0;
    const auto u = a.gradient.row(i);
    const auto v = b.gradient.row(i);
    for (std::size_t e = 0; e < u.size(); ++e) {
      aa += static_cast<double>(u[e]) * static_cast<double>(u[e]);
      bb += static_cast<double>(v[e]) * static_cast<double>(v[e]);
      ab += static_cast<double>(u[e]) * static_cast<double>(v[e]);
    }
    const double cosine = ab / (std::sqrt(aa) * std::sqrt(bb));
    cosines.push_back(std::isfinite(cosine) ? cosine : 0.0);
  }
  Sign sign;
  sign.name = "variance of the gradient";
  // Estimates with cosine c lie at sqrt(c) from the true direction: at 0.25 half of each step goes there.
  sign.threshold = 0.25;
  sign.at_most = false;
  sign.images = probe.size();
  if (cosines.empty()) {
    sign.state = SignState::unclear;
    return sign;
  }
  std::sort(cosines.begin(), cosines.end());
  sign.value = cosines[cosines.size() / 2];
  sign.interval = {sign.value, sign.value};
  sign.state = sign.value >= sign.threshold ? SignState::passed : SignState::failed;
  sign.sentence = concat("two estimates of the gradient, each the mean of ", model.draws(),
                         " draws, have this cosine (the median over the images); below the threshold they are mostly "
                         "noise, and an attack needs more draws");
  return sign;
}

}  // namespace pavise::evaluate
