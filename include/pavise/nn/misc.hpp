// SPDX-License-Identifier: MIT
// Layers without weights that are neither activations nor pooling: Flatten, Dropout.
#pragma once

#include <cstdint>
#include <string>

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
    std::uint32_t hash = 2166136261U;  // FNV-1a
    for (const char c : name) {
      hash = (hash ^ static_cast<unsigned char>(c)) * 16777619U;
    }
    layer_ = (hash >> 16 ^ hash) & 0xFFFFU;
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

}  // namespace pavise::nn
