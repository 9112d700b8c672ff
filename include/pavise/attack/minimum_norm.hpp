// SPDX-License-Identifier: MIT
// What attacks for the closest adversarial image share: the closest one so far, the search for the constant that weighs
// distance against margin, and pixels in tanh space.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "pavise/attack/query.hpp"
#include "pavise/attack/search.hpp"
#include "pavise/attack/threat.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::attack::detail {

/// The margin by which an image is what the attack is after, at most `confidence`: the attack maximises it, targeted or
/// not.
inline Loss margin_of_success(bool targeted, double confidence = std::numeric_limits<double>::infinity()) {
  const auto kappa = static_cast<float>(confidence);
  return [targeted, kappa](Var<float> logits, const std::int32_t* labels) {
    return targeted ? margin_loss_targeted(logits, labels, kappa) : margin_loss(logits, labels, kappa);
  };
}

/// Whether the lane's image is what the attack is after by a margin of `confidence` in its logits. With a confidence of
/// 0 that is being fooled.
inline bool confident(const Lanes& lanes, const Answer& answer, int lane, bool targeted, double confidence) {
  if (!lanes.fooled(answer, lane) || confidence <= 0.0) {
    return lanes.fooled(answer, lane);
  }
  const std::int32_t label = lanes.labels()[lane];
  const auto logit = [&](std::int32_t k) { return answer.logits[static_cast<std::size_t>(k * lanes.width() + lane)]; };
  float other = -std::numeric_limits<float>::infinity();
  for (std::int32_t k = 0; k < lanes.classes(); ++k) {
    other = k != label ? std::max(other, logit(k)) : other;
  }
  return (targeted ? logit(label) - other : other - logit(label)) >= static_cast<float>(confidence);
}

/// The closest adversarial image of every lane so far, which is the lane's answer: the last iterate may be farther, or
/// none. One with the confidence asked for comes before one without.
class Closest {
 public:
  explicit Closest(const Lanes& lanes)
      : rank_(lanes.values<int>()), distance_(lanes.values()), chosen_(lanes.values()) {}

  void start(int lane) {
    rank_[at(lane)] = 0;
    distance_[at(lane)] = std::numeric_limits<float>::infinity();
    chosen_[at(lane)] = 0.0f;
  }
  /// Notes that the lane's image has been found at that distance; `keep` copies it if it is the best one.
  void offer(int lane, bool fooled, bool confident, float distance) {
    const int rank = confident ? 2 : fooled ? 1 : 0;
    if (rank > rank_[at(lane)] || (rank > 0 && rank == rank_[at(lane)] && distance < distance_[at(lane)])) {
      rank_[at(lane)] = rank;
      distance_[at(lane)] = distance;
      chosen_[at(lane)] = 1.0f;
    }
  }
  /// Copies what has been offered since the last call from x.
  void keep(Lanes& lanes, const float* x) {
    if (std::any_of(chosen_.begin(), chosen_.end(), [](float c) { return c > 0.0f; })) {
      lanes.math().select(lanes.answer(), x, chosen_);
      std::fill(chosen_.begin(), chosen_.end(), 0.0f);
    }
  }
  bool found(int lane) const { return rank_[at(lane)] > 0; }
  float distance(int lane) const { return distance_[at(lane)]; }  ///< infinite where nothing has been found

 private:
  static std::size_t at(int lane) { return static_cast<std::size_t>(lane); }
  AlignedVector<int> rank_;
  AlignedVector<float> distance_, chosen_;
};

/// The distance of the lane's clean image from the farthest corner of the box: no image is farther away.
inline float farthest_corner(const Lanes& lanes, int lane) {
  const Threat& threat = lanes.threat();
  double sum = 0.0;
  for (const float pixel : lanes.image(lane)) {
    const auto v = static_cast<double>(pixel);
    const double d = std::max(v - threat.low, threat.high - v);
    sum = threat.norm == Norm::linf ? std::max(sum, d) : sum + (threat.norm == Norm::l1 ? d : d * d);
  }
  return static_cast<float>(threat.norm == Norm::l2 ? std::sqrt(sum) : sum);
}

/// `first` at step 0, from where half a cosine leads towards `last` at `steps`.
inline double cosine_annealed(std::int64_t step, std::int64_t steps, double first, double last) {
  const double turn = std::numbers::pi * static_cast<double>(step) / static_cast<double>(steps);
  return last + 0.5 * (first - last) * (1.0 + std::cos(turn));
}

/// The search for the smallest constant with which the margin wins against the distance (Carlini and Wagner 2017,
/// section VI-A): times ten until it does, then bisection. One for each image.
class ConstantSearch {
 public:
  void start(double initial) { *this = ConstantSearch(initial); }
  double value() const { return value_; }
  /// Moves on after an attempt with the value.
  void next(bool success) {
    (success ? upper_ : lower_) = value_;
    value_ = std::isinf(upper_) ? std::min(value_ * 10.0, 1e10) : 0.5 * (lower_ + upper_);
  }
  ConstantSearch() = default;

 private:
  explicit ConstantSearch(double initial) : value_(initial) {}
  double value_ = 0.0;
  double lower_ = 0.0;
  double upper_ = std::numeric_limits<double>::infinity();
};

/// Stops a descent that no longer makes progress, as its image alone says. Published implementations look at the sum
/// over the batch, by which an image's result depends on its neighbours (foolbox#533, nn_robust_attacks#22).
class Progress {
 public:
  void start() { before_ = std::numeric_limits<double>::infinity(); }
  /// Ten times during `iterations`: whether the objective has failed to fall by 0.01 percent since the last time.
  bool stuck(std::int64_t iteration, std::int64_t iterations, double objective) {
    if (iteration % std::max<std::int64_t>(1, iterations / 10) != 0) {
      return false;
    }
    const bool stuck = objective > 0.9999 * before_;
    before_ = objective;
    return stuck;
  }

 private:
  double before_ = std::numeric_limits<double>::infinity();
};

/// Images as w, x = low + (high - low) (tanh w + 1) / 2: any w is an image in the box. Each lane has its own Adam.
class TanhSpace {
 public:
  explicit TanhSpace(const Lanes& lanes)
      : begin_(lanes.field()),
        w_(lanes.field()),
        first_(lanes.field()),
        second_(lanes.field()),
        x_(lanes.field()),
        gradient_(lanes.field()),
        updates_(lanes.values<std::int64_t>()),
        distance_(lanes.values()),
        penalty_(lanes.values()),
        rate_(lanes.values()),
        root_(lanes.values()) {}

  float* x() { return x_.data(); }
  float* gradient() { return gradient_.data(); }
  float distance(int lane) const { return distance_[at(lane)]; }
  float penalty(int lane) const { return penalty_[at(lane)]; }

  /// An image has moved into the lane. Pixels at a wall of the box start just before it, where the slope is not 0.
  void load(const Lanes& lanes, int lane) {
    const double low = lanes.threat().low;
    const double span = lanes.threat().high - low;
    const auto image = lanes.image(lane);
    row_.resize(image.size());
    std::transform(image.begin(), image.end(), row_.begin(), [&](float x) {
      const double t = 2.0 * (static_cast<double>(x) - low) / span - 1.0;
      return static_cast<float>(std::atanh(0.999999 * std::clamp(t, -1.0, 1.0)));
    });
    lanes.math().put_lane(row_.data(), lane, begin_.data());
  }
  /// The clean image, and Adam anew.
  void start(const Lanes& lanes, int lane) {
    lanes.copy_lane(lanes.clean(), lane, x_.data());
    lanes.copy_lane(begin_.data(), lane, w_.data());
    distance_[at(lane)] = penalty_[at(lane)] = 0.0f;
    forget(lanes, lane);
  }
  /// Adam anew from where the lane is.
  void forget(const Lanes& lanes, int lane) {
    lanes.copy_lane(nullptr, lane, first_.data());
    lanes.copy_lane(nullptr, lane, second_.data());
    updates_[at(lane)] = 0;
  }
  /// One step of every active lane along the gradient for penalty - constant * margin; tau is that of Linf.
  void update(const Lanes& lanes, double learning_rate, const AlignedVector<float>& constant,
              const AlignedVector<float>& tau) {
    for (int lane = 0; lane < lanes.width(); ++lane) {
      rate_[at(lane)] = root_[at(lane)] = 0.0f;
      if (lanes.active(lane)) {
        const auto t = static_cast<double>(++updates_[at(lane)]);
        rate_[at(lane)] = static_cast<float>(learning_rate / (1.0 - std::pow(0.9, t)));
        root_[at(lane)] = static_cast<float>(1.0 / std::sqrt(1.0 - std::pow(0.999, t)));
      }
    }
    lanes.math().tanh_step({w_.data(), first_.data(), second_.data(), x_.data()}, gradient_.data(), lanes.clean(),
                           lanes.threat(), constant, rate_, root_, tau, distance_, penalty_);
  }

 private:
  static std::size_t at(int lane) { return static_cast<std::size_t>(lane); }
  Field begin_, w_, first_, second_, x_, gradient_;
  AlignedVector<std::int64_t> updates_;
  AlignedVector<float> distance_, penalty_, rate_, root_;
  std::vector<float> row_;
};

}  // namespace pavise::attack::detail
