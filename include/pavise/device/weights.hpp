// SPDX-License-Identifier: MIT
// A model's parameters on a GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <map>

#include "pavise/autodiff/parameter.hpp"
#include "pavise/device/memory.hpp"

namespace pavise::device {

class Weights {
 public:
  Weights(const Stream& stream, ParameterStore<float>& store)
      : stream_(stream), store_(store), all_(stream, static_cast<std::int64_t>(store.memory().size())) {}

  /// Whether they are the model's as they are now.
  bool current() const { return version_ == current_version(); }
  bool uploaded() const { return version_ != 0; }
  void set_current() { version_ = current_version(); }
  /// They are not the model's any more.
  void set_outdated() { version_ = kOutdated; }

  /// Queues the copy of the model's store.
  void upload() const {
    const auto state = store_.state();
    all_.upload(state.data(), static_cast<std::int64_t>(state.size()));
  }
  /// Queues the copy of another network's, of the same store and device.
  void copy(const Weights& other) const {
    stream_.kernels().copy(all_.get(), other.all_.get(), static_cast<std::size_t>(all_.size()) * sizeof(float),
                           stream_.get());
  }
  /// The store's state on the device, in its layout.
  const Array<float>& all() const { return all_; }
  /// A parameter on the device, after upload; one of another store (weights with a normalisation folded in) is copied.
  const float* put(const Parameter<float>& p) {
    if (!is_of_another_store(p)) {
      return at(p);
    }
    float* copy = room(p);
    stream_.kernels().copy_to_device(copy, p.value().data(), p.value().size_bytes(), stream_.get());
    return copy;
  }
  /// The same once it is there; null for null.
  const float* value_of(const Parameter<float>* p) const {
    if (p == nullptr) {
      return nullptr;
    }
    return is_of_another_store(*p) ? others_.at(p).get() : all_.get() + offset_of(*p);
  }

  /// Where a parameter of another store is to lie.
  float* room(const Parameter<float>& p) {
    auto& copy = others_[&p];
    if (copy.get() == nullptr) {  // once: recorded work holds its address
      copy = Array<float>(stream_, p.size());
    }
    return copy.get();
  }
  /// Where one of the store lies, to be changed.
  float* at(const Parameter<float>& p) const { return all_.get() + offset_of(p); }

  bool is_of_another_store(const Parameter<float>& p) const { return offset_of(p) < 0; }
  /// Elements from the store's first to a parameter's; negative: it is of another store.
  std::int64_t offset_of(const Parameter<float>& p) const {
    const auto state = store_.memory();
    const float* at = p.memory().data();
    const bool inside = std::less_equal<>{}(state.data(), at) && std::less<>{}(at, state.data() + state.size());
    return inside ? at - state.data() : -1;
  }

 private:
  std::uint64_t current_version() const { return store_.parameters().front().version(); }

  static constexpr auto kOutdated = ~std::uint64_t{0};

  const Stream& stream_;
  ParameterStore<float>& store_;
  Array<float> all_;
  std::map<const Parameter<float>*, Array<float>> others_;
  std::uint64_t version_ = 0;
};

}  // namespace pavise::device
