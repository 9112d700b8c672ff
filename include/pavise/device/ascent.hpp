// SPDX-License-Identifier: MIT
// Auto-PGD on a GPU: attempts side by side in all lanes, each at a step of its own; where some are over, others move in.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "pavise/attack/accelerator.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/device/graph.hpp"
#include "pavise/device/network.hpp"

namespace pavise::device {

class AscentLanes {
 public:
  /// Attempts on the network's model, `capacity` of them at a time.
  explicit AscentLanes(Network& network)
      : network_(network), stream_(network.stream()), slots_(groups_of(network.capacity()) * 32) {
    const std::int64_t n = network.size();
    for (auto* array : {&x_, &previous_, &clean_, &best_, &best_gradient_, &rows_}) {
      *array = Array<float>(stream_, slots_ * n);
    }
    for (auto* array : {&active_, &passes_, &improved_, &restart_, &take_best_, &labels_, &others_, &numbers_}) {
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
    const std::int64_t used = std::min(slots_, attempts);
    for (const auto* array : {&x_, &previous_, &clean_, &best_, &best_gradient_}) {  // of lanes without an attempt
      clear(*array);
    }
    clear(active_);
    held_.assign(static_cast<std::size_t>(used), -1);
    host_labels_.assign(static_cast<std::size_t>(slots_), 0);
    host_others_ = host_labels_;
    std::int64_t next = 0;
    std::int64_t running = fill(ascent, attempts, next);
    round(ascent, used);  // as it is: what a kernel asks for once cannot be recorded
    const RecordedWork graph(stream_, [&] { round(ascent, used); });
    while (running > 0) {
      constexpr int kRounds = 4;  // without the host
      for (int i = 0; i < kRounds; ++i) {
        graph.launch();
      }
      running -= take_out(ascent);
      // A pass of the host's has its price: not for a few lanes.
      if (next < attempts && (running == 0 || used - running >= used / 8)) {
        running += fill(ascent, attempts, next);
      }
    }
  }

 private:
  template <class T>
  void clear(const Array<T>& array) const {
    stream_.kernels().fill_bytes(array.get(), 0, static_cast<std::size_t>(array.size()) * sizeof(T), stream_.get());
  }

  kernels::cuda::ApgdLanes lanes() const {
    return {state_.get(),   active_.get(),    passes_.get(), improved_.get(),
            restart_.get(), take_best_.get(), eta_.get(),    weight_.get()};
  }

  /// Moves attempts into the lanes that are free, and returns how many.
  std::int64_t fill(const attack::Ascent& ascent, std::int64_t attempts, std::int64_t& next) {
    const auto& k = stream_.kernels();
    const std::int64_t n = network_.size();
    free_.clear();
    for (std::size_t lane = 0; lane < held_.size() && next + static_cast<std::int64_t>(free_.size()) < attempts;
         ++lane) {
      if (held_[lane] < 0) {
        held_[lane] = next + static_cast<std::int64_t>(free_.size());
        free_.push_back(static_cast<std::int32_t>(lane));
      }
    }
    const auto count = static_cast<std::int64_t>(free_.size());
    next += count;
    std::vector<float> clean(static_cast<std::size_t>(count * n)), start(clean.size());
    parallel_for(count, [&](std::int64_t i) {
      const auto lane = static_cast<std::size_t>(free_[static_cast<std::size_t>(i)]);
      ascent.begin(held_[lane], clean.data() + i * n, start.data() + i * n, host_labels_[lane], host_others_[lane]);
    });
    numbers_.upload(free_.data(), count);
    labels_.upload(host_labels_.data(), slots_);
    others_.upload(host_others_.data(), slots_);
    rows_.upload(clean.data(), count * n);
    k.rows_to_lanes(stream_.get(), rows_.get(), numbers_.get(), count, clean_.get(), n);
    rows_.upload(start.data(), count * n);
    for (const auto* to : {&x_, &previous_}) {
      k.rows_to_lanes(stream_.get(), rows_.get(), numbers_.get(), count, to->get(), n);
    }
    k.apgd_begin(stream_.get(), lanes(), numbers_.get(), count,
                 kernels::apgd_begin(static_cast<float>(2.0 * ascent.threat.epsilon), ascent.steps));
    return count;
  }

  /// Queues one step of all attempts.
  void round(const attack::Ascent& ascent, std::int64_t used) {
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

  /// Hands the attempts that are over to their owner, and returns how many.
  std::int64_t take_out(const attack::Ascent& ascent) {
    const std::int64_t n = network_.size();
    active_now_.resize(static_cast<std::size_t>(slots_));
    passes_now_.resize(static_cast<std::size_t>(slots_));
    active_.download(active_now_.data(), slots_);
    passes_.download(passes_now_.data(), slots_);
    stream_.finish();
    over_.clear();
    for (std::size_t lane = 0; lane < held_.size(); ++lane) {
      if (held_[lane] >= 0 && active_now_[lane] == 0) {
        over_.push_back(static_cast<std::int32_t>(lane));
      }
    }
    const auto count = static_cast<std::int64_t>(over_.size());
    if (count == 0) {
      return 0;
    }
    numbers_.upload(over_.data(), count);
    stream_.kernels().lanes_to_rows(stream_.get(), x_.get(), numbers_.get(), count, rows_.get(), n);
    std::vector<float> images(static_cast<std::size_t>(count * n));
    rows_.download(images.data(), count * n);
    stream_.finish();
    for (std::int64_t i = 0; i < count; ++i) {
      const auto lane = static_cast<std::size_t>(over_[static_cast<std::size_t>(i)]);
      ascent.end(held_[lane], images.data() + i * n, passes_now_[lane]);
      held_[lane] = -1;
    }
    return count;
  }

  Network& network_;
  const Stream& stream_;
  std::int64_t slots_;
  Array<float> x_, previous_, clean_, best_, best_gradient_, rows_, zeros_, eta_, weight_;
  Array<std::int32_t> active_, passes_, improved_, restart_, take_best_, labels_, others_, numbers_;
  Array<kernels::ApgdState> state_;
  std::vector<std::int64_t> held_;  ///< attempts in the lanes; -1: none
  std::vector<std::int32_t> host_labels_, host_others_, free_, over_, active_now_, passes_now_;
};

}  // namespace pavise::device
