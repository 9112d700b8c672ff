// SPDX-License-Identifier: MIT
// The fast minimum-norm attack.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>

#include "pavise/attack/minimum_norm.hpp"

namespace pavise::attack {

/// Options of the fast minimum-norm attack. A step size of 0 means the published one of the norm.
struct FmnOptions {
  std::int64_t steps = 100;
  double step_size = 0.0;        ///< the first alpha: 10 in Linf, else 1
  double final_step_size = 0.0;  ///< the last one: a hundredth of the first
  double gamma = 0.05;           ///< the first factor by which epsilon changes
  double final_gamma = 0.001;
  bool targeted = false;  ///< labels are targets
};

/// FMN (Pintor et al. 2021, "Fast minimum-norm adversarial attacks through adaptive norm constraints", algorithm 1),
/// in Linf, L2 and L1: projected steps along the gradient of the margin L = max_{i != y} z_i - z_y, whose ball follows
/// the boundary. With delta = x - clean and dual norm q:
///   adversarial: epsilon = min(epsilon (1 - gamma), closest so far);  not, but was: epsilon *= 1 + gamma
///   not adversarial, nor ever was: epsilon = (||delta||_p - L / ||grad L||_q) (1 + gamma)^steps
///   x <- clip to the box( project on the ball( x + alpha grad L / ||grad L||_2 ) )
/// where alpha and gamma fall along half a cosine. The power of 1 + gamma (of all steps so far) is not in the paper:
/// without it images come ever closer to the boundary of a network that is linear there, and never cross it. In L1 the
/// projection is on ball and box together. The answer is the closest adversarial iterate, not the last. Costs `steps`
/// gradients an image. Throws ValueError for options out of range.
class Fmn : public SearchAttack {
 public:
  explicit Fmn(Threat threat, FmnOptions options = {}) : SearchAttack(threat), options_(options) {
    require(options_.steps >= 1, "fmn: ", options_.steps, " steps, expected 1 or more");
    require(options_.step_size >= 0.0 && std::isfinite(options_.step_size), "fmn: step size ", options_.step_size,
            ", expected 0 or more");
    if (options_.step_size == 0.0) {
      options_.step_size = threat.norm == Norm::linf ? 10.0 : 1.0;
    }
    if (options_.final_step_size == 0.0) {
      options_.final_step_size = options_.step_size / 100.0;
    }
    require(options_.final_step_size > 0.0 && options_.final_step_size <= options_.step_size, "fmn: final step size ",
            options_.final_step_size, ", expected more than 0, at most the first, ", options_.step_size);
    require(options_.gamma > 0.0 && options_.gamma < 1.0, "fmn: gamma ", options_.gamma,
            ", expected more than 0, less than 1");
    require(options_.final_gamma > 0.0 && options_.final_gamma <= options_.gamma, "fmn: final gamma ",
            options_.final_gamma, ", expected more than 0, at most the first, ", options_.gamma);
  }

  const FmnOptions& options() const { return options_; }
  std::string name() const override { return "fmn"; }
  bool targeted() const override { return options_.targeted; }
  bool random() const override { return false; }
  bool minimum_norm() const override { return true; }
  std::int64_t arrays(std::int32_t) const override { return 2; }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(options_, lanes); }

 private:
  struct State : Search {
    State(const FmnOptions& o, const Lanes& lanes)
        : options(o),
          margin(detail::margin_of_success(o.targeted)),
          x(lanes.field()),
          gradient(lanes.field()),
          closest(lanes),
          epsilon(lanes.values()),
          farthest(lanes.values()),
          overshoot(lanes.values()),
          distance(lanes.values()),
          dual(lanes.values()),
          one(lanes.values(1.0f)),
          alpha(lanes.values()) {}

    void start(Lanes& lanes, int lane) override {
      const auto l = static_cast<std::size_t>(lane);
      lanes.copy_lane(lanes.clean(), lane, x.data());
      closest.start(lane);
      farthest[l] = epsilon[l] = detail::farthest_corner(lanes, lane);
      overshoot[l] = 1.0f;
    }

    void step(Lanes& lanes) override {
      const Threat& threat = lanes.threat();
      const Answer& answer = lanes.differentiate(x.data(), margin, gradient.data());
      lanes.math().distances(x.data(), lanes.clean(), threat.norm, distance);
      lanes.math().norm(gradient.data(), dual_norm(threat.norm), dual);
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        alpha[l] = 0.0f;
        if (!lanes.active(lane)) {
          continue;
        }
        const std::int64_t k = lanes.step(lane);
        const bool fooled = lanes.fooled(answer, lane);
        closest.offer(lane, fooled, fooled, distance[l]);
        if (k + 1 >= options.steps || (fooled && k == 0)) {
          lanes.finish(lane);
          continue;
        }
        const auto gamma =
            static_cast<float>(detail::cosine_annealed(k, options.steps, options.gamma, options.final_gamma));
        alpha[l] =
            static_cast<float>(detail::cosine_annealed(k, options.steps, options.step_size, options.final_step_size));
        float next = 0.0f;
        if (fooled) {
          next = std::min(epsilon[l] * (1.0f - gamma), closest.distance(lane));
        } else if (closest.found(lane)) {
          next = epsilon[l] * (1.0f + gamma);
        } else {
          overshoot[l] *= 1.0f + gamma;
          next = (distance[l] + std::abs(answer.loss[l]) / std::max(dual[l], 1e-12f)) * overshoot[l];
        }
        epsilon[l] = next < farthest[l] ? next : farthest[l];  // also where it is not a number
      }
      closest.keep(lanes, x.data());
      LaneMath& math = lanes.math();
      math.direction(gradient.data(), gradient.data(), Norm::l2);
      math.combine(x.data(), x.data(), one, gradient.data(), alpha);
      math.project(x.data(), lanes.clean(), threat, epsilon);
    }

    const FmnOptions options;
    const Loss margin;
    Field x, gradient;
    detail::Closest closest;
    AlignedVector<float> epsilon, farthest, overshoot;
    AlignedVector<float> distance, dual, one, alpha;  ///< of a step
  };

  FmnOptions options_;
};

}  // namespace pavise::attack
