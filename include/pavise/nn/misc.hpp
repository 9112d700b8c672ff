// SPDX-License-Identifier: MIT
// Layers without weights that are neither activations nor pooling: Flatten, Dropout, Temperature.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/dropout.hpp"
#include "pavise/autodiff/shape_ops.hpp"
#include "pavise/nn/layer.hpp"

namespace pavise::nn {

/// (C,H,W) to (C*H*W), in row-major order, as PyTorch's, at no cost. Linear does this by itself.
template <class T>
class Flatten : public Layer<T> {
 public:
  Shape build(const Shape& in, ParameterStore<T>&, const std::string&) override { return Shape{in.numel()}; }
  Var<T> forward(Var<T> x, bool) override { return reshape(x, Shape{x.size()}); }
  Spec spec() const override { return {.name = "", .type = "flatten", .options = {}, .children = {}}; }
};

/// Dropout in training passes, nothing in evaluation; see pavise::dropout. Its random numbers are keyed by the layer's
/// name.
template <class T>
class Dropout : public Layer<T> {
 public:
  explicit Dropout(double rate = 0.5) : rate_(rate) {
    require(rate >= 0 && rate < 1, "dropout: rate ", rate, ", expected 0 or more and less than 1");
  }
  Shape build(const Shape& in, ParameterStore<T>&, const std::string& name) override {
    layer_ = layer_number(name);
    return in;
  }
  Var<T> forward(Var<T> x, bool) override { return dropout(x, rate_, layer_); }
  Spec spec() const override {
    return {.name = "", .type = "dropout", .options = {{"rate", concat(rate_)}}, .children = {}};
  }

 private:
  double rate_;
  std::uint32_t layer_ = 0;
};

/// The temperature of the softmax that follows: logits over T in training passes, the logits themselves in evaluation,
/// as defensive distillation trains at T and deploys at 1 (Papernot et al. 2016). It declares T, so that an evaluation
/// knows that the logits are some T times larger than cross-entropy can bear in float.
template <class T>
class Temperature : public Layer<T> {
 public:
  explicit Temperature(double temperature) : temperature_(temperature) {
    require(std::isfinite(temperature) && temperature > 0, "temperature ", temperature, ", expected more than 0");
  }
  Shape build(const Shape& in, ParameterStore<T>&, const std::string&) override { return in; }
  Var<T> forward(Var<T> x, bool) override {
    return x.tape().mode() == Mode::training ? x / static_cast<T>(temperature_) : x;
  }
  Declaration declaration() const override { return {.temperature = temperature_}; }
  Spec spec() const override {
    return {.name = "", .type = "temperature", .options = {{"temperature", concat(temperature_)}}, .children = {}};
  }

 private:
  double temperature_;
};

}  // namespace pavise::nn
