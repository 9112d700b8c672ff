// SPDX-License-Identifier: MIT
// A tensor in fifty lines: numbers, and how they lie in memory.
#pragma once

#include <cstddef>
#include <vector>

namespace tiny {

/// A tensor of two axes. A batch of images is one, an image a row; the weights of a layer are one, an output a row.
struct Tensor {
  std::size_t rows = 0, columns = 0;
  std::vector<float> values = std::vector<float>(rows * columns, 0.0f);

  float& operator()(std::size_t r, std::size_t c) { return values[r * columns + c]; }
  float operator()(std::size_t r, std::size_t c) const { return values[r * columns + c]; }
};

enum class As { it_is, transposed };

/// c += a b, each of a and b as it is or transposed. Nearly all that a network computes is this, forward and backward.
inline void add_product(Tensor& c, const Tensor& a, As a_as, const Tensor& b, As b_as) {
  const std::size_t inner = a_as == As::it_is ? a.columns : a.rows;
  for (std::size_t i = 0; i < c.rows; ++i) {
    for (std::size_t k = 0; k < inner; ++k) {
      const float x = a_as == As::it_is ? a(i, k) : a(k, i);
      for (std::size_t j = 0; j < c.columns; ++j) {
        c(i, j) += x * (b_as == As::it_is ? b(k, j) : b(j, k));
      }
    }
  }
}

}  // namespace tiny
