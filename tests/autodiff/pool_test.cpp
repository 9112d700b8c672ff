// SPDX-License-Identifier: MIT
// What the table of operations cannot say about pooling: ties, NaN, options that are refused.
#include "pavise/autodiff/pool.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <vector>

using pavise::Shape;
using pavise::Tape;
using pavise::Var;

namespace {

struct Pooled {
  std::vector<float> value, gradient;
};

/// Pools one image, held in lane 3 of 16 (others hold 100) or alone, with dy = 1, 2, 3, ...
template <class F>
Pooled pool(Shape shape, const std::vector<float>& x, int lanes, const F& f) {
  Tape<float> tape;
  tape.begin(lanes, lanes);
  const int lane = lanes == 16 ? 3 : 0;
  Var<float> in = tape.input(shape, true);
  const auto n = static_cast<std::size_t>(lanes);
  for (std::size_t i = 0; i < x.size(); ++i) {
    for (int k = 0; k < lanes; ++k) {
      in.data()[i * n + static_cast<std::size_t>(k)] = k == lane ? x[i] : 100.0f;
    }
  }
  Var<float> y = f(in);
  std::vector<float> dy(static_cast<std::size_t>(y.size()) * n);
  for (std::size_t i = 0; i < dy.size(); ++i) {
    dy[i] = static_cast<float>(i / n + 1);
  }
  tape.backward(y, dy.data());
  Pooled out;
  for (std::size_t i = 0; i < static_cast<std::size_t>(y.size()); ++i) {
    out.value.push_back(y.data()[i * n + static_cast<std::size_t>(lane)]);
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    out.gradient.push_back(tape.input_gradient(in)[i * n + static_cast<std::size_t>(lane)]);
  }
  return out;
}

const float kNan = std::numeric_limits<float>::quiet_NaN();
const float kInfinity = std::numeric_limits<float>::infinity();

}  // namespace

TEST_CASE("max_pool2d: of equal maxima the first gets the gradient") {
  for (const int lanes : {16, 1}) {
    CAPTURE(lanes);
    const auto p = pool({1, 2, 4}, {1, 5, 2, 2, 5, 5, 2, 2}, lanes, [](auto x) { return max_pool2d(x); });
    CHECK(p.value == std::vector<float>{5, 2});
    CHECK(p.gradient == std::vector<float>{0, 1, 2, 0, 0, 0, 0, 0});
  }
}

TEST_CASE("max_pool2d: overlapping windows add up") {
  for (const int lanes : {16, 1}) {
    const auto p =
        pool({1, 1, 5}, {0, 9, 0, 9, 9}, lanes, [](auto x) { return max_pool2d(x, {.kernel = 1, .stride = 2}); });
    CHECK(p.gradient == std::vector<float>{1, 0, 2, 0, 3});
    const auto q = pool({1, 3, 3}, {0, 0, 0, 0, 7, 0, 0, 0, 0}, lanes,
                        [](auto x) { return max_pool2d(x, {.kernel = 2, .stride = 1}); });
    CHECK(q.value == std::vector<float>{7, 7, 7, 7});
    CHECK(q.gradient == std::vector<float>{0, 0, 0, 0, 10, 0, 0, 0, 0});
  }
}

TEST_CASE("max_pool2d: NaN wins, and the last one gets the gradient") {
  for (const int lanes : {16, 1}) {
    CAPTURE(lanes);
    const auto p = pool({1, 2, 4}, {kNan, 9, 1, 2, kNan, 3, 4, 3}, lanes, [](auto x) { return max_pool2d(x); });
    CHECK(std::isnan(p.value[0]));
    CHECK(p.value[1] == 4);
    CHECK(p.gradient == std::vector<float>{0, 0, 0, 0, 1, 0, 2, 0});
  }
}

TEST_CASE("max_pool2d: a window of -infinity gives its first element the gradient, padding never wins") {
  for (const int lanes : {16, 1}) {
    const auto p = pool({1, 1, 2}, {-kInfinity, -kInfinity}, lanes,
                        [](auto x) { return max_pool2d(x, {.kernel = 2, .stride = 2, .padding = 1}); });
    CHECK(p.value == std::vector<float>{-kInfinity, -kInfinity});
    CHECK(p.gradient == std::vector<float>{1, 2});
    const auto q = pool({1, 2, 2}, {-4, -3, -2, -5}, lanes,
                        [](auto x) { return max_pool2d(x, {.kernel = 3, .stride = 2, .padding = 1}); });
    CHECK(q.value == std::vector<float>{-2});
  }
}

TEST_CASE("global_max_pool: the first of equal maxima") {
  const auto p = pool({2, 1, 3}, {1, 4, 4, 3, 2, 1}, 16, [](auto x) { return global_max_pool(x); });
  CHECK(p.value == std::vector<float>{4, 3});
  CHECK(p.gradient == std::vector<float>{0, 1, 0, 2, 0, 0});
}

TEST_CASE("pooling: refuses what does not fit") {
  Tape<float> tape;
  tape.begin(1);
  const auto x = tape.input({2, 4, 4});
  CHECK_THROWS_WITH_AS(max_pool2d(x, {.kernel = 5}),
                       "max_pool2d: a window of 5 (dilation 1) does not fit in 4 with padding 0", pavise::ShapeError);
  CHECK_THROWS_WITH_AS(max_pool2d(x, {.padding = 2}), "max_pool2d: padding 2, expected at most half of the kernel (2)",
                       pavise::ValueError);
  CHECK_THROWS_AS(max_pool2d(x, {.kernel = 0}), pavise::ValueError);
  CHECK_THROWS_AS(max_pool2d(x, {.dilation = 0}), pavise::ValueError);
  CHECK_THROWS_WITH_AS(avg_pool2d(x, {.dilation = 2}), "avg_pool2d: dilation 2, expected 1", pavise::ValueError);
  CHECK_THROWS_WITH_AS(avg_pool2d(tape.input({4, 4})), "avg_pool2d: the input is (C,H,W), got (4,4)",
                       pavise::ShapeError);
  CHECK_THROWS_AS(global_avg_pool(tape.input({3, 0, 4})), pavise::ShapeError);
  CHECK_THROWS_AS(global_max_pool(tape.input({3})), pavise::ShapeError);
}
