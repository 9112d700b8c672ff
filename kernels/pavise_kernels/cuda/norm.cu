// SPDX-License-Identifier: MIT
// Batch normalisation in evaluation mode, forward and with respect to its input: every channel has its factors. Oracle:
// kernels::channel_affine and channel_backward, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

struct Affine {
  const float* x;
  float* y;
  std::int64_t channel_size, channels;
  ChannelFactors f;
  bool relu;
  __device__ void operator()(std::int64_t i, int count) const {
    const std::int64_t c = i / channel_size % channels;  // a channel is whole groups of 32: never cut by four
    const Quad in = load_quad(x, i, count);
    Quad out{};
    affine_lanes<float, 1>(in.v, out.v, 4, f.mean[c], f.scale[c], f.shift[c], relu);
    store_quad(out, y, i, count);
  }
};

struct Backward {
  const float* dy;
  float* dx;
  std::int64_t channel_size, channels;
  const float* scale;
  bool accumulate;
  const float* mask;
  std::int64_t images;
  __device__ void operator()(std::int64_t i, int count) const {
    const std::int64_t c = i / channel_size % channels;
    const std::int64_t group = i / channel_size / channels;
    const Quad d = load_quad(dy, i, count);
    Quad to = load_quad_if_any(accumulate ? dx : nullptr, i, count);
    const Quad m = load_quad_if_any(mask, i, count);
    PAVISE_UNROLL
    for (int k = 0; k < 4; ++k) {
      const std::int64_t image = group * 32 + i % 32 + k;
      channel_backward_lanes<float, 1>(nullptr, d.v + k, to.v + k, 1, 0.0f, scale[c], 0.0f, 0.0f, accumulate,
                                       mask != nullptr ? m.v + k : nullptr, image < images ? 1 : 0);
    }
    store_quad(to, dx, i, count);
  }
};

}  // namespace

void fill_norm(Table& t) {
  t.channel_affine = [](Stream stream, const float* x, float* y, std::int64_t channels, std::int64_t positions,
                        const ChannelFactors& f, bool relu, std::int64_t groups) {
    each_quad(stream, "channel_affine", groups * channels * positions * 32,
              Affine{x, y, positions * 32, channels, f, relu});
  };
  t.channel_backward = [](Stream stream, const float* dy, float* dx, std::int64_t channels, std::int64_t positions,
                          const float* scale, bool accumulate, const float* mask, std::int64_t images,
                          std::int64_t groups) {
    each_quad(stream, "channel_backward", groups * channels * positions * 32,
              Backward{dy, dx, positions * 32, channels, scale, accumulate, mask, images});
  };
}

}  // namespace pavise::kernels::cuda
