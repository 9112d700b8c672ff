// SPDX-License-Identifier: MIT
#include "pavise/autodiff/elementwise.hpp"

#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "autodiff/check.hpp"
#include "pavise/autodiff/broadcast.hpp"

namespace pv = pavise;

namespace {

using Images = std::vector<std::vector<double>>;

double normal_cdf(double x) { return 0.5 * std::erfc(-x * std::sqrt(0.5)); }

template <class F>
void unary_check(const char* name, const F& f, double (*reference)(double), check::Options o = {}) {
  CAPTURE(name);
  const auto all = [=](Images& x) {
    std::vector<double> y;
    for (const double v : x[0]) {
      y.push_back(reference(v));
    }
    return y;
  };
  for (const pv::Shape& shape : {pv::Shape{}, pv::Shape{3, 7}, pv::Shape{1, 5, 5}, pv::Shape{0}}) {
    check::forward_check<float>(f, {shape}, all, 3e-7, o);
    check::forward_check<double>(f, {shape}, all, 1e-15, o);
    check::same_bits(f, {shape}, o);
    if (shape.numel() > 0) {
      check::gradient_check(f, {shape}, o);
    }
  }
  o.shared = {true};
  check::gradient_check(f, {{3}}, o);
}

/// The largest error of a float function against double, in units in the last place of the result (denormal results
/// count in units of the smallest normal number), over floats of every exponent and sign within [low, high].
template <class F>
double worst_ulp(const F& f, double (*reference)(double), double low, double high) {
  std::vector<float> in;
  for (std::uint32_t b = 0; b < 0x7f800000u; b += 70001) {
    for (const float x : {std::bit_cast<float>(b), -std::bit_cast<float>(b)}) {
      if (x >= low && x <= high) {
        in.push_back(x);
      }
    }
  }
  for (int i = 0; i <= 20000; ++i) {
    const double bound = 20;
    const double l = std::max(low, -bound);
    in.push_back(static_cast<float>(l + (std::min(high, bound) - l) * i / 20000));
  }
  pv::Tape<float> tape;
  tape.begin(1, 1);
  auto x = tape.input({static_cast<std::int64_t>(in.size())});
  std::copy(in.begin(), in.end(), x.data());
  const auto y = f(x);
  double worst = 0;
  for (std::size_t i = 0; i < in.size(); ++i) {
    const double want = reference(in[i]);
    const double got = y.data()[i];
    if (std::abs(want) < 1.1754944e-38 && std::abs(got) <= 1.1754944e-38) {
      continue;
    }
    if (std::isinf(want) || std::abs(want) > 3.4028235e38) {
      worst = std::max(worst, got == static_cast<float>(want) ? 0.0 : 1e9);
      continue;
    }
    const double unit = std::ldexp(1.0, std::ilogb(std::max(std::abs(want), 1.1754944e-38)) - 23);
    const double error = std::abs(got - want) / unit;
    worst = std::max(worst, error <= 1e9 ? error : 1e9);
  }
  return worst;
}

constexpr double kAll = std::numeric_limits<float>::max();
constexpr float kInf = std::numeric_limits<float>::infinity();

template <class F>
float at(const F& f, float value) {
  pv::Tape<float> tape;
  tape.begin(1, 1);
  auto x = tape.input({});
  *x.data() = value;
  return *f(x).data();
}

}  // namespace

TEST_CASE("element-wise functions: value, gradient, bits") {
  unary_check(
      "relu", [](auto& x) { return pv::relu(x[0]); }, [](double x) { return x > 0 ? x : 0; });
  unary_check(
      "leaky_relu", [](auto& x) { return pv::leaky_relu(x[0], 0.125); },
      [](double x) { return x > 0 ? x : 0.125 * x; });
  unary_check(
      "elu", [](auto& x) { return pv::elu(x[0], 1.5); }, [](double x) { return x > 0 ? x : 1.5 * std::expm1(x); });
  unary_check(
      "gelu", [](auto& x) { return pv::gelu(x[0]); }, [](double x) { return x * normal_cdf(x); });
  unary_check(
      "silu", [](auto& x) { return pv::silu(x[0]); }, [](double x) { return x / (1 + std::exp(-x)); });
  unary_check(
      "sigmoid", [](auto& x) { return pv::sigmoid(x[0]); }, [](double x) { return 1 / (1 + std::exp(-x)); });
  unary_check(
      "tanh", [](auto& x) { return pv::tanh(x[0]); }, [](double x) { return std::tanh(x); });
  unary_check(
      "erf", [](auto& x) { return pv::erf(x[0]); }, [](double x) { return std::erf(x); });
  unary_check(
      "softplus", [](auto& x) { return pv::softplus(x[0]); }, [](double x) { return std::log1p(std::exp(x)); });
  unary_check(
      "exp", [](auto& x) { return pv::exp(x[0]); }, [](double x) { return std::exp(x); });
  const check::Options positive{.low = 0.2, .high = 3};
  unary_check(
      "log", [](auto& x) { return pv::log(x[0]); }, [](double x) { return std::log(x); }, positive);
  unary_check(
      "sqrt", [](auto& x) { return pv::sqrt(x[0]); }, [](double x) { return std::sqrt(x); }, positive);
  unary_check(
      "abs", [](auto& x) { return pv::abs(x[0]); }, [](double x) { return std::abs(x); });
  unary_check(
      "square", [](auto& x) { return pv::square(x[0]); }, [](double x) { return x * x; });
  unary_check(
      "reciprocal", [](auto& x) { return pv::reciprocal(x[0], 3); }, [](double x) { return 3 / x; }, positive);
  unary_check(
      "clamp", [](auto& x) { return pv::clamp(x[0], -1, 1); },
      [](double x) { return std::min(std::max(x, -1.0), 1.0); });
  unary_check(
      "step", [](auto& x) { return pv::step(x[0]) + x[0]; }, [](double x) { return x < 0 ? x : 1 + x; });
  unary_check(
      "affine", [](auto& x) { return pv::affine(x[0], 2.5, -1); }, [](double x) { return 2.5 * x - 1; });
  unary_check(
      "scale", [](auto& x) { return pv::scale(x[0], 0.3); }, [](double x) { return 0.3 * x; });
  unary_check(
      "shift", [](auto& x) { return pv::shift(x[0], 7); }, [](double x) { return x + 7; });
  unary_check(
      "neg", [](auto& x) { return -x[0]; }, [](double x) { return -x; });
  unary_check(
      "scalars", [](auto& x) { return (1.0 - x[0]) / 4.0 + 2.0 / (3.0 + x[0]) * 5.0 - 1.0; },
      [](double x) { return (1 - x) / 4 + 2 / (3 + x) * 5 - 1; });
}

TEST_CASE("functions in float: errors in units in the last place, over all exponents") {
  CHECK(worst_ulp([](auto x) { return pv::exp(x); }, [](double x) { return std::exp(x); }, -87.3, kAll) < 2);
  CHECK(worst_ulp([](auto x) { return pv::log(x); }, [](double x) { return std::log(x); }, 1.2e-38, kAll) < 2);
  CHECK(worst_ulp([](auto x) { return pv::tanh(x); }, [](double x) { return std::tanh(x); }, -kAll, kAll) < 3);
  CHECK(worst_ulp([](auto x) { return pv::sigmoid(x); }, [](double x) { return 1 / (1 + std::exp(-x)); }, -87.3, kAll) <
        4);
  CHECK(worst_ulp([](auto x) { return pv::softplus(x); }, [](double x) { return x > 40 ? x : std::log1p(std::exp(x)); },
                  -87.3, kAll) < 4);
  CHECK(worst_ulp([](auto x) { return pv::elu(x); }, [](double x) { return x > 0 ? x : std::expm1(x); }, -kAll, kAll) <
        4);
  CHECK(worst_ulp([](auto x) { return pv::gelu(x); }, [](double x) { return x * normal_cdf(x); }, -13, 1e19) < 8);
  CHECK(worst_ulp([](auto x) { return pv::silu(x); }, [](double x) { return x / (1 + std::exp(-x)); }, -87.3, 1e19) <
        5);
  CHECK(worst_ulp([](auto x) { return pv::erf(x); }, [](double x) { return std::erf(x); }, -kAll, kAll) < 3);
  CHECK(worst_ulp([](auto x) { return pv::sqrt(x); }, [](double x) { return std::sqrt(x); }, 0, kAll) <= 0.5);
}

TEST_CASE("functions in float: infinities, NaN, denormals") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float denormal = 1e-40f;
  const auto exp = [](auto x) { return pv::exp(x); };
  const auto log = [](auto x) { return pv::log(x); };
  const auto tanh = [](auto x) { return pv::tanh(x); };
  const auto sigmoid = [](auto x) { return pv::sigmoid(x); };
  const auto softplus = [](auto x) { return pv::softplus(x); };
  const auto gelu = [](auto x) { return pv::gelu(x); };
  const auto elu = [](auto x) { return pv::elu(x); };
  CHECK(at(exp, kInf) == kInf);
  CHECK(at(exp, -kInf) == 0.0f);
  CHECK(at(exp, denormal) == 1.0f);
  CHECK(at(log, kInf) == kInf);
  CHECK(at(log, 0.0f) == -kInf);
  CHECK(at(log, denormal) == -kInf);
  CHECK(std::isnan(at(log, -1.0f)));
  CHECK(at(tanh, kInf) == 1.0f);
  CHECK(at(tanh, -kInf) == -1.0f);
  CHECK(at(tanh, denormal) == denormal);
  CHECK(at(sigmoid, kInf) == 1.0f);
  CHECK(at(sigmoid, -kInf) == 0.0f);
  CHECK(at(softplus, kInf) == kInf);
  CHECK(at(softplus, -kInf) == 0.0f);
  CHECK(at(gelu, kInf) == kInf);
  CHECK(at(gelu, -20.0f) == 0.0f);
  CHECK(at(elu, -kInf) == -1.0f);
  CHECK(at(elu, -denormal) == -denormal);
  for (const auto& value : {at(exp, nan), at(log, nan), at(tanh, nan), at(sigmoid, nan), at(softplus, nan),
                            at(gelu, nan), at(elu, nan), at([](auto x) { return pv::clamp(x, -1, 1); }, nan)}) {
    CHECK(std::isnan(value));
  }
  CHECK(at([](auto x) { return pv::clamp(x, -1, 1); }, kInf) == 1.0f);
}

namespace {

/// Element of an operand of shape `s` that element `index` (multi-index) of the result reads.
std::size_t broadcast_index(const pv::Shape& s, const pv::Shape& out, std::int64_t flat) {
  std::size_t at = 0;
  std::size_t step = 1;
  for (std::size_t k = 0; k < out.rank(); ++k) {
    const std::int64_t n = out[-1 - static_cast<std::ptrdiff_t>(k)];
    if (k < s.rank()) {
      const std::int64_t extent = s[-1 - static_cast<std::ptrdiff_t>(k)];
      at += extent == 1 ? 0 : static_cast<std::size_t>(flat % n) * step;
      step *= static_cast<std::size_t>(extent);
    }
    flat /= n;
  }
  return at;
}

struct BroadcastCase {
  pv::Shape a, b, out;
};

template <class F>
void binary_check(const char* name, const F& f, double (*reference)(double, double)) {
  CAPTURE(name);
  const std::vector<BroadcastCase> cases = {
      {{}, {}, {}},
      {{3, 5}, {3, 5}, {3, 5}},
      {{4}, {3, 4}, {3, 4}},
      {{3, 2, 5}, {3, 1, 1}, {3, 2, 5}},
      {{2, 1, 3}, {1, 4, 1}, {2, 4, 3}},
      {{7}, {}, {7}},
      {{1}, {2, 3}, {2, 3}},
      {{0, 3}, {1, 3}, {0, 3}},
  };
  for (const auto& c : cases) {
    for (const auto& shared : {std::vector<bool>{false, false}, {true, false}, {false, true}, {true, true}}) {
      CAPTURE(c.a.to_string());
      CAPTURE(c.b.to_string());
      const check::Options o{.low = 0.3, .high = 2, .step = 1e-5, .tolerance = 1e-7, .shared = shared};
      const auto all = [&](Images& x) {
        std::vector<double> y;
        for (std::int64_t i = 0; i < c.out.numel(); ++i) {
          y.push_back(reference(x[0][broadcast_index(c.a, c.out, i)], x[1][broadcast_index(c.b, c.out, i)]));
        }
        return y;
      };
      check::forward_check<float>(f, {c.a, c.b}, all, 1e-7, o);
      check::same_bits(f, {c.a, c.b}, o);
      if (c.out.numel() > 1) {
        check::gradient_check(f, {c.a, c.b}, o);
      }
    }
  }
}

}  // namespace

TEST_CASE("functions of two values: broadcasting, shared operands, gradients, bits") {
  binary_check(
      "add", [](auto& x) { return x[0] + x[1]; }, [](double a, double b) { return a + b; });
  binary_check(
      "sub", [](auto& x) { return x[0] - x[1]; }, [](double a, double b) { return a - b; });
  binary_check(
      "mul", [](auto& x) { return x[0] * x[1]; }, [](double a, double b) { return a * b; });
  binary_check(
      "div", [](auto& x) { return x[0] / x[1]; }, [](double a, double b) { return a / b; });
}

TEST_CASE("maximum and minimum: gradients to the one taken") {
  const auto f = [](auto& x) { return pv::maximum(x[0], x[1]) - 2.0 * pv::minimum(x[0], x[1]); };
  const auto reference = [](Images& x) {
    std::vector<double> y;
    for (std::size_t i = 0; i < 6; ++i) {
      y.push_back(std::max(x[0][i], x[1][i % 3]) - 2 * std::min(x[0][i], x[1][i % 3]));
    }
    return y;
  };
  check::forward_check<float>(f, {{2, 3}, {3}}, reference, 3e-7);
  check::gradient_check(f, {{2, 3}, {3}});
  check::gradient_check(f, {{2, 3}, {3}}, {.shared = {false, true}});
  check::same_bits(f, {{2, 3}, {3}});
}

TEST_CASE("a value used twice adds up its gradients") {
  check::gradient_check([](auto& x) { return x[0] * x[0] + pv::exp(x[0]) - x[0] / (x[0] + 4.0); }, {{2, 3}});
}

TEST_CASE("the check itself: a wrong derivative and an all-zero one do not pass") {
  const auto wrong = [](auto& x) {
    using T = std::remove_const_t<std::remove_reference_t<decltype(*x[0].data())>>;
    return pv::pointwise<T>(
        "wrong", x[0],
        [](auto in, auto out) {
          for (std::size_t i = 0; i < in.size(); ++i) {
            out[i] = in[i] * in[i];
          }
        },
        [](auto in, auto, auto dy, auto dx) {
          for (std::size_t i = 0; i < in.size(); ++i) {
            dx[i] += T(1.999) * in[i] * dy[i];
          }
        });
  };
  CHECK(check::gradient_error(wrong, {{3}}) > 1e-4);
  CHECK(check::gradient_error([](auto& x) { return pv::scale(x[0], 0); }, {{3}}) > 1e9);
}

TEST_CASE("element-wise functions: what they refuse") {
  pv::Tape<float> tape;
  tape.begin(1);
  auto a = tape.input({2, 3});
  auto b = tape.input({2});
  CHECK_THROWS_WITH_AS(pv::add(a, b), "add: shapes (2,3) and (2) do not broadcast", pv::ShapeError);
  CHECK_THROWS_WITH_AS(pv::clamp(a, 1, 0), "clamp: bounds 1 and 0, expected low <= high", pv::ValueError);
}
