// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace pavise::kernels {

/// Coordinates of one group's draws: the sequences of its lanes differ in image and restart.
struct LaneKeys {
  std::uint64_t seed;
  std::uint32_t purpose;
  std::uint32_t iteration;
  const std::uint32_t* image;    ///< one for each lane
  const std::uint32_t* restart;  ///< one for each lane
};

enum class Distribution { uniform, normal };

}  // namespace pavise::kernels
