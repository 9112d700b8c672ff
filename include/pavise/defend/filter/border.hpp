// SPDX-License-Identifier: MIT
// Where a window that reaches beyond an image finds its pixels.
#pragma once

#include <cstdint>
#include <vector>

namespace pavise::defend {

/// How an image goes on behind its border.
enum class Border {
  reflect,      ///< d c b a | a b c d | d c b a: SciPy's `reflect`, OpenCV's BORDER_REFLECT
  reflect_101,  ///< d c b | a b c d | c b a: SciPy's `mirror`, OpenCV's BORDER_REFLECT_101, its default
};

/// The place in 0 ... n-1 at which place i of an axis of n pixels is found; any i, also several images away.
inline std::int64_t border_place(std::int64_t i, std::int64_t n, Border border) {
  if (i >= 0 && i < n) {
    return i;
  }
  if (n == 1) {
    return 0;
  }
  const std::int64_t period = border == Border::reflect ? 2 * n : 2 * n - 2;
  const std::int64_t at = ((i % period) + period) % period;
  return at < n ? at : (border == Border::reflect ? period - 1 - at : period - at);
}

/// The places of -before ... n-1+after, in that order.
inline std::vector<std::int64_t> border_places(std::int64_t n, std::int64_t before, std::int64_t after, Border border) {
  std::vector<std::int64_t> out;
  out.reserve(static_cast<std::size_t>(before + n + after));
  for (std::int64_t i = -before; i < n + after; ++i) {
    out.push_back(border_place(i, n, border));
  }
  return out;
}

}  // namespace pavise::defend
