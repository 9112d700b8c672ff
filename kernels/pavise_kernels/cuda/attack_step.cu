// SPDX-License-Identifier: MIT
// Steps and projections of gradient attacks. Linf is element by element; L2 has a norm for each image, which a thread
// sums in the order of the elements, as the CPU's lane does. Oracles: kernels::linf_step, l2_step and the starts, bit for
// bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

struct LinfStep {
  float* x;
  const float* gradient;
  const float* center;
  AttackStep s;
  __device__ void operator()(std::int64_t i, int count) const {
    Quad v = load_quad(x, i, count);
    const Quad c = load_quad(center, i, count);
    Quad g{};
    if (gradient != nullptr) {
      g = load_quad(gradient, i, count);
    }
    linf_step_lanes<float, 1>(v.v, gradient != nullptr ? g.v : nullptr, c.v, 4, s.alpha, s.epsilon, s.low, s.high);
    store_quad(v, x, i, count);
  }
};

struct L2Step {
  float* x;
  const float* gradient;
  const float* center;
  std::int64_t n;
  AttackStep s;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const std::int64_t at = g * n * 32;
    l2_step_lanes<float, 32>(x + at, gradient != nullptr ? gradient + at : nullptr, center + at, n, s.alpha, s.epsilon,
                             s.low, s.high);
  }
};

struct LinfStart {
  float* x;
  const float* center;
  AttackStep s;
  __device__ void operator()(std::int64_t i, int count) const {
    Quad v = load_quad(x, i, count);
    const Quad c = load_quad(center, i, count);
    linf_start_lanes<float, 1>(v.v, c.v, 4, s.epsilon, s.low, s.high);
    store_quad(v, x, i, count);
  }
};

struct L2Start {
  float* draws;
  float* x;
  const float* center;
  std::int64_t n;
  AttackStep s;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    float* from = draws + g * (n + 2) * 32;
    l2_start_lanes<float, 32>(from, center + g * n * 32, n, s.epsilon, s.low, s.high);
    for (std::int64_t i = 0; i < n; ++i) {
      x[(g * n + i) * 32 + lane_id()] = from[i * 32 + lane_id()];
    }
  }
};

struct Distance {
  const float* x;
  const float* center;
  std::int64_t n;
  int norm;
  float* out;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    distance_lanes<float, 32>(x + g * n * 32, center + g * n * 32, n, norm, out + g * 32);
  }
};

void random_start(Stream stream, float* x, const float* center, std::int64_t n, std::int64_t groups,
                  const AttackStep& step, const LaneKeys& keys, float* draws) {
  const Table& t = *table.load();
  if (step.norm == 0) {
    t.random_lanes(stream, Distribution::uniform, x, n, groups, keys);
    each_quad(stream, "linf_start", n * groups * 32, LinfStart{x, center, step});
  } else {
    t.random_lanes(stream, Distribution::normal, draws, n + 2, groups, keys);
    each_warp(stream, "l2_start", groups, 1, L2Start{draws, x, center, n, step}, kFewThreads);
  }
}

}  // namespace

void fill_attack_step(Table& t) {
  t.attack_step = [](Stream stream, float* x, const float* gradient, const float* center, std::int64_t n,
                     std::int64_t groups, const AttackStep& step) {
    require(step.norm == 0 || step.norm == 2, "cuda: attack_step: norm ", step.norm, ", expected 0 (Linf) or 2 (L2)");
    if (step.norm == 0) {
      each_quad(stream, "linf_step", n * groups * 32, LinfStep{x, gradient, center, step});
    } else {
      each_warp(stream, "l2_step", groups, 1, L2Step{x, gradient, center, n, step}, kFewThreads);
    }
  };
  t.random_start = random_start;
  t.distance = [](Stream stream, const float* x, const float* center, std::int64_t n, int norm, float* out,
                  std::int64_t groups) {
    each_warp(stream, "distance", groups, 1, Distance{x, center, n, norm, out}, kFewThreads);
  };
}

}  // namespace pavise::kernels::cuda
