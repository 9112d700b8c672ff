// SPDX-License-Identifier: MIT
#include "pavise/autodiff/reduce.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "autodiff/check.hpp"
#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/shape_ops.hpp"

namespace pv = pavise;

namespace {

using Images = std::vector<std::vector<double>>;

/// Reduces axes of (2,3,5) for which `gone` is set, with a plain function of the elements.
template <class F>
std::vector<double> reduce_reference(const std::vector<double>& x, const bool (&gone)[3], const F& f) {
  std::vector<std::vector<double>> parts;
  const std::size_t extent[3] = {2, 3, 5};
  for (std::size_t e = 0; e < x.size(); ++e) {
    const std::size_t index[3] = {e / 15, e / 5 % 3, e % 5};
    std::size_t at = 0;
    for (int d = 0; d < 3; ++d) {
      at = gone[d] ? at : at * extent[d] + index[d];
    }
    parts.resize(std::max(parts.size(), at + 1));
    parts[at].push_back(x[e]);
  }
  std::vector<double> out;
  for (const auto& part : parts) {
    out.push_back(f(part));
  }
  return out;
}

double sum_of(const std::vector<double>& v) {
  double s = 0;
  for (const double x : v) {
    s += x;
  }
  return s;
}

void reduction_check(pv::Axes axes, const bool (&gone)[3]) {
  const pv::Shape shape{2, 3, 5};
  const auto sum = [=](auto& x) { return pv::sum(x[0], axes); };
  const auto mean = [=](auto& x) { return pv::mean(x[0], axes, true); };
  const auto max = [=](auto& x) { return pv::max(x[0], axes); };
  const auto min = [=](auto& x) { return pv::min(x[0], axes, true); };
  check::forward_check<float>(
      sum, {shape}, [&](Images& x) { return reduce_reference(x[0], gone, sum_of); }, 1e-6);
  check::forward_check<double>(
      mean, {shape},
      [&](Images& x) {
        return reduce_reference(x[0], gone, [](const auto& v) { return sum_of(v) / static_cast<double>(v.size()); });
      },
      1e-14);
  check::forward_check<float>(
      max, {shape},
      [&](Images& x) {
        return reduce_reference(x[0], gone, [](const auto& v) { return *std::max_element(v.begin(), v.end()); });
      },
      0);
  check::forward_check<float>(
      min, {shape},
      [&](Images& x) {
        return reduce_reference(x[0], gone, [](const auto& v) { return *std::min_element(v.begin(), v.end()); });
      },
      0);
  const auto all = [=](auto& x) {
    return pv::sum(x[0], axes) + pv::mean(x[0], axes) * pv::max(x[0], axes) + pv::min(x[0], axes);
  };
  check::gradient_check(all, {shape});
  check::gradient_check(all, {shape}, {.shared = {true}});
  check::gradient_check(max, {shape});
  check::same_bits(all, {shape});
}

}  // namespace

TEST_CASE("reductions: every set of axes") {
  reduction_check({}, {true, true, true});
  reduction_check({0}, {true, false, false});
  reduction_check({1}, {false, true, false});
  reduction_check({-1}, {false, false, true});
  reduction_check({0, 2}, {true, false, true});
  reduction_check({2, 1}, {false, true, true});
}

TEST_CASE("reductions: shapes, ties, NaN, errors") {
  pv::Tape<float> tape;
  tape.begin(1, 1);
  auto x = tape.input({2, 3}, true);
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float values[6] = {1, 4, 4, nan, 2, 3};
  std::copy(values, values + 6, x.data());
  CHECK(pv::sum(x, {1}, true).shape() == pv::Shape{2, 1});
  CHECK(pv::sum(x, {0}).shape() == pv::Shape{3});
  CHECK(pv::mean(x).shape() == pv::Shape{});
  const auto m = pv::max(x, {1});
  CHECK(m.data()[0] == 4.0f);
  CHECK(std::isnan(m.data()[1]));
  tape.backward(m);
  const float* g = tape.input_gradient(x);
  CHECK(g[0] == 0.0f);
  CHECK(g[1] == 1.0f);
  CHECK(g[2] == 0.0f);
  auto empty = tape.input({0, 3});
  CHECK(pv::sum(empty, {0}).data()[1] == 0.0f);
  CHECK_THROWS_WITH_AS(pv::max(empty), "max: shape (0,3) has no elements to take it of", pv::ShapeError);
  CHECK_THROWS_WITH_AS(pv::sum(x, {2}), "sum: shape (2,3) has no axis 2", pv::ShapeError);
  CHECK_THROWS_AS(pv::sum(x, {1, -1}), pv::ShapeError);
}

TEST_CASE("shape operations: values") {
  const pv::Shape s{2, 3, 4};
  check::forward_check<float>([](auto& x) { return pv::slice(x[0], 1, 1, 3); }, {s},
                              [](Images& x) {
                                std::vector<double> y;
                                for (std::size_t e = 0; e < 24; ++e) {
                                  if (e / 4 % 3 >= 1) {
                                    y.push_back(x[0][e]);
                                  }
                                }
                                return y;
                              },
                              0);
  check::forward_check<float>(
      [](auto& x) {
        return pv::permute(x[0], {2, 0, 1});
      },
      {s},
      [](Images& x) {
        std::vector<double> y;
        for (std::size_t k = 0; k < 4; ++k) {
          for (std::size_t ij = 0; ij < 6; ++ij) {
            y.push_back(x[0][ij * 4 + k]);
          }
        }
        return y;
      },
      0);
  check::forward_check<float>(
      [](auto& x) {
        return pv::pad(x[0], {0, 1, 0}, {0, 0, 2}, 9);
      },
      {s},
      [](Images& x) {
        std::vector<double> y;
        for (int i = 0; i < 2; ++i) {
          for (int j = -1; j < 3; ++j) {
            for (int k = 0; k < 6; ++k) {
              y.push_back(j < 0 || k >= 4 ? 9.0 : x[0][static_cast<std::size_t>(i * 12 + j * 4 + k)]);
            }
          }
        }
        return y;
      },
      0);
  check::forward_check<float>(
      [](auto& x) {
        return pv::concat({x[0], x[1], x[0]}, -1);
      },
      {{2, 2}, {2, 1}},
      [](Images& x) {
        const auto& a = x[0];
        const auto& b = x[1];
        return std::vector<double>{a[0], a[1], b[0], a[0], a[1], a[2], a[3], b[1], a[2], a[3]};
      },
      0);
  check::forward_check<float>([](auto& x) { return pv::flatten(x[0]); }, {s}, [](Images& x) { return x[0]; }, 0);
}

TEST_CASE("shape operations: gradients and bits") {
  const auto f = [](auto& x) {
    auto a = pv::square(x[0]);
    auto both = pv::concat({pv::slice(a, 2, 1, 4), pv::pad(x[1], {0, 1, 0}, {0, 1, 1}, 1)}, 2);
    auto turned = pv::permute(both, {1, 2, 0});
    return pv::reshape(turned, {3, 10}) * pv::flatten(pv::slice(turned, 0, 0, 1)) + pv::reshape(turned, {3, 10});
  };
  check::gradient_check(f, {{2, 3, 4}, {2, 1, 1}});
  check::gradient_check(f, {{2, 3, 4}, {2, 1, 1}}, {.shared = {false, true}});
  check::same_bits(f, {{2, 3, 4}, {2, 1, 1}});
  check::gradient_check(
      [](auto& x) {
        return pv::transpose(pv::square(pv::reshape(x[0], {3, 2}))) * x[1];
      },
      {{6}, {2, 3}}, {.shared = {true, false}});
  check::gradient_check([](auto& x) { return pv::pad2d(pv::exp(x[0]), 1); }, {{1, 2, 2}});
}

TEST_CASE("shape operations: what they refuse") {
  pv::Tape<float> tape;
  tape.begin(1);
  auto x = tape.input({2, 3});
  CHECK(pv::reshape(x, {3, 2}).data() == x.data());
  CHECK_THROWS_WITH_AS(pv::reshape(x, {4}), "reshape: (2,3) has 6 elements, (4) has 4", pv::ShapeError);
  CHECK_THROWS_WITH_AS(pv::slice(x, 1, 2, 4), "slice: [2, 4) of axis 1 of shape (2,3)", pv::ShapeError);
  CHECK_THROWS_AS(pv::concat(x, tape.input({3, 3}), 1), pv::ShapeError);
  CHECK_THROWS_AS(pv::permute(x, {0, 0}), pv::ShapeError);
  CHECK_THROWS_AS(pv::transpose(tape.input({1, 2, 3})), pv::ShapeError);
  CHECK_THROWS_AS(pv::pad(x, {1}, {1}), pv::ShapeError);
}
