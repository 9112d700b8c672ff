// SPDX-License-Identifier: MIT
// The filters over windows and JPEG: the kernels' own sources, compiled for the host.
#include "pavise_kernels/cuda/windows.cu"
#include "pavise_kernels/cuda/jpeg.cu"
//
#include "cuda/orders.hpp"
#include "cuda/window_checks.hpp"

TEST_CASE("cuda medians: the CPU's bits") { check_in_each_order(cuda_checks::check_medians); }
TEST_CASE("cuda bilateral filter: the CPU's bits") { check_in_each_order(cuda_checks::check_bilateral); }
TEST_CASE("cuda jpeg: the CPU's bits") { check_in_each_order(cuda_checks::check_jpeg); }
