// SPDX-License-Identifier: MIT
// Exact confidence intervals for counts. An accuracy is k successes in n independent trials; the interval of Clopper
// and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial", Biometrika 26
// (1934), holds the true rate with at least the stated probability, for every n and every rate.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "pavise/core/error.hpp"

namespace pavise::evaluate {

/// A closed interval of rates in [0,1].
struct Interval {
  double low = 0;
  double high = 1;
};

namespace detail {

/// What Stirling's formula leaves out: log Gamma(z) - ((z-1/2) log z - z + log(2 pi)/2).
inline double stirling_error(double z) {
  constexpr double kHalfLogTwoPi = 0.918938533204672741780329736406;
  if (z < 10) {
    return std::lgamma(z) - ((z - 0.5) * std::log(z) - z + kHalfLogTwoPi);
  }
  const double r = 1 / (z * z);
  return (1.0 / 12 - r * (1.0 / 360 - r * (1.0 / 1260 - r * (1.0 / 1680 - r * (1.0 / 1188 - r * 691 / 360360))))) / z;
}

/// log(x^a y^b / B(a,b)) for y = 1-x. Written around the mean a/(a+b), because three log Gamma of counts in the
/// millions cancel to a number near one and leave little of it (Loader, "Fast and accurate computation of binomial
/// probabilities", 2000).
inline double log_beta_kernel(double a, double b, double x, double y) {
  constexpr double kTwoPi = 6.28318530717958647692528676656;
  const double s = a + b;
  const double d = std::fma(x, s, -a);
  const double log_x = std::abs(d) < a / 2 ? std::log1p(d / a) : std::log(x / a * s);
  const double log_y = std::abs(d) < b / 2 ? std::log1p(-d / b) : std::log(y / b * s);
  return a * log_x + b * log_y + 0.5 * std::log(a / s * b / kTwoPi) + stirling_error(s) - stirling_error(a) -
         stirling_error(b);
}

/// The continued fraction of the incomplete beta function (Abramowitz and Stegun 26.5.8), by Lentz's method. It
/// converges in some sqrt(max(a,b)) terms where x < (a+1)/(a+b+2).
inline double beta_fraction(double a, double b, double x) {
  constexpr double kTiny = 1e-300;
  constexpr double kPrecision = 1e-16;
  const auto away_from_zero = [](double v) { return std::abs(v) < kTiny ? kTiny : v; };
  double c = 1;
  double d = 1 / away_from_zero(1 - (a + b) * x / (a + 1));
  double value = d;
  const double most_terms = 1000 + 100 * std::sqrt(std::max(a, b));
  for (double m = 1; m < most_terms; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away_from_zero(1 + even * d);
    c = away_from_zero(1 + even / c);
    value *= c * d;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away_from_zero(1 + odd * d);
    c = away_from_zero(1 + odd / c);
    value *= c * d;
    if (std::abs(c * d - 1) <= 2 * kPrecision) {
      break;
    }
  }
  return value;
}

}  // namespace detail

/// The regularized incomplete beta function I_x(a,b) = integral from 0 to x of t^(a-1) (1-t)^(b-1) dt / B(a,b): the
/// probability that a Beta(a,b) variable is at most x.
///
/// a, b > 0; 0 <= x <= 1; throws ValueError otherwise. Cost: some sqrt(max(a,b)) steps.
inline double incomplete_beta(double a, double b, double x) {
  require(a > 0 && b > 0 && std::isfinite(a) && std::isfinite(b), "incomplete_beta: a ", a, ", b ", b,
          ", expected positive numbers");
  require(x >= 0 && x <= 1, "incomplete_beta: x ", x, ", expected 0 to 1");
  if (x == 0 || x == 1) {
    return x;
  }
  const double kernel = std::exp(detail::log_beta_kernel(a, b, x, 1 - x));
  // The fraction converges fast on one side of the mean alone; the other side is its mirror image.
  if (x < (a + 1) / (a + b + 2)) {
    return std::min(1.0, kernel * detail::beta_fraction(a, b, x) / a);
  }
  return std::max(0.0, 1 - kernel * detail::beta_fraction(b, a, 1 - x) / b);
}

/// The x with I_x(a,b) = p: the p quantile of Beta(a,b), to about 1e-14. Newton's method, kept inside a bracket that
/// always holds the root and that is halved where a step would leave it or shrink it too little.
///
/// a, b > 0; 0 <= p <= 1; throws ValueError otherwise.
inline double inverse_incomplete_beta(double a, double b, double p) {
  require(a > 0 && b > 0 && std::isfinite(a) && std::isfinite(b), "inverse_incomplete_beta: a ", a, ", b ", b,
          ", expected positive numbers");
  require(p >= 0 && p <= 1, "inverse_incomplete_beta: p ", p, ", expected 0 to 1");
  if (p == 0 || p == 1) {
    return p;
  }
  double low = 0;
  double high = 1;
  double x = a / (a + b);
  double last_width = 2;
  // A step either is Newton's or halves the bracket; 2000 is out of reach (1 halves to the least double in 1074).
  for (int step = 0; step < 2000 && x > low && x < high; ++step) {
    const double error = incomplete_beta(a, b, x) - p;
    if (error == 0) {
      return x;
    }
    (error > 0 ? high : low) = x;
    const double width = high - low;
    if (width <= 1e-16 * high) {
      break;
    }
    const double density = std::exp(detail::log_beta_kernel(a, b, x, 1 - x)) / (x * (1 - x));
    const double newton = x - error / density;
    const bool inside = newton > low && newton < high;
    if (inside && std::abs(newton - x) <= 1e-15 * x) {
      return newton;
    }
    // Newton's steps approach from one side, so the bracket may shrink by little while they converge: halve every so
    // often.
    const bool halve = !inside || (step % 8 == 7 && width > last_width / 2);
    if (step % 8 == 7) {
      last_width = width;
    }
    x = halve ? low + width / 2 : newton;
  }
  return std::clamp(x, low, high);
}

/// The exact (Clopper-Pearson) two-sided interval of a rate after `k` successes in `n` independent trials.
///
///     low  = the (1-c)/2 quantile of Beta(k, n-k+1), 0 where k = 0
///     high = the (1+c)/2 quantile of Beta(k+1, n-k), 1 where k = n
///
/// `confidence` c: 0 < c < 1. Throws ValueError where n < 1, k is not 0 to n, or c is outside (0,1).
inline Interval clopper_pearson(std::int64_t k, std::int64_t n, double confidence = 0.95) {
  require(n >= 1, "clopper_pearson: ", n, " trials, expected at least 1");
  require(k >= 0 && k <= n, "clopper_pearson: ", k, " successes in ", n, " trials, expected 0 to ", n);
  require(confidence > 0 && confidence < 1, "clopper_pearson: confidence ", confidence, ", expected between 0 and 1");
  const double tail = (1 - confidence) / 2;
  const auto lower = [&](std::int64_t successes) {
    return successes == 0
               ? 0.0
               : inverse_incomplete_beta(static_cast<double>(successes), static_cast<double>(n - successes) + 1, tail);
  };
  return {lower(k), 1 - lower(n - k)};
}

}  // namespace pavise::evaluate
