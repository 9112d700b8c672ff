// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace pavise::kernels {

/// One image's rows, each normalised by itself: a row has `blocks` x `positions` elements; element (b, p) of row r is
/// scaled by gamma[r*row_parameters + b].
struct RowNorm {
  std::int64_t rows, blocks, positions, row_parameters;
};

}  // namespace pavise::kernels
