// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/gaussian_blur.hpp"

#include <doctest/doctest.h>

#include <cmath>

#include "filter/filter_checks.hpp"

using namespace filter_checks;

namespace {

/// The two-dimensional sum, with the weights of every pair of offsets.
auto naive_blur(double sigma) {
  return [sigma](const Values& x, Shape s, std::uint32_t) {
    const auto r = static_cast<std::int64_t>(4 * sigma + 0.5);
    const auto reflect = [](std::int64_t i, std::int64_t n) {
      while (i < 0 || i >= n) {
        i = i < 0 ? -1 - i : 2 * n - 1 - i;
      }
      return i;
    };
    Values out;
    for (std::int64_t c = 0; c < s[0]; ++c) {
      for (std::int64_t i = 0; i < s[1]; ++i) {
        for (std::int64_t j = 0; j < s[2]; ++j) {
          double sum = 0;
          double total = 0;
          for (std::int64_t a = -r; a <= r; ++a) {
            for (std::int64_t b = -r; b <= r; ++b) {
              const double w = std::exp(-0.5 * static_cast<double>(a * a + b * b) / sigma / sigma);
              total += w;
              sum += w * x[static_cast<std::size_t>((c * s[1] + reflect(i + a, s[1])) * s[2] + reflect(j + b, s[2]))];
            }
          }
          out.push_back(sum / total);
        }
      }
    }
    return out;
  };
}

}  // namespace

TEST_CASE("Gaussian blur: the naive sum, derivatives, lanes, threads, instruction sets") {
  op_table::check_rows(
      {row("gaussian-blur:1", {2, 5, 7}, naive_blur(1)), row("gaussian-blur:0.6", {1, 3, 4}, naive_blur(0.6)),
       row("gaussian-blur:2", {1, 1, 1}, naive_blur(2)), row("gaussian-blur:1.5", {3, 2, 1}, naive_blur(1.5))});
}

TEST_CASE("Gaussian blur: what scipy.ndimage.gaussian_filter gave") {
  // numpy.arange(6).reshape(2, 3) * 5 % 6, sigma 0.7
  pv::Tape<double> tape;
  tape.begin(1, 1);
  Var<double> x = tape.input({1, 2, 3});
  const double in[] = {0, 5, 4, 3, 2, 1};
  std::copy_n(in, 6, x.data());
  const Var<double> y = defend::gaussian_blur(x, 0.7);
  const double expected[] = {1.4851161932872752, 3.3256833265831123, 3.5151123634739365,
                             2.3944301006252298, 2.384205172731366,  1.8954528432990811};
  for (int i = 0; i < 6; ++i) {
    CHECK(y.data()[i] == doctest::Approx(expected[i]).epsilon(1e-12));
  }
}

TEST_CASE("Gaussian blur: declares what it is; NaN stays in its image") {
  CHECK(defend::GaussianBlur<float>(1).declaration().differentiable);
  CHECK_FALSE(defend::GaussianBlur<float>(1).declaration().random);
  check_nan_stays("gaussian-blur:1", {2, 4, 5});
  CHECK_THROWS_WITH_AS(defend::GaussianBlur<float>(0),
                       "gaussian-blur: sigma 0, expected more than 0 and at most 100 pixels", pv::ValueError);
}
