// SPDX-License-Identifier: MIT
// Layers with weights: Conv2d and Linear.
#pragma once

#include <cstdint>
#include <string>

#include "pavise/autodiff/linear.hpp"
#include "pavise/nn/init.hpp"
#include "pavise/nn/layer.hpp"

namespace pavise::nn {

/// Convolution of (in,H,W) to (out,OH,OW); see pavise::conv2d. Parameters: weight (out, in/groups, kernel, kernel), bias (out).
template <class T>
class Conv2d : public Layer<T> {
 public:
  Conv2d(std::int64_t in, std::int64_t out, std::int64_t kernel, ConvOptions options = {}, bool bias = true,
         Init init = Init::torch)
      : in_(in), out_(out), kernel_(kernel), options_(options), with_bias_(bias), init_(init) {
    require(in >= 1 && out >= 1 && kernel >= 1, "conv2d: ", in, " input channels, ", out, " output channels, kernel ", kernel,
            ", expected 1 or more of each");
    detail::check_options("conv2d", options);
    require(in % options.groups == 0 && out % options.groups == 0, "conv2d: ", in, " input and ", out,
            " output channels are not divisible by ", options.groups, " groups");
  }

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    require<ShapeError>(in.rank() == 3 && in[0] == in_, name, ": conv2d expects (", in_, ",H,W), got ", in);
    const std::int64_t fan_in = in_ / options_.groups * kernel_ * kernel_;
    weight_ = &store.add(child_name(name, "weight"), Shape{out_, in_ / options_.groups, kernel_, kernel_},
                         weight_init<T>(init_, fan_in, out_ / options_.groups * kernel_ * kernel_));
    if (with_bias_) {
      bias_ = &store.add(child_name(name, "bias"), Shape{out_},
                         init_ == Init::torch ? weight_init<T>(init_, fan_in, 0) : constant_init<T>(0.0));
    }
    return Shape{out_, detail::conv_extent("conv2d", in[1], kernel_, options_),
                 detail::conv_extent("conv2d", in[2], kernel_, options_)};
  }
  Var<T> forward(Var<T> x, bool relu) override {
    ConvOptions options = options_;
    options.relu = relu;
    return conv2d(x, x.tape().parameter(*weight_), bias_ != nullptr ? x.tape().parameter(*bias_) : Var<T>{}, options);
  }
  bool fuses_relu() const override { return true; }
  Spec spec() const override {
    return {.name = "",
            .type = "conv2d",
            .options = {{"in", std::to_string(in_)},
                        {"out", std::to_string(out_)},
                        {"kernel", std::to_string(kernel_)},
                        {"stride", std::to_string(options_.stride)},
                        {"padding", std::to_string(options_.padding)},
                        {"dilation", std::to_string(options_.dilation)},
                        {"groups", std::to_string(options_.groups)},
                        {"bias", with_bias_ ? "1" : "0"}},
            .children = {}};
  }

 private:
  std::int64_t in_, out_, kernel_;
  ConvOptions options_;
  bool with_bias_;
  Init init_;
  Parameter<T>* weight_ = nullptr;
  Parameter<T>* bias_ = nullptr;
};

/// Fully connected layer; see pavise::linear. An input of any shape is flattened. Parameters: weight (out,in), bias (out).
template <class T>
class Linear : public Layer<T> {
 public:
  Linear(std::int64_t in, std::int64_t out, bool bias = true, Init init = Init::torch)
      : in_(in), out_(out), with_bias_(bias), init_(init) {
    require(in >= 1 && out >= 1, "linear: ", in, " inputs, ", out, " outputs, expected 1 or more of each");
  }

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    require<ShapeError>(in.numel() == in_, name, ": linear expects ", in_, " inputs, got ", in);
    weight_ = &store.add(child_name(name, "weight"), Shape{out_, in_}, weight_init<T>(init_, in_, out_));
    if (with_bias_) {
      bias_ = &store.add(child_name(name, "bias"), Shape{out_},
                         init_ == Init::torch ? weight_init<T>(init_, in_, 0) : constant_init<T>(0.0));
    }
    return Shape{out_};
  }
  Var<T> forward(Var<T> x, bool relu) override {
    return linear(x, x.tape().parameter(*weight_), bias_ != nullptr ? x.tape().parameter(*bias_) : Var<T>{}, relu);
  }
  bool fuses_relu() const override { return true; }
  Spec spec() const override {
    return {.name = "",
            .type = "linear",
            .options = {{"in", std::to_string(in_)}, {"out", std::to_string(out_)}, {"bias", with_bias_ ? "1" : "0"}},
            .children = {}};
  }

 private:
  std::int64_t in_, out_;
  bool with_bias_;
  Init init_;
  Parameter<T>* weight_ = nullptr;
  Parameter<T>* bias_ = nullptr;
};

}  // namespace pavise::nn
