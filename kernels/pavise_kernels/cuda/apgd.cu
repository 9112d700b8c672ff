// SPDX-License-Identifier: MIT
// Auto-PGD on the device: verdicts by a thread for each attempt, steps by all. Oracles: kernels::apgd_judge, lane_select
// and apgd_step, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"
#include "pavise_kernels/cuda/fold.cuh"

namespace pavise::kernels::cuda {

namespace {

__global__ void __launch_bounds__(kFewThreads)
    begin_kernel(ApgdLanes a, const std::int32_t* lanes, std::int64_t count, ApgdState state) {
  if (const std::int64_t i = thread_index(); i < count) {
    const std::int32_t lane = lanes[i];
    a.state[lane] = state;
    a.active[lane] = 1;
    a.passes[lane] = 0;
  }
}

struct ApgdJudge {
  ApgdLanes a;
  ApgdRule rule;
  const float* loss;
  const float* logits;
  std::int64_t classes;
  const std::int32_t* predictions;
  const std::int32_t* labels;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const std::int64_t at = g * 32 + lane_id();
    a.improved[at] = a.restart[at] = a.take_best[at] = 0;
    if (a.active[at] == 0) {
      return;
    }
    a.passes[at] += 1;
    bool finite = true;
    for (std::int64_t k = 0; k < classes; ++k) {
      const float z = logits[(g * classes + k) * 32 + lane_id()];
      finite = finite && z - z == 0.0f;
    }
    if (finite && (predictions[at] == labels[at]) == rule.targeted) {
      a.active[at] = 0;
      return;
    }
    const float v = rule.sign * loss[at];
    const ApgdVerdict verdict =
        apgd_judge(a.state[at], v == v ? v : -std::numeric_limits<float>::infinity(), rule.steps, rule.rho);
    a.improved[at] = verdict.improved ? 1 : 0;
    a.restart[at] = verdict.restart ? 1 : 0;
    a.eta[at] = rule.sign * a.state[at].eta;
    a.weight[at] = verdict.weight;
    if (verdict.over) {
      a.active[at] = 0;
      a.take_best[at] = verdict.improved ? 0 : 1;
    }
  }
};

/// The arrays of a step.
struct Points {
  float* x;
  float* previous;
  float* gradient;
  const float* center;
  float* best;
  float* best_gradient;
};

/// Keeps or goes back to the best point, for element i of the image in lane `at`.
__device__ __forceinline__ void follow(const ApgdLanes& a, const Points& p, std::int64_t at, std::int64_t i) {
  if (a.take_best[at] != 0) {
    p.x[i] = p.best[i];
  }
  if (a.active[at] == 0) {
    return;
  }
  float g = p.gradient[i];
  lane_finite_lanes<float, 1>(&g, &g, 1);
  if (a.improved[at] != 0) {
    p.best[i] = p.x[i];
    p.best_gradient[i] = g;
  }
  if (a.restart[at] != 0) {
    p.x[i] = p.best[i];
    g = p.best_gradient[i];
  }
  p.gradient[i] = g;
}

struct LinfApgd {
  ApgdLanes a;
  Points p;
  std::int64_t n;
  AttackStep s;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    using P = Pack<float, 1>;
    const std::int64_t at = g * 32 + lane_id();
    const std::int64_t i = (g * n + e) * 32 + lane_id();
    follow(a, p, at, i);
    if (a.active[at] != 0) {
      apgd_linf_lanes<float, 1>(p.x + i, p.previous + i, p.gradient + i, p.center + i, 1, P::load(a.eta + at),
                                P::load(a.weight + at), s.epsilon, s.low, s.high);
    }
  }
};

/// A block takes a group of 32 images, as the sums over them go in order.
__global__ void __launch_bounds__(kBlockWarps * 32)
    l2_apgd_kernel(ApgdLanes a, Points p, std::int64_t n, AttackStep s) {
  using P = Pack<float, 32>;
  float* const shared = dynamic_shared();
  const std::int64_t g = blockIdx.x;
  const std::int64_t first = g * n * 32;
  const std::int64_t at = g * 32 + lane_id();
  const bool active = a.active[at] != 0;
  for (std::int64_t i = warp_id(); i < n; i += kBlockWarps) {
    follow(a, p, at, first + i * 32 + lane_id());
  }
  __syncthreads();
  const P one = P::broadcast(1.0f);
  const P weight = P::load(a.weight + g * 32);
  const auto element = [&](const float* array, std::int64_t i) { return P::load(array + first + i * 32); };
  const P largest = fold(
      n, shared, [&](std::int64_t i) { return element(p.gradient, i); }, [](P v, P most) { return max(abs(v), most); });
  const P inverse = one / largest;
  const P sum = fold(
      n, shared, [&](std::int64_t i) { return element(p.gradient, i); },
      [&](P v, P total) { return l2_add_square(v, inverse, total); });
  const ApgdAscent<float, 32> ascend(inverse, sum, P::load(a.eta + g * 32));
  const auto square = [&](P d, P total) { return l2_add_square(d, one, total); };
  const P factor = l2_factor(
      fold(
          n, shared,
          [&](std::int64_t i) { return ascend(element(p.x, i), element(p.gradient, i)) - element(p.center, i); },
          square),
      s.epsilon);
  const P again = l2_factor(fold(
                                n, shared,
                                [&](std::int64_t i) {
                                  const P c = element(p.center, i);
                                  const P x = element(p.x, i);
                                  const P z = l2_clipped(ascend(x, element(p.gradient, i)), c, factor, s.low, s.high);
                                  const P v = apgd_mixed(x, element(p.previous, i), z, weight);
                                  if (active) {
                                    x.store(p.previous + first + i * 32);
                                    v.store(p.x + first + i * 32);
                                  }
                                  return v - c;
                                },
                                square),
                            s.epsilon);
  for (std::int64_t i = warp_id(); i < n && active; i += kBlockWarps) {
    l2_clipped(element(p.x, i), element(p.center, i), again, s.low, s.high).store(p.x + first + i * 32);
  }
}

}  // namespace

void fill_apgd(Table& t) {
  t.apgd_begin = [](Stream stream, const ApgdLanes& a, const std::int32_t* lanes, std::int64_t count,
                    const ApgdState& state) {
    launch(stream, "apgd_begin", begin_kernel, blocks_for(count, kFewThreads), kFewThreads, 0, a, lanes, count, state);
  };
  t.apgd_judge = [](Stream stream, const ApgdLanes& a, const ApgdRule& rule, const float* loss, const float* logits,
                    std::int64_t classes, const std::int32_t* classes_now, const std::int32_t* labels,
                    std::int64_t groups) {
    each_warp(stream, "apgd_judge", groups, 1, ApgdJudge{a, rule, loss, logits, classes, classes_now, labels},
              kFewThreads);
  };
  t.apgd_step = [](Stream stream, const ApgdLanes& a, float* x, float* previous, float* gradient, const float* center,
                   float* best, float* best_gradient, std::int64_t n, std::int64_t groups, const AttackStep& step) {
    const Points points{x, previous, gradient, center, best, best_gradient};
    if (step.norm == 0) {
      each_warp(stream, "apgd_linf_step", groups, n, LinfApgd{a, points, n, step});
    } else {
      require(step.norm == 2, "cuda: apgd_step: norm ", step.norm, ", expected 0 (Linf) or 2 (L2)");
      launch(stream, "apgd_l2_step", l2_apgd_kernel, dim3(static_cast<unsigned>(groups)), kBlockWarps * 32, kFoldShared,
             a, points, n, step);
    }
  };
}

}  // namespace pavise::kernels::cuda
