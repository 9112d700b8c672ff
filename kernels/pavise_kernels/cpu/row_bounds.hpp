// SPDX-License-Identifier: MIT
#pragma once

namespace pavise::kernels {

/// What sixteen linear functions, one in each lane, have left behind on their way through a network (row_bounds.inl).
struct RowBounds {
  alignas(64) double constant[16] = {};   ///< the terms without a variable
  alignas(64) double magnitude[16] = {};  ///< the sum of their absolute values, which bounds what rounding did to them
  alignas(64) double error[16] = {};      ///< by how much the values that they are functions of may be off
};

}  // namespace pavise::kernels
