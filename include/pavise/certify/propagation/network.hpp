// SPDX-License-Identifier: MIT
// A model as bounds see it: affine maps, ReLU and maxima, one after another, each with what is known of its rounding.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/autodiff/linear.hpp"
#include "pavise/autodiff/pool.hpp"
#include "pavise/certify/propagation/rounding.hpp"
#include "pavise/nn/model.hpp"
#include "pavise/nn/registry.hpp"

namespace pavise::certify {

/// y = W x + b, which the model computes in float: its result z obeys
///   |z - y| <= float_error * (|W| |x| + |b|) + underflow,
/// or, where it goes by Winograd's algorithm, |z - y| <= float_error * (winograd D + |b|) + underflow with D_c the largest
/// |x| of channel c.
struct AffineStage {
  bool matrix = false;                    ///< fully connected; else a convolution
  ConvOptions options;                    ///< of the convolution, and what its transposed one needs
  Parameter<double>* weight = nullptr;    ///< (O,I), or (O, C/groups, KH, KW)
  Parameter<double>* absolute = nullptr;  ///< |W|
  std::vector<double> bias;               ///< one for each output channel
  std::vector<double> bias_magnitude;     ///< at least |b| in all of its parts
  double float_error = 0;
  double underflow = 0;
  double double_error = 0;  ///< of the sums with W and its transpose in double, relative to those of absolute values
  std::vector<double> winograd;  ///< (O,C), or empty
};

struct Stage {
  enum class Kind { affine, relu, max_pool };
  Kind kind;
  std::string name;  ///< the layer's
  Shape in, out;
  AffineStage affine;
  kernels::ConvGeometry window;  ///< of a maximum
};

/// The stages of a model of convolutions, fully connected layers, ReLU, pooling, normalisation of pixels, and batch
/// normalisation (folded into a convolution as an evaluation pass folds it), with the weights as they are now. Dropout
/// and the temperature of training do nothing in an evaluation pass. The model must outlive it.
class Network {
 public:
  /// Throws ValueError naming the layer for any other one, a residual block say, and for weights that are not finite.
  explicit Network(const nn::Model& model) : model_(&model) {
    for (const auto& p : std::as_const(model.parameters()).parameters()) {
      for (const float v : p.value()) {
        require(std::isfinite(v), "bounds: model ", model.name(), ": ", p.name(), " holds ", v,
                ", expected finite numbers");
      }
    }
    add_layers(model.net(), "", model.input_shape());
    store_->allocate(0);
    for (const Stage& s : stages_) {
      terms_ += s.in.numel() + s.out.numel();
    }
  }

  const nn::Model& model() const { return *model_; }
  const std::vector<Stage>& stages() const { return stages_; }
  /// Terms of all sums on the way from the logits to the image, at most.
  std::int64_t terms() const { return terms_; }

 private:
  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

  Parameter<float>& parameter(const std::string& layer, const char* name) const {
    return model_->parameters()[nn::child_name(layer, name)];
  }

  void add_layers(const nn::Sequential<float>& net, const std::string& prefix, Shape shape) {
    const auto& layers = net.layers();
    for (std::size_t i = 0; i < layers.size(); ++i) {
      const std::string name = nn::child_name(prefix, layers[i].first);
      nn::Layer<float>& layer = *layers[i].second;
      const nn::BatchNorm2d<float>* norm = nullptr;
      if (i + 1 < layers.size() && dynamic_cast<nn::Conv2d<float>*>(&layer) != nullptr) {
        norm = dynamic_cast<const nn::BatchNorm2d<float>*>(layers[i + 1].second.get());
      }
      add_layer(layer, name, shape, net.shapes()[i], norm);
      shape = net.shapes()[i];
      i += norm != nullptr ? 1 : 0;  // folded
    }
  }

  void add_layer(nn::Layer<float>& layer, const std::string& name, const Shape& in, const Shape& out,
                 const nn::BatchNorm2d<float>* norm) {
    const nn::Spec spec = layer.spec();
    nn::SpecReader options(spec);
    const std::string& type = spec.type;
    if (const auto* inner = dynamic_cast<const nn::Sequential<float>*>(&layer)) {
      add_layers(*inner, name, in);
    } else if (type == "conv2d") {
      add_conv(name, in, out, nn::detail::conv_options(options), options.flag("bias", true), norm);
    } else if (type == "linear") {
      add_linear(name, in, out, options.flag("bias", true));
    } else if (type == "batch_norm2d") {
      const auto n = dynamic_cast<const nn::BatchNorm2d<float>&>(layer).channel_norm();
      std::vector<float> scale;
      for (std::size_t c = 0; c < n.weight.size(); ++c) {  // as channel_scale of the kernels
        const double inverse = 1.0 / std::sqrt(static_cast<double>(n.variance[c]) + n.epsilon);
        scale.push_back(static_cast<float>(inverse * static_cast<double>(n.weight[c])));
      }
      add_channels(name, in, scale, n.mean.data(), n.bias.data());
    } else if (type == "normalize") {
      std::vector<float> scale;
      for (const float d : parameter(name, "std").value()) {
        scale.push_back(1.0f / d);
      }
      add_channels(name, in, scale, parameter(name, "mean").value().data(), nullptr);
    } else if (type == "avg_pool2d") {
      const auto g = pavise::detail::pool_geometry("avg_pool2d", in, false,
                                                   {.kernel = options.integer("kernel"),
                                                    .stride = options.integer("stride", 0),
                                                    .padding = options.integer("padding", 0)});
      require(g.padding == 0 || options.flag("include_padding", true), "bounds: layer ", name, " (", type,
              ") does not count its padding, which is not supported");
      add_mean(name, in, out, g);
    } else if (type == "global_avg_pool") {
      add_mean(name, in, Shape{in[0], 1, 1}, pavise::detail::global_geometry("global_avg_pool", in, false));
    } else if (type == "max_pool2d") {
      add_plain(Stage::Kind::max_pool, name, in, out).window =
          pavise::detail::pool_geometry("max_pool2d", in, false,
                                        {.kernel = options.integer("kernel"),
                                         .stride = options.integer("stride", 0),
                                         .padding = options.integer("padding", 0),
                                         .dilation = options.integer("dilation", 1)});
    } else if (type == "global_max_pool") {
      add_plain(Stage::Kind::max_pool, name, in, Shape{in[0], 1, 1}).window =
          pavise::detail::global_geometry("global_max_pool", in, false);
    } else if (type == "relu") {
      add_plain(Stage::Kind::relu, name, in, out);
    } else {
      require(type == "flatten" || type == "dropout" || type == "temperature", "bounds: layer ", name, " (", type,
              ") of model ", model_->name(),
              " has no bounds, expected conv2d, linear, relu, pooling, batch_norm2d, normalize or flatten");
    }
  }

  Stage& add_plain(Stage::Kind kind, const std::string& name, const Shape& in, const Shape& out) {
    return stages_.emplace_back(Stage{.kind = kind, .name = name, .in = in, .out = out, .affine = {}, .window = {}});
  }

  /// An affine stage of weights `w` and `taps` terms an output, `back_taps` terms an input of the transposed map.
  AffineStage& add_affine(const std::string& name, const Shape& in, const Shape& out, const Shape& weight,
                          std::vector<double> w, std::int64_t taps, std::int64_t back_taps) {
    AffineStage& a = add_plain(Stage::Kind::affine, name, in, out).affine;
    std::vector<double> absolute(w.size());
    std::transform(w.begin(), w.end(), absolute.begin(), [](double v) { return std::abs(v); });
    const auto values = [](std::vector<double> from) {
      return [from = std::move(from)](std::span<double> to, std::uint32_t, std::uint64_t) {
        std::copy(from.begin(), from.end(), to.begin());
      };
    };
    const std::string number = std::to_string(stages_.size());  // a layer's name may occur twice: with and without norm
    a.weight = &store_->add(number + ".weight", weight, values(std::move(w)), false);
    a.absolute = &store_->add(number + ".absolute", weight, values(std::move(absolute)), false);
    a.float_error = detail::gamma_float(taps + 2);
    a.underflow = detail::float_underflow(taps + 2);
    a.double_error = detail::gamma_double(std::max(taps, back_taps) + 3);
    return a;
  }
  static void set_bias(AffineStage& a, const float* bias, std::int64_t channels) {
    for (std::int64_t c = 0; c < channels; ++c) {
      a.bias.push_back(bias != nullptr ? static_cast<double>(bias[c]) : 0.0);
      a.bias_magnitude.push_back(std::abs(a.bias.back()));
    }
  }

  void add_conv(const std::string& name, const Shape& in, const Shape& out, ConvOptions options, bool with_bias,
                const nn::BatchNorm2d<float>* norm) {
    Parameter<float>* weight = &parameter(name, "weight");
    Parameter<float>* bias = with_bias ? &parameter(name, "bias") : nullptr;
    nn::FoldedWeights<float> folded;
    if (norm != nullptr) {
      const auto values = folded.of(*weight, bias, norm->channel_norm());
      weight = values.weight;
      bias = values.bias;
    }
    const Shape w = weight->shape();
    const std::int64_t taps = w[1] * w[2] * w[3];
    AffineStage& a = add_affine(name, in, out, w, {weight->value().begin(), weight->value().end()}, taps,
                                w[0] / options.groups * w[2] * w[3]);
    set_bias(a, bias != nullptr ? bias->value().data() : nullptr, w[0]);
    set_conv_options(a, in, out, w, options);
    if (kernels::uses_winograd(pavise::detail::conv_geometry("bounds", in, w, options))) {
      a.float_error = detail::gamma_float(w[1] + 16);
      // What underflows in the products' sum grows by the output's transform, at most (1+1+1+8+8+1)^2 times.
      a.underflow = detail::float_underflow(w[1] + 16) * 512;
      for (std::int64_t i = 0; i < w[0] * w[1]; ++i) {
        double kernel[9];
        std::copy_n(weight->value().data() + i * 9, 9, kernel);
        a.winograd.push_back(detail::winograd_growth(kernel));
      }
    }
  }

  /// Sets the options, and the output padding with which the transposed convolution comes back to `in`.
  static void set_conv_options(AffineStage& a, const Shape& in, const Shape& out, const Shape& w, ConvOptions o) {
    a.options = o;
    a.options.output_padding = in[1] - ((out[1] - 1) * o.stride - 2 * o.padding + o.dilation * (w[2] - 1) + 1);
    const std::int64_t other = in[2] - ((out[2] - 1) * o.stride - 2 * o.padding + o.dilation * (w[3] - 1) + 1);
    require(a.options.output_padding == other, "bounds: images of ", in, " leave a convolution of stride ", o.stride,
            " another rest in height than in width, which is not supported");
  }

  void add_linear(const std::string& name, const Shape& in, const Shape& out, bool with_bias) {
    const auto weight = parameter(name, "weight").value();
    AffineStage& a =
        add_affine(name, in, out, Shape{out[0], in.numel()}, {weight.begin(), weight.end()}, in.numel(), out[0]);
    a.matrix = true;
    set_bias(a, with_bias ? parameter(name, "bias").value().data() : nullptr, out[0]);
  }

  /// y = (x - mean) * scale + shift for each channel.
  void add_channels(const std::string& name, const Shape& in, const std::vector<float>& scale, const float* mean,
                    const float* shift) {
    const std::int64_t channels = in[0];
    const Shape image = in.rank() == 3 ? in : Shape{channels, in.numel() / channels, 1};
    AffineStage& a = add_affine(name, image, image, Shape{channels, 1, 1, 1}, {scale.begin(), scale.end()}, 2, 2);
    a.options.groups = channels;
    for (std::int64_t c = 0; c < channels; ++c) {
      const double product = static_cast<double>(scale[index(c)]) * static_cast<double>(mean[c]);  // exact
      const double b = shift != nullptr ? static_cast<double>(shift[c]) : 0.0;
      a.bias.push_back(b - product);
      a.bias_magnitude.push_back(next_above(std::abs(b) + std::abs(product)));
    }
  }

  void add_mean(const std::string& name, const Shape& in, const Shape& out, const kernels::ConvGeometry& g) {
    const std::int64_t taps = g.kernel_height * g.kernel_width;
    const Shape w{in[0], 1, g.kernel_height, g.kernel_width};
    AffineStage& a = add_affine(name, in, out, w,
                                std::vector<double>(index(w.numel()), 1.0 / static_cast<double>(taps)), taps, taps);
    set_bias(a, nullptr, in[0]);
    set_conv_options(a, in, out, w, {.stride = g.stride, .padding = g.padding, .dilation = 1, .groups = in[0]});
  }

  const nn::Model* model_;
  std::vector<Stage> stages_;
  std::unique_ptr<ParameterStore<double>> store_ = std::make_unique<ParameterStore<double>>();
  std::int64_t terms_ = 0;
};

}  // namespace pavise::certify
