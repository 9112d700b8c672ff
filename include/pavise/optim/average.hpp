// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "pavise/optim/optimizer.hpp"

namespace pavise::optim {

/// The exponential moving average of a model's weights and buffers (Polyak and Juditsky 1992; as used against robust
/// overfitting by Rebuffi et al. 2021): after each step average += (1 - decay) * (state - average).
template <class T>
class WeightAverage {
 public:
  /// Starts at the store's present state. The store must outlive the average.
  explicit WeightAverage(ParameterStore<T>& store, double decay = 0.995) : store_(store), decay_(decay) {
    require(decay >= 0 && decay < 1, "weight average: decay ", decay, ", expected 0 or more and less than 1");
    average_.assign(store.state().begin(), store.state().end());
  }

  /// Moves towards the present state; call it after each step of the optimizer.
  void update() {
    const auto state = store_.state();
    detail::each_chunk(state.size(), [&](auto isa, std::int64_t begin, std::int64_t end) {
      average_update<T>(isa, average_.data() + begin, state.data() + begin, end - begin, static_cast<T>(1 - decay_));
    });
  }

  /// The averaged state in the layout of ParameterStore::state(), to be saved in a checkpoint or overwritten from one.
  std::span<T> values() { return {average_.data(), average_.size()}; }

  /// Exchanges the model's state and the average.
  void swap() {
    const auto state = store_.edit_state();
    std::swap_ranges(state.begin(), state.end(), average_.begin());
  }

 private:
  ParameterStore<T>& store_;
  double decay_;
  AlignedVector<T> average_;
};

/// The model runs on the averaged weights within a block, and on its own again behind it, also after an exception.
template <class T>
class AverageScope {
 public:
  explicit AverageScope(WeightAverage<T>& average) : average_(average) { average_.swap(); }
  AverageScope(const AverageScope&) = delete;
  AverageScope& operator=(const AverageScope&) = delete;
  ~AverageScope() { average_.swap(); }

 private:
  WeightAverage<T>& average_;
};

}  // namespace pavise::optim
