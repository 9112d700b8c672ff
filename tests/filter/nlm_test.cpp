// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/nlm.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "filter/filter_checks.hpp"

using namespace filter_checks;

namespace {

/// Pixels, neighbours, patches; values in levels of 0 to 255.
Values brute_force(const Values& x, Shape s, std::int64_t search, std::int64_t patch, double h) {
  const auto at = [&](std::int64_t c, std::int64_t i, std::int64_t j) {
    return x[static_cast<std::size_t>((c * s[1] + mirror(i, s[1])) * s[2] + mirror(j, s[2]))];
  };
  const std::int64_t a = search / 2;
  const std::int64_t b = patch / 2;
  Values out(x.size());
  for (std::int64_t i = 0; i < s[1]; ++i) {
    for (std::int64_t j = 0; j < s[2]; ++j) {
      double total = 0;
      Values sum(static_cast<std::size_t>(s[0]));
      for (std::int64_t k = i - a; k <= i + a; ++k) {
        for (std::int64_t l = j - a; l <= j + a; ++l) {
          double d = 0;
          for (std::int64_t c = 0; c < s[0]; ++c) {
            for (std::int64_t u = -b; u <= b; ++u) {
              for (std::int64_t v = -b; v <= b; ++v) {
                d += std::pow(at(c, i + u, j + v) - at(c, k + u, l + v), 2);
              }
            }
          }
          double w = std::exp(-d / static_cast<double>(patch * patch) / (h * h * static_cast<double>(s[0])));
          w = w < 0.001 ? 0 : w;
          total += w;
          for (std::int64_t c = 0; c < s[0]; ++c) {
            sum[static_cast<std::size_t>(c)] += w * at(c, k, l);
          }
        }
      }
      for (std::int64_t c = 0; c < s[0]; ++c) {
        out[static_cast<std::size_t>((c * s[1] + i) * s[2] + j)] = sum[static_cast<std::size_t>(c)] / total;
      }
    }
  }
  return out;
}

Oracle brute_force_grey(std::int64_t search, std::int64_t patch, double h) {
  return [=](const Values& x, Shape s, std::uint32_t) {
    Values levels;
    for (const double v : x) {
      levels.push_back(255 * v);
    }
    Values out = brute_force(levels, s, search, patch, h);
    for (double& v : out) {
      v /= 255;
    }
    return out;
  };
}

/// CIE L*a*b* of linear RGB by OpenCV's formulas, in the scale of its bytes.
Oracle brute_force_colour(std::int64_t search, std::int64_t patch, double h) {
  return [=](const Values& x, Shape s, std::uint32_t) {
    const auto n = static_cast<std::size_t>(s[1] * s[2]);
    const auto f = [](double t) { return t > 0.008856 ? std::cbrt(t) : 7.787 * t + 16.0 / 116; };
    Values light(n);
    Values colours(2 * n);
    for (std::size_t i = 0; i < n; ++i) {
      const double r = x[i];
      const double g = x[n + i];
      const double b = x[2 * n + i];
      const double fx = f((0.412453 * r + 0.357580 * g + 0.180423 * b) / 0.950456);
      const double y = 0.212671 * r + 0.715160 * g + 0.072169 * b;
      const double fz = f((0.019334 * r + 0.119193 * g + 0.950227 * b) / 1.088754);
      light[i] = 2.55 * (y > 0.008856 ? 116 * std::cbrt(y) - 16 : 903.3 * y);
      colours[i] = 500 * (fx - f(y));
      colours[n + i] = 200 * (f(y) - fz);
    }
    light = brute_force(light, {1, s[1], s[2]}, search, patch, h);
    colours = brute_force(colours, {2, s[1], s[2]}, search, patch, h);
    Values out(3 * n);
    for (std::size_t i = 0; i < n; ++i) {
      const double l = light[i] / 2.55;
      const double fy = l > 8 ? (l + 16) / 116 : 7.787 * l / 903.3 + 16.0 / 116;
      const double y = l > 8 ? fy * fy * fy : l / 903.3;
      const auto g = [](double t) { return t > 6.0 / 29 ? t * t * t : (t - 16.0 / 116) / 7.787; };
      const double a = 0.950456 * g(fy + colours[i] / 500);
      const double c = 1.088754 * g(fy - colours[n + i] / 200);
      out[i] = std::clamp(3.240479 * a - 1.53715 * y - 0.498535 * c, 0.0, 1.0);
      out[n + i] = std::clamp(-0.969256 * a + 1.875991 * y + 0.041556 * c, 0.0, 1.0);
      out[2 * n + i] = std::clamp(0.055648 * a - 0.204043 * y + 1.057311 * c, 0.0, 1.0);
    }
    return out;
  };
}

}  // namespace

TEST_CASE("non-local means: brute force, lanes, threads, instruction sets") {
  check_value(row("nlm:5-3-60", {1, 6, 7}, brute_force_grey(5, 3, 60)).within(1e-5));
  check_value(row("nlm:3-1-100", {1, 2, 5}, brute_force_grey(3, 1, 100)).within(1e-5));
  check_value(row("nlm:5-5-80", {2, 3, 4}, brute_force_grey(5, 5, 80)).within(1e-5));
  check_value(row("nlm:7-3-4", {1, 1, 1}, brute_force_grey(7, 3, 4)));
}

TEST_CASE("non-local means of colours: brute force in L*a*b*, lanes, threads, instruction sets") {
  check_value(row("nlm:5-3-40", {3, 5, 6}, brute_force_colour(5, 3, 40)).within(3e-5));
  check_value(row("nlm:3-3-10", {3, 1, 1}, brute_force_colour(3, 3, 10)).within(3e-5));
}

TEST_CASE("non-local means: black, white and grey stay; its gradient is the identity's; NaN stays in its image") {
  for (const double level : {0.0, 0.5, 1.0}) {
    for (const double v : filtered("nlm:13-3-2", {3, 4, 4}, Values(48, level))) {
      CHECK(std::abs(v - level) < 2e-3);  // the constants of the two directions differ in their sixth digits
    }
  }
  check_straight_through("nlm:11-3-4", {1, 4, 4});
  check_straight_through("nlm:5-3-2", {3, 3, 3});
  check_nan_stays("nlm:5-3-2", {3, 4, 4});
  check_nan_stays("nlm:5-3-2", {1, 4, 4});
}

TEST_CASE("non-local means: refuses what cannot be") {
  CHECK_THROWS_WITH_AS(defend::NonLocalMeans<float>({.search = 10}),
                       "nlm: search 10, patch 3, expected odd numbers of at most 101 and 31", pv::ValueError);
  CHECK_THROWS_AS(defend::NonLocalMeans<float>({.strength = 0}), pv::ValueError);
}
