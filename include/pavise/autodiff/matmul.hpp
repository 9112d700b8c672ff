// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "pavise/autodiff/over_batch.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

/// Product of two matrices, for each image: (M,K) x (K,N) gives (M,N), y[i][j] = sum_k a[i][k] b[k][j], in the order of
/// k. Either may be shared (a parameter); its gradient is summed over k's counterpart, groups and lanes in a fixed
/// order. For a layer's weights `linear` is faster. Throws ShapeError where they do not fit.
template <class T>
Var<T> matmul(Var<T> a, Var<T> b) {
  const Shape sa = a.shape();
  const Shape sb = b.shape();
  require<ShapeError>(sa.rank() == 2 && sb.rank() == 2 && sa[1] == sb[0], "matmul: expected (M,K) and (K,N), got ", sa,
                      " and ", sb);
  Tape<T>& tape = a.tape();
  const std::int64_t m = sa[0];
  const std::int64_t k = sa[1];
  const std::int64_t n = sb[1];
  Var<T> y = tape.result("matmul", Shape{m, n}, {a, b});
  const int lanes = tape.lanes();
  const std::int64_t a_step = a.shared() ? 0 : m * k * lanes;
  const std::int64_t b_step = b.shared() ? 0 : k * n * lanes;
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      matmul<T>(isa, {a.data(g), k, 1, a_step}, {b.data(g), n, 1, b_step}, y.data(g), m, n, k, false, lanes);
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    const std::int64_t y_step = m * n * lanes;
    if (t.needs_gradient(a)) {  // da = dy b^T
      const auto target = t.target(a);
      if (a.shared()) {
        detail::add_over_batch(t, m * k, [&](const kernels::RunningSums<T>& running) {
          parallel_for(m, [&](std::int64_t i) {
            kernels::run_light([&](auto isa) {
              matmul_shared_row<T>(isa, {t.gradient(y), n, 1, y_step}, {b.data(), 1, n, b_step}, t.groups(),
                                   target.data, k, n, i, running);
            });
          });
        });
      } else {
        t.each_group([&](std::int64_t g) {
          kernels::run_light([&](auto isa) {
            matmul<T>(isa, {t.gradient(y, g), n, 1, y_step}, {b.data(g), 1, n, b_step}, target.data + g * a_step, m, k,
                      n, target.accumulate, lanes);
          });
        });
      }
    }
    if (t.needs_gradient(b)) {  // db = a^T dy
      const auto target = t.target(b);
      if (b.shared()) {
        detail::add_over_batch(t, k * n, [&](const kernels::RunningSums<T>& running) {
          parallel_for(k, [&](std::int64_t i) {
            kernels::run_light([&](auto isa) {
              matmul_shared_row<T>(isa, {a.data(), 1, k, a_step}, {t.gradient(y), n, 1, y_step}, t.groups(),
                                   target.data, n, m, i, running);
            });
          });
        });
      } else {
        t.each_group([&](std::int64_t g) {
          kernels::run_light([&](auto isa) {
            matmul<T>(isa, {a.data(g), 1, k, a_step}, {t.gradient(y, g), n, 1, y_step}, target.data + g * b_step, k, n,
                      m, target.accumulate, lanes);
          });
        });
      }
    }
  });
  return y;
}

}  // namespace pavise
