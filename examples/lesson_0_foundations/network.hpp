// SPDX-License-Identifier: MIT
// A network in fifty lines: two layers, and the loss that they are trained by.
#pragma once

#include <cmath>
#include <cstdint>

#include "tape.hpp"

namespace tiny {

/// y = x w^T + b, so that dx = dy w, dw = dy^T x, and db is the sum of dy over the rows.
inline Node& linear(Tape& tape, Node& x, Node& w, Node& b) {
  Node& y = tape.append({x.value.rows, w.value.rows});
  add_product(y.value, x.value, As::it_is, w.value, As::transposed);
  for (std::size_t i = 0; i < y.value.values.size(); ++i) {
    y.value.values[i] += b.value.values[i % b.value.columns];
  }
  y.backward = [&] {
    add_product(x.gradient, y.gradient, As::it_is, w.value, As::it_is);
    add_product(w.gradient, y.gradient, As::transposed, x.value, As::it_is);
    for (std::size_t i = 0; i < y.gradient.values.size(); ++i) {
      b.gradient.values[i % b.value.columns] += y.gradient.values[i];
    }
  };
  return y;
}

/// The mean over the rows of -log softmax(z)[label], softmax(z)_k = e^z_k / sum of all e^z.
inline Node& cross_entropy(Tape& tape, Node& z, const std::vector<std::int32_t>& labels) {
  Node& loss = tape.append({1, 1});
  Tensor dz = z.value;
  for (std::size_t r = 0; r < dz.rows; ++r) {
    float sum = 0;
    for (std::size_t k = 0; k < dz.columns; ++k) sum += std::exp(z.value(r, k));
    for (std::size_t k = 0; k < dz.columns; ++k) dz(r, k) = std::exp(z.value(r, k)) / sum / static_cast<float>(dz.rows);
    const auto label = static_cast<std::size_t>(labels[r]);
    loss.value(0, 0) += (std::log(sum) - z.value(r, label)) / static_cast<float>(dz.rows);
    dz(r, label) -= 1 / static_cast<float>(dz.rows);
  }
  loss.backward = [&loss, &z, dz] {
    for (std::size_t i = 0; i < dz.values.size(); ++i) z.gradient.values[i] += loss.gradient(0, 0) * dz.values[i];
  };
  return loss;
}

}  // namespace tiny
