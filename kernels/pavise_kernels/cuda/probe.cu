// SPDX-License-Identifier: MIT
// Random points near an image and what attacks without gradients make of them: the CPU's lane functions (probe.inl). A warp
// draws the signs of one block of Philox for the images of a group; a point on a sphere, whose length is a sum over the
// image, takes a warp for the whole group. Oracles: the functions of the same names, bit for bit.
#include "pavise_kernels/cuda/draws.cuh"

namespace pavise::kernels::cuda {

namespace {

/// Elements whose signs one block has.
constexpr std::int64_t kSigns = 128;

std::int64_t sign_blocks(std::int64_t n) { return (n + kSigns - 1) / kSigns; }
__device__ __forceinline__ std::int64_t end_of_signs(std::int64_t block, std::int64_t n) {
  return n < (block + 1) * kSigns ? n : (block + 1) * kSigns;
}

struct SignProbe {
  float* out;
  const float* x;
  ProbeDraws draws;
  const float* size;
  std::int64_t n;
  LaneBox box;
  __device__ void operator()(std::int64_t g, std::int64_t block) const {
    const std::int64_t i = g * n * 32;
    sign_probe_lanes<32>(out + i, x + i, block * kSigns, end_of_signs(block, n), keys_of(draws.keys, g),
                         draws.iteration + g * 32, size + g * 32, box.low, box.high);
  }
};

struct SignSlope {
  float* slope;
  const float* x;
  ProbeDraws draws;
  const float *size, *factor;
  std::int64_t n;
  LaneBox box;
  __device__ void operator()(std::int64_t g, std::int64_t block) const {
    const std::int64_t i = g * n * 32;
    sign_slope_lanes<32>(slope + i, x + i, block * kSigns, end_of_signs(block, n), keys_of(draws.keys, g),
                         draws.iteration + g * 32, size + g * 32, factor + g * 32, box.low, box.high);
  }
};

struct SlopeAdam {
  float *x, *slope, *first, *second;
  float scale;
  const float *rate, *root;
  std::int64_t n;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t i = (g * n + e) * 32;
    slope_adam_lanes<32>(x + i, slope + i, first + i, second + i, 1, scale, rate + g * 32, root + g * 32);
  }
};

template <Distribution D>
struct SphereProbe {
  float* out;
  const float* x;
  ProbeDraws draws;
  const float* size;
  std::int64_t n;
  LaneBox box;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const std::int64_t i = g * n * 32;
    sphere_probe_lanes<32, D>(out + i, x + i, n, keys_of(draws.keys, g), draws.iteration + g * 32, size + g * 32,
                              box.low, box.high);
  }
};

struct ProbeSums {
  float *sum, *weighted;
  const float *probe, *x, *take, *weight;
  std::int64_t n;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t i = (g * n + e) * 32;
    probe_sums_lanes<32>(sum + i, weighted + i, probe + i, x + i, 1, take + g * 32, weight + g * 32);
  }
};

}  // namespace

void fill_probe(Table& t) {
  t.sign_probe = [](Stream stream, float* out, const float* x, const ProbeDraws& draws, const float* size, LaneBox box,
                    std::int64_t n, std::int64_t groups) {
    each_warp(stream, "sign_probe", groups, sign_blocks(n), SignProbe{out, x, draws, size, n, box});
  };
  t.sign_slope = [](Stream stream, float* slope, const float* x, const ProbeDraws& draws, const float* size,
                    const float* factor, LaneBox box, std::int64_t n, std::int64_t groups) {
    each_warp(stream, "sign_slope", groups, sign_blocks(n), SignSlope{slope, x, draws, size, factor, n, box});
  };
  t.slope_adam = [](Stream stream, float* x, float* slope, float* first, float* second, float scale, const float* rate,
                    const float* root, std::int64_t n, std::int64_t groups) {
    each_warp(stream, "slope_adam", groups, n, SlopeAdam{x, slope, first, second, scale, rate, root, n});
  };
  t.sphere_probe = [](Stream stream, float* out, const float* x, Distribution distribution, const ProbeDraws& draws,
                      const float* size, LaneBox box, std::int64_t n, std::int64_t groups) {
    if (distribution == Distribution::normal) {
      each_warp(stream, "sphere_probe", groups, 1, SphereProbe<Distribution::normal>{out, x, draws, size, n, box},
                kFewThreads);
    } else {
      each_warp(stream, "sphere_probe", groups, 1, SphereProbe<Distribution::uniform>{out, x, draws, size, n, box},
                kFewThreads);
    }
  };
  t.probe_sums = [](Stream stream, float* sum, float* weighted, const float* probe, const float* x, const float* take,
                    const float* weight, std::int64_t n, std::int64_t groups) {
    each_warp(stream, "probe_sums", groups, n, ProbeSums{sum, weighted, probe, x, take, weight, n});
  };
}

}  // namespace pavise::kernels::cuda
