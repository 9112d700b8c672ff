// SPDX-License-Identifier: MIT
// A classifier around an image as planes between classes: what the attacks that look for the closest adversarial image
// by linearisation (FAB, DeepFool) share.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "pavise/attack/search.hpp"
#include "pavise/attack/threat.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::attack {

/// move <- the shortest move in the threat's norm that makes w.x grow by gain[lane] and stays in the pixel box; where
/// the box allows none, the move to its corner that comes closest; 0 where w is 0. Arrays are [n][lanes]. Exact up to
/// rounding (Croce and Hein 2020, problem (5) and appendix).
inline void hyperplane_move(const Threat& threat, float* move, const float* x, const float* w, std::int64_t n,
                            int lanes, const PerLane<float>& gain) {
  alignas(64) const PerLane<float> aligned = gain;
  kernels::run_light([&](auto isa) {
    hyperplane_move<float>(isa, move, x, w, n, lanes, aligned.data(), static_cast<int>(threat.norm),
                           static_cast<float>(threat.low), static_cast<float>(threat.high));
  });
}

namespace detail {

/// The classes that a model prefers to a label as half-spaces, and the nearest of them.
class NearestClass {
 public:
  explicit NearestClass(const Lanes& lanes)
      : own_(lanes.field()),
        plane_(lanes.field()),
        normal_(lanes.field()),
        largest_(lanes.values()),
        minus_(lanes.values()),
        chosen_(lanes.values()),
        best_(lanes.values()),
        norms_(lanes.values()),
        difference_(lanes.values()),
        unit_(lanes.values()),
        dual_(lanes.values()) {
    for (std::int32_t k = 0; k < lanes.classes(); ++k) {
      fields_.push_back(lanes.field());
      rows_.push_back(fields_.back().data());
    }
  }

  /// Linearises every logit at x: of the classes k other than the label the one with the least
  ///   |z_k - z_y| / ||grad (z_k - z_y)||   (dual norm; the lowest of equals)
  /// becomes the lane's plane. Lanes without any gradient get a normal of 0. Counts a forward pass and as many backward
  /// ones as classes.
  const Answer& find(Lanes& lanes, float* x) {
    const Answer& answer = lanes.jacobian(x, rows_);
    LaneMath& math = lanes.math();
    const int width = lanes.width();
    const Norm dual = dual_norm(lanes.threat().norm);
    const auto classes = static_cast<std::size_t>(lanes.classes());
    // Relative to the largest derivative of all: the squares of very small ones would underflow.
    std::fill(largest_.begin(), largest_.end(), 0.0f);
    for (const float* row : rows_) {
      math.norm(row, Norm::linf, norms_);
      for (std::size_t l = 0; l < norms_.size(); ++l) {
        largest_[l] = std::max(largest_[l], norms_[l]);
      }
    }
    for (int lane = 0; lane < width; ++lane) {
      const auto l = static_cast<std::size_t>(lane);
      unit_[l] = largest_[l] > 4 * std::numeric_limits<float>::min() ? 1.0f / largest_[l] : 0.0f;
      minus_[l] = -unit_[l];
      best_[l] = std::numeric_limits<float>::infinity();
      difference_[l] = dual_[l] = 0.0f;
      lanes.copy_lane(rows_[static_cast<std::size_t>(lanes.labels()[lane])], lane, own_.data());
      lanes.copy_lane(nullptr, lane, normal_.data());
    }
    for (std::size_t k = 0; k < classes; ++k) {
      math.combine(plane_.data(), rows_[k], unit_, own_.data(), minus_);
      math.norm(plane_.data(), dual, norms_);
      bool any = false;
      for (int lane = 0; lane < width; ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        const auto label = static_cast<std::size_t>(lanes.labels()[lane]);
        const auto logit = [&](std::size_t c) { return answer.logits[c * static_cast<std::size_t>(width) + l]; };
        const float difference = (logit(k) - logit(label)) * unit_[l];
        const float ratio = std::abs(difference) / norms_[l];  // NaN and infinity are never chosen
        chosen_[l] = 0.0f;
        if (k != label && norms_[l] > 0.0f && ratio < best_[l]) {
          best_[l] = ratio;
          difference_[l] = difference;
          dual_[l] = norms_[l];
          chosen_[l] = 1.0f;
          any = true;
        }
      }
      if (any) {
        math.select(normal_.data(), plane_.data(), chosen_);
      }
    }
    return answer;
  }

  /// The gradient of z_k - z_y, [size][width], and z_k - z_y, both in a unit of the lane's own; 0 where none was found.
  const float* normal() const { return normal_.data(); }
  const AlignedVector<float>& difference() const { return difference_; }
  /// A difference of 1 between logits, in that unit.
  const AlignedVector<float>& unit() const { return unit_; }
  /// The dual norm of `normal`.
  const AlignedVector<float>& dual() const { return dual_; }

 private:
  std::vector<Field> fields_;
  std::vector<float*> rows_;  ///< their arrays: a logit's gradient each
  Field own_, plane_, normal_;
  AlignedVector<float> largest_, minus_, chosen_, best_, norms_;
  AlignedVector<float> difference_, unit_, dual_;
};

}  // namespace detail
}  // namespace pavise::attack
