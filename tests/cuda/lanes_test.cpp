// SPDX-License-Identifier: MIT
// The lane by lane kernels' own sources, compiled for the host, and the sums that cross the batch.
#include "pavise_kernels/cuda/apgd.cu"
#include "pavise_kernels/cuda/attack_step.cu"
#include "pavise_kernels/cuda/batch_norm.cu"
#include "pavise_kernels/cuda/count.cu"
#include "pavise_kernels/cuda/elementwise.cu"
#include "pavise_kernels/cuda/loss.cu"
#include "pavise_kernels/cuda/measure.cu"
#include "pavise_kernels/cuda/norm.cu"
#include "pavise_kernels/cuda/optimizer.cu"
#include "pavise_kernels/cuda/pool.cu"
#include "pavise_kernels/cuda/probe.cu"
#include "pavise_kernels/cuda/random.cu"
#include "pavise_kernels/cuda/reduce.cu"
#include "pavise_kernels/cuda/row_norm.cu"
#include "pavise_kernels/cuda/weight_gradient.cu"
//
#include "cuda/attack_checks.hpp"
#include "cuda/batch_norm_checks.hpp"
#include "cuda/lane_checks.hpp"
#include "cuda/norm_checks.hpp"
#include "cuda/orders.hpp"
#include "cuda/reduce_checks.hpp"
#include "cuda/running_norm_checks.hpp"
#include "cuda/weight_gradient_checks.hpp"

TEST_CASE("cuda losses: the CPU's bits") { check_in_each_order(cuda_checks::check_losses); }
TEST_CASE("cuda softmax: the CPU's bits") { check_in_each_order(cuda_checks::check_softmax); }
TEST_CASE("cuda attack steps: the CPU's bits") { check_in_each_order(cuda_checks::check_attack_steps); }
TEST_CASE("cuda Auto-PGD: the CPU's bits") { check_in_each_order(cuda_checks::check_apgd); }
TEST_CASE("cuda momentum: the CPU's bits") { check_in_each_order(cuda_checks::check_momentum); }
TEST_CASE("cuda probes: the CPU's bits") { check_in_each_order(cuda_checks::check_probes); }
TEST_CASE("cuda rows") { check_in_each_order(cuda_checks::check_rows); }
TEST_CASE("cuda random numbers: the CPU's bits") { check_in_each_order(cuda_checks::check_random); }
TEST_CASE("cuda element-wise: the CPU's bits") { check_in_each_order(cuda_checks::check_elementwise); }
TEST_CASE("cuda sums: the CPU's bits") { check_in_each_order(cuda_checks::check_sums); }
TEST_CASE("cuda pooling: the CPU's bits") { check_in_each_order(cuda_checks::check_pools); }
TEST_CASE("cuda channels: the CPU's bits") { check_in_each_order(cuda_checks::check_channels); }
TEST_CASE("cuda batch normalisation: the stated order") { check_in_each_order(cuda_checks::check_batch_norm); }
TEST_CASE("cuda running statistics: the CPU's bits") { check_in_each_order(cuda_checks::check_running_norm); }
TEST_CASE("cuda group and layer normalisation: the CPU's bits") { check_in_each_order(cuda_checks::check_row_norms); }
TEST_CASE("cuda dropout: the CPU's bits") { check_in_each_order(cuda_checks::check_dropout); }
TEST_CASE("cuda optimizers: the CPU's bits") { check_in_each_order(cuda_checks::check_optimizers); }
TEST_CASE("cuda counts") { check_in_each_order(cuda_checks::check_counts); }
TEST_CASE("cuda graphs") { check_in_each_order(cuda_checks::check_graphs); }
TEST_CASE("cuda weight gradients: the stated order") { check_in_each_order(cuda_checks::check_weight_gradients); }
