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

  std::int64_t arrays(std::int32_t) const override { return 5; }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(*this, lanes); }

 private:
  class State : public Search {
   public:
    State(const Spsa& attack, const Lanes& lanes)
        : attack_(attack),
          x_(lanes.field()),
          probe_(lanes.field()),
          slope_(lanes.field()),
          first_(lanes.field()),
          second_(lanes.field()),
          draws_(detail::draws_of(lanes)),
          best_(lanes.values()),
          plus_(lanes.values()),
          size_(lanes.values(static_cast<float>(attack.options().delta))),
          shift_(lanes.values()),
          factor_(lanes.values()),
          rate_(lanes.values()),
          root_(lanes.values()),
          radius_(lanes.values()) {}

    void start(Lanes& lanes, int lane) override {
      const auto l = static_cast<std::size_t>(lane);
      lanes.copy_lane(lanes.clean(), lane, x_.data());
      for (const Field* field : {&slope_, &first_, &second_}) {
        lanes.copy_lane(nullptr, lane, field->data());
      }
      draws_.image[l] = lanes.id(lane);
      draws_.restart[l] = lanes.restart(lane);
      best_[l] = std::numeric_limits<float>::infinity();
      plus_[l] = 0;
    }

    /// One query: the image itself, then sample by sample the points of its step.
    void step(Lanes& lanes) override {
      LaneMath& math = lanes.math();
      const std::int64_t cycle = attack_.options().samples + 1;
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        const std::int64_t phase = lanes.step(lane) % cycle;
        shift_[l] = phase == 0 ? 0.0f : phase % 2 == 1 ? size_[l] : -size_[l];
        // Both samples of a pair have its number; the image itself none.
        draws_.iteration[l] = static_cast<std::uint32_t>(lanes.step(lane) / cycle * (cycle / 2) +
                                                         (std::max<std::int64_t>(phase, 1) - 1) / 2);
      }
      math.probe_signs(probe_.data(), x_.data(), draws_, shift_, lanes.threat());
      const Answer& answer = lanes.classify(probe_.data());
      bool any_pair = false;
      bool any_update = false;
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        factor_[l] = rate_[l] = 0.0f;
        radius_[l] = std::numeric_limits<float>::infinity();  // moves nothing
        if (!lanes.active(lane)) {
          continue;
        }
        const std::int64_t phase = lanes.step(lane) % cycle;
        const float margin = detail::margin_of(lanes, answer, lane, attack_.targeted());
        if (phase == 0) {
          judge(lanes, answer, lane, margin);
        } else if (phase % 2 == 1) {
          plus_[l] = margin;
        } else {
          const float difference = plus_[l] - margin;
          factor_[l] = std::isfinite(difference) ? difference : 0.0f;
          any_pair = any_pair || factor_[l] != 0.0f;
        }
        if (phase + 1 == cycle) {
          const auto number = static_cast<double>((lanes.step(lane) + 1) / cycle);  // of the update, from 1
          rate_[l] = static_cast<float>(attack_.options().learning_rate / (1.0 - std::pow(0.9, number)));
          root_[l] = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(0.999, number)));
          radius_[l] = static_cast<float>(lanes.threat().epsilon);
          any_update = true;
        }
      }
      if (any_pair) {
        math.add_slope(slope_.data(), x_.data(), draws_, size_, factor_, lanes.threat());
      }
      if (any_update) {
        // slope holds differences of samples, 2 delta v, rather than v.
        const double delta = attack_.options().delta;
        const double scale = 1.0 / (2.0 * delta * delta * static_cast<double>(attack_.options().samples));
        math.adam_step(x_.data(), slope_.data(), first_.data(), second_.data(), static_cast<float>(scale), rate_,
                       root_);
        math.project(x_.data(), lanes.clean(), lanes.threat(), radius_);
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

    const Spsa& attack_;
    Field x_, probe_, slope_, first_, second_;
    LaneDraws draws_;
    AlignedVector<float> best_, plus_;
    AlignedVector<float> size_, shift_, factor_, rate_, root_, radius_;  ///< of a step
  };

  SpsaOptions options_;
};

}  // namespace pavise::attack
