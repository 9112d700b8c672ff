// SPDX-License-Identifier: MIT
// A small problem for tests of training: noisy images of two classes in a row of pixels, and networks for them.
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

#include "core/bits_checks.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/batch.hpp"
#include "pavise/defend/history.hpp"
#include "pavise/nn/activations.hpp"
#include "pavise/nn/linear.hpp"
#include "pavise/nn/model.hpp"
#include "pavise/nn/norm.hpp"

namespace small {

namespace pv = pavise;
using pavise_test::same_bits;
using pavise_test::Threads;

inline constexpr std::int64_t kPixels = 16;

/// Pixel 0 tells the class at a distance of 0.3; the other pixels at 0.08 each, all together more. Plain training leans
/// on all, and an adversary of radius 0.1 turns the others against it.
inline pv::data::Dataset images(std::int64_t n, std::uint64_t seed = 1) {
  std::vector<std::uint8_t> pixels;
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < n; ++i) {
    pv::RandomSequence random({.seed = seed, .purpose = pv::Purpose::test, .image = static_cast<std::uint32_t>(i)});
    const auto label = static_cast<std::int32_t>(i % 2);
    for (std::int64_t k = 0; k < kPixels; ++k) {
      const double distance = k == 0 ? 0.3 : 0.08;
      const double deviation = k == 0 ? 0.03 : 0.01;
      const double value = 0.5 + distance * (label - 0.5) + deviation * random.normal();
      pixels.push_back(static_cast<std::uint8_t>(std::clamp(value, 0.0, 1.0) * 255 + 0.5));
    }
    labels.push_back(label);
  }
  return {"two classes", pv::Shape{1, 1, kPixels}, std::move(pixels), std::move(labels), {"low", "high"}};
}

/// Linear, ReLU, Linear; with batch normalisation in between where asked for.
inline pv::nn::Model network(bool normalise = false, std::uint64_t seed = 0) {
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  net->add<pv::nn::Linear>("fc1", kPixels, 24);
  if (normalise) {
    net->add<pv::nn::BatchNorm2d>("bn", 24);
  }
  net->add<pv::nn::ReLU>("relu");
  net->add<pv::nn::Linear>("fc2", 24, 2);
  return {"small", std::move(net), pv::Shape{1, 1, kPixels}, seed};
}

inline const pv::attack::Threat& threat() {
  static const pv::attack::Threat t = pv::attack::linf(0.1);
  return t;
}

/// Share of `set` that the model gets right under PGD-20.
inline double robust(const pv::nn::Model& model, const pv::data::Dataset& set) {
  const pv::attack::Pgd pgd(threat(), {.steps = 20});
  return pv::defend::accuracy(model, set, &pgd).share();
}

inline std::vector<float> state(const pv::nn::Model& model) {
  const auto s = model.parameters().state();
  return {s.begin(), s.end()};
}

/// softmax(beta z).
inline std::vector<double> softmax(const std::vector<double>& z, double beta = 1) {
  std::vector<double> p;
  double sum = 0;
  for (const double v : z) {
    sum += std::exp(beta * v);
  }
  for (const double v : z) {
    p.push_back(std::exp(beta * v) / sum);
  }
  return p;
}

/// Labels of 32 images from image `first` on.
inline std::vector<std::int32_t> labels_from(std::int64_t first, std::int64_t classes) {
  std::vector<std::int32_t> out;
  for (std::int64_t i = 0; i < 32; ++i) {
    out.push_back(static_cast<std::int32_t>((first + i) * 3 % classes));
  }
  return out;
}

/// What came of a training.
struct Trained {
  std::vector<float> state;
  pv::defend::History history;
};

/// The same bits everywhere.
inline void check_same(const Trained& got, const Trained& expected) {
  CHECK(same_bits(got.state, expected.state));
  CHECK(got.history.updates == expected.history.updates);
  CHECK(got.history.forward_passes == expected.history.forward_passes);
  CHECK(got.history.backward_passes == expected.history.backward_passes);
  CHECK(got.history.false_labels == expected.history.false_labels);
  REQUIRE(got.history.epochs.size() == expected.history.epochs.size());
  for (std::size_t i = 0; i < got.history.epochs.size(); ++i) {
    const auto& a = got.history.epochs[i];
    const auto& b = expected.history.epochs[i];
    CHECK(a.loss == b.loss);
    CHECK(a.clean == b.clean);
    CHECK(a.adversarial == b.adversarial);
    CHECK(a.validation == b.validation);
    CHECK(a.validation_adversarial == b.validation_adversarial);
    CHECK(a.learning_rate == b.learning_rate);
    CHECK(a.events == b.events);
  }
}

}  // namespace small
