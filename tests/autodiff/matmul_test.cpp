// SPDX-License-Identifier: MIT
#include "pavise/autodiff/matmul.hpp"

#include <doctest/doctest.h>

#include <vector>

#include "autodiff/check.hpp"

namespace pv = pavise;

TEST_CASE("matmul: value, gradient, bits, with shared operands") {
  const auto f = [](auto& x) { return pv::matmul(x[0], x[1]); };
  const std::size_t cases[4][3] = {{1, 1, 1}, {3, 5, 2}, {4, 1, 3}, {2, 7, 5}};
  for (const auto& [m, k, n] : cases) {
    const pv::Shape a{static_cast<std::int64_t>(m), static_cast<std::int64_t>(k)};
    const pv::Shape b{static_cast<std::int64_t>(k), static_cast<std::int64_t>(n)};
    const auto reference = [m = m, k = k, n = n](std::vector<std::vector<double>>& x) {
      std::vector<double> y(m * n, 0.0);
      for (std::size_t i = 0; i < m; ++i) {
        for (std::size_t j = 0; j < n; ++j) {
          for (std::size_t l = 0; l < k; ++l) {
            y[i * n + j] += x[0][i * k + l] * x[1][l * n + j];
          }
        }
      }
      return y;
    };
    for (const auto& shared : {std::vector<bool>{false, false}, {true, false}, {false, true}, {true, true}}) {
      check::Options o;
      o.shared = shared;
      check::forward_check<float>(f, {a, b}, reference, 1e-6, o);
      check::forward_check<double>(f, {a, b}, reference, 1e-14, o);
      check::gradient_check(f, {a, b}, o);
      check::same_bits(f, {a, b}, o);
    }
  }
  check::gradient_check([](auto& x) { return pv::matmul(x[0], pv::matmul(x[0], x[0])); }, {{3, 3}});
}

TEST_CASE("matmul: what it refuses") {
  pv::Tape<float> tape;
  tape.begin(1);
  CHECK_THROWS_WITH_AS(pv::matmul(tape.input({2, 3}), tape.input({2, 3})),
                       "matmul: expected (M,K) and (K,N), got (2,3) and (2,3)", pv::ShapeError);
}
