// SPDX-License-Identifier: MIT
// Pooling: a warp takes one channel of 32 images. Oracles: kernels::max_pool, avg_pool and their derivatives, bit for
// bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

/// One channel of the pooling.
ConvGeometry channel_of(ConvGeometry g) {
  g.in_channels = 1;
  g.out_channels = 1;
  return g;
}

/// Places of channel c of group g.
struct Channels {
  ConvGeometry g;
  std::int64_t channels;
  __device__ std::int64_t in(std::int64_t group, std::int64_t c) const {
    return (group * channels + c) * g.in_height * g.in_width * 32;
  }
  __device__ std::int64_t out(std::int64_t group, std::int64_t c) const {
    return (group * channels + c) * g.out_height * g.out_width * 32;
  }
};

struct MaxPool {
  Channels at;
  const float* in;
  float* out;
  __device__ void operator()(std::int64_t g, std::int64_t c) const {
    max_pool_lanes<float, 32>(at.g, in + at.in(g, c), out + at.out(g, c));
  }
};

struct MaxPoolBackward {
  Channels at;
  const float* in;
  const float* out;
  const float* dy;
  float* dx;
  bool accumulate;
  const float* mask;
  __device__ void operator()(std::int64_t g, std::int64_t c) const {
    const PoolTarget<float> target{dx + at.in(g, c), accumulate, mask != nullptr ? mask + at.in(g, c) : nullptr};
    max_pool_backward_lanes<float, 32>(at.g, in + at.in(g, c), out + at.out(g, c), dy + at.out(g, c), target);
  }
};

struct AvgPool {
  Channels at;
  bool include_padding;
  const float* in;
  float* out;
  __device__ void operator()(std::int64_t g, std::int64_t c) const {
    avg_pool_lanes<float, 32>(at.g, include_padding, in + at.in(g, c), out + at.out(g, c));
  }
};

struct AvgPoolBackward {
  Channels at;
  bool include_padding;
  const float* dy;
  float* dx;
  bool accumulate;
  const float* mask;
  __device__ void operator()(std::int64_t g, std::int64_t c) const {
    const PoolTarget<float> target{dx + at.in(g, c), accumulate, mask != nullptr ? mask + at.in(g, c) : nullptr};
    avg_pool_backward_lanes<float, 32>(at.g, include_padding, dy + at.out(g, c), target);
  }
};

}  // namespace

void fill_pool(Table& t) {
  t.max_pool = [](Stream stream, const ConvGeometry& g, const float* in, float* out, std::int64_t groups) {
    each_warp(stream, "max_pool", groups, g.in_channels, MaxPool{{channel_of(g), g.in_channels}, in, out});
  };
  t.max_pool_backward = [](Stream stream, const ConvGeometry& g, const float* in, const float* out, const float* dy,
                           float* dx, bool accumulate, const float* mask, std::int64_t groups) {
    each_warp(stream, "max_pool_backward", groups, g.in_channels,
              MaxPoolBackward{{channel_of(g), g.in_channels}, in, out, dy, dx, accumulate, mask});
  };
  t.avg_pool = [](Stream stream, const ConvGeometry& g, bool include_padding, const float* in, float* out,
                  std::int64_t groups) {
    each_warp(stream, "avg_pool", groups, g.in_channels,
              AvgPool{{channel_of(g), g.in_channels}, include_padding, in, out});
  };
  t.avg_pool_backward = [](Stream stream, const ConvGeometry& g, bool include_padding, const float* dy, float* dx,
                           bool accumulate, const float* mask, std::int64_t groups) {
    each_warp(stream, "avg_pool_backward", groups, g.in_channels,
              AvgPoolBackward{{channel_of(g), g.in_channels}, include_padding, dy, dx, accumulate, mask});
  };
}

}  // namespace pavise::kernels::cuda
