// SPDX-License-Identifier: MIT
// The operations of a model as a network on a device runs them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "pavise/autodiff/linear.hpp"
#include "pavise/device/batch_norm.hpp"
#include "pavise/device/memory.hpp"
#include "pavise/device/product.hpp"
#include "pavise/nn/model.hpp"

namespace pavise::device {

/// An operation, its value and its gradient on their way through the passes.
struct Step {
  TracedOperation<float> op;
  std::array<int, 2> input{-1, -1};  ///< numbers of steps; -1: the network's input
  std::int64_t in_size = 0, out_size = 0;
  bool below_weights = false;  ///< some weight comes before it or in it
  float* value = nullptr;
  float* room = nullptr;  ///< for its gradient
  float* gradient = nullptr;
  bool has_gradient = false, unmasked = false;
  std::unique_ptr<Product> forward{}, backward{};
  Array<float> channels{};              ///< mean, scale, shift
  std::unique_ptr<BatchNorm> norm{};    ///< in training mode
  Array<std::uint32_t> layer_number{};  ///< of a dropout, in every lane
};

/// What one pass of the model over one image does, as far as the logits depend on it, in order. Throws DeviceError for an
/// operation that devices do not know, naming it.
inline std::vector<Step> trace_steps(const nn::Model& model, Mode mode, Device device) {
  Tape<float> tape;
  tape.begin(1, kernels::kLanes, mode, mode == Mode::training);
  Trace<float> trace;
  tape.set_trace(&trace);
  Var<float> x = tape.input(model.input_shape());
  std::fill_n(x.data(), x.size() * kernels::kLanes, 0.0f);
  const Var<float> logits = model(x);
  std::map<std::int32_t, std::size_t> made;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    made[trace[i].output] = i;
  }
  // Backwards from the logits: what they depend on.
  std::vector<bool> needed(trace.size());
  const auto need = [&](std::int32_t id) {
    const auto found = made.find(id);
    if (found != made.end()) {
      needed[found->second] = true;
    } else if (id >= 0 && id != x.id()) {
      throw DeviceError(concat(device.to_string(), ": the operation ", tape.node({&tape, id}).name, " of model ",
                               model.name(), " does not run there", mode == Mode::training ? " in training" : ""));
    }
  };
  need(logits.id());
  require<DeviceError>(logits.id() != x.id(), "device network: model ", model.name(), " has no operation");
  for (std::size_t i = trace.size(); i-- > 0;) {
    if (needed[i]) {
      need(trace[i].inputs[0]);
      need(trace[i].inputs[1]);
    }
  }
  std::map<std::int32_t, int> number;
  std::vector<Step> steps;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    if (!needed[i]) {
      continue;
    }
    Step s;
    s.op = std::move(trace[i]);
    s.out_size = tape.node({&tape, s.op.output}).size;
    s.in_size = tape.node({&tape, s.op.inputs[0]}).size;
    s.below_weights = s.op.weight != nullptr || s.op.bias != nullptr;
    for (std::size_t k = 0; k < 2; ++k) {
      const auto found = number.find(s.op.inputs[k]);
      s.input[k] = found != number.end() ? found->second : -1;
      s.below_weights =
          s.below_weights || (found != number.end() && steps[static_cast<std::size_t>(found->second)].below_weights);
    }
    number[s.op.output] = static_cast<int>(steps.size());
    steps.push_back(std::move(s));
  }
  return steps;
}

}  // namespace pavise::device
