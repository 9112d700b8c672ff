// SPDX-License-Identifier: MIT
// Enclosures of the distributions of the noise, and of the inverse of the normal one: integer arithmetic alone, so that
// no library function and no rounding mode is believed.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <utility>

#include "pavise/certify/fixed_point.hpp"
#include "pavise/core/error.hpp"

namespace pavise::certify {

namespace detail {

/// 1 / sqrt(2 pi), to the last of 256 bits.
inline FixedBounds one_over_sqrt_two_pi() {
  constexpr FixedPoint kLow(std::array<std::uint64_t, FixedPoint::kLimbs>{
      0xC0471B4802639D2E, 0xD3829F30512706D8, 0x3F2CF1402EAE38BF, 0x662114CF50D94234, 0, 0});
  return {kLow, kLow + FixedPoint::last_place()};
}

/// sum_j t_j of the odd and of the even j, where t_0 = 1, t_1 = x and t_j = t_{j-2} x^2 / j: the series
///   x + x^3/3!! + x^5/5!! + ... = exp(x^2/2) sqrt(2 pi) (Phi(x) - 1/2)   and   1 + x^2/2!! + x^4/4!! + ... = exp(x^2/2)
/// of positive terms, so that nothing cancels. The remainder is bounded by a geometric series.
inline std::pair<FixedBounds, FixedBounds> normal_series(const FixedBounds& x) {
  const FixedBounds square = x * x;
  FixedBounds term[2] = {FixedBounds::exactly(std::uint64_t{1}), x};
  FixedBounds sum[2] = {term[0], term[1]};
  const std::uint64_t ratio_below_half = 2 * (square.high.limb(FixedPoint::kFraction) + 1);
  const FixedPoint small = FixedPoint::last_place() + FixedPoint::last_place();
  for (std::uint64_t j = 2; j < ratio_below_half || small < term[0].high || small < term[1].high; ++j) {
    auto& t = term[j % 2];
    t = t * square / j;
    sum[j % 2] = sum[j % 2] + t;
  }
  for (int i = 0; i < 2; ++i) {  // t + t/2 + t/4 + ... <= 2 t, and t is at most two last places
    sum[i].high = sum[i].high + small + small;
  }
  return {sum[1], sum[0]};
}

}  // namespace detail

/// Beyond this the upper tails are below 2^-108, and known as no more than that.
inline constexpr double kNormalEnd = 12;

/// Phi(x) = P(N(0,1) <= x) for x >= 0, known in [low, high]; to some 2^-250 up to kNormalEnd.
inline FixedBounds normal_cdf(const FixedBounds& x) {
  const FixedPoint end(std::uint64_t{12});
  if (end < x.high) {
    const FixedPoint start = std::min(x.low, end);
    return {normal_cdf({start, start}).low, FixedPoint(std::uint64_t{1})};
  }
  const auto [sum, exponential] = detail::normal_series(x);
  const FixedBounds above_half = sum / exponential * detail::one_over_sqrt_two_pi();
  return FixedBounds::exactly(0.5) + above_half;
}
inline FixedBounds normal_cdf(double x) { return normal_cdf(FixedBounds::exactly(x)); }

/// exp(-x) for x >= 0, known in [low, high].
inline FixedBounds exp_minus(const FixedBounds& x) {
  const FixedPoint end(std::uint64_t{80});
  if (end < x.high) {
    const FixedPoint start = std::min(x.low, end);
    return {FixedPoint(), exp_minus({start, start}).high};
  }
  FixedBounds term = FixedBounds::exactly(std::uint64_t{1});
  FixedBounds sum = term;
  const std::uint64_t ratio_below_half = 2 * (x.high.limb(FixedPoint::kFraction) + 1);
  const FixedPoint small = FixedPoint::last_place() + FixedPoint::last_place();
  for (std::uint64_t j = 1; j < ratio_below_half || small < term.high; ++j) {
    term = term * x / j;
    sum = sum + term;
  }
  sum.high = sum.high + small + small;
  return FixedBounds::exactly(std::uint64_t{1}) / sum;
}

/// The least double that is at least x; x <= 1.
inline double double_above(const FixedPoint& x) {
  double guess = 0;
  for (int i = FixedPoint::kLimbs - 1; i >= 0; --i) {
    guess += std::ldexp(static_cast<double>(x.limb(i)), 64 * (i - FixedPoint::kFraction));
  }
  while (guess > 0 && x <= FixedPoint::from(std::nextafter(guess, 0.0))) {
    guess = std::nextafter(guess, 0.0);
  }
  while (FixedPoint::from(guess) < x) {
    guess = std::nextafter(guess, 2.0);
  }
  return guess;
}

/// The largest double x in [0, limit] for which holds(x), where it holds up to some point and not beyond it, and holds
/// at 0; `guess` only makes it quick.
template <class Holds>
double largest_double(double guess, double limit, const Holds& holds) {
  // Non-negative doubles are ordered as their bits are.
  const auto bits = [](double x) { return std::bit_cast<std::uint64_t>(x); };
  if (holds(limit)) {
    return limit;
  }
  std::uint64_t high = bits(limit);
  std::uint64_t low = 0;
  std::uint64_t at = std::clamp<std::uint64_t>(bits(std::max(guess, 0.0)), 1, high - 1);
  for (std::uint64_t step = 4; high - low > 1; step *= 16) {  // away from the guess, by growing steps
    if (holds(std::bit_cast<double>(at))) {
      low = at;
      if (high - low <= step) {
        break;
      }
      at = low + step;
    } else {
      high = at;
      if (high - low <= step) {
        break;
      }
      at = high - step;
    }
  }
  while (high - low > 1) {
    const std::uint64_t middle = low + (high - low) / 2;
    (holds(std::bit_cast<double>(middle)) ? low : high) = middle;
  }
  return std::bit_cast<double>(low);
}

/// The largest double z with Phi(z) <= p, certainly: a lower bound of the p quantile of N(0,1). 0 where p <= 1/2;
/// p < 1, or the result is kNormalEnd.
inline double normal_quantile_below(double p) {
  require(p >= 0 && p <= 1, "normal_quantile_below: p ", p, ", expected 0 to 1");
  if (p <= 0.5) {
    return 0;
  }
  double guess = 0;  // Newton's method in plain doubles
  for (int step = 0; step < 100; ++step) {
    const double tail = 0.5 * std::erfc(guess * 0.70710678118654752);
    const double density = 0.39894228040143268 * std::exp(-0.5 * guess * guess);
    const double next = guess + (tail - (1 - p)) / density;
    if (!(next > guess)) {
      break;
    }
    guess = next;
  }
  const FixedPoint bound = FixedPoint::from(p);
  return largest_double(guess, kNormalEnd, [&](double z) { return normal_cdf(z).high <= bound; });
}

}  // namespace pavise::certify
