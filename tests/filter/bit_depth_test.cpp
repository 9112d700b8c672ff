// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/bit_depth.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "filter/filter_checks.hpp"

using namespace filter_checks;

namespace {

auto levels(int bits) {
  return [bits](const Values& x, Shape, std::uint32_t) {
    const double steps = std::ldexp(1.0, bits) - 1.0;
    Values out;
    for (const double v : x) {
      out.push_back(std::nearbyint(v * steps) / steps);
    }
    return out;
  };
}

}  // namespace

TEST_CASE("bit depth: the nearest level") {
  check_value(row("bit-depth:1", {1, 5, 7}, levels(1)));
  check_value(row("bit-depth:4", {3, 4, 3}, levels(4)));
  check_value(row("bit-depth:8", {1, 1, 1}, levels(8), -2, 3));
}

TEST_CASE("bit depth: ties go to the even level, and levels stay") {
  pv::Tape<float> tape;
  tape.begin(1, 1);
  Var<float> x = tape.input({1, 1, 5});
  const float in[] = {0.5f / 3, 0.5f, 2.5f / 3, 1.0f / 3, 1.0f};  // 0.5, 1.5, 2.5, 1, 3 steps of a third
  std::copy_n(in, 5, x.data());
  x.data()[0] = std::nextafter(0.5f / 3, 0.0f);
  const Var<float> y = defend::bit_depth(x, 2);
  CHECK(y.data()[0] == 0.0f);
  CHECK(y.data()[1] == 2.0f / 3);
  CHECK(y.data()[3] == 1.0f / 3);
  CHECK(y.data()[4] == 1.0f);
  const Var<float> one = defend::bit_depth(x, 1);
  CHECK(one.data()[1] == 0.0f);  // exactly half a step
  CHECK(one.data()[2] == 1.0f);
}

TEST_CASE("bit depth: its gradient is the identity's; NaN stays in its image") {
  check_straight_through("bit-depth:4", {1, 3, 5});
  check_nan_stays("bit-depth:4", {1, 3, 5});
}

TEST_CASE("bit depth: refuses what is no number of bits") {
  CHECK_THROWS_WITH_AS(defend::BitDepth<float>(0), "bit-depth: 0 bits, expected 1 to 16", pv::ValueError);
  CHECK_THROWS_WITH_AS(defend::BitDepth<float>(17), "bit-depth: 17 bits, expected 1 to 16", pv::ValueError);
}
