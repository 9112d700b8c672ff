// SPDX-License-Identifier: MIT
// Random numbers in parts of an image's sequence: a warp draws one part for 32 images.
#pragma once

#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

/// Elements of a part: two blocks of Philox.
inline constexpr std::int64_t kDraws = 8;

/// Parts of n elements.
inline std::int64_t parts_of(std::int64_t n) { return (n + kDraws - 1) / kDraws; }
/// Where part `part` of n elements ends; it begins at part * kDraws.
__device__ __forceinline__ std::int64_t end_of_draws(std::int64_t part, std::int64_t n) {
  return n < (part + 1) * kDraws ? n : (part + 1) * kDraws;
}
/// The keys of group g.
__device__ __forceinline__ LaneKeys keys_of(LaneKeys keys, std::int64_t g) {
  keys.image += g * 32;
  keys.restart += g * 32;
  return keys;
}

}  // namespace pavise::kernels::cuda
