// SPDX-License-Identifier: MIT
// Confidence bounds for the probability of an event that came k times in n trials, in which rounding never helps: what
// is called a lower bound here is one, in exact arithmetic.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <string>

#include "pavise/certify/enclosure.hpp"
#include "pavise/certify/normal.hpp"
#include "pavise/core/error.hpp"

namespace pavise::certify {

namespace detail {

/// Counts beyond this would make the logarithms of Gamma lose too many digits to be useful.
inline constexpr std::int64_t kMostTrials = std::int64_t{1} << 40;

inline void check_counts(const char* what, std::int64_t k, std::int64_t n) {
  require(n >= 1 && n <= kMostTrials && k >= 0 && k <= n, what, ": ", k, " of ", n, ", expected 0 <= k <= n, n from 1");
}

/// log of p^k (1-p)^(n-k), 0 < p < 1.
inline Enclosure log_likelihood(std::int64_t k, std::int64_t n, double p) {
  Enclosure sum = 0.0;
  if (k > 0) {
    sum = Enclosure(static_cast<double>(k)) * log_bounds(p);
  }
  if (k < n) {
    sum = sum + Enclosure(static_cast<double>(n - k)) * log_bounds(Enclosure(1.0) - p);
  }
  return sum;
}

}  // namespace detail

/// At least log P(Bin(n,p) >= k), and above it by some 1e-9 at n = 100,000; 0 where p >= k/n, k is 0 or p is 1.
inline double log_binomial_tail_above(std::int64_t k, std::int64_t n, double p) {
  detail::check_counts("log_binomial_tail_above", k, n);
  require(p >= 0 && p <= 1, "log_binomial_tail_above: p ", p, ", expected 0 to 1");
  const auto successes = static_cast<double>(k);
  const auto trials = static_cast<double>(n);
  if (k == 0 || p >= 1 || !(next_above(p * trials) < successes)) {
    return 0;
  }
  if (p == 0) {
    return -std::numeric_limits<double>::infinity();
  }
  Enclosure first = detail::log_likelihood(k, n, p);
  if (k < n) {
    first = first + log_gamma_bounds(trials + 1) - log_gamma_bounds(successes + 1) -
            log_gamma_bounds(trials - successes + 1);
  }
  // The terms fall from k on, each by a larger factor than the one before: what is left is below a geometric series.
  const Enclosure odds = Enclosure(p) / (Enclosure(1.0) - p);
  double sum = 1;
  double term = 1;
  for (double i = successes; i < trials; ++i) {
    const double ratio = (Enclosure((trials - i) / (i + 1) * (1 + 0x1p-50)) * odds).high;
    term = next_above(term * ratio);
    const double rest = next_above(term / next_below(1 - std::min(ratio, 1.0)));
    if (rest < sum * 0x1p-53) {
      sum = next_above(sum + rest);
      break;
    }
    sum = next_above(sum + term);
  }
  return std::min(0.0, (first + Enclosure(log_bounds(sum).high)).high);
}

/// A lower confidence bound of p at level 1-alpha from k successes in n trials (Clopper and Pearson 1934): the largest
/// double p for which an upper enclosure of P(Bin(n,p) >= k) is at most alpha. 0 for k = 0 or alpha = 0. Throws
/// ValueError unless 0 <= k <= n and 0 <= alpha < 1.
inline double clopper_pearson_below(std::int64_t k, std::int64_t n, double alpha) {
  detail::check_counts("clopper_pearson_below", k, n);
  require(alpha >= 0 && alpha < 1, "clopper_pearson_below: alpha ", alpha, ", expected 0 to 1");
  if (k == 0 || alpha == 0) {
    return 0;
  }
  const double log_alpha = log_bounds(alpha).low;
  const double guess = static_cast<double>(k) / static_cast<double>(n);
  return largest_double(guess, 1.0, [&](double p) { return p < 1 && log_binomial_tail_above(k, n, p) <= log_alpha; });
}

/// log M_n(p) of k successes in n trials, where
///   M_n(p) = B(k + 1/2, n - k + 1/2) / B(1/2, 1/2) / (p^k (1-p)^(n-k)),   0 < p < 1:
/// a martingale in n, of mean 1, if p is the probability of a success (the mixture of Krichevsky and Trofimov). By
/// Ville's inequality it ever exceeds 1/alpha with probability at most alpha, so that p may be ruled out when it does,
/// however often one looks.
inline Enclosure log_mixture(std::int64_t k, std::int64_t n, double p) {
  const auto successes = static_cast<double>(k);
  const auto failures = static_cast<double>(n - k);
  return log_gamma_bounds(successes + 0.5) + log_gamma_bounds(failures + 0.5) -
         log_gamma_bounds(static_cast<double>(n) + 1) - detail::constant(detail::kLogPi) -
         detail::log_likelihood(k, n, p);
}

/// Whether the sequence of all looks so far certainly rules out p and everything below it (`above`), or everything above
/// it, at level alpha.
inline bool rules_out_below(std::int64_t k, std::int64_t n, double p, double alpha) {
  return p <= 0 || (p < 1 && alpha > 0 && next_above(p * static_cast<double>(n)) < static_cast<double>(k) &&
                    log_mixture(k, n, p).low >= (-log_bounds(alpha)).high);
}
inline bool rules_out_above(std::int64_t k, std::int64_t n, double p, double alpha) {
  return p >= 1 || (p > 0 && alpha > 0 && next_below(p * static_cast<double>(n)) > static_cast<double>(k) &&
                    log_mixture(k, n, p).low >= (-log_bounds(alpha)).high);
}

/// The lower end of the confidence sequence { p : M_n(p) < 1/alpha }: with probability 1-alpha the true p is at least as
/// large at every n at once, so that it may be read off at any stopping time. 0 where nothing can be said.
inline double confidence_sequence_below(std::int64_t k, std::int64_t n, double alpha) {
  detail::check_counts("confidence_sequence_below", k, n);
  require(alpha >= 0 && alpha < 1, "confidence_sequence_below: alpha ", alpha, ", expected 0 to 1");
  if (k == 0 || alpha == 0) {
    return 0;
  }
  const double guess = static_cast<double>(k) / static_cast<double>(n);
  return largest_double(guess, 1.0, [&](double p) { return rules_out_below(k, n, p, alpha); });
}

/// Whether a two-sided test of p = 1/2 certainly rejects: 2 P(Bin(n, 1/2) >= max(k, n-k)) <= alpha.
inline bool differs_from_half(std::int64_t k, std::int64_t n, double alpha) {
  detail::check_counts("differs_from_half", k, n);
  const std::int64_t more = std::max(k, n - k);
  return 2 * more > n && (Enclosure(log_binomial_tail_above(more, n, 0.5)) + detail::constant(detail::kLogTwo)).high <=
                             log_bounds(alpha).low;
}

/// x >= 0 in decimals, cut off behind `digits` of them and so never more than x.
inline std::string truncated(double x, int digits) {
  require(x >= 0 && std::isfinite(x), "truncated: ", x, ", expected a finite number of 0 or more");
  std::string text(1500, '\0');
  text.resize(static_cast<std::size_t>(std::snprintf(text.data(), text.size(), "%.1100f", x)));  // all of a double
  return text.substr(0, text.find('.') + (digits > 0 ? static_cast<std::size_t>(digits) + 1 : 0));
}

}  // namespace pavise::certify
