// SPDX-License-Identifier: MIT
// Activation layers. A ReLU behind a layer that can fuse it is never called.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/autodiff/elementwise.hpp"
#include "pavise/nn/layer.hpp"

namespace pavise::nn {

/// The base of layers that keep the shape and have no parameters.
template <class T>
class Activation : public Layer<T> {
 public:
  Shape build(const Shape& in, ParameterStore<T>&, const std::string&) override { return in; }
  Spec spec() const override { return {.name = "", .type = std::string(type_), .options = options_, .children = {}}; }

 protected:
  explicit Activation(std::string_view type, std::vector<std::pair<std::string, std::string>> options = {})
      : type_(type), options_(std::move(options)) {}

 private:
  std::string_view type_;
  std::vector<std::pair<std::string, std::string>> options_;
};

/// max(0, x)
template <class T>
class ReLU : public Activation<T> {
 public:
  ReLU() : Activation<T>("relu") {}
  Var<T> forward(Var<T> x, bool) override { return pavise::relu(x); }
  bool is_relu() const override { return true; }
};

/// x where it is positive, slope*x elsewhere.
template <class T>
class LeakyReLU : public Activation<T> {
 public:
  explicit LeakyReLU(double slope = 0.01) : Activation<T>("leaky_relu", {{"slope", concat(slope)}}), slope_(slope) {}
  Var<T> forward(Var<T> x, bool) override { return pavise::leaky_relu(x, static_cast<T>(slope_)); }

 private:
  double slope_;
};

/// x where it is positive, alpha*(e^x - 1) elsewhere (Clevert et al. 2016).
template <class T>
class ELU : public Activation<T> {
 public:
  explicit ELU(double alpha = 1.0) : Activation<T>("elu", {{"alpha", concat(alpha)}}), alpha_(alpha) {}
  Var<T> forward(Var<T> x, bool) override { return pavise::elu(x, static_cast<T>(alpha_)); }

 private:
  double alpha_;
};

/// x * Phi(x), with the exact normal distribution function (Hendrycks and Gimpel 2016).
template <class T>
class GELU : public Activation<T> {
 public:
  GELU() : Activation<T>("gelu") {}
  Var<T> forward(Var<T> x, bool) override { return pavise::gelu(x); }
};

/// x / (1 + e^-x)
template <class T>
class SiLU : public Activation<T> {
 public:
  SiLU() : Activation<T>("silu") {}
  Var<T> forward(Var<T> x, bool) override { return pavise::silu(x); }
};

/// 1 / (1 + e^-x)
template <class T>
class Sigmoid : public Activation<T> {
 public:
  Sigmoid() : Activation<T>("sigmoid") {}
  Var<T> forward(Var<T> x, bool) override { return pavise::sigmoid(x); }
};

/// The hyperbolic tangent.
template <class T>
class Tanh : public Activation<T> {
 public:
  Tanh() : Activation<T>("tanh") {}
  Var<T> forward(Var<T> x, bool) override { return pavise::tanh(x); }
};

/// log(1 + e^x)
template <class T>
class Softplus : public Activation<T> {
 public:
  Softplus() : Activation<T>("softplus") {}
  Var<T> forward(Var<T> x, bool) override { return pavise::softplus(x); }
};

}  // namespace pavise::nn
