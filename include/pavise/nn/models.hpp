// SPDX-License-Identifier: MIT
// Models of the literature on adversarial robustness, for images of any shape that leaves something behind the pooling.
// Where none is given the residual networks take images of (3,32,32), the others of (1,28,28).
// Their parameters have the names of the common PyTorch versions. Pixels are in [0,1]; give `mean` and `deviation` to
// normalise inside the model.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/nn/registry.hpp"

namespace pavise::nn {

struct ModelOptions {
  std::uint64_t seed = 0;  ///< of the initial weights
  Shape input{};           ///< of an image, (C,H,W); empty: what the model was made for, see there
  std::int64_t classes = 10;
  std::vector<std::int64_t> hidden{256, 128};  ///< of mlp: the hidden layers' sizes
  double dropout = 0.5;                        ///< of carlini_cnn
  std::vector<double> mean = {};               ///< of the pixels, one for each channel; empty: no normalisation
  std::vector<double> deviation = {};
  double temperature = 1.0;  ///< of the softmax in training, see Temperature
  Init init = Init::torch;
};

namespace detail {

/// A network under construction: knows the shape so far, so that sizes need not be written down.
template <class T>
class NetBuilder {
 public:
  /// `natural`: the images' shape where the options give none.
  NetBuilder(std::string name, const ModelOptions& o, const Shape& natural = {1, 28, 28})
      : name_(std::move(name)), options_(o), input_(o.input.empty_rank() ? natural : o.input), shape_(input_) {
    require(o.classes >= 1, "model ", name_, ": ", o.classes, " classes, expected 1 or more");
    require<ShapeError>(input_.rank() == 3 && input_.numel() > 0, "model ", name_, ": images are (C,H,W), got ",
                        input_);
    require(o.mean.size() == o.deviation.size(), "model ", name_, ": ", o.mean.size(), " means and ",
            o.deviation.size(), " deviations of pixels, expected one of each for every channel");
    if (!o.mean.empty()) {
      layer("normalize", std::make_unique<Normalize<T>>(o.mean, o.deviation));
    }
  }

  NetBuilder& layer(std::string name, std::unique_ptr<Layer<T>> made) {
    shape_ = made->build(shape_, scratch_, name);
    net_->add(std::move(name), std::move(made));
    return *this;
  }
  template <template <class> class L, class... Arguments>
  NetBuilder& layer(std::string name, Arguments&&... arguments) {
    return layer(std::move(name), std::make_unique<L<T>>(std::forward<Arguments>(arguments)...));
  }
  NetBuilder& conv(std::string name, std::int64_t out, std::int64_t kernel, ConvOptions conv = {}, bool bias = true) {
    return layer(std::move(name), std::make_unique<Conv2d<T>>(shape_[0], out, kernel, conv, bias, options_.init));
  }
  NetBuilder& linear(std::string name, std::int64_t out) {
    return layer(std::move(name), std::make_unique<Linear<T>>(shape_.numel(), out, true, options_.init));
  }
  NetBuilder& classes(std::string name) { return linear(std::move(name), options_.classes); }
  NetBuilder& relu(std::string name) { return layer<ReLU>(std::move(name)); }
  NetBuilder& pool(std::string name) { return layer<MaxPool2d>(std::move(name), 2); }

  /// Two residual blocks "0" and "1" in a Sequential, the first with `stride`.
  template <template <class> class Block>
  NetBuilder& stage(std::string name, std::int64_t out, std::int64_t stride) {
    auto blocks = std::make_unique<Sequential<T>>();
    blocks->add("0", std::make_unique<Block<T>>(shape_[0], out, stride, options_.init));
    blocks->add("1", std::make_unique<Block<T>>(out, out, 1, options_.init));
    return layer(std::move(name), std::move(blocks));
  }

  BasicModel<T> model() {
    if (options_.temperature != 1.0) {
      layer("temperature", std::make_unique<Temperature<T>>(options_.temperature));
    }
    return BasicModel<T>(name_, std::move(net_), input_, options_.seed);
  }

 private:
  std::string name_;
  const ModelOptions& options_;
  Shape input_;
  Shape shape_;
  ParameterStore<T> scratch_;  // never allocated: the model builds the layers again, in a store of its own
  std::unique_ptr<Sequential<T>> net_ = std::make_unique<Sequential<T>>();
};

}  // namespace detail

/// The small network of the Fast-AT paper (Wong, Rice and Kolter 2020): conv1 16 4x4 stride 2, conv2 32 4x4 stride 2,
/// fc1 100, fc2, ReLU between. 166,406 parameters for (1,28,28) and 10 classes.
template <class T = float>
BasicModel<T> small_cnn(const ModelOptions& options = {}) {
  detail::NetBuilder<T> b("small-cnn", options);
  b.conv("conv1", 16, 4, {.stride = 2, .padding = 1}).relu("relu1");
  b.conv("conv2", 32, 4, {.stride = 2, .padding = 1}).relu("relu2");
  b.linear("fc1", 100).relu("relu3").classes("fc2");
  return b.model();
}

/// Fully connected layers fc1, fc2, ... with the sizes of options.hidden, ReLU between.
template <class T = float>
BasicModel<T> mlp(const ModelOptions& options = {}) {
  detail::NetBuilder<T> b("mlp", options);
  std::int64_t n = 1;
  for (const std::int64_t size : options.hidden) {
    const std::string number = std::to_string(n++);
    b.linear("fc" + number, size).relu("relu" + number);
  }
  b.classes("fc" + std::to_string(n));
  return b.model();
}

/// LeNet as it came down from Caffe (LeCun et al. 1998): conv1 20 5x5, pool, conv2 50 5x5, pool, fc1 500, fc2, ReLU
/// between.
template <class T = float>
BasicModel<T> lenet(const ModelOptions& options = {}) {
  detail::NetBuilder<T> b("lenet", options);
  b.conv("conv1", 20, 5).relu("relu1").pool("pool1");
  b.conv("conv2", 50, 5).relu("relu2").pool("pool2");
  b.linear("fc1", 500).relu("relu3").classes("fc2");
  return b.model();
}

/// The network of Madry et al. (2018) for MNIST: conv1 32 5x5, pool, conv2 64 5x5, pool, fc1 1024, fc2, ReLU between.
template <class T = float>
BasicModel<T> madry_cnn(const ModelOptions& options = {}) {
  detail::NetBuilder<T> b("madry-cnn", options);
  b.conv("conv1", 32, 5, {.padding = 2}).relu("relu1").pool("pool1");
  b.conv("conv2", 64, 5, {.padding = 2}).relu("relu2").pool("pool2");
  b.linear("fc1", 1024).relu("relu3").classes("fc2");
  return b.model();
}

/// The network of Papernot et al. (2016) and Carlini and Wagner (2017), table 1: conv1, conv2 32 3x3, pool, conv3,
/// conv4 64 3x3, pool, fc1 200, dropout, fc2 200, fc3, ReLU between, no padding.
template <class T = float>
BasicModel<T> carlini_cnn(const ModelOptions& options = {}) {
  detail::NetBuilder<T> b("carlini-cnn", options);
  b.conv("conv1", 32, 3).relu("relu1").conv("conv2", 32, 3).relu("relu2").pool("pool1");
  b.conv("conv3", 64, 3).relu("relu3").conv("conv4", 64, 3).relu("relu4").pool("pool2");
  b.linear("fc1", 200).relu("relu5");
  b.layer("dropout", std::make_unique<Dropout<T>>(options.dropout));
  b.linear("fc2", 200).relu("relu6").classes("fc3");
  return b.model();
}

/// ResNet-18 (He et al. 2016a) as it is used for images of 32x32: conv1 64 3x3, bn1, layer1 to layer4 of two basic
/// blocks (64, 128, 256, 512 channels), mean of each channel, linear. 11,173,962 parameters for (3,32,32) and 10
/// classes.
template <class T = float>
BasicModel<T> resnet18(const ModelOptions& options = {}) {
  detail::NetBuilder<T> b("resnet18", options, {3, 32, 32});
  b.conv("conv1", 64, 3, {.padding = 1}, false).template layer<BatchNorm2d>("bn1", 64).relu("relu1");
  b.template stage<BasicBlock>("layer1", 64, 1).template stage<BasicBlock>("layer2", 128, 2);
  b.template stage<BasicBlock>("layer3", 256, 2).template stage<BasicBlock>("layer4", 512, 2);
  b.template layer<GlobalAvgPool>("pool").classes("linear");
  return b.model();
}

/// The pre-activation ResNet-18 (He et al. 2016b) of the literature on fast and overfitting adversarial training (Wong
/// et al. 2020, Rice et al. 2020): conv1 64 3x3, layer1 to layer4, bn, ReLU, mean of each channel, linear. 11,172,170
/// parameters.
template <class T = float>
BasicModel<T> preact_resnet18(const ModelOptions& options = {}) {
  detail::NetBuilder<T> b("preact-resnet18", options, {3, 32, 32});
  b.conv("conv1", 64, 3, {.padding = 1}, false);
  b.template stage<PreActBlock>("layer1", 64, 1).template stage<PreActBlock>("layer2", 128, 2);
  b.template stage<PreActBlock>("layer3", 256, 2).template stage<PreActBlock>("layer4", 512, 2);
  b.template layer<BatchNorm2d>("bn", 512).relu("relu").template layer<GlobalAvgPool>("pool").classes("linear");
  return b.model();
}

/// The names that make_model knows.
inline std::vector<std::string_view> model_names() {
  return {"small-cnn", "mlp", "lenet", "madry-cnn", "carlini-cnn", "resnet18", "preact-resnet18"};
}

/// The model of that name; ValueError lists the names there are.
template <class T = float>
BasicModel<T> make_model(std::string_view name, const ModelOptions& options = {}) {
  if (name == "small-cnn") {
    return small_cnn<T>(options);
  }
  if (name == "mlp") {
    return mlp<T>(options);
  }
  if (name == "lenet") {
    return lenet<T>(options);
  }
  if (name == "madry-cnn") {
    return madry_cnn<T>(options);
  }
  if (name == "carlini-cnn") {
    return carlini_cnn<T>(options);
  }
  if (name == "resnet18") {
    return resnet18<T>(options);
  }
  require(name == "preact-resnet18", "model: there is no '", name, "', expected one of ", join(model_names()));
  return preact_resnet18<T>(options);
}

}  // namespace pavise::nn
