// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/data/dataset.hpp"

namespace pavise::data {

/// A data set with false labels, and how many of them there are.
struct NoisyLabels {
  Dataset dataset;
  std::int64_t flipped = 0;
};

/// Symmetric label noise: each label is replaced with probability `rate` by one of the other classes, each equally
/// likely. Whether and how an image's label changes is a function of (seed, its source index): a subset gets the same
/// labels. Throws ValueError unless 0 <= rate <= 1 and, where the rate is above 0, there are two classes or more.
inline NoisyLabels label_noise(const Dataset& dataset, double rate, std::uint64_t seed) {
  require(rate >= 0 && rate <= 1, "label_noise: rate is ", rate, ", expected 0 to 1");
  require(rate == 0 || dataset.classes() >= 2, "label_noise: the data set has ", dataset.classes(),
          " classes, expected 2 or more");
  std::vector<std::int32_t> labels = dataset.labels();
  std::int64_t flipped = 0;
  for (std::int64_t i = 0; i < dataset.size(); ++i) {
    RandomSequence random(
        {.seed = seed, .purpose = Purpose::label_noise, .image = static_cast<std::uint32_t>(dataset.source_index(i))});
    if (random.uniform() < rate) {
      const auto shift = 1 + random.below(static_cast<std::uint32_t>(dataset.classes() - 1));
      auto& label = labels[static_cast<std::size_t>(i)];
      label = static_cast<std::int32_t>((static_cast<std::int64_t>(label) + shift) % dataset.classes());
      ++flipped;
    }
  }
  return {dataset.with_labels(std::move(labels)), flipped};
}

}  // namespace pavise::data
