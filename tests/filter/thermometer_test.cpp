// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/thermometer.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <memory>

#include "filter/filter_checks.hpp"
#include "pavise/nn/models.hpp"

using namespace filter_checks;

namespace {

auto code(int levels) {
  return [levels](const Values& x, Shape s, std::uint32_t) {
    const auto pixels = static_cast<std::size_t>(s[1] * s[2]);
    Values out(x.size() * static_cast<std::size_t>(levels));
    for (std::size_t i = 0; i < x.size(); ++i) {
      for (int k = 0; k < levels; ++k) {
        out[(i / pixels * static_cast<std::size_t>(levels) + static_cast<std::size_t>(k)) * pixels + i % pixels] =
            x[i] * levels > k ? 1 : 0;
      }
    }
    return out;
  };
}

}  // namespace

TEST_CASE("thermometer: the code, lanes, threads, instruction sets") {
  check_value(row("thermometer:16", {1, 5, 7}, code(16), -0.2, 1.2));
  check_value(row("thermometer:3", {3, 2, 2}, code(3)));
  check_value(row("thermometer:2", {1, 1, 1}, code(2)));
  check_nan_stays("thermometer:4", {2, 3, 3});
}

TEST_CASE("thermometer: its gradient is that of the smooth code") {
  pv::Tape<double> tape;
  tape.begin(1, 1);
  Var<double> x = tape.input({2, 1, 2}, true);
  const double in[] = {0.0, 0.3, 0.7, 1.0};
  std::copy_n(in, 4, x.data());
  Var<double> y = defend::thermometer(x, 5);
  const auto smooth = [](double v, int k) { return 1 / (1 + std::exp(-(5 * v - k))); };
  double seed[20];
  for (int i = 0; i < 20; ++i) {
    seed[i] = (i * 7 % 11) - 5;
  }
  tape.backward(y, seed);
  for (int i = 0; i < 4; ++i) {
    double expected = 0;
    for (int k = 0; k < 5; ++k) {
      expected += seed[(i / 2 * 5 + k) * 2 + i % 2] * (smooth(in[i] + 1e-6, k) - smooth(in[i] - 1e-6, k)) / 2e-6;
    }
    CHECK(tape.input_gradient(x)[i] == doctest::Approx(expected).epsilon(1e-7));
  }
  CHECK_FALSE(defend::Thermometer<float>(5).declaration().differentiable);
}

TEST_CASE("thermometer: refuses other levels, and a model that was trained without it") {
  CHECK_THROWS_AS(defend::Thermometer<float>(1), pv::ValueError);
  CHECK(defend::Thermometer<float>(16).output_shape({3, 4, 5}) == Shape{48, 4, 5});
  CHECK_THROWS_WITH_AS(defend::Thermometer<float>(16).input_shape({3, 4, 5}),
                       doctest::Contains("it was not trained with this code"), pv::ShapeError);
}
