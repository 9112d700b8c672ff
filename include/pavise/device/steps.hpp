// SPDX-License-Identifier: MIT
// The operations of a model as a network on a device runs them.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
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

/// What a network on a device computes: a function by a model's parameters; the model itself, mostly. The model must
/// outlive it.
struct Program {
  Program(const nn::Model& model)  // NOLINT(google-explicit-constructor): a model is a program
      : name(model.name()),
        input(model.input_shape()),
        parameters(model.parameters()),
        run([&model](Var<float> x) { return model(x); }),
        temperature(model.net().declaration().temperature) {}
  Program(std::string what, Shape in, const nn::Model& model, std::function<Var<float>(Var<float>)> function)
      : name(std::move(what)), input(in), parameters(model.parameters()), run(std::move(function)) {}

  std::string name;
  Shape input;
  ParameterStore<float>& parameters;
  std::function<Var<float>(Var<float> x)> run;
  double temperature = 1;  ///< of the softmax in training
};

/// What a network on a device is for: the more, the more memory.
enum class Use {
  logits,    ///< forward passes alone
  gradient,  ///< and gradients of the input, in evaluation mode
  training,  ///< gradients of the weights, in training mode; and of the input
};

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
  bool absolute = false;      ///< of a product: by the sizes of the weights' elements
  Array<float> magnitudes{};  ///< these, and their gradient
  Array<float> magnitude_gradient{};
};

/// Whether a step draws random numbers.
inline bool draws_numbers(const Step& s) {
  using Kind = TracedOperation<float>::Kind;
  return s.op.kind == Kind::dropout || (s.op.kind == Kind::function && draws(*s.op.what));
}

/// What one pass over one image does, as far as the result depends on it, in order; `differentiable`: or its derivative
/// by the input. Throws DeviceError for an
/// operation that devices do not know, naming it.
inline std::vector<Step> trace_steps(const Program& program, Mode mode, bool differentiable, Device device) {
  Tape<float> tape;
  tape.begin(1, kernels::kLanes, mode, mode == Mode::training);
  Trace<float> trace;
  tape.set_trace(&trace);
  Var<float> x = tape.input(program.input, differentiable);
  std::fill_n(x.data(), x.size() * kernels::kLanes, 0.0f);
  const Var<float> logits = program.run(x);
  std::map<std::int32_t, std::size_t> made;
  std::map<const Parameter<float>*, Parameter<float>*> magnitudes;
  for (std::size_t i = 0; i < trace.size(); ++i) {
    made[trace[i].output] = i;
    if (trace[i].derived != nullptr) {
      magnitudes[trace[i].derived] = trace[i].weight;
    }
  }
  // Backwards from the logits: what they depend on, and in which way.
  enum class Needed { no, derivative, value };
  std::vector<Needed> needed(trace.size(), Needed::no);
  const auto need = [&](std::int32_t id, Needed how) {
    const auto found = made.find(id);
    if (found != made.end()) {
      needed[found->second] = std::max(needed[found->second], how);
    } else if (id >= 0 && id != x.id()) {
      throw DeviceError(concat(device.to_string(), ": the operation ", tape.node({&tape, id}).name, " of ",
                               program.name, " does not run there", mode == Mode::training ? " in training" : ""));
    }
  };
  need(logits.id(), Needed::value);
  require<DeviceError>(logits.id() != x.id(), "device network: ", program.name, " has no operation");
  for (std::size_t i = trace.size(); i-- > 0;) {
    if (needed[i] != Needed::no) {
      const bool substitute = trace[i].what != nullptr && std::holds_alternative<traced::Substitute>(*trace[i].what);
      need(trace[i].inputs[0], needed[i]);
      if (!substitute || differentiable) {
        need(trace[i].inputs[1], substitute ? Needed::derivative : needed[i]);
      }
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
    require<DeviceError>(!s.carrier || trace[i].kind != TracedOperation<float>::Kind::batch_norm, device.to_string(),
                         ": batch normalisation in the substitute of an operation of ", program.name,
                         " is not trained there");
    s.op = std::move(trace[i]);
    if (const auto from = magnitudes.find(s.op.weight); from != magnitudes.end()) {
      s.absolute = true;
      s.op.weight = from->second;
    }
    s.out_size = tape.node({&tape, s.op.output}).size;
    s.in_size = tape.node({&tape, s.op.inputs[0]}).size;
    s.below_weights = s.op.weight != nullptr || s.op.bias != nullptr;
    const bool constant = s.op.kind == TracedOperation<float>::Kind::unary && kernels::is_constant(s.op.function);
    for (std::size_t k = 0; k < 2; ++k) {
      const auto found = number.find(s.op.inputs[k]);
      s.input[k] = found != number.end() ? found->second : -1;
      s.below_weights = s.below_weights || (!constant && found != number.end() &&
                                            steps[static_cast<std::size_t>(found->second)].below_weights);
    }
    number[s.op.output] = static_cast<int>(steps.size());
    steps.push_back(std::move(s));
  }
  return steps;
}

/// Elements that the passes need besides values and gradients.
struct Scratch {
  std::int64_t largest = 0;                   ///< sums over images
  std::int64_t partial = 0;                   ///< their slices
  std::array<std::int64_t, 2> transformed{};  ///< of each image, around Winograd's products
};

/// Makes what a step runs by, for passes of up to `groups` groups of 32 images. second: elements of its second input.
inline void prepare(Step& s, std::int64_t second, const Stream& stream, Use use, Arithmetic arithmetic,
                    std::int64_t groups, Scratch& scratch) {
  using Kind = TracedOperation<float>::Kind;
  const auto& k = stream.kernels();
  const auto& g = s.op.geometry;
  const bool training = use == Use::training;
  switch (s.op.kind) {
    case Kind::batch_norm: {
      const std::int64_t channels = s.op.running_mean->size();
      s.norm = std::make_unique<BatchNorm>(stream, channels, s.out_size / channels);
      scratch.largest = std::max(scratch.largest, s.norm->largest());
      scratch.partial = std::max(scratch.partial, s.norm->partial(stream, groups));
      return;
    }
    case Kind::row_norm:
      s.row_norm = std::make_unique<RowNorm>(stream, s.op.rows, groups);
      for (const auto* p : {s.op.weight, s.op.bias}) {
        if (p != nullptr && training) {
          scratch.partial = std::max(scratch.partial, s.row_norm->partial(stream, p->size(), groups));
        }
      }
      return;
    case Kind::dropout:
      s.layer_number =
          Array<std::uint32_t>(stream, std::vector<std::uint32_t>(static_cast<std::size_t>(groups * 32), s.op.layer));
      return;
    case Kind::function:
      s.function = make_function(stream, *s.op.what, {s.in_size, second}, s.out_size, groups);
      return;
    case Kind::linear:
      break;
    default:
      return;
  }
  if (s.absolute) {
    s.magnitudes = Array<float>(stream, s.op.weight->size());
    s.magnitude_gradient = Array<float>(stream, training ? s.op.weight->size() : 0);
  }
  s.forward = std::make_unique<Product>(stream, s.op, s.op.transposed, arithmetic);
  if (use != Use::logits) {
    s.backward = std::make_unique<Product>(stream, s.op, !s.op.transposed, arithmetic);
  }
  for (const auto* p : {s.forward.get(), s.backward.get()}) {
    if (p != nullptr) {
      scratch.transformed[0] = std::max(scratch.transformed[0], p->scratch_in());
      scratch.transformed[1] = std::max(scratch.transformed[1], p->scratch_out());
    }
  }
  if (training) {
    const std::int64_t channels = s.op.bias != nullptr ? s.op.bias->size() : 1;
    scratch.partial = std::max({scratch.partial,
                                s.op.matrix ? k.linear_weight_gradient_scratch(g.out_channels, g.in_channels, groups)
                                            : k.conv_weight_gradient_scratch(g, groups),
                                k.bias_gradient_scratch(channels, s.out_size / channels, groups)});
  }
}

}  // namespace pavise::device
