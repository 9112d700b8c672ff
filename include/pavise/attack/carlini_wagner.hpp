// SPDX-License-Identifier: MIT
// The attacks of Carlini and Wagner (2017), "Towards evaluating the robustness of neural networks".
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>

#include "pavise/attack/minimum_norm.hpp"

namespace pavise::attack {

/// Options of the L2 attack; the defaults are those of its authors' program.
struct CarliniWagnerOptions {
  std::int64_t iterations = 10000;  ///< of Adam, at most, for each constant
  double learning_rate = 0.01;      ///< in tanh space
  std::int64_t search_steps = 9;    ///< constants tried
  double initial_constant = 1e-3;
  double confidence = 0.0;  ///< kappa: the margin of the logits that counts as a success
  bool abort_early = true;  ///< leave a constant with which the objective no longer falls
  bool targeted = false;    ///< labels are targets
};

/// The L2 attack: for the smallest constant c that succeeds, Adam on w finds
///   min ||x - clean||_2^2 + c max(z_y - max_{i != y} z_i + kappa, 0),  x = low + (high - low) (tanh w + 1) / 2
/// (targeted: max_{i != t} z_i - z_t + kappa), and the closest success of all iterates is the answer; where none has
/// the confidence, the closest that fools at all. For each c, w and Adam begin anew. Progress, and therefore the end of
/// a descent, is judged image by image. The authors' repetition of the largest constant in a last of ten or more steps
/// is left out: it would give the same image again. Costs up to iterations * search_steps gradients an image. Throws
/// ValueError for norms other than L2 (CarliniWagnerLinf is the other one) and options out of range.
class CarliniWagner : public SearchAttack {
 public:
  explicit CarliniWagner(Threat threat, CarliniWagnerOptions options = {}) : SearchAttack(threat), options_(options) {
    require(threat.norm == Norm::l2, "carlini-wagner: norm ", norm_name(threat.norm),
            ", expected l2 (carlini-wagner-linf attacks in linf)");
    require(options.iterations >= 1, "carlini-wagner: ", options.iterations, " iterations, expected 1 or more");
    require(options.search_steps >= 1, "carlini-wagner: ", options.search_steps, " search steps, expected 1 or more");
    require(options.learning_rate > 0.0 && std::isfinite(options.learning_rate), "carlini-wagner: learning rate ",
            options.learning_rate, ", expected more than 0");
    require(options.initial_constant > 0.0 && options.initial_constant <= 1e10, "carlini-wagner: initial constant ",
            options.initial_constant, ", expected more than 0, at most 1e10");
    require(options.confidence >= 0.0 && std::isfinite(options.confidence), "carlini-wagner: confidence ",
            options.confidence, ", expected a finite margin of 0 or more");
  }

  const CarliniWagnerOptions& options() const { return options_; }
  std::string name() const override { return "carlini-wagner"; }
  bool targeted() const override { return options_.targeted; }
  bool random() const override { return false; }
  bool minimum_norm() const override { return true; }
  std::int64_t arrays(std::int32_t) const override { return 6; }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(options_, lanes); }

 private:
  struct State : Search {
    State(const CarliniWagnerOptions& o, const Lanes& lanes)
        : options(o),
          margin(detail::margin_of_success(o.targeted, o.confidence)),
          space(lanes),
          closest(lanes),
          constant(lanes.values<detail::ConstantSearch>()),
          progress(lanes.values<detail::Progress>()),
          iteration(lanes.values<std::int64_t>()),
          search_step(lanes.values<std::int64_t>()),
          succeeded(lanes.values<std::uint8_t>()),
          ended(lanes.values<std::uint8_t>()),
          weight(lanes.values()),
          tau(lanes.values()) {}

    void start(Lanes& lanes, int lane) override {
      const auto l = static_cast<std::size_t>(lane);
      closest.start(lane);
      constant[l].start(options.initial_constant);
      search_step[l] = 0;
      space.load(lanes, lane);
      descend(lanes, lane);
    }
    /// A descent with the lane's constant begins.
    void descend(Lanes& lanes, int lane) {
      const auto l = static_cast<std::size_t>(lane);
      space.start(lanes, lane);
      progress[l].start();
      weight[l] = static_cast<float>(constant[l].value());
      iteration[l] = 0;
      succeeded[l] = 0;
    }

    void step(Lanes& lanes) override {
      const Answer& answer = lanes.differentiate(space.x(), margin, space.gradient());
      for (int lane = 0; lane < lanes.width(); ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        ended[l] = 0;
        if (!lanes.active(lane)) {
          continue;
        }
        const bool success = detail::confident(lanes, answer, lane, options.targeted, options.confidence);
        closest.offer(lane, lanes.fooled(answer, lane), success, space.distance(lane));
        if (success && lanes.step(lane) == 0) {
          lanes.finish(lane);  // the clean image is the closest
          continue;
        }
        succeeded[l] = succeeded[l] != 0 || success ? 1 : 0;
        const double short_of = options.confidence - static_cast<double>(answer.loss[l]);
        const double objective = static_cast<double>(space.penalty(lane)) + constant[l].value() * short_of;
        const bool stuck = options.abort_early && progress[l].stuck(iteration[l], options.iterations, objective);
        if (++iteration[l] >= options.iterations || stuck) {
          ended[l] = 1;
          constant[l].next(succeeded[l] != 0);
          if (++search_step[l] >= options.search_steps) {
            lanes.finish(lane);
          }
        }
      }
      closest.keep(lanes, space.x());
      space.update(lanes, options.learning_rate, weight, tau);
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (ended[static_cast<std::size_t>(lane)] != 0 && lanes.active(lane)) {
          descend(lanes, lane);
        }
      }
    }

    const CarliniWagnerOptions options;
    const Loss margin;
    detail::TanhSpace space;
    detail::Closest closest;
    AlignedVector<detail::ConstantSearch> constant;
    AlignedVector<detail::Progress> progress;
    AlignedVector<std::int64_t> iteration, search_step;
    AlignedVector<std::uint8_t> succeeded, ended;
    AlignedVector<float> weight, tau;  ///< tau: that of Linf, 0
  };

  CarliniWagnerOptions options_;
};

/// Options of the Linf attack; the defaults are those of its authors' program.
struct CarliniWagnerLinfOptions {
  std::int64_t iterations = 1000;  ///< of Adam, at most, for each constant
  double learning_rate = 0.005;    ///< in tanh space
  double initial_constant = 1e-5;
  double largest_constant = 20.0;     ///< the image is done when this is not enough
  double shrink = 0.9;                ///< factor of tau after a success; closer to 1 is more exact
  double smallest_tau = 1.0 / 256.0;  ///< as a share of the box: closer than this is close enough
  double confidence = 0.0;
  bool targeted = false;  ///< labels are targets
};

/// The Linf attack: Adam on w for
///   min sum_i max(|x_i - clean_i| - tau, 0) + c max(z_y - max_{i != y} z_i + kappa, 0)
/// until the sum is below c / 10000, from where tau becomes `shrink` times the smaller of tau and the distance, and
/// Adam begins anew; where `iterations` do not come to that, c doubles and the descent goes on from where it is. tau
/// begins at the width of the box. Every success on the way counts, and the closest one is the answer. Throws
/// ValueError for norms other than Linf and options out of range.
class CarliniWagnerLinf : public SearchAttack {
 public:
  explicit CarliniWagnerLinf(Threat threat, CarliniWagnerLinfOptions options = {})
      : SearchAttack(threat), options_(options) {
    require(threat.norm == Norm::linf, "carlini-wagner-linf: norm ", norm_name(threat.norm),
            ", expected linf (carlini-wagner attacks in l2)");
    require(options.iterations >= 1, "carlini-wagner-linf: ", options.iterations, " iterations, expected 1 or more");
    require(options.learning_rate > 0.0 && std::isfinite(options.learning_rate), "carlini-wagner-linf: learning rate ",
            options.learning_rate, ", expected more than 0");
    require(options.initial_constant > 0.0 && options.initial_constant <= options.largest_constant &&
                std::isfinite(options.largest_constant),
            "carlini-wagner-linf: constants from ", options.initial_constant, " to ", options.largest_constant,
            ", expected more than 0 and in order");
    require(options.shrink > 0.0 && options.shrink < 1.0, "carlini-wagner-linf: shrink ", options.shrink,
            ", expected more than 0, less than 1");
    require(options.smallest_tau > 0.0 && options.smallest_tau < 1.0, "carlini-wagner-linf: smallest tau ",
            options.smallest_tau, ", expected more than 0, less than 1");
    require(options.confidence >= 0.0 && std::isfinite(options.confidence), "carlini-wagner-linf: confidence ",
            options.confidence, ", expected a finite margin of 0 or more");
  }

  const CarliniWagnerLinfOptions& options() const { return options_; }
  std::string name() const override { return "carlini-wagner-linf"; }
  bool targeted() const override { return options_.targeted; }
  bool random() const override { return false; }
  bool minimum_norm() const override { return true; }
  std::int64_t arrays(std::int32_t) const override { return 6; }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(options_, lanes); }

 private:
  struct State : Search {
    State(const CarliniWagnerLinfOptions& o, const Lanes& lanes)
        : options(o),
          margin(detail::margin_of_success(o.targeted, o.confidence)),
          space(lanes),
          closest(lanes),
          constant(lanes.values<double>()),
          iteration(lanes.values<std::int64_t>()),
          weight(lanes.values()),
          tau(lanes.values()) {}

    void start(Lanes& lanes, int lane) override {
      const auto l = static_cast<std::size_t>(lane);
      closest.start(lane);
      space.load(lanes, lane);
      space.start(lanes, lane);
      iteration[l] = 0;
      constant[l] = options.initial_constant;
      tau[l] = static_cast<float>(lanes.threat().high - lanes.threat().low);
    }

    void step(Lanes& lanes) override {
      const Answer& answer = lanes.differentiate(space.x(), margin, space.gradient());
      for (int lane = 0; lane < lanes.width(); ++lane) {
        if (!lanes.active(lane)) {
          continue;
        }
        const bool success = detail::confident(lanes, answer, lane, options.targeted, options.confidence);
        closest.offer(lane, lanes.fooled(answer, lane), success, space.distance(lane));
        advance(lanes, lane, success);
      }
      closest.keep(lanes, space.x());
      space.update(lanes, options.learning_rate, weight, tau);
    }
    /// What follows for tau and the constant.
    void advance(Lanes& lanes, int lane, bool success) {
      const auto l = static_cast<std::size_t>(lane);
      if (success && static_cast<double>(space.penalty(lane)) < 1e-4 * constant[l]) {
        tau[l] = std::min(tau[l], space.distance(lane)) * static_cast<float>(options.shrink);
        if (static_cast<double>(tau[l]) <= options.smallest_tau * (lanes.threat().high - lanes.threat().low)) {
          lanes.finish(lane);
        }
        space.forget(lanes, lane);
        iteration[l] = 0;
      } else if (++iteration[l] >= options.iterations) {
        constant[l] *= 2.0;
        if (constant[l] > options.largest_constant) {
          lanes.finish(lane);
        }
        iteration[l] = 0;
      }
      weight[l] = static_cast<float>(constant[l]);
    }

    const CarliniWagnerLinfOptions options;
    const Loss margin;
    detail::TanhSpace space;
    detail::Closest closest;
    AlignedVector<double> constant;
    AlignedVector<std::int64_t> iteration;
    AlignedVector<float> weight, tau;
  };

  CarliniWagnerLinfOptions options_;
};

}  // namespace pavise::attack
