// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/jpeg.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "filter/filter_checks.hpp"
#include "filter/libjpeg.hpp"
#include "pavise/core/philox.hpp"

using namespace filter_checks;

namespace {

/// libjpeg on the nearest bytes.
Oracle libjpeg_oracle(int quality, bool halved) {
  return [=](const Values& x, Shape s, std::uint32_t) {
    const auto pixels = static_cast<std::size_t>(s[1] * s[2]);
    const auto channels = static_cast<std::size_t>(s[0]);
    std::vector<std::uint8_t> bytes(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      bytes[i % pixels * channels + i / pixels] =
          static_cast<std::uint8_t>(std::nearbyint(std::clamp(x[i], 0.0, 1.0) * 255));
    }
    const auto back = libjpeg::round_trip(bytes, static_cast<int>(s[1]), static_cast<int>(s[2]),
                                          static_cast<int>(channels), quality, halved);
    Values out(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      out[i] = back[i % pixels * channels + i / pixels] / 255.0;
    }
    return out;
  };
}

/// A smooth image with an edge and some texture: photographs are no white noise.
Values scene(Shape s, double texture) {
  Values out;
  pv::RandomSequence random({.seed = 4, .purpose = pv::Purpose::test});
  for (std::int64_t c = 0; c < s[0]; ++c) {
    for (std::int64_t i = 0; i < s[1]; ++i) {
      for (std::int64_t j = 0; j < s[2]; ++j) {
        const double v = 0.5 + 0.3 * std::sin(0.21 * static_cast<double>(i) + static_cast<double>(c)) +
                         0.2 * std::cos(0.13 * static_cast<double>(j) * (1.0 + static_cast<double>(c))) +
                         (i + 2 * j > s[2] ? 0.2 : -0.2);
        out.push_back(std::clamp(v + texture * random.uniform(-1, 1), 0.0, 1.0));
      }
    }
  }
  return out;
}

}  // namespace

TEST_CASE("jpeg: libjpeg's pixels, lanes, threads, instruction sets") {
  const auto text = [](int quality, bool halved) { return pv::concat("jpeg:", quality, halved ? ":420" : ":444"); };
  for (const bool halved : {true, false}) {
    for (const Shape shape : {Shape{3, 16, 16}, Shape{3, 13, 19}, Shape{3, 1, 1}, Shape{3, 2, 3}, Shape{3, 9, 4}}) {
      check_value(row(text(75, halved), shape, libjpeg_oracle(75, halved), -0.1, 1.1).within(1e-7));
    }
  }
  for (const Shape shape : {Shape{1, 8, 8}, Shape{1, 11, 21}, Shape{1, 1, 1}, Shape{1, 3, 17}}) {
    check_value(row(text(75, true), shape, libjpeg_oracle(75, true)).within(1e-7));
  }
}

TEST_CASE("jpeg: every quality, on noise and on smooth images of odd sizes, byte for byte") {
  for (const Shape shape : {Shape{1, 28, 28}, Shape{3, 32, 32}, Shape{3, 31, 45}, Shape{3, 5, 6}, Shape{1, 37, 50}}) {
    for (const double texture : {0.02, 0.4}) {
      const Values x = scene(shape, texture);
      for (const int quality : {1, 5, 10, 20, 40, 49, 50, 51, 60, 75, 80, 90, 95, 100}) {
        for (const bool halved : {true, false}) {
          const auto name = pv::concat("jpeg:", quality, halved ? ":420" : ":444");
          INFO(name, " of ", shape.to_string(), ", texture ", texture);
          const Values got = filtered(name, shape, x);
          const Values expected = libjpeg_oracle(quality, halved)(x, shape, 0);
          double worst = 0;
          for (std::size_t i = 0; i < x.size(); ++i) {
            worst = std::max(worst, std::abs(got[i] - expected[i]) * 255);
          }
          CHECK(worst < 0.01);
        }
      }
    }
  }
}

TEST_CASE("jpeg: one colour stays nearly what it is; the derivative is soft_jpeg's; NaN stays in its image") {
  for (const Shape shape : {Shape{1, 1, 1}, Shape{3, 7, 9}}) {
    const Values flat(static_cast<std::size_t>(shape.numel()), 0.4);
    for (const double v : filtered("jpeg:90", shape, flat)) {
      CHECK(v == doctest::Approx(0.4).epsilon(0.02));
    }
  }
  pv::Tape<double> tape;
  tape.begin(1, 1);
  const Shape shape{3, 9, 11};
  const Values x = scene(shape, 0.3);
  Var<double> a = tape.input(shape, true);
  Var<double> b = tape.input(shape, true);
  std::copy(x.begin(), x.end(), a.data());
  std::copy(x.begin(), x.end(), b.data());
  const Var<double> hard = defend::jpeg(a, {.quality = 40});
  const Var<double> soft = defend::soft_jpeg(b, {.quality = 40});
  Values seed;
  for (std::size_t i = 0; i < x.size(); ++i) {
    seed.push_back(static_cast<double>(i % 7) - 3);
  }
  tape.backward(hard, seed.data());
  const Values of_hard(tape.input_gradient(a), tape.input_gradient(a) + x.size());
  tape.backward(soft, seed.data());
  CHECK(of_hard == Values(tape.input_gradient(b), tape.input_gradient(b) + x.size()));
  CHECK_FALSE(defend::Jpeg<float>(40).declaration().differentiable);
  check_nan_stays("jpeg:50", {1, 9, 9});
  check_nan_stays("jpeg:50", {3, 9, 9});
}

TEST_CASE("jpeg: refuses other qualities and channels") {
  CHECK_THROWS_WITH_AS(defend::Jpeg<float>(0), "jpeg: quality 0, expected 1 to 100", pv::ValueError);
  CHECK_THROWS_WITH_AS(defend::Jpeg<float>(75).output_shape({2, 8, 8}),
                       "jpeg:75:420: expects 1 or 3 channels, got (2,8,8)", pv::ShapeError);
}
