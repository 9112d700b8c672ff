// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <new>
#include <span>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/shape.hpp"

namespace pavise {

/// Alignment of every array that a kernel reads: one cache line, one AVX-512 register.
inline constexpr std::size_t kAlignment = 64;

/// Standard allocator of memory aligned to kAlignment.
template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}
  T* allocate(std::size_t n) {
    if (n > static_cast<std::size_t>(-1) / 2 / sizeof(T)) {
      throw std::bad_array_new_length();
    }
    return static_cast<T*>(::operator new(n * sizeof(T), std::align_val_t(kAlignment)));
  }
  void deallocate(T* p, std::size_t) { ::operator delete(p, std::align_val_t(kAlignment)); }
  friend bool operator==(const AlignedAllocator&, const AlignedAllocator&) { return true; }
};

template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

/// A dense, row-major, owned array: parameters, data sets, results. NumPy's order, so that it maps to Eigen and to
/// files without a copy. Activations live on the tape instead, lanes innermost; `pack` and `unpack` (lanes.hpp) go
/// between them.
template <class T>
class Tensor {
 public:
  Tensor() : shape_{0} {}
  explicit Tensor(Shape shape, T fill = T{}) : shape_(shape), data_(static_cast<std::size_t>(shape.numel()), fill) {}
  Tensor(Shape shape, std::initializer_list<T> values) : Tensor(shape, std::span(values.begin(), values.size())) {}
  Tensor(Shape shape, std::span<const T> values) : shape_(shape), data_(values.begin(), values.end()) {
    require<ShapeError>(shape.numel() == static_cast<std::int64_t>(values.size()), "tensor: shape ", shape, " holds ",
                        shape.numel(), " elements, got ", values.size());
  }

  const Shape& shape() const { return shape_; }
  std::int64_t size() const { return static_cast<std::int64_t>(data_.size()); }
  T* data() { return data_.data(); }
  const T* data() const { return data_.data(); }
  std::span<T> span() { return {data_.data(), data_.size()}; }
  std::span<const T> span() const { return {data_.data(), data_.size()}; }
  T& operator[](std::int64_t i) { return data_[static_cast<std::size_t>(i)]; }
  const T& operator[](std::int64_t i) const { return data_[static_cast<std::size_t>(i)]; }
  auto begin() { return data_.begin(); }
  auto end() { return data_.end(); }
  auto begin() const { return data_.begin(); }
  auto end() const { return data_.end(); }

  /// The elements of entry `i` of the first axis: one image of a stack.
  std::span<T> row(std::int64_t i) { return {data() + i * row_size(), static_cast<std::size_t>(row_size())}; }
  std::span<const T> row(std::int64_t i) const {
    return {data() + i * row_size(), static_cast<std::size_t>(row_size())};
  }

  void fill(T value) { std::fill(data_.begin(), data_.end(), value); }

  /// The same elements under another shape; throws ShapeError where the counts differ.
  Tensor reshaped(Shape shape) && {
    require<ShapeError>(shape.numel() == size(), "reshape: ", shape_, " has ", size(), " elements, ", shape, " has ",
                        shape.numel());
    Tensor out;
    out.shape_ = shape;
    out.data_ = std::move(data_);
    shape_ = Shape{0};
    data_.clear();
    return out;
  }

 private:
  std::int64_t row_size() const { return shape_.rank() == 0 || shape_[0] == 0 ? 0 : size() / shape_[0]; }

  Shape shape_;
  AlignedVector<T> data_;
};

}  // namespace pavise
