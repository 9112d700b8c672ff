// SPDX-License-Identifier: MIT
// Sums over an image in the order of its elements, as the CPU's lane takes them, by a block that takes a group.
#pragma once

#include "pavise_kernels/cuda/lanes.cuh"

namespace pavise::kernels::cuda {

inline constexpr int kBlockWarps = 8;  ///< of a block that takes a group
inline constexpr int kTile = 64;       ///< elements that it stages together
/// Bytes of shared memory that a fold takes.
inline constexpr std::size_t kFoldShared = sizeof(float) * 2 * kTile * 32;

/// combine(value(n-1), ... combine(value(0), 0)): a fold in the order of the elements, for each lane. All warps of the
/// block fetch values, a tile ahead; the first one folds. All of them get the result. value(i) is called once, by the
/// same thread for the same i in every fold.
template <class Value, class Combine>
__device__ __forceinline__ Pack<float, 32> fold(std::int64_t n, float* shared, const Value& value,
                                                const Combine& combine) {
  using P = Pack<float, 32>;
  P result = P::broadcast(0.0f);
  const std::int64_t tiles = (n + kTile - 1) / kTile;
  for (std::int64_t tile = 0; tile <= tiles; ++tile) {
    P next[kTile / kBlockWarps];
    PAVISE_UNROLL
    for (int j = 0; j < kTile / kBlockWarps; ++j) {
      const std::int64_t i = tile * kTile + j * kBlockWarps + warp_id();
      if (i < n) {
        next[j] = value(i);
      }
    }
    if (tile > 0 && warp_id() == 0) {
      const float* ready = shared + (tile - 1) % 2 * kTile * 32;
      const std::int64_t left = n - (tile - 1) * kTile;
      for (int i = 0; i < (left < kTile ? static_cast<int>(left) : 0 + kTile); ++i) {
        result = combine(P::load(ready + i * 32), result);
      }
    }
    float* const to = shared + tile % 2 * kTile * 32;
    PAVISE_UNROLL
    for (int j = 0; j < kTile / kBlockWarps; ++j) {
      const int i = j * kBlockWarps + warp_id();
      if (tile * kTile + i < n) {
        next[j].store(to + i * 32);
      }
    }
    __syncthreads();
  }
  if (warp_id() == 0) {
    result.store(shared);
  }
  __syncthreads();
  result = P::load(shared);
  __syncthreads();
  return result;
}

}  // namespace pavise::kernels::cuda
