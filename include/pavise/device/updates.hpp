// SPDX-License-Identifier: MIT
// Updates of a model's weights on the GPU that trains it. Gradients, weights and the optimizer's state stay there; the
// host has them fetched when it reads them (ParameterHolder, optim::RemoteUpdates).
#pragma once

#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>
#include <variant>
#include <vector>

#include "pavise/autodiff/parameter.hpp"
#include "pavise/device/memory.hpp"
#include "pavise/device/network.hpp"
#include "pavise/optim/optimizer.hpp"

namespace pavise::device {

/// What is where: the gradients are on the device as long as nobody on the host has asked for them since they were zeroed,
/// the weights and the optimizer's state from an update there until somebody on the host asks. Thread-safe by `mutex`,
/// which whoever works on the network holds.
class Updates : public ParameterHolder, public optim::RemoteUpdates<float> {
 public:
  /// Of a network for training and an optimizer of its model, which outlive it.
  Updates(Network& network, std::recursive_mutex& mutex, optim::Optimizer<float>& optimizer)
      : network_(network),
        stream_(network.stream()),
        mutex_(mutex),
        store_(network.program().parameters),
        optimizer_(optimizer),
        gradients_(stream_, network.gradients().size()) {
    require(store_.holder() == nullptr, stream_.device().to_string(), ": ", network.program().name,
            " is trained on another device already");
    require(&optimizer.store() == &store_, stream_.device().to_string(), ": an optimizer of another model than ",
            network.program().name);
    for (const auto& part : optimizer.state()) {
      state_.push_back({part.values, Array<float>(stream_, static_cast<std::int64_t>(part.values.size()))});
    }
    network.weights().set_outdated();  // running statistics may have moved on the host alone
    store_.set_holder(this);
    optimizer_.set_remote(this);
  }
  ~Updates() override {
    try {
      fetch_values();
      fetch_gradients();
      fetch_state();
    } catch (const DeviceError&) {  // whoever queued the work has been told
    }
    store_.set_values_fetched();
    store_.set_gradients_fetched();
    store_.set_holder(nullptr);
    optimizer_.set_remote(nullptr);
  }

  /// Queues the addition of a network's gradients to those here, and returns true; false: those of the host are in use,
  /// and they have to be added there.
  bool add(const Network& from) {
    if (store_.gradients_used()) {
      return false;
    }
    const auto& k = stream_.kernels();
    if (!store_.gradients_held()) {
      k.fill_bytes(gradients_.get(), 0, static_cast<std::size_t>(gradients_.size()) * sizeof(float), stream_.get());
    }
    k.add_values(stream_.get(), gradients_.get(), from.gradients().get(), gradients_.get(), gradients_.size(), false);
    store_.set_gradients_held();
    return true;
  }
  /// Queues on the device what Network::update_running_statistics does on the host, after a pass.
  void move_running_statistics() {
    if (network_.move_running_statistics()) {
      store_.set_values_held();
      network_.weights().set_current();  // the weights have not changed
    }
  }

  /// On the device where all of the gradient is there and the weights are the model's: not where the host clipped it, or
  /// has added a share of its own (IBP), or changed the weights behind the pass.
  bool update(const optim::UpdateNumbers<float>& numbers) override {
    const std::lock_guard lock(mutex_);
    if (!store_.gradients_held() || !network_.weights().current()) {
      return false;
    }
    stream_.use();
    if (!state_held_) {
      for (const State& s : state_) {
        s.here.upload(s.host.data(), s.here.size());
      }
      state_held_ = true;
    }
    const auto& k = stream_.kernels();
    float* values = network_.weights().all().get();  // trained ones first
    const std::int64_t n = gradients_.size();
    if (const auto* s = std::get_if<optim::SgdNumbers<float>>(&numbers)) {
      k.sgd_update(stream_.get(), values, gradients_.get(), state_.empty() ? nullptr : state_[0].here.get(), n,
                   {s->rate, s->momentum, s->decay, s->scale, s->nesterov});
    } else {
      const auto& a = std::get<optim::AdamNumbers<float>>(numbers);
      k.adam_update(stream_.get(), values, gradients_.get(), state_[0].here.get(), state_[1].here.get(), n,
                    {a.rate, a.root, a.share1, a.share2, a.epsilon, a.decay, a.keep, a.scale});
    }
    store_.set_values_held();
    network_.repack();
    return true;
  }

  void fetch_values() override {
    const std::lock_guard lock(mutex_);
    if (store_.values_held()) {
      fetch(network_.weights().all(), store_.memory().data());
      store_.set_values_fetched();
    }
  }
  void fetch_gradients() override {
    const std::lock_guard lock(mutex_);
    if (store_.gradients_held()) {
      fetch(gradients_, store_.gradient_memory().data());
      store_.set_gradients_fetched();
    }
  }
  void fetch_state() override {
    const std::lock_guard lock(mutex_);
    if (state_held_) {
      for (const State& s : state_) {
        fetch(s.here, s.host.data());
      }
      state_held_ = false;
    }
  }

 private:
  /// An array of the optimizer.
  struct State {
    std::span<float> host;
    Array<float> here;
  };

  /// Whoever reads a weight has the device that he had.
  void fetch(const Array<float>& from, float* to) const {
    const auto& k = stream_.kernels();
    const int device = k.current_device();
    stream_.use();
    from.download(to, from.size());
    stream_.finish();
    k.set_device(device);
  }

  Network& network_;
  const Stream& stream_;
  std::recursive_mutex& mutex_;
  ParameterStore<float>& store_;
  optim::Optimizer<float>& optimizer_;
  Array<float> gradients_;
  std::vector<State> state_;
  bool state_held_ = false;  ///< it is newer than the optimizer's own
};

}  // namespace pavise::device
