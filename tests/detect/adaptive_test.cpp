// SPDX-License-Identifier: MIT
// The detector is broken by attacks that know of it, and the evaluation says so.
#include <doctest/doctest.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "detect/detect_checks.hpp"
#include "pavise/attack/apgd.hpp"
#include "pavise/attack/carlini_wagner.hpp"
#include "pavise/attack/deepfool.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/square.hpp"
#include "pavise/evaluate/adapt.hpp"
#include "pavise/evaluate/detection.hpp"
#include "pavise/evaluate/robustness.hpp"

using namespace detect_checks;
namespace evaluate = pavise::evaluate;

namespace {

/// An L2 ball as it is usual for digits.
const attack::Threat& l2_ball() {
  static const attack::Threat t = attack::l2(2.4);
  return t;
}

/// The published adaptive attack in few steps.
attack::SuiteEntry carlini_wagner() { return evaluate::detector_carlini_wagner(l2_ball()); }

/// An attack as an entry of a suite.
template <class A>
attack::SuiteEntry entry(const A& attack) {
  return {attack.name(), std::make_shared<const A>(attack)};
}

const std::vector<float>& fit_scores() {
  static const auto scores = joint_detector().scores(undefended(), attack::to_tensor(fit_images()));
  return scores;
}

const defend::FeatureSqueezing& detector() {
  static const auto fitted = joint_detector().with_threshold(defend::fit_threshold(fit_scores(), 0.05));
  return fitted;
}

}  // namespace

TEST_CASE("adaptive: attacks that do not know of the detector are detected, and one that does leaves next to nothing") {
  const auto test = test_images(48);
  const std::vector<evaluate::DetectionAttack> attacks{{entry(attack::fgsm(attack::linf(0.1))), false},
                                                       {carlini_wagner(), false},
                                                       {entry(attack::apgd_ce(l2_ball())), true},
                                                       {carlini_wagner(), true}};
  const auto report = evaluate::evaluate_detection(undefended(), detector(), fit_scores(), test, l2_ball(), attacks);
  CHECK(report.total == 48);
  CHECK(report.clean_correct >= 45);
  CHECK(report.clean_served <= report.clean_correct);
  CHECK(report.clean_served >= 40);
  REQUIRE(report.rows.size() == 4);
  REQUIRE(report.false_alarms.size() == 3);
  for (const std::size_t k : {0, 1, 2}) {
    CHECK(report.false_alarms[k].share() < 0.2);
    CHECK(report.false_alarms[k].interval.low <= report.false_alarms[k].rate);
  }
  // Without knowledge of the detector: most are fooled, and most of these are flagged at 5 % false positives.
  for (const std::size_t naive : {0, 1}) {
    const auto& row = report.rows[naive];
    CAPTURE(row.name);
    CHECK_FALSE(row.adaptive);
    CHECK(row.fooled > 35);
    CHECK(static_cast<std::int64_t>(row.scores.size()) == row.fooled);
    CHECK(row.detected[1].share() > 0.5);
    CHECK(row.detected[0].flagged <= row.detected[1].flagged);
    CHECK(row.detected[1].flagged <= row.detected[2].flagged);
    CHECK(row.detected[1].flagged == row.fooled - row.evaded);
    CHECK(row.area > 0.75);
  }
  CHECK(report.rows[0].detected[1].share() > 0.8);
  CHECK(report.rows[1].detected[1].share() > 0.8);
  CHECK_FALSE(report.rows[0].within_threat);
  CHECK(report.rows[1].within_threat);
  // With it: all are fooled and none flagged.
  const auto& broken = report.rows[3];
  CHECK(broken.adaptive);
  CHECK(broken.evaded >= broken.tried - 1);
  CHECK(broken.distance > 0.5);
  CHECK(broken.distance < 2.4);
  CHECK(report.robust < 48 / 10);
  CHECK(report.robust_served <= report.robust);
  CHECK(report.undetected_robust <= 2);
}

TEST_CASE("adaptive: the same report from any number of threads, and images fare the same in another order") {
  const auto test = test_images(20);
  const std::vector<evaluate::DetectionAttack> attacks{{entry(attack::Pgd(l2_ball())), false},
                                                       {entry(attack::apgd_ce(l2_ball(), {.steps = 20})), true}};
  const auto run = [&](const pv::data::Dataset& set) {
    return evaluate::evaluate_detection(undefended(), detector(), fit_scores(), set, l2_ball(), attacks);
  };
  const auto report = run(test);
  {
    const Threads one(1);
    const auto alone = run(test);
    for (const std::size_t k : {0, 1}) {
      CHECK(same_bits(alone.rows[k].scores, report.rows[k].scores));
      CHECK(alone.rows[k].evaded == report.rows[k].evaded);
      CHECK(alone.rows[k].distance == report.rows[k].distance);
    }
    CHECK(alone.robust == report.robust);
  }
  std::vector<std::int64_t> order;
  for (std::int64_t i = 0; i < 20; ++i) {
    order.push_back(19 - i);
  }
  auto turned = run(test.subset(order));
  for (const std::size_t k : {0, 1}) {
    auto& scores = turned.rows[k].scores;
    std::reverse(scores.begin(), scores.end());
    CHECK(same_bits(scores, report.rows[k].scores));
    CHECK(turned.rows[k].evaded == report.rows[k].evaded);
  }
  CHECK(turned.robust == report.robust);
  CHECK(turned.robust_served == report.robust_served);
}

TEST_CASE("adaptive: every kind of attack sees the detector and is judged by it, targeted ones as well") {
  const auto test = test_images(24);
  const auto guarded = detector().guard(undefended());
  const auto images = attack::to_tensor(test);
  std::vector<std::int32_t> targets;
  for (std::int64_t i = 0; i < test.size(); ++i) {
    targets.push_back((test.label(i) + 1) % 10);
  }
  const auto check = [&](const attack::Attack& attack, bool expect_success) {
    CAPTURE(attack.name());
    const bool targeted = attack.targeted();
    const auto labels = targeted ? std::span<const std::int32_t>(targets) : test.labels();
    const auto result = attack::run(attack, guarded, images, labels);
    const auto scores = detector().scores(undefended(), result.adversarial);
    std::int64_t found = 0;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      CHECK((result.rejected[i] != 0) == detector().flags(scores[i]));
      if (result.success[i] != 0) {
        CHECK_FALSE(detector().flags(scores[i]));
        CHECK((result.prediction[i] == labels[i]) == targeted);
      }
      found += result.success[i] != 0 && result.attempt[i] >= 0 ? 1 : 0;
    }
    CHECK((!expect_success || found > 0));
  };
  const attack::Threat ball = attack::linf(0.3);
  check(attack::Pgd(ball, {.steps = 40}), true);
  check(attack::apgd_t(ball, {.steps = 20}), true);
  check(attack::Square(ball, {.queries = 300}), true);
  check(attack::DeepFool(l2_ball()), false);
  check(attack::Pgd(ball, {.steps = 40, .targeted = true}), true);
  check(attack::CarliniWagner(
            attack::l2(4.0),
            {.iterations = 100, .learning_rate = 0.1, .search_steps = 3, .initial_constant = 1.0, .targeted = true}),
        true);
}

TEST_CASE("adaptive: the evaluator gives a detector the adaptive attacks, and no robust accuracy that is not there") {
  const auto test = test_images(48);
  evaluate::Options options;
  options.suite = "quick";
  options.settings.queries = 500;
  options.signs.measure = false;
  const auto guarded = detector().guard(undefended());
  const auto report = evaluate::robustness(guarded, test, l2_ball(), options);
  INFO(report.summary());
  CHECK(report.robust_accuracy() < 0.1);
  CHECK(report.clean_accuracy() > 0.85);
  bool told = false;
  bool counted = false;
  bool fits = false;
  for (const auto& note : report.notes) {
    told = told || contains(note, "misclassified and not refused");
    counted = counted || contains(note, "clean images, which count as wrong");
  }
  for (const auto& row : report.attacks) {
    fits = fits || row.name == "carlini-wagner";
  }
  CHECK(told);
  CHECK(counted);
  CHECK(fits);
  CHECK_FALSE(contains(report.reason, "no attack here keeps an image unflagged"));
  for (const auto& check : report.checks) {
    CHECK_MESSAGE(check.passed, check.name, ": ", check.detail);
  }
  const auto scores = detector().scores(undefended(), report.adversarial);
  for (std::size_t i = 0; i < scores.size(); ++i) {
    CHECK((report.images[i].broken_by < 0 || !detector().flags(scores[i])));
  }
}

TEST_CASE("adaptive: what an evaluation of a detector refuses") {
  const auto test = test_images(4);
  const auto evaluate_with = [&](const std::vector<evaluate::DetectionAttack>& attacks, std::span<const float> fit) {
    return refusal([&] { evaluate::evaluate_detection(undefended(), detector(), fit, test, l2_ball(), attacks); });
  };
  CHECK(contains(evaluate_with({}, fit_scores()), "no attacks"));
  CHECK(contains(evaluate_with({{{"nothing", nullptr}, false}}, fit_scores()), "attack nothing is null"));
  CHECK(contains(evaluate_with({{entry(attack::Pgd(l2_ball(), {.targeted = true})), true}}, fit_scores()),
                 "takes labels as targets"));
  CHECK(contains(evaluate_with({{entry(attack::fgsm(l2_ball())), false}}, {}), "no scores"));
}
