// SPDX-License-Identifier: MIT
// SPSA: the gradient from pairs of scores.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "pavise/attack/black_box.hpp"
#include "pavise/attack/search.hpp"

namespace pavise::attack {

struct SpsaOptions {
  std::int64_t steps = 100;
  std::int64_t samples = 128;   ///< queries for the gradient of a step: an even number, as they come in pairs
  double delta = 0.01;          ///< how far a sample is from the image in each pixel, in units of the pixels
  double learning_rate = 0.01;  ///< of Adam, in units of the pixels
  bool targeted = false;        ///< labels are targets
};

/// Simultaneous perturbation stochastic approximation (Spall 1992) as an attack (Uesato et al. 2018, "Adversarial risk
/// and the dangers of evaluating against weak attacks", Algorithm 1): the gradient of the margin J is estimated from
/// scores alone, as the mean over random v in {-1,1}^n of
///   (J(x + delta v) - J(x - delta v)) / (2 delta) v,
/// Adam (0.9, 0.999) takes a step along it, and the result is projected on the ball and the box. For Linf and L2.
/// A step takes `samples` queries and one of the image itself, which ends with its first success; otherwise the image
/// with the smallest margin counts. Choice: samples are clipped to the pixel box, so that the classifier sees no image
/// that could not be; v is then the difference that was made, and a pixel at the wall keeps the sign of its gradient.
/// Sixteen images are sampled side by side rather than sixteen samples of one: there is nothing to gain while images are
/// left.
class Spsa : public SearchAttack {
 public:
  explicit Spsa(Threat threat, SpsaOptions options = {}) : SearchAttack(threat), options_(options) {
    require(threat.norm != Norm::l1, "spsa: norm ", norm_name(threat.norm), ", expected linf or l2");
    require(options_.steps >= 1, "spsa: ", options_.steps, " steps, expected 1 or more");
    require(options_.samples >= 2 && options_.samples % 2 == 0, "spsa: ", options_.samples,
            " samples, expected an even number of 2 or more");
    require(std::isfinite(options_.delta) && options_.delta > 0.0, "spsa: delta ", options_.delta,
            ", expected more than 0");
    require(std::isfinite(options_.learning_rate) && options_.learning_rate > 0.0, "spsa: learning rate ",
            options_.learning_rate, ", expected more than 0");
  }

  const SpsaOptions& options() const { return options_; }
  std::string name() const override { return "spsa"; }
  bool targeted() const override { return options_.targeted; }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(*this, lanes); }

 private:
  class State : public Search {
   public:
    State(const Spsa& attack, const Lanes& lanes)
        : attack_(attack),
          x_(lanes.array()),
          probe_(lanes.array()),
          slope_(lanes.array()),
          first_(lanes.array()),
          second_(lanes.array()) {}

    void start(Lanes& lanes, int lane) override {
      const auto l = static_cast<std::size_t>(lane);
      lanes.copy_lane(lanes.clean(), lane, x_.data());
      for (std::int64_t i = lane; i < lanes.size() * lanes.width(); i += lanes.width()) {
        const auto e = static_cast<std::size_t>(i);
        slope_[e] = first_[e] = second_[e] = 0.0f;
      }
      best_[l] = std::numeric_limits<float>::infinity();
      plus_[l] = 0;
    }

    /// One query: the image itself, then sample by sample the points of its step.
    void step(Lanes& lanes) override {
      const std::int64_t cycle = attack_.options().samples + 1;
      const auto size = static_cast<float>(attack_.options().delta);
      alignas(64) PerLane<float> shift{};
      detail::LaneNames names;
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const std::int64_t phase = lanes.step(lane) % cycle;
        shift[static_cast<std::size_t>(lane)] = phase == 0 ? 0.0f : phase % 2 == 1 ? size : -size;
        // Both samples of a pair have its number; the image itself none.
        names.set(lanes, lane, lanes.step(lane) / cycle * (cycle / 2) + (std::max<std::int64_t>(phase, 1) - 1) / 2);
      }
      const auto low = static_cast<float>(lanes.threat().low);
      const auto high = static_cast<float>(lanes.threat().high);
      kernels::run_light([&](auto isa) {
        sign_probe<float>(isa, probe_.data(), x_.data(), lanes.size(), lanes.width(), names.keys(lanes),
                          names.iteration.data(), shift.data(), low, high);
      });
      const Answer& answer = lanes.classify(probe_.data());
      alignas(64) PerLane<float> factor{};
      bool any = false;
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (!lanes.active(lane)) {
          continue;
        }
        const auto l = static_cast<std::size_t>(lane);
        const std::int64_t phase = lanes.step(lane) % cycle;
        const float margin = detail::margin_of(lanes, answer, lane, attack_.targeted());
        if (phase == 0) {
          judge(lanes, answer, lane, margin);
        } else if (phase % 2 == 1) {
          plus_[l] = margin;
        } else {
          const float difference = plus_[l] - margin;
          factor[l] = std::isfinite(difference) ? difference : 0.0f;
          any = any || factor[l] != 0.0f;
        }
        shift[l] = size;
      }
      if (any) {
        kernels::run_light([&](auto isa) {
          sign_slope<float>(isa, slope_.data(), x_.data(), lanes.size(), lanes.width(), names.keys(lanes),
                            names.iteration.data(), shift.data(), factor.data(), low, high);
        });
      }
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (lanes.active(lane) && (lanes.step(lane) + 1) % cycle == 0) {
          update(lanes, lane, (lanes.step(lane) + 1) / cycle);
        }
      }
    }

   private:
    void judge(Lanes& lanes, const Answer& answer, int lane, float margin) {
      const auto l = static_cast<std::size_t>(lane);
      const bool success = lanes.fooled(answer, lane);
      if (success || margin < best_[l]) {
        best_[l] = margin;
        lanes.keep(lane, x_.data());
      }
      if (success || lanes.step(lane) / (attack_.options().samples + 1) >= attack_.options().steps) {
        lanes.finish(lane);
      }
    }

    /// Adam's step number `number` (from 1) of one lane, and the projection.
    void update(Lanes& lanes, int lane, std::int64_t number) {
      constexpr double kFirst = 0.9;
      constexpr double kSecond = 0.999;
      constexpr double kTiny = 1e-9;
      const SpsaOptions& options = attack_.options();
      // slope holds differences of samples, 2 delta v, rather than v.
      const double scale = 1.0 / (2.0 * options.delta * options.delta * static_cast<double>(options.samples));
      const double unbias_first = 1.0 / (1.0 - std::pow(kFirst, static_cast<double>(number)));
      const double unbias_second = 1.0 / (1.0 - std::pow(kSecond, static_cast<double>(number)));
      const Threat& threat = lanes.threat();
      const bool l2 = threat.norm == Norm::l2;
      double sum = 0;
      for (std::int64_t i = lane; i < lanes.size() * lanes.width(); i += lanes.width()) {
        const auto e = static_cast<std::size_t>(i);
        const double g = static_cast<double>(slope_[e]) * scale;
        slope_[e] = 0.0f;
        first_[e] = static_cast<float>(std::fma(1.0 - kFirst, g, kFirst * static_cast<double>(first_[e])));
        second_[e] = static_cast<float>(std::fma(1.0 - kSecond, g * g, kSecond * static_cast<double>(second_[e])));
        const double move = options.learning_rate * (static_cast<double>(first_[e]) * unbias_first) /
                            (std::sqrt(static_cast<double>(second_[e]) * unbias_second) + kTiny);
        x_[e] -= static_cast<float>(move);
        const double d = static_cast<double>(x_[e]) - static_cast<double>(lanes.clean()[e]);
        sum = std::fma(d, d, sum);
      }
      const double epsilon = threat.epsilon;
      const double factor = l2 && sum > epsilon * epsilon ? epsilon / std::sqrt(sum) : 1.0;
      for (std::int64_t i = lane; i < lanes.size() * lanes.width(); i += lanes.width()) {
        const auto e = static_cast<std::size_t>(i);
        const auto c = static_cast<double>(lanes.clean()[e]);
        double v = static_cast<double>(x_[e]);
        v = l2 ? std::fma(v - c, factor, c) : std::clamp(v, c - epsilon, c + epsilon);
        x_[e] = std::clamp(static_cast<float>(v), static_cast<float>(threat.low), static_cast<float>(threat.high));
      }
    }

    const Spsa& attack_;
    AlignedVector<float> x_, probe_, slope_, first_, second_;
    PerLane<float> best_{}, plus_{};
  };

  SpsaOptions options_;
};

}  // namespace pavise::attack
