// SPDX-License-Identifier: MIT
// What a step of the Square attack in Linf draws (attack/square.hpp), on the CPU and on a GPU. `Random` is a
// RandomSequence.
#pragma once

#include <cstdint>

namespace pavise::kernels {

/// A window of side x side pixels.
struct SquareWindow {
  std::int64_t row = 0;
  std::int64_t column = 0;
  std::int64_t side = 0;
  constexpr bool contains(std::int64_t r, std::int64_t c) const {
    return r >= row && r < row + side && c >= column && c < column + side;
  }
};

template <class Random>
constexpr SquareWindow draw_square_window(Random& random, std::int64_t height, std::int64_t width, std::int64_t side) {
  const std::int64_t row = random.below(static_cast<std::uint32_t>(height - side + 1));
  const std::int64_t column = random.below(static_cast<std::uint32_t>(width - side + 1));
  return {row, column, side};
}

/// One sign for each channel; `set(channel, positive)` takes it and returns whether it changes a pixel. Signs that change
/// nothing are drawn again, at most 31 times: an image that may not move at all never changes.
template <class Random, class Set>
constexpr void draw_square_signs(Random& random, std::int64_t channels, const Set& set) {
  bool changed = false;
  for (int draw = 0; draw < 32 && !changed; ++draw) {
    for (std::int64_t c = 0; c < channels; ++c) {
      changed |= set(c, random.word() >> 31 != 0);
    }
  }
}

}  // namespace pavise::kernels
