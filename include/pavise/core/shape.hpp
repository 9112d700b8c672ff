// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <string>

#include "pavise/core/error.hpp"

namespace pavise {

/// The extents of an array, outermost first: at most six of them, held inline. A shape without extents is a scalar and
/// has one element. On the tape a shape is that of ONE image, (C,H,W) or (features): the batch is not an axis.
class Shape {
 public:
  static constexpr std::size_t kMaxRank = 6;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents) { assign(extents.begin(), extents.size()); }
  template <class Iterator>
  Shape(Iterator first, std::size_t rank) {
    assign(first, rank);
  }

  std::size_t rank() const { return rank_; }
  bool empty_rank() const { return rank_ == 0; }

  /// Extent of axis `axis`; negative axes count from the end.
  std::int64_t operator[](std::ptrdiff_t axis) const { return extents_[index(axis)]; }
  void set(std::ptrdiff_t axis, std::int64_t extent) { extents_[index(axis)] = checked(extent); }

  /// Product of the extents; throws ShapeError where it does not fit in 63 bits.
  std::int64_t numel() const {
    std::int64_t n = 1;
    for (std::size_t i = 0; i < rank_; ++i) {
      if (extents_[i] != 0 && n > std::numeric_limits<std::int64_t>::max() / extents_[i]) {
        throw ShapeError(concat("shape ", to_string(), ": the number of elements overflows"));
      }
      n *= extents_[i];
    }
    return n;
  }

  const std::int64_t* begin() const { return extents_.data(); }
  const std::int64_t* end() const { return extents_.data() + rank_; }

  friend bool operator==(const Shape& a, const Shape& b) {
    if (a.rank_ != b.rank_) {
      return false;
    }
    for (std::size_t i = 0; i < a.rank_; ++i) {
      if (a.extents_[i] != b.extents_[i]) {
        return false;
      }
    }
    return true;
  }

  /// "(1,28,28)"
  std::string to_string() const {
    std::string out = "(";
    for (std::size_t i = 0; i < rank_; ++i) {
      if (i != 0) {
        out.push_back(',');
      }
      out += std::to_string(extents_[i]);
    }
    return out + ")";
  }

 private:
  std::size_t index(std::ptrdiff_t axis) const {
    const auto i = axis < 0 ? axis + static_cast<std::ptrdiff_t>(rank_) : axis;
    require<ShapeError>(i >= 0 && i < static_cast<std::ptrdiff_t>(rank_), "shape ", *this, ": no axis ", axis);
    return static_cast<std::size_t>(i);
  }
  static std::int64_t checked(std::int64_t extent) {
    require<ShapeError>(extent >= 0, "shape: an extent is ", extent, ", expected 0 or more");
    return extent;
  }
  template <class Iterator>
  void assign(Iterator first, std::size_t rank) {
    require<ShapeError>(rank <= kMaxRank, "shape: ", rank, " axes, at most ", kMaxRank, " are supported");
    rank_ = static_cast<std::uint8_t>(rank);
    for (std::size_t i = 0; i < rank; ++i, ++first) {
      extents_[i] = checked(static_cast<std::int64_t>(*first));
    }
  }

  std::array<std::int64_t, kMaxRank> extents_{};
  std::uint8_t rank_ = 0;
};

}  // namespace pavise
