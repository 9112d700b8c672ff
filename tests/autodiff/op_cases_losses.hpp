// SPDX-License-Identifier: MIT
// Rows of the table of operations: losses.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "autodiff/op_reference.hpp"
#include "autodiff/op_table.hpp"
#include "pavise/autodiff/loss.hpp"

namespace op_table {

/// The label of an image, another for the next one.
inline std::size_t label_of(std::uint32_t image, std::size_t classes, std::size_t first = 0) {
  return (first + image) % classes;
}

/// The labels of a pass over logits (classes).
template <class T>
std::vector<std::int32_t> labels_of(const Operands<T>& o, std::size_t first = 0) {
  std::vector<std::int32_t> labels;
  for (const auto image : o.image) {
    labels.push_back(static_cast<std::int32_t>(label_of(image, static_cast<std::size_t>(o.x[0].size()), first)));
  }
  return labels;
}

/// A loss of distinct logits and labels. f(logits, labels, other labels); reference(logits, label, other label).
template <class F, class R>
Case label_case(std::string name, std::int64_t classes, F f, R reference) {
  return make(
      std::move(name), {{.shape = {classes}, .low = -4, .high = 4, .distinct = true, .flat = classes == 1}}, {},
      [f](auto& o) {
        const auto labels = labels_of(o);
        const auto others = labels_of(o, 1);
        return f(o.x[0], labels.data(), others.data());
      },
      [=](const Operation& o) {
        const auto n = static_cast<std::size_t>(classes);
        return Values{reference(o.x[0], label_of(o.image, n), label_of(o.image, n, 1))};
      });
}

/// The largest logit but that of `label`.
inline double largest_other(Values z, std::size_t label) {
  z.erase(z.begin() + static_cast<std::ptrdiff_t>(label));
  return *std::max_element(z.begin(), z.end());
}
inline Values descending(Values z) {
  std::sort(z.begin(), z.end(), std::greater<>());
  return z;
}

inline std::vector<Case> label_loss_cases() {
  constexpr double kKappa = 1.5;
  const auto margin = [](const Values& z, std::size_t label) { return largest_other(z, label) - z[label]; };
  const auto cross_entropy_of = [](const Values& z, std::size_t label) {
    return -std::log(reference::softmax(z, 1)[label]);
  };
  return {
      label_case(
          "cross_entropy", 10, [](auto z, auto y, auto) { return cross_entropy(z, y); },
          [=](const Values& z, std::size_t y, std::size_t) { return cross_entropy_of(z, y); }),
      label_case(
          "cross_entropy, one class", 1, [](auto z, auto y, auto) { return cross_entropy(z, y); },
          [](const Values&, std::size_t, std::size_t) { return 0.0; }),
      label_case(
          "cross_entropy, smoothed, temperature 2", 7,
          [](auto z, auto y, auto) { return cross_entropy(z, y, 0.1f, 2.0f); },
          [](const Values& z, std::size_t y, std::size_t) {
            const Values p = reference::softmax(z, 2);
            double sum = 0;
            for (std::size_t i = 0; i < p.size(); ++i) {
              const double smoothing = 0.1f;
              sum -= (smoothing / 7 + (i == y ? 1 - smoothing : 0)) * std::log(p[i]);
            }
            return sum;
          }),
      label_case(
          "pick", 5, [](auto z, auto y, auto) { return pick(z, y); },
          [](const Values& z, std::size_t y, std::size_t) { return z[y]; }),
      label_case(
          "max_other", 5, [](auto z, auto y, auto) { return max_other(z, y); },
          [](const Values& z, std::size_t y, std::size_t) { return largest_other(z, y); }),
      label_case(
          "margin_loss", 10, [](auto z, auto y, auto) { return margin_loss(z, y); },
          [=](const Values& z, std::size_t y, std::size_t) { return margin(z, y); }),
      label_case(
          "margin_loss, kappa", 3, [](auto z, auto y, auto) { return margin_loss(z, y, 1.5f); },
          [=](const Values& z, std::size_t y, std::size_t) { return std::min(kKappa, margin(z, y)); }),
      label_case(
          "margin_loss_targeted", 2, [](auto z, auto, auto t) { return margin_loss_targeted(z, t); },
          [=](const Values& z, std::size_t, std::size_t t) { return -margin(z, t); }),
      label_case(
          "margin_loss_targeted, kappa", 11, [](auto z, auto, auto t) { return margin_loss_targeted(z, t, 1.5f); },
          [=](const Values& z, std::size_t, std::size_t t) { return std::min(kKappa, -margin(z, t)); }),
      label_case(
          "dlr_loss", 10, [](auto z, auto y, auto) { return dlr_loss(z, y); },
          [=](const Values& z, std::size_t y, std::size_t) {
            const Values top = descending(z);
            return margin(z, y) / (top[0] - top[2] + 1e-12);
          }),
      label_case(
          "dlr_loss, three classes", 3, [](auto z, auto y, auto) { return dlr_loss(z, y); },
          [=](const Values& z, std::size_t y, std::size_t) {
            const Values top = descending(z);
            return margin(z, y) / (top[0] - top[2] + 1e-12);
          }),
      label_case(
          "dlr_loss_targeted", 7, [](auto z, auto y, auto t) { return dlr_loss_targeted(z, y, t); },
          [](const Values& z, std::size_t y, std::size_t t) {
            const Values top = descending(z);
            return -(z[y] - z[t]) / (top[0] - (top[2] + top[3]) / 2 + 1e-12);
          }),
      label_case(
          "boosted_cross_entropy", 10, [](auto z, auto y, auto) { return boosted_cross_entropy(z, y); },
          [=](const Values& z, std::size_t y, std::size_t) {
            return cross_entropy_of(z, y) - std::log(1.0001 - largest_other(reference::softmax(z, 1), y));
          }),
  };
}

/// KL(softmax(a/t) || softmax(b/t)).
inline Values kl_reference(const Values& a, const Values& b, double t) {
  const Values p = reference::softmax(a, t);
  const Values q = reference::softmax(b, t);
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    sum += p[i] * std::log(p[i] / q[i]);
  }
  return {sum};
}

/// -sum q log softmax(z/t).
inline Values soft_cross_entropy_reference(const Values& z, const Values& q, double t) {
  const Values p = reference::softmax(z, t);
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    sum -= q[i] * std::log(p[i]);
  }
  return {sum};
}

inline Values mse_reference(const Values& a, const Values& b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    sum += (a[i] - b[i]) * (a[i] - b[i]) / static_cast<double>(a.size());
  }
  return {sum};
}

inline std::vector<Case> pair_loss_cases() {
  const Operand z{{7}, -2, 2};
  const Operand q{{7}, 0, 1};
  return {
      make(
          "kl_divergence", {z, z}, {}, [](auto& o) { return kl_divergence(o.x[0], o.x[1]); },
          [](const Operation& o) { return kl_reference(o.x[0], o.x[1], 1); }),
      make(
          "kl_divergence, parameter, temperature 2", {z}, {z},
          [](auto& o) { return kl_divergence(o.x[0], o.p[0], 2.0f); },
          [](const Operation& o) { return kl_reference(o.x[0], o.p[0], 2); }),
      make(
          "cross_entropy_soft", {z, q}, {}, [](auto& o) { return cross_entropy_soft(o.x[0], o.x[1]); },
          [](const Operation& o) { return soft_cross_entropy_reference(o.x[0], o.x[1], 1); }),
      make(
          "cross_entropy_soft, parameter, temperature 2", {z}, {q},
          [](auto& o) { return cross_entropy_soft(o.x[0], o.p[0], 2.0f); },
          [](const Operation& o) { return soft_cross_entropy_reference(o.x[0], o.p[0], 2); }),
      make(
          "mse", {{{2, 3}}, {{2, 3}}}, {}, [](auto& o) { return mse(o.x[0], o.x[1]); },
          [](const Operation& o) { return mse_reference(o.x[0], o.x[1]); }),
      make(
          "mse, parameter", {{{2, 3}}}, {{{2, 3}}}, [](auto& o) { return mse(o.x[0], o.p[0]); },
          [](const Operation& o) { return mse_reference(o.x[0], o.p[0]); }),
  };
}

}  // namespace op_table
