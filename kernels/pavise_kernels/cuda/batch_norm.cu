// SPDX-License-Identifier: MIT
// Batch normalisation in training mode: sums over the batch of each channel, what follows from them, and the derivative
// by the input. Sums have the order of bias_gradient, in float and not the CPU's; given the same sums, all else has the
// CPU's bits. Oracle: the same order in plain loops, formulas in double and the tape's batch_norm,
// tests/cuda/batch_norm_checks.hpp.
#include "pavise_kernels/cuda/slices.cuh"

namespace pavise::kernels::cuda {

namespace {

struct ChannelSquares {
  ChannelSlices s;
  const float* x;
  const float* mean;
  float* partial;
  __device__ void operator()(std::int64_t slice, std::int64_t c) const {
    const float m = mean[c];
    float sum = 0.0f;
    s.each_element(slice, c, [&](std::int64_t i) {
      const float d = x[i] - m;
      sum = fmaf(d, d, sum);
    });
    store_sum_over_lanes(sum, partial + slice * s.channels + c);
  }
};

struct ChannelGradientSums {
  ChannelSlices s;
  const float* x;
  const float* mean;
  const float* dy;
  float* partial;  ///< [slice][2][channels]
  __device__ void operator()(std::int64_t slice, std::int64_t c) const {
    const float m = mean[c];
    float sum = 0.0f;
    float product = 0.0f;
    s.each_element(slice, c, [&](std::int64_t i) {
      const float d = dy[i];
      const float v = x[i];
      // Behind the last image d is 0 and x anything, NaN too. Bits, because a branch would hold back the loads.
      const std::uint32_t used = d == 0.0f ? 0u : ~0u;
      const auto from_mean = std::bit_cast<float>(std::bit_cast<std::uint32_t>(v - m) & used);
      sum = sum + d;
      product = fmaf(d, from_mean, product);
    });
    store_sum_over_lanes(sum, partial + slice * 2 * s.channels + c);
    store_sum_over_lanes(product, partial + (slice * 2 + 1) * s.channels + c);
  }
};

/// body(c) by a thread for each channel.
template <class Body>
__global__ void __launch_bounds__(kFewThreads) channels_kernel(std::int64_t channels, Body body) {
  for (std::int64_t c = thread_index(); c < channels; c += thread_total()) {
    body(c);
  }
}

template <class Body>
void each_channel(Stream stream, const char* name, std::int64_t channels, const Body& body) {
  launch(stream, name, channels_kernel<Body>, blocks_for(channels, kFewThreads), kFewThreads, 0, channels, body);
}

struct BatchMean {
  const float* sum;
  float* mean;
  double count;
  __device__ void operator()(std::int64_t c) const {
    mean[c] = static_cast<float>(static_cast<double>(sum[c]) / count);
  }
};

struct BatchScale {
  const float* squares;
  const float* gamma;
  float* scale;
  float* inverse;
  float* variance;
  double count, epsilon;
  __device__ void operator()(std::int64_t c) const {
    const double biased = static_cast<double>(squares[c]) / count;
    const double inv = inverse_deviation(Tag{}, biased, epsilon);
    inverse[c] = static_cast<float>(inv);
    scale[c] = channel_scale<float>(Tag{}, inv, gamma != nullptr ? gamma[c] : 1.0f);
    variance[c] = static_cast<float>(biased * (count / (count - 1.0)));
  }
};

struct MoveRunning {
  float* running;
  const float* value;
  double momentum;
  __device__ void operator()(std::int64_t c) const {
    running[c] = running_value<float>(Tag{}, running[c], static_cast<double>(value[c]), momentum);
  }
};

struct ChannelFactorsOf {
  RunningNorm n;
  float* factors;
  std::int64_t channels;
  __device__ void operator()(std::int64_t c) const {
    const double inv = inverse_deviation(Tag{}, static_cast<double>(n.variance[c]), n.epsilon);
    factors[c] = n.mean[c];
    factors[channels + c] = channel_scale<float>(Tag{}, inv, n.gamma != nullptr ? n.gamma[c] : 1.0f);
    factors[2 * channels + c] = n.beta != nullptr ? n.beta[c] : 0.0f;
  }
};

struct FoldNorm {
  RunningNorm n;
  const float* weight;
  const float* bias;
  float* folded_weight;
  float* folded_bias;
  std::int64_t row;
  __device__ void operator()(std::int64_t i) const {
    const std::int64_t c = i / row;
    const double gamma = n.gamma != nullptr ? static_cast<double>(n.gamma[c]) : 1.0;
    const double scale = gamma / __builtin_sqrt(static_cast<double>(n.variance[c]) + n.epsilon);
    folded_weight[i] = static_cast<float>(static_cast<double>(weight[i]) * scale);
    if (i % row == 0) {
      const double shift = (bias != nullptr ? static_cast<double>(bias[c]) : 0.0) - static_cast<double>(n.mean[c]);
      const double beta = n.beta != nullptr ? static_cast<double>(n.beta[c]) : 0.0;
      folded_bias[c] = static_cast<float>(__builtin_fma(shift, scale, beta));
    }
  }
};

struct BatchGradients {
  const float* sums;
  const float* inverse;
  const float* gamma;
  float* dgamma;
  float* dbeta;
  float* factors;
  std::int64_t channels;
  double count;
  __device__ void operator()(std::int64_t c) const {
    const double sum = static_cast<double>(sums[c]);
    const double product = static_cast<double>(sums[channels + c]);
    const double inv = static_cast<double>(inverse[c]);
    add_channel_gradients<float>(Tag{}, sum, product, inv, dgamma != nullptr ? dgamma + c : nullptr,
                                 dbeta != nullptr ? dbeta + c : nullptr);
    batch_norm_factors<float>(Tag{}, sum, product, count, inv, gamma != nullptr ? static_cast<double>(gamma[c]) : 1.0,
                              factors[c], factors[channels + c], factors[2 * channels + c]);
  }
};

struct BatchNormBackward {
  const float* x;
  const float* dy;
  float* dx;
  std::int64_t channel_size, channels;
  const float* mean;
  const float* factors;
  bool accumulate;
  const float* mask;
  std::int64_t images;
  __device__ void operator()(std::int64_t i, int count) const {
    const std::int64_t c = i / channel_size % channels;  // a channel is whole groups of 32: never cut by four
    const std::int64_t group = i / channel_size / channels;
    const Quad in = load_quad(x, i, count);
    const Quad d = load_quad(dy, i, count);
    Quad to = load_quad_if_any(accumulate ? dx : nullptr, i, count);
    const Quad m = load_quad_if_any(mask, i, count);
    PAVISE_UNROLL
    for (int k = 0; k < 4; ++k) {
      const std::int64_t image = group * 32 + i % 32 + k;
      channel_backward_lanes<float, 1>(in.v + k, d.v + k, to.v + k, 1, mean[c], factors[c], factors[channels + c],
                                       factors[2 * channels + c], accumulate, mask != nullptr ? m.v + k : nullptr,
                                       image < images ? 1 : 0);
    }
    store_quad(to, dx, i, count);
  }
};

}  // namespace

void fill_batch_norm(Table& t) {
  t.channel_sums = [](Stream stream, std::int64_t channels, std::int64_t positions, const float* x, const float* mean,
                      float* partial, std::int64_t images, std::int64_t groups) {
    const ChannelSlices s(channels, positions, groups, images);
    return mean != nullptr ? each_channel_of_slices(stream, "channel_squares", s, ChannelSquares{s, x, mean, partial})
                           : each_channel_of_slices(stream, "channel_sums", s, ChannelSum{s, x, partial});
  };
  t.channel_gradient_sums = [](Stream stream, std::int64_t channels, std::int64_t positions, const float* x,
                               const float* mean, const float* dy, float* partial, std::int64_t groups) {
    const ChannelSlices s(channels, positions, groups);
    return each_channel_of_slices(stream, "channel_gradient_sums", s, ChannelGradientSums{s, x, mean, dy, partial});
  };
  t.batch_norm_mean = [](Stream stream, const float* sum, float* mean, std::int64_t channels, double count) {
    each_channel(stream, "batch_norm_mean", channels, BatchMean{sum, mean, count});
  };
  t.batch_norm_scale = [](Stream stream, const float* squares, const float* gamma, float* scale, float* inverse,
                          float* variance, std::int64_t channels, double count, double epsilon) {
    each_channel(stream, "batch_norm_scale", channels,
                 BatchScale{squares, gamma, scale, inverse, variance, count, epsilon});
  };
  t.channel_factors = [](Stream stream, const RunningNorm& n, float* factors, std::int64_t channels) {
    each_channel(stream, "channel_factors", channels, ChannelFactorsOf{n, factors, channels});
  };
  t.fold_norm = [](Stream stream, const RunningNorm& n, const float* weight, const float* bias, float* folded_weight,
                   float* folded_bias, std::int64_t channels, std::int64_t row) {
    each_channel(stream, "fold_norm", channels * row, FoldNorm{n, weight, bias, folded_weight, folded_bias, row});
  };
  t.move_running = [](Stream stream, float* running, const float* value, std::int64_t channels, double momentum) {
    each_channel(stream, "move_running", channels, MoveRunning{running, value, momentum});
  };
  t.batch_norm_gradients = [](Stream stream, const float* sums, const float* inverse, const float* gamma, float* dgamma,
                              float* dbeta, float* factors, std::int64_t channels, double count) {
    each_channel(stream, "batch_norm_gradients", channels,
                 BatchGradients{sums, inverse, gamma, dgamma, dbeta, factors, channels, count});
  };
  t.batch_norm_backward = [](Stream stream, const float* x, const float* dy, float* dx, std::int64_t channels,
                             std::int64_t positions, const float* mean, const float* factors, bool accumulate,
                             const float* mask, std::int64_t images, std::int64_t groups) {
    each_quad(stream, "batch_norm_backward", groups * channels * positions * 32,
              BatchNormBackward{x, dy, dx, positions * 32, channels, mean, factors, accumulate, mask, images});
  };
}

}  // namespace pavise::kernels::cuda
