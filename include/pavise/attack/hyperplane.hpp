// SPDX-License-Identifier: MIT
// A classifier around an image as planes between classes: what the attacks that look for the closest adversarial image
// by linearisation (FAB, DeepFool) share.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <utility>

#include "pavise/attack/search.hpp"
#include "pavise/attack/threat.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::attack {

/// The norm in which a gradient bounds what a step of that norm gains.
inline Norm dual_norm(Norm norm) { return norm == Norm::linf ? Norm::l1 : norm == Norm::l1 ? Norm::linf : Norm::l2; }

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

/// One term of a sum: an array [size][width] and its factor in each lane.
using Term = std::pair<const float*, PerLane<float>>;

inline PerLane<float> same_for_all(float value) {
  PerLane<float> out;
  out.fill(value);
  return out;
}

/// out = the sum of the terms, clipped to the pixel box.
inline void blend(const Lanes& lanes, float* out, std::initializer_list<Term> terms) {
  std::array<const float*, 4> arrays{};
  alignas(64) std::array<float, 64> factors{};
  std::size_t count = 0;
  for (const auto& [array, factor] : terms) {
    arrays[count] = array;
    std::copy(factor.begin(), factor.end(), factors.begin() + static_cast<std::ptrdiff_t>(count * 16));
    ++count;
  }
  kernels::run_light([&](auto isa) {
    lane_blend<float>(isa, out, lanes.size(), lanes.width(), arrays.data(), factors.data(), static_cast<int>(count),
                      static_cast<float>(lanes.threat().low), static_cast<float>(lanes.threat().high));
  });
}

inline PerLane<float> lane_norms(const Lanes& lanes, const float* a, std::int64_t n, Norm norm) {
  alignas(64) PerLane<float> out{};
  kernels::run_light([&](auto isa) { lane_norm<float>(isa, a, n, lanes.width(), static_cast<int>(norm), out.data()); });
  return out;
}

inline PerLane<float> distances_from_clean(const Lanes& lanes, const float* x) {
  alignas(64) PerLane<float> out{};
  distances(lanes.threat(), x, lanes.clean(), lanes.size(), lanes.width(), out.data());
  return out;
}

/// The classes that a model prefers to a label as half-spaces, and the nearest of them.
class NearestClass {
 public:
  explicit NearestClass(const Lanes& lanes)
      : rows_(static_cast<std::size_t>(lanes.size() * lanes.width() * lanes.classes()) + 16),
        own_(lanes.array()),
        plane_(lanes.array()),
        normal_(lanes.array()) {}

  /// Linearises every logit at x: of the classes k other than the label the one with the least
  ///   |z_k - z_y| / ||grad (z_k - z_y)||   (dual norm; the lowest of equals)
  /// becomes the lane's plane. Lanes without any gradient get a normal of 0. Counts a forward pass and as many backward
  /// ones as classes.
  const Answer& find(Lanes& lanes, float* x) {
    const Answer& answer = lanes.jacobian(x, rows_.data());
    const int width = lanes.width();
    const std::int64_t size = lanes.size();
    const std::int64_t classes = lanes.classes();
    for (std::int64_t i = 0; i < classes * size * width; ++i) {
      float& g = rows_[static_cast<std::size_t>(i)];
      g = g - g == 0.0f ? g : 0.0f;
    }
    // Relative to the largest derivative of all: the squares of very small ones would underflow.
    const auto largest = lane_norms(lanes, rows_.data(), classes * size, Norm::linf);
    alignas(64) PerLane<float> scale{};
    alignas(64) PerLane<float> minus{};
    alignas(64) PerLane<float> chosen{};
    PerLane<float> best;
    best.fill(std::numeric_limits<float>::infinity());
    for (int lane = 0; lane < width; ++lane) {
      const auto l = static_cast<std::size_t>(lane);
      scale[l] = largest[l] > 4 * std::numeric_limits<float>::min() ? 1.0f / largest[l] : 0.0f;
      minus[l] = -scale[l];
      lanes.copy_lane(row(lanes, lanes.labels()[lane]), lane, own_.data());
    }
    unit_ = scale;
    std::fill(normal_.begin(), normal_.end(), 0.0f);
    difference_.fill(0.0f);
    dual_.fill(0.0f);
    for (std::int32_t k = 0; k < classes; ++k) {
      kernels::run_light([&](auto isa) {
        lane_combine<float>(isa, plane_.data(), size, width, row(lanes, k), scale.data(), own_.data(), minus.data(),
                            static_cast<const float*>(nullptr), static_cast<const float*>(nullptr));
      });
      const auto norms = lane_norms(lanes, plane_.data(), size, dual_norm(lanes.threat().norm));
      chosen.fill(0.0f);
      bool any = false;
      for (int lane = 0; lane < width; ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        const std::int32_t label = lanes.labels()[lane];
        const auto logit = [&](std::int32_t c) { return answer.logits[static_cast<std::size_t>(c * width + lane)]; };
        const float difference = (logit(k) - logit(label)) * scale[l];
        const float ratio = std::abs(difference) / norms[l];  // NaN and infinity are never chosen
        if (k != label && norms[l] > 0.0f && ratio < best[l]) {
          best[l] = ratio;
          difference_[l] = difference;
          dual_[l] = norms[l];
          chosen[l] = 1.0f;
          any = true;
        }
      }
      if (any) {
        kernels::run_light(
            [&](auto isa) { lane_select<float>(isa, normal_.data(), plane_.data(), size, width, chosen.data()); });
      }
    }
    return answer;
  }

  /// The gradient of z_k - z_y, [size][width], and z_k - z_y, both in a unit of the lane's own; 0 where none was found.
  const float* normal() const { return normal_.data(); }
  const PerLane<float>& difference() const { return difference_; }
  /// A difference of 1 between logits, in that unit.
  const PerLane<float>& unit() const { return unit_; }
  /// The dual norm of `normal`.
  const PerLane<float>& dual() const { return dual_; }

 private:
  const float* row(const Lanes& lanes, std::int32_t k) const { return rows_.data() + k * lanes.size() * lanes.width(); }

  AlignedVector<float> rows_, own_, plane_, normal_;
  PerLane<float> difference_{}, unit_{}, dual_{};
};

}  // namespace detail
}  // namespace pavise::attack
