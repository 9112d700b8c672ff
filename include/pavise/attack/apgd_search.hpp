// SPDX-License-Identifier: MIT
// What the variants of Auto-PGD share, and the search in Linf and L2. The attack itself is apgd.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <utility>

#include "pavise/attack/search.hpp"
#include "pavise/autodiff/loss.hpp"

namespace pavise::attack {

/// What an Auto-PGD maximises: cross-entropy; the difference of logits ratio; or the targeted ratio, for one target
/// class after another.
enum class ApgdLoss { cross_entropy, dlr, dlr_targeted };

/// Options of Auto-PGD.
struct ApgdOptions {
  std::int64_t steps = 100;  ///< each one forward and one backward pass, and one more pair for the starting point
  ApgdLoss loss = ApgdLoss::cross_entropy;
  std::int64_t targets = 9;  ///< of dlr_targeted: how many classes in turn; with fewer classes they come round again
  bool targeted = false;     ///< labels are targets
  bool random_start = true;
  double rho = 0.75;         ///< Linf, L2: the share of steps that must increase the loss for the step size to stay
  bool larger_radii = true;  ///< L1: three tenths of the steps at 3 epsilon, three at 2 epsilon, the rest at epsilon
  Loss custom = {};          ///< maximised (targeted: minimised) in place of `loss`
};

namespace detail {

/// What an attempt is after, and what it will end with.
class ApgdGoal {
 public:
  explicit ApgdGoal(const ApgdOptions& options)
      : loss_(make(options)),
        targeted_ratio_(!options.custom && options.loss == ApgdLoss::dlr_targeted),
        targeted_(options.targeted),
        sign_(options.targeted && !targeted_ratio_ ? -1.0f : 1.0f),
        targets_(options.targets) {}
  ApgdGoal(const ApgdGoal&) = delete;
  ApgdGoal& operator=(const ApgdGoal&) = delete;

  const Loss& loss() const { return loss_; }
  /// 1 where the loss is maximised, -1 where it is minimised.
  float sign() const { return sign_; }

  void start(const Lanes& lanes, int lane) {
    const auto l = static_cast<std::size_t>(lane);
    kept_[l] = false;
    if (!targeted_ratio_) {
      return;
    }
    const auto ranking = lanes.ranking(lane);
    const std::int32_t label = lanes.labels()[lane];
    if (targeted_) {  // away from the class that the clean image has
      others_[l] = ranking[0];
      return;
    }
    std::int64_t rank = static_cast<std::int64_t>(lanes.restart(lane)) % targets_ % (lanes.classes() - 1);
    for (const std::int32_t k : ranking) {
      if (k != label && rank-- == 0) {
        others_[l] = k;
      }
    }
  }

  /// The lane's loss, larger is better for the attack; minus infinity for NaN.
  float value(const Answer& answer, int lane) const {
    const float v = sign_ * answer.loss[static_cast<std::size_t>(lane)];
    return v == v ? v : -std::numeric_limits<float>::infinity();
  }

  /// Remembers a success at x; true where that ends the attempt. With a random classifier one success may be chance: the
  /// attempt goes on, and ends with the success of the largest loss.
  bool reached(Lanes& lanes, const Answer& answer, int lane, const float* x) {
    if (!lanes.fooled(answer, lane)) {
      return false;
    }
    const auto l = static_cast<std::size_t>(lane);
    const float v = value(answer, lane);
    if (!kept_[l] || v > kept_value_[l]) {
      lanes.keep(lane, x);
      kept_[l] = true;
      kept_value_[l] = v;
    }
    if (lanes.model().declaration().random) {
      return false;
    }
    lanes.finish(lane);
    return true;
  }

  /// Ends an attempt that is out of steps; `best` holds its image of the largest loss.
  void end(Lanes& lanes, int lane, const float* best) const {
    if (!kept_[static_cast<std::size_t>(lane)]) {
      lanes.keep(lane, best);
    }
    lanes.finish(lane);
  }

 private:
  Loss make(const ApgdOptions& options) const {
    if (options.custom) {
      return options.custom;
    }
    switch (options.loss) {
      case ApgdLoss::dlr:
        return [](Var<float> z, const std::int32_t* labels) { return dlr_loss(z, labels); };
      case ApgdLoss::dlr_targeted:
        if (options.targeted) {
          return
              [this](Var<float> z, const std::int32_t* labels) { return dlr_loss_targeted(z, others_.data(), labels); };
        }
        return
            [this](Var<float> z, const std::int32_t* labels) { return dlr_loss_targeted(z, labels, others_.data()); };
      default:
        return [](Var<float> z, const std::int32_t* labels) { return cross_entropy(z, labels); };
    }
  }

  Loss loss_;
  bool targeted_ratio_;
  bool targeted_;
  float sign_;
  std::int64_t targets_;
  PerLane<std::int32_t> others_{};  ///< the targets; of a targeted attack the classes to leave
  PerLane<bool> kept_{};
  PerLane<float> kept_value_{};
};

/// Where an attempt begins: a random point of the ball of that radius, clipped to the box. Linf: a uniform vector scaled
/// to norm `radius`; L2: uniform on the sphere; L1: a normal vector, projected.
inline void apgd_start(const Lanes& lanes, int lane, bool random, double radius, float* x) {
  if (!random) {
    lanes.copy_lane(lanes.clean(), lane, x);
    return;
  }
  const std::int64_t n = lanes.size();
  const int width = lanes.width();
  thread_local AlignedVector<float> center, drawn;
  center.resize(static_cast<std::size_t>(n));
  drawn.resize(static_cast<std::size_t>(n));
  for (std::int64_t e = 0; e < n; ++e) {
    center[static_cast<std::size_t>(e)] = lanes.clean()[e * width + lane];
  }
  const std::uint32_t image = lanes.id(lane);
  const std::uint32_t restart = lanes.restart(lane);
  const kernels::LaneKeys keys{.seed = lanes.seed(),
                               .purpose = static_cast<std::uint32_t>(Purpose::random_start),
                               .iteration = 0,
                               .image = &image,
                               .restart = &restart};
  const Norm norm = lanes.threat().norm;
  const auto r = static_cast<float>(radius);
  const auto low = static_cast<float>(lanes.threat().low);
  const auto high = static_cast<float>(lanes.threat().high);
  kernels::run_light([&](auto isa) {
    float* d = drawn.data();
    if (norm == Norm::linf) {
      random_uniform<float>(isa, d, n, 1, keys);
      std::for_each_n(d, n, [](float& u) { u = 2.0f * u - 1.0f; });  // exact
    } else {
      random_normal<float>(isa, d, n, 1, keys);
    }
    const float one = 1.0f;
    float length = 0.0f;
    lane_norm<float>(isa, d, n, 1, norm == Norm::linf ? 0 : 2, &length);
    const float factor = norm == Norm::l1 ? 1.0f : r / length;
    lane_combine<float>(isa, d, n, 1, center.data(), &one, d, &factor, nullptr, nullptr);
    if (norm == Norm::l1) {
      lane_l1_project<float>(isa, d, center.data(), n, 1, &r, low, high);
    } else {
      lane_project<float>(isa, d, center.data(), n, 1, norm == Norm::linf ? 0 : 2, &r, low, high);
    }
  });
  for (std::int64_t e = 0; e < n; ++e) {
    x[e * width + lane] = drawn[static_cast<std::size_t>(e)];
  }
}

/// Algorithm 1 of Croce and Hein (2020), in Linf and L2.
class ApgdSearch : public Search {
 public:
  ApgdSearch(const Lanes& lanes, const ApgdOptions& options)
      : options_(options),
        goal_(options_),
        x_(lanes.array()),
        previous_(lanes.array()),
        gradient_(lanes.array()),
        best_(lanes.array()),
        best_gradient_(lanes.array()) {}

  void start(Lanes& lanes, int lane) override {
    goal_.start(lanes, lane);
    apgd_start(lanes, lane, options_.random_start, lanes.threat().epsilon, x_.data());
    lanes.copy_lane(x_.data(), lane, previous_.data());
    State s;
    s.eta = static_cast<float>(2.0 * lanes.threat().epsilon);
    s.window = std::max<std::int64_t>(22 * options_.steps / 100, 1);
    state_[static_cast<std::size_t>(lane)] = s;
  }

  void step(Lanes& lanes) override {
    // The gradient at x serves this step, and later ones if x turns out to be the best point: no point is asked twice.
    const Answer& answer = lanes.differentiate(x_.data(), goal_.loss(), gradient_.data());
    improved_.fill(0.0f);
    restarts_.fill(0.0f);
    for (int lane = 0; lane < lanes.width(); ++lane) {
      if (lanes.active(lane) && !goal_.reached(lanes, answer, lane, x_.data())) {
        judge(lanes, lane, goal_.value(answer, lane));
      }
    }
    if (!lanes.any_active()) {
      return;
    }
    const std::int64_t n = lanes.size();
    const int width = lanes.width();
    const Threat& threat = lanes.threat();
    const bool restarting = std::any_of(restarts_.begin(), restarts_.end(), [](float r) { return r > 0.0f; });
    kernels::run_light([&](auto isa) {
      lane_select<float>(isa, best_.data(), x_.data(), n, width, improved_.data());
      lane_select<float>(isa, best_gradient_.data(), gradient_.data(), n, width, improved_.data());
      if (restarting) {
        lane_select<float>(isa, x_.data(), best_.data(), n, width, restarts_.data());
        lane_select<float>(isa, gradient_.data(), best_gradient_.data(), n, width, restarts_.data());
      }
      apgd_step<float>(isa, x_.data(), previous_.data(), gradient_.data(), lanes.clean(), n, width,
                       threat.norm == Norm::linf ? 0 : 2, eta_.data(), weight_.data(),
                       static_cast<float>(threat.epsilon), static_cast<float>(threat.low),
                       static_cast<float>(threat.high));
    });
  }

 private:
  struct State {
    float best = 0, last = 0;  ///< losses: the largest so far, the one before
    float at_checkpoint = 0;   ///< the largest at the last checkpoint
    float eta = 0;
    std::int64_t window = 0, since = 0, increases = 0;
    bool halved = true;  ///< at the last checkpoint; the first one counts as after a halving, as in the authors' code
  };

  void judge(Lanes& lanes, int lane, float value) {
    const auto l = static_cast<std::size_t>(lane);
    State& s = state_[l];
    const std::int64_t i = lanes.step(lane);
    const bool improved = i == 0 || value > s.best;
    if (improved) {
      s.best = value;
      improved_[l] = 1.0f;
    }
    if (i == options_.steps) {
      goal_.end(lanes, lane, improved ? x_.data() : best_.data());
      return;
    }
    if (i == 0) {
      s.at_checkpoint = value;
    } else {
      s.increases += value > s.last ? 1 : 0;
      if (++s.since == s.window) {
        checkpoint(s, l);
      }
    }
    s.last = value;
    eta_[l] = goal_.sign() * s.eta;
    weight_[l] = i == 0 ? 1.0f : 0.75f;
  }

  void checkpoint(State& s, std::size_t l) {
    const bool oscillates = static_cast<double>(s.increases) <= options_.rho * static_cast<double>(s.window);
    const bool stands_still = !s.halved && s.best <= s.at_checkpoint;
    s.halved = oscillates || stands_still;
    if (s.halved) {
      s.eta *= 0.5f;
      restarts_[l] = 1.0f;
    }
    s.at_checkpoint = s.best;
    s.window = std::max<std::int64_t>(
        {s.window - std::max<std::int64_t>(3 * options_.steps / 100, 1), 6 * options_.steps / 100, 1});
    s.since = s.increases = 0;
  }

  ApgdOptions options_;
  ApgdGoal goal_;
  AlignedVector<float> x_, previous_, gradient_, best_, best_gradient_;
  PerLane<State> state_{};
  alignas(64) PerLane<float> improved_{}, restarts_{}, eta_{}, weight_{};
};

}  // namespace detail

}  // namespace pavise::attack
