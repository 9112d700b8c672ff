// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"

namespace pavise::optim {

/// A learning rate as a pure function of the step (0 is the first update): nothing to advance, nothing to save. Make
/// one with the functions below, or by name with make_schedule. Steps behind the last one keep its rate.
class Schedule {
 public:
  enum class Kind { constant, multi_step, step, cosine, cyclic, one_cycle };

  /// The learning rate of update number `step`, 0 or more.
  double operator()(std::int64_t step) const {
    require(step >= 0, "schedule: step ", step, ", expected 0 or more");
    switch (kind_) {
      case Kind::step:
        return rate_ * std::pow(factor_, static_cast<double>(step / every_));
      case Kind::multi_step:
        return rate_ *
               std::pow(factor_, static_cast<double>(std::upper_bound(milestones_.begin(), milestones_.end(), step) -
                                                     milestones_.begin()));
      case Kind::cosine:
        return anneal(rate_, least_, share(step, 0.0, static_cast<double>(steps_)));
      case Kind::cyclic: {
        const double peak = fraction_ * static_cast<double>(steps_);
        const auto t = static_cast<double>(std::min(step, steps_));
        return t < peak ? rate_ * t / peak
                        : rate_ * (static_cast<double>(steps_) - t) / (static_cast<double>(steps_) - peak);
      }
      case Kind::one_cycle: {
        const double peak = fraction_ * static_cast<double>(steps_) - 1;
        const auto last = static_cast<double>(steps_ - 1);
        const double start = rate_ / divisor_;
        return static_cast<double>(step) <= peak ? anneal(start, rate_, share(step, 0.0, peak))
                                                 : anneal(rate_, start / final_divisor_, share(step, peak, last));
      }
      default:
        return rate_;
    }
  }

  Kind kind() const { return kind_; }

  friend Schedule constant(double rate);
  friend Schedule step_decay(double rate, std::int64_t every, double factor);
  friend Schedule multi_step(double rate, std::vector<std::int64_t> milestones, double factor);
  friend Schedule cosine(double rate, std::int64_t steps, double least);
  friend Schedule cyclic(double peak, std::int64_t steps, double fraction);
  friend Schedule one_cycle(double peak, std::int64_t steps, double fraction, double divisor, double final_divisor);

 private:
  Schedule(Kind kind, double rate) : kind_(kind), rate_(rate) {
    require(std::isfinite(rate) && rate >= 0, "schedule: learning rate ", rate, ", expected 0 or more");
  }
  static void check_steps(std::string_view name, std::int64_t steps) {
    require(steps >= 1, name, ": ", steps, " steps, expected 1 or more");
  }
  /// Where `step` lies between begin and end: 0 to 1.
  static double share(std::int64_t step, double begin, double end) {
    return end <= begin ? 1.0 : std::clamp((static_cast<double>(step) - begin) / (end - begin), 0.0, 1.0);
  }
  /// From `from` to `to` along half a cosine.
  static double anneal(double from, double to, double share) {
    return to + (from - to) * 0.5 * (1.0 + std::cos(std::numbers::pi * share));
  }

  Kind kind_;
  double rate_;
  double factor_ = 1.0;
  double fraction_ = 0.5;
  double least_ = 0.0;
  double divisor_ = 25.0;
  double final_divisor_ = 1e4;
  std::int64_t every_ = 1;
  std::int64_t steps_ = 1;
  std::vector<std::int64_t> milestones_;
};

/// The same rate always.
inline Schedule constant(double rate) { return {Schedule::Kind::constant, rate}; }

/// rate * factor^(step / every), whole steps: torch.optim.lr_scheduler.StepLR.
inline Schedule step_decay(double rate, std::int64_t every, double factor = 0.1) {
  Schedule s(Schedule::Kind::step, rate);
  Schedule::check_steps("step schedule", every);
  require(factor >= 0 && factor <= 1, "step schedule: factor ", factor, ", expected 0 to 1");
  s.every_ = every;
  s.factor_ = factor;
  return s;
}

/// rate * factor^(number of milestones up to the step): torch.optim.lr_scheduler.MultiStepLR. Milestones are steps, in
/// order.
inline Schedule multi_step(double rate, std::vector<std::int64_t> milestones, double factor = 0.1) {
  Schedule s(Schedule::Kind::multi_step, rate);
  require(std::is_sorted(milestones.begin(), milestones.end()) && (milestones.empty() || milestones.front() >= 0),
          "multi-step schedule: the milestones are not in order, or negative");
  require(factor >= 0 && factor <= 1, "multi-step schedule: factor ", factor, ", expected 0 to 1");
  s.milestones_ = std::move(milestones);
  s.factor_ = factor;
  return s;
}

/// From `rate` to `least` along half a cosine in `steps` steps (Loshchilov and Hutter 2017, equation 5):
/// torch.optim.lr_scheduler.CosineAnnealingLR.
inline Schedule cosine(double rate, std::int64_t steps, double least = 0.0) {
  Schedule s(Schedule::Kind::cosine, rate);
  Schedule::check_steps("cosine schedule", steps);
  require(least >= 0 && least <= rate, "cosine schedule: least rate ", least, ", expected 0 to ", rate);
  s.steps_ = steps;
  s.least_ = least;
  return s;
}

/// A triangle: from 0 at step 0 in a straight line to `peak` at `fraction` of the steps, and back to 0 at step `steps`
/// (Smith 2017; Wong, Rice and Kolter 2020).
inline Schedule cyclic(double peak, std::int64_t steps, double fraction = 0.5) {
  Schedule s(Schedule::Kind::cyclic, peak);
  Schedule::check_steps("cyclic schedule", steps);
  require(fraction >= 0 && fraction < 1, "cyclic schedule: peak at a fraction of ", fraction,
          ", expected 0 or more and less than 1");
  s.steps_ = steps;
  s.fraction_ = fraction;
  return s;
}

/// Half a cosine from peak/divisor up to `peak`, another down to peak/divisor/final_divisor (Smith and Topin 2018):
/// torch.optim.lr_scheduler.OneCycleLR.
inline Schedule one_cycle(double peak, std::int64_t steps, double fraction = 0.3, double divisor = 25.0,
                          double final_divisor = 1e4) {
  Schedule s(Schedule::Kind::one_cycle, peak);
  Schedule::check_steps("one-cycle schedule", steps);
  require(fraction >= 0 && fraction <= 1, "one-cycle schedule: peak at a fraction of ", fraction, ", expected 0 to 1");
  require(divisor >= 1 && final_divisor >= 1, "one-cycle schedule: divisors ", divisor, " and ", final_divisor,
          ", expected 1 or more");
  s.steps_ = steps;
  s.fraction_ = fraction;
  s.divisor_ = divisor;
  s.final_divisor_ = final_divisor;
  return s;
}

/// The names that make_schedule knows.
inline std::vector<std::string_view> schedule_names() {
  return {"constant", "step", "multi-step", "cosine", "cyclic", "one-cycle"};
}

/// The schedule of that name over `steps` steps in all, with usual settings: "step" is a tenth of the rate after each
/// third, "multi-step" after a half and after three quarters, "cyclic" peaks at 2/5. ValueError lists the names there
/// are.
inline Schedule make_schedule(std::string_view name, double rate, std::int64_t steps) {
  if (name == "constant") {
    return constant(rate);
  }
  if (name == "step") {
    return step_decay(rate, std::max<std::int64_t>(1, (steps + 2) / 3));
  }
  if (name == "multi-step") {
    return multi_step(rate, {steps / 2, steps * 3 / 4});
  }
  if (name == "cosine") {
    return cosine(rate, steps);
  }
  if (name == "cyclic") {
    return cyclic(rate, steps, 0.4);
  }
  require(name == "one-cycle", "schedule: there is no '", name, "', expected one of ", join(schedule_names()));
  return one_cycle(rate, steps);
}

}  // namespace pavise::optim
