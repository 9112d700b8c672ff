// SPDX-License-Identifier: MIT
// Normalisation layers. All of them do the work of a ReLU that follows.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pavise/autodiff/norm.hpp"
#include "pavise/nn/fold.hpp"
#include "pavise/nn/init.hpp"
#include "pavise/nn/layer.hpp"

namespace pavise::nn {

/// Batch normalisation of (C,...); see pavise::batch_norm. Parameters: weight (C) from 1, bias (C) from 0; buffers:
/// running_mean (C) from 0, running_var (C) from 1. With one image and one value a channel a training pass throws.
template <class T>
class BatchNorm2d : public Layer<T> {
 public:
  explicit BatchNorm2d(std::int64_t channels, BatchNormOptions options = {}) : channels_(channels), options_(options) {
    require(channels >= 1, "batch_norm2d: ", channels, " channels, expected 1 or more");
    require(options.epsilon > 0, "batch_norm2d: epsilon ", options.epsilon, ", expected more than 0");
  }

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    require<ShapeError>(in.rank() >= 1 && in[0] == channels_, name, ": batch_norm2d expects (", channels_,
                        ",...), got ", in);
    const Shape s{channels_};
    weight_ = &store.add(child_name(name, "weight"), s, constant_init<T>(1.0));
    bias_ = &store.add(child_name(name, "bias"), s, constant_init<T>(0.0));
    mean_ = &store.add(child_name(name, "running_mean"), s, constant_init<T>(0.0), false);
    var_ = &store.add(child_name(name, "running_var"), s, constant_init<T>(1.0), false);
    return in;
  }
  Var<T> forward(Var<T> x, bool relu) override {
    BatchNormOptions options = options_;
    options.relu = relu;
    return batch_norm(x, x.tape().parameter(*weight_), x.tape().parameter(*bias_), *mean_, *var_, options);
  }
  /// What it does in an evaluation pass.
  ChannelNorm<T> channel_norm() const {
    return {weight_->value(), bias_->value(), mean_->value(), var_->value(), options_.epsilon};
  }
  /// What that is made of.
  NormParameters<T> parameters() const { return {weight_, bias_, mean_, var_, options_.epsilon}; }
  bool fuses_relu() const override { return true; }
  Spec spec() const override {
    return {.name = "",
            .type = "batch_norm2d",
            .options = {{"channels", std::to_string(channels_)},
                        {"momentum", concat(options_.momentum)},
                        {"epsilon", concat(options_.epsilon)}},
            .children = {}};
  }

 private:
  std::int64_t channels_;
  BatchNormOptions options_;
  Parameter<T>* weight_ = nullptr;
  Parameter<T>* bias_ = nullptr;
  Parameter<T>* mean_ = nullptr;
  Parameter<T>* var_ = nullptr;
};

/// Group normalisation of (C,...); see pavise::group_norm. Parameters: weight (C) from 1, bias (C) from 0.
template <class T>
class GroupNorm : public Layer<T> {
 public:
  GroupNorm(std::int64_t groups, std::int64_t channels, double epsilon = 1e-5)
      : groups_(groups), channels_(channels), epsilon_(epsilon) {
    require(groups >= 1 && channels >= 1 && channels % groups == 0, "group_norm: ", groups, " groups do not divide ",
            channels, " channels");
    require(epsilon > 0, "group_norm: epsilon ", epsilon, ", expected more than 0");
  }

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    require<ShapeError>(in.rank() >= 1 && in[0] == channels_, name, ": group_norm expects (", channels_, ",...), got ",
                        in);
    weight_ = &store.add(child_name(name, "weight"), Shape{channels_}, constant_init<T>(1.0));
    bias_ = &store.add(child_name(name, "bias"), Shape{channels_}, constant_init<T>(0.0));
    return in;
  }
  Var<T> forward(Var<T> x, bool relu) override {
    return group_norm(x, x.tape().parameter(*weight_), x.tape().parameter(*bias_),
                      GroupNormOptions{.groups = groups_, .epsilon = epsilon_, .relu = relu});
  }
  bool fuses_relu() const override { return true; }
  Spec spec() const override {
    return {.name = "",
            .type = "group_norm",
            .options = {{"groups", std::to_string(groups_)},
                        {"channels", std::to_string(channels_)},
                        {"epsilon", concat(epsilon_)}},
            .children = {}};
  }

 private:
  std::int64_t groups_, channels_;
  double epsilon_;
  Parameter<T>* weight_ = nullptr;
  Parameter<T>* bias_ = nullptr;
};

/// Layer normalisation over the whole image; see pavise::layer_norm. Parameters of the input's shape: weight from 1,
/// bias from 0.
template <class T>
class LayerNorm : public Layer<T> {
 public:
  explicit LayerNorm(double epsilon = 1e-5) : epsilon_(epsilon) {
    require(epsilon > 0, "layer_norm: epsilon ", epsilon, ", expected more than 0");
  }

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    weight_ = &store.add(child_name(name, "weight"), in, constant_init<T>(1.0));
    bias_ = &store.add(child_name(name, "bias"), in, constant_init<T>(0.0));
    return in;
  }
  Var<T> forward(Var<T> x, bool relu) override {
    return layer_norm(x, x.tape().parameter(*weight_), x.tape().parameter(*bias_),
                      LayerNormOptions{.epsilon = epsilon_, .relu = relu});
  }
  bool fuses_relu() const override { return true; }
  Spec spec() const override {
    return {.name = "", .type = "layer_norm", .options = {{"epsilon", concat(epsilon_)}}, .children = {}};
  }

 private:
  double epsilon_;
  Parameter<T>* weight_ = nullptr;
  Parameter<T>* bias_ = nullptr;
};

/// The normalisation of pixels as a layer, so that attacks and filters see images in [0,1]: y = (x - mean[c]) /
/// deviation[c]. Both are constants of the layer, kept as buffers `mean` and `std` (C).
template <class T>
class Normalize : public Layer<T> {
 public:
  Normalize(std::vector<double> mean, std::vector<double> deviation)
      : mean_(std::move(mean)), deviation_(std::move(deviation)) {
    require(!mean_.empty() && mean_.size() == deviation_.size(), "normalize: ", mean_.size(), " means and ",
            deviation_.size(), " deviations, expected one of each for every channel");
    for (const double d : deviation_) {
      require(std::isfinite(d) && d > 0, "normalize: a deviation is ", d, ", expected more than 0");
    }
  }

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    const auto channels = static_cast<std::int64_t>(mean_.size());
    require<ShapeError>(in.rank() >= 1 && in[0] == channels, name, ": normalize expects (", channels, ",...), got ",
                        in);
    const auto values = [](const std::vector<double>& from) {
      return [from](std::span<T> out, std::uint32_t, std::uint64_t) {
        std::transform(from.begin(), from.end(), out.begin(), [](double v) { return static_cast<T>(v); });
      };
    };
    mean_buffer_ = &store.add(child_name(name, "mean"), Shape{channels}, values(mean_), false);
    deviation_buffer_ = &store.add(child_name(name, "std"), Shape{channels}, values(deviation_), false);
    return in;
  }
  Var<T> forward(Var<T> x, bool relu) override {
    Tape<T>& tape = x.tape();
    Var<T> y = tape.result("normalize", x.shape(), {x});
    tape.node(y).relu = relu;
    const std::int64_t positions = x.size() / x.shape()[0];
    const T* mean = mean_buffer_->value().data();
    const T* deviation = deviation_buffer_->value().data();
    if (auto* trace = tape.trace()) {
      std::vector<T> scale;
      for (const T d : deviation_buffer_->value()) {
        scale.push_back(T{1} / d);
      }
      trace->push_back({.kind = TracedOperation<T>::Kind::channels,
                        .output = y.id(),
                        .inputs = {x.id(), -1},
                        .relu = relu,
                        .mean = {mean, mean + x.shape()[0]},
                        .scale = std::move(scale),
                        .shift = std::vector<T>(static_cast<std::size_t>(x.shape()[0]))});
    }
    each_channel(tape, x.shape()[0], positions, [=, &tape](auto isa, std::int64_t c, std::int64_t at) {
      channel_affine<T>(isa, x.data() + at, const_cast<T*>(y.data()) + at, positions, mean[c], T{1} / deviation[c],
                        T{0}, relu, tape.lanes());
    });
    tape.on_backward(y, [=](Tape<T>& t) {
      pavise::detail::mask_own_gradient(t, y);
      const auto target = t.target(x, true);
      const T* dy = t.gradient(y);
      each_channel(t, x.shape()[0], positions, [&](auto isa, std::int64_t c, std::int64_t at) {
        channel_backward<T>(isa, nullptr, dy + at, target.data + at, positions, T{0}, T{1} / deviation[c], T{0}, T{0},
                            target.accumulate, target.mask != nullptr ? target.mask + at : nullptr, t.lanes(),
                            t.lanes());
      });
    });
    return y;
  }
  bool fuses_relu() const override { return true; }
  Spec spec() const override {
    return {
        .name = "", .type = "normalize", .options = {{"mean", list(mean_)}, {"std", list(deviation_)}}, .children = {}};
  }

 private:
  /// Calls body(isa, channel, offset) for every channel of every group.
  template <class Body>
  static void each_channel(Tape<T>& tape, std::int64_t channels, std::int64_t positions, const Body& body) {
    tape.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        for (std::int64_t c = 0; c < channels; ++c) {
          body(isa, c, (g * channels + c) * positions * tape.lanes());
        }
      });
    });
  }
  static std::string list(const std::vector<double>& values) {
    std::string out;
    for (const double v : values) {
      out += (out.empty() ? "" : "/") + concat(v);
    }
    return out;
  }

  std::vector<double> mean_, deviation_;
  Parameter<T>* mean_buffer_ = nullptr;
  Parameter<T>* deviation_buffer_ = nullptr;
};

}  // namespace pavise::nn
