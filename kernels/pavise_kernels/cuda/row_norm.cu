// SPDX-License-Identifier: MIT
// Group and layer normalisation: a warp takes a row of 32 images. Oracles: kernels::row_norm and row_norm_backward, bit
// for bit; the parameters' sums over images have the order of slices.cuh, kernels::row_norm_parameters within rounding.
#include "pavise_kernels/cuda/slices.cuh"

namespace pavise::kernels::cuda {

namespace {

/// Row r of an image by itself.
__device__ __forceinline__ RowNorm one_row(RowNorm n) {
  n.rows = 1;
  return n;
}
__device__ __forceinline__ const float* offset(const float* p, std::int64_t n) {
  return p != nullptr ? p + n : nullptr;
}

struct RowNormForward {
  RowNorm n;
  const float* x;
  float* y;
  const float* gamma;
  const float* beta;
  float epsilon;
  bool relu;
  float* mean;
  float* inverse;
  __device__ void operator()(std::int64_t g, std::int64_t r) const {
    const std::int64_t row = g * n.rows + r;
    const std::int64_t at = row * n.blocks * n.positions * 32;
    row_norm_lanes<float, 32>(one_row(n), x + at, y + at, offset(gamma, r * n.row_parameters),
                              offset(beta, r * n.row_parameters), epsilon, relu, mean + row * 32, inverse + row * 32);
  }
};

struct RowNormBackward {
  RowNorm n;
  const float* x;
  const float* dy;
  const float* gamma;
  const float* mean;
  const float* inverse;
  float* dx;
  bool accumulate;
  const float* mask;
  __device__ void operator()(std::int64_t g, std::int64_t r) const {
    const std::int64_t row = g * n.rows + r;
    const std::int64_t at = row * n.blocks * n.positions * 32;
    row_norm_backward_lanes<float, 32>(one_row(n), x + at, dy + at, offset(gamma, r * n.row_parameters),
                                       mean + row * 32, inverse + row * 32, dx + at, accumulate, offset(mask, at));
  }
};

/// Elements of an image that one parameter scales.
__host__ __device__ inline std::int64_t elements_of_parameter(const RowNorm& n) {
  return n.row_parameters > 0 ? n.positions : n.rows * n.positions;
}

/// The sums of dy, or of dy * (x - mean) / deviation, over what parameter k scales in a slice.
struct RowNormParameters {
  RowNorm n;
  bool gamma;
  const float* x;
  const float* dy;
  const float* mean;
  const float* inverse;
  float* partial;
  std::int64_t parameters, images, groups, each;
  __device__ void operator()(std::int64_t slice, std::int64_t k) const {
    const std::int64_t first = n.row_parameters > 0 ? k / n.row_parameters : 0;
    const std::int64_t last = n.row_parameters > 0 ? first + 1 : n.rows;
    const std::int64_t block = n.row_parameters > 0 ? k % n.row_parameters : k;
    const std::int64_t end = groups < (slice + 1) * each ? groups : (slice + 1) * each;
    float sum = 0.0f;
    for (std::int64_t g = slice * each; g < end && g * 32 + lane_id() < images; ++g) {
      for (std::int64_t r = first; r < last; ++r) {
        const std::int64_t row = g * n.rows + r;
        const std::int64_t at = ((row * n.blocks + block) * n.positions) * 32 + lane_id();
        const float m = mean[row * 32 + lane_id()];
        float t = 0.0f;
        for (std::int64_t i = 0; i < n.positions; ++i) {
          const float d = dy[at + i * 32];
          t = gamma ? fmaf(d, x[at + i * 32] - m, t) : t + d;
        }
        sum = gamma ? fmaf(t, inverse[row * 32 + lane_id()], sum) : sum + t;
      }
    }
    store_sum_over_lanes(sum, partial + slice * parameters + k);
  }
};

}  // namespace

void fill_row_norm(Table& t) {
  t.row_norm = [](Stream stream, const RowNorm& n, const float* x, float* y, const float* gamma, const float* beta,
                  float epsilon, bool relu, float* mean, float* inverse, std::int64_t groups) {
    each_warp(stream, "row_norm", groups, n.rows, RowNormForward{n, x, y, gamma, beta, epsilon, relu, mean, inverse},
              kFewThreads);
  };
  t.row_norm_backward = [](Stream stream, const RowNorm& n, const float* x, const float* dy, const float* gamma,
                           const float* mean, const float* inverse, float* dx, bool accumulate, const float* mask,
                           std::int64_t groups) {
    each_warp(stream, "row_norm_backward", groups, n.rows,
              RowNormBackward{n, x, dy, gamma, mean, inverse, dx, accumulate, mask}, kFewThreads);
  };
  t.row_norm_parameters_scratch = [](const RowNorm& n, std::int64_t parameters, std::int64_t groups) {
    return slices_of(elements_of_parameter(n), groups) * parameters;
  };
  t.row_norm_parameters = [](Stream stream, const RowNorm& n, bool gamma, const float* x, const float* dy,
                             const float* mean, const float* inverse, float* partial, std::int64_t parameters,
                             std::int64_t images, std::int64_t groups) {
    const std::int64_t slices = slices_of(elements_of_parameter(n), groups);
    if (parameters > 0) {
      each_warp(stream, "row_norm_parameters", slices, parameters,
                RowNormParameters{n, gamma, x, dy, mean, inverse, partial, parameters, images, groups,
                                  slice_groups(elements_of_parameter(n))});
    }
    return slices;
  };
}

}  // namespace pavise::kernels::cuda
