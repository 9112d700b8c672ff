// SPDX-License-Identifier: MIT
// The noise of randomized smoothing on the grid of pixel values, drawn straight into groups of 32 samples: the table
// with a place for each value of a word's upper 16 bits, and the full thresholds where that does not decide. A warp draws
// a block of Philox, four elements, of each of its samples. Oracle: kernels::grid_noise, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

/// kernels::detail::grid_index for a GPU's threads: the number of thresholds at or below the 96-bit number (word, rest).
__device__ __forceinline__ std::int32_t thresholds_below(const GridTable& table, std::uint64_t word,
                                                         std::uint64_t rest) {
  std::int32_t low = 0;
  std::int32_t high = table.count;
  while (low < high) {
    const std::int32_t middle = low + (high - low) / 2;
    const Threshold t = table.thresholds[middle];
    if (t.high < word || (t.high == word && t.low <= rest)) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  return low;
}

struct GridNoiseKernel {
  const std::uint8_t* images;
  const std::int32_t* row;
  float* out;
  std::int64_t n;
  std::int32_t least, most;
  GridTable table;
  SampleKeys keys;

  __device__ std::int32_t exact(std::uint32_t word, std::uint32_t image, std::uint32_t stage, std::uint32_t sample,
                                std::uint32_t element) const {
    const std::int32_t first = thresholds_below(table, word, 0);
    if (first == thresholds_below(table, word, ~std::uint64_t{0})) {
      return table.lowest + first;
    }
    using U = Pack<std::uint32_t, 32>;
    U more[4] = {{element}, {image}, {sample}, {((stage + kRefinedStage) << 16) ^ keys.purpose}};
    philox<32>(more, keys.seed);
    return table.lowest + thresholds_below(table, word, std::uint64_t{more[0].v} << 32 | more[1].v);
  }

  __device__ void operator()(std::int64_t g, std::int64_t part) const {
    using U = Pack<std::uint32_t, 32>;
    const std::int64_t slot = g * 32 + lane_id();
    const std::uint32_t image = keys.image[slot];
    const std::uint32_t stage = keys.stage[slot];
    const std::uint32_t sample = keys.sample[slot];
    const std::uint8_t* pixels = images + row[slot] * n;
    U c[4] = {{static_cast<std::uint32_t>(part)}, {image}, {sample}, {(stage << 16) ^ keys.purpose}};
    philox<32>(c, keys.seed);
    PAVISE_UNROLL
    for (int i = 0; i < 4; ++i) {
      const std::int64_t e = part * 4 + i;
      if (e >= n) {
        break;
      }
      const std::uint32_t word = c[i].v;
      const std::uint32_t entry = table.buckets[word >> 16];
      const std::uint32_t threshold = entry & 0xFFFF;
      const std::uint32_t lower = word & 0xFFFF;
      const std::int32_t base = static_cast<std::int32_t>(entry) >> 16;
      std::int32_t noise = base + (lower > threshold ? 1 : 0);
      if (base == kManyThresholds || lower == threshold) {
        noise = exact(word, image, stage, sample, static_cast<std::uint32_t>(e));
      }
      std::int32_t v = pixels[e] + noise;
      v = v < least ? least : v > most ? most : v;
      out[(g * n + e) * 32 + lane_id()] = static_cast<float>(v) / 255.0f;
    }
  }
};

}  // namespace

void fill_grid_noise(Table& t) {
  t.grid_noise = [](Stream stream, const std::uint8_t* images, const std::int32_t* row, float* out, std::int64_t n,
                    std::int64_t groups, std::int32_t least, std::int32_t most, const GridTable& table,
                    const SampleKeys& keys) {
    each_warp(stream, "grid_noise", groups, (n + 3) / 4,
              GridNoiseKernel{images, row, out, n, least, most, table, keys});
  };
}

}  // namespace pavise::kernels::cuda
