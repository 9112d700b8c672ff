// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/bilateral.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>

#include "filter/filter_checks.hpp"

using namespace filter_checks;

namespace {

Oracle naive_bilateral(std::int64_t diameter, double sigma_color, double sigma_space) {
  return [=](const Values& x, Shape s, std::uint32_t) {
    const std::int64_t radius = diameter / 2;
    const auto at = [&](std::int64_t c, std::int64_t i, std::int64_t j) {
      return x[static_cast<std::size_t>((c * s[1] + mirror(i, s[1])) * s[2] + mirror(j, s[2]))];
    };
    Values out(x.size());
    for (std::int64_t i = 0; i < s[1]; ++i) {
      for (std::int64_t j = 0; j < s[2]; ++j) {
        double total = 0;
        Values sum(static_cast<std::size_t>(s[0]));
        for (std::int64_t a = -radius; a <= radius; ++a) {
          for (std::int64_t b = -radius; b <= radius; ++b) {
            const double distance = std::hypot(static_cast<double>(a), static_cast<double>(b));
            if (distance > static_cast<double>(radius)) {
              continue;
            }
            double colour = 0;
            for (std::int64_t c = 0; c < s[0]; ++c) {
              colour += std::abs(at(c, i + a, j + b) - at(c, i, j));
            }
            const double w = std::exp(-distance * distance / (2 * sigma_space * sigma_space) -
                                      colour * colour / (2 * sigma_color * sigma_color));
            total += w;
            for (std::int64_t c = 0; c < s[0]; ++c) {
              sum[static_cast<std::size_t>(c)] += w * at(c, i + a, j + b);
            }
          }
        }
        for (std::int64_t c = 0; c < s[0]; ++c) {
          out[static_cast<std::size_t>((c * s[1] + i) * s[2] + j)] = sum[static_cast<std::size_t>(c)] / total;
        }
      }
    }
    return out;
  };
}

}  // namespace

TEST_CASE("bilateral: the naive sum, derivatives, lanes, threads, instruction sets") {
  op_table::check_rows({row("bilateral:5-0.5-2", {1, 5, 7}, naive_bilateral(5, 0.5, 2)).gradient_within(1e-6),
                        row("bilateral:3-0.8-1", {3, 4, 3}, naive_bilateral(3, 0.8, 1)).gradient_within(1e-6),
                        row("bilateral:7-0.3-3", {1, 2, 3}, naive_bilateral(7, 0.3, 3)).gradient_within(1e-6),
                        row("bilateral:5-0.1-2", {3, 1, 1}, naive_bilateral(5, 0.1, 2))});
}

TEST_CASE("bilateral: declares what it is; NaN stays in its image; refuses what cannot be") {
  CHECK(defend::Bilateral<float>().declaration().differentiable);
  check_nan_stays("bilateral:5-0.1-2", {3, 4, 5});
  CHECK_THROWS_WITH_AS(defend::Bilateral<float>({.diameter = 4}),
                       "bilateral: diameter 4, expected an odd number of 1 to 101", pv::ValueError);
  CHECK_THROWS_AS(defend::Bilateral<float>({.sigma_color = 0}), pv::ValueError);
  CHECK_THROWS_AS(defend::Bilateral<float>().output_shape({5, 4, 4}), pv::ShapeError);
}
