// SPDX-License-Identifier: MIT
// Batch normalisation in training mode on a GPU: by the statistics of a minibatch, which several devices may share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "pavise/autodiff/trace.hpp"
#include "pavise/core/error.hpp"
#include "pavise/device/batch_sums.hpp"
#include "pavise/device/memory.hpp"

namespace pavise::device {

class BatchNorm {
 public:
  /// Of images of channels x positions.
  BatchNorm(const Stream& stream, std::int64_t channels, std::int64_t positions)
      : channels_(channels), positions_(positions), numbers_(stream, 9 * channels) {}

  /// Elements that BatchSums needs for it: sums, and their slices.
  std::int64_t largest() const { return 2 * channels_; }
  std::int64_t partial(const Stream& stream, std::int64_t groups) const {
    return 2 * stream.kernels().bias_gradient_scratch(channels_, positions_, groups);
  }

  /// Queues y = (x - mean) / deviation * gamma + beta, and ReLU; gamma and beta may be null.
  void forward(const Stream& stream, const BatchSums& sums, const float* x, float* y, const float* gamma,
               const float* beta, bool relu, double epsilon, std::int64_t images) const {
    const auto& k = stream.kernels();
    const std::int64_t groups = groups_of(images);
    const double count = values_of_channel(sums);
    require(count > 1, "batch_norm: training needs more than one value a channel, got one image of one position");
    const auto sum = [&](const float* mean_of) {
      clear(stream, row(kSums), channels_);
      sums.add(stream, row(kSums), channels_,
               k.channel_sums(stream.get(), channels_, positions_, x, mean_of, sums.partial(), images, groups));
      sums.share_out(stream, row(kSums), channels_);
    };
    sum(nullptr);
    k.batch_norm_mean(stream.get(), row(kSums), row(kMean), channels_, count);
    sum(row(kMean));
    k.batch_norm_scale(stream.get(), row(kSums), gamma, row(kScale), row(kInverse), row(kVariance), channels_, count,
                       epsilon);
    if (beta == nullptr) {
      clear(stream, row(kSums), channels_);
    }
    k.channel_affine(stream.get(), x, y, channels_, positions_,
                     {row(kMean), row(kScale), beta != nullptr ? beta : row(kSums)}, relu, groups);
  }

  /// Queues the derivatives by the parameters (null: not asked for), added, and by x (dx null: not asked for).
  void backward(const Stream& stream, const BatchSums& sums, const float* x, const float* dy, const float* gamma,
                float* dgamma, float* dbeta, float* dx, bool accumulate, const float* mask, std::int64_t images) const {
    const auto& k = stream.kernels();
    const std::int64_t groups = groups_of(images);
    clear(stream, row(kSums), 2 * channels_);
    sums.add(stream, row(kSums), 2 * channels_,
             k.channel_gradient_sums(stream.get(), channels_, positions_, x, row(kMean), dy, sums.partial(), groups));
    sums.share_out(stream, row(kSums), 2 * channels_);
    k.batch_norm_gradients(stream.get(), row(kSums), row(kInverse), gamma, dgamma, dbeta, row(kFactors), channels_,
                           values_of_channel(sums));
    if (dx != nullptr) {
      k.batch_norm_backward(stream.get(), x, dy, dx, channels_, positions_, row(kMean), row(kFactors), accumulate, mask,
                            images, groups);
    }
  }

  /// Queues the copy to the host of what update_running needs.
  void fetch() {
    fetched_.resize(static_cast<std::size_t>(2 * channels_));
    numbers_.download(fetched_.data(), 2 * channels_);
  }
  /// Moves the running statistics towards those of the last pass, once they are fetched.
  void update_running(const TracedOperation<float>& op) const {
    const auto move = [&](Parameter<float>& p, Row from) {
      const auto running = p.edit();
      for (std::size_t c = 0; c < running.size(); ++c) {
        const float value = fetched_[static_cast<std::size_t>(from * channels_) + c];
        running[c] = kernels::run_light(
            [&](auto isa) { return running_value<float>(isa, running[c], static_cast<double>(value), op.momentum); });
      }
    };
    move(*op.running_mean, kMean);
    move(*op.running_var, kVariance);
  }
  /// Queues the same on the device, where the statistics lie at `mean` and `variance`.
  void move_running(const Stream& stream, float* mean, float* variance, double momentum) const {
    stream.kernels().move_running(stream.get(), mean, row(kMean), channels_, momentum);
    stream.kernels().move_running(stream.get(), variance, row(kVariance), channels_, momentum);
  }

 private:
  enum Row { kMean, kVariance, kScale, kInverse, kSums, kFactors = kSums + 2 };  ///< two rows of sums, three of factors

  float* row(Row r) const { return numbers_.get() + static_cast<int>(r) * channels_; }
  double values_of_channel(const BatchSums& sums) const {
    return static_cast<double>(sums.images_of_all()) * static_cast<double>(positions_);
  }
  static void clear(const Stream& stream, float* at, std::int64_t n) {
    stream.kernels().fill_bytes(at, 0, static_cast<std::size_t>(n) * sizeof(float), stream.get());
  }

  std::int64_t channels_, positions_;
  Array<float> numbers_;  ///< rows of channels
  std::vector<float> fetched_;
};

}  // namespace pavise::device
