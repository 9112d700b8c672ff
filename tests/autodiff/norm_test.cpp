// SPDX-License-Identifier: MIT
// What the table of operations cannot say about normalisation: running statistics, large means, lanes without an image.
#include "pavise/autodiff/norm.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "pavise/core/philox.hpp"

using pavise::Mode;
using pavise::Shape;
using pavise::Tape;

namespace {

template <class T>
struct BatchNorm {
  pavise::ParameterStore<T> store;
  pavise::Parameter<T>& mean;
  pavise::Parameter<T>& var;
  explicit BatchNorm(std::int64_t channels)
      : mean(store.add("running_mean", {channels}, {}, false)), var(store.add("running_var", {channels}, {}, false)) {
    store.allocate(0);
    for (T& v : var.edit()) {
      v = 1;
    }
  }
};

}  // namespace

TEST_CASE("batch_norm: running statistics move as in PyTorch") {
  // torch.nn.BatchNorm1d(2, momentum=0.1) on [[1, 10], [2, 20], [6, 60]].
  BatchNorm<double> bn(2);
  Tape<double> tape;
  for (int pass = 0; pass < 2; ++pass) {
    tape.begin(3, 16, Mode::training);
    auto x = tape.input({2});
    const double values[2][3] = {{1, 2, 6}, {10, 20, 60}};
    for (int c = 0; c < 2; ++c) {
      for (int lane = 0; lane < 16; ++lane) {
        x.data()[c * 16 + lane] = lane < 3 ? values[c][lane] : std::numeric_limits<double>::quiet_NaN();
      }
    }
    batch_norm(x, {}, {}, bn.mean, bn.var);
    if (pass == 0) {
      CHECK(bn.mean.value()[0] == doctest::Approx(0.3).epsilon(1e-14));
      CHECK(bn.mean.value()[1] == doctest::Approx(3.0).epsilon(1e-14));
      CHECK(bn.var.value()[0] == doctest::Approx(0.9 + 0.7).epsilon(1e-14));
      CHECK(bn.var.value()[1] == doctest::Approx(0.9 + 70).epsilon(1e-14));
    }
  }
  CHECK(bn.mean.value()[0] == doctest::Approx(0.57).epsilon(1e-14));
  CHECK(bn.var.value()[0] == doctest::Approx(0.9 * 1.6 + 0.7).epsilon(1e-14));
}

TEST_CASE("batch_norm: lanes behind the last image take no part and get no gradient") {
  BatchNorm<float> bn(1);
  Tape<float> tape;
  tape.begin(18, 16, Mode::training);
  auto x = tape.input({1, 2, 2}, true);
  for (int i = 0; i < 2 * 4 * 16; ++i) {
    const int image = i / 64 * 16 + i % 16;
    x.data()[i] = image < 18 ? static_cast<float>(i % 7) : std::numeric_limits<float>::quiet_NaN();
  }
  const auto y = batch_norm(x, {}, {}, bn.mean, bn.var, {.relu = true});
  std::vector<float> dy(128);
  for (std::size_t i = 0; i < dy.size(); ++i) {
    dy[i] = static_cast<float>(i % 5);
  }
  tape.backward(y, dy.data());
  CHECK(std::isfinite(bn.mean.value()[0]));
  bool some = false;
  for (int i = 0; i < 128; ++i) {
    const float g = tape.input_gradient(x)[i];
    CHECK(std::isfinite(g));
    if (i / 64 * 16 + i % 16 >= 18) {
      CHECK(g == 0);
    }
    some = some || g != 0;
  }
  CHECK(some);
}

TEST_CASE("batch_norm, group_norm: a mean a thousand times the deviation costs few digits") {
  BatchNorm<float> bn(1);
  Tape<float> tape;
  tape.begin(32, 16, Mode::training);
  auto x = tape.input({1, 32, 32});
  const std::int64_t n = 32 * 32 * 32;
  pavise::RandomSequence random({.purpose = pavise::Purpose::test});
  double mean = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    x.data()[i] = static_cast<float>(1000 + random.normal());
    mean += static_cast<double>(x.data()[i]) / static_cast<double>(n);
  }
  double variance = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    variance += std::pow(static_cast<double>(x.data()[i]) - mean, 2) / static_cast<double>(n);
  }
  const auto y = batch_norm(x, {}, {}, bn.mean, bn.var);
  double worst = 0;
  for (std::int64_t i = 0; i < n; ++i) {
    const double expected = (static_cast<double>(x.data()[i]) - mean) / std::sqrt(variance + 1e-5);
    worst = std::max(worst, std::abs(static_cast<double>(y.data()[i]) - expected));
  }
  CHECK(worst < 1e-4);  // the mean itself is rounded to 6e-5
  const auto z = group_norm(x, {}, {});
  double sum = 0;
  double squares = 0;
  for (std::int64_t i = 0; i < n; i += 16) {
    sum += static_cast<double>(z.data()[i]);
    squares += std::pow(static_cast<double>(z.data()[i]), 2);
  }
  const double count = 2048;  // lane 0 of both groups
  CHECK(std::abs(sum / count) < 2e-4);
  CHECK(squares / count == doctest::Approx(1).epsilon(1e-3));
}

TEST_CASE("batch_norm: an evaluation pass changes nothing, a training pass of one value is refused") {
  BatchNorm<float> bn(2);
  Tape<float> tape;
  tape.begin(1);
  auto x = tape.input({2});
  std::fill_n(x.data(), 32, 3.0f);
  const auto y = batch_norm(x, {}, {}, bn.mean, bn.var);
  CHECK(y.data()[0] == doctest::Approx(3.0 / std::sqrt(1 + 1e-5)).epsilon(1e-7));
  CHECK(bn.mean.value()[0] == 0);
  CHECK(bn.var.value()[0] == 1);
  tape.begin(1, 16, Mode::training);
  x = tape.input({2});
  CHECK_THROWS_WITH_AS(batch_norm(x, {}, {}, bn.mean, bn.var),
                       "batch_norm: training needs more than one value a channel, got one image of shape (2)",
                       pavise::ValueError);
  CHECK(bn.mean.value()[0] == 0);
}

TEST_CASE("normalisation: refuses what does not fit") {
  BatchNorm<float> bn(3);
  pavise::ParameterStore<float> store;
  auto& two = store.add("two", {2}, {});
  store.allocate(0);
  Tape<float> tape;
  tape.begin(4);
  const auto x = tape.input({2, 3, 3});
  CHECK_THROWS_WITH_AS(batch_norm(x, {}, {}, bn.mean, bn.var),
                       "batch_norm: input (2,3,3) expects 2 running statistics, got (3) and (3)", pavise::ShapeError);
  CHECK_THROWS_WITH_AS(batch_norm(tape.input({3, 2, 2}), tape.parameter(two), {}, bn.mean, bn.var),
                       "batch_norm: input (3,2,2) expects 3 values of gamma, a parameter, got (2)", pavise::ShapeError);
  CHECK_THROWS_WITH_AS(group_norm(x, {}, {}, {.groups = 3}),
                       "group_norm: 3 groups do not divide the channels of (2,3,3)", pavise::ShapeError);
  CHECK_THROWS_AS(group_norm(x, {}, {}, {.groups = 0}), pavise::ValueError);
  CHECK_THROWS_WITH_AS(layer_norm(x, tape.parameter(two), {}),
                       "layer_norm: input (2,3,3) does not end in the parameters' axes (2)", pavise::ShapeError);
}
