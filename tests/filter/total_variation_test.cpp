// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/total_variation.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "filter/filter_checks.hpp"
#include "pavise/core/philox.hpp"

using namespace filter_checks;

namespace {

/// 1 for the pixels that are kept, by the scalar random numbers.
Values kept(std::size_t n, double drop, std::uint32_t image) {
  pv::RandomSequence random({.seed = 5, .purpose = pv::Purpose::defense, .image = image, .iteration = 3});
  Values out(n);
  for (double& v : out) {
    v = random.uniform() > drop ? 1 : 0;
  }
  return out;
}

struct Problem {
  Values x, kept;
  Shape s;
  double weight;

  std::size_t at(std::int64_t c, std::int64_t i, std::int64_t j) const {
    return static_cast<std::size_t>((c * s[1] + i) * s[2] + j);
  }
  double objective(const Values& z) const {
    double sum = 0;
    for (std::size_t k = 0; k < x.size(); ++k) {
      sum += kept[k] * (z[k] - x[k]) * (z[k] - x[k]);
    }
    double variation = 0;
    for (std::int64_t c = 0; c < s[0]; ++c) {
      for (std::int64_t i = 1; i < s[1]; ++i) {
        double line = 0;
        for (std::int64_t j = 0; j < s[2]; ++j) {
          line += std::pow(z[at(c, i, j)] - z[at(c, i - 1, j)], 2);
        }
        variation += std::sqrt(line);
      }
      for (std::int64_t j = 1; j < s[2]; ++j) {
        double line = 0;
        for (std::int64_t i = 0; i < s[1]; ++i) {
          line += std::pow(z[at(c, i, j)] - z[at(c, i, j - 1)], 2);
        }
        variation += std::sqrt(line);
      }
    }
    return std::sqrt(sum) + weight * variation;
  }

  /// Chambolle and Pock's algorithm 1, line by line.
  Values solve(int steps) const {
    const double t = 1 / std::sqrt(8.0);
    Values z = x;
    Values bar = x;
    Values p(x.size());  // of rows
    Values q(x.size());  // of columns
    const auto project = [&](Values& v, std::int64_t c, std::int64_t line, bool row) {
      double square = 0;
      const std::int64_t count = row ? s[2] : s[1];
      for (std::int64_t k = 0; k < count; ++k) {
        square += std::pow(v[row ? at(c, line, k) : at(c, k, line)], 2);
      }
      for (std::int64_t k = 0; k < count; ++k) {
        v[row ? at(c, line, k) : at(c, k, line)] /= std::max(1.0, std::sqrt(square) / weight);
      }
    };
    for (int n = 0; n < steps; ++n) {
      for (std::int64_t c = 0; c < s[0]; ++c) {
        for (std::int64_t i = 0; i < s[1]; ++i) {
          for (std::int64_t j = 0; j < s[2]; ++j) {
            p[at(c, i, j)] += i > 0 ? t * (bar[at(c, i, j)] - bar[at(c, i - 1, j)]) : 0;
            q[at(c, i, j)] += j > 0 ? t * (bar[at(c, i, j)] - bar[at(c, i, j - 1)]) : 0;
          }
        }
        for (std::int64_t i = 1; i < s[1]; ++i) {
          project(p, c, i, true);
        }
        for (std::int64_t j = 1; j < s[2]; ++j) {
          project(q, c, j, false);
        }
      }
      Values v = z;
      for (std::int64_t c = 0; c < s[0]; ++c) {
        for (std::int64_t i = 0; i < s[1]; ++i) {
          for (std::int64_t j = 0; j < s[2]; ++j) {
            double d = p[at(c, i, j)] + q[at(c, i, j)];
            d -= i + 1 < s[1] ? p[at(c, i + 1, j)] : 0;
            d -= j + 1 < s[2] ? q[at(c, i, j + 1)] : 0;
            v[at(c, i, j)] -= t * d;
          }
        }
      }
      double square = 0;
      for (std::size_t k = 0; k < x.size(); ++k) {
        square += kept[k] * (v[k] - x[k]) * (v[k] - x[k]);
      }
      const double stay = std::max(0.0, 1 - t / std::max(std::sqrt(square), 1e-300));
      for (std::size_t k = 0; k < x.size(); ++k) {
        const double next = kept[k] > 0 ? x[k] + stay * (v[k] - x[k]) : v[k];
        bar[k] = 2 * next - z[k];
        z[k] = next;
      }
    }
    return z;
  }
};

Oracle naive(double weight, double drop, int steps) {
  return [=](const Values& x, Shape s, std::uint32_t image) {
    return Problem{x, kept(x.size(), drop, image), s, weight}.solve(steps);
  };
}

}  // namespace

TEST_CASE("total variation: the naive steps, lanes, threads, instruction sets") {
  check_value(row("tv:0.03-0.5-20", {1, 6, 5}, naive(0.03, 0.5, 20)).within(1e-5));
  check_value(row("tv:0.2-0.25-30", {3, 4, 3}, naive(0.2, 0.25, 30)).within(1e-5));
  check_value(row("tv:0.5-0-10", {1, 3, 7}, naive(0.5, 0, 10)).within(1e-5));
  check_value(row("tv:0.03-0.5-5", {1, 1, 1}, naive(0.03, 0.5, 5)));
}

TEST_CASE("total variation: the result is near the smallest value of the objective") {
  const Shape s{1, 7, 6};
  Values x;
  for (std::int64_t i = 0; i < s.numel(); ++i) {
    x.push_back(0.5 + 0.4 * std::sin(0.7 * static_cast<double>(i)));
  }
  for (const double weight : {0.03, 0.3}) {
    pv::Tape<double> tape;
    tape.begin(1, 1);
    tape.set_key({.seed = 5, .iteration = 3, .images = nullptr});
    Var<double> in = tape.input(s);
    std::copy(x.begin(), x.end(), in.data());
    const Var<double> y = defend::total_variation(in, {.weight = weight, .drop = 0.5, .steps = 5000}, 0);
    const Values z(y.data(), y.data() + y.size());
    const Problem problem{x, kept(x.size(), 0.5, 0), s, weight};
    const double best = problem.objective(z);
    CHECK(best < 0.9 * problem.objective(x));
    // The objective is convex: where no direction goes down by more than a little, none does far away.
    pv::RandomSequence random({.seed = 8, .purpose = pv::Purpose::test});
    for (int n = 0; n < 300; ++n) {
      for (const double size : {1e-4, 1e-2}) {
        Values other = z;
        for (double& v : other) {
          v += size * (n % 2 == 0 ? random.uniform(-1, 1) : random.below(10) == 0 ? random.uniform(-1, 1) : 0.0);
        }
        CHECK(problem.objective(other) > best - 1e-6);
      }
    }
  }
}

TEST_CASE("total variation: its gradient is the identity's, and it says what it is; NaN stays in its image") {
  check_straight_through("tv:0.03", {1, 3, 5});
  CHECK(defend::TotalVariation<float>().declaration().random);
  CHECK(defend::TotalVariation<float>().text() == "tv:0.03-0.5-100");
  check_nan_stays("tv:0.03", {2, 4, 5});
  CHECK_THROWS_WITH_AS(defend::TotalVariation<float>({.weight = 0}), "tv: weight 0, expected more than 0",
                       pv::ValueError);
  CHECK_THROWS_AS(defend::TotalVariation<float>({.drop = 1}), pv::ValueError);
  CHECK_THROWS_AS(defend::TotalVariation<float>({.steps = 0}), pv::ValueError);
}
