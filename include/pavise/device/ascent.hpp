// SPDX-License-Identifier: MIT
// Auto-PGD on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "pavise/device/attempts.hpp"

namespace pavise::device {

class AscentLanes : public AttemptLanes {
 public:
  explicit AscentLanes(Network& network) : AttemptLanes(network) {
    for (auto* array : {&previous_, &best_, &best_gradient_}) {
      *array = Array<float>(stream_, slots_ * network.size());
    }
    for (auto* array : {&improved_, &restart_, &take_best_, &others_}) {
      *array = Array<std::int32_t>(stream_, slots_);
    }
    eta_ = Array<float>(stream_, slots_);
    weight_ = Array<float>(stream_, slots_);
    state_ = Array<kernels::ApgdState>(stream_, slots_);
  }

  void run(const attack::Ascent& ascent, std::int64_t attempts) {
    if (attempts == 0) {
      return;
    }
    ascent_ = &ascent;
    for (const auto* array : {&previous_, &best_, &best_gradient_}) {
      clear(*array);
    }
    host_others_.assign(static_cast<std::size_t>(slots_), 0);
    AttemptLanes::run(ascent, attempts);
  }

 private:
  kernels::cuda::ApgdLanes lanes() const {
    return {state_.get(),   active_.get(),    passes_.get(), improved_.get(),
            restart_.get(), take_best_.get(), eta_.get(),    weight_.get()};
  }

  void note(std::size_t lane, const attack::Attempts::Begun& begun) override { host_others_[lane] = begun.other; }
  void begin(std::int64_t count) override {
    const auto& k = stream_.kernels();
    others_.upload(host_others_.data(), slots_);
    k.rows_to_lanes(stream_.get(), rows_.get(), numbers_.get(), count, previous_.get(), network_.size());
    k.apgd_begin(stream_.get(), lanes(), numbers_.get(), count,
                 kernels::apgd_begin(static_cast<float>(2.0 * ascent_->threat.epsilon), ascent_->steps));
  }
  void step(std::int64_t used) override {
    const attack::Ascent& ascent = *ascent_;
    const auto& k = stream_.kernels();
    const std::int64_t groups = groups_of(used);
    network_.forward(x_.get(), used);
    if (ascent.loss == attack::ApgdLoss::cross_entropy) {
      network_.cross_entropy(labels_.get(), 0.0f, 1.0f);
    } else if (ascent.loss == attack::ApgdLoss::dlr) {
      network_.dlr(labels_.get(), nullptr);
    } else {
      const auto& from = ascent.targeted ? others_ : labels_;
      network_.dlr(from.get(), (ascent.targeted ? labels_ : others_).get());
    }
    const std::int32_t* classes = network_.predict();
    k.apgd_judge(stream_.get(), lanes(),
                 {.steps = ascent.steps, .rho = ascent.rho, .sign = ascent.sign, .targeted = ascent.targeted},
                 network_.loss(), network_.logits(), network_.classes(), classes, labels_.get(), groups);
    float* gradient = network_.backward();
    if (gradient == nullptr) {  // the logits do not depend on the image
      if (zeros_.size() == 0) {
        zeros_ = Array<float>(stream_, x_.size());
      }
      gradient = zeros_.get();
      clear(zeros_);
    }
    k.apgd_step(stream_.get(), lanes(), x_.get(), previous_.get(), gradient, clean_.get(), best_.get(),
                best_gradient_.get(), network_.size(), groups,
                {.norm = static_cast<int>(ascent.threat.norm),
                 .alpha = 0,
                 .epsilon = static_cast<float>(ascent.threat.epsilon),
                 .low = static_cast<float>(ascent.threat.low),
                 .high = static_cast<float>(ascent.threat.high)});
  }

  const attack::Ascent* ascent_ = nullptr;  ///< that runs
  Array<float> previous_, best_, best_gradient_, zeros_, eta_, weight_;
  Array<std::int32_t> improved_, restart_, take_best_, others_;
  Array<kernels::ApgdState> state_;
  std::vector<std::int32_t> host_others_;
};

}  // namespace pavise::device
