// SPDX-License-Identifier: MIT
// Weights in the order in which the matrix micro-kernel reads them. Training packs them anew for every update.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>

#include "pavise_kernels/cpu/gather_plan.hpp"

namespace pavise::kernels {

/// Rows [first, first+rows) of the weights, packed from element `at` on: tap after tap, the rows of a tap side by side.
struct RowTile {
  std::int32_t first;
  std::int32_t rows;
  std::int64_t at;
};

/// The weights of a plan, rearranged for the micro-kernel. `width` is the number of values per tap of a tile: the
/// tile's rows, or, where the rows are the vector (one image at a time), a fixed 16 with zeros behind the last row.
template <class Array>
struct PackedWeights {
  std::vector<RowTile> tiles;  ///< of one group of channels; the next group's follow `group_size` elements further
  std::int64_t group_size = 0;
  Array data;
};

/// Cuts `rows` rows of `taps` weights into tiles of at most `max_rows`, of nearly equal size; where `fixed_width`,
/// every tile takes the room of max_rows. There is at least one tile.
inline std::vector<RowTile> row_tiles(std::int64_t rows, std::int64_t taps, std::int64_t max_rows, bool fixed_width) {
  const std::int64_t count = std::max<std::int64_t>(1, (rows + max_rows - 1) / max_rows);
  std::vector<RowTile> tiles;
  std::int64_t first = 0;
  std::int64_t at = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t n = fixed_width ? std::min(max_rows, rows - first) : rows / count + (i < rows % count ? 1 : 0);
    tiles.push_back({static_cast<std::int32_t>(first), static_cast<std::int32_t>(n), at});
    first += n;
    at += (fixed_width ? max_rows : n) * taps;
  }
  return tiles;
}

namespace detail {

/// Four floats of each of four rows, turned: out[i * width + r] = in[r * stride + i].
inline void turn(const float* in, std::int64_t stride, float* out, std::int64_t width) {
  using Four = float __attribute__((vector_size(16)));
  Four row[4];
#pragma GCC unroll 4
  for (int r = 0; r < 4; ++r) {
    std::memcpy(&row[r], in + r * stride, sizeof(Four));
  }
  const Four low01 = __builtin_shufflevector(row[0], row[1], 0, 4, 1, 5);
  const Four low23 = __builtin_shufflevector(row[2], row[3], 0, 4, 1, 5);
  const Four high01 = __builtin_shufflevector(row[0], row[1], 2, 6, 3, 7);
  const Four high23 = __builtin_shufflevector(row[2], row[3], 2, 6, 3, 7);
  const Four tap[4] = {
      __builtin_shufflevector(low01, low23, 0, 1, 4, 5), __builtin_shufflevector(low01, low23, 2, 3, 6, 7),
      __builtin_shufflevector(high01, high23, 0, 1, 4, 5), __builtin_shufflevector(high01, high23, 2, 3, 6, 7)};
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    std::memcpy(out + i * width, &tap[i], sizeof(Four));
  }
}

/// Whether four taps from tap t on follow each other in the weights.
inline bool four_in_line(const GatherPlan& plan, std::int64_t t) {
  const std::int64_t* source = plan.tap_source.data() + t;
  return t + 4 <= plan.taps && source[1] == source[0] + 1 && source[2] == source[0] + 2 && source[3] == source[0] + 3;
}

/// Calls body(r) for fours of rows that cover all of them, the last two of which may overlap. Returns how many are done:
/// `rows`, or none where there are fewer than four.
template <class Body>
std::int64_t by_fours(std::int64_t rows, const Body& body) {
  if (rows < 4) {
    return 0;
  }
  for (std::int64_t r = 0; r + 4 < rows; r += 4) {
    body(r);
  }
  body(rows - 4);
  return rows;
}

/// Packs `rows` rows: out[t * width + r] is tap t of row r, and zeros where r is not below `rows`. Taps that follow each
/// other in the weights go by fours.
template <class T>
void pack_rows(const GatherPlan& plan, const T* from, std::int64_t rows, std::int64_t width, T* out) {
  for (std::int64_t t = 0; t < plan.taps;) {
    const std::int64_t source = plan.tap_source[static_cast<std::size_t>(t)];
    std::int64_t taps = 1;
    std::int64_t r = 0;
    if constexpr (std::is_same_v<T, float>) {
      if (plan.weight_row == 1) {
        r = by_fours(
            rows, [&](std::int64_t at) { std::memcpy(out + t * width + at, from + source + at, 4 * sizeof(float)); });
      } else if (four_in_line(plan, t)) {
        taps = 4;
        r = by_fours(rows, [&](std::int64_t at) {
          turn(from + source + at * plan.weight_row, plan.weight_row, out + t * width + at, width);
        });
      }
    }
    for (; r < width; ++r) {
      for (std::int64_t i = 0; i < taps; ++i) {
        out[(t + i) * width + r] = r < rows ? from[source + i + r * plan.weight_row] : T{0};
      }
    }
    t += taps;
  }
}

}  // namespace detail

/// Packs `weight` for tiles of at most `max_rows` rows, of nearly equal size. `fixed_width` as in PackedWeights.
/// `parallel(n, body)` runs body(0) ... body(n-1).
template <class T, class Array, class Parallel>
void pack_weights(const GatherPlan& plan, const T* weight, std::int64_t max_rows, bool fixed_width,
                  PackedWeights<Array>& packed, const Parallel& parallel) {
  packed.tiles = row_tiles(plan.rows, plan.taps, max_rows, fixed_width);
  const RowTile last = packed.tiles.back();
  packed.group_size = last.at + (fixed_width ? max_rows : last.rows) * plan.taps;
  packed.data.resize(static_cast<std::size_t>(packed.group_size * plan.channel_groups));
  const auto tiles = static_cast<std::int64_t>(packed.tiles.size());
  parallel(tiles * plan.channel_groups, [&](std::int64_t job) {
    const std::int64_t group = job / tiles;
    const RowTile& tile = packed.tiles[static_cast<std::size_t>(job % tiles)];
    const std::int64_t width = fixed_width ? max_rows : tile.rows;
    detail::pack_rows(plan, weight + group * plan.weight_group + tile.first * plan.weight_row, tile.rows, width,
                      packed.data.data() + group * packed.group_size + tile.at);
  });
}

}  // namespace pavise::kernels
