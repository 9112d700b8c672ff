// SPDX-License-Identifier: MIT
// Layers with weights: Conv2d, ConvTranspose2d and Linear.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "pavise/autodiff/linear.hpp"
#include "pavise/nn/init.hpp"
#include "pavise/nn/layer.hpp"

namespace pavise::nn {

namespace detail {

/// Sizes whose products fit in 63 bits.
inline void check_conv_sizes(const char* name, std::int64_t in, std::int64_t out, std::int64_t kernel) {
  constexpr std::int64_t kMaxChannels = std::int64_t{1} << 31;
  require(in >= 1 && in <= kMaxChannels && out >= 1 && out <= kMaxChannels && kernel >= 1 && kernel <= 32767, name,
          ": ", in, " input channels, ", out, " output channels, kernel ", kernel,
          ", expected 1 or more of each, a kernel of at most 32767");
}

}  // namespace detail

/// Convolution of (in,H,W) to (out,OH,OW); see pavise::conv2d. Parameters: weight (out, in/groups, kernel, kernel),
/// bias (out).
template <class T>
class Conv2d : public Layer<T> {
 public:
  Conv2d(std::int64_t in, std::int64_t out, std::int64_t kernel, ConvOptions options = {}, bool bias = true,
         Init init = Init::torch)
      : in_(in), out_(out), kernel_(kernel), options_(options), with_bias_(bias), init_(init) {
    detail::check_conv_sizes("conv2d", in, out, kernel);
    pavise::detail::check_options("conv2d", options);
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
    return Shape{out_, pavise::detail::conv_extent("conv2d", in[1], kernel_, options_),
                 pavise::detail::conv_extent("conv2d", in[2], kernel_, options_)};
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
                        {"bias", with_bias_ ? "1" : "0"},
                        {"init", init_name(init_)}},
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

/// Transposed convolution of (in,H,W) to (out,OH,OW); see pavise::conv_transpose2d. Parameters: weight (in, out/groups,
/// kernel, kernel), bias (out).
template <class T>
class ConvTranspose2d : public Layer<T> {
 public:
  ConvTranspose2d(std::int64_t in, std::int64_t out, std::int64_t kernel, ConvOptions options = {}, bool bias = true,
                  Init init = Init::torch)
      : in_(in), out_(out), kernel_(kernel), options_(options), with_bias_(bias), init_(init) {
    detail::check_conv_sizes("conv_transpose2d", in, out, kernel);
    pavise::detail::check_options("conv_transpose2d", options);
    require(in % options.groups == 0 && out % options.groups == 0, "conv_transpose2d: ", in, " input and ", out,
            " output channels are not divisible by ", options.groups, " groups");
    require(options.output_padding < std::max(options.stride, options.dilation), "conv_transpose2d: output padding ",
            options.output_padding, ", expected less than the stride or the dilation");
  }

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    require<ShapeError>(in.rank() == 3 && in[0] == in_, name, ": conv_transpose2d expects (", in_, ",H,W), got ", in);
    const std::int64_t fan = out_ / options_.groups * kernel_ * kernel_;  // PyTorch takes its fan-in from axis 1
    weight_ = &store.add(child_name(name, "weight"), Shape{in_, out_ / options_.groups, kernel_, kernel_},
                         weight_init<T>(init_, fan, in_ / options_.groups * kernel_ * kernel_));
    if (with_bias_) {
      bias_ = &store.add(child_name(name, "bias"), Shape{out_},
                         init_ == Init::torch ? weight_init<T>(init_, fan, 0) : constant_init<T>(0.0));
    }
    constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;
    require<ShapeError>(in[1] <= kMaxExtent && in[2] <= kMaxExtent, name, ": conv_transpose2d cannot take ", in);
    const auto extent = [&](std::int64_t n) {
      return (n - 1) * options_.stride - 2 * options_.padding + options_.dilation * (kernel_ - 1) +
             options_.output_padding + 1;
    };
    require<ShapeError>(extent(in[1]) >= 1 && extent(in[2]) >= 1, name, ": conv_transpose2d leaves no output of ", in);
    return Shape{out_, extent(in[1]), extent(in[2])};
  }
  Var<T> forward(Var<T> x, bool relu) override {
    ConvOptions options = options_;
    options.relu = relu;
    return conv_transpose2d(x, x.tape().parameter(*weight_), bias_ != nullptr ? x.tape().parameter(*bias_) : Var<T>{},
                            options);
  }
  bool fuses_relu() const override { return true; }
  Spec spec() const override {
    return {.name = "",
            .type = "conv_transpose2d",
            .options = {{"in", std::to_string(in_)},
                        {"out", std::to_string(out_)},
                        {"kernel", std::to_string(kernel_)},
                        {"stride", std::to_string(options_.stride)},
                        {"padding", std::to_string(options_.padding)},
                        {"dilation", std::to_string(options_.dilation)},
                        {"groups", std::to_string(options_.groups)},
                        {"output_padding", std::to_string(options_.output_padding)},
                        {"bias", with_bias_ ? "1" : "0"},
                        {"init", init_name(init_)}},
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

/// Fully connected layer; see pavise::linear. An input of any shape is flattened. Parameters: weight (out,in), bias
/// (out).
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
            .options = {{"in", std::to_string(in_)},
                        {"out", std::to_string(out_)},
                        {"bias", with_bias_ ? "1" : "0"},
                        {"init", init_name(init_)}},
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
