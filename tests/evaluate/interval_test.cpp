// SPDX-License-Identifier: MIT
// Oracles: Boost.Math where it is installed; closed forms and the defining binomial tails everywhere.
#include "pavise/evaluate/interval.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#if __has_include(<boost/math/distributions/binomial.hpp>)
#include <boost/math/distributions/binomial.hpp>
#include <boost/math/special_functions/beta.hpp>
#define PAVISE_TEST_HAS_BOOST 1
#else
#define PAVISE_TEST_HAS_BOOST 0
#endif

namespace pv = pavise;
using pv::evaluate::clopper_pearson;
using pv::evaluate::incomplete_beta;
using pv::evaluate::inverse_incomplete_beta;

namespace {

/// P(X >= k) for a binomial X, summed term by term.
double upper_tail(int k, int n, double rate) {
  double sum = 0;
  for (int i = k; i <= n; ++i) {
    sum += std::exp(std::lgamma(n + 1.0) - std::lgamma(i + 1.0) - std::lgamma(n - i + 1.0) + i * std::log(rate) +
                    (n - i) * std::log1p(-rate));
  }
  return sum;
}

}  // namespace

TEST_CASE("incomplete_beta: closed forms") {
  for (const double x : {0.001, 0.2, 0.5, 0.77, 0.999}) {
    CAPTURE(x);
    CHECK(incomplete_beta(1, 1, x) == doctest::Approx(x).epsilon(1e-13));
    CHECK(incomplete_beta(3, 1, x) == doctest::Approx(x * x * x).epsilon(1e-13));
    CHECK(incomplete_beta(1, 4, x) == doctest::Approx(1 - std::pow(1 - x, 4)).epsilon(1e-12));
    CHECK(incomplete_beta(0.5, 0.5, x) ==
          doctest::Approx(2 / std::acos(-1.0) * std::asin(std::sqrt(x))).epsilon(1e-12));
    CHECK(incomplete_beta(7, 3, x) + incomplete_beta(3, 7, 1 - x) == doctest::Approx(1).epsilon(1e-13));
  }
  CHECK(inverse_incomplete_beta(0.3, 0.3, 0.5) == doctest::Approx(0.5).epsilon(1e-13));
  CHECK(inverse_incomplete_beta(3, 1, 0.008) == doctest::Approx(0.2).epsilon(1e-13));
  CHECK(incomplete_beta(2, 3, 0) == 0);
  CHECK(incomplete_beta(2, 3, 1) == 1);
}

TEST_CASE("clopper_pearson: the bounds put exactly (1-c)/2 into each binomial tail") {
  for (const int n : {1, 2, 7, 50, 333}) {
    for (const int k : {0, 1, n / 3, n / 2, n - 1, n}) {
      const auto interval = clopper_pearson(k, n);
      CAPTURE(n);
      CAPTURE(k);
      CHECK(interval.low <= static_cast<double>(k) / n);
      CHECK(interval.high >= static_cast<double>(k) / n);
      if (k > 0) {
        CHECK(upper_tail(k, n, interval.low) == doctest::Approx(0.025).epsilon(1e-9));
      }
      if (k < n) {
        CHECK(upper_tail(n - k, n, 1 - interval.high) == doctest::Approx(0.025).epsilon(1e-9));
      }
    }
  }
}

TEST_CASE("clopper_pearson: no success and nothing but successes have closed forms") {
  for (const std::int64_t n : {1, 2, 10, 1000, 100000}) {
    CAPTURE(n);
    const double bound = 1 - std::pow(0.025, 1.0 / static_cast<double>(n));
    CHECK(clopper_pearson(0, n).low == 0);
    CHECK(std::abs(clopper_pearson(0, n).high - bound) < 1e-12);
    CHECK(clopper_pearson(n, n).high == 1);
    CHECK(std::abs(clopper_pearson(n, n).low - (1 - bound)) < 1e-12);
  }
}

TEST_CASE("clopper_pearson: a known interval, and a wider one for a higher confidence") {
  const auto interval = clopper_pearson(634, 1000);  // scipy.stats.binomtest(634, 1000).proportion_ci()
  CHECK(interval.low == doctest::Approx(0.603284141203633).epsilon(1e-12));
  CHECK(interval.high == doctest::Approx(0.663924251215201).epsilon(1e-12));
  CHECK(clopper_pearson(634, 1000, 0.999).low < interval.low);
  CHECK(clopper_pearson(634, 1000, 0.999).high > interval.high);
}

TEST_CASE("clopper_pearson: refuses what has no interval") {
  CHECK_THROWS_AS(clopper_pearson(0, 0), pv::ValueError);
  CHECK_THROWS_AS(clopper_pearson(-1, 5), pv::ValueError);
  CHECK_THROWS_WITH_AS(clopper_pearson(6, 5), "clopper_pearson: 6 successes in 5 trials, expected 0 to 5",
                       pv::ValueError);
  CHECK_THROWS_AS(clopper_pearson(1, 5, 0.0), pv::ValueError);
  CHECK_THROWS_AS(clopper_pearson(1, 5, 1.0), pv::ValueError);
  CHECK_THROWS_AS(clopper_pearson(1, 5, std::numeric_limits<double>::quiet_NaN()), pv::ValueError);
  CHECK_THROWS_AS(incomplete_beta(0, 1, 0.5), pv::ValueError);
  CHECK_THROWS_AS(incomplete_beta(1, 1, 1.5), pv::ValueError);
  CHECK_THROWS_AS(inverse_incomplete_beta(1, -2, 0.5), pv::ValueError);
  CHECK_THROWS_AS(inverse_incomplete_beta(1, 2, -0.5), pv::ValueError);
}

TEST_CASE("clopper_pearson and incomplete_beta: against Boost.Math over a wide grid") {
#if PAVISE_TEST_HAS_BOOST
  double worst = 0;
  for (const std::int64_t n : {1, 2, 3, 5, 10, 37, 100, 997, 1000, 10000, 60000, 1000000}) {
    std::vector<std::int64_t> counts = {0, 1, 2, 3, n / 7, n / 3, n / 2, 2 * n / 3, 9 * n / 10, n - 2, n - 1, n};
    for (const auto k : counts) {
      if (k < 0 || k > n) {
        continue;
      }
      for (const double confidence : {0.5, 0.9, 0.95, 0.99, 0.999, 0.999999}) {
        using Binomial = boost::math::binomial_distribution<double>;
        const auto trials = static_cast<double>(n);
        const auto successes = static_cast<double>(k);
        const double tail = (1 - confidence) / 2;
        const double low = Binomial::find_lower_bound_on_p(trials, successes, tail);
        const double high = Binomial::find_upper_bound_on_p(trials, successes, tail);
        const auto interval = clopper_pearson(k, n, confidence);
        const double error = std::max(std::abs(interval.low - low), std::abs(interval.high - high));
        worst = std::max(worst, error);
        CAPTURE(n);
        CAPTURE(k);
        CAPTURE(confidence);
        CHECK(error < 1e-10);
      }
    }
  }
  MESSAGE("largest difference from Boost.Math: " << worst);
  for (const double a : {0.3, 1.0, 2.5, 40.0, 900.0, 1e5}) {
    for (const double b : {0.3, 1.0, 2.5, 40.0, 900.0, 1e5}) {
      for (const double x : {1e-9, 0.01, 0.3, 0.5, 0.9, 0.9999}) {
        CAPTURE(a);
        CAPTURE(b);
        CAPTURE(x);
        CHECK(std::abs(incomplete_beta(a, b, x) - boost::math::ibeta(a, b, x)) < 1e-10);
      }
      // The inverse is judged by Boost's forward function: Boost's own inverse is off by up to 2e-10 where a, b < 1.
      for (const double p : {1e-6, 0.025, 0.5, 0.975}) {
        if (a >= 1 && b >= 1) {
          CAPTURE(a);
          CAPTURE(b);
          CAPTURE(p);
          CHECK(std::abs(boost::math::ibeta(a, b, inverse_incomplete_beta(a, b, p)) - p) < 1e-11);
        }
      }
    }
  }
#else
  MESSAGE("skipped: Boost.Math is not installed (Debian: libboost-math-dev)");
#endif
}
