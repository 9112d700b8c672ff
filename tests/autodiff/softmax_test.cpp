// SPDX-License-Identifier: MIT
#include "pavise/autodiff/softmax.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "autodiff/check.hpp"

namespace pv = pavise;

namespace {

using Images = std::vector<std::vector<double>>;

std::vector<double> softmax_reference(const std::vector<double>& x, std::size_t classes, double temperature, bool log) {
  const std::size_t inner = x.size() / classes;
  std::vector<double> y(x.size());
  for (std::size_t p = 0; p < inner; ++p) {
    double sum = 0;
    for (std::size_t i = 0; i < classes; ++i) {
      sum += std::exp(x[i * inner + p] / temperature);
    }
    for (std::size_t i = 0; i < classes; ++i) {
      const double v = x[i * inner + p] / temperature - std::log(sum);
      y[i * inner + p] = log ? v : std::exp(v);
    }
  }
  return y;
}

}  // namespace

TEST_CASE("softmax and log_softmax: value, gradient, bits") {
  for (const pv::Shape& shape : {pv::Shape{1}, pv::Shape{10}, pv::Shape{3, 2, 5}}) {
    for (const double temperature : {1.0, 0.25}) {
      const auto classes = static_cast<std::size_t>(shape[0]);
      const auto f = [=](auto& x) { return pv::softmax(x[0], temperature); };
      const auto log_f = [=](auto& x) { return pv::log_softmax(x[0], temperature); };
      check::forward_check<float>(
          f, {shape}, [=](Images& x) { return softmax_reference(x[0], classes, temperature, false); }, 1e-6);
      check::forward_check<double>(
          log_f, {shape}, [=](Images& x) { return softmax_reference(x[0], classes, temperature, true); }, 1e-14);
      check::same_bits(f, {shape});
      check::same_bits(log_f, {shape});
      if (classes > 1) {
        check::gradient_check(f, {shape});
        check::gradient_check(log_f, {shape});
        check::gradient_check(log_f, {shape}, {.shared = {true}});
      }
    }
  }
}

TEST_CASE("softmax: large logits, errors") {
  pv::Tape<float> tape;
  tape.begin(1, 1);
  auto x = tape.input({2});
  x.data()[0] = 1e30f;
  x.data()[1] = -1e30f;
  CHECK(pv::softmax(x).data()[0] == 1.0f);
  CHECK(pv::softmax(x).data()[1] == 0.0f);
  CHECK(pv::log_softmax(x).data()[0] == 0.0f);
  CHECK_THROWS_AS(pv::softmax(x, 0), pv::ValueError);
  CHECK_THROWS_AS(pv::softmax(tape.input({})), pv::ShapeError);
}
