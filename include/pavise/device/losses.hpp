// SPDX-License-Identifier: MIT
// What follows from the logits of a pass on a GPU: losses with their derivatives, and classes. All are [group][..][32].
#pragma once

#include <cstdint>

#include "pavise/device/memory.hpp"

namespace pavise::device {

class Losses {
 public:
  Losses() = default;
  /// For passes of up to `groups` groups of 32 images.
  Losses(const Stream& stream, std::int64_t classes, std::int64_t groups)
      : classes_(classes),
        capacity_(groups),
        seed_(stream, groups * 32),
        loss_(stream, groups * 32),
        saved_(stream, groups * (classes + 2) * 32),
        prediction_(stream, groups * 32) {}

  /// Queues the cross-entropy of the logits and its derivative times `scale`.
  void cross_entropy(const Stream& stream, const float* logits, const std::int32_t* labels, float smoothing,
                     float scale, float* gradient, std::int64_t images) const {
    const auto& k = stream.kernels();
    const std::int64_t groups = groups_of(images);
    k.cross_entropy_forward(stream.get(), logits, labels, loss_.get(), saved_.get(), classes_, smoothing, 1.0f, groups);
    k.seed_gradient(stream.get(), seed_.get(), images, groups);
    if (scale != 1.0f) {
      k.unary_forward(stream.get(), kernels::Unary::affine, seed_.get(), seed_.get(), groups * 32, scale, 0.0f);
    }
    k.cross_entropy_backward(stream.get(), saved_.get(), labels, seed_.get(), gradient, classes_, smoothing, 1.0f,
                             false, groups);
  }

  /// Queues the difference of logits ratio, or the targeted ratio where there are `targets`, and its derivative.
  void dlr(const Stream& stream, const float* logits, const std::int32_t* labels, const std::int32_t* targets,
           float* gradient, std::int64_t images) {
    const auto& k = stream.kernels();
    const std::int64_t groups = groups_of(images);
    constexpr std::int64_t kEntries = 5;  // of the gradient
    if (entries_.size() == 0) {
      entries_ = Array<std::int32_t>(stream, capacity_ * kEntries * 32);
      values_ = Array<float>(stream, capacity_ * kEntries * 32);
    }
    k.dlr_forward(stream.get(), logits, labels, targets, loss_.get(), entries_.get(), values_.get(), classes_, groups);
    k.seed_gradient(stream.get(), seed_.get(), images, groups);
    k.sparse_backward(stream.get(), entries_.get(), values_.get(), seed_.get(), gradient, classes_, false, groups);
  }
  const float* loss() const { return loss_.get(); }

  /// Queues the largest logits' classes.
  const std::int32_t* predict(const Stream& stream, const float* logits, std::int64_t images) const {
    stream.kernels().argmax(stream.get(), logits, prediction_.get(), classes_, groups_of(images));
    return prediction_.get();
  }
  const std::int32_t* predictions() const { return prediction_.get(); }

 private:
  std::int64_t classes_ = 0, capacity_ = 0;
  Array<float> seed_, loss_, saved_, values_;
  Array<std::int32_t> prediction_, entries_;
};

}  // namespace pavise::device
