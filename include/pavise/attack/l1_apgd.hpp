// SPDX-License-Identifier: MIT
// The search of Auto-PGD in L1. The attack itself is apgd.hpp.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "pavise/attack/apgd_search.hpp"

namespace pavise::attack::detail {

/// L1-APGD (Croce and Hein 2021, "Mind the box: l1-APGD for sparse adversarial attacks on image classifiers"): steps
/// along the signs of the largest gradients, as many as suit the best point's sparsity, each followed by the exact
/// projection on the L1 ball and the box together.
class L1ApgdSearch : public Search {
 public:
  L1ApgdSearch(const Lanes& lanes, const ApgdOptions& options)
      : options_(options),
        goal_(options_, lanes),
        x_(lanes.field()),
        gradient_(lanes.field()),
        best_(lanes.field()),
        best_gradient_(lanes.field()),
        state_(lanes.values<State>()),
        improved_(lanes.values()),
        restarts_(lanes.values()),
        moved_(lanes.values()),
        count_(lanes.values()),
        eta_(lanes.values()),
        radius_(lanes.values()) {
    const double epsilon = lanes.threat().epsilon;
    const std::int64_t third = (3 * options_.steps + 9) / 10;
    if (options_.larger_radii && options_.steps > 2 * third) {
      phases_ = {Phase{3.0 * epsilon, third}, {2.0 * epsilon, third}, {epsilon, options_.steps - 2 * third}};
    } else {  // too few steps for three phases: all of them count
      phases_ = {Phase{epsilon, options_.steps}};
    }
  }

  void start(Lanes& lanes, int lane) override {
    goal_.start(lanes, lane);
    apgd_start(lanes, lane, options_.random_start, phases_[0].radius, x_.data());
    state_[static_cast<std::size_t>(lane)] = {};
  }

  void step(Lanes& lanes) override {
    const Answer& answer = lanes.differentiate(x_.data(), goal_.loss(), gradient_.data());
    LaneMath& math = lanes.math();
    const int width = lanes.width();
    for (int lane = 0; lane < width; ++lane) {
      const auto l = static_cast<std::size_t>(lane);
      State& s = state_[l];
      improved_[l] = restarts_[l] = 0.0f;
      if (!lanes.active(lane) || (s.phase + 1 == phases_.size() && goal_.reached(lanes, answer, lane, x_.data()))) {
        continue;
      }
      const float value = goal_.value(answer, lane);
      if (s.iteration == 0 || value > s.best) {
        s.best = value;
        improved_[l] = 1.0f;
      }
    }
    if (!lanes.any_active()) {
      return;
    }
    math.select(best_.data(), x_.data(), improved_);
    math.select(best_gradient_.data(), gradient_.data(), improved_);
    math.moved(best_.data(), lanes.clean(), moved_);
    bool restarting = false;
    for (int lane = 0; lane < width; ++lane) {
      const auto l = static_cast<std::size_t>(lane);
      if (lanes.active(lane)) {
        restarts_[l] = advance(lanes, lane, moved_[l]) ? 1.0f : 0.0f;
        restarting = restarting || restarts_[l] > 0.0f;
      }
    }
    if (!lanes.any_active()) {
      return;
    }
    if (restarting) {
      math.select(x_.data(), best_.data(), restarts_);
      math.select(gradient_.data(), best_gradient_.data(), restarts_);
    }
    math.l1_apgd_step(x_.data(), gradient_.data(), lanes.clean(), lanes.threat(), count_, eta_, radius_);
  }

 private:
  struct Phase {
    double radius;
    std::int64_t steps;
  };
  struct State {
    std::size_t phase = 0;
    std::int64_t iteration = 0;  ///< steps behind it in this phase
    std::int64_t since = 0;      ///< and since its last checkpoint
    float best = 0;
    float eta = 0;
    float moved = 0;  ///< coordinates that the best point had moved at the last checkpoint
    float count = 0;  ///< coordinates that a step moves
  };

  /// Decides the lane's next step, with `moved` the coordinates that its best point has moved. Whether that step leaves
  /// from the best point.
  bool advance(Lanes& lanes, int lane, float moved) {
    const auto l = static_cast<std::size_t>(lane);
    State& s = state_[l];
    const Phase* phase = &phases_[s.phase];
    bool restart = false;
    if (s.iteration == phase->steps) {
      if (s.phase + 1 == phases_.size()) {
        goal_.end(lanes, lane, best_.data());
        return false;
      }
      // The next phase begins at the best point, projected on its ball: a step of size 0.
      ++s.phase;
      s.iteration = s.since = 0;
      eta_[l] = 0.0f;
      radius_[l] = static_cast<float>(phases_[s.phase].radius);
      return true;
    }
    const auto pixels = static_cast<float>(lanes.size());
    const auto largest = static_cast<float>(phase->radius);
    if (s.iteration == 0) {
      s.eta = largest;
      const bool fresh = phases_.size() == 1 || !options_.random_start;
      s.moved = fresh && s.phase == 0 ? pixels : moved;
      s.count = fresh && s.phase == 0 ? std::ceil(pixels / 5.0f) : share(moved);
    } else if (++s.since == std::max<std::int64_t>(4 * phase->steps / 100, 1)) {
      restart = moved < 0.95f * s.moved;
      s.eta = restart ? largest : std::max(s.eta / 1.5f, largest / 10.0f);
      s.moved = moved;
      s.count = share(moved);
      s.since = 0;
    }
    ++s.iteration;
    count_[l] = s.count;
    eta_[l] = goal_.sign() * s.eta;
    radius_[l] = largest;
    return restart;
  }

  /// Two thirds of the moved coordinates, at least one.
  static float share(float moved) { return std::max(1.0f, std::ceil(moved / 1.5f)); }

  ApgdOptions options_;
  ApgdGoal goal_;
  std::vector<Phase> phases_;
  Field x_, gradient_, best_, best_gradient_;
  AlignedVector<State> state_;
  AlignedVector<float> improved_, restarts_, moved_;  ///< of a step
  AlignedVector<float> count_, eta_, radius_;
};

}  // namespace pavise::attack::detail
