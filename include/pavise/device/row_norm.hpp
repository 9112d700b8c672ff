// SPDX-License-Identifier: MIT
// Group and layer normalisation on a GPU: every image by statistics of its own.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pavise/device/batch_sums.hpp"
#include "pavise/device/memory.hpp"
#include "pavise_kernels/cpu/row_norm.hpp"

namespace pavise::device {

class RowNorm {
 public:
  RowNorm(const Stream& stream, const kernels::RowNorm& rows, std::int64_t groups)
      : rows_(rows), mean_(stream, groups * rows.rows * 32), inverse_(stream, groups * rows.rows * 32) {}

  /// Elements that BatchSums needs for the sums of `parameters` of gamma or beta.
  std::int64_t partial(const Stream& stream, std::int64_t parameters, std::int64_t groups) const {
    return stream.kernels().row_norm_parameters_scratch(rows_, parameters, groups);
  }

  /// Queues y = (x - mean) / deviation * gamma + beta, and ReLU; gamma and beta may be null.
  void forward(const Stream& stream, const float* x, float* y, const float* gamma, const float* beta, double epsilon,
               bool relu, std::int64_t groups) const {
    stream.kernels().row_norm(stream.get(), rows_, x, y, gamma, beta, static_cast<float>(epsilon), relu, mean_.get(),
                              inverse_.get(), groups);
  }
  /// Queues the derivative by x of the last pass.
  void backward(const Stream& stream, const float* x, const float* dy, const float* gamma, float* dx, bool accumulate,
                const float* mask, std::int64_t groups) const {
    stream.kernels().row_norm_backward(stream.get(), rows_, x, dy, gamma, mean_.get(), inverse_.get(), dx, accumulate,
                                       mask, groups);
  }
  /// Queues the addition of the derivative by gamma, or by beta.
  void add_gradient(const Stream& stream, const BatchSums& sums, bool gamma, const float* x, const float* dy,
                    float* gradient, std::int64_t parameters, std::int64_t images) const {
    sums.add(stream, gradient, parameters,
             stream.kernels().row_norm_parameters(stream.get(), rows_, gamma, x, dy, mean_.get(), inverse_.get(),
                                                  sums.partial(), parameters, images, groups_of(images)));
  }

 private:
  kernels::RowNorm rows_;
  Array<float> mean_, inverse_;
};

}  // namespace pavise::device
