// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace pavise::kernels {

/// Pixels taken from other places in every lane: pixel (i,j) of lane l shows row places[i*lanes + l] and column
/// places[(out_height + j)*lanes + l] of (channels,height,width), or 0 where one of them is -1.
struct LaneGather {
  std::int64_t channels, height, width;
  std::int64_t out_height, out_width;
  const std::int32_t* places;
};

}  // namespace pavise::kernels
