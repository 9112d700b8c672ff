// SPDX-License-Identifier: MIT
// How well scores tell adversarial images from clean ones.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/evaluate/interval.hpp"

namespace pavise::evaluate {

/// A point of the receiver operating characteristic: what a threshold flags, score > threshold.
struct RocPoint {
  float threshold = 0;
  double false_positive_rate = 0;  ///< share of the clean images that it flags
  double true_positive_rate = 0;   ///< share of the adversarial ones
};

namespace detail {

inline std::vector<float> sorted_scores(std::string_view what, std::span<const float> scores) {
  require(!scores.empty(), "roc: no ", what, " scores, expected one or more");
  std::vector<float> out(scores.begin(), scores.end());
  for (std::size_t i = 0; i < out.size(); ++i) {
    require(!std::isnan(out[i]), "roc: ", what, " score ", i, " is ", out[i], ", expected a number");
  }
  std::sort(out.begin(), out.end());
  return out;
}

}  // namespace detail

/// The receiver operating characteristic of scores that should be larger for adversarial images: a point for each
/// distinct score as the threshold, from the largest, which flags nothing, downwards, and at the end minus infinity,
/// which flags everything. Scores may be infinite. Throws ValueError where one of the two is empty or holds NaN. Cost:
/// that of sorting.
inline std::vector<RocPoint> roc(std::span<const float> clean, std::span<const float> adversarial) {
  const auto negatives = detail::sorted_scores("clean", clean);
  const auto positives = detail::sorted_scores("adversarial", adversarial);
  std::vector<RocPoint> out;
  auto n = negatives.end();  // scores from here on are above the threshold
  auto p = positives.end();
  const auto add = [&](float threshold) {
    out.push_back({threshold, static_cast<double>(negatives.end() - n) / static_cast<double>(negatives.size()),
                   static_cast<double>(positives.end() - p) / static_cast<double>(positives.size())});
  };
  while (n != negatives.begin() || p != positives.begin()) {
    const float below = -std::numeric_limits<float>::infinity();
    const float threshold =
        std::max(n != negatives.begin() ? *(n - 1) : below, p != positives.begin() ? *(p - 1) : below);
    add(threshold);
    while (n != negatives.begin() && *(n - 1) == threshold) {
      --n;
    }
    while (p != positives.begin() && *(p - 1) == threshold) {
      --p;
    }
  }
  add(-std::numeric_limits<float>::infinity());
  return out;
}

/// The area under that curve: the probability that an adversarial image's score is larger than a clean one's, equal
/// scores counting half (Mann and Whitney 1947). 1/2 for scores that say nothing. Throws as `roc`.
inline double area_under_roc(std::span<const float> clean, std::span<const float> adversarial) {
  const auto negatives = detail::sorted_scores("clean", clean);
  const auto positives = detail::sorted_scores("adversarial", adversarial);
  // Twice the number of pairs, whole numbers throughout: exact, and for many equal scores as well.
  std::int64_t twice = 0;
  auto below = negatives.begin();
  auto equal = negatives.begin();
  for (const float score : positives) {
    while (below != negatives.end() && *below < score) {
      ++below;
    }
    equal = std::max(equal, below);
    while (equal != negatives.end() && *equal == score) {
      ++equal;
    }
    twice += (below - negatives.begin()) + (equal - negatives.begin());
  }
  return static_cast<double>(twice) /
         (2.0 * static_cast<double>(negatives.size()) * static_cast<double>(positives.size()));
}

/// How many of some images a threshold flags.
struct FlaggedShare {
  double rate = 0;      ///< false-positive rate that the threshold was fitted for
  float threshold = 0;  ///< score > threshold is flagged
  std::int64_t flagged = 0;
  std::int64_t total = 0;
  Interval interval;  ///< exact, of flagged / total; 0 to 1 for no images

  double share() const { return total == 0 ? 0.0 : static_cast<double>(flagged) / static_cast<double>(total); }
};

/// The share of `scores` above the threshold; NaN is flagged.
inline FlaggedShare flagged_share(std::span<const float> scores, float threshold, double rate,
                                  double confidence = 0.95) {
  FlaggedShare out;
  out.rate = rate;
  out.threshold = threshold;
  out.total = static_cast<std::int64_t>(scores.size());
  out.flagged = std::count_if(scores.begin(), scores.end(), [&](float s) { return !(s <= threshold); });
  if (out.total > 0) {
    out.interval = clopper_pearson(out.flagged, out.total, confidence);
  }
  return out;
}

}  // namespace pavise::evaluate
