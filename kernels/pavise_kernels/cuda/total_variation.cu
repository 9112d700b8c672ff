// SPDX-License-Identifier: MIT
// Total variation minimised, [group](channels,height,width)[32]. Each step is four launches, over all groups: a warp takes
// a line of the dual, then a pixel of the primal; a block folds an image's squared distances in the order of its pixels,
// as the CPU's lane does; then a warp takes a pixel again. Oracle: kernels::total_variation, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"
#include "pavise_kernels/cuda/fold.cuh"

namespace pavise::kernels::cuda {

namespace {

struct Variation {
  TotalVariationStep s;
  VariationArrays<float> a;  ///< of all groups
  float* far;                ///< how far each pixel is from x; later each group's first one holds the sum of squares
  __host__ __device__ std::int64_t lines() const { return s.height - 1 + s.width - 1; }
  __host__ __device__ std::int64_t pixels() const { return s.height * s.width; }
  __host__ __device__ std::int64_t count() const { return s.channels * pixels(); }
};

/// A line of a channel: the differences of row i or column j to the one before it.
struct VariationDual {
  Variation v;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t channel = (g * v.s.channels + e / v.lines()) * v.pixels();
    const std::int64_t i = e % v.lines() + 1;
    const std::int64_t j = i - (v.s.height - 1);
    if (i < v.s.height) {
      const std::int64_t at = (channel + i * v.s.width) * 32;
      variation_dual<float, 32>(v.a.by_row + at, v.a.ahead + at, v.s.width, 1, v.s.width, v.s.weight);
    } else {
      const std::int64_t at = (channel + j) * 32;
      variation_dual<float, 32>(v.a.by_column + at, v.a.ahead + at, v.s.height, v.s.width, 1, v.s.weight);
    }
  }
};

struct VariationPrimal {
  Variation v;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t at = (g * v.count() + e) * 32;
    const std::int64_t i = e / v.s.width % v.s.height;
    const std::int64_t j = e % v.s.width;
    variation_primal<float, 32>(v.a, at, v.s.width, i + 1 < v.s.height, j + 1 < v.s.width).store(v.far + at);
  }
};

/// A block takes a group.
__global__ void __launch_bounds__(kBlockWarps * 32) variation_distance_kernel(float* all_far, std::int64_t n) {
  using P = Pack<float, 32>;
  float* const far = all_far + blockIdx.x * n * 32;
  const P square = fold(
      n, dynamic_shared(), [&](std::int64_t i) { return P::load(far + i * 32); },
      [](P d, P sum) { return fma(d, d, sum); });
  if (warp_id() == 0) {
    square.store(far);
  }
}

struct VariationProximal {
  Variation v;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const auto square = Pack<float, 32>::load(v.far + g * v.count() * 32);
    variation_proximal(v.a, (g * v.count() + e) * 32, variation_stay(square));
  }
};

void total_variation_steps(Stream stream, const TotalVariationStep& s, const float* x, const float* kept, float* y,
                           float* scratch, std::int64_t groups) {
  const Table& t = *table.load();
  const std::int64_t all = groups * s.channels * s.height * s.width * 32;
  const Variation v{s, {x, kept, y, scratch, scratch + all, scratch + 2 * all}, scratch + 3 * all};
  const auto bytes = static_cast<std::size_t>(all) * sizeof(float);
  t.copy(v.a.z, x, bytes, stream);
  t.copy(v.a.ahead, x, bytes, stream);
  t.fill_bytes(v.a.by_row, 0, 2 * bytes, stream);
  for (std::int64_t step = 0; step < s.steps; ++step) {
    each_warp(stream, "variation_dual", groups, s.channels * v.lines(), VariationDual{v});
    each_warp(stream, "variation_primal", groups, v.count(), VariationPrimal{v});
    launch(stream, "variation_distance", variation_distance_kernel, dim3(static_cast<unsigned>(groups)),
           kBlockWarps * 32, kFoldShared, v.far, v.count());
    each_warp(stream, "variation_proximal", groups, v.count(), VariationProximal{v});
  }
}

}  // namespace

void fill_total_variation(Table& t) { t.total_variation = total_variation_steps; }

}  // namespace pavise::kernels::cuda
