// SPDX-License-Identifier: MIT
// What the variants of Auto-PGD share, and the search in Linf and L2. The attack itself is apgd.hpp.
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>

#include "pavise/attack/search.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise_kernels/cpu/apgd_schedule.hpp"

namespace pavise::attack {

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

/// 1 where the loss is maximised, -1 where it is minimised: of a targeted attack, but for the targeted ratio, which
/// itself leads to the target.
inline float apgd_sign(const ApgdOptions& options) {
  return options.targeted && (options.custom || options.loss != ApgdLoss::dlr_targeted) ? -1.0f : 1.0f;
}

/// The class beside the label that the targeted ratio compares: of the `targets` most likely wrong ones that of attempt
/// `restart`; of a targeted attack the class that the clean image has. ranking: the classes by clean logit.
inline std::int32_t apgd_other_class(std::span<const std::int32_t> ranking, std::int32_t label, std::uint32_t restart,
                                     std::int64_t targets, bool targeted) {
  if (targeted) {
    return ranking[0];
  }
  std::int64_t rank = static_cast<std::int64_t>(restart) % targets % (static_cast<std::int64_t>(ranking.size()) - 1);
  for (const std::int32_t k : ranking) {
    if (k != label && rank-- == 0) {
      return k;
    }
  }
  return label;  // the ranking has no other class
}

/// What an attempt is after, and what it will end with.
class ApgdGoal {
 public:
  ApgdGoal(const ApgdOptions& options, const Lanes& lanes)
      : loss_(make(options)),
        targeted_ratio_(!options.custom && options.loss == ApgdLoss::dlr_targeted),
        targeted_(options.targeted),
        sign_(apgd_sign(options)),
        targets_(options.targets),
        others_(lanes.values<std::int32_t>()),
        kept_(lanes.values<std::uint8_t>()),
        kept_value_(lanes.values()) {}
  ApgdGoal(const ApgdGoal&) = delete;
  ApgdGoal& operator=(const ApgdGoal&) = delete;

  const Loss& loss() const { return loss_; }
  /// 1 where the loss is maximised, -1 where it is minimised.
  float sign() const { return sign_; }

  void start(const Lanes& lanes, int lane) {
    const auto l = static_cast<std::size_t>(lane);
    kept_[l] = 0;
    if (!targeted_ratio_) {
      return;
    }
    others_[l] = apgd_other_class(lanes.ranking(lane), lanes.labels()[lane], lanes.restart(lane), targets_, targeted_);
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
    if (kept_[l] == 0 || v > kept_value_[l]) {
      lanes.keep(lane, x);
      kept_[l] = 1;
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
    if (kept_[static_cast<std::size_t>(lane)] == 0) {
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
  AlignedVector<std::int32_t> others_;  ///< the targets; of a targeted attack the classes to leave
  AlignedVector<std::uint8_t> kept_;
  AlignedVector<float> kept_value_;
};

/// Where an attempt begins: a random point of the ball of that radius around `center`, clipped to the box, n numbers.
/// Linf: a uniform vector scaled to norm `radius`; L2: uniform on the sphere; L1: a normal vector, projected.
inline void apgd_start_point(const Threat& threat, double radius, std::uint64_t seed, std::uint32_t image,
                             std::uint32_t restart, const float* center, std::int64_t n, float* x) {
  const kernels::LaneKeys keys{.seed = seed,
                               .purpose = static_cast<std::uint32_t>(Purpose::random_start),
                               .iteration = 0,
                               .image = &image,
                               .restart = &restart};
  const Norm norm = threat.norm;
  const auto r = static_cast<float>(radius);
  const auto low = static_cast<float>(threat.low);
  const auto high = static_cast<float>(threat.high);
  kernels::run_light([&](auto isa) {
    if (norm == Norm::linf) {
      random_uniform<float>(isa, x, n, 1, keys);
      std::for_each_n(x, n, [](float& u) { u = 2.0f * u - 1.0f; });  // exact
    } else {
      random_normal<float>(isa, x, n, 1, keys);
    }
    const float one = 1.0f;
    float length = 0.0f;
    lane_norm<float>(isa, x, n, 1, norm == Norm::linf ? 0 : 2, &length);
    const float factor = norm == Norm::l1 ? 1.0f : r / length;
    lane_combine<float>(isa, x, n, 1, center, &one, x, &factor, nullptr, nullptr);
    if (norm == Norm::l1) {
      lane_l1_project<float>(isa, x, center, n, 1, &r, low, high);
    } else {
      lane_project<float>(isa, x, center, n, 1, norm == Norm::linf ? 0 : 2, &r, low, high);
    }
  });
}

/// The start of a lane's attempt, into that lane of x; the clean image where it is not `random`.
inline void apgd_start(const Lanes& lanes, int lane, bool random, double radius, float* x) {
  if (!random) {
    lanes.copy_lane(lanes.clean(), lane, x);
    return;
  }
  thread_local AlignedVector<float> drawn;
  drawn.resize(static_cast<std::size_t>(lanes.size()));
  apgd_start_point(lanes.threat(), radius, lanes.seed(), lanes.id(lane), lanes.restart(lane), lanes.image(lane).data(),
                   lanes.size(), drawn.data());
  lanes.math().put_lane(drawn.data(), lane, x);
}

/// Algorithm 1 of Croce and Hein (2020), in Linf and L2.
class ApgdSearch : public Search {
 public:
  ApgdSearch(const Lanes& lanes, const ApgdOptions& options)
      : options_(options),
        goal_(options_, lanes),
        x_(lanes.array()),
        previous_(lanes.array()),
        gradient_(lanes.array()),
        best_(lanes.array()),
        best_gradient_(lanes.array()) {}

  void start(Lanes& lanes, int lane) override {
    goal_.start(lanes, lane);
    apgd_start(lanes, lane, options_.random_start, lanes.threat().epsilon, x_.data());
    lanes.copy_lane(x_.data(), lane, previous_.data());
    state_[static_cast<std::size_t>(lane)] =
        kernels::apgd_begin(static_cast<float>(2.0 * lanes.threat().epsilon), options_.steps);
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
  void judge(Lanes& lanes, int lane, float value) {
    const auto l = static_cast<std::size_t>(lane);
    kernels::ApgdState& s = state_[l];
    const auto verdict = kernels::apgd_judge(s, value, options_.steps, options_.rho);
    if (verdict.over) {
      goal_.end(lanes, lane, verdict.improved ? x_.data() : best_.data());
      return;
    }
    improved_[l] = verdict.improved ? 1.0f : 0.0f;
    restarts_[l] = verdict.restart ? 1.0f : 0.0f;
    eta_[l] = goal_.sign() * s.eta;
    weight_[l] = verdict.weight;
  }

  ApgdOptions options_;
  ApgdGoal goal_;
  AlignedVector<float> x_, previous_, gradient_, best_, best_gradient_;
  PerLane<kernels::ApgdState> state_{};
  alignas(64) PerLane<float> improved_{}, restarts_{}, eta_{}, weight_{};
};

}  // namespace detail

}  // namespace pavise::attack
