// SPDX-License-Identifier: MIT
// Pixels from places of its own for every lane, [group](channels,height,width)[32] to
// [group](channels,out_height,out_width)[32], and the transpose. A warp takes a pixel of the result; of the transpose it
// takes a row of dx and looks for what shows it, so that each pixel gets its sum in the CPU's order. Oracles:
// kernels::gather_lanes and gather_lanes_adjoint, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

/// The places of this lane in group g: those of rows, and behind them of columns.
__device__ __forceinline__ const std::int32_t* places_of(const LaneGather& at, std::int64_t g) {
  return at.places + g * (at.out_height + at.out_width) * 32 + lane_id();
}

struct GatherPixels {
  LaneGather at;
  const float* x;
  float* y;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t i = e / at.out_width;
    const std::int64_t j = e % at.out_width;
    const std::int32_t* const places = places_of(at, g);
    const std::int64_t row = places[i * 32];
    const std::int64_t column = places[(at.out_height + j) * 32];
    for (std::int64_t c = g * at.channels; c < (g + 1) * at.channels; ++c) {
      const float v = row >= 0 && column >= 0 ? x[((c * at.height + row) * at.width + column) * 32 + lane_id()] : 0.0f;
      y[((c * at.out_height + i) * at.out_width + j) * 32 + lane_id()] = v;
    }
  }
};

struct GatherPixelsAdjoint {
  LaneGather at;
  const float* dy;
  float* dx;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t channel = g * at.channels + e / at.height;
    const std::int64_t row = e % at.height;
    const std::int32_t* const places = places_of(at, g);
    const std::int32_t* const columns = places + at.out_height * 32;
    float* const to = dx + (channel * at.height + row) * at.width * 32 + lane_id();
    for (std::int64_t i = 0; i < at.out_height; ++i) {
      if (places[i * 32] != row) {
        continue;
      }
      const float* const from = dy + (channel * at.out_height + i) * at.out_width * 32 + lane_id();
      for (std::int64_t j = 0; j < at.out_width; ++j) {
        const std::int64_t column = columns[j * 32];
        if (column >= 0) {
          to[column * 32] += from[j * 32];
        }
      }
    }
  }
};

}  // namespace

void fill_lane_gather(Table& t) {
  t.gather_pixels = [](Stream stream, const LaneGather& at, const float* x, float* y, std::int64_t groups) {
    each_warp(stream, "gather_pixels", groups, at.out_height * at.out_width, GatherPixels{at, x, y});
  };
  t.gather_pixels_adjoint = [](Stream stream, const LaneGather& at, const float* dy, float* dx, std::int64_t groups) {
    each_warp(stream, "gather_pixels_adjoint", groups, at.channels * at.height, GatherPixelsAdjoint{at, dy, dx});
  };
}

}  // namespace pavise::kernels::cuda
