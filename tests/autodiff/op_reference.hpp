// SPDX-License-Identifier: MIT
// Naive references for the table of operations: one image, in double, one loop for each index.
#pragma once

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "autodiff/op_table.hpp"
#include "pavise/autodiff/linear.hpp"
#include "pavise/autodiff/pool.hpp"

namespace op_table::reference {

inline std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

/// Extents (C,H,W).
struct Image {
  std::int64_t c, h, w;
};

inline Values conv2d(const Values& x, Image s, const Values& weight, Shape k, const Values& bias,
                     pavise::ConvOptions o) {
  const std::int64_t oh = (s.h + 2 * o.padding - o.dilation * (k[2] - 1) - 1) / o.stride + 1;
  const std::int64_t ow = (s.w + 2 * o.padding - o.dilation * (k[3] - 1) - 1) / o.stride + 1;
  const std::int64_t rows = k[0] / o.groups;
  Values y;
  for (std::int64_t r = 0; r < k[0]; ++r) {
    for (std::int64_t i = 0; i < oh; ++i) {
      for (std::int64_t j = 0; j < ow; ++j) {
        double sum = bias.empty() ? 0.0 : bias[index(r)];
        for (std::int64_t c = 0; c < k[1]; ++c) {
          for (std::int64_t u = 0; u < k[2]; ++u) {
            for (std::int64_t v = 0; v < k[3]; ++v) {
              const std::int64_t yy = i * o.stride - o.padding + u * o.dilation;
              const std::int64_t xx = j * o.stride - o.padding + v * o.dilation;
              if (yy >= 0 && yy < s.h && xx >= 0 && xx < s.w) {
                sum += weight[index(((r * k[1] + c) * k[2] + u) * k[3] + v)] *
                       x[index(((r / rows * k[1] + c) * s.h + yy) * s.w + xx)];
              }
            }
          }
        }
        y.push_back(o.relu && !(sum > 0) ? 0.0 : sum);
      }
    }
  }
  return y;
}

inline Values conv_transpose2d(const Values& x, Image s, const Values& weight, Shape k, const Values& bias,
                               pavise::ConvOptions o) {
  const std::int64_t oh = (s.h - 1) * o.stride - 2 * o.padding + o.dilation * (k[2] - 1) + o.output_padding + 1;
  const std::int64_t ow = (s.w - 1) * o.stride - 2 * o.padding + o.dilation * (k[3] - 1) + o.output_padding + 1;
  const std::int64_t out_channels = k[1] * o.groups;
  const std::int64_t columns = s.c / o.groups;
  Values y(index(out_channels * oh * ow), 0.0);
  for (std::int64_t r = 0; r < out_channels && !bias.empty(); ++r) {
    for (std::int64_t i = 0; i < oh * ow; ++i) {
      y[index(r * oh * ow + i)] = bias[index(r)];
    }
  }
  for (std::int64_t c = 0; c < s.c; ++c) {
    for (std::int64_t r = 0; r < k[1]; ++r) {
      for (std::int64_t i = 0; i < s.h; ++i) {
        for (std::int64_t j = 0; j < s.w; ++j) {
          for (std::int64_t u = 0; u < k[2]; ++u) {
            for (std::int64_t v = 0; v < k[3]; ++v) {
              const std::int64_t yy = i * o.stride - o.padding + u * o.dilation;
              const std::int64_t xx = j * o.stride - o.padding + v * o.dilation;
              if (yy >= 0 && yy < oh && xx >= 0 && xx < ow) {
                y[index(((c / columns * k[1] + r) * oh + yy) * ow + xx)] +=
                    weight[index(((c * k[1] + r) * k[2] + u) * k[3] + v)] * x[index((c * s.h + i) * s.w + j)];
              }
            }
          }
        }
      }
    }
  }
  for (auto& v : y) {
    v = o.relu && !(v > 0) ? 0.0 : v;
  }
  return y;
}

inline Values linear(const Values& x, const Values& weight, const Values& bias, std::int64_t rows, bool relu) {
  Values y;
  for (std::int64_t r = 0; r < rows; ++r) {
    double sum = bias.empty() ? 0.0 : bias[index(r)];
    for (std::size_t i = 0; i < x.size(); ++i) {
      sum += weight[index(r) * x.size() + i] * x[i];
    }
    y.push_back(relu && !(sum > 0) ? 0.0 : sum);
  }
  return y;
}

/// Pooling with windows of kh x kw. `maximum`: of the positions inside; else their sum over the count.
inline Values pool(const Values& x, Image s, std::int64_t kh, std::int64_t kw, pavise::PoolOptions o, bool maximum) {
  const std::int64_t stride = o.stride > 0 ? o.stride : o.kernel;
  const std::int64_t oh = (s.h + 2 * o.padding - o.dilation * (kh - 1) - 1) / stride + 1;
  const std::int64_t ow = (s.w + 2 * o.padding - o.dilation * (kw - 1) - 1) / stride + 1;
  Values y;
  for (std::int64_t c = 0; c < s.c; ++c) {
    for (std::int64_t i = 0; i < oh; ++i) {
      for (std::int64_t j = 0; j < ow; ++j) {
        double best = -std::numeric_limits<double>::infinity();
        double sum = 0;
        int inside = 0;
        for (std::int64_t u = 0; u < kh; ++u) {
          for (std::int64_t v = 0; v < kw; ++v) {
            const std::int64_t yy = i * stride - o.padding + u * o.dilation;
            const std::int64_t xx = j * stride - o.padding + v * o.dilation;
            if (yy >= 0 && yy < s.h && xx >= 0 && xx < s.w) {
              const double value = x[index((c * s.h + yy) * s.w + xx)];
              best = value > best ? value : best;
              sum += value;
              ++inside;
            }
          }
        }
        y.push_back(maximum ? best : sum / (o.count_include_pad ? static_cast<double>(kh * kw) : inside));
      }
    }
  }
  return y;
}

/// Rows of `blocks` x `positions` elements, each normalised by itself; parameter of block b of row r: r*row_parameters
/// + b.
inline Values row_norm(const Values& x, std::int64_t rows, std::int64_t blocks, std::int64_t positions,
                       std::int64_t row_parameters, const Values& gamma, const Values& beta, double epsilon,
                       bool relu) {
  Values y(x.size());
  const std::int64_t size = blocks * positions;
  for (std::int64_t r = 0; r < rows; ++r) {
    double mean = 0;
    double variance = 0;
    for (std::int64_t i = 0; i < size; ++i) {
      mean += x[index(r * size + i)] / static_cast<double>(size);
    }
    for (std::int64_t i = 0; i < size; ++i) {
      variance += std::pow(x[index(r * size + i)] - mean, 2) / static_cast<double>(size);
    }
    for (std::int64_t i = 0; i < size; ++i) {
      const std::size_t k = index(r * row_parameters + i / positions);
      const double v =
          (x[index(r * size + i)] - mean) / std::sqrt(variance + epsilon) * (gamma.empty() ? 1 : gamma[k]) +
          (beta.empty() ? 0 : beta[k]);
      y[index(r * size + i)] = relu && !(v > 0) ? 0 : v;
    }
  }
  return y;
}

/// Batch normalisation with the statistics of the batch.
inline std::vector<Values> batch_norm(const std::vector<Operation>& batch, std::int64_t channels, const Values& gamma,
                                      const Values& beta, double epsilon, bool relu) {
  const std::size_t positions = batch[0].x[0].size() / index(channels);
  const double count = static_cast<double>(batch.size() * positions);
  std::vector<Values> out(batch.size(), Values(batch[0].x[0].size()));
  for (std::size_t c = 0; c < index(channels); ++c) {
    double mean = 0;
    double variance = 0;
    for (const auto& o : batch) {
      for (std::size_t i = 0; i < positions; ++i) {
        mean += o.x[0][c * positions + i] / count;
      }
    }
    for (const auto& o : batch) {
      for (std::size_t i = 0; i < positions; ++i) {
        variance += std::pow(o.x[0][c * positions + i] - mean, 2) / count;
      }
    }
    for (std::size_t n = 0; n < batch.size(); ++n) {
      for (std::size_t i = 0; i < positions; ++i) {
        const double v =
            (batch[n].x[0][c * positions + i] - mean) / std::sqrt(variance + epsilon) * (gamma.empty() ? 1 : gamma[c]) +
            (beta.empty() ? 0 : beta[c]);
        out[n][c * positions + i] = relu && !(v > 0) ? 0 : v;
      }
    }
  }
  return out;
}

/// softmax(z / t).
inline Values softmax(const Values& z, double t) {
  double sum = 0;
  Values p = z;
  for (double& v : p) {
    sum += v = std::exp(v / t);
  }
  for (double& v : p) {
    v /= sum;
  }
  return p;
}

}  // namespace op_table::reference
