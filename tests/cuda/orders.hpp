// SPDX-License-Identifier: MIT
#pragma once

#include <doctest/doctest.h>

#include <array>

#include "cuda/support.hpp"
#include "pavise_kernels/cuda/host_model.cuh"

/// Runs a check on the host model, with threads and blocks in each of the three orders: a kernel that lacks a barrier
/// differs from its CPU twin in one of them. Under the address sanitizer, where fibres are slow, in one order.
inline void check_in_each_order(void (*check)(cuda_checks::Report&, const cuda_checks::Table&)) {
  using pavise::kernels::cuda::host_model::Order;
#ifdef __SANITIZE_ADDRESS__
  constexpr std::array kOrders = {Order::shuffled};
#else
  constexpr std::array kOrders = {Order::forward, Order::backward, Order::shuffled};
#endif
  for (const Order order : kOrders) {
    pavise::kernels::cuda::host_model::order = order;
    cuda_checks::Report report;
    check(report, *pavise::kernels::cuda::table.load());
    CHECK(report.text() == "");
    CHECK(report.comparisons() > 0);
  }
  pavise::kernels::cuda::host_model::order = Order::forward;
}

/// Runs a check as it is: whole models, whose kernels have been run in each order.
inline void check_once(void (*check)(cuda_checks::Report&, const cuda_checks::Table&)) {
  cuda_checks::Report report;
  check(report, *pavise::kernels::cuda::table.load());
  CHECK(report.text() == "");
  CHECK(report.comparisons() > 0);
}
