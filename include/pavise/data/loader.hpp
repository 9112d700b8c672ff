// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/data/dataset.hpp"

namespace pavise::data {

/// The order of one pass through a data set, cut into batches.
class Epoch {
 public:
  Epoch(std::vector<std::int64_t> order, std::int64_t batch_size, bool drop_last)
      : order_(std::move(order)), batch_size_(batch_size) {
    const auto n = static_cast<std::int64_t>(order_.size());
    batches_ = drop_last ? n / batch_size : (n + batch_size - 1) / batch_size;
  }

  /// Number of batches.
  std::int64_t size() const { return batches_; }
  /// Positions in the data set, in the order of this pass; the last short batch is in it even where it is dropped.
  const std::vector<std::int64_t>& order() const { return order_; }
  /// The positions of batch `b`; throws ValueError where there is no such batch.
  std::span<const std::int64_t> batch(std::int64_t b) const {
    require(b >= 0 && b < batches_, "loader: no batch ", b, " among ", batches_);
    const auto begin = b * batch_size_;
    const auto end = std::min(begin + batch_size_, static_cast<std::int64_t>(order_.size()));
    return std::span(order_).subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
  }

 private:
  std::vector<std::int64_t> order_;
  std::int64_t batch_size_;
  std::int64_t batches_;
};

/// Batches of a data set in an order that is a function of (seed, epoch): it holds no state, so that a run that resumes
/// in the middle of an epoch reads what an unbroken one would have read.
struct Loader {
  Dataset dataset;
  std::int64_t batch_size = 128;
  std::uint64_t seed = 0;
  bool shuffle = true;     ///< false: in the data set's order
  bool drop_last = false;  ///< leave out the last batch where it is short

  /// The batches of epoch `epoch`. Throws ValueError for a batch size below 1 or a negative epoch.
  Epoch epoch(std::int64_t epoch) const {
    require(batch_size >= 1, "loader: batch_size is ", batch_size, ", expected 1 or more");
    require(epoch >= 0 && epoch < (std::int64_t{1} << 32), "loader: epoch ", epoch, ", expected 0 or more");
    std::vector<std::int64_t> order;
    if (shuffle) {
      const auto iteration = static_cast<std::uint32_t>(epoch);
      order = random_permutation(dataset.size(), {.seed = seed, .purpose = Purpose::shuffle, .iteration = iteration});
    } else {
      order.resize(static_cast<std::size_t>(dataset.size()));
      for (std::size_t i = 0; i < order.size(); ++i) {
        order[i] = static_cast<std::int64_t>(i);
      }
    }
    return {std::move(order), batch_size, drop_last};
  }
};

}  // namespace pavise::data
