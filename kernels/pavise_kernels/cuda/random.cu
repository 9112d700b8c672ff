// SPDX-License-Identifier: MIT
// Random numbers straight into groups: a lane's number is a function of its key and the element, so a thread starts
// anywhere in its image's sequence. Oracle: kernels::random_uniform, random_normal and dropout, bit for bit.
#include "pavise_kernels/cuda/draws.cuh"

namespace pavise::kernels::cuda {

namespace {

template <Distribution D>
struct Draw {
  float* out;
  std::int64_t n;
  LaneKeys keys;
  __device__ void operator()(std::int64_t g, std::int64_t part) const {
    random_lanes<float, 32, D>(out + g * n * 32, part * kDraws, end_of_draws(part, n), keys_of(keys, g));
  }
};

/// x + sigma * noise, rounded after the product and after the sum, as scale_values and the sum of two values are.
struct AddNoise {
  const float* x;
  std::int64_t x_step;
  float sigma;
  float* out;
  std::int64_t n;
  LaneKeys keys;
  __device__ void operator()(std::int64_t g, std::int64_t part) const {
    const std::int64_t first = part * kDraws;
    const std::int64_t last = end_of_draws(part, n);
    float* to = out + g * n * 32;
    random_lanes<float, 32, Distribution::normal>(to, first, last, keys_of(keys, g));
    for (std::int64_t i = first; i < last; ++i) {
      using P = Pack<float, 32>;
      (P::load(x + g * x_step + i * 32) + P::load(to + i * 32) * P::broadcast(sigma)).store(to + i * 32);
    }
  }
};

struct DropoutValues {
  const float* x;
  float* y;
  std::int64_t n;
  std::int32_t threshold;
  float scale;
  LaneKeys keys;
  bool accumulate;
  const float* mask;
  __device__ void operator()(std::int64_t g, std::int64_t part) const {
    const std::int64_t at = g * n * 32;
    dropout_lanes<float, 32>(x + at, y + at, part * kDraws, end_of_draws(part, n), threshold, scale, keys_of(keys, g),
                             accumulate, mask != nullptr ? mask + at : nullptr);
  }
};

}  // namespace

void fill_random(Table& t) {
  t.random_lanes = [](Stream stream, Distribution d, float* out, std::int64_t n, std::int64_t groups,
                      const LaneKeys& keys) {
    if (d == Distribution::uniform) {
      each_warp(stream, "random_uniform", groups, parts_of(n), Draw<Distribution::uniform>{out, n, keys});
    } else {
      each_warp(stream, "random_normal", groups, parts_of(n), Draw<Distribution::normal>{out, n, keys});
    }
  };
  t.add_noise = [](Stream stream, const float* x, std::int64_t x_step, float sigma, float* out, std::int64_t n,
                   std::int64_t groups, const LaneKeys& keys) {
    each_warp(stream, "add_noise", groups, parts_of(n), AddNoise{x, x_step, sigma, out, n, keys});
  };
  t.dropout = [](Stream stream, const float* x, float* y, std::int64_t n, std::int64_t groups, std::int32_t threshold,
                 float scale, const LaneKeys& keys, bool accumulate, const float* mask) {
    each_warp(stream, "dropout", groups, parts_of(n), DropoutValues{x, y, n, threshold, scale, keys, accumulate, mask});
  };
}

}  // namespace pavise::kernels::cuda
