// SPDX-License-Identifier: MIT
// The tape itself: when backward may be called, and on what.
#include "pavise/autodiff/tape.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>

using pavise::Mode;
using pavise::Shape;
using pavise::Tape;
using pavise::Var;

namespace {

Var<float> times(Var<float> x, float factor) {
  return pavise::pointwise(
      "times", x,
      [=](auto in, auto out) {
        std::transform(in.begin(), in.end(), out.begin(), [=](float v) { return factor * v; });
      },
      [=](auto, auto, auto dy, auto dx) {
        for (std::size_t i = 0; i < dx.size(); ++i) {
          dx[i] += factor * dy[i];
        }
      });
}

}  // namespace

TEST_CASE("backward: another output of the same pass, also one that is computed after the first backward") {
  Tape<float> tape;
  tape.begin(16);
  const auto x = tape.input({100}, true);
  std::fill_n(tape.node(x).value, 1600, 1.0f);
  const auto two = times(x, 2);
  const auto three = times(x, 3);
  tape.backward(two);
  CHECK(tape.input_gradient(x)[1599] == 2);
  tape.backward(three);
  CHECK(tape.input_gradient(x)[1599] == 3);
  const auto eight = times(times(two, 2), 2);
  tape.backward(eight);
  CHECK(tape.input_gradient(x)[0] == 8);
  CHECK(tape.input_gradient(x)[1599] == 8);
  CHECK(std::all_of(eight.data(), eight.data() + 1600, [](float v) { return v == 8; }));
}

TEST_CASE("backward: starts from a value with lanes that depends on what is watched") {
  pavise::ParameterStore<float> store;
  auto& weight = store.add("weight", {3}, {});
  store.allocate(0);
  Tape<float> tape;
  tape.begin(16, 16, Mode::training, true);
  CHECK_THROWS_AS(tape.backward(tape.parameter(weight)), pavise::ValueError);
  CHECK_THROWS_AS(tape.backward(tape.input({3})), pavise::ValueError);
}
