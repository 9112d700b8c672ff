// SPDX-License-Identifier: MIT
// Small networks for tests of bounds, and what they compute, in float.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/threat.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/nn/registry.hpp"

namespace pavise_test {

using NetPointer = std::unique_ptr<pavise::nn::Sequential<float>>;

inline NetPointer net() { return std::make_unique<pavise::nn::Sequential<float>>(); }

inline void set(const pavise::nn::Model& model, const std::string& name, std::vector<float> values) {
  const auto to = model.parameters()[name].edit();
  REQUIRE(to.size() == values.size());
  std::copy(values.begin(), values.end(), to.begin());
}

/// Fully connected: x (1,1,inputs) to W x + b; weight (outputs, inputs).
inline pavise::nn::Model linear_model(std::int64_t inputs, std::vector<float> weight, std::vector<float> bias) {
  auto n = net();
  n->add<pavise::nn::Linear>("fc", inputs, static_cast<std::int64_t>(bias.size()));
  pavise::nn::Model model("linear", std::move(n), pavise::Shape{1, 1, inputs}, 0);
  set(model, "fc.weight", std::move(weight));
  set(model, "fc.bias", std::move(bias));
  return model;
}

/// Networks that between them have every kind of stage, with random weights.
inline std::vector<pavise::nn::Model> every_kind() {
  using namespace pavise::nn;
  std::vector<Model> out;
  {
    auto n = net();
    n->add<Normalize>("norm", std::vector<double>{0.3, 0.6}, std::vector<double>{0.25, 0.5});
    n->add<Conv2d>("conv1", 2, 5, 4, pavise::ConvOptions{.stride = 2, .padding = 1}).add<ReLU>("relu1");
    n->add<Conv2d>("conv2", 5, 6, 3, pavise::ConvOptions{.padding = 1, .dilation = 2}).add<ReLU>("relu2");
    n->add<Flatten>("flatten").add<Dropout>("dropout", 0.5);
    n->add<Linear>("fc1", 24, 20).add<ReLU>("relu3").add<Linear>("fc2", 20, 4).add<Temperature>("t", 20.0);
    out.emplace_back("strided", std::move(n), pavise::Shape{2, 8, 8}, 1);
  }
  {
    auto inner = net();
    inner->add<Conv2d>("conv", 4, 8, 3, pavise::ConvOptions{.padding = 1, .groups = 2}).add<BatchNorm2d>("bn", 8);
    inner->add<ReLU>("relu").add<AvgPool2d>("pool", pavise::PoolOptions{.kernel = 3, .stride = 2, .padding = 1});
    auto n = net();
    n->add<Conv2d>("conv1", 1, 4, 3).add<ReLU>("relu1").add<MaxPool2d>("pool1", 2).add("inner", std::move(inner));
    n->add<BatchNorm2d>("bn2", 8).add<GlobalAvgPool>("mean").add<Linear>("fc", 8, 3);
    out.emplace_back("pools", std::move(n), pavise::Shape{1, 10, 10}, 2);
  }
  {
    auto n = net();
    n->add<Conv2d>("conv1", 1, 32, 3, pavise::ConvOptions{.padding = 1}).add<ReLU>("relu1");
    n->add<Conv2d>("conv2", 32, 33, 3, pavise::ConvOptions{.padding = 1})
        .add<ReLU>("relu2");  // by Winograd's algorithm
    n->add<MaxPool2d>("pool", pavise::PoolOptions{.kernel = 3, .stride = 2, .padding = 1})
        .add<Linear>("fc", 33 * 16, 5);
    out.emplace_back("winograd", std::move(n), pavise::Shape{1, 8, 8}, 3);
  }
  for (auto& model : out) {  // statistics as training leaves them
    for (auto& p : model.parameters().parameters()) {
      pavise::RandomSequence random({.seed = 5, .purpose = pavise::Purpose::test});
      if (p.name().find("bn") != std::string::npos) {
        for (float& v : p.edit()) {
          v = static_cast<float>(0.5 + random.uniform());
        }
      }
    }
  }
  return out;
}

inline std::vector<float> random_image(const pavise::Shape& shape, std::uint32_t number) {
  pavise::RandomSequence random({.seed = 7, .purpose = pavise::Purpose::test, .image = number});
  std::vector<float> out(static_cast<std::size_t>(shape.numel()));
  for (float& v : out) {
    v = static_cast<float>(random.below(256)) / 255.0f;
  }
  return out;
}

/// The logits of sixteen images [size][16].
inline std::vector<float> logits_of(const pavise::nn::Model& model, std::vector<float> x) {
  auto& tape = pavise::thread_tape<float>();
  tape.begin(16, 16);
  x.resize(x.size() + 16);
  const auto z = model(tape.view(model.input_shape(), x.data()));
  return {z.data(), z.data() + z.size() * 16};
}

/// Sixteen points of a ball, many of them at its corners.
inline std::vector<float> points(const std::vector<float>& image, const pavise::attack::Threat& threat,
                                 std::uint32_t number) {
  std::vector<float> x(image.size() * 16);
  for (std::uint32_t lane = 0; lane < 16; ++lane) {
    pavise::RandomSequence random({.seed = 9, .purpose = pavise::Purpose::test, .image = number, .restart = lane});
    const bool corner = threat.norm == pavise::attack::Norm::linf && lane % 2 == 0;
    double size = 0;
    std::vector<double> d(image.size());
    for (double& v : d) {
      const double r = 2 * random.uniform() - 1;
      v = corner ? (r < 0 ? -1 : 1) : r;
      size = threat.norm == pavise::attack::Norm::linf ? 1
             : threat.norm == pavise::attack::Norm::l2 ? size + v * v
                                                       : size + std::abs(v);
    }
    size = threat.norm == pavise::attack::Norm::l2 ? std::sqrt(size) : size;
    for (std::size_t e = 0; e < image.size(); ++e) {
      // A little less than the radius, so that rounding to float stays within it.
      const double v = image[e] + threat.epsilon * (1 - 1e-6) * d[e] / size;
      x[e * 16 + lane] = static_cast<float>(std::clamp(v, threat.low, threat.high));
    }
  }
  return x;
}

}  // namespace pavise_test
