// SPDX-License-Identifier: MIT
// The ceiling that shares of peak refer to: independent fused multiply-adds, as many as the device can start.
#include "pavise_kernels/cuda/runtime.cuh"

namespace pavise::kernels::cuda {

namespace {

constexpr int kChains = 16;
constexpr int kSteps = 32;

__global__ void __launch_bounds__(kThreads) fma_kernel(float* sink, int rounds, float factor, float term) {
  float sum[kChains];
  PAVISE_UNROLL
  for (int k = 0; k < kChains; ++k) {
    sum[k] = static_cast<float>(threadIdx.x) + static_cast<float>(k);
  }
  for (int round = 0; round < rounds; ++round) {
    PAVISE_UNROLL
    for (int s = 0; s < kSteps; ++s) {
      PAVISE_UNROLL
      for (int k = 0; k < kChains; ++k) {
        sum[k] = fmaf(sum[k], factor, term);
      }
    }
  }
  float total = 0;
  PAVISE_UNROLL
  for (int k = 0; k < kChains; ++k) {
    total += sum[k];
  }
  if (total == 12345.0f) {  // never: but the compiler does not know
    *sink = total;
  }
}

}  // namespace

void fill_measure(Table& t) {
  t.measure_fma = [](Stream stream, float* sink, int rounds) {
    const auto blocks = static_cast<unsigned>(8 * table.load()->device_info(0).multiprocessors);
    launch(stream, "measure_fma", fma_kernel, dim3(blocks), kThreads, 0, sink, rounds, 0.5f, 1.0f);
    return static_cast<double>(blocks) * kThreads * kChains * kSteps * rounds;
  };
}

}  // namespace pavise::kernels::cuda
