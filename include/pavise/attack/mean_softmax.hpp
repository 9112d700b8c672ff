// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace pavise::attack::detail {

/// The logarithm of the mean softmax over several draws, and its derivative. Logits are [classes][width]; a lane's
/// numbers depend on that lane alone. In double, and by logarithms throughout: where every draw's softmax would
/// underflow, value and derivative still have their digits.
class MeanSoftmax {
 public:
  MeanSoftmax(std::int64_t classes, int width)
      : classes_(static_cast<std::size_t>(classes)),
        width_(static_cast<std::size_t>(width)),
        log_sum_(classes_ * width_),
        own_(classes_) {}

  /// Adds a draw's logits.
  void add(const float* z) {
    for (std::size_t lane = 0; lane < width_; ++lane) {
      log_softmax(z, lane);
      for (std::size_t k = 0; k < classes_; ++k) {
        double& all = log_sum_[k * width_ + lane];
        all = count_ == 0 ? own_[k] : add_logarithms(all, own_[k]);
      }
    }
    ++count_;
  }

  /// out[k] = log(mean over the draws of softmax_k).
  void log_mean(float* out) const {
    const double log_count = std::log(static_cast<double>(count_));
    for (std::size_t i = 0; i < log_sum_.size(); ++i) {
      out[i] = static_cast<float>(log_sum_[i] - log_count);
    }
  }

  /// dz = derivative by the logits z of one of the draws, where `outer` is that by log_mean. With p the draw's softmax
  /// and w_k its share in class k, w_k = p_k / sum over draws of p_k:
  ///   dz_j = outer_j w_j - p_j sum_k outer_k w_k.
  void derivative(const float* z, const float* outer, float* dz) {
    for (std::size_t lane = 0; lane < width_; ++lane) {
      log_softmax(z, lane);
      const std::size_t top = static_cast<std::size_t>(std::max_element(own_.begin(), own_.end()) - own_.begin());
      const auto share = [&](std::size_t k) {
        return static_cast<double>(outer[k * width_ + lane]) * std::exp(own_[k] - log_sum_[k * width_ + lane]);
      };
      double others = 0;  // of all classes but the most probable one: 1 - p would lose the digits of their sum
      double rest = 0;
      for (std::size_t k = 0; k < classes_; ++k) {
        if (k != top) {
          others += std::exp(own_[k]);
          rest += share(k);
        }
      }
      const double of_top = share(top);
      for (std::size_t j = 0; j < classes_; ++j) {
        const double p = std::exp(own_[j]);
        dz[j * width_ + lane] =
            static_cast<float>(j == top ? of_top * others - p * rest : share(j) - p * (of_top + rest));
      }
    }
  }

 private:
  /// own_ = log softmax of the lane's logits.
  void log_softmax(const float* z, std::size_t lane) {
    double largest = static_cast<double>(z[lane]);
    for (std::size_t k = 1; k < classes_; ++k) {
      largest = std::max(largest, static_cast<double>(z[k * width_ + lane]));
    }
    double sum = 0;
    for (std::size_t k = 0; k < classes_; ++k) {
      own_[k] = static_cast<double>(z[k * width_ + lane]) - largest;
      sum += std::exp(own_[k]);
    }
    for (double& v : own_) {
      v -= std::log(sum);
    }
  }
  /// log(e^a + e^b)
  static double add_logarithms(double a, double b) {
    const double larger = std::max(a, b);
    return larger + std::log1p(std::exp(std::min(a, b) - larger));
  }

  std::size_t classes_, width_;
  std::int64_t count_ = 0;
  std::vector<double> log_sum_;  ///< [classes][width]
  std::vector<double> own_;      ///< [classes]
};

}  // namespace pavise::attack::detail
