// SPDX-License-Identifier: MIT
// DeepFool: walks over the nearest of the planes between classes, until the class changes.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "pavise/attack/hyperplane.hpp"
#include "pavise/attack/search.hpp"

namespace pavise::attack {

struct DeepFoolOptions {
  std::int64_t steps = 50;  ///< at most
  double overshoot = 0.02;  ///< share of the perturbation by which it goes past the boundary
  std::string name = "deepfool";
};

/// DeepFool (Moosavi-Dezfooli et al. 2016, "DeepFool: a simple and accurate method to fool deep neural networks",
/// algorithm 2), for L2 and Linf. From r = 0, until the image is misclassified:
///   k  = argmin over k != y of |f_k| / ||w_k||,  f_k = z_k - z_y and w_k = grad f_k at x, dual norm
///   r += (|f_k| + 1e-4) / ||w_k||_2^2 * w_k   (L2),   (|f_k| + 1e-4) / ||w_k||_1 * sign(w_k)   (Linf)
///   x  = the clean image + (1 + overshoot) r, clipped to the pixel box
/// The overshoot multiplies the whole perturbation, once; some implementations multiply every step, or none. The 1e-4,
/// which the paper does not have, takes images on a boundary over it. The class to leave is the label. An image that is
/// never misclassified ends as its last iterate. The search knows no epsilon: the threat's decides what counts as
/// success. On a linear model the distance is (1 + overshoot) times the least one where the box is wide enough. It has
/// no targeted form. Deterministic. Cost of a step: two forward passes, and a backward pass for each class.
class DeepFool : public SearchAttack {
 public:
  /// Throws ValueError for a threat in L1, no steps, or a negative overshoot.
  explicit DeepFool(Threat threat, DeepFoolOptions options = {}) : SearchAttack(threat), options_(std::move(options)) {
    require(threat.norm != Norm::l1, options_.name, ": norm l1, expected linf or l2");
    require(options_.steps >= 1, options_.name, ": ", options_.steps, " steps, expected 1 or more");
    require(options_.overshoot >= 0.0 && std::isfinite(options_.overshoot), options_.name, ": overshoot ",
            options_.overshoot, ", expected 0 or more");
  }

  const DeepFoolOptions& options() const { return options_; }
  std::string name() const override { return options_.name; }
  bool random() const override { return false; }
  bool minimum_norm() const override { return true; }
  std::int64_t arrays(std::int32_t classes) const override { return classes + 6; }
  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(lanes, options_); }

 private:
  class State : public Search {
   public:
    State(const Lanes& lanes, const DeepFoolOptions& options)
        : options_(options),
          nearest_(lanes),
          x_(lanes.field()),
          r_(lanes.field()),
          direction_(lanes.field()),
          one_(lanes.values(1.0f)),
          length_(lanes.values()),
          over_(lanes.values(static_cast<float>(1.0 + options_.overshoot))) {}

    void start(Lanes& lanes, int lane) override {
      lanes.copy_lane(lanes.clean(), lane, x_.data());
      lanes.copy_lane(nullptr, lane, r_.data());
    }

    void step(Lanes& lanes) override {
      const Answer& here = nearest_.find(lanes, x_.data());
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        length_[l] = 0.0f;
        if (!lanes.active(lane)) {
          continue;
        }
        // Only a clean image that is wrong already, or one without any gradient, ends here.
        if (lanes.fooled(here, lane) || nearest_.dual()[l] == 0.0f) {
          end(lanes, lane);
          continue;
        }
        length_[l] = (std::abs(nearest_.difference()[l]) + 1e-4f * nearest_.unit()[l]) / nearest_.dual()[l];
      }
      if (!lanes.any_active()) {
        return;
      }
      LaneMath& math = lanes.math();
      math.direction(direction_.data(), nearest_.normal(), lanes.threat().norm);
      math.combine(r_.data(), r_.data(), one_, direction_.data(), length_);
      math.blend(x_.data(), lanes.threat(), {{lanes.clean(), one_}, {r_.data(), over_}});
      const Answer& there = lanes.classify(x_.data());
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (lanes.active(lane) && (lanes.fooled(there, lane) || lanes.step(lane) + 1 >= options_.steps)) {
          end(lanes, lane);
        }
      }
    }

   private:
    void end(Lanes& lanes, int lane) {
      lanes.keep(lane, x_.data());
      lanes.finish(lane);
    }

    const DeepFoolOptions& options_;
    detail::NearestClass nearest_;
    Field x_, r_, direction_;
    AlignedVector<float> one_, length_, over_;
  };

  DeepFoolOptions options_;
};

}  // namespace pavise::attack
