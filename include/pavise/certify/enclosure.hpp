// SPDX-License-Identifier: MIT
// Real numbers as intervals of doubles that are sure to hold them. Every operation is rounded to nearest, or in any
// other way that errs by less than one unit in the last place, and then widened by that unit: no rounding mode is set or
// believed, and no function of the mathematical library is called.
#pragma once

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <cstdint>
#include <limits>

#if defined(__FAST_MATH__)
#error "pavise/certify: the bounds need IEEE arithmetic: compile without -ffast-math"
#endif
static_assert(FLT_EVAL_METHOD == 0, "pavise/certify: the bounds need arithmetic in double itself");

namespace pavise::certify {

/// The next double above, or below; of an infinity itself.
inline double next_above(double x) {
  if (!(x < std::numeric_limits<double>::infinity())) {
    return x;
  }
  if (x == 0) {
    return std::numeric_limits<double>::denorm_min();
  }
  const auto bits = std::bit_cast<std::uint64_t>(x);
  return std::bit_cast<double>(x > 0 ? bits + 1 : bits - 1);
}
inline double next_below(double x) { return -next_above(-x); }

/// A number known to lie in [low, high].
struct Enclosure {
  double low, high;

  Enclosure(double exact) : low(exact), high(exact) {}  // NOLINT(google-explicit-constructor): a double is one
  Enclosure(double from, double to) : low(from), high(to) {}

  Enclosure operator-() const { return {-high, -low}; }
  friend Enclosure operator+(Enclosure a, Enclosure b) {
    return {next_below(a.low + b.low), next_above(a.high + b.high)};
  }
  friend Enclosure operator-(Enclosure a, Enclosure b) { return a + -b; }
  friend Enclosure operator*(Enclosure a, Enclosure b) {
    const double p[] = {a.low * b.low, a.low * b.high, a.high * b.low, a.high * b.high};
    return {next_below(*std::min_element(p, p + 4)), next_above(*std::max_element(p, p + 4))};
  }
  /// b does not hold 0.
  friend Enclosure operator/(Enclosure a, Enclosure b) {
    const double p[] = {a.low / b.low, a.low / b.high, a.high / b.low, a.high / b.high};
    return {next_below(*std::min_element(p, p + 4)), next_above(*std::max_element(p, p + 4))};
  }
};

namespace detail {

inline constexpr double kLogTwo = 0x1.62e42fefa39efp-1;        ///< log 2, rounded down
inline constexpr double kHalfLogTwoPi = 0x1.d67f1c864beb4p-1;  ///< log(2 pi)/2, rounded down
inline constexpr double kLogPi = 0x1.250d048e7a1bdp+0;         ///< log pi, rounded down

inline Enclosure constant(double rounded_down) { return {rounded_down, next_above(rounded_down)}; }

/// log m for a double m near 1, as 2 (s + s^3/3 + s^5/5 + ...) with s = (m-1)/(m+1), |s| < 0.172.
inline Enclosure log_near_one(double m) {
  const Enclosure s = Enclosure(m - 1) / (Enclosure(m) + 1.0);  // m - 1 is exact in [1/2, 2]
  const Enclosure square = s * s;
  constexpr int kTerms = 12;
  // What follows the last term, 1/25 + s^2/27 + ..., with s^2 < 0.0295.
  Enclosure sum(0.0, 0.042);
  for (int j = kTerms - 1; j >= 0; --j) {
    sum = sum * square + Enclosure(1.0) / Enclosure(2.0 * j + 1);
  }
  return s * sum * 2.0;
}

}  // namespace detail

/// log x for a double x > 0.
inline Enclosure log_bounds(double x) {
  int exponent = 0;
  double m = std::frexp(x, &exponent);  // exact
  if (m < 0.70710678) {
    m *= 2;
    --exponent;
  }
  const Enclosure log_m = detail::log_near_one(m);
  return exponent == 0 ? log_m : log_m + Enclosure(exponent) * detail::constant(detail::kLogTwo);
}
inline Enclosure log_bounds(Enclosure x) { return {log_bounds(x.low).low, log_bounds(x.high).high}; }

/// log Gamma(z) for a double z >= 1/2 that is a multiple of 1/2, below 2^50: Stirling's series from z >= 32 on (an
/// enveloping one: the error has the sign of the first term left out and is smaller), by Gamma(z+1) = z Gamma(z) below.
inline Enclosure log_gamma_bounds(double z) {
  constexpr double kStart = 32;
  Enclosure product = 1.0;
  for (; z < kStart; z += 1) {
    product = product * z;
  }
  const Enclosure r = Enclosure(1.0) / (Enclosure(z) * z);
  // B_2j / (2j (2j-1)): 1/12, -1/360, 1/1260, -1/1680, 1/1188, -691/360360
  Enclosure sum = -(Enclosure(0.0, 691.0) / 360360.0);  // the term left out, or less
  for (const double reciprocal : {1188.0, -1680.0, 1260.0, -360.0, 12.0}) {
    sum = sum * r + Enclosure(1.0) / reciprocal;
  }
  const Enclosure stirling = Enclosure(z - 0.5) * log_bounds(z) - z + detail::constant(detail::kHalfLogTwoPi) + sum / z;
  return product.low == 1 && product.high == 1 ? stirling : stirling - log_bounds(product);
}

}  // namespace pavise::certify
