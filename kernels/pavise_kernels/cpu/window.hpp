// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace pavise::kernels {

/// Windows over one channel (height, width): window row r of output row i is input row y[i + r], and window column c of
/// output column j is input column x[j + c]: the border's rule is in the tables, of height + rows - 1 and width +
/// columns - 1 places.
struct Windows {
  std::int64_t height, width;
  std::int64_t rows, columns;
  const std::int64_t* y;
  const std::int64_t* x;
};

}  // namespace pavise::kernels
