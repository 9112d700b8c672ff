// SPDX-License-Identifier: MIT
// What attacks without gradients share: how they read an answer, and the names of their random numbers.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>

#include "pavise/attack/search.hpp"
#include "pavise/core/philox.hpp"

namespace pavise::attack::detail {

/// How far the lane's image is from what the attack is after: z_y - max_{i != y} z_i; of a targeted attack
/// max_{i != t} z_i - z_t. Infinite where a logit is not a finite number, so that no search prefers it.
inline float margin_of(const Lanes& lanes, const Answer& answer, int lane, bool targeted) {
  const auto l = static_cast<std::size_t>(lane);
  if (!answer.finite[l]) {
    return std::numeric_limits<float>::infinity();
  }
  const float* z = answer.logits.data() + lane;
  const std::int32_t own = lanes.labels()[lane];
  float other = -std::numeric_limits<float>::infinity();
  for (std::int32_t k = 0; k < lanes.classes(); ++k) {
    if (k != own) {
      other = std::max(other, z[static_cast<std::int64_t>(k) * lanes.width()]);
    }
  }
  const float mine = z[static_cast<std::int64_t>(own) * lanes.width()];
  return targeted ? other - mine : mine - other;
}

/// The cross-entropy of the lane's label; infinite where a logit is not a finite number.
inline float cross_entropy_of(const Lanes& lanes, const Answer& answer, int lane) {
  const auto l = static_cast<std::size_t>(lane);
  if (!answer.finite[l]) {
    return std::numeric_limits<float>::infinity();
  }
  const auto logit = [&](std::int32_t k) {
    return static_cast<double>(answer.logits[static_cast<std::size_t>(k * lanes.width() + lane)]);
  };
  double largest = logit(0);
  for (std::int32_t k = 1; k < lanes.classes(); ++k) {
    largest = std::max(largest, logit(k));
  }
  double sum = 0.0;
  for (std::int32_t k = 0; k < lanes.classes(); ++k) {
    sum += std::exp(logit(k) - largest);
  }
  return static_cast<float>(std::log(sum) + (largest - logit(lanes.labels()[lane])));
}

/// Keys for the lanes of an attack; `iteration` is whoever draws's to set.
inline LaneDraws draws_of(const Lanes& lanes) {
  return {.seed = lanes.seed(),
          .purpose = static_cast<std::uint32_t>(Purpose::attack_step),
          .image = lanes.values<std::uint32_t>(),
          .restart = lanes.values<std::uint32_t>(),
          .iteration = lanes.values<std::uint32_t>()};
}

}  // namespace pavise::attack::detail
