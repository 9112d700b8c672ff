// SPDX-License-Identifier: MIT
// Batch normalisation taken into the weights of the convolution before it (Jacob et al. 2018, "Quantization and
// training of neural networks for efficient integer-arithmetic-only inference", section 3.2): in an evaluation pass it
// is an affine map of each channel, y = s (w x + b - mean) + beta with s = gamma / sqrt(variance + epsilon), which is
// the convolution with the weights s w and the bias s (b - mean) + beta.
#pragma once

#include <cmath>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <vector>

#include "pavise/autodiff/parameter.hpp"

namespace pavise::nn {

/// What a batch normalisation does in an evaluation pass, as its parameters (C) say; `weight` and `bias` are gamma and
/// beta.
template <class T>
struct ChannelNorm {
  std::span<const T> weight, bias, mean, variance;
  double epsilon = 1e-5;
};

/// The weights of one convolution with a batch normalisation folded in, of each normalisation that follows it. They are
/// made at the first use and again after anything in the model's store has changed, and are no parameters of the model:
/// nothing saves or trains them.
template <class T>
class FoldedWeights {
 public:
  /// Parameters of a store of their own: the weights, and a bias for each output channel.
  struct Values {
    Parameter<T>* weight = nullptr;
    Parameter<T>* bias = nullptr;
  };

  /// `weight` (O,...) and `bias` (O), which may be null, with `norm` of O channels of the same store folded in, as they
  /// are now. Thread-safe, as long as nobody changes the parameters meanwhile.
  Values of(const Parameter<T>& weight, const Parameter<T>* bias, const ChannelNorm<T>& norm) {
    const std::lock_guard lock(mutex_);
    Folding* found = nullptr;
    for (const auto& candidate : foldings_) {
      if (candidate->gamma == norm.weight.data()) {
        found = candidate.get();
      }
    }
    if (found == nullptr) {
      found = foldings_.emplace_back(std::make_unique<Folding>()).get();
      found->gamma = norm.weight.data();
      found->values.weight = &found->store.add("folded.weight", weight.shape(), {}, false);
      found->values.bias = &found->store.add("folded.bias", Shape{weight.shape()[0]}, {}, false);
      found->store.allocate(0);
    }
    const std::uint64_t version = weight.version();
    if (found->version != version) {
      fold(weight, bias, norm, found->values);
      found->version = version;
    }
    return found->values;
  }

 private:
  struct Folding {
    const T* gamma = nullptr;  ///< says which normalisation it is
    std::uint64_t version = 0;
    ParameterStore<T> store;
    Values values;
  };

  static void fold(const Parameter<T>& weight, const Parameter<T>* bias, const ChannelNorm<T>& norm, Values to) {
    const std::int64_t channels = weight.shape()[0];
    const std::int64_t row = weight.size() / channels;
    const T* w = weight.value().data();
    T* folded_weight = to.weight->edit().data();
    T* folded_bias = to.bias->edit().data();
    for (std::int64_t c = 0; c < channels; ++c) {
      const auto at = static_cast<std::size_t>(c);
      const double scale =
          static_cast<double>(norm.weight[at]) / std::sqrt(static_cast<double>(norm.variance[at]) + norm.epsilon);
      const double shift =
          (bias != nullptr ? static_cast<double>(bias->value()[at]) : 0.0) - static_cast<double>(norm.mean[at]);
      folded_bias[c] = static_cast<T>(std::fma(shift, scale, static_cast<double>(norm.bias[at])));
      for (std::int64_t i = c * row; i < (c + 1) * row; ++i) {
        folded_weight[i] = static_cast<T>(static_cast<double>(w[i]) * scale);
      }
    }
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<Folding>> foldings_;
};

}  // namespace pavise::nn
