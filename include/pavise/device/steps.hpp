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
#include "pavise/device/functions.hpp"
#include "pavise/device/memory.hpp"
#include "pavise/device/product.hpp"
#include "pavise/device/row_norm.hpp"
#include "pavise/nn/model.hpp"

namespace pavise::device {

/// An operation, its value and its gradient on their way through the passes.
struct Step {
  TracedOperation<float> op;
  std::array<int, 2> input{-1, -1};  ///< numbers of steps; -1: the network's input
  std::int64_t in_size = 0, out_size = 0;
  bool below_weights = false;  ///< some weight comes before it or in it
  bool carrier = false;        ///< the logits need only its derivative (Substitute)
  float* value = nullptr;
  float* room = nullptr;  ///< for its gradient
  float* gradient = nullptr;
  bool has_gradient = false, unmasked = false;
  std::unique_ptr<Product> forward{}, backward{};
  Array<float> channels{};            ///< mean, scale, shift
  std::unique_ptr<BatchNorm> norm{};  ///< in training mode
  std::unique_ptr<RowNorm> row_norm{};
  Array<std::uint32_t> layer_number{};  ///< of a dropout, in every lane
  std::unique_ptr<Function> function{};
};

/// Whether a step draws random numbers.
inline bool draws_numbers(const Step& s) {
  using Kind = TracedOperation<float>::Kind;
  return s.op.kind == Kind::dropout || (s.op.kind == Kind::function && draws(*s.op.what));
}

/// What one pass of the model over one image does, as far as the logits depend on it, in order; `differentiable`: or
/// their derivative by the input. Throws DeviceError for an
/// operation that devices do not know, naming it.
inline std::vector<Step> trace_steps(const nn::Model& model, Mode mode, bool differentiable, Device device) {
  Tape<float> tape;
  tape.begin(1, kernels::kLanes, mode, mode == Mode::training);
  Trace<float> trace;
  tape.set_trace(&trace);
  Var<float> x = tape.input(model.input_shape(), differentiable);
  std::fill_n(x.data(), x.size() * kernels::kLanes, 0.0f);
  const Var<float> logits = model(x);
  std::map<std::int32_t, std::size_t> made;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    made[trace[i].output] = i;
  }
  // Backwards from the logits: what they depend on, and in which way.
  enum class Needed { no, derivative, value };
  std::vector<Needed> needed(trace.size(), Needed::no);
  const auto need = [&](std::int32_t id, Needed how) {
    const auto found = made.find(id);
    if (found != made.end()) {
      needed[found->second] = std::max(needed[found->second], how);
    } else if (id >= 0 && id != x.id()) {
      throw DeviceError(concat(device.to_string(), ": the operation ", tape.node({&tape, id}).name, " of model ",
                               model.name(), " does not run there", mode == Mode::training ? " in training" : ""));
    }
  };
  need(logits.id(), Needed::value);
  require<DeviceError>(logits.id() != x.id(), "device network: model ", model.name(), " has no operation");
  for (std::size_t i = trace.size(); i-- > 0;) {
    if (needed[i] != Needed::no) {
      const bool substitute = trace[i].what != nullptr && std::holds_alternative<traced::Substitute>(*trace[i].what);
      need(trace[i].inputs[0], needed[i]);
      need(trace[i].inputs[1], substitute ? Needed::derivative : needed[i]);
    }
  }
  std::map<std::int32_t, int> number;
  std::vector<Step> steps;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    if (needed[i] == Needed::no) {
      continue;
    }
    Step s;
    s.carrier = needed[i] == Needed::derivative;
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
