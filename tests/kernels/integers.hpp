// SPDX-License-Identifier: MIT
// Numbers whose products and sums are exact.
#pragma once

#include <cstdint>

#include "pavise/core/philox.hpp"
#include "pavise/core/tensor.hpp"

/// `n` integers from -4 to 4, and `slack` zeros behind them.
template <class T>
pavise::AlignedVector<T> integers(std::int64_t n, std::uint32_t what, std::int64_t slack = 0) {
  pavise::RandomSequence random({.purpose = pavise::Purpose::test, .image = what});
  pavise::AlignedVector<T> out(static_cast<std::size_t>(n + slack));
  for (std::int64_t i = 0; i < n; ++i) {
    out[static_cast<std::size_t>(i)] = static_cast<T>(static_cast<int>(random.below(9)) - 4);
  }
  return out;
}
