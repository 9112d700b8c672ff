// SPDX-License-Identifier: MIT
// What the tests of certification share: images of few pixels, and classifiers whose smoothed versions are known.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/classifier.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/certify/certificate_fields.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/data/dataset.hpp"

namespace pavise_test {

/// `n` images (1,1,d) of two classes.
inline pavise::data::Dataset tiny_images(std::int64_t n, std::int64_t d, std::uint64_t seed = 1) {
  pavise::RandomSequence random({.seed = seed, .purpose = pavise::Purpose::test});
  std::vector<std::uint8_t> pixels;
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t e = 0; e < d; ++e) {
      pixels.push_back(static_cast<std::uint8_t>(random.below(256)));
    }
    labels.push_back(static_cast<std::int32_t>(i % 2));
  }
  return {"tiny", pavise::Shape{1, 1, d}, std::move(pixels), std::move(labels), {"zero", "one"}};
}

/// Logits from a function of the pixels of one image in floats: class 1 where it is positive, or NaN where it is NaN.
template <class F>
pavise::attack::Classifier two_classes(std::string name, std::int64_t d, F sign) {
  return {std::move(name), pavise::Shape{1, 1, d}, 2, [sign, d](pavise::Var<float> x) {
            const int lanes = x.tape().lanes();
            return pavise::custom(
                "two_classes", x, pavise::Shape{2},
                [=](std::span<const float> in, std::span<float> out) {
                  std::vector<float> image(static_cast<std::size_t>(d));
                  for (std::size_t lane = 0; lane < static_cast<std::size_t>(lanes); ++lane) {
                    for (std::size_t e = 0; e < image.size(); ++e) {
                      image[e] = in[e * static_cast<std::size_t>(lanes) + lane];
                    }
                    out[lane] = 0;
                    out[static_cast<std::size_t>(lanes) + lane] = sign(image);
                  }
                },
                [](auto, auto, auto, auto) {});
          }};
}

/// w.x - bias, summed in doubles.
struct Plane {
  std::vector<double> weights;
  double bias = 0;
  double at(const std::uint8_t* pixels) const {
    double sum = -bias;
    for (std::size_t e = 0; e < weights.size(); ++e) {
      sum += weights[e] * pixels[e] / 255.0;
    }
    return sum;
  }
  float operator()(const std::vector<float>& x) const {
    double sum = -bias;
    for (std::size_t e = 0; e < weights.size(); ++e) {
      sum += weights[e] * static_cast<double>(x[e]);
    }
    return static_cast<float>(sum);
  }
};

/// The field that a check names, or "".
template <class Check>
std::string named(const Check& check) {
  try {
    check();
  } catch (const pavise::certify::CertificateError& e) {
    return e.field;
  }
  return "";
}

}  // namespace pavise_test
