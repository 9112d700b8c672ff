// SPDX-License-Identifier: MIT
// Layers with weights: Conv2d, ConvTranspose2d and Linear.
#pragma once

#include <algorithm>
#include <cstdint>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "pavise/autodiff/linear.hpp"
#include "pavise/nn/fold.hpp"
#include "pavise/nn/init.hpp"
#include "pavise/nn/layer.hpp"
#include "pavise/nn/norm.hpp"

namespace pavise::nn {

namespace detail {

/// What layers with weights share: a weight, a bias where there is one, how both begin, and what a spec says of them.
template <class T>
class WeightLayer : public Layer<T> {
 public:
  bool fuses_relu() const override { return true; }

 protected:
  WeightLayer(const char* type, std::int64_t in, std::int64_t out, bool bias, Init init)
      : type_(type), in_(in), out_(out), with_bias_(bias), init_(init) {}

  /// Registers `name`.weight and `name`.bias (out); `fan_in` and `fan_out` are those of the weight.
  void add_weights(ParameterStore<T>& store, const std::string& name, const Shape& weight, std::int64_t fan_in,
                   std::int64_t fan_out) {
    weight_ = &store.add(child_name(name, "weight"), weight, weight_init<T>(init_, fan_in, fan_out));
    if (with_bias_) {
      bias_ = &store.add(child_name(name, "bias"), Shape{out_},
                         init_ == Init::torch ? weight_init<T>(init_, fan_in, 0) : constant_init<T>(0.0));
    }
  }
  Var<T> weight(Var<T> x) const { return x.tape().parameter(*weight_); }
  Var<T> bias(Var<T> x) const { return bias_ != nullptr ? x.tape().parameter(*bias_) : Var<T>{}; }

  /// in and out, what the layer alone has, bias and init.
  Spec spec_with(std::vector<std::pair<std::string, std::string>> own) const {
    Spec s{.name = "",
           .type = type_,
           .options = {{"in", std::to_string(in_)}, {"out", std::to_string(out_)}},
           .children = {}};
    std::move(own.begin(), own.end(), std::back_inserter(s.options));
    s.options.emplace_back("bias", with_bias_ ? "1" : "0");
    s.options.emplace_back("init", init_name(init_));
    return s;
  }

  const char* type_;
  std::int64_t in_, out_;

  Parameter<T>* weight_ = nullptr;
  Parameter<T>* bias_ = nullptr;

 private:
  bool with_bias_;
  Init init_;
};

/// What both convolutions share beyond that.
template <class T>
class ConvLayer : public WeightLayer<T> {
 protected:
  ConvLayer(const char* type, std::int64_t in, std::int64_t out, std::int64_t kernel, ConvOptions options, bool bias,
            Init init)
      : WeightLayer<T>(type, in, out, bias, init), kernel_(kernel), options_(options) {
    constexpr std::int64_t kMaxChannels = std::int64_t{1} << 31;  // so that products of sizes fit in 63 bits
    require(in >= 1 && in <= kMaxChannels && out >= 1 && out <= kMaxChannels && kernel >= 1 && kernel <= 32767, type,
            ": ", in, " input channels, ", out, " output channels, kernel ", kernel,
            ", expected 1 or more of each, a kernel of at most 32767");
    pavise::detail::check_options(type, options);
    require(in % options.groups == 0 && out % options.groups == 0, type, ": ", in, " input and ", out,
            " output channels are not divisible by ", options.groups, " groups");
  }

  void check_input(const Shape& in, const std::string& name) const {
    require<ShapeError>(in.rank() == 3 && in[0] == this->in_, name, ": ", this->type_, " expects (", this->in_,
                        ",H,W), got ", in);
  }
  /// Registers a weight (from, to/groups, kernel, kernel). PyTorch takes its fan-in from axis 1, whichever way the
  /// layer goes.
  void add_kernels(ParameterStore<T>& store, const std::string& name, std::int64_t from, std::int64_t to) {
    const std::int64_t area = kernel_ * kernel_;
    this->add_weights(store, name, Shape{from, to / options_.groups, kernel_, kernel_}, to / options_.groups * area,
                      from / options_.groups * area);
  }
  ConvOptions options(bool relu) const {
    ConvOptions o = options_;
    o.relu = relu;
    return o;
  }
  std::vector<std::pair<std::string, std::string>> conv_spec() const {
    return {{"kernel", std::to_string(kernel_)},
            {"stride", std::to_string(options_.stride)},
            {"padding", std::to_string(options_.padding)},
            {"dilation", std::to_string(options_.dilation)},
            {"groups", std::to_string(options_.groups)}};
  }

  std::int64_t kernel_;
  ConvOptions options_;
};

}  // namespace detail

/// Convolution of (in,H,W) to (out,OH,OW); see pavise::conv2d. Parameters: weight (out, in/groups, kernel, kernel),
/// bias (out).
template <class T>
class Conv2d : public detail::ConvLayer<T> {
 public:
  Conv2d(std::int64_t in, std::int64_t out, std::int64_t kernel, ConvOptions options = {}, bool bias = true,
         Init init = Init::torch)
      : detail::ConvLayer<T>("conv2d", in, out, kernel, options, bias, init) {}

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    this->check_input(in, name);
    this->add_kernels(store, name, this->out_, this->in_);
    return Shape{this->out_, pavise::detail::conv_extent("conv2d", in[1], this->kernel_, this->options_),
                 pavise::detail::conv_extent("conv2d", in[2], this->kernel_, this->options_)};
  }
  Var<T> forward(Var<T> x, bool relu) override {
    return conv2d(x, this->weight(x), this->bias(x), this->options(relu));
  }
  /// With a batch normalisation behind it, in an evaluation pass without gradients of parameters; see FoldedWeights.
  Var<T> forward_folded(Var<T> x, Layer<T>& next, bool relu) override {
    Tape<T>& tape = x.tape();
    const auto* norm = dynamic_cast<const BatchNorm2d<T>*>(&next);
    if (norm == nullptr || tape.mode() == Mode::training || tape.parameter_gradients()) {
      return {};
    }
    const auto folded = folded_.of(*this->weight_, this->bias_, norm->channel_norm());
    const Var<T> y = conv2d(x, tape.parameter(*folded.weight), tape.parameter(*folded.bias), this->options(relu));
    if (auto* trace = tape.trace()) {
      auto& op = trace->back();
      op.norm = norm->parameters();
      op.unfolded_weight = this->weight_;
      op.unfolded_bias = this->bias_;
    }
    return y;
  }
  Spec spec() const override { return this->spec_with(this->conv_spec()); }

 private:
  FoldedWeights<T> folded_;
};

/// Transposed convolution of (in,H,W) to (out,OH,OW); see pavise::conv_transpose2d. Parameters: weight (in, out/groups,
/// kernel, kernel), bias (out).
template <class T>
class ConvTranspose2d : public detail::ConvLayer<T> {
 public:
  ConvTranspose2d(std::int64_t in, std::int64_t out, std::int64_t kernel, ConvOptions options = {}, bool bias = true,
                  Init init = Init::torch)
      : detail::ConvLayer<T>("conv_transpose2d", in, out, kernel, options, bias, init) {
    require(options.output_padding < std::max(options.stride, options.dilation), "conv_transpose2d: output padding ",
            options.output_padding, ", expected less than the stride or the dilation");
  }

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    this->check_input(in, name);
    this->add_kernels(store, name, this->in_, this->out_);
    constexpr std::int64_t kMaxExtent = std::int64_t{1} << 30;
    require<ShapeError>(in[1] <= kMaxExtent && in[2] <= kMaxExtent, name, ": conv_transpose2d cannot take ", in);
    const auto extent = [&o = this->options_, kernel = this->kernel_](std::int64_t n) {
      return (n - 1) * o.stride - 2 * o.padding + o.dilation * (kernel - 1) + o.output_padding + 1;
    };
    require<ShapeError>(extent(in[1]) >= 1 && extent(in[2]) >= 1, name, ": conv_transpose2d leaves no output of ", in);
    return Shape{this->out_, extent(in[1]), extent(in[2])};
  }
  Var<T> forward(Var<T> x, bool relu) override {
    return conv_transpose2d(x, this->weight(x), this->bias(x), this->options(relu));
  }
  Spec spec() const override {
    auto own = this->conv_spec();
    own.emplace_back("output_padding", std::to_string(this->options_.output_padding));
    return this->spec_with(std::move(own));
  }
};

/// Fully connected layer; see pavise::linear. An input of any shape is flattened. Parameters: weight (out,in), bias
/// (out).
template <class T>
class Linear : public detail::WeightLayer<T> {
 public:
  Linear(std::int64_t in, std::int64_t out, bool bias = true, Init init = Init::torch)
      : detail::WeightLayer<T>("linear", in, out, bias, init) {
    require(in >= 1 && out >= 1, "linear: ", in, " inputs, ", out, " outputs, expected 1 or more of each");
  }

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    require<ShapeError>(in.numel() == this->in_, name, ": linear expects ", this->in_, " inputs, got ", in);
    this->add_weights(store, name, Shape{this->out_, this->in_}, this->in_, this->out_);
    return Shape{this->out_};
  }
  Var<T> forward(Var<T> x, bool relu) override { return linear(x, this->weight(x), this->bias(x), relu); }
  Spec spec() const override { return this->spec_with({}); }
};

}  // namespace pavise::nn
