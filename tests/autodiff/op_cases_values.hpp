// SPDX-License-Identifier: MIT
// Rows of the table of operations: functions of elements, broadcasting.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "autodiff/op_table.hpp"
#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/elementwise.hpp"

namespace op_table {

/// A function of each element.
template <class F, class R>
Case unary_case(std::string name, Operand x, F f, R scalar) {
  return make(
      std::move(name), {std::move(x)}, {}, [f](auto& o) { return f(o.x[0]); },
      [scalar](const Operation& o) {
        Values y = o.x[0];
        std::transform(y.begin(), y.end(), y.begin(), scalar);
        return y;
      });
}

inline std::vector<Case> elementwise_cases() {
  const Shape s{3, 5, 7};
  const auto sigma = [](double x) { return 1 / (1 + std::exp(-x)); };
  return {
      unary_case(
          "relu", {s, -1, 1, {0}}, [](auto x) { return relu(x); }, [](double x) { return x > 0 ? x : 0; }),
      unary_case(
          "leaky_relu", {s, -1, 1, {0}}, [](auto x) { return leaky_relu(x, 0.125f); },
          [](double x) { return x > 0 ? x : 0.125 * x; }),
      unary_case(
          "elu", {s, -3, 1, {0}}, [](auto x) { return elu(x); }, [](double x) { return x > 0 ? x : std::expm1(x); }),
      unary_case(
          "gelu", {s, -4, 4}, [](auto x) { return gelu(x); },
          [](double x) { return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0))); }),
      unary_case(
          "silu", {s, -4, 4}, [](auto x) { return silu(x); }, [sigma](double x) { return x * sigma(x); }),
      unary_case(
          "sigmoid", {s, -6, 6}, [](auto x) { return sigmoid(x); }, sigma),
      unary_case(
          "tanh", {s, -3, 3}, [](auto x) { return tanh(x); }, [](double x) { return std::tanh(x); }),
      unary_case(
          "erf", {s, -3, 3}, [](auto x) { return erf(x); }, [](double x) { return std::erf(x); }),
      unary_case(
          "softplus", {s, -6, 6}, [](auto x) { return softplus(x); }, [](double x) { return std::log1p(std::exp(x)); }),
      unary_case(
          "exp", {s, -3, 3}, [](auto x) { return exp(x); }, [](double x) { return std::exp(x); }),
      unary_case(
          "log", {s, 0.2, 5}, [](auto x) { return log(x); }, [](double x) { return std::log(x); }),
      unary_case(
          "sqrt", {s, 0.2, 5}, [](auto x) { return sqrt(x); }, [](double x) { return std::sqrt(x); }),
      unary_case(
          "abs", {s, -1, 1, {0}}, [](auto x) { return abs(x); }, [](double x) { return std::abs(x); }),
      unary_case(
          "square", {{1}, -2, 2}, [](auto x) { return square(x); }, [](double x) { return x * x; }),
      unary_case(
          "reciprocal", {s, 0.5, 3}, [](auto x) { return reciprocal(x); }, [](double x) { return 1 / x; }),
      unary_case(
          "clamp", {s, -1, 1, {-0.5, 0.25}}, [](auto x) { return clamp(x, -0.5f, 0.25f); },
          [](double x) { return std::clamp(x, -0.5, 0.25); }),
      unary_case(
          "affine", {s}, [](auto x) { return affine(x, 1.5f, -0.25f); }, [](double x) { return 1.5 * x - 0.25; }),
      unary_case(
          "square of nothing", {{0, 3}}, [](auto x) { return square(x); }, [](double x) { return x * x; }),
  };
}

/// a op b for (C,H,W) and (C,1,1), and for a parameter (C,1,1).
template <class F, class R>
std::vector<Case> binary_cases(const std::string& name, double low, F f, R scalar) {
  const Shape a{3, 5, 2};
  const auto reference = [scalar](const Values& x, const Values& y) {
    Values out = x;
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = scalar(x[i], y[i * y.size() / x.size()]);
    }
    return out;
  };
  const auto on = [reference](const Operation& o) { return reference(o.x[0], o.x[1]); };
  const auto with = [reference](const Operation& o) { return reference(o.x[0], o.p[0]); };
  return {
      make(
          name, {{a, low, 2}, {a, low, 2}}, {}, [f](auto& o) { return f(o.x[0], o.x[1]); }, on),
      make(
          name + ", broadcast", {{a, low, 2}, {{3, 1, 1}, low, 2}}, {}, [f](auto& o) { return f(o.x[0], o.x[1]); }, on),
      make(
          name + ", parameter", {{a, low, 2}}, {{{3, 1, 1}, low, 2}}, [f](auto& o) { return f(o.x[0], o.p[0]); }, with),
  };
}

inline std::vector<Case> broadcast_cases() {
  std::vector<Case> all;
  for (auto& family : {
           binary_cases(
               "add", -2, [](auto a, auto b) { return add(a, b); }, [](double a, double b) { return a + b; }),
           binary_cases(
               "sub", -2, [](auto a, auto b) { return sub(a, b); }, [](double a, double b) { return a - b; }),
           binary_cases(
               "mul", -2, [](auto a, auto b) { return mul(a, b); }, [](double a, double b) { return a * b; }),
           binary_cases(
               "div", 0.5, [](auto a, auto b) { return div(a, b); }, [](double a, double b) { return a / b; }),
           binary_cases(
               "maximum", -2, [](auto a, auto b) { return maximum(a, b); },
               [](double a, double b) { return std::max(a, b); }),
           binary_cases(
               "minimum", -2, [](auto a, auto b) { return minimum(a, b); },
               [](double a, double b) { return std::min(a, b); }),
       }) {
    all.insert(all.end(), family.begin(), family.end());
  }
  return all;
}

}  // namespace op_table
