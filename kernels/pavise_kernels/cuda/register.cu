// SPDX-License-Identifier: MIT
// Puts the table into place when the program starts. Whoever links the library names pavise_cuda_registered, so that the
// linker takes this file too.
#include "pavise_kernels/cuda/runtime.cuh"

namespace pavise::kernels::cuda {

namespace {

const Table* filled_table() {
  static Table t{};
  fill_runtime(t);
  fill_gather_gemm(t);
  fill_gather_gemm_fast(t);
  fill_gather_gemm_bf16(t);
  fill_weight_gradient(t);
  fill_optimizer(t);
  fill_loss(t);
  fill_count(t);
  fill_apgd(t);
  fill_lane_math(t);
  fill_probe(t);
  fill_square(t);
  fill_attack_step(t);
  fill_random(t);
  fill_grid_noise(t);
  fill_layout(t);
  fill_elementwise(t);
  fill_reduce(t);
  fill_pool(t);
  fill_norm(t);
  fill_batch_norm(t);
  fill_row_norm(t);
  fill_winograd(t);
  fill_filter_elements(t);
  fill_windows(t);
  fill_jpeg(t);
  fill_nlm(t);
  fill_resample(t);
  fill_lane_gather(t);
  fill_total_variation(t);
  fill_measure(t);
  return &t;
}

[[maybe_unused]] const bool registered = (table.store(filled_table(), std::memory_order_release), true);

}  // namespace

}  // namespace pavise::kernels::cuda

extern "C" {
extern const int pavise_cuda_registered;
const int pavise_cuda_registered = 1;
}
