// SPDX-License-Identifier: MIT
#pragma once

#include <doctest/doctest.h>

#include "cuda/support.hpp"
#include "pavise_kernels/cuda/host_model.cuh"

/// Runs a check on the host model, with threads and blocks in each of the three orders: a kernel that lacks a barrier
/// differs from its CPU twin in one of them.
inline void check_in_each_order(void (*check)(cuda_checks::Report&, const cuda_checks::Table&)) {
  using pavise::kernels::cuda::host_model::Order;
  for (const Order order : {Order::forward, Order::backward, Order::shuffled}) {
    pavise::kernels::cuda::host_model::order = order;
    cuda_checks::Report report;
    check(report, *pavise::kernels::cuda::table.load());
    CHECK(report.text() == "");
    CHECK(report.comparisons() > 0);
  }
  pavise::kernels::cuda::host_model::order = Order::forward;
}
