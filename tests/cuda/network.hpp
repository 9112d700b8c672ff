// SPDX-License-Identifier: MIT
// A network of convolutions and fully connected layers with fused ReLU on the device, driven through the table: what the
// checks compare with whole CPU attacks, and what benchmarks/gpu times. All its work is queued on one stream and can be
// recorded in a graph.
#pragma once

#include <string_view>
#include <utility>
#include <vector>

#include "cuda/support.hpp"
#include "pavise/device/product.hpp"
#include "pavise/nn/models.hpp"

namespace cuda_checks {

/// A layer with weight and bias at these elements of the model's parameters.
struct NetworkLayer {
  kernels::ConvGeometry geometry;
  bool matrix;  ///< fully connected
  bool relu;    ///< after it
  std::int64_t weight, bias;
  std::int64_t in() const { return geometry.in_channels * geometry.in_height * geometry.in_width; }
  std::int64_t out() const { return geometry.out_channels * geometry.out_height * geometry.out_width; }
};

/// The layers of nn::small_cnn for images of (1,28,28).
inline std::vector<NetworkLayer> small_cnn_layers(pavise::ParameterStore<float>& store) {
  const auto offset = [&](std::string_view name) { return store[name].value().data() - store.values().data(); };
  const auto matrix = [](std::int64_t in, std::int64_t out) { return geometry(in, 1, 1, out, 1, 1, 0, 1, 1); };
  return {{geometry(1, 28, 28, 16, 4, 2, 1, 1, 1), false, true, offset("conv1.weight"), offset("conv1.bias")},
          {geometry(16, 14, 14, 32, 4, 2, 1, 1, 1), false, true, offset("conv2.weight"), offset("conv2.bias")},
          {matrix(1568, 100), true, true, offset("fc1.weight"), offset("fc1.bias")},
          {matrix(100, 10), true, false, offset("fc2.weight"), offset("fc2.bias")}};
}

/// A layer on the device in one direction.
class LayerProduct {
 public:
  using Arithmetic = pavise::device::Arithmetic;
  LayerProduct(const Table& t, const NetworkLayer& l, bool back, Arithmetic arithmetic)
      : t_(t), arithmetic_(arithmetic) {
    if (arithmetic == Arithmetic::bf16 && kernels::cuda::has_patches(l.geometry)) {
      patches_ = t.make_patches(kernels::cuda::patch_plan(l.geometry, back));
    }
    if (patches_ != nullptr) {
      return;
    }
    const auto& g = l.geometry;
    operator_ = t.make_operator(!l.matrix ? (back ? backward_plan(g) : forward_plan(g))
                                : back    ? kernels::matrix_plan(l.in(), l.out(), true)
                                          : kernels::matrix_plan(l.out(), l.in(), false));
  }
  LayerProduct(LayerProduct&& other) noexcept
      : t_(other.t_),
        arithmetic_(other.arithmetic_),
        operator_(std::exchange(other.operator_, nullptr)),
        patches_(std::exchange(other.patches_, nullptr)) {}
  LayerProduct(const LayerProduct&) = delete;
  LayerProduct& operator=(const LayerProduct&) = delete;
  ~LayerProduct() {
    t_.destroy_operator(operator_);
    t_.destroy_patches(patches_);
  }
  void pack(kernels::cuda::Stream stream, const float* weight) const {
    patches_ != nullptr ? t_.pack_patches(stream, patches_, weight) : t_.pack_operator(stream, operator_, weight);
  }
  void apply(kernels::cuda::Stream stream, const float* in, float* out, const kernels::Epilogue<float>& e,
             std::int64_t groups) const {
    if (patches_ != nullptr) {
      t_.apply_patches(stream, patches_, in, out, e, groups);
    } else {
      (arithmetic_ == Arithmetic::exact ? t_.apply_operator : t_.apply_operator_fast)(stream, operator_, in, out, e,
                                                                                      groups);
    }
  }

 private:
  const Table& t_;
  Arithmetic arithmetic_;
  kernels::cuda::Operator* operator_ = nullptr;
  kernels::cuda::Patches* patches_ = nullptr;  ///< in its place
};

class DeviceNetwork {
 public:
  using Arithmetic = pavise::device::Arithmetic;
  DeviceNetwork(const Table& t, std::vector<NetworkLayer> layers, const std::vector<float>& parameters,
                std::int64_t images, kernels::cuda::Stream stream = nullptr, Arithmetic arithmetic = Arithmetic::exact)
      : t_(t),
        layers_(std::move(layers)),
        images_(images),
        groups_(groups_of(images, 32)),
        stream_(stream),
        conv_gradient_(arithmetic == Arithmetic::exact ? t.conv_weight_gradient : t.conv_weight_gradient_fast),
        linear_gradient_(arithmetic == Arithmetic::exact ? t.linear_weight_gradient : t.linear_weight_gradient_fast),
        parameters_(t, parameters),
        gradients_(t, parameters.size()),
        first_(t, std::vector<float>(parameters.size())),
        second_(t, std::vector<float>(parameters.size())),
        loss_(t, lanes(1)),
        seed_(t, lanes(1)),
        saved_(t, lanes(classes() + 2)),
        prediction_(t, lanes(1)),
        count_(t, std::vector<std::uint32_t>(1)),
        parameter_count_(static_cast<std::int64_t>(parameters.size())) {
    std::int64_t scratch = 1;
    for (const NetworkLayer& l : layers_) {
      const auto& g = l.geometry;
      forward_.emplace_back(t, l, false, arithmetic);
      backward_.emplace_back(t, l, true, arithmetic);
      values_.emplace_back(t, lanes(l.out()));
      deltas_.emplace_back(t, lanes(l.in()));
      scratch = std::max(scratch, l.matrix ? t.linear_weight_gradient_scratch(l.out(), l.in(), groups_)
                                           : t.conv_weight_gradient_scratch(g, groups_));
      scratch = std::max(scratch, t.bias_gradient_scratch(g.out_channels, g.out_height * g.out_width, groups_));
    }
    deltas_.emplace_back(t, lanes(classes()));
    scratch_.emplace_back(t, static_cast<std::size_t>(scratch));
    t.synchronize(nullptr);
    t.seed_gradient(stream_, seed_.get(), images_, groups_);
    pack();
  }
  DeviceNetwork(const DeviceNetwork&) = delete;
  DeviceNetwork& operator=(const DeviceNetwork&) = delete;
  ~DeviceNetwork() { t_.synchronize(stream_); }

  std::int64_t groups() const { return groups_; }
  std::int64_t size() const { return layers_.front().in(); }
  std::int64_t classes() const { return layers_.back().out(); }
  std::size_t lanes(std::int64_t n) const { return static_cast<std::size_t>(groups_ * n * 32); }
  const float* logits() const { return values_.back().get(); }
  const float* loss() const { return loss_.get(); }
  const float* input_gradient() const { return deltas_.front().get(); }
  const std::int32_t* prediction() const { return prediction_.get(); }
  std::uint32_t* count() const { return count_.get(); }
  const OnDevice<float>& parameters() const { return parameters_; }
  const OnDevice<float>& gradients() const { return gradients_; }

  /// Packs the weights for the products. After each update.
  void pack() {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      forward_[i].pack(stream_, parameters_.get() + layers_[i].weight);
      backward_[i].pack(stream_, parameters_.get() + layers_[i].weight);
    }
  }

  void forward(const float* x) {
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      forward_[i].apply(stream_, i == 0 ? x : values_[i - 1].get(), values_[i].get(),
                        {.bias = parameters_.get() + layers_[i].bias, .relu = layers_[i].relu}, groups_);
    }
  }

  /// Cross-entropy of the last forward pass, and its gradient down to the input (or, for training, to the first layer's
  /// output). One for every image of the pass.
  void backward(const std::int32_t* labels, bool to_input) {
    t_.cross_entropy_forward(stream_, logits(), labels, loss_.get(), saved_.get(), classes(), 0.0f, 1.0f, groups_);
    t_.cross_entropy_backward(stream_, saved_.get(), labels, seed_.get(), deltas_.back().get(), classes(), 0.0f, 1.0f,
                              false, groups_);
    for (std::size_t i = layers_.size(); i-- > (to_input ? 0 : 1);) {
      backward_[i].apply(stream_, deltas_[i + 1].get(), deltas_[i].get(),
                         {.mask = i > 0 && layers_[i - 1].relu ? values_[i - 1].get() : nullptr}, groups_);
    }
  }

  /// Steps of projected gradient descent on x, which holds the start.
  void attack(float* x, const float* center, const std::int32_t* labels, const kernels::cuda::AttackStep& step,
              int steps) {
    for (int i = 0; i < steps; ++i) {
      forward(x);
      backward(labels, true);
      t_.attack_step(stream_, x, input_gradient(), center, size(), groups_, step);
    }
  }

  /// Gradients of the weights after forward(x) and backward.
  void weight_gradients(const float* x) {
    t_.fill_bytes(gradients_.get(), 0, static_cast<std::size_t>(parameter_count_) * sizeof(float), stream_);
    for (std::size_t i = 0; i < layers_.size(); ++i) {
      const auto& l = layers_[i];
      const float* in = i == 0 ? x : values_[i - 1].get();
      float* dw = gradients_.get() + l.weight;
      const float* dy = deltas_[i + 1].get();
      float* partial = scratch_[0].get();
      const auto& g = l.geometry;
      const std::int64_t slices = l.matrix ? linear_gradient_(stream_, l.out(), l.in(), in, dy, partial, groups_)
                                           : conv_gradient_(stream_, g, in, dy, partial, groups_);
      t_.add_slices(stream_, partial, g.out_channels * (g.in_channels / g.groups) * g.kernel_height * g.kernel_width,
                    slices, {nullptr, dw, true});
      t_.add_slices(stream_, partial, g.out_channels,
                    t_.bias_gradient(stream_, g.out_channels, g.out_height * g.out_width, dy, partial, groups_),
                    {nullptr, gradients_.get() + l.bias, true});
    }
  }

  /// One step of Adam on the mean cross-entropy of x.
  void train(const float* x, const std::int32_t* labels, const kernels::cuda::AdamStep& step) {
    forward(x);
    backward(labels, false);
    weight_gradients(x);
    t_.adam_update(stream_, parameters_.get(), gradients_.get(), first_.get(), second_.get(), parameter_count_, step);
    pack();
  }

  /// The classes of the last forward pass.
  void predict() { t_.argmax(stream_, logits(), prediction_.get(), classes(), groups_); }
  /// Adds to count() the images whose class is their label.
  void count_correct(const std::int32_t* labels) {
    predict();
    t_.count_equal(stream_, prediction_.get(), labels, images_, count_.get());
  }

 private:
  const Table& t_;
  std::vector<NetworkLayer> layers_;
  std::int64_t images_, groups_;
  kernels::cuda::Stream stream_;
  decltype(Table::conv_weight_gradient) conv_gradient_;
  decltype(Table::linear_weight_gradient) linear_gradient_;
  OnDevice<float> parameters_, gradients_, first_, second_, loss_, seed_, saved_;
  OnDevice<std::int32_t> prediction_;
  OnDevice<std::uint32_t> count_;
  std::int64_t parameter_count_;
  std::vector<LayerProduct> forward_, backward_;
  std::vector<OnDevice<float>> values_, deltas_, scratch_;
};

}  // namespace cuda_checks
