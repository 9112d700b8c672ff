// SPDX-License-Identifier: MIT
// The bf16 kernel's own source, compiled for the host.
#include "pavise_kernels/cuda/gather_gemm_bf16.cu"
//
#include "cuda/bf16_checks.hpp"
#include "cuda/orders.hpp"

#ifndef __SANITIZE_ADDRESS__  // fibres are slow under it
TEST_CASE("cuda products in bf16: sums of rounded factors") { check_in_each_order(cuda_checks::check_bf16); }
#else
TEST_CASE("cuda products in bf16: sums of rounded factors") { check_in_each_order(cuda_checks::check_few_bf16); }
#endif
