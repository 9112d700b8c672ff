// SPDX-License-Identifier: MIT
// Steps and projections of gradient attacks. Linf is element by element; L2 has norms of each image, which one warp of a
// block sums in the order of the elements, as the CPU's lane does, while all of them fetch. Oracles: kernels::linf_step, l1_step, l2_step, lane_direction and the starts, bit for
// bit.
#include "pavise_kernels/cuda/elements.cuh"
#include "pavise_kernels/cuda/fold.cuh"

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

/// A block takes a group of 32 images.
__global__ void __launch_bounds__(kBlockWarps * 32)
    l2_step_kernel(float* all_x, const float* all_gradients, const float* all_centers, std::int64_t n, AttackStep s) {
  using P = Pack<float, 32>;
  float* const shared = dynamic_shared();
  float* const x = all_x + blockIdx.x * n * 32;
  const float* const center = all_centers + blockIdx.x * n * 32;
  const float* const gradient = all_gradients != nullptr ? all_gradients + blockIdx.x * n * 32 : nullptr;
  const P one = P::broadcast(1.0f);
  P inverse = one;
  P squares = one;
  if (gradient != nullptr) {
    const auto element = [&](std::int64_t i) { return P::load(gradient + i * 32); };
    const P largest = fold(n, shared, element, [](P v, P most) { return max(abs(v), most); });
    inverse = one / largest;
    squares = fold(n, shared, element, [&](P v, P sum) { return l2_add_square(v, inverse, sum); });
  }
  const P distance = fold(
      n, shared,
      [&](std::int64_t i) {
        P v = P::load(x + i * 32);
        if (gradient != nullptr) {
          v = l2_moved(v, P::load(gradient + i * 32), inverse, squares, s.alpha);
          v.store(x + i * 32);
        }
        return v - P::load(center + i * 32);
      },
      [&](P d, P sum) { return l2_add_square(d, one, sum); });
  const P factor = l2_factor(distance, s.epsilon);
  for (std::int64_t i = warp_id(); i < n; i += kBlockWarps) {
    l2_clipped(P::load(x + i * 32), P::load(center + i * 32), factor, s.low, s.high).store(x + i * 32);
  }
}

/// A block takes a group of 32 images.
__global__ void __launch_bounds__(kBlockWarps * 32)
    add_momentum_kernel(const float* all_gradients, float* all_momenta, float decay, std::int64_t n) {
  using P = Pack<float, 32>;
  float* const shared = dynamic_shared();
  const float* const gradient = all_gradients + blockIdx.x * n * 32;
  float* const momentum = all_momenta + blockIdx.x * n * 32;
  const P one = P::broadcast(1.0f);
  const auto element = [&](std::int64_t i) {
    float g = gradient[i * 32 + lane_id()];
    lane_finite_lanes<float, 1>(&g, &g, 1);
    return P{g};
  };
  const P inverse = one / fold(n, shared, element, [](P v, P most) { return max(abs(v), most); });
  const P sum = fold(n, shared, element, [&](P v, P total) { return total + abs(v * inverse); });
  const P scale = one / sum;
  for (std::int64_t i = warp_id(); i < n; i += kBlockWarps) {
    const P direction = lane_normalised(element(i), inverse, scale, sum);
    fma(direction, one, P::load(momentum + i * 32) * P::broadcast(decay)).store(momentum + i * 32);
  }
}

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

/// A step in L1: thresholds and projections take sums over the image, one after another.
struct L1Step {
  float* x;
  const float* gradient;
  const float* center;
  std::int64_t n;
  AttackStep s;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const std::int64_t at = g * n * 32;
    l1_step_lanes<float, 32>(x + at, gradient != nullptr ? gradient + at : nullptr, center + at, n, s.alpha, s.sparsity,
                             s.epsilon, s.low, s.high);
  }
};

/// Starts in L1 and L2, from draws that are more than an image has elements.
struct BallStart {
  float* draws;
  std::int64_t count;  ///< of draws an image
  float* x;
  const float* center;
  std::int64_t n;
  AttackStep s;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    float* from = draws + g * count * 32;
    if (s.norm == 1) {
      l1_start_lanes<float, 32>(from, center + g * n * 32, n, s.epsilon, s.low, s.high);
    } else {
      l2_start_lanes<float, 32>(from, center + g * n * 32, n, s.epsilon, s.low, s.high);
    }
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
    const std::int64_t count = step.norm == 1 ? n + 1 : n + 2;
    t.random_lanes(stream, step.norm == 1 ? Distribution::uniform : Distribution::normal, draws, count, groups, keys);
    each_warp(stream, "ball_start", groups, 1, BallStart{draws, count, x, center, n, step}, kFewThreads);
  }
}

}  // namespace

void fill_attack_step(Table& t) {
  t.attack_step = [](Stream stream, float* x, const float* gradient, const float* center, std::int64_t n,
                     std::int64_t groups, const AttackStep& step) {
    require(step.norm >= 0 && step.norm <= 2, "cuda: attack_step: norm ", step.norm,
            ", expected 0 (Linf), 1 (L1) or 2 (L2)");
    if (step.norm == 0) {
      each_quad(stream, "linf_step", n * groups * 32, LinfStep{x, gradient, center, step});
    } else if (step.norm == 1) {
      each_warp(stream, "l1_step", groups, 1, L1Step{x, gradient, center, n, step}, kFewThreads);
    } else {
      launch(stream, "l2_step", l2_step_kernel, dim3(static_cast<unsigned>(groups)), kBlockWarps * 32, kFoldShared, x,
             gradient, center, n, step);
    }
  };
  t.add_momentum = [](Stream stream, const float* gradient, float* momentum, float decay, std::int64_t n,
                      std::int64_t groups) {
    launch(stream, "add_momentum", add_momentum_kernel, dim3(static_cast<unsigned>(groups)), kBlockWarps * 32,
           kFoldShared, gradient, momentum, decay, n);
  };
  t.random_start = random_start;
  t.distance = [](Stream stream, const float* x, const float* center, std::int64_t n, int norm, float* out,
                  std::int64_t groups) {
    each_warp(stream, "distance", groups, 1, Distance{x, center, n, norm, out}, kFewThreads);
  };
}

}  // namespace pavise::kernels::cuda
