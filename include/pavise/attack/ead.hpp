// SPDX-License-Identifier: MIT
// Elastic-net attacks, for sparse changes.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>

#include "pavise/attack/minimum_norm.hpp"

namespace pavise::attack {

/// Which of the adversarial images counts as closest.
enum class EadRule {
  elastic_net,  ///< the one with the least beta ||delta||_1 + ||delta||_2^2
  l1,           ///< the one with the least ||delta||_1
};

/// Options of the elastic-net attack; the defaults are the published ones.
struct EadOptions {
  std::int64_t iterations = 1000;  ///< at most, for each constant
  double learning_rate = 0.01;     ///< the first; it falls as the square root of what is left
  double beta = 1e-3;              ///< weight of L1, and the threshold of a step's shrinkage
  EadRule rule = EadRule::elastic_net;
  bool accelerated = true;        ///< FISTA; else ISTA, which needs half the forward passes
  std::int64_t search_steps = 9;  ///< constants tried
  double initial_constant = 1e-3;
  double confidence = 0.0;  ///< kappa: the margin of the logits that counts as a success
  bool abort_early = true;  ///< leave a constant with which the objective no longer falls
  bool targeted = false;    ///< labels are targets
};

/// EAD (Chen et al. 2018, "EAD: elastic-net attacks to deep neural networks via adversarial examples", algorithm 1):
/// for the smallest constant c that succeeds, iterative shrinkage and thresholding finds
///   min c max(z_y - max_{i != y} z_i + kappa, 0) + beta ||x - clean||_1 + ||x - clean||_2^2 in the box
/// (targeted: max_{i != t} z_i - z_t + kappa), and the closest success of all iterates by `rule` is the answer. As in
/// the paper the shrinkage is by beta and not by beta times the learning rate, which weighs L1 by beta / learning rate
/// in effect. The gradient is taken at the extrapolated image, which may lie a little outside the box; success and
/// progress are judged at the image itself, image by image. Costs up to iterations * search_steps * (2 forward, 1
/// backward) passes an image. Throws ValueError for norms other than L1 and options out of range.
class Ead : public SearchAttack {
 public:
  explicit Ead(Threat threat, EadOptions options = {}) : SearchAttack(threat), options_(options) {
    require(threat.norm == Norm::l1, "ead: norm ", norm_name(threat.norm), ", expected l1");
    require(options.iterations >= 1, "ead: ", options.iterations, " iterations, expected 1 or more");
    require(options.search_steps >= 1, "ead: ", options.search_steps, " search steps, expected 1 or more");
    require(options.learning_rate > 0.0 && std::isfinite(options.learning_rate), "ead: learning rate ",
            options.learning_rate, ", expected more than 0");
    require(options.beta >= 0.0 && std::isfinite(options.beta), "ead: beta ", options.beta, ", expected 0 or more");
    require(options.initial_constant > 0.0 && options.initial_constant <= 1e10, "ead: initial constant ",
            options.initial_constant, ", expected more than 0, at most 1e10");
    require(options.confidence >= 0.0 && std::isfinite(options.confidence), "ead: confidence ", options.confidence,
            ", expected a finite margin of 0 or more");
  }

  const EadOptions& options() const { return options_; }
  std::string name() const override { return options_.rule == EadRule::l1 ? "ead-l1" : "ead-en"; }
  bool targeted() const override { return options_.targeted; }
  bool random() const override { return false; }
  bool minimum_norm() const override { return true; }
  std::int64_t arrays(std::int32_t) const override { return 3; }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(options_, lanes); }

 private:
  struct State : Search {
    State(const EadOptions& o, const Lanes& lanes)
        : options(o),
          margin(detail::margin_of_success(o.targeted, o.confidence)),
          x(lanes.field()),
          y(lanes.field()),
          gradient(lanes.field()),
          closest(lanes),
          constant(lanes.values<detail::ConstantSearch>()),
          progress(lanes.values<detail::Progress>()),
          iteration(lanes.values<std::int64_t>()),
          search_step(lanes.values<std::int64_t>()),
          succeeded(lanes.values<std::uint8_t>()),
          ended(lanes.values<std::uint8_t>()),
          absolute(lanes.values()),
          square(lanes.values()),
          weight(lanes.values()),
          rate(lanes.values()),
          momentum(lanes.values()) {}

    void start(Lanes& lanes, int lane) override {
      const auto l = static_cast<std::size_t>(lane);
      closest.start(lane);
      constant[l].start(options.initial_constant);
      search_step[l] = 0;
      descend(lanes, lane);
    }
    /// A descent with the lane's constant begins.
    void descend(Lanes& lanes, int lane) {
      const auto l = static_cast<std::size_t>(lane);
      lanes.copy_lane(lanes.clean(), lane, x.data());
      lanes.copy_lane(lanes.clean(), lane, y.data());
      absolute[l] = square[l] = 0.0f;
      progress[l].start();
      iteration[l] = 0;
      succeeded[l] = 0;
    }

    void step(Lanes& lanes) override {
      const Answer& answer = options.accelerated ? lanes.classify(x.data(), margin)
                                                 : lanes.differentiate(x.data(), margin, gradient.data());
      for (int lane = 0; lane < lanes.width(); ++lane) {
        ended[static_cast<std::size_t>(lane)] = lanes.active(lane) && look(lanes, answer, lane) ? 1 : 0;
      }
      closest.keep(lanes, x.data());
      if (options.accelerated && lanes.any_active()) {
        lanes.differentiate(y.data(), margin, gradient.data());
      }
      move(lanes);
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (ended[static_cast<std::size_t>(lane)] != 0 && lanes.active(lane)) {
          descend(lanes, lane);
        }
      }
    }

    /// Takes note of the lane's iterate; whether its descent is over.
    bool look(Lanes& lanes, const Answer& answer, int lane) {
      const auto l = static_cast<std::size_t>(lane);
      const bool success = detail::confident(lanes, answer, lane, options.targeted, options.confidence);
      const double elastic = options.beta * static_cast<double>(absolute[l]) + static_cast<double>(square[l]);
      closest.offer(lane, lanes.fooled(answer, lane), success,
                    options.rule == EadRule::l1 ? absolute[l] : static_cast<float>(elastic));
      if (success && lanes.step(lane) == 0) {
        lanes.finish(lane);  // the clean image is the closest
        return true;
      }
      succeeded[l] = succeeded[l] != 0 || success ? 1 : 0;
      const double short_of = options.confidence - static_cast<double>(answer.loss[l]);
      const double objective = elastic + constant[l].value() * short_of;
      const bool stuck = options.abort_early && progress[l].stuck(iteration[l], options.iterations, objective);
      if (iteration[l] + 1 < options.iterations && !stuck) {
        return false;
      }
      constant[l].next(succeeded[l] != 0);
      if (++search_step[l] >= options.search_steps) {
        lanes.finish(lane);
      }
      return true;
    }

    void move(const Lanes& lanes) {
      for (std::size_t l = 0; l < weight.size(); ++l) {
        const auto k = static_cast<double>(iteration[l]++);
        weight[l] = static_cast<float>(constant[l].value());
        rate[l] = static_cast<float>(options.learning_rate *
                                     std::sqrt(std::max(0.0, 1.0 - k / static_cast<double>(options.iterations))));
        momentum[l] = options.accelerated ? static_cast<float>(k / (k + 3.0)) : 0.0f;
      }
      lanes.math().elastic_step(x.data(), y.data(), gradient.data(), lanes.clean(), lanes.threat(), weight, rate,
                                momentum, static_cast<float>(options.beta), absolute, square);
    }

    const EadOptions options;
    const Loss margin;
    Field x, y, gradient;
    detail::Closest closest;
    AlignedVector<detail::ConstantSearch> constant;
    AlignedVector<detail::Progress> progress;
    AlignedVector<std::int64_t> iteration, search_step;
    AlignedVector<std::uint8_t> succeeded, ended;
    AlignedVector<float> absolute, square;
    AlignedVector<float> weight, rate, momentum;  ///< of a step
  };

  EadOptions options_;
};

}  // namespace pavise::attack
