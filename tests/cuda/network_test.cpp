// SPDX-License-Identifier: MIT
#include "cuda/network_checks.hpp"
#include "cuda/orders.hpp"

TEST_CASE("cuda: a whole attack on small-cnn has the CPU's bits") {
  pavise::kernels::cuda::host_model::order = pavise::kernels::cuda::host_model::Order::shuffled;
  cuda_checks::Report report;
  cuda_checks::check_attack(report, *pavise::kernels::cuda::table.load(), 33, 1);
  CHECK(report.text() == "");
  pavise::kernels::cuda::host_model::order = pavise::kernels::cuda::host_model::Order::forward;
}
