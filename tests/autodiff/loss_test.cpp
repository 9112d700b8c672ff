// SPDX-License-Identifier: MIT
#include "pavise/autodiff/loss.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "autodiff/check.hpp"

namespace pv = pavise;

namespace {

using Images = std::vector<std::vector<double>>;

std::int32_t label_of(std::int64_t image, std::int64_t classes) {
  return static_cast<std::int32_t>((image * 7 + 3) % classes);
}
/// Labels of a pass whose first image is `first`.
std::vector<std::int32_t> labels_from(std::int64_t first, std::int64_t classes) {
  std::vector<std::int32_t> out;
  for (std::int64_t n = 0; n < 32; ++n) {
    out.push_back(label_of(first + n, classes));
  }
  return out;
}

std::vector<double> log_softmax(const std::vector<double>& z, double temperature = 1) {
  double largest = -std::numeric_limits<double>::infinity();
  for (const double v : z) {
    largest = std::max(largest, v / temperature);
  }
  double sum = 0;
  for (const double v : z) {
    sum += std::exp(v / temperature - largest);
  }
  std::vector<double> out;
  for (const double v : z) {
    out.push_back(v / temperature - largest - std::log(sum));
  }
  return out;
}

}  // namespace

TEST_CASE("cross_entropy: value, gradient, bits") {
  for (const std::int64_t classes : {1, 2, 7, 10}) {
    for (const double smoothing : {0.0, 0.1}) {
      for (const double temperature : {1.0, 3.5}) {
        CAPTURE(classes);
        const auto f = [=](auto& x, std::int64_t first) {
          return pv::cross_entropy(x[0], labels_from(first, classes).data(), smoothing, temperature);
        };
        const auto reference = [=](Images& x, std::int64_t n) {
          const auto p = log_softmax(x[0], temperature);
          double loss = 0;
          for (std::size_t i = 0; i < p.size(); ++i) {
            const double q = smoothing / static_cast<double>(classes) +
                             (static_cast<std::int32_t>(i) == label_of(n, classes) ? 1 - smoothing : 0.0);
            loss -= q * p[i];
          }
          return std::vector{loss};
        };
        const check::Options o{.low = -4, .high = 4};
        check::forward_check<float>(f, {{classes}}, reference, 1e-6, o);
        check::forward_check<double>(f, {{classes}}, reference, 1e-14, o);
        if (classes > 1) {
          check::gradient_check(f, {{classes}}, o);
        }
        check::same_bits(f, {{classes}}, o);
      }
    }
  }
}

TEST_CASE("cross_entropy: confident logits keep their loss and gradient") {
  pv::Tape<float> tape;
  tape.begin(2);
  auto z = tape.input({3}, true);
  const float logits[2][3] = {{30, 0, 1}, {-200, 0, 100}};
  for (int e = 0; e < 3; ++e) {
    for (int lane = 0; lane < 16; ++lane) {
      z.data()[e * 16 + lane] = logits[lane == 1][e];
    }
  }
  const std::int32_t labels[2] = {0, 0};
  auto loss = pv::cross_entropy(z, labels);
  const double rest = std::exp(-30.0) + std::exp(-29.0);
  CHECK(loss.data()[0] == doctest::Approx(rest).epsilon(1e-6));
  CHECK(loss.data()[1] == doctest::Approx(300.0));
  tape.backward(loss);
  const float* g = tape.input_gradient(z);
  CHECK(g[0] == doctest::Approx(-rest).epsilon(1e-6));
  CHECK(g[16] == doctest::Approx(std::exp(-30.0)).epsilon(1e-6));
  CHECK(g[1] == -1.0f);
  CHECK(g[2 * 16 + 1] == 1.0f);
}

TEST_CASE("cross_entropy: what it refuses") {
  pv::Tape<float> tape;
  tape.begin(2);
  auto z = tape.input({3});
  auto image = tape.input({1, 2, 2});
  const std::int32_t labels[2] = {0, 3};
  CHECK_THROWS_WITH_AS(pv::cross_entropy(z, labels), "cross_entropy: label 3 of image 1, expected 0 to 2",
                       pv::ValueError);
  CHECK_THROWS_WITH_AS(pv::cross_entropy(image, labels),
                       "cross_entropy: the logits are (classes) with at least 1 classes, got (1,2,2)", pv::ShapeError);
  const std::int32_t fine[2] = {0, 2};
  CHECK_THROWS_AS(pv::cross_entropy(z, fine, 1.5f), pv::ValueError);
  CHECK_THROWS_AS(pv::cross_entropy(z, fine, 0.0f, 0.0f), pv::ValueError);
}

TEST_CASE("argmax: ties, NaN, infinities") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const float cases[6][4] = {{1, 3, 3, 2},     {nan, -inf, 0, nan},   {nan, nan, nan, nan}, {-inf, -inf, -inf, -inf},
                             {0, 1, nan, inf}, {nan, -inf, -inf, nan}};
  const std::int32_t expected[6] = {1, 2, 0, 0, 3, 1};
  for (const int lanes : {16, 1}) {
    pv::Tape<float> tape;
    tape.begin(6, lanes);
    auto z = tape.input({4});
    for (int n = 0; n < 6; ++n) {
      for (int e = 0; e < 4; ++e) {
        z.data(n / lanes)[e * lanes + n % lanes] = cases[n][e];
      }
    }
    std::vector<std::int32_t> out(16);
    pv::argmax(z, out.data());
    for (std::size_t n = 0; n < 6; ++n) {
      CHECK(out[n] == expected[n]);
    }
  }
}
