// SPDX-License-Identifier: MIT
// Whole models on the host model of the execution model, and the kernels that only they use.
#include "pavise_kernels/cuda/grid_noise.cu"
#include "pavise_kernels/cuda/lane_math.cu"
#include "pavise_kernels/cuda/layout.cu"
#include "pavise_kernels/cuda/square.cu"
//
#include "cuda/device_checks.hpp"
#include "cuda/orders.hpp"

TEST_CASE("cuda layouts") { check_in_each_order(cuda_checks::check_layouts); }
TEST_CASE("cuda noise on the grid: the CPU's bits") { check_in_each_order(cuda_checks::check_grid_noise); }

TEST_CASE("device: models have the CPU's bits") { check_once(cuda_checks::check_small_models); }
#ifndef __SANITIZE_ADDRESS__  // fibres are slow under it: these take minutes there, and their kernels run in other tests
TEST_CASE("device: models on tensor cores are off by the rounding of factors") {
  check_once(cuda_checks::check_rounded_models);
}
TEST_CASE("device: attacks have the CPU's bits") { check_once(cuda_checks::check_small_attacks); }
#endif
TEST_CASE("device: an ascent that breaks off leaves the accelerator as it was") {
  check_once(cuda_checks::check_broken_ascent);
}
TEST_CASE("device: certificates are the CPU's") { check_once(cuda_checks::check_small_certificates); }
TEST_CASE("device: what does not run there says so") { check_once(cuda_checks::check_refusals); }
