// SPDX-License-Identifier: MIT
// Sums that cross the batch, which is cut into slices: how many groups one has, and the order in which a warp adds up
// a channel of one. The order is stated in table.hpp and weight_gradient.cu.
#pragma once

#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

/// A slice has so many positions of each image, or a block's groups.
inline constexpr std::int64_t kSlicePositions = 64;

/// Groups of a slice, given the positions that are enough for one.
inline std::int64_t slice_groups(std::int64_t positions, std::int64_t enough = kSlicePositions) {
  std::int64_t n = 1;
  while (n * positions < enough && n * kLanes < kBlockImages) {
    n *= 2;
  }
  return n;
}
inline std::int64_t slices_of(std::int64_t positions, std::int64_t groups, std::int64_t enough = kSlicePositions) {
  const std::int64_t each = slice_groups(positions, enough);
  return (groups + each - 1) / each;
}

/// A batch of values (channels, positions) whose channels are summed over slices of it.
struct ChannelSlices {
  std::int64_t channels, positions, groups;
  std::int64_t images;  ///< lanes behind the last have no part in the sums
  std::int64_t each;    ///< groups of a slice

  ChannelSlices(std::int64_t channels_, std::int64_t positions_, std::int64_t groups_, std::int64_t images_)
      : channels(channels_), positions(positions_), groups(groups_), images(images_), each(slice_groups(positions_)) {}
  ChannelSlices(std::int64_t channels_, std::int64_t positions_, std::int64_t groups_)
      : ChannelSlices(channels_, positions_, groups_, groups_ * kLanes) {}
  std::int64_t slices() const { return slices_of(positions, groups); }

  /// add(element) for what a lane has of one channel in one slice, in the order of the sums.
  template <class Add>
  __device__ __forceinline__ void each_element(std::int64_t slice, std::int64_t channel, const Add& add) const {
    const std::int64_t last = groups < (slice + 1) * each ? groups : (slice + 1) * each;
    for (std::int64_t g = slice * each; g < last; ++g) {
      if (g * 32 + lane_id() >= images) {
        break;
      }
      std::int64_t at = (g * channels + channel) * positions * 32 + lane_id();
      std::int64_t left = positions;
      for (; left >= 8; left -= 8) {  // no branches between them: eight loads are under way at a time
        PAVISE_UNROLL
        for (int k = 0; k < 8; ++k) {
          add(at + k * 32);
        }
        at += 8 * 32;
      }
      for (; left > 0; --left) {
        add(at);
        at += 32;
      }
    }
  }
};

/// The sum over a warp's lanes, by halves, in every lane.
__device__ __forceinline__ float sum_over_lanes(float v) {
  PAVISE_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) {
    v = v + __shfl_xor_sync(0xFFFFFFFFu, v, distance);
  }
  return v;
}

/// *to = that sum; every lane of the warp calls it.
__device__ __forceinline__ void store_sum_over_lanes(float v, float* to) {
  const float sum = sum_over_lanes(v);
  if (lane_id() == 0) {
    *to = sum;
  }
}

/// partial[slice][channel] = the sum of x over a slice.
struct ChannelSum {
  ChannelSlices s;
  const float* x;
  float* partial;
  __device__ void operator()(std::int64_t slice, std::int64_t c) const {
    float sum = 0.0f;
    s.each_element(slice, c, [&](std::int64_t i) { sum = sum + x[i]; });
    store_sum_over_lanes(sum, partial + slice * s.channels + c);
  }
};

/// body(slice, channel) by all lanes of a warp; returns how many slices there are.
template <class Body>
std::int64_t each_channel_of_slices(Stream stream, const char* name, const ChannelSlices& s, const Body& body) {
  if (s.channels == 0) {
    return 0;
  }
  each_warp(stream, name, s.slices(), s.channels, body);
  return s.slices();
}

}  // namespace pavise::kernels::cuda
