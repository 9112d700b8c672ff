// SPDX-License-Identifier: MIT
// Filters that see one pixel at a time. x: [group][n][32]; the thermometer code: (channels,pixels) to
// (channels,levels,pixels). Oracles: kernels::quantise, keep_above, thermometer_forward, thermometer_backward,
// add_uniform and add_normal, bit for bit.
#include "pavise_kernels/cuda/draws.cuh"

namespace pavise::kernels::cuda {

namespace {

struct Quantise {
  const float* x;
  float* y;
  float steps;
  __device__ void operator()(std::int64_t i, int count) const {
    using P = Pack<float, 1>;
    const Quad in = load_quad(x, i, count);
    Quad out{};
    PAVISE_UNROLL
    for (int k = 0; k < 4; ++k) {
      (round_product(P::load(in.v + k), steps) / P::broadcast(steps)).store(out.v + k);
    }
    store_quad(out, y, i, count);
  }
};

struct KeepAbove {
  float* x;
  float rate;
  __device__ void operator()(std::int64_t i, int count) const {
    using P = Pack<float, 1>;
    Quad v = load_quad(x, i, count);
    PAVISE_UNROLL
    for (int k = 0; k < 4; ++k) {
      exceeds(P::load(v.v + k), P::broadcast(rate)).store(v.v + k);
    }
    store_quad(v, x, i, count);
  }
};

/// All levels of one pixel of a channel, to or from the places of (channels,levels,pixels).
struct Levels {
  std::int64_t channels, pixels, levels;
  __device__ std::int64_t pixel(std::int64_t g, std::int64_t i) const { return (g * channels * pixels + i) * 32; }
  __device__ std::int64_t first_level(std::int64_t g, std::int64_t i) const {
    return ((g * channels + i / pixels) * levels * pixels + i % pixels) * 32;
  }
};

struct Thermometer {
  Levels at;
  const float* x;
  float* y;
  __device__ void operator()(std::int64_t g, std::int64_t i) const {
    const auto v = Pack<float, 32>::load(x + at.pixel(g, i));
    float* const to = y + at.first_level(g, i);
    for (std::int64_t k = 0; k < at.levels; ++k) {
      exceeds(v, level_bound<float, 32>(k, at.levels)).store(to + k * at.pixels * 32);
    }
  }
};

struct ThermometerBackward {
  Levels at;
  const float* x;
  const float* dy;
  float* dx;
  bool accumulate;
  __device__ void operator()(std::int64_t g, std::int64_t i) const {
    thermometer_backward_at<float, 32>(x + at.pixel(g, i), dy + at.first_level(g, i), dx + at.pixel(g, i), at.pixels,
                                       at.levels, accumulate);
  }
};

template <Distribution D>
struct AddRandom {
  const float* x;
  float* y;
  std::int64_t n;
  float scale, shift;
  LaneKeys keys;
  __device__ void operator()(std::int64_t g, std::int64_t part) const {
    add_random_lanes<float, 32, D>(x + g * n * 32, y + g * n * 32, part * kDraws, end_of_draws(part, n), scale, shift,
                                   keys_of(keys, g));
  }
};

}  // namespace

void fill_filter_elements(Table& t) {
  t.quantise = [](Stream stream, const float* x, float* y, std::int64_t n, float steps) {
    each_quad(stream, "quantise", n, Quantise{x, y, steps});
  };
  t.keep_above = [](Stream stream, float* x, std::int64_t n, float rate) {
    each_quad(stream, "keep_above", n, KeepAbove{x, rate});
  };
  t.thermometer = [](Stream stream, const float* x, float* y, std::int64_t channels, std::int64_t pixels,
                     std::int64_t levels, std::int64_t groups) {
    each_warp(stream, "thermometer", groups, channels * pixels, Thermometer{{channels, pixels, levels}, x, y});
  };
  t.thermometer_backward = [](Stream stream, const float* x, const float* dy, float* dx, std::int64_t channels,
                              std::int64_t pixels, std::int64_t levels, bool accumulate, std::int64_t groups) {
    each_warp(stream, "thermometer_backward", groups, channels * pixels,
              ThermometerBackward{{channels, pixels, levels}, x, dy, dx, accumulate});
  };
  t.add_uniform = [](Stream stream, const float* x, float* y, std::int64_t n, float scale, float shift,
                     std::int64_t groups, const LaneKeys& keys) {
    each_warp(stream, "add_uniform", groups, parts_of(n),
              AddRandom<Distribution::uniform>{x, y, n, scale, shift, keys});
  };
  t.add_normal = [](Stream stream, const float* x, float* y, std::int64_t n, float scale, float shift,
                    std::int64_t groups, const LaneKeys& keys) {
    each_warp(stream, "add_normal", groups, parts_of(n), AddRandom<Distribution::normal>{x, y, n, scale, shift, keys});
  };
}

}  // namespace pavise::kernels::cuda
