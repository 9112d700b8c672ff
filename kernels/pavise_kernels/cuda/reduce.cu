// SPDX-License-Identifier: MIT
// Sums over axes of one image; a warp takes an element of the result for 32 images. Oracle: kernels::reduce_forward, bit
// for bit. (Their derivative is a strided copy.)
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

struct SumElements {
  StridedLoop kept, reduced;
  const float* x;
  std::int64_t x_step;
  float* y;
  std::int64_t y_step;
  __device__ void operator()(std::int64_t g, std::int64_t i) const {
    std::int64_t at[StridedLoop::kArrays];
    kept.locate(i, at);
    sum_elements<float, 32>(reduced, x + (g * x_step + at[0]) * 32).store(y + (g * y_step + at[1]) * 32);
  }
};

}  // namespace

void fill_reduce(Table& t) {
  t.sum_elements = [](Stream stream, const StridedLoop& kept, const StridedLoop& reduced, const float* x,
                      std::int64_t x_step, float* y, std::int64_t y_step, std::int64_t groups) {
    each_warp(stream, "sum_elements", groups, kept.count(), SumElements{kept, reduced, x, x_step, y, y_step});
  };
}

}  // namespace pavise::kernels::cuda
