// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/shape.hpp"
#include "pavise/core/tensor.hpp"

namespace pavise {

/// Labelled images as the tape stores them: [group][C][H][W][lanes], sixteen images side by side (or one). Lanes behind
/// the last image repeat it, and take part in no result.
template <class T>
class LaneBatch {
 public:
  LaneBatch() = default;
  LaneBatch(Shape shape, std::int64_t images, int lanes) { resize(shape, images, lanes); }

  /// Makes room for `images` images of shape `shape`; their values are undefined. Memory is kept for reuse.
  void resize(Shape shape, std::int64_t images, int lanes) {
    require(lanes == 16 || lanes == 1, "lane batch: ", lanes, " lanes, expected 16 or 1");
    shape_ = shape;
    size_ = shape.numel();
    images_ = images;
    lanes_ = lanes;
    const auto slots = static_cast<std::size_t>(groups() * lanes);
    values_.resize(slots * static_cast<std::size_t>(size_) + 16);
    labels_.assign(slots, 0);
    ids_.assign(slots, 0);
    restarts_.assign(slots, 0);
  }

  const Shape& shape() const { return shape_; }
  std::int64_t size() const { return size_; }  ///< elements of one image
  std::int64_t images() const { return images_; }
  int lanes() const { return lanes_; }
  std::int64_t groups() const { return lanes_ == 1 ? images_ : (images_ + 15) / 16; }
  /// Images in group `group`: `lanes`, but for the last one.
  std::int64_t valid(std::int64_t group) const { return std::min<std::int64_t>(lanes_, images_ - group * lanes_); }

  T* values(std::int64_t group = 0) { return values_.data() + group * size_ * lanes_; }
  const T* values(std::int64_t group = 0) const { return values_.data() + group * size_ * lanes_; }
  std::int32_t* labels(std::int64_t group = 0) { return labels_.data() + group * lanes_; }
  const std::int32_t* labels(std::int64_t group = 0) const { return labels_.data() + group * lanes_; }
  /// Index of each image in its data set: the name of its random numbers.
  std::uint32_t* ids(std::int64_t group = 0) { return ids_.data() + group * lanes_; }
  const std::uint32_t* ids(std::int64_t group = 0) const { return ids_.data() + group * lanes_; }
  std::uint32_t* restarts(std::int64_t group = 0) { return restarts_.data() + group * lanes_; }
  const std::uint32_t* restarts(std::int64_t group = 0) const { return restarts_.data() + group * lanes_; }

  /// Fills the batch: write(i, out) gives the `size` values of image i, row-major. In parallel over the groups.
  template <class Write>
  void pack(const Write& write) {
    parallel_for(groups(), [&](std::int64_t g) {
      T* out = values(g);
      if (lanes_ == 1) {
        write(g, out);
        return;
      }
      thread_local AlignedVector<T> rows;
      rows.resize(static_cast<std::size_t>(16 * size_));
      for (int lane = 0; lane < 16; ++lane) {
        const std::int64_t i = std::min(g * 16 + lane, images_ - 1);
        if (lane > 0 && i == images_ - 1 && g * 16 + lane > i) {
          std::memcpy(rows.data() + lane * size_, rows.data() + (lane - 1) * size_,
                      static_cast<std::size_t>(size_) * sizeof(T));
        } else {
          write(i, rows.data() + lane * size_);
        }
      }
      transpose_to_lanes(rows.data(), out, size_);
    });
  }

  /// The values of image i, row-major.
  void unpack(std::int64_t i, T* out) const {
    const T* from = values(i / lanes_) + i % lanes_;
    for (std::int64_t e = 0; e < size_; ++e) {
      out[e] = from[e * lanes_];
    }
  }

  /// Copies labels and names of the slots behind the last image from it, as `pack` does with the values.
  void repeat_last() {
    for (std::size_t i = static_cast<std::size_t>(images_); i < labels_.size(); ++i) {
      labels_[i] = labels_[i - 1];
      ids_[i] = ids_[i - 1];
      restarts_[i] = restarts_[i - 1];
    }
  }

  /// rows[16][n] -> lanes[n][16]
  static void transpose_to_lanes(const T* rows, T* lanes, std::int64_t n) {
    constexpr std::int64_t kBlock = 16;
    for (std::int64_t e0 = 0; e0 < n; e0 += kBlock) {
      const std::int64_t e1 = std::min(n, e0 + kBlock);
      for (int lane = 0; lane < 16; ++lane) {
        const T* from = rows + lane * n;
        for (std::int64_t e = e0; e < e1; ++e) {
          lanes[e * 16 + lane] = from[e];
        }
      }
    }
  }

 private:
  Shape shape_;
  std::int64_t size_ = 0;
  std::int64_t images_ = 0;
  int lanes_ = 16;
  AlignedVector<T> values_;
  std::vector<std::int32_t> labels_;
  std::vector<std::uint32_t> ids_;
  std::vector<std::uint32_t> restarts_;
};

}  // namespace pavise
