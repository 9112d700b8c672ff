// SPDX-License-Identifier: MIT
// The matrix micro-kernel's own source, compiled for the host.
#include "pavise_kernels/cuda/gather_gemm.cu"
#include "pavise_kernels/cuda/gather_gemm_fast.cu"
#include "pavise_kernels/cuda/image_gradient.cu"
//
#include "cuda/gather_gemm_checks.hpp"
#include "cuda/orders.hpp"
#include "pavise_kernels/cuda/register.cu"
#include "pavise_kernels/cuda/runtime.cu"
#include "pavise_kernels/cuda/winograd.cu"

TEST_CASE("cuda gather_gemm: convolutions and their derivatives have the CPU's bits") {
  check_in_each_order(cuda_checks::check_convolutions);
}

TEST_CASE("cuda gradients of images have the CPU's bits") { check_in_each_order(cuda_checks::check_image_gradients); }

TEST_CASE("cuda gather_gemm: fully connected layers have the CPU's bits") {
  check_in_each_order(cuda_checks::check_matrices);
}

TEST_CASE("cuda gather_gemm: the register tile changes no bit") { check_in_each_order(cuda_checks::check_tiles); }

TEST_CASE("cuda winograd: the CPU's bits") { check_in_each_order(cuda_checks::check_winograd); }

TEST_CASE("cuda gather_gemm on tensor cores: within the rounding of TF32") {
  check_in_each_order(cuda_checks::check_fast);
}
