// SPDX-License-Identifier: MIT
// What the steps of a network on a GPU take of its weights: packed products, factors of channels, weights with a
// normalisation folded in.
#pragma once

#include <cstdint>
#include <vector>

#include "pavise/device/memory.hpp"
#include "pavise/device/steps.hpp"
#include "pavise/device/weights.hpp"

namespace pavise::device {

/// Whether a step's product is by weights that are of no parameter and no normalisation: the host alone makes them.
inline bool has_foreign_weights(const Step& s, const Weights& weights) {
  return s.op.weight != nullptr && weights.is_of_another_store(*s.op.weight) && s.op.norm.mean == nullptr;
}
/// Whether something that a step takes is made by the host: then another trace of the model has it anew.
inline bool made_by_host(const Step& s, const Weights& weights) {
  return has_foreign_weights(s, weights) ||
         (s.op.kind == TracedOperation<float>::Kind::channels && s.op.norm.mean == nullptr);
}

/// Where a normalisation's parameters lie on the device.
inline kernels::cuda::RunningNorm running_norm(const NormParameters<float>& norm, const Weights& weights) {
  return {.gamma = weights.value_of(norm.gamma),
          .beta = weights.value_of(norm.beta),
          .mean = weights.value_of(norm.mean),
          .variance = weights.value_of(norm.variance),
          .epsilon = norm.epsilon};
}

/// Queues the copy of a step's factors of channels from the host, where they are made there.
inline void upload_factors(Step& s, const Stream& stream) {
  if (s.op.kind != TracedOperation<float>::Kind::channels || s.op.norm.mean != nullptr) {
    return;
  }
  std::vector<float> all;
  for (const auto* part : {&s.op.mean, &s.op.scale, &s.op.shift}) {
    all.insert(all.end(), part->begin(), part->end());
  }
  if (s.channels.size() == 0) {  // once: recorded work holds its address
    s.channels = Array<float>(stream, static_cast<std::int64_t>(all.size()));
  }
  s.channels.upload(all.data(), s.channels.size());
}

/// Queues what makes all else of a step's weights, as they lie on the device.
inline void pack(Step& s, Weights& weights, const Stream& stream) {
  using Kind = TracedOperation<float>::Kind;
  const auto& k = stream.kernels();
  if (s.op.kind == Kind::channels && s.op.norm.mean != nullptr) {
    const std::int64_t channels = s.op.norm.mean->size();
    if (s.channels.size() == 0) {
      s.channels = Array<float>(stream, 3 * channels);
    }
    k.channel_factors(stream.get(), running_norm(s.op.norm, weights), s.channels.get(), channels);
  }
  if (s.op.kind != Kind::linear) {
    return;
  }
  const float* weight = nullptr;
  if (s.op.norm.mean != nullptr) {
    float* folded = weights.room(*s.op.weight);
    const std::int64_t channels = s.op.norm.mean->size();
    k.fold_norm(stream.get(), running_norm(s.op.norm, weights), weights.value_of(s.op.unfolded_weight),
                weights.value_of(s.op.unfolded_bias), folded, weights.room(*s.op.bias), channels,
                s.op.weight->size() / channels);
    weight = folded;
  } else {
    weight = weights.put(*s.op.weight);
    if (s.op.bias != nullptr) {
      weights.put(*s.op.bias);
    }
  }
  if (s.absolute) {
    k.unary_forward(stream.get(), kernels::Unary::abs, weight, s.magnitudes.get(), s.magnitudes.size(), 0.0f, 0.0f);
    weight = s.magnitudes.get();
  }
  for (auto* p : {s.forward.get(), s.backward.get()}) {
    if (p != nullptr) {
      p->pack(weight);
    }
  }
}

}  // namespace pavise::device
