// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace pavise::kernels {

/// Non-local means of (channels,height,width): half-widths of the patch and of the window that is searched; the weight of
/// a patch is e^(slope * sum of squared differences).
struct NlmPlan {
  std::int64_t channels, height, width;
  std::int64_t patch, search;
  double slope;
  const std::int64_t* y;  ///< places of rows -border ... height-1+border
  const std::int64_t* x;  ///< and of columns

  std::int64_t border() const { return patch + search; }
  std::int64_t wide_height() const { return height + 2 * border(); }
  std::int64_t wide_width() const { return width + 2 * border(); }
  /// Values of scratch for each lane: the image with its border, sums of weights, one row of differences, and a patch's
  /// rows of their sums.
  std::int64_t scratch() const {
    return channels * wide_height() * wide_width() + height * width + (width + 2 * patch) + (2 * patch + 1) * width;
  }
};

}  // namespace pavise::kernels
