// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pavise/autodiff/parameter.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/core/error.hpp"
#include "pavise/core/shape.hpp"

namespace pavise::nn {

/// What a layer is, as text that a model file keeps: a type, options, and the layers inside. spec.hpp writes and reads
/// it.
struct Spec {
  std::string name;  ///< the layer's name within its parent: "conv1"
  std::string type;  ///< "conv2d"
  std::vector<std::pair<std::string, std::string>> options;
  std::vector<Spec> children;
};

/// What a layer says of itself, so that an evaluation knows how to attack it.
struct Declaration {
  bool random = false;         ///< draws random numbers in evaluation mode: attack the expectation
  bool differentiable = true;  ///< otherwise its backward pass is a substitute
  double temperature = 1.0;    ///< of the softmax that it was trained with
  bool rejects = false;        ///< may refuse an input
  /// Says so: behind the logits it gives one more number, positive where it refuses the input.
  bool rejection_output = false;
};

/// What two layers say together: random or rejecting if one is, differentiable if both are, the higher temperature.
inline Declaration together(const Declaration& a, const Declaration& b) {
  return {.random = a.random || b.random,
          .differentiable = a.differentiable && b.differentiable,
          .temperature = a.temperature < b.temperature ? b.temperature : a.temperature,
          .rejects = a.rejects || b.rejects,
          .rejection_output = a.rejection_output || b.rejection_output};
}

/// One layer: a shape in, a shape out, named parameters, and a function of values on the tape. A layer is built once,
/// for one shape of input, and can then be applied by many threads at a time (each with its own tape) in evaluation
/// mode.
template <class T>
class Layer {
 public:
  Layer() = default;
  Layer(const Layer&) = delete;
  Layer& operator=(const Layer&) = delete;
  virtual ~Layer() = default;

  /// Checks the shape of one image, registers the parameters under `name` ("conv1" gives "conv1.weight"), and returns
  /// the shape of the output.
  virtual Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) = 0;

  /// Applies the layer. `relu`: followed by max(0, .), for layers that fuse it (see fuses_relu).
  virtual Var<T> forward(Var<T> x, bool relu) = 0;

  /// Whether forward(x, true) does the work of a ReLU that follows.
  virtual bool fuses_relu() const { return false; }
  /// Whether this layer is that ReLU.
  virtual bool is_relu() const { return false; }

  /// Applies the layer and `next`, which follows it, in one operation, where the layer can do that in this pass; else
  /// no value. `relu`: followed by max(0, .), which next fuses.
  virtual Var<T> forward_folded(Var<T>, Layer&, bool) { return {}; }

  /// Type, options and inner layers; the parent adds the name.
  virtual Spec spec() const = 0;

  virtual Declaration declaration() const { return {}; }
};

/// "conv1" + "weight" -> "conv1.weight"; a nameless parent adds nothing.
inline std::string child_name(const std::string& parent, const std::string& child) {
  return parent.empty() ? child : parent + "." + child;
}

/// What keys the random numbers of the layer `name` within its model: 0 to 65,535 (FNV-1a).
inline std::uint32_t layer_number(const std::string& name) {
  std::uint32_t hash = 2166136261U;
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
  }
  return (hash >> 16 ^ hash) & 0xFFFFU;
}

/// Applies two layers, and max(0, .) if `relu`, which the second fuses; in one operation where the first can do that.
template <class T>
Var<T> forward_pair(Layer<T>& first, Layer<T>& second, Var<T> x, bool relu) {
  const Var<T> y = first.forward_folded(x, second, relu);
  return y ? y : second.forward(first.forward(x, false), relu);
}

/// Layers applied one after another. A ReLU behind a layer that can fuse it costs nothing.
template <class T>
class Sequential : public Layer<T> {
 public:
  Sequential() = default;

  /// Appends a layer under a name of its own. Returns *this, so that calls chain.
  Sequential& add(std::string name, std::unique_ptr<Layer<T>> layer) {
    for (const auto& [other, unused] : layers_) {
      require(other != name, "sequential: there are two layers named ", name);
    }
    layers_.emplace_back(std::move(name), std::move(layer));
    return *this;
  }
  /// Appends a layer of class L, made from `arguments`: net.add<Conv2d>("conv1", 1, 16, ConvOptions{...}).
  template <template <class> class L, class... Arguments>
  Sequential& add(std::string name, Arguments&&... arguments) {
    return add(std::move(name), std::make_unique<L<T>>(std::forward<Arguments>(arguments)...));
  }

  const std::vector<std::pair<std::string, std::unique_ptr<Layer<T>>>>& layers() const { return layers_; }

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    Shape shape = in;
    shapes_.clear();
    for (auto& [child, layer] : layers_) {
      shape = layer->build(shape, store, child_name(name, child));
      shapes_.push_back(shape);
    }
    return shape;
  }
  /// The shape behind each layer, after build.
  const std::vector<Shape>& shapes() const { return shapes_; }

  Var<T> forward(Var<T> x, bool relu) override {
    const std::size_t n = layers_.size();
    // Whether a ReLU follows layer i that it can fuse.
    const auto fuses = [&](std::size_t i) {
      return (i + 1 < n ? layers_[i + 1].second->is_relu() : relu) && layers_[i].second->fuses_relu();
    };
    for (std::size_t i = 0; i < n; ++i) {
      Layer<T>& layer = *layers_[i].second;
      Var<T> y = i + 1 < n ? layer.forward_folded(x, *layers_[i + 1].second, fuses(i + 1)) : Var<T>{};
      if (y) {
        ++i;  // the next one is done
      } else {
        y = layer.forward(x, fuses(i));
      }
      x = y;
      if (fuses(i) && i + 1 < n) {
        ++i;  // the ReLU is done
      }
    }
    return x;
  }
  bool fuses_relu() const override { return !layers_.empty() && layers_.back().second->fuses_relu(); }

  /// Of all layers together.
  Declaration declaration() const override {
    Declaration all;
    for (const auto& entry : layers_) {
      all = together(all, entry.second->declaration());
    }
    return all;
  }

  Spec spec() const override {
    Spec s{.name = "", .type = "sequential", .options = {}, .children = {}};
    for (const auto& [name, layer] : layers_) {
      s.children.push_back(layer->spec());
      s.children.back().name = name;
    }
    return s;
  }

 private:
  std::vector<std::pair<std::string, std::unique_ptr<Layer<T>>>> layers_;
  std::vector<Shape> shapes_;
};

}  // namespace pavise::nn
