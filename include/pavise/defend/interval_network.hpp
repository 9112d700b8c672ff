// SPDX-License-Identifier: MIT
// Bounds of a network's values on the tape, so that they can be trained: intervals, and CROWN's backward substitution
// through them. In plain arithmetic: what holds, rounding included, is said by pavise/certify/propagation.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pavise/autodiff/absolute.hpp"
#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/linear.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/autodiff/matmul.hpp"
#include "pavise/autodiff/reduce.hpp"
#include "pavise/autodiff/shape_ops.hpp"
#include "pavise/nn/model.hpp"
#include "pavise/nn/registry.hpp"

namespace pavise::defend {

/// Lower and upper bounds of a value.
template <class T>
struct Interval {
  Var<T> low, high;
};

/// A model of convolutions, fully connected layers, ReLU, pooling and dropout, the last layer fully connected. The model
/// must outlive it. One pass at a time:
///
///   auto bounds = network.propagate({low, high});             // of the pixels
///   auto margins = network.margins(bounds, labels);           // lower bounds of z[label] - z[j], (classes)
///   auto tighter = network.crown_margins(bounds, network.differences(tape, labels));
template <class T>
class IntervalNetwork {
 public:
  /// The intervals in front of each layer.
  using Trace = std::vector<Interval<T>>;

  /// Throws ValueError naming the layer that has no bounds; with `backward`, one that CROWN cannot go back through.
  IntervalNetwork(const char* name, const nn::BasicModel<T>& model, bool backward) : model_(model) {
    add_layers(name, model.net(), "", model.input_shape());
    require(!layers_.empty() && layers_.back().kind == Kind::linear, name, ": model ", model.name(),
            " ends with another layer than linear");
    if (!backward) {
      return;
    }
    for (first_ = 0; !layers_[first_].affine(); ++first_) {  // bounds begin behind what only moves the pixels
    }
    for (std::size_t k = first_; k < layers_.size(); ++k) {
      const Layer& layer = layers_[k];
      require(layer.kind != Kind::monotone, name, ": layer ", layer.name, " (", layer.type, ") of model ", model.name(),
              " has no linear bounds for training; ibp takes it");
    }
  }

  /// The intervals of all values but the logits. pixels: (C,H,W), both ends.
  Trace propagate(Interval<T> pixels) {
    Trace trace{pixels};
    for (std::size_t k = 0; k + 1 < layers_.size(); ++k) {
      trace.push_back(forward(layers_[k], trace.back()));
    }
    return trace;
  }

  /// The shape of the last layer's input.
  Shape last_input() const { return Shape{layers_.back().weight->shape()[1]}; }

  /// Lower bounds (classes) of z[label] - z[j], by the intervals of the last layer's input (Gowal et al. 2019, section
  /// 3, "elision of the last layer"); 0 at the label.
  Var<T> margins(const Trace& trace, const std::int32_t* labels) {
    const Layer& last = layers_.back();
    const Specification s = specify(trace, labels);
    Tape<T>& tape = s.one_hot.tape();
    const auto [middle, radius] = middle_and_radius(trace.back());
    const Var<T> z = linear(middle, tape.parameter(*last.weight), bias(tape, last));
    const Var<T> spread = matmul(abs(s.rows), reshape(radius, Shape{radius.size(), 1}));
    return sum(s.one_hot * z) - z - reshape(spread, z.shape());
  }

  /// The functions z[label] - z[j] of the logits, (classes,classes): row j is 1 at the label, less 1 at j. Data: each image
  /// has its own.
  Var<T> differences(Tape<T>& tape, const std::int32_t* labels) const {
    const std::int64_t classes = layers_.back().weight->shape()[0];
    const std::int32_t* own = pavise::detail::own_labels("margins", tape, labels, classes);
    Var<T> rows = tape.input(Shape{classes, classes});
    for (std::int64_t g = 0; g < tape.groups(); ++g) {
      for (std::int64_t i = 0; i < rows.size() * tape.lanes(); ++i) {
        const std::int64_t j = i / tape.lanes() / classes;
        const std::int64_t k = i / tape.lanes() % classes;
        rows.data(g)[i] = T(own[g * tape.lanes() + i % tape.lanes()] == k ? 1 : 0) - T(j == k ? 1 : 0);
      }
    }
    return rows;
  }

  /// Lower bounds (N) of linear functions of the logits, the rows (N,classes), such as `differences`, by CROWN's backward
  /// substitution through the intervals (CROWN-IBP, Zhang et al., "Towards stable and efficient training of verifiably
  /// robust neural networks", ICLR 2020).
  Var<T> crown_margins(const Trace& trace, Var<T> functions) {
    const Layer& last = layers_.back();
    Tape<T>& tape = functions.tape();
    std::vector<Relaxation> relaxations(layers_.size());
    for (std::size_t k = first_; k < layers_.size(); ++k) {
      if (layers_[k].kind == Kind::relu) {
        relaxations[k] = relax(trace[k]);
      }
    }
    const auto [middle, radius] = middle_and_radius(trace[first_]);
    const Var<T> weight = tape.parameter(*last.weight);
    Var<T> all;
    for (std::int64_t j = 0; j < functions.shape()[0]; ++j) {
      const Var<T> function = slice(functions, 0, j, j + 1);
      Var<T> a = reshape(linear_transpose(function, weight), trace.back().low.shape());
      Var<T> constant;
      if (last.bias != nullptr) {
        constant = inner_product(function, tape.parameter(*last.bias));
      }
      const auto add_constant = [&](Var<T> term) { constant = constant ? constant + term : term; };
      for (std::size_t k = layers_.size() - 1; k-- > first_;) {
        const Layer& layer = layers_[k];
        if (layer.kind == Kind::relu) {
          const Relaxation& r = relaxations[k];
          const Var<T> negative = relu(-a);
          add_constant(-total(negative * r.intercept));
          a = relu(a) * r.lower - negative * r.upper;
        } else if (layer.affine()) {
          if (layer.bias != nullptr) {
            add_constant(inner_product(layer.kind == Kind::conv ? sum(a, {1, 2}) : a, tape.parameter(*layer.bias)));
          }
          const Var<T> w = tape.parameter(*layer.weight);
          a = layer.kind == Kind::conv ? conv_transpose2d(a, w, {}, layer.options) : linear_transpose(a, w);
        }
        a = reshape(a, trace[k].low.shape());
      }
      const Var<T> spread = abs(a) * radius;  // first, whatever the compiler prefers
      add_constant(total(a * middle - spread));
      all = all ? concat(all, constant, 0) : constant;
    }
    return all;
  }

 private:
  enum class Kind { conv, linear, relu, flatten, monotone };
  struct Layer {
    Kind kind;
    std::string name, type;
    nn::Layer<T>* layer;
    Parameter<T>* weight = nullptr;
    Parameter<T>* bias = nullptr;
    ConvOptions options = {};  ///< with the output padding that the transposed convolution needs
    bool affine() const { return kind == Kind::conv || kind == Kind::linear; }
  };
  struct Relaxation {
    Var<T> lower, upper, intercept;
  };
  /// The functions z[label] - z[j] of the last layer's input, but for their constants.
  struct Specification {
    Var<T> one_hot;  ///< (classes)
    Var<T> rows;     ///< (classes, inputs)
  };

  void add_layers(const char* name, const nn::Sequential<T>& net, const std::string& prefix, Shape in) {
    for (std::size_t i = 0; i < net.layers().size(); ++i) {
      const auto& [child, layer] = net.layers()[i];
      const Shape out = net.shapes()[i];
      const std::string full = nn::child_name(prefix, child);
      if (const auto* inner = dynamic_cast<const nn::Sequential<T>*>(layer.get())) {
        add_layers(name, *inner, full, in);
      } else {
        add_layer(name, *layer, full, in, out);
      }
      in = out;
    }
  }

  void add_layer(const char* name, nn::Layer<T>& layer, const std::string& full, const Shape& in, const Shape& out) {
    const nn::Spec spec = layer.spec();
    nn::SpecReader options(spec);
    const std::string& type = spec.type;
    Layer l{.kind = Kind::monotone, .name = full, .type = type, .layer = &layer};
    if (type == "conv2d" || type == "linear") {
      l.kind = type == "conv2d" ? Kind::conv : Kind::linear;
      l.weight = &model_.parameters()[nn::child_name(full, "weight")];
      l.bias = options.flag("bias", true) ? &model_.parameters()[nn::child_name(full, "bias")] : nullptr;
      if (l.kind == Kind::conv) {
        ConvOptions& o = l.options = nn::detail::conv_options(options);
        const Shape& w = l.weight->shape();
        o.output_padding = in[1] - ((out[1] - 1) * o.stride - 2 * o.padding + o.dilation * (w[2] - 1) + 1);
      }
    } else if (type == "relu") {
      l.kind = Kind::relu;
    } else if (type == "flatten") {
      l.kind = Kind::flatten;
    } else {
      const bool monotone = type == "max_pool2d" || type == "avg_pool2d" || type == "global_max_pool" ||
                            type == "global_avg_pool" || type == "normalize" || type == "dropout";
      require(monotone, name, ": layer ", full, " (", type, ") of model ", model_.name(),
              " has no interval bounds for training, expected conv2d, linear, relu, flatten, pooling, normalize or "
              "dropout");
    }
    layers_.push_back(std::move(l));
  }

  static Var<T> bias(Tape<T>& tape, const Layer& layer) {
    return layer.bias != nullptr ? tape.parameter(*layer.bias) : Var<T>{};
  }

  static std::pair<Var<T>, Var<T>> middle_and_radius(const Interval<T>& x) {
    return {(x.low + x.high) * T(0.5), (x.high - x.low) * T(0.5)};
  }

  Interval<T> forward(const Layer& layer, const Interval<T>& x) {
    if (!layer.affine()) {  // none of them falls in its argument
      return {layer.layer->forward(x.low, false), layer.layer->forward(x.high, false)};
    }
    Tape<T>& tape = x.low.tape();
    const auto [middle, radius] = middle_and_radius(x);
    const Var<T> w = tape.parameter(*layer.weight);
    const Var<T> magnitude = absolute_(tape, *layer.weight);
    ConvOptions options = layer.options;
    options.output_padding = 0;
    const bool conv = layer.kind == Kind::conv;
    const Var<T> y = conv ? conv2d(middle, w, bias(tape, layer), options) : linear(middle, w, bias(tape, layer));
    const Var<T> r = conv ? conv2d(radius, magnitude, {}, options) : linear(radius, magnitude, {});
    return {y - r, y + r};
  }

  Specification specify(const Trace& trace, const std::int32_t* labels) {
    const Layer& last = layers_.back();
    Tape<T>& tape = trace.back().low.tape();
    const std::int64_t classes = last.weight->shape()[0];
    const std::int32_t* own = pavise::detail::own_labels("margins", tape, labels, classes);
    Var<T> one_hot = tape.input(Shape{classes});
    for (std::int64_t g = 0; g < tape.groups(); ++g) {
      for (std::int64_t i = 0; i < classes * tape.lanes(); ++i) {
        one_hot.data(g)[i] = own[g * tape.lanes() + i % tape.lanes()] == i / tape.lanes() ? T{1} : T{0};
      }
    }
    const Var<T> w = tape.parameter(*last.weight);
    return {one_hot, matmul(reshape(one_hot, Shape{1, classes}), w) - w};
  }

  /// The sum of all elements, (1): of each channel's first.
  static Var<T> total(Var<T> x) {
    const Var<T> parts = x.shape().rank() == 3 ? sum(x, {1, 2}) : x;
    return sum(parts, {0}, true);
  }

  /// max(0,x) between 0 or x (the closer to it on the whole, a constant choice) and the line through both ends.
  static Relaxation relax(const Interval<T>& x) {
    const Var<T> below = relu(-x.low);
    const Var<T> above = relu(x.high);
    const Var<T> upper = above / (above + below + T(1e-12));
    return {step(x.low + x.high), upper, upper * below};
  }

  const nn::BasicModel<T>& model_;
  std::vector<Layer> layers_;
  std::size_t first_ = 0;  ///< the first affine layer
  AbsoluteWeights<T> absolute_;
};

}  // namespace pavise::defend
