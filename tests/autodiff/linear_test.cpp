// SPDX-License-Identifier: MIT
// What the table of operations cannot say about the operations that apply weights: accumulation, changed weights,
// refusals.
#include "pavise/autodiff/linear.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <numeric>
#include <vector>

using pavise::Mode;
using pavise::Shape;
using pavise::Tape;

namespace {

struct Layer {
  pavise::ParameterStore<float> store;
  pavise::Parameter<float>& weight;
  pavise::Parameter<float>& bias;
  Layer(Shape w, Shape b) : weight(store.add("weight", w, {})), bias(store.add("bias", b, {})) {
    store.allocate(0);
    auto values = weight.edit();
    std::iota(values.begin(), values.end(), 1.0f);
  }
};

}  // namespace

TEST_CASE("conv2d: cross-correlation, row-major, by hand") {
  Layer layer({1, 1, 2, 2}, {1});
  layer.bias.edit()[0] = 10;
  Tape<float> tape;
  tape.begin(1, 1);
  auto x = tape.input({1, 2, 3});
  std::iota(x.data(), x.data() + 6, 0.0f);
  const auto y = conv2d(x, tape.parameter(layer.weight), tape.parameter(layer.bias));
  CHECK(y.shape() == Shape{1, 1, 2});
  CHECK(y.data()[0] == 10 + 0 * 1 + 1 * 2 + 3 * 3 + 4 * 4);
  CHECK(y.data()[1] == 10 + 1 * 1 + 2 * 2 + 4 * 3 + 5 * 4);
}

TEST_CASE("linear: an edited weight is used at once, also in the other number of lanes") {
  Layer layer({2, 3}, {2});
  for (const float factor : {1.0f, 5.0f}) {
    for (float& w : layer.weight.edit()) {
      w = factor;
    }
    for (const int lanes : {16, 1}) {
      Tape<float> tape;
      tape.begin(1, lanes);
      auto x = tape.input({3});
      std::fill_n(x.data(), 3 * lanes, 2.0f);
      const auto y = linear(x, tape.parameter(layer.weight), tape.parameter(layer.bias));
      CHECK(y.data()[0] == 6 * factor);
      CHECK(y.data()[lanes] == 6 * factor);
    }
  }
}

TEST_CASE("linear: gradients of parameters add up over passes, and lanes without an image add nothing") {
  Layer layer({2, 3}, {2});
  for (int pass = 1; pass <= 2; ++pass) {
    Tape<float> tape;
    tape.begin(5, 16, Mode::training, true);
    auto x = tape.input({3});
    std::fill_n(x.data(), 3 * 16, 2.0f);
    tape.backward(linear(x, tape.parameter(layer.weight), tape.parameter(layer.bias)));
    for (const float g : layer.weight.gradient()) {
      CHECK(g == 10 * pass);
    }
    CHECK(layer.bias.gradient()[1] == 5 * pass);
  }
}

TEST_CASE("weights: nothing is recorded for parameters unless the pass asks for it") {
  Layer layer({2, 3}, {2});
  Tape<float> tape;
  tape.begin(4);
  auto x = tape.input({3}, true);
  std::fill_n(x.data(), 3 * 16, 2.0f);
  tape.backward(linear(x, tape.parameter(layer.weight), tape.parameter(layer.bias)));
  for (const float g : layer.weight.gradient()) {
    CHECK(g == 0);
  }
  CHECK(tape.input_gradient(x)[0] == 1 + 4);
}

TEST_CASE("weights: a layer without outputs, or without inputs, touches nothing") {
  for (const int lanes : {16, 1}) {
    Layer none({0, 3, 3, 3}, {0});
    Layer empty({2, 0, 3, 3}, {2});
    Tape<float> tape;
    tape.begin(1, lanes, Mode::training, lanes == 16);
    auto x = tape.input({3, 5, 5}, true);
    std::fill_n(x.data(), x.size() * lanes, 1.0f);
    const auto y = conv2d(x, tape.parameter(none.weight), tape.parameter(none.bias), {.padding = 1});
    CHECK(y.size() == 0);
    const auto behind = tape.input({64});
    std::fill_n(tape.node(behind).value, 64 * lanes, 7.0f);
    const auto again = conv2d(x, tape.parameter(none.weight), tape.parameter(none.bias), {.padding = 1});
    tape.backward(again);
    const auto* dx = tape.input_gradient(x);
    CHECK(std::all_of(dx, dx + x.size() * lanes, [](float v) { return v == 0; }));
    CHECK(std::all_of(behind.data(), behind.data() + 64 * lanes, [](float v) { return v == 7; }));

    const auto of_nothing = tape.input({0, 5, 5}, true);
    const auto z = conv2d(of_nothing, tape.parameter(empty.weight), tape.parameter(empty.bias));
    CHECK(z.shape() == Shape{2, 3, 3});
    tape.backward(z);
    CHECK(std::all_of(z.data(), z.data() + z.size() * lanes, [](float v) { return v == 0; }));
  }
}

// The last window's vector of points begins at the last element: fifteen doubles further is more than a cache line.
TEST_CASE("conv2d: one image in double, at the end of its memory") {
  pavise::ParameterStore<double> store;
  auto& weight = store.add("weight", {1, 1, 3, 3}, {});
  store.allocate(0);
  weight.edit()[0] = 2;
  Tape<double> tape;
  tape.begin(1, 1);
  auto x = tape.input({1, 512, 512});
  std::fill_n(x.data(), x.size(), 1.0);
  const auto y = conv2d(x, tape.parameter(weight), {}, {.padding = 1});
  CHECK(y.data()[0] == 0);
  CHECK(y.data()[512 * 512 - 1] == 2);
}

TEST_CASE("weights: refuses what does not fit") {
  Layer conv({4, 3, 5, 5}, {4});
  Layer dense({2, 3}, {3});
  Tape<float> tape;
  tape.begin(1);
  const auto x = tape.input({1, 28, 28});
  const auto w = tape.parameter(conv.weight);
  CHECK_THROWS_AS(conv2d(x, w, {}), pavise::ShapeError);
  CHECK_THROWS_AS(conv2d(tape.input({3, 4, 4}), w, {}), pavise::ShapeError);
  CHECK_THROWS_AS(conv2d(tape.input({3, 8}), w, {}), pavise::ShapeError);
  CHECK_THROWS_AS(conv2d(tape.input({3, 8, 8}), w, {}, {.stride = 0}), pavise::ValueError);
  CHECK_THROWS_AS(conv2d(tape.input({3, 8, 8}), w, {}, {.groups = 3}), pavise::ShapeError);
  CHECK_THROWS_AS(conv2d(tape.input({3, 8, 8}), tape.input({4, 3, 5, 5}), {}), pavise::Error);
  CHECK_THROWS_WITH_AS(linear(tape.input({4}), tape.parameter(dense.weight), {}),
                       "linear: weight (2,3) expects 3 inputs, got (4)", pavise::ShapeError);
  CHECK_THROWS_WITH_AS(linear(tape.input({3}), tape.parameter(dense.weight), tape.parameter(dense.bias)),
                       "linear: weight (2,3) expects a bias of 2 elements, got (3)", pavise::ShapeError);
  CHECK_THROWS_AS(conv_transpose2d(tape.input({3, 4, 4}), w, {}), pavise::ShapeError);
  CHECK_THROWS_AS(conv_transpose2d(tape.input({4, 4, 4}), w, {}, {.output_padding = 1}), pavise::ValueError);
}
