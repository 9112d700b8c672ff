// SPDX-License-Identifier: MIT
// The attack that decouples direction and norm.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>

#include "pavise/attack/minimum_norm.hpp"

namespace pavise::attack {

/// Options of the DDN attack; the defaults are the published ones.
struct DdnOptions {
  std::int64_t steps = 100;
  double initial_norm = 1.0;
  double gamma = 0.05;            ///< factor by which the norm changes
  double step_size = 1.0;         ///< the first alpha
  double final_step_size = 0.01;  ///< and the last
  bool targeted = false;          ///< labels are targets
};

/// DDN (Rony et al. 2019, "Decoupling direction and norm for efficient gradient-based L2 adversarial attacks",
/// algorithm 1): with delta = x - clean and g the gradient of the cross-entropy (targeted: minus that),
///   delta <- delta + alpha g / ||g||_2;  norm *= 1 - gamma where x is adversarial, 1 + gamma where it is not
///   x <- clip to the box( clean + norm delta / ||delta||_2 )
/// where alpha falls along half a cosine. The answer is the closest adversarial iterate, not the last. The rounding of
/// pixels to 256 levels that the authors' program does by default is left out: it belongs to a threat model of files,
/// not of pixels. Cross-entropy leads away from all classes as their probabilities are: where more than two of them
/// share the probability at the boundary, it does not lead to its nearest point (FMN's margin does), and where the
/// softmax is saturated so that the gradient is 0 it leads nowhere. Costs `steps` gradients an image. Throws ValueError
/// for norms other than L2 and options out of range.
class Ddn : public SearchAttack {
 public:
  explicit Ddn(Threat threat, DdnOptions options = {}) : SearchAttack(threat), options_(options) {
    require(threat.norm == Norm::l2, "ddn: norm ", norm_name(threat.norm), ", expected l2 (fmn attacks in any norm)");
    require(options.steps >= 1, "ddn: ", options.steps, " steps, expected 1 or more");
    require(options.initial_norm > 0.0 && std::isfinite(options.initial_norm), "ddn: initial norm ",
            options.initial_norm, ", expected more than 0");
    require(options.gamma > 0.0 && options.gamma < 1.0, "ddn: gamma ", options.gamma,
            ", expected more than 0, less than 1");
    require(options.step_size > 0.0 && std::isfinite(options.step_size), "ddn: step size ", options.step_size,
            ", expected more than 0");
    require(options.final_step_size > 0.0 && options.final_step_size <= options.step_size, "ddn: final step size ",
            options.final_step_size, ", expected more than 0, at most the first, ", options.step_size);
  }

  const DdnOptions& options() const { return options_; }
  std::string name() const override { return "ddn"; }
  bool targeted() const override { return options_.targeted; }
  bool random() const override { return false; }
  bool minimum_norm() const override { return true; }
  std::int64_t arrays(std::int32_t) const override { return 2; }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(options_, lanes); }

 private:
  struct State : Search {
    State(const DdnOptions& o, const Lanes& lanes)
        : options(o),
          x(lanes.field()),
          gradient(lanes.field()),
          closest(lanes),
          norm(lanes.values<double>()),
          farthest(lanes.values()),
          one(lanes.values(1.0f)),
          alpha(lanes.values()),
          length(lanes.values()),
          factor(lanes.values()) {}

    void start(Lanes& lanes, int lane) override {
      lanes.copy_lane(lanes.clean(), lane, x.data());
      closest.start(lane);
      norm[static_cast<std::size_t>(lane)] = options.initial_norm;
      farthest[static_cast<std::size_t>(lane)] = detail::farthest_corner(lanes, lane);
    }

    void step(Lanes& lanes) override {
      const Answer& answer = lanes.differentiate(
          x.data(), [](Var<float> z, const std::int32_t* labels) { return cross_entropy(z, labels); }, gradient.data());
      lanes.math().distances(x.data(), lanes.clean(), lanes.threat().norm, length);
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        alpha[l] = 0.0f;
        if (!lanes.active(lane)) {
          continue;
        }
        const std::int64_t k = lanes.step(lane);
        const bool fooled = lanes.fooled(answer, lane);
        closest.offer(lane, fooled, fooled, length[l]);
        if (k + 1 >= options.steps || (fooled && k == 0)) {
          lanes.finish(lane);
          continue;
        }
        norm[l] *= fooled ? 1.0 - options.gamma : 1.0 + options.gamma;
        norm[l] = std::min(norm[l], static_cast<double>(farthest[l]));
        const double size = detail::cosine_annealed(k, options.steps, options.step_size, options.final_step_size);
        alpha[l] = static_cast<float>(options.targeted ? -size : size);
      }
      closest.keep(lanes, x.data());
      move(lanes);
    }

    void move(Lanes& lanes) {
      LaneMath& math = lanes.math();
      math.direction(gradient.data(), gradient.data(), Norm::l2);
      math.combine(x.data(), x.data(), one, gradient.data(), alpha);
      math.distances(x.data(), lanes.clean(), lanes.threat().norm, length);
      for (std::size_t l = 0; l < length.size(); ++l) {
        const auto wanted = static_cast<float>(norm[l]);
        factor[l] = length[l] > 1e-20f ? wanted / length[l] : 1.0f;
      }
      math.rescale(x.data(), lanes.clean(), lanes.threat(), factor);
    }

    const DdnOptions options;
    Field x, gradient;
    detail::Closest closest;
    AlignedVector<double> norm;
    AlignedVector<float> farthest;
    AlignedVector<float> one, alpha, length, factor;  ///< of a step
  };

  DdnOptions options_;
};

}  // namespace pavise::attack
