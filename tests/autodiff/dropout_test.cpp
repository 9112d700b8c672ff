// SPDX-License-Identifier: MIT
// What the table of operations cannot say about dropout: its rate, and what it depends on.
#include "pavise/autodiff/dropout.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

using pavise::Mode;
using pavise::Tape;

namespace {

/// Which of 4096 ones of image `image` survive.
std::vector<float> survivors(pavise::PassKey key, std::uint32_t image, double rate, std::uint32_t layer) {
  Tape<float> tape;
  tape.begin(1, 1, Mode::training);
  key.images = &image;
  tape.set_key(key);
  auto x = tape.input({4096});
  std::fill_n(x.data(), 4096, 1.0f);
  const auto y = dropout(x, rate, layer);
  return {y.data(), y.data() + 4096};
}

}  // namespace

TEST_CASE("dropout: the rate, and the factor that keeps the mean") {
  for (const double rate : {0.1, 0.5, 0.8}) {
    CAPTURE(rate);
    double dropped = 0;
    int wrong = 0;
    for (std::uint32_t image = 0; image < 16; ++image) {
      for (const float v : survivors({.seed = 1}, image, rate, 0)) {
        dropped += v == 0 ? 1 : 0;
        wrong += v == 0 || std::abs(v - 1 / (1 - rate)) < 1e-6 ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
    const double n = 16 * 4096;
    CHECK(std::abs(dropped - rate * n) < 4 * std::sqrt(n * rate * (1 - rate)));
  }
}

TEST_CASE("dropout: seed, iteration, image and layer each give another pattern, and nothing else does") {
  const auto base = survivors({.seed = 1, .iteration = 2}, 3, 0.5, 4);
  CHECK(base == survivors({.seed = 1, .iteration = 2}, 3, 0.5, 4));
  CHECK(base != survivors({.seed = 2, .iteration = 2}, 3, 0.5, 4));
  CHECK(base != survivors({.seed = 1, .iteration = 3}, 3, 0.5, 4));
  CHECK(base != survivors({.seed = 1, .iteration = 2}, 4, 0.5, 4));
  CHECK(base != survivors({.seed = 1, .iteration = 2}, 3, 0.5, 5));
}

TEST_CASE("dropout: without names the images are 0, 1, 2, ...") {
  Tape<float> tape;
  tape.begin(18, 16, Mode::training);
  tape.set_key({.seed = 1});
  auto x = tape.input({4096});
  std::fill_n(x.data(), 2 * 4096 * 16, 1.0f);
  const auto y = dropout(x, 0.5, 0);
  for (const std::uint32_t image : {0u, 5u, 17u}) {
    const auto expected = survivors({.seed = 1}, image, 0.5, 0);
    std::size_t same = 0;
    for (std::size_t e = 0; e < 4096; ++e) {
      same += y.data(image / 16)[e * 16 + image % 16] == expected[e] ? 1 : 0;
    }
    CHECK(same == 4096);
  }
}

TEST_CASE("dropout: an evaluation pass and a rate of 0 give x itself; other rates are refused") {
  Tape<float> tape;
  tape.begin(2);
  auto x = tape.input({3});
  CHECK(dropout(x, 0.5, 0).id() == x.id());
  tape.begin(2, 16, Mode::training);
  x = tape.input({3});
  CHECK(dropout(x, 0.0, 0).id() == x.id());
  CHECK(dropout(x, 0.5, 0).id() != x.id());
  CHECK_THROWS_WITH_AS(dropout(x, 1.0, 0), "dropout: rate 1, expected 0 or more and less than 1", pavise::ValueError);
  CHECK_THROWS_AS(dropout(x, -0.1, 0), pavise::ValueError);
  CHECK_THROWS_AS(dropout(x, std::nan(""), 0), pavise::ValueError);
  CHECK_THROWS_AS(dropout(x, 0.5, 65536), pavise::ValueError);
}
