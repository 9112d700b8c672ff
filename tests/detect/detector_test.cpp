// SPDX-License-Identifier: MIT
// Scores of the feature-squeezing detector against double, and that they are the same bits in any company; the detector
// as a classifier that refuses.
#include "pavise/defend/detector.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <vector>

#include "detect/detect_checks.hpp"
#include "kernels/each_isa.hpp"
#include "pavise/nn/linear.hpp"

using namespace detect_checks;

namespace {

constexpr std::int64_t kInputs = 12;
constexpr std::int64_t kClasses = 4;

/// One linear layer on images (1,3,4).
pv::nn::Model linear_classifier() {
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  net->add<pv::nn::Linear>("fc", kInputs, kClasses);
  return {"linear", std::move(net), pv::Shape{1, 3, 4}, 7};
}

/// The same in double, with weights that make it certain of some images.
std::vector<double> softmax_of(const pv::nn::Model& model, const std::vector<double>& image) {
  const auto& parameters = std::as_const(model.parameters()).parameters();
  const auto weight = parameters[0].value();
  const auto bias = parameters[1].value();
  std::vector<double> p(kClasses);
  double sum = 0;
  for (std::size_t k = 0; k < kClasses; ++k) {
    double z = static_cast<double>(bias[k]);
    for (std::size_t e = 0; e < kInputs; ++e) {
      z += static_cast<double>(weight[k * kInputs + e]) * image[e];
    }
    p[k] = std::exp(z);
    sum += p[k];
  }
  for (double& v : p) {
    v /= sum;
  }
  return p;
}

/// Bit depth and the 2 x 2 median as they are defined, in double.
std::vector<double> one_bit(std::vector<double> image) {
  for (double& v : image) {
    v = std::nearbyint(v);
  }
  return image;
}
std::vector<double> median(const std::vector<double>& image) {
  std::vector<double> out;
  for (int i = 0; i < 3; ++i) {
    for (int j = 0; j < 4; ++j) {
      std::vector<double> window;
      for (const int a : {i - 1, i}) {
        for (const int b : {j - 1, j}) {
          window.push_back(image[static_cast<std::size_t>(std::max(a, 0) * 4 + std::max(b, 0))]);
        }
      }
      std::sort(window.begin(), window.end());
      out.push_back(window[2]);
    }
  }
  return out;
}

pv::Tensor<float> noise_images(std::int64_t n) {
  pv::Tensor<float> images(pv::Shape{n, 1, 3, 4});
  pv::RandomSequence random({.seed = 9, .purpose = pv::Purpose::test});
  for (float& v : images) {
    v = static_cast<float>(random.uniform(0.0, 1.0));
  }
  return images;
}

void scale_weights(pv::nn::Model& model, float factor) {
  for (auto& p : model.parameters().parameters()) {
    for (float& v : p.edit()) {
      v *= factor;
    }
  }
}

}  // namespace

TEST_CASE("detector: the score is the largest L1 distance of softmaxes, as double has it") {
  auto model = linear_classifier();
  const auto images = noise_images(37);
  for (const float factor : {1.0f, 20.0f}) {
    scale_weights(model, factor);
    const auto scores = joint_detector().scores(model, images);
    REQUIRE(scores.size() == 37);
    double largest = 0;
    for (std::int64_t i = 0; i < 37; ++i) {
      const auto row = images.row(i);
      const std::vector<double> image(row.begin(), row.end());
      double expected = 0;
      for (const auto& squeezed : {one_bit(image), median(image)}) {
        const auto p = softmax_of(model, image);
        const auto q = softmax_of(model, squeezed);
        double distance = 0;
        for (std::size_t k = 0; k < kClasses; ++k) {
          distance += std::abs(p[k] - q[k]);
        }
        expected = std::max(expected, distance);
      }
      CHECK(static_cast<double>(scores[static_cast<std::size_t>(i)]) == doctest::Approx(expected).epsilon(1e-5));
      largest = std::max(largest, expected);
    }
    CHECK(largest > (factor > 1.0f ? 1.5 : 0.1));
  }
}

TEST_CASE("detector: a score is the same bits in any company, order, number of threads and instruction set") {
  const auto& model = undefended();
  const auto images = attack::to_tensor(test_images(37));
  const auto detector = joint_detector();
  const auto scores = detector.scores(model, images);
  CHECK(*std::max_element(scores.begin(), scores.end()) > 0.01f);
  {
    const Threads one(1);
    CHECK(same_bits(detector.scores(model, images), scores));
  }
  pv::Tensor<float> reversed(images.shape());
  for (std::int64_t i = 0; i < 37; ++i) {
    std::copy(images.row(i).begin(), images.row(i).end(), reversed.row(36 - i).begin());
  }
  auto back = detector.scores(model, reversed);
  std::reverse(back.begin(), back.end());
  CHECK(same_bits(back, scores));
  for (const std::int64_t i : {0, 5, 36}) {
    pv::Tensor<float> alone(pv::Shape{1, 1, 28, 28});
    std::copy(images.row(i).begin(), images.row(i).end(), alone.row(0).begin());
    CHECK(same_bits(detector.scores(model, alone), std::vector{scores[static_cast<std::size_t>(i)]}));
  }
  each_isa([&] { CHECK(same_bits(detector.scores(model, images), scores)); });
}

TEST_CASE("detector: an image of NaN is flagged by any threshold, and its neighbours keep their scores") {
  const auto& model = undefended();
  auto images = attack::to_tensor(test_images(20));
  const auto detector = joint_detector();
  const auto before = detector.scores(model, images);
  images.row(3)[400] = std::numeric_limits<float>::quiet_NaN();
  const auto after = detector.scores(model, images);
  for (std::size_t i = 0; i < 20; ++i) {
    CHECK((i == 3 || after[i] == before[i]));
  }
  CHECK(after[3] == std::numeric_limits<float>::infinity());
  CHECK(detector.with_threshold(2.0f).flags(after[3]));
  CHECK(detector.with_threshold(2.0f).flags(std::nanf("")));

  // As a classifier that refuses: refused, and no success for an attack.
  const auto guarded = detector.with_threshold(2.0f).guard(model);
  std::vector<float> x(16 * 784);
  for (std::size_t e = 0; e < 784; ++e) {
    for (std::size_t lane = 0; lane < 16; ++lane) {
      x[e * 16 + lane] = images.row(static_cast<std::int64_t>(lane))[e];
    }
  }
  pv::AlignedVector<float> lanes(x.begin(), x.end());
  attack::Answer answer;
  attack::query(guarded, lanes.data(), 16, 16, nullptr, {}, false, {}, answer);
  for (std::size_t lane = 0; lane < 16; ++lane) {
    CHECK(answer.rejected[lane] == (lane == 3));
  }
  CHECK_FALSE(attack::fooled({.prediction = 1, .finite = true, .rejected = true}, 0, false));
}

TEST_CASE("detector: as a classifier it refuses exactly what the score flags, at the threshold itself as well") {
  const auto& model = undefended();
  const auto set = test_images(48);
  const auto images = attack::to_tensor(set);
  const auto detector = joint_detector();
  const auto scores = detector.scores(model, images);
  for (const std::size_t of : {0, 7, 20}) {  // the threshold is the score of one of the images
    const auto fitted = detector.with_threshold(scores[of]);
    const auto guarded = fitted.guard(model);
    CHECK(guarded.declaration().rejects);
    CHECK_FALSE(guarded.declaration().differentiable);
    CHECK(guarded.classes() == 10);
    const auto result = attack::run(attack::Pgd(attack::linf(0.0), {.steps = 1}), guarded, set);
    const auto plain = attack::run(attack::Pgd(attack::linf(0.0), {.steps = 1}), model, set);
    CHECK(result.clean_prediction == plain.clean_prediction);
    for (std::size_t i = 0; i < scores.size(); ++i) {
      CHECK((result.clean_rejected[i] != 0) == (scores[i] > scores[of]));
      CHECK((result.clean_rejected[i] != 0) == fitted.flags(scores[i]));
      const bool right = plain.clean_prediction[i] == set.label(static_cast<std::int64_t>(i));
      CHECK((result.fooled[i] != 0) == (!right && !fitted.flags(scores[i])));
    }
  }
}

TEST_CASE("detector: fits a share of clean images, and says what it refuses") {
  const auto& model = undefended();
  const auto images = attack::to_tensor(fit_images());
  const auto detector = joint_detector();
  CHECK_FALSE(detector.fitted());
  CHECK(detector.name() == "bit-depth:1, median:2");
  const auto fitted = detector.fit(model, images, 0.05);
  const auto scores = detector.scores(model, images);
  CHECK(std::count_if(scores.begin(), scores.end(), [&](float s) { return fitted.flags(s); }) == 20);
  CHECK(contains(refusal([&] { detector.guard(model); }), "has no threshold"));
  CHECK(contains(refusal([&] { (void)detector.flags(0.5f); }), "has no threshold"));
  CHECK(contains(refusal([] { defend::FeatureSqueezing({}); }), "no squeezers"));
  CHECK(contains(refusal([] { defend::FeatureSqueezing(std::vector<defend::FilterList<float>>(1)); }), "no filters"));
  CHECK(contains(refusal([&] { detector.with_threshold(2.5f); }), "threshold of 2.5"));
  CHECK(contains(refusal([&] { detector.with_threshold(std::nanf("")); }), "threshold of nan"));
  CHECK(contains(refusal([&] { fitted.guard(fitted.guard(model)); }), "refuses inputs itself"));
  CHECK(contains(refusal([&] { detector.scores(model, noise_images(2)); }), "got (2,1,3,4)"));
  CHECK(contains(refusal([&] { detector.scores(linear_classifier(), images); }), "(1,3,4)"));
  CHECK(detector.scores(model, pv::Tensor<float>(pv::Shape{0, 1, 28, 28})).empty());
}

TEST_CASE("detector: squeezers by name, the published sets among them") {
  CHECK(defend::make_squeezers("mnist").size() == 2);
  CHECK(defend::FeatureSqueezing(defend::make_squeezers("cifar10")).name() == "bit-depth:5, median:2, nlm:13-3-2");
  CHECK(defend::FeatureSqueezing(defend::make_squeezers("imagenet")).name() == "bit-depth:5, median:2, nlm:11-3-4");
  const auto chain = defend::make_squeezers(" bit-depth:4 | median:3 ,median:2");
  REQUIRE(chain.size() == 2);
  CHECK(chain[0].size() == 2);
  CHECK(chain[0].to_string() == "bit-depth:4 | median:3");
  CHECK(contains(refusal([] { defend::make_squeezers("bit-depth:1, sharpen:2"); }), "sharpen"));
  CHECK(contains(refusal([] { defend::make_squeezers(""); }), "filter ''"));
}
