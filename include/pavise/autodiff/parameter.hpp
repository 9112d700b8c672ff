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

/// Who may have values or gradients of a store that are newer than those in its memory: a device that trains the model
/// (device/updates.hpp). Whoever reads them in the store has them fetched first. Thread-safe.
class ParameterHolder {
 public:
  ParameterHolder() = default;
  ParameterHolder(const ParameterHolder&) = delete;
  ParameterHolder& operator=(const ParameterHolder&) = delete;
  virtual ~ParameterHolder() = default;

  /// Writes the values into the store's memory, and says so: ParameterStore::set_values_fetched.
  virtual void fetch_values() = 0;
  /// The same of the gradients: ParameterStore::set_gradients_fetched.
  virtual void fetch_gradients() = 0;
};

namespace detail {

/// What a store's parameters share.
struct StoreStatus {
  std::atomic<std::uint64_t> version{1};
  std::atomic<ParameterHolder*> values_at{nullptr};     ///< who has newer values than the memory; null: nobody
  std::atomic<ParameterHolder*> gradients_at{nullptr};  ///< the same of gradients
  std::atomic<bool> gradients_used{true};               ///< those in the memory may be other than 0

  void fetch_values() {
    if (auto* holder = values_at.load(std::memory_order_acquire)) {
      holder->fetch_values();
    }
  }
  void fetch_gradients() {
    if (auto* holder = gradients_at.load(std::memory_order_acquire)) {
      holder->fetch_gradients();
    }
  }
  void use_gradients() {
    fetch_gradients();
    gradients_used.store(true, std::memory_order_relaxed);
  }
};

}  // namespace detail

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
  std::span<const T> value() const {
    status_->fetch_values();
    return memory();
  }
  /// Where its values lie, whether or not a ParameterHolder has newer ones.
  std::span<const T> memory() const { return {value_, static_cast<std::size_t>(size_)}; }
  /// Its gradient, summed by every backward pass since ParameterStore::zero_gradients; empty for a buffer.
  std::span<const T> gradient() const {
    status_->fetch_gradients();
    return {gradient_, static_cast<std::size_t>(gradient_ != nullptr ? size_ : 0)};
  }
  /// The same, to be added to; null for a buffer. Asked for anew in each pass.
  T* gradient_data() {
    status_->use_gradients();
    return gradient_;
  }

  /// The values, to be changed: what was packed from them is packed again at the next use.
  std::span<T> edit() {
    status_->fetch_values();
    ++status_->version;
    return {value_, static_cast<std::size_t>(size_)};
  }

  /// Grows with every change of any parameter of the store: what was derived from older values is out of date.
  std::uint64_t version() const { return status_->version.load(); }

  /// The operator of `kind` for `geometry`, packed from the current values for `lanes` lanes. `matrix`: of a fully
  /// connected layer. Thread-safe.
  const LinearOperator<T>& linear_operator(typename LinearOperator<T>::Kind kind, const kernels::ConvGeometry& geometry,
                                           bool matrix, int lanes, void (*make_plan)(LinearOperator<T>&, bool matrix),
                                           void (*pack)(LinearOperator<T>&, const T* values, int lanes)) {
    const int mode = lanes == kernels::kLanes ? 0 : 1;
    status_->fetch_values();
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
  detail::StoreStatus* status_ = nullptr;
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
    p.status_ = &status_;
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
  std::span<T> edit_values() { return edit_state().first(static_cast<std::size_t>(trained_)); }
  std::span<const T> values() const { return state().first(static_cast<std::size_t>(trained_)); }
  /// All gradients, to be changed or read. Asked for anew after each pass.
  std::span<T> gradients() {
    status_.use_gradients();
    return gradient_memory();
  }
  /// Trained values and buffers together: the whole state of a model.
  std::span<const T> state() const {
    status_.fetch_values();
    return {values_.data(), values_.size()};
  }
  std::span<T> edit_state() {
    status_.fetch_values();
    touch();
    return memory();
  }

  void zero_gradients() {
    status_.gradients_at.store(nullptr, std::memory_order_release);
    if (status_.gradients_used) {
      std::fill(gradients_.begin(), gradients_.end(), T{0});
      status_.gradients_used = holder_ == nullptr;  // without one nobody asks
    }
  }
  /// Says that values were changed.
  void touch() { ++status_.version; }

  // --- for a ParameterHolder: where values and gradients are

  ParameterHolder* holder() const { return holder_; }
  /// `holder` may take values and gradients from now on; null, once it has given them back: nobody.
  void set_holder(ParameterHolder* holder) {
    holder_ = holder;
    status_.gradients_used = true;
  }
  /// The holder has changed the values.
  void set_values_held() {
    status_.values_at.store(holder_, std::memory_order_release);
    touch();
  }
  void set_values_fetched() { status_.values_at.store(nullptr, std::memory_order_release); }
  bool values_held() const { return status_.values_at.load(std::memory_order_acquire) != nullptr; }
  /// The holder has all of the gradients.
  void set_gradients_held() { status_.gradients_at.store(holder_, std::memory_order_release); }
  void set_gradients_fetched() {
    status_.gradients_used = true;
    status_.gradients_at.store(nullptr, std::memory_order_release);
  }
  bool gradients_held() const { return status_.gradients_at.load(std::memory_order_acquire) != nullptr; }
  /// Whether the gradients in the memory may be other than 0: somebody asked for them since zero_gradients.
  bool gradients_used() const { return status_.gradients_used; }
  /// The memory itself, whatever it holds.
  std::span<T> memory() { return {values_.data(), values_.size()}; }
  std::span<T> gradient_memory() { return {gradients_.data(), gradients_.size()}; }

 private:
  std::deque<Parameter<T>> parameters_;
  std::vector<Initializer> initializers_;
  AlignedVector<T> values_;
  AlignedVector<T> gradients_;
  std::int64_t trained_ = 0;
  mutable detail::StoreStatus status_;
  ParameterHolder* holder_ = nullptr;
  bool allocated_ = false;
};

}  // namespace pavise
