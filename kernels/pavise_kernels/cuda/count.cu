// SPDX-License-Identifier: MIT
// Counting and keeping: successes of an attack, votes of smoothing, the best image so far. Counts are integers, so that
// the order in which blocks add to them changes nothing. Oracle: the loops of tests/cuda/lane_checks.hpp.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

__global__ void count_equal_kernel(const std::int32_t* classes, const std::int32_t* labels, std::int64_t images,
                                   std::uint32_t* count) {
  const std::int64_t i = thread_index();
  const bool equal = i < images && classes[i] == labels[i];
  const auto here = static_cast<std::uint32_t>(__popc(__ballot_sync(0xFFFFFFFFu, equal)));
  if (lane_id() == 0 && here != 0) {
    atomicAdd(count, here);
  }
}

__global__ void count_votes_kernel(const std::int32_t* classes, std::int64_t images, std::uint32_t* votes) {
  const std::int64_t i = thread_index();
  if (i < images) {
    atomicAdd(votes + classes[i], std::uint32_t{1});
  }
}

struct KeepBest {
  const float* x;
  const float* loss;
  float* best_x;
  const float* best_loss;
  std::int64_t n;
  __device__ void operator()(std::int64_t g, std::int64_t i) const {
    const float now = loss[g * 32 + lane_id()];
    const float before = best_loss[g * 32 + lane_id()];
    if (now > before || (now != now && before == before)) {
      const std::int64_t at = (g * n + i) * 32 + lane_id();
      best_x[at] = x[at];
    }
  }
};

struct KeepLoss {
  const float* loss;
  float* best_loss;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const float now = loss[g * 32 + lane_id()];
    float& best = best_loss[g * 32 + lane_id()];
    best = now > best || now != now ? now : best;
  }
};

struct Seed {
  float* dloss;
  std::int64_t images;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const std::int64_t i = g * 32 + lane_id();
    dloss[i] = i < images ? 1.0f : 0.0f;
  }
};

}  // namespace

void fill_count(Table& t) {
  t.seed_gradient = [](Stream stream, float* dloss, std::int64_t images, std::int64_t groups) {
    each_warp(stream, "seed_gradient", groups, 1, Seed{dloss, images});
  };
  t.count_equal = [](Stream stream, const std::int32_t* classes, const std::int32_t* labels, std::int64_t images,
                     std::uint32_t* count) {
    const dim3 blocks(static_cast<unsigned>((images + kThreads - 1) / kThreads));
    launch(stream, "count_equal", count_equal_kernel, blocks, kThreads, 0, classes, labels, images, count);
  };
  t.count_votes = [](Stream stream, const std::int32_t* classes, std::int64_t images, std::uint32_t* votes) {
    const dim3 blocks(static_cast<unsigned>((images + kThreads - 1) / kThreads));
    launch(stream, "count_votes", count_votes_kernel, blocks, kThreads, 0, classes, images, votes);
  };
  t.keep_best = [](Stream stream, const float* x, const float* loss, float* best_x, float* best_loss, std::int64_t n,
                   std::int64_t groups) {
    each_warp(stream, "keep_best", groups, n, KeepBest{x, loss, best_x, best_loss, n});
    each_warp(stream, "keep_best_loss", groups, 1, KeepLoss{loss, best_loss});
  };
}

}  // namespace pavise::kernels::cuda
