// SPDX-License-Identifier: MIT
// Winograd's convolution F(4x4, 3x3) around the matrix micro-kernel: input transform, 36 products (one grouped operator
// over tiles), output transform. A warp transforms one tile of one channel of 32 images. The sums are those of the CPU,
// in its order. Oracle: kernels::winograd_conv, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

struct Tiles {
  std::int64_t across, count;  ///< along x, in the image
};
Tiles tiles_of(const WinogradShape& s) {
  const std::int64_t across = (s.width + 3) / 4;
  return {across, (s.height + 3) / 4 * across};
}

struct Input {
  WinogradShape s;
  Tiles tiles;
  const float* in;
  float* v;  ///< [group][36][channel][tile][32]
  __device__ void operator()(std::int64_t g, std::int64_t i) const {
    const std::int64_t c = i / tiles.count;
    const std::int64_t tile = i % tiles.count;
    const WinogradShape one{1, s.rows, s.height, s.width};
    const std::int64_t step = s.channels * tiles.count;
    winograd_input<32>(one, in + (g * s.channels + c) * s.height * s.width * 32, tile / tiles.across * 4,
                       tile % tiles.across * 4, v + (g * 36 * step + i) * 32, step * 32);
  }
};

struct Output {
  WinogradShape s;
  Tiles tiles;
  const float* m;  ///< [group][36][row][tile][32]
  float* out;
  Epilogue<float> e;
  __device__ void operator()(std::int64_t g, std::int64_t i) const {
    const std::int64_t row = i / tiles.count;
    const std::int64_t tile = i % tiles.count;
    const std::int64_t step = s.rows * tiles.count;
    const std::int64_t at = (g * s.rows + row) * s.height * s.width * 32;
    winograd_output<32>(s, m + (g * 36 * step + i) * 32, step * 32, tile / tiles.across * 4, tile % tiles.across * 4,
                        e.bias != nullptr ? e.bias[row] : 0.0f, out + at, e.mask != nullptr ? e.mask + at : nullptr, e);
  }
};

struct Weights {
  std::int64_t rows, channels;
  bool back;
  const float* weight;
  float* u;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t row = i / channels;
    const std::int64_t channel = i % channels;
    double transformed[6][6] = {};
    winograd_weights(weight + (back ? channel * rows + row : i) * 9, back, transformed);
    for (int xi = 0; xi < 36; ++xi) {
      u[xi * rows * channels + i] = static_cast<float>(transformed[xi / 6][xi % 6]);
    }
  }
};

/// body(i) by a thread for each i in [0, n).
template <class Body>
__global__ void __launch_bounds__(kThreads) threads_kernel(std::int64_t n, Body body) {
  for (std::int64_t i = thread_index(); i < n; i += thread_total()) {
    body(i);
  }
}

}  // namespace

void fill_winograd(Table& t) {
  t.winograd_weights = [](Stream stream, std::int64_t rows, std::int64_t channels, bool back, const float* weight,
                          float* u) {
    const std::int64_t n = rows * channels;
    launch(stream, "winograd_weights", threads_kernel<Weights>, blocks_for(n), kThreads, 0, n,
           Weights{rows, channels, back, weight, u});
  };
  t.winograd_input = [](Stream stream, const WinogradShape& s, const float* in, float* v, std::int64_t groups) {
    const Tiles tiles = tiles_of(s);
    each_warp(stream, "winograd_input", groups, s.channels * tiles.count, Input{s, tiles, in, v});
  };
  t.winograd_output = [](Stream stream, const WinogradShape& s, const float* m, float* out, const Epilogue<float>& e,
                         std::int64_t groups) {
    const Tiles tiles = tiles_of(s);
    each_warp(stream, "winograd_output", groups, s.rows * tiles.count, Output{s, tiles, m, out, e});
  };
}

}  // namespace pavise::kernels::cuda
