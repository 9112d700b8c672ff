// SPDX-License-Identifier: MIT
// The Square attack in Linf on a GPU.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "pavise/device/attempts.hpp"

namespace pavise::device {

class RandomSearchLanes : public AttemptLanes {
 public:
  explicit RandomSearchLanes(Network& network) : AttemptLanes(network) {
    best_ = Array<float>(stream_, slots_ * network.size());
    loss_ = Array<float>(stream_, slots_);
    for (auto* array : {&accepted_, &row_, &column_, &side_}) {
      *array = Array<std::int32_t>(stream_, slots_);
    }
    for (auto* array : {&images_, &restarts_, &signs_}) {
      *array = Array<std::uint32_t>(stream_, slots_);
    }
  }

  void run(const attack::RandomSearch& search, std::int64_t attempts) {
    if (attempts == 0) {
      return;
    }
    const Shape& shape = network_.program().input;
    sides_ = Array<std::int32_t>(stream_, std::span<const std::int32_t>(search.sides));
    rule_ = {.channels = shape[0],
             .height = shape[1],
             .width = shape[2],
             .queries = static_cast<std::int64_t>(search.sides.size()),
             .epsilon = search.threat.epsilon,
             .low = static_cast<float>(search.threat.low),
             .high = static_cast<float>(search.threat.high),
             .seed = search.seed,
             .sides = sides_.get()};
    clear(best_);
    host_images_.assign(static_cast<std::size_t>(slots_), 0);
    host_restarts_ = host_images_;
    AttemptLanes::run(search, attempts);
  }

 private:
  kernels::cuda::SquareLanes lanes() const {
    return {active_.get(),   passes_.get(), accepted_.get(), loss_.get(), images_.get(),
            restarts_.get(), row_.get(),    column_.get(),   side_.get(), signs_.get()};
  }

  void note(std::size_t lane, const attack::Attempts::Begun& begun) override {
    host_images_[lane] = begun.image;
    host_restarts_[lane] = begun.restart;
  }
  void begin(std::int64_t count) override {
    const auto& k = stream_.kernels();
    images_.upload(host_images_.data(), slots_);
    restarts_.upload(host_restarts_.data(), slots_);
    k.rows_to_lanes(stream_.get(), rows_.get(), numbers_.get(), count, best_.get(), network_.size());
    k.square_begin(stream_.get(), lanes(), numbers_.get(), count);
  }
  void step(std::int64_t used) override {
    const auto& k = stream_.kernels();
    network_.forward(x_.get(), used);
    const std::int32_t* classes = network_.predict();
    k.square_judge(stream_.get(), lanes(), rule_, network_.logits(), network_.classes(), classes, labels_.get(),
                   groups_of(used));
    k.square_step(stream_.get(), lanes(), rule_, x_.get(), best_.get(), clean_.get(), groups_of(used));
  }

  kernels::cuda::SquareRule rule_{};
  Array<float> best_, loss_;
  Array<std::int32_t> accepted_, row_, column_, side_, sides_;
  Array<std::uint32_t> images_, restarts_, signs_;
  std::vector<std::uint32_t> host_images_, host_restarts_;
};

}  // namespace pavise::device
