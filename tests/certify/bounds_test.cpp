// SPDX-License-Identifier: MIT
// The enclosures against Boost at 60 digits and closed forms: they hold the value, and hold it tightly.
#include <doctest/doctest.h>

#include <boost/math/special_functions/beta.hpp>
#include <boost/math/special_functions/erf.hpp>
#include <boost/math/special_functions/gamma.hpp>
#include <boost/multiprecision/cpp_bin_float.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "certify/exact.hpp"
#include "pavise/certify/bounds.hpp"
#include "pavise/core/philox.hpp"

namespace {

namespace pc = pavise::certify;
using pavise_test::exact;
using pavise_test::Exact;

/// low <= value <= high, and high - low <= width.
void check_holds(const Exact& low, const Exact& high, const Exact& value, const Exact& width) {
  CHECK(low <= value);
  CHECK(value <= high);
  CHECK(high - low <= width);
}
void check_holds(const pc::Enclosure& e, const Exact& value, double relative) {
  check_holds(Exact(e.low), Exact(e.high), value, abs(value) * relative + 1e-300);
}

Exact phi(const Exact& x) { return erfc(-x / sqrt(Exact(2))) / 2; }

/// P(Bin(n,p) >= k) = I_p(k, n-k+1)
Exact tail(std::int64_t k, std::int64_t n, double p) {
  return boost::math::ibeta(Exact(k), Exact(n - k + 1), Exact(p));
}

TEST_CASE("fixed point: sums, products and quotients against Boost") {
  pavise::RandomSequence random({.purpose = pavise::Purpose::test});
  for (int i = 0; i < 300; ++i) {
    const double x = std::ldexp(random.uniform(), static_cast<int>(random.below(60)) - 40);
    const double y = std::ldexp(random.uniform(), static_cast<int>(random.below(60)) - 40);
    const auto a = pc::FixedBounds::exactly(x);
    const auto b = pc::FixedBounds::exactly(y);
    const Exact place = ldexp(Exact(1), -256);
    CHECK(exact(a.low) == Exact(x));
    CHECK(exact(a.high) == Exact(x));
    check_holds(exact((a + b).low), exact((a + b).high), Exact(x) + y, 0);
    check_holds(exact((a * b).low), exact((a * b).high), Exact(x) * y, place);
    check_holds(exact((a / b).low), exact((a / b).high), Exact(x) / y, place);
    check_holds(exact((a / 7).low), exact((a / 7).high), Exact(x) / 7, place);
    if (x > y) {
      check_holds(exact((a - b).low), exact((a - b).high), Exact(x) - y, 0);
    }
  }
  CHECK(pc::FixedPoint::from(0x1p-256) == pc::FixedPoint::last_place());
  CHECK(pc::FixedPoint::from(0x1p-300).is_zero());
  CHECK(pc::FixedPoint::from(0.75).first_96_bits() == pc::Wide{3} << 94);
  CHECK(pc::double_above(pc::FixedPoint::from(0.7)) == 0.7);
  CHECK(pc::double_above(pc::FixedPoint::from(0.7) + pc::FixedPoint::last_place()) == pc::next_above(0.7));
}

TEST_CASE("the normal distribution function and exp(-x) are enclosed to 2^-240") {
  for (const double x : {0.0, 0x1p-200, 1e-9, 0.001, 0.3, 1.0, 2.5, 4.75, 7.0, 9.3, 11.99, 12.0}) {
    INFO("x ", x);
    const auto bounds = pc::normal_cdf(x);
    check_holds(exact(bounds.low), exact(bounds.high), phi(x), ldexp(Exact(1), -240));
    const auto decay = pc::exp_minus(pc::FixedBounds::exactly(x));
    check_holds(exact(decay.low), exact(decay.high), exp(-Exact(x)), ldexp(Exact(1), -240));
  }
  for (const double x : {12.5, 40.0, 1000.0}) {
    const auto bounds = pc::normal_cdf(x);
    check_holds(exact(bounds.low), exact(bounds.high), phi(x), ldexp(Exact(1), -108));
    const auto decay = pc::exp_minus(pc::FixedBounds::exactly(8 * x));
    check_holds(exact(decay.low), exact(decay.high), exp(-8 * Exact(x)), ldexp(Exact(1), -115));
  }
}

TEST_CASE("the quantile of the normal distribution is the largest double below the true one") {
  for (const double p : {0.5000000001, 0.51, 0.6915, 0.8413447460685429, 0.99, 0.999930928, 1 - 1e-9, 1 - 0x1p-53}) {
    INFO("p ", p);
    const double z = pc::normal_quantile_below(p);
    CHECK(phi(z) <= Exact(p));
    CHECK(phi(pc::next_above(z)) > Exact(p));
  }
  CHECK(pc::normal_quantile_below(0.5) == 0);
  CHECK(pc::normal_quantile_below(0.1) == 0);
  CHECK(pc::normal_quantile_below(1.0) == pc::kNormalEnd);
}

TEST_CASE("logarithms are enclosed to a few units in the last place") {
  for (const double x : {1e-300, 1e-5, 0.1, 0.5, 0.7071, 0.70711, 0.999999, 1 - 0x1p-53, 1 + 0x1p-52, 1.4142, 1.42, 2.0,
                         3.0, 1e5, 1e300}) {
    INFO("x ", x);
    check_holds(pc::log_bounds(x), log(Exact(x)), 4e-15);
  }
  CHECK(pc::log_bounds(1.0).low <= 0);
  CHECK(pc::log_bounds(1.0).high >= 0);
  CHECK(pc::log_bounds(1.0).high < 1e-300);
  for (const double z : {0.5, 1.5, 3.0, 10.0, 31.5, 32.0, 100.5, 99999.5, 1e7}) {
    INFO("z ", z);
    const auto log_gamma = pc::log_gamma_bounds(z);
    const Exact value = lgamma(Exact(z));
    check_holds(Exact(log_gamma.low), Exact(log_gamma.high), value, 4e-13 + 4e-15 * abs(value));
  }
}

TEST_CASE("Clopper and Pearson's bound: below the true one, by nothing that matters; closed forms") {
  for (const double alpha : {0.05, 0.001, 1e-9}) {
    for (const auto& [k, n] : std::vector<std::pair<std::int64_t, std::int64_t>>{
             {1, 1}, {1, 10}, {5, 10}, {9, 10}, {99, 100}, {60, 100}, {812, 1000}, {5000, 10000}, {99990, 100000}}) {
      INFO(k, " of ", n, ", alpha ", alpha);
      const double p = pc::clopper_pearson_below(k, n, alpha);
      CHECK(tail(k, n, p) <= Exact(alpha));
      CHECK(tail(k, n, p * (1 + 1e-11)) > Exact(alpha));
    }
    for (const std::int64_t n : {1, 10, 100, 100000}) {  // k = n: p^n = alpha
      const double p = pc::clopper_pearson_below(n, n, alpha);
      CHECK(pow(Exact(p), n) <= Exact(alpha));
      CHECK(pow(Exact(p * (1 + 4e-14)), n) > Exact(alpha));
      CHECK(pc::clopper_pearson_below(0, n, alpha) == 0);
    }
  }
  CHECK(pc::clopper_pearson_below(10, 10, 0.0) == 0);
  // The largest radius of 100,000 samples is 3.8115 sigma.
  CHECK(pc::truncated(pc::normal_quantile_below(pc::clopper_pearson_below(100000, 100000, 0.001)), 4) == "3.8114");
  CHECK_THROWS_AS(pc::clopper_pearson_below(11, 10, 0.1), pavise::ValueError);
  CHECK_THROWS_AS(pc::clopper_pearson_below(1, 10, 1.0), pavise::ValueError);
}

TEST_CASE("the mixture: its logarithm, and the ends of the confidence sequence") {
  const auto mixture = [](std::int64_t k, std::int64_t n, double p) {
    const Exact half(0.5);
    return boost::math::beta(Exact(k) + half, Exact(n - k) + half) / boost::math::beta(half, half) / pow(Exact(p), k) /
           pow(1 - Exact(p), n - k);
  };
  for (const auto& [k, n] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 1}, {1, 1}, {30, 30}, {80, 100}, {990, 1000}}) {
    for (const double p : {0.3, 0.9, 0.977}) {
      INFO(k, " of ", n, ", p ", p);
      const auto log_m = pc::log_mixture(k, n, p);
      check_holds(Exact(log_m.low), Exact(log_m.high), log(mixture(k, n, p)), 1e-10);
    }
    const double low = pc::confidence_sequence_below(k, n, 0.001);
    if (low > 0) {
      CHECK(mixture(k, n, low) >= 1000);
      CHECK(mixture(k, n, low * (1 + 1e-11)) < 1000);
      CHECK(low < static_cast<double>(k) / static_cast<double>(n));
      CHECK(pc::rules_out_below(k, n, low, 0.001));
      CHECK_FALSE(pc::rules_out_above(k, n, low, 0.001));
    }
  }
  CHECK(pc::confidence_sequence_below(0, 10, 0.001) == 0);
  CHECK(pc::rules_out_above(0, 100, 0.5, 0.001));
  CHECK_FALSE(pc::rules_out_above(0, 3, 0.5, 0.001));
  CHECK(pc::rules_out_below(100, 100, 0.5, 0.001));
  // The mean of M_n(p) is 1 for every n.
  for (const double p : {0.2, 0.9}) {
    Exact mean = 0;
    for (int k = 0; k <= 40; ++k) {
      mean += mixture(k, 40, p) * pow(Exact(p), k) * pow(1 - Exact(p), 40 - k) * tgamma(Exact(41)) /
              tgamma(Exact(k + 1)) / tgamma(Exact(41 - k));
    }
    CHECK(abs(mean - 1) < 1e-40);
  }
}

TEST_CASE("the test of one half, and decimals that are cut off") {
  CHECK_FALSE(pc::differs_from_half(10, 10, 0.001));  // 2^-9 = 0.00195
  CHECK(pc::differs_from_half(11, 11, 0.001));
  CHECK(pc::differs_from_half(0, 11, 0.001));
  CHECK_FALSE(pc::differs_from_half(50, 100, 0.5));
  for (std::int64_t k = 51; k <= 70; ++k) {
    CHECK(pc::differs_from_half(k, 100, 0.01) == (2 * tail(k, 100, 0.5) <= Exact(0.01)));
  }
  CHECK(pc::truncated(1.2599999, 3) == "1.259");
  CHECK(pc::truncated(1 - 0x1p-53, 4) == "0.9999");
  CHECK(pc::truncated(0.1, 2) == "0.10");
  CHECK(pc::truncated(0.3, 1) == "0.2");  // the double is below
  CHECK(pc::truncated(2.0, 0) == "2");
  CHECK(pc::truncated(0.0, 3) == "0.000");
}

}  // namespace
