// SPDX-License-Identifier: MIT
// The sources of filters that keep each pixel's sums in one thread, compiled for the host.
#include "pavise_kernels/cuda/filter_elements.cu"
#include "pavise_kernels/cuda/lane_gather.cu"
#include "pavise_kernels/cuda/nlm.cu"
#include "pavise_kernels/cuda/resample.cu"
#include "pavise_kernels/cuda/total_variation.cu"
//
#include "cuda/filter_kernel_checks.hpp"
#include "cuda/orders.hpp"

TEST_CASE("cuda filters of single pixels: the CPU's bits") { check_in_each_order(cuda_checks::check_filter_elements); }
TEST_CASE("cuda non-local means: the CPU's bits") { check_in_each_order(cuda_checks::check_nlm); }
TEST_CASE("cuda resampling: the CPU's bits") { check_in_each_order(cuda_checks::check_resample); }
TEST_CASE("cuda gathered pixels: the CPU's bits") { check_in_each_order(cuda_checks::check_gather_pixels); }
TEST_CASE("cuda total variation: the CPU's bits") { check_in_each_order(cuda_checks::check_total_variation); }
TEST_CASE("cuda strided copies: the CPU's bits") { check_in_each_order(cuda_checks::check_strided_copy); }
