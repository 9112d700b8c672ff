// SPDX-License-Identifier: MIT
// Rows of the table of operations: reductions, shapes, softmax, matrices.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "autodiff/op_reference.hpp"
#include "autodiff/op_table.hpp"
#include "pavise/autodiff/matmul.hpp"
#include "pavise/autodiff/reduce.hpp"
#include "pavise/autodiff/shape_ops.hpp"
#include "pavise/autodiff/softmax.hpp"

namespace op_table {

/// a (m,k) times b (k,n).
inline Values product(const Values& a, const Values& b, std::size_t m, std::size_t k, std::size_t n) {
  Values y(m * n, 0.0);
  for (std::size_t i = 0; i < m; ++i) {
    for (std::size_t j = 0; j < n; ++j) {
      for (std::size_t l = 0; l < k; ++l) {
        y[i * n + j] += a[i * k + l] * b[l * n + j];
      }
    }
  }
  return y;
}

inline std::vector<Case> structure_cases() {
  return {
      make(
          "sum", {{{3, 5, 2}}}, {}, [](auto& o) { return sum(o.x[0]); },
          [](const Operation& o) {
            double s = 0;
            for (const double v : o.x[0]) {
              s += v;
            }
            return Values{s};
          }),
      make(
          "mean of the last axes", {{{3, 5, 2}}}, {},
          [](auto& o) {
            return mean(o.x[0], {1, 2});
          },
          [](const Operation& o) {
            Values s(3, 0.0);
            for (std::size_t i = 0; i < 30; ++i) {
              s[i / 10] += o.x[0][i] / 10;
            }
            return s;
          }),
      make(
          "max of the first axis", {{.shape = {5, 7}, .distinct = true}}, {}, [](auto& o) { return max(o.x[0], {0}); },
          [](const Operation& o) {
            Values s(o.x[0].begin(), o.x[0].begin() + 7);
            for (std::size_t i = 0; i < 35; ++i) {
              s[i % 7] = std::max(s[i % 7], o.x[0][i]);
            }
            return s;
          }),
      make(
          "min of the last axis", {{.shape = {5, 7}, .distinct = true}}, {},
          [](auto& o) { return min(o.x[0], {-1}, true); },
          [](const Operation& o) {
            Values s;
            for (std::size_t i = 0; i < 35; i += 7) {
              s.push_back(*std::min_element(o.x[0].begin() + static_cast<std::ptrdiff_t>(i),
                                            o.x[0].begin() + static_cast<std::ptrdiff_t>(i + 7)));
            }
            return s;
          }),
      make(
          "min", {{.shape = {13}, .distinct = true}}, {}, [](auto& o) { return min(o.x[0]); },
          [](const Operation& o) { return Values{*std::min_element(o.x[0].begin(), o.x[0].end())}; }),
      make(
          "reshape", {{{3, 4}}}, {},
          [](auto& o) {
            return reshape(o.x[0], {2, 6});
          },
          [](const Operation& o) { return o.x[0]; }),
      make(
          "slice", {{{3, 5}}}, {}, [](auto& o) { return slice(o.x[0], 0, 1, 3); },
          [](const Operation& o) { return Values(o.x[0].begin() + 5, o.x[0].end()); }),
      make(
          "concat", {{{2, 3}}, {{1, 3}}}, {}, [](auto& o) { return concat(o.x[0], o.x[1], 0); },
          [](const Operation& o) {
            Values y = o.x[0];
            y.insert(y.end(), o.x[1].begin(), o.x[1].end());
            return y;
          }),
      make(
          "pad2d", {{{1, 1, 2}}}, {}, [](auto& o) { return pad2d(o.x[0], 1, 0.5f); },
          [](const Operation& o) {
            Values y(12, 0.5);
            y[5] = o.x[0][0];
            y[6] = o.x[0][1];
            return y;
          }),
      make(
          "pad, each side of each axis", {{{2, 1, 3}}}, {},
          [](auto& o) {
            return pad(o.x[0], {1, 0, 2}, {0, 3, 1}, -0.25f);
          },
          [](const Operation& o) {
            Values y(3 * 4 * 6, -0.25);
            for (std::size_t c = 0; c < 2; ++c) {
              for (std::size_t w = 0; w < 3; ++w) {
                y[(c + 1) * 24 + w + 2] = o.x[0][c * 3 + w];
              }
            }
            return y;
          }),
      make(
          "pad of nothing", {{{0, 2}}}, {},
          [](auto& o) {
            return pad(o.x[0], {1, 0}, {0, 1}, 2.0f);
          },
          [](const Operation&) { return Values(3, 2.0); }),
      make(
          "permute", {{{2, 3, 5}}}, {},
          [](auto& o) {
            return permute(o.x[0], {2, 0, 1});
          },
          [](const Operation& o) {
            Values y(30);
            for (std::size_t i = 0; i < 30; ++i) {
              y[i % 5 * 6 + i / 5] = o.x[0][i];
            }
            return y;
          }),
      make(
          "permute, a swap within", {{{3, 2, 2, 5}}}, {},
          [](auto& o) {
            return permute(o.x[0], {0, 2, 1, 3});
          },
          [](const Operation& o) {
            Values y(60);
            for (std::size_t i = 0; i < 60; ++i) {
              y[i / 20 * 20 + i / 5 % 2 * 10 + i / 10 % 2 * 5 + i % 5] = o.x[0][i];
            }
            return y;
          }),
      make(
          "transpose", {{{2, 3}}}, {}, [](auto& o) { return transpose(o.x[0]); },
          [](const Operation& o) {
            const Values& x = o.x[0];
            return Values{x[0], x[3], x[1], x[4], x[2], x[5]};
          }),
      make(
          "matmul", {{{3, 5}}, {{5, 2}}}, {}, [](auto& o) { return matmul(o.x[0], o.x[1]); },
          [](const Operation& o) { return product(o.x[0], o.x[1], 3, 5, 2); }),
      make(
          "matmul, parameter on the right", {{{7, 3}}}, {{{3, 4}}}, [](auto& o) { return matmul(o.x[0], o.p[0]); },
          [](const Operation& o) { return product(o.x[0], o.p[0], 7, 3, 4); }),
      make(
          "matmul, parameter on the left", {{{3, 1}}}, {{{2, 3}}}, [](auto& o) { return matmul(o.p[0], o.x[0]); },
          [](const Operation& o) { return product(o.p[0], o.x[0], 2, 3, 1); }),
      make(
          "softmax", {{{11}, -4, 4}}, {}, [](auto& o) { return softmax(o.x[0], 2.0f); },
          [](const Operation& o) { return reference::softmax(o.x[0], 2); }),
      make(
          "log_softmax", {{{11}, -4, 4}}, {}, [](auto& o) { return log_softmax(o.x[0]); },
          [](const Operation& o) {
            Values y = reference::softmax(o.x[0], 1);
            std::transform(y.begin(), y.end(), y.begin(), [](double v) { return std::log(v); });
            return y;
          }),
  };
}

}  // namespace op_table
