// SPDX-License-Identifier: MIT
// What the noise on the grid of pixel values (grid_noise.inl) is drawn by: thresholds, a table that answers most
// questions about them at once, and the answer to the others.
#pragma once

#include <cstddef>
#include <cstdint>

#include "pavise/core/philox.hpp"

namespace pavise::kernels {

/// Which sample of which image a lane holds: the numbers of a lane are words of the sequence (seed, purpose, image,
/// restart = stage, iteration = sample) of core/philox.hpp.
struct SampleKeys {
  std::uint64_t seed;
  std::uint32_t purpose;
  const std::uint32_t* image;   ///< one for each lane
  const std::uint32_t* stage;   ///< below kRefinedStage
  const std::uint32_t* sample;  ///< one for each lane
};

/// Added to a stage: where the further bits of a number come from.
inline constexpr std::uint32_t kRefinedStage = 1u << 15;

/// 96 bits behind the binary point, or 1 itself.
struct Threshold {
  std::uint64_t high;  ///< the first 32, or 2^32 for 1
  std::uint64_t low;   ///< the other 64
};

/// The noise is lowest + (how many thresholds are at or below the random number).
struct GridTable {
  const std::uint32_t* buckets;  ///< by the upper 16 bits of a word
  const Threshold* thresholds;   ///< in increasing order
  std::int32_t count;
  std::int32_t lowest;
};

/// Of a bucket that holds several thresholds, in place of a number.
inline constexpr std::int32_t kManyThresholds = -32768;

namespace detail {

/// The number of thresholds at or below the 96-bit number (word, rest).
inline std::int32_t grid_index(const GridTable& table, std::uint64_t word, std::uint64_t rest) {
  std::int32_t low = 0;
  std::int32_t high = table.count;
  while (low < high) {
    const std::int32_t middle = low + (high - low) / 2;
    const Threshold& t = table.thresholds[middle];
    if (t.high < word || (t.high == word && t.low <= rest)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

}  // namespace detail

/// The noise of one element whose first 32 bits are `word`. Those decide unless a threshold lies among the numbers that
/// begin with them; then 64 more bits are drawn, from counter (element, image, sample, kRefinedStage + stage).
inline std::int32_t grid_noise_exact(const GridTable& table, std::uint32_t word, std::uint64_t seed,
                                     std::uint32_t purpose, std::uint32_t image, std::uint32_t stage,
                                     std::uint32_t sample, std::uint32_t element) {
  const std::int32_t first = detail::grid_index(table, word, 0);
  if (first == detail::grid_index(table, word, ~std::uint64_t{0})) {
    return table.lowest + first;
  }
  const auto more = philox4x32({element, image, sample, ((stage + kRefinedStage) << 16) ^ purpose},
                               static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32));
  return table.lowest + detail::grid_index(table, word, std::uint64_t{more[0]} << 32 | more[1]);
}

}  // namespace pavise::kernels
