// SPDX-License-Identifier: MIT
// The evaluation as a whole: what it counts, that it depends on nothing it should not, and what it refuses.
#include "pavise/evaluate/robustness.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <numeric>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "attack/attack_checks.hpp"
#include "core/text_checks.hpp"
#include "evaluate/models.hpp"

using namespace evaluate_checks;
using attack_checks::RestoreSettings;
using evaluate::Outcome;
using pavise_test::contains;
using pavise_test::refusal;

namespace {

evaluate::Options without_signs() {
  auto options = few_steps();
  options.signs.measure = false;
  return options;
}

/// Checks that the parts of a report add up, and its adversarial images with the model itself.
void check_consistent(const evaluate::Report& r, const pv::nn::Model& model, const pv::Tensor<float>& images,
                      bool survivors_only) {
  const auto n = static_cast<std::size_t>(r.total);
  REQUIRE(r.images.size() == n);
  REQUIRE(r.matrix.size() == n * r.attacks.size());
  const auto predicted = attack_checks::predictions(model, r.adversarial);
  std::int64_t stands = 0;
  std::int64_t correct = 0;
  std::vector<std::int64_t> tried(r.attacks.size());
  std::vector<std::int64_t> broken(r.attacks.size());
  std::vector<std::int64_t> first(r.attacks.size());
  for (std::size_t i = 0; i < n; ++i) {
    const auto& image = r.images[i];
    const auto row = static_cast<std::int64_t>(i);
    float distance = 0;
    for (std::size_t e = 0; e < images.row(row).size(); ++e) {
      distance = std::max(distance, std::abs(r.adversarial.row(row)[e] - images.row(row)[e]));
    }
    std::int32_t by = image.clean_prediction == image.label ? evaluate::kStands : evaluate::kMisclassified;
    correct += by == evaluate::kStands ? 1 : 0;
    for (std::size_t a = 0; a < r.attacks.size(); ++a) {
      const Outcome outcome = r.outcome(a, i);
      tried[a] += outcome != Outcome::not_tried ? 1 : 0;
      broken[a] += outcome == Outcome::broken ? 1 : 0;
      CHECK((outcome != Outcome::not_tried) == (by == evaluate::kStands || (by >= 0 && !survivors_only)));
      if (outcome == Outcome::broken && by == evaluate::kStands) {
        by = static_cast<std::int32_t>(a);
        first[a] += 1;
      }
    }
    CHECK(image.broken_by == by);
    stands += by == evaluate::kStands ? 1 : 0;
    CHECK(predicted[i] == image.prediction);
    CHECK((image.prediction == image.label) == image.stands());
    CHECK(distance <= static_cast<float>(r.threat.epsilon) * 1.0001f);
    CHECK(std::abs(distance - image.distance) < 1e-6f);
    CHECK((image.attempt >= 0) == (by >= 0));
    CHECK((distance > 0) == (by >= 0));
  }
  CHECK(r.robust_correct == stands);
  CHECK(r.clean_correct == correct);
  std::int64_t standing = correct;
  std::int64_t forward = 0;
  for (std::size_t a = 0; a < r.attacks.size(); ++a) {
    const auto& row = r.attacks[a];
    standing -= first[a];
    CHECK(row.tried == tried[a]);
    CHECK(row.broken == broken[a]);
    CHECK(row.first == first[a]);
    CHECK(row.standing == standing);
    CHECK(row.interval.low <= static_cast<double>(standing) / static_cast<double>(n));
    CHECK(row.interval.high >= static_cast<double>(standing) / static_cast<double>(n));
    forward += row.forward;
  }
  CHECK(r.forward_passes == forward);
  CHECK(forward == std::accumulate(r.images.begin(), r.images.end(), std::int64_t{0},
                                   [](std::int64_t sum, const auto& image) { return sum + image.forward; }));
  const auto exact = evaluate::clopper_pearson(stands, r.total, 0.95);
  CHECK(r.robust_interval.low == exact.low);
  CHECK(r.robust_interval.high == exact.high);
}

}  // namespace

TEST_CASE("robustness: an image is broken where any attack breaks it, and the report adds up") {
  const auto set = digits().test.first(100);
  const auto images = attack::to_tensor(set);
  const auto report = evaluate::robustness(robust_model(), set, threat(), without_signs());
  check_consistent(report, robust_model(), images, true);
  CHECK(report.suite == "auto");
  CHECK(report.robust_correct > 10);
  CHECK(report.robust_correct < report.clean_correct);
  CHECK(report.verdict == evaluate::Verdict::undecided);
  for (const auto& check : report.checks) {
    CHECK_MESSAGE(check.passed, check.name, ": ", check.detail);
  }
  CHECK(report.checks.size() == 4);

  auto options = without_signs();
  options.all_images = true;
  const auto whole = evaluate::robustness(robust_model(), set, threat(), options);
  check_consistent(whole, robust_model(), images, false);
  CHECK(whole.robust_correct == report.robust_correct);
  for (const auto& row : whole.attacks) {
    CHECK(row.tried == whole.clean_correct);
  }

  const auto text = report.summary();
  for (const std::string_view part : {"robust accuracy", "95 % interval", "apgd-ce", "square", "verdict: undecided"}) {
    CHECK_MESSAGE(contains(text, part), text);
  }
}

TEST_CASE("robustness: on a linear model the exact count, in every norm") {
  const attack_checks::LinearProblem problem(5, 60, {1, 5, 5});
  const std::vector<std::pair<attack::Norm, double>> radii = {
      {attack::Norm::linf, 0.05}, {attack::Norm::l2, 0.25}, {attack::Norm::l1, 1.0}};
  for (const auto& [norm, epsilon] : radii) {
    CAPTURE(attack::norm_name(norm));
    std::int64_t above = 0;  // images that are out of reach, and those for whom it is a matter of 2 %
    std::int64_t close = 0;
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const double distance = problem.distance(norm, i, 0, 1);
      above += distance > epsilon ? 1 : 0;
      close += distance > 0.98 * epsilon && distance <= epsilon ? 1 : 0;
    }
    REQUIRE(above > 5);
    REQUIRE(above < 55);
    auto options = without_signs();
    options.settings.steps = 50;
    const auto report =
        evaluate::robustness(problem.model, problem.images, problem.labels, attack::Threat(norm, epsilon), options);
    CHECK(report.robust_correct >= above);
    CHECK(report.robust_correct <= above + close);
  }
}

TEST_CASE("robustness: two and three classes") {
  for (const std::int32_t classes : {2, 3}) {
    const attack_checks::LinearProblem problem(classes, 30);
    const auto report = evaluate::robustness(problem.model, problem.images, problem.labels, threat(), without_signs());
    REQUIRE(report.attacks.size() == 4);
    CHECK(report.attacks[1].name == (classes == 2 ? "apgd-margin" : "apgd-dlr"));
    CHECK(report.notes.size() == 1);
    std::int64_t above = 0;
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      above += problem.distance(attack::Norm::linf, i, 0, 1) > threat().epsilon ? 1 : 0;
    }
    CHECK(std::abs(report.robust_correct - above) <= 1);
  }
}

TEST_CASE("robustness: the same bits for any number of threads and any order") {
  const RestoreSettings restore;
  auto options = few_steps();
  options.settings = {.steps = 10, .targets = 2, .queries = 80, .draws = 4};
  options.signs = {.measure = true, .images = 25, .steps = 5};
  const auto set = digits().test.first(60);
  pv::set_thread_count(2);
  const auto reference = evaluate::robustness(robust_model(), set, threat(), options);
  REQUIRE(reference.robust_correct < reference.clean_correct);
  for (const int threads : {1, 3}) {
    pv::set_thread_count(threads);
    check_same(evaluate::robustness(robust_model(), set, threat(), options), reference);
  }
  std::vector<std::int64_t> order(60);
  for (std::int64_t i = 0; i < 60; ++i) {
    order[static_cast<std::size_t>(i)] = i * 37 % 60;
  }
  const auto shuffled = evaluate::robustness(robust_model(), set.subset(order), threat(), options);
  check_same_totals(shuffled, reference);
  for (std::int64_t i = 0; i < 60; ++i) {
    check_same_image(shuffled, i, reference, order[static_cast<std::size_t>(i)]);
  }
  options.seed = 1;
  const auto other = evaluate::robustness(robust_model(), set, threat(), options);
  CHECK_FALSE(same_bits(other.adversarial.span(), reference.adversarial.span()));
}

TEST_CASE("robustness: the same bits for any instruction set") {
  const RestoreSettings restore;
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(30, {1, 4, 6});
  const auto labels = attack_checks::predictions(model, images);
  const auto report = [&] { return evaluate::robustness(model, images, labels, attack::linf(0.05), few_steps()); };
  const auto reference = report();
  REQUIRE(reference.robust_correct > 0);
  REQUIRE(reference.robust_correct < reference.clean_correct);
  // The signs take all images here, so that the curve ends no higher than the evaluation.
  REQUIRE(reference.curve.size() == 6);
  CHECK(reference.curve[0].correct == reference.clean_correct);
  CHECK(reference.curve[3].correct <= reference.robust_correct);
  for (const auto isa : {pv::kernels::Isa::portable, pv::kernels::Isa::avx2}) {
    pv::kernels::set_isa(isa);
    check_same(report(), reference);
  }
}

TEST_CASE("robustness: attacks of one's own") {
  auto options = without_signs();
  options.attacks.entries.push_back(
      {"fgsm", std::make_shared<const attack::Pgd>(attack::fgsm(threat())), 1, attack::Access::gradients, "one step"});
  const auto set = digits().test.first(60);
  const auto report = evaluate::robustness(plain_model(), set, threat(), options);
  CHECK(report.suite == "own");
  REQUIRE(report.attacks.size() == 2);
  CHECK(report.attacks[0].name == "fgsm");
  CHECK(report.attacks[0].settings == "one step");
  CHECK(report.attacks[1].name == "square");  // never gradients alone
  CHECK(report.attacks[0].broken ==
        report.clean_correct - attack::run(attack::fgsm(threat()), plain_model(), set).robust_correct);
}

TEST_CASE("robustness: progress adds up and comes from one thread at a time") {
  auto options = few_steps();
  options.settings.steps = 5;
  options.signs.images = 20;
  options.signs.steps = 3;
  std::vector<std::string> stages;
  std::int64_t last = 0;
  std::int64_t all = 0;
  std::atomic<int> inside{0};
  options.progress = [&](std::string_view stage, std::int64_t done, std::int64_t total) {
    CHECK(inside.fetch_add(1) == 0);
    if (stages.empty() || stages.back() != stage) {
      CHECK(last == all);
      CHECK(done == 0);
      stages.emplace_back(stage);
    } else {
      CHECK(done >= last);
      CHECK(total == all);
    }
    last = done;
    all = total;
    inside.fetch_sub(1);
  };
  evaluate::robustness(robust_model(), digits().test.first(50), threat(), options);
  CHECK(last == all);
  CHECK(stages == std::vector<std::string>{"apgd-ce", "apgd-t", "fab-t", "square", "signs"});
}

TEST_CASE("robustness: bad input is named") {
  const attack::Classifier model = plain_model();
  const auto set = digits().test.first(20);
  const auto images = attack::to_tensor(set);
  const auto& labels = set.labels();
  const auto options = without_signs();
  const auto with = [&](const pv::Tensor<float>& x, std::vector<std::int32_t> y) {
    return refusal([&] { evaluate::robustness(model, x, y, threat(), options); });
  };
  auto wrong = labels;
  wrong[3] = 10;
  CHECK(contains(with(images, wrong), "label 10 of image 3"));
  wrong[3] = -1;
  CHECK(contains(with(images, wrong), "label -1 of image 3"));
  wrong.pop_back();
  CHECK(contains(with(images, wrong), "19"));
  CHECK(contains(with(pv::Tensor<float>(pv::Shape{20, 1, 28, 27}), labels), "(1,28,28)"));
  CHECK(contains(with(pv::Tensor<float>(pv::Shape{0, 1, 28, 28}), {}), "no images"));
  auto outside = images;
  outside.row(7)[5] = 2.0f;
  CHECK(contains(with(outside, labels), "a pixel of image 7 is 2"));
  outside.row(7)[5] = std::numeric_limits<float>::quiet_NaN();
  CHECK(contains(with(outside, labels), "a pixel of image 7 is nan"));
  CHECK(contains(refusal([&] { evaluate::robustness(model, set, attack::linf(-0.1), options); }), "epsilon -0.1"));
  CHECK(contains(refusal([&] { evaluate::robustness(model, set, attack::linf(8), options); }), "epsilon 8 exceeds"));

  const auto changed = [&](void (*change)(evaluate::Options&)) {
    auto other = options;
    change(other);
    return refusal([&] { evaluate::robustness(model, set, threat(), other); });
  };
  CHECK(contains(changed([](auto& o) { o.suite = "best"; }), "best"));
  CHECK(contains(changed([](auto& o) { o.settings.targets = 0; }), "0 targets"));
  CHECK(contains(changed([](auto& o) { o.settings.steps = 0; }), "0 steps"));
  CHECK(contains(changed([](auto& o) { o.settings.queries = -1; }), "-1"));
  CHECK(contains(changed([](auto& o) { o.judging_draws = 0; }), "0 judging draws"));
  CHECK(contains(changed([](auto& o) { o.confidence = 1; }), "confidence 1"));
  CHECK(contains(changed([](auto& o) { o.signs.images = 0; }), "0 images"));
  CHECK(contains(changed([](auto& o) { o.attacks.entries.push_back({"nothing", nullptr}); }), "nothing"));
  CHECK(contains(changed([](auto& o) {
                   o.attacks.entries.push_back({"wide", std::make_shared<const attack::Pgd>(attack::linf(0.3))});
                 }),
                 "wide is made for linf 0.3"));
  CHECK(contains(changed([](auto& o) {
                   attack::PgdOptions targeted;
                   targeted.targeted = true;
                   o.attacks.entries.push_back({"aimed", std::make_shared<const attack::Pgd>(threat(), targeted)});
                 }),
                 "aimed"));
  static const auto small = attack_checks::small_network(10);
  CHECK(contains(changed([](auto& o) { o.surrogates.push_back(small); }), "surrogate"));
}

TEST_CASE("robustness: a model that gives NaN") {
  const auto set = digits().test.first(40);
  const auto nan = behind("nan", plain_model(), {}, [](auto z) { return pv::log(pv::scale(z, -1e-9f)); });
  const auto message = refusal([&] { evaluate::robustness(nan, set, threat(), without_signs()); });
  CHECK(contains(message, "not finite"));
  CHECK(contains(message, "clean image"));
  // One that gives NaN off the clean images is evaluated, and no NaN counts as a success.
  const auto images = attack::to_tensor(set);
  const attack::Classifier brittle("brittle", {1, 28, 28}, 10, [&images](pv::Var<float> x) {
    const auto nothing = pv::custom(
        "brittle", x, pv::Shape{10},
        [&images](auto in, auto out) {
          const std::size_t lanes = out.size() / 10;
          std::fill(out.begin(), out.end(), std::numeric_limits<float>::quiet_NaN());
          for (std::size_t lane = 0; lane < lanes; ++lane) {
            for (std::int64_t i = 0; i < images.shape()[0]; ++i) {
              std::size_t e = lane;
              const auto row = images.row(i);
              if (std::all_of(row.begin(), row.end(), [&](float v) { return v == in[(e += lanes) - lanes]; })) {
                for (std::size_t k = lane; k < out.size(); k += lanes) {
                  out[k] = 0.0f;
                }
              }
            }
          }
        },
        [](auto, auto, auto, auto) {});
    return pv::add(plain_model()(x), nothing);
  });
  const auto report = evaluate::robustness(brittle, set, threat(), few_steps());
  CHECK(report.robust_correct == report.clean_correct);
  CHECK(report.verdict == evaluate::Verdict::unreliable);
}
