// SPDX-License-Identifier: MIT
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/shape.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise {

/// What a weight needs in order to be applied quickly, for one shape of input: the plan and the weights packed for it.
template <class T>
struct LinearOperator {
  using Packed = kernels::PackedWeights<AlignedVector<T>>;

  enum class Kind { forward, backward, winograd_forward, winograd_backward };
  Kind kind;
  kernels::ConvGeometry geometry;
  kernels::GatherPlan plan;
  Packed packed[2];  ///< for 16 lanes, and for 1
  std::uint64_t version[2] = {0, 0};
  kernels::Isa isa[2] = {kernels::Isa::portable, kernels::Isa::portable};
};

template <class T>
class ParameterStore;

/// A named array of a model: weights that are trained, or a buffer that is not (running statistics). It lives in a
/// ParameterStore; on a tape it is a value without lanes, the same for every image.
template <class T>
class Parameter {
 public:
  const std::string& name() const { return name_; }
  const Shape& shape() const { return shape_; }
  std::int64_t size() const { return size_; }
  /// Whether training changes it; running statistics are changed by the layers themselves.
  bool trainable() const { return trainable_; }
  std::span<const T> value() const { return {value_, static_cast<std::size_t>(size_)}; }
  /// Its gradient, summed by every backward pass since ParameterStore::zero_gradients; empty for a buffer.
  std::span<const T> gradient() const {
    return {gradient_, static_cast<std::size_t>(gradient_ != nullptr ? size_ : 0)};
  }
  T* gradient_data() { return gradient_; }

  /// The values, to be changed: what was packed from them is packed again at the next use.
  std::span<T> edit() {
    ++*version_;
    return {value_, static_cast<std::size_t>(size_)};
  }

  /// Grows with every change of any parameter of the store: what was derived from older values is out of date.
  std::uint64_t version() const { return version_->load(); }

  /// The operator of `kind` for `geometry`, packed from the current values for `lanes` lanes. `matrix`: of a fully
  /// connected layer. Thread-safe.
  const LinearOperator<T>& linear_operator(typename LinearOperator<T>::Kind kind, const kernels::ConvGeometry& geometry,
                                           bool matrix, int lanes, void (*make_plan)(LinearOperator<T>&, bool matrix),
                                           void (*pack)(LinearOperator<T>&, const T* values, int lanes)) {
    const int mode = lanes == kernels::kLanes ? 0 : 1;
    const std::lock_guard lock(*mutex_);
    LinearOperator<T>* found = nullptr;
    for (auto& candidate : operators_) {
      if (candidate->kind == kind && candidate->geometry == geometry) {
        found = candidate.get();
      }
    }
    if (found == nullptr) {
      auto made = std::make_unique<LinearOperator<T>>();
      made->kind = kind;
      made->geometry = geometry;
      make_plan(*made, matrix);
      found = operators_.emplace_back(std::move(made)).get();
    }
    const std::uint64_t version = this->version();
    const kernels::Isa isa = kernels::isa();
    if (found->version[mode] != version || found->isa[mode] != isa) {
      pack(*found, value_, lanes);
      found->version[mode] = version;
      found->isa[mode] = isa;
    }
    return *found;
  }

 private:
  friend class ParameterStore<T>;
  std::string name_;
  Shape shape_;
  std::int64_t size_ = 0;
  bool trainable_ = true;
  T* value_ = nullptr;
  T* gradient_ = nullptr;
  std::atomic<std::uint64_t>* version_ = nullptr;
  std::unique_ptr<std::mutex> mutex_ = std::make_unique<std::mutex>();
  std::vector<std::unique_ptr<LinearOperator<T>>> operators_;
};

/// All parameters of a model in one contiguous array, and their gradients in another, so that an update is one loop and
/// a model is one file. Trained parameters come first, buffers after them; each begins on a cache line.
template <class T>
class ParameterStore {
 public:
  using Initializer = std::function<void(std::span<T> values, std::uint32_t index, std::uint64_t seed)>;

  ParameterStore() = default;
  ParameterStore(const ParameterStore&) = delete;
  ParameterStore& operator=(const ParameterStore&) = delete;

  /// Registers a parameter; its memory is there after `allocate`. The reference stays valid.
  Parameter<T>& add(std::string name, Shape shape, Initializer initialize, bool trainable = true) {
    require(!allocated_, "parameter ", name, ": the store is allocated already");
    for (const auto& other : parameters_) {
      require(other.name_ != name, "parameter ", name, ": there is one of this name already");
    }
    auto& p = parameters_.emplace_back();
    p.name_ = std::move(name);
    p.shape_ = shape;
    p.size_ = shape.numel();
    p.trainable_ = trainable;
    p.version_ = &version_;
    initializers_.push_back(std::move(initialize));
    return p;
  }

  /// Takes the memory and initialises every parameter from `seed`.
  void allocate(std::uint64_t seed) {
    const auto padded = [](std::int64_t n) { return (n + 15) / 16 * 16; };
    trained_ = 0;
    std::int64_t total = 0;
    for (const auto& p : parameters_) {
      (p.trainable_ ? trained_ : total) += padded(p.size_);
    }
    total += trained_;
    values_.assign(static_cast<std::size_t>(total), T{0});
    gradients_.assign(static_cast<std::size_t>(trained_), T{0});
    std::int64_t at[2] = {0, trained_};
    std::uint32_t index = 0;
    for (auto& p : parameters_) {
      auto& offset = at[p.trainable_ ? 0 : 1];
      p.value_ = values_.data() + offset;
      p.gradient_ = p.trainable_ ? gradients_.data() + offset : nullptr;
      offset += padded(p.size_);
      if (initializers_[index]) {
        initializers_[index](p.edit(), index, seed);
      }
      ++index;
    }
    allocated_ = true;
  }

  std::deque<Parameter<T>>& parameters() { return parameters_; }
  const std::deque<Parameter<T>>& parameters() const { return parameters_; }

  /// The parameter of that name; ValueError lists the names there are.
  Parameter<T>& operator[](std::string_view name) {
    for (auto& p : parameters_) {
      if (p.name_ == name) {
        return p;
      }
    }
    std::vector<std::string_view> names;
    for (const auto& p : parameters_) {
      names.push_back(p.name_);
    }
    throw ValueError(concat("no parameter ", name, "; there are ", join(names)));
  }

  /// Number of trained values (without the padding between them).
  std::int64_t count() const {
    std::int64_t n = 0;
    for (const auto& p : parameters_) {
      n += p.trainable_ ? p.size_ : 0;
    }
    return n;
  }

  /// All trained values as one array (with padding, which stays 0), to be changed.
  std::span<T> edit_values() {
    touch();
    return {values_.data(), static_cast<std::size_t>(trained_)};
  }
  std::span<const T> values() const { return {values_.data(), static_cast<std::size_t>(trained_)}; }
  std::span<T> gradients() { return {gradients_.data(), gradients_.size()}; }
  /// Trained values and buffers together: the whole state of a model.
  std::span<const T> state() const { return {values_.data(), values_.size()}; }
  std::span<T> edit_state() {
    touch();
    return {values_.data(), values_.size()};
  }

  void zero_gradients() { std::fill(gradients_.begin(), gradients_.end(), T{0}); }
  /// Says that values were changed.
  void touch() { ++version_; }

 private:
  std::deque<Parameter<T>> parameters_;
  std::vector<Initializer> initializers_;
  AlignedVector<T> values_;
  AlignedVector<T> gradients_;
  std::int64_t trained_ = 0;
  std::atomic<std::uint64_t> version_{1};
  bool allocated_ = false;
};

}  // namespace pavise
