// SPDX-License-Identifier: MIT
// Backward pass differentiable approximation (Athalye, Carlini and Wagner 2018, "Obfuscated gradients give a false sense
// of security", section 4.1): a function that has no useful derivative is computed as it is, and differentiated as if it
// were another one.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <string>
#include <utility>

#include "pavise/attack/classifier.hpp"
#include "pavise/autodiff/substitute.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/nn/layer.hpp"

namespace pavise::attack {

using pavise::with_gradient_of;

/// A layer that is computed as g(x) and differentiated as substitute(x); without a substitute as x itself, for functions
/// that stay close to it (quantisers, JPEG, median filters). It declares that it is not differentiable, so that an
/// evaluation does not rely on its gradients alone.
///
///     net->add("bits", std::make_unique<attack::Bpda<float>>("four-bits", quantise));
///
/// g and the substitute are functions on the tape; g may be a `pointwise` operation whose backward does nothing. The
/// substitute must have g's output shape. Model files can hold it where a registry knows its name as a type.
template <class T>
class Bpda : public nn::Layer<T> {
 public:
  using Function = std::function<Var<T>(Var<T>)>;

  Bpda(std::string name, Function g, Function substitute = {})
      : name_(std::move(name)), g_(std::move(g)), substitute_(std::move(substitute)) {
    require(static_cast<bool>(g_), "bpda ", name_, ": no function, expected one on the tape");
  }

  Shape build(const Shape& in, ParameterStore<T>&, const std::string&) override {
    Tape<T> tape;  // the shape behind it is g's, seen on zeros
    tape.begin(1);
    Var<T> x = tape.input(in);
    std::fill_n(x.data(), in.numel() * tape.lanes(), T{0});
    const Shape out = g_(x).shape();
    const Shape behind = substitute_ ? substitute_(x).shape() : in;
    require<ShapeError>(out == behind, "bpda ", name_, ": the function gives ", out, ", its substitute ", behind,
                        ", expected equal shapes");
    return out;
  }

  Var<T> forward(Var<T> x, bool) override { return with_gradient_of(g_(x), substitute_ ? substitute_(x) : x); }

  nn::Spec spec() const override { return {.name = "", .type = name_, .options = {}, .children = {}}; }

  nn::Declaration declaration() const override {
    nn::Declaration d;
    d.differentiable = false;
    return d;
  }

 private:
  std::string name_;
  Function g_;
  Function substitute_;
};

/// `model` behind a filter of its input that has no useful derivative: logits of g(x), differentiated as if g were
/// `substitute` (the identity where there is none).
inline Classifier bpda(const Classifier& model, std::string name, std::function<Var<float>(Var<float>)> g,
                       std::function<Var<float>(Var<float>)> substitute = {}) {
  nn::Declaration declaration = model.declaration();
  declaration.differentiable = false;
  auto logits = [model, g = std::move(g), substitute = std::move(substitute)](Var<float> x) {
    return model(with_gradient_of(g(x), substitute ? substitute(x) : x));
  };
  return {std::move(name), model.input_shape(), model.classes(), std::move(logits), declaration};
}

}  // namespace pavise::attack
