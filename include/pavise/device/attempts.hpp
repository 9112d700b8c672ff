// SPDX-License-Identifier: MIT
// Attempts of an attack on a GPU, side by side in all lanes, each at a step of its own; where some are over, others move
// in. What a step is, device/ascent.hpp (Auto-PGD) and device/random_search.hpp (Square) say.
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

class AttemptLanes {
 public:
  /// Attempts on the network's model, `capacity` of them at a time.
  explicit AttemptLanes(Network& network)
      : network_(network), stream_(network.stream()), slots_(groups_of(network.capacity()) * 32) {
    for (auto* array : {&x_, &clean_, &rows_}) {
      *array = Array<float>(stream_, slots_ * network.size());
    }
    for (auto* array : {&active_, &passes_, &labels_, &numbers_}) {
      *array = Array<std::int32_t>(stream_, slots_);
    }
  }
  AttemptLanes(const AttemptLanes&) = delete;
  AttemptLanes& operator=(const AttemptLanes&) = delete;
  virtual ~AttemptLanes() = default;

 protected:
  /// An array of one element, or one image's elements, for each lane.
  template <class T>
  void clear(const Array<T>& array) const {
    stream_.kernels().fill_bytes(array.get(), 0, static_cast<std::size_t>(array.size()) * sizeof(T), stream_.get());
  }

  /// Takes note of attempt `begun` in lane `lane`, on the host.
  virtual void note(std::size_t lane, const attack::Attempts::Begun& begun) = 0;
  /// Queues what lanes numbers_[0 ... count) begin with, whose starting points are the rows of rows_, and in x_.
  virtual void begin(std::int64_t count) = 0;
  /// Queues one step of the attempts in the first `used` lanes.
  virtual void step(std::int64_t used) = 0;

  /// Makes all attempts. What lanes without one hold has been cleared by whoever has arrays of his own.
  void run(const attack::Attempts& attempts, std::int64_t count) {
    const std::int64_t used = std::min(slots_, count);
    clear(x_);
    clear(clean_);
    clear(active_);
    held_.assign(static_cast<std::size_t>(used), -1);
    host_labels_.assign(static_cast<std::size_t>(slots_), 0);
    std::int64_t next = 0;
    std::int64_t running = fill(attempts, count, next);
    step(used);  // as it is: what a kernel asks for once cannot be recorded
    const RecordedWork graph(stream_, [&] { step(used); });
    while (running > 0) {
      constexpr int kSteps = 4;  // without the host
      for (int i = 0; i < kSteps; ++i) {
        graph.launch();
      }
      running -= take_out(attempts);
      // A pass of the host's has its price: not for a few lanes.
      if (next < count && (running == 0 || used - running >= used / 8)) {
        running += fill(attempts, count, next);
      }
    }
  }

  Network& network_;
  const Stream& stream_;
  std::int64_t slots_;
  Array<float> x_, clean_, rows_;
  Array<std::int32_t> active_, passes_, labels_, numbers_;

 private:
  /// Moves attempts into the lanes that are free, and returns how many.
  std::int64_t fill(const attack::Attempts& attempts, std::int64_t all, std::int64_t& next) {
    const auto& k = stream_.kernels();
    const std::int64_t n = network_.size();
    free_.clear();
    for (std::size_t lane = 0; lane < held_.size() && next + static_cast<std::int64_t>(free_.size()) < all; ++lane) {
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
      attack::Attempts::Begun begun{.clean = clean.data() + i * n, .start = start.data() + i * n};
      attempts.begin(held_[lane], begun);
      host_labels_[lane] = begun.label;
      note(lane, begun);
    });
    numbers_.upload(free_.data(), count);
    labels_.upload(host_labels_.data(), slots_);
    rows_.upload(clean.data(), count * n);
    k.rows_to_lanes(stream_.get(), rows_.get(), numbers_.get(), count, clean_.get(), n);
    rows_.upload(start.data(), count * n);
    k.rows_to_lanes(stream_.get(), rows_.get(), numbers_.get(), count, x_.get(), n);
    begin(count);
    return count;
  }

  /// Hands the attempts that are over to their owner, and returns how many.
  std::int64_t take_out(const attack::Attempts& attempts) {
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
      attempts.end(held_[lane], images.data() + i * n, passes_now_[lane]);
      held_[lane] = -1;
    }
    return count;
  }

  std::vector<std::int64_t> held_;  ///< attempts in the lanes; -1: none
  std::vector<std::int32_t> host_labels_, free_, over_, active_now_, passes_now_;
};

}  // namespace pavise::device
