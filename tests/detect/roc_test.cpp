// SPDX-License-Identifier: MIT
// Thresholds, the receiver operating characteristic and its area: closed forms, and pairs counted one by one.
#include "pavise/evaluate/roc.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include "core/text_checks.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/defend/detector.hpp"

namespace pv = pavise;
namespace evaluate = pavise::evaluate;
using pavise::defend::fit_threshold;
using pavise_test::contains;
using pavise_test::refusal;

namespace {

constexpr float kInfinite = std::numeric_limits<float>::infinity();

/// Scores with many equal ones.
std::vector<float> coarse_scores(std::size_t n, std::uint32_t which) {
  pv::RandomSequence random({.seed = 3, .purpose = pv::Purpose::test, .image = which});
  std::vector<float> out(n);
  for (float& s : out) {
    s = static_cast<float>(std::floor(random.uniform(0.0, 9.0))) / 4.0f;
  }
  return out;
}

}  // namespace

TEST_CASE("threshold: sorted(scores)[ceil(n (1 - rate)) - 1], with ties, equal scores and a single one") {
  const std::vector<float> ten{0.9f, 0.1f, 0.5f, 0.3f, 0.7f, 0.2f, 0.4f, 0.8f, 0.6f, 1.0f};
  CHECK(fit_threshold(ten, 0.0) == 1.0f);
  CHECK(fit_threshold(ten, 0.05) == 1.0f);  // ceil(9.5) - 1 = 9
  CHECK(fit_threshold(ten, 0.1) == 0.9f);
  CHECK(fit_threshold(ten, 0.25) == 0.8f);  // ceil(7.5) - 1 = 7
  CHECK(fit_threshold(ten, 0.5) == 0.5f);
  CHECK(fit_threshold(ten, 0.99) == 0.1f);
  CHECK(fit_threshold({0.3f}, 0.05) == 0.3f);
  CHECK(fit_threshold({0.3f}, 0.999) == 0.3f);
  CHECK(fit_threshold(std::vector<float>(7, 0.25f), 0.5) == 0.25f);
  CHECK(fit_threshold({0.1f, 0.2f, 0.2f, 0.2f, 0.2f}, 0.4) == 0.2f);
  CHECK(fit_threshold({0.1f, 0.2f, kInfinite}, 0.34) == 0.2f);
}

TEST_CASE("threshold: flags at most the asked share of the scores that it was fitted on, whatever rounding says") {
  for (const std::size_t n : {1, 7, 100, 1000, 4999}) {
    std::vector<float> scores;
    for (std::size_t i = 0; i < n; ++i) {
      scores.push_back(static_cast<float>((i * 7919) % n));
    }
    for (const double rate : {0.01, 0.05, 0.07, 0.1, 0.29, 0.57, 0.58}) {
      const auto share = evaluate::flagged_share(scores, fit_threshold(scores, rate), rate);
      CAPTURE(n);
      CAPTURE(rate);
      // Distinct scores: exactly floor(n rate), in whole numbers of a hundredth
      const auto hundredths = static_cast<std::int64_t>(std::lround(rate * 100));
      CHECK(share.flagged == static_cast<std::int64_t>(n) * hundredths / 100);
    }
  }
}

TEST_CASE("threshold: refuses what gives none, by its value") {
  CHECK(contains(refusal([] { fit_threshold({}, 0.05); }), "no scores"));
  CHECK(contains(refusal([] { fit_threshold({1.0f}, 1.0); }), "rate of 1"));
  CHECK(contains(refusal([] { fit_threshold({1.0f}, -0.1); }), "rate of -0.1"));
  CHECK(contains(refusal([] { fit_threshold({1.0f}, std::nan("")); }), "rate of nan"));
  CHECK(contains(refusal([] { fit_threshold({0.5f, std::nanf("")}, 0.05); }), "score 1 is nan"));
  CHECK(contains(refusal([] { fit_threshold({0.5f, kInfinite}, 0.05); }), "is inf"));
}

TEST_CASE("roc: a curve of known scores, from nothing flagged to everything") {
  const std::vector<float> clean{0.1f, 0.2f, 0.3f, 0.4f};
  const std::vector<float> adversarial{0.3f, 0.5f, 0.6f, 0.6f, kInfinite};
  const auto curve = evaluate::roc(clean, adversarial);
  const std::vector<evaluate::RocPoint> expected{{kInfinite, 0, 0}, {0.6f, 0, 0.2},    {0.5f, 0, 0.6},
                                                 {0.4f, 0, 0.8},    {0.3f, 0.25, 0.8}, {0.2f, 0.5, 1},
                                                 {0.1f, 0.75, 1},   {-kInfinite, 1, 1}};
  REQUIRE(curve.size() == expected.size());
  for (std::size_t i = 0; i < curve.size(); ++i) {
    CHECK(curve[i].threshold == expected[i].threshold);
    CHECK(curve[i].false_positive_rate == expected[i].false_positive_rate);
    CHECK(curve[i].true_positive_rate == expected[i].true_positive_rate);
  }
  CHECK(evaluate::area_under_roc(clean, adversarial) == (18.0 + 0.5) / 20.0);
}

TEST_CASE("roc: all equal says nothing, separated scores everything, and one of each is enough") {
  const std::vector<float> equal(5, 0.5f);
  CHECK(evaluate::area_under_roc(equal, std::vector<float>(3, 0.5f)) == 0.5);
  CHECK(evaluate::roc(equal, std::vector<float>(3, 0.5f)).size() == 2);
  CHECK(evaluate::area_under_roc(std::vector{0.1f}, std::vector{0.2f}) == 1.0);
  CHECK(evaluate::area_under_roc(std::vector{0.2f}, std::vector{0.1f}) == 0.0);
  CHECK(evaluate::area_under_roc(std::vector{kInfinite}, std::vector{kInfinite}) == 0.5);
}

TEST_CASE("roc: area and points are those of pairs and scores counted one by one") {
  for (std::uint32_t seed = 0; seed < 20; ++seed) {
    const auto clean = coarse_scores(1 + seed * 3, 2 * seed);
    auto adversarial = coarse_scores(2 + seed, 2 * seed + 1);
    double pairs = 0;
    for (const float a : adversarial) {
      for (const float c : clean) {
        pairs += a > c ? 1.0 : a == c ? 0.5 : 0.0;
      }
    }
    const double area = evaluate::area_under_roc(clean, adversarial);
    CHECK(area == pairs / static_cast<double>(clean.size() * adversarial.size()));
    double trapezoids = 0;
    const auto curve = evaluate::roc(clean, adversarial);
    for (std::size_t i = 0; i < curve.size(); ++i) {
      const auto above = [&](const std::vector<float>& s) {
        return static_cast<double>(std::count_if(s.begin(), s.end(), [&](float v) { return v > curve[i].threshold; })) /
               static_cast<double>(s.size());
      };
      CHECK(curve[i].false_positive_rate == above(clean));
      CHECK(curve[i].true_positive_rate == above(adversarial));
      if (i > 0) {
        trapezoids += (curve[i].false_positive_rate - curve[i - 1].false_positive_rate) *
                      (curve[i].true_positive_rate + curve[i - 1].true_positive_rate) / 2;
      }
    }
    CHECK(trapezoids == doctest::Approx(area).epsilon(1e-12));
  }
}

TEST_CASE("roc: refuses no scores and NaN; a share counts NaN as flagged") {
  const std::vector<float> some{0.1f, 0.2f};
  CHECK(contains(refusal([&] { evaluate::roc({}, some); }), "no clean scores"));
  CHECK(contains(refusal([&] { evaluate::area_under_roc(some, {}); }), "no adversarial scores"));
  CHECK(contains(refusal([&] {
                   evaluate::roc(some, std::vector{0.1f, std::nanf("")});
                 }),
                 "adversarial score 1 is nan"));
  const auto share = evaluate::flagged_share(std::vector{0.1f, 0.3f, std::nanf(""), kInfinite, 0.2f}, 0.2f, 0.05);
  CHECK(share.flagged == 3);
  CHECK(share.total == 5);
  CHECK(share.interval.low == doctest::Approx(0.14663).epsilon(1e-4));  // R: binom.test(3, 5)
  CHECK(share.interval.high == doctest::Approx(0.94726).epsilon(1e-4));
  CHECK(evaluate::flagged_share({}, 0.2f, 0.05).total == 0);
}
