// SPDX-License-Identifier: MIT
// Auto-PGD on linear classifiers, whose optimum is exact, and against PGD on a network that was trained. Its single steps
// are apgd_steps_test.cpp's.
#include "pavise/attack/apgd.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/undefined_checks.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/smoothed.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/adversarial_training.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Norm;
using attack_checks::kNorms;
using attack_checks::LinearProblem;

namespace {

std::vector<attack::Apgd> all_losses(attack::Threat threat, std::int64_t steps) {
  return {attack::apgd_ce(threat, {.steps = steps}), attack::apgd_dlr(threat, {.steps = steps}),
          attack::apgd_t(threat, {.steps = steps})};
}

/// How many images of a linear classifier fall to an attack within `factor` times their exact distances, in percent.
template <class Make>
double fall(const LinearProblem& problem, Norm norm, double factor, const Make& make) {
  int possible = 0;
  int fell = 0;
  const auto& shape = problem.images.shape();
  for (std::int64_t i = 0; i < problem.size(); ++i) {
    const double exact = problem.distance(norm, i, 0.0, 1.0);
    if (!std::isfinite(exact) || (norm == Norm::linf && exact * factor > 1.0)) {
      continue;
    }
    ++possible;
    pv::Tensor<float> image(pv::Shape{1, shape[1], shape[2], shape[3]});
    std::copy(problem.images.row(i).begin(), problem.images.row(i).end(), image.begin());
    const std::int32_t label = problem.labels[static_cast<std::size_t>(i)];
    const auto result = attack::run(make(attack::Threat(norm, exact * factor)), problem.model, image, {&label, 1});
    fell += result.success[0];
  }
  CHECK(possible > 15);
  return 100.0 * fell / possible;
}

}  // namespace

TEST_CASE("apgd: two linear classes fall at their exact distance, and never within") {
  for (const Norm norm : kNorms) {
    CAPTURE(std::string(attack::norm_name(norm)));
    // In L1 a step moves at least two coordinates once two have moved: on large images that is no matter.
    const bool sparse = norm == Norm::l1;
    const LinearProblem problem(2, 37, sparse ? pv::Shape{3, 16, 16} : pv::Shape{1, 3, 5});
    const auto ce = [](attack::Threat threat) { return attack::apgd_ce(threat); };
    CHECK(fall(problem, norm, 0.998, ce) == 0);
    CHECK(fall(problem, norm, sparse ? 1.02 : 1.005, ce) == 100);
    // Twenty steps are enough for the plain ones.
    const auto few = [](attack::Threat threat) { return attack::apgd_ce(threat, {.steps = 20}); };
    CHECK(fall(problem, norm, sparse ? 1.1 : 1.02, few) == 100);
    // The other class as a target.
    std::vector<std::int32_t> others;
    for (const std::int32_t label : problem.labels) {
      others.push_back(1 - label);
    }
    double farthest_of_all = 0;
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const double exact = problem.distance(norm, i, 0.0, 1.0);
      farthest_of_all = std::isfinite(exact) ? std::max(farthest_of_all, exact) : farthest_of_all;
    }
    const attack::Threat threat(norm, std::min(1.05 * farthest_of_all, norm == Norm::linf ? 1.0 : 1e9));
    const auto result = attack::run(attack::apgd_ce(threat, {.targeted = true}), problem.model, problem.images, others,
                                    {.truth = problem.labels});
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      CHECK(result.success[at] == std::isfinite(problem.distance(norm, i, 0.0, 1.0)));
      CHECK((result.success[at] == 0 || result.prediction[at] == others[at]));
    }
  }
}

TEST_CASE("apgd: of many linear classes the targeted ratio finds the nearest, cross-entropy a direction of them all") {
  for (const std::int32_t classes : {4, 10}) {
    for (const Norm norm : kNorms) {
      const bool sparse = norm == Norm::l1;
      if (sparse && classes == 10) {
        continue;  // large images, nine targets: long, and no news
      }
      const LinearProblem problem(classes, 20, sparse ? pv::Shape{3, 16, 16} : pv::Shape{1, 4, 6});
      const auto make = [](attack::ApgdLoss loss) {
        return [loss](attack::Threat threat) { return attack::Apgd(threat, {.loss = loss}); };
      };
      const auto t = make(attack::ApgdLoss::dlr_targeted);
      const double exact = fall(problem, norm, sparse ? 1.02 : 1.01, t);
      const double dlr = fall(problem, norm, 1.5, make(attack::ApgdLoss::dlr));
      const double ce = fall(problem, norm, 2.0, make(attack::ApgdLoss::cross_entropy));
      MESSAGE(classes, " classes, ", attack::norm_name(norm), ": fall to targets just outside of their distance ",
              exact, " %, to DLR at 1.5 times ", dlr, " %, to cross-entropy at 2 times ", ce, " %");
      CHECK(exact == 100);
      CHECK(dlr >= 80);
      CHECK(ce >= 90);
      CHECK(fall(problem, norm, 0.998, [](attack::Threat threat) { return attack::apgd_t(threat, {.steps = 20}); }) ==
            0);
    }
  }
}

TEST_CASE("apgd: targets are reached") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(24, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  std::vector<std::int32_t> targets;
  for (const std::int32_t label : labels) {
    targets.push_back((label + 2) % model.classes());
  }
  for (const Norm norm : kNorms) {
    const attack::Threat threat(norm, norm == Norm::linf ? 2.0 : norm == Norm::l2 ? 8.0 : 40.0, -20.0, 20.0);
    for (const auto loss : {attack::ApgdLoss::cross_entropy, attack::ApgdLoss::dlr_targeted}) {
      const attack::Apgd apgd(threat, {.steps = 60, .loss = loss, .targeted = true});
      CAPTURE(std::string(attack::norm_name(norm)));
      CAPTURE(apgd.name());
      CHECK(apgd.targeted());
      CHECK(apgd.attempts() == 1);
      const auto result = attack::run(apgd, model, images, targets, {.truth = labels});
      CHECK(std::count(result.success.begin(), result.success.end(), 1) == 24);
      CHECK(attack_checks::predictions(model, result.adversarial) == targets);
    }
  }
  CHECK_THROWS_WITH_AS(
      attack::run(attack::apgd_t(attack::linf(0.1), {.targeted = true}), model, images, labels, {.truth = labels}),
      doctest::Contains("is its own label, expected another class"), pv::ValueError);
}

TEST_CASE("apgd: not weaker than PGD on a trained network, and the losses of the ensemble in their order") {
  const auto split = pv::data::drawn_digits({.train = 2000, .test = 120, .seed = 5});
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  net->add<pv::nn::Linear>("fc1", 784, 48);
  net->add<pv::nn::ReLU>("relu");
  net->add<pv::nn::Linear>("fc2", 48, 10);
  pv::nn::Model model("digits", std::move(net), {1, 28, 28}, 1);
  pv::defend::AdversarialTraining{.attack = attack::Pgd(attack::linf(0.02), {.steps = 3}), .epochs = 6}.fit(
      model, split.train);
  const auto images = attack::to_tensor(split.test);
  const auto& labels = split.test.labels();
  std::int64_t gained = 0;
  std::int64_t gained_by_targets = 0;
  for (const Norm norm : kNorms) {
    const attack::Threat threat(norm, norm == Norm::linf ? 0.03 : norm == Norm::l2 ? 0.4 : 4.0);
    const auto stand = [&](const attack::Attack& a) {
      const auto result = attack::run(a, model, images, labels);
      CHECK(attack_checks::predictions(model, result.adversarial) == result.prediction);
      return result.robust_correct;
    };
    const auto clean = attack::run(attack::apgd_ce(threat, {.steps = 1}), model, images, labels).clean_correct;
    const auto pgd = stand(attack::Pgd(threat, {.steps = 50}));
    const auto ce = stand(attack::apgd_ce(threat, {.steps = 50}));
    const auto dlr = stand(attack::apgd_dlr(threat, {.steps = 50}));
    const auto targets = stand(attack::apgd_t(threat, {.steps = 50, .targets = 3}));
    MESSAGE(attack::norm_name(norm), ": of ", clean, " stand PGD ", pgd, ", APGD on cross-entropy ", ce, ", on DLR ",
            dlr, ", on targets ", targets);
    CHECK(clean > 90);
    CHECK(pgd < clean);
    CHECK(targets > 0);  // else it says nothing
    // One image may fall by the luck of a start.
    CHECK(ce <= pgd + 1);
    CHECK(targets <= ce + 1);
    CHECK(targets <= dlr + 1);
    gained += pgd - ce;
    gained_by_targets += ce - targets;
  }
  CHECK(gained > 0);
  CHECK(gained_by_targets > 0);
}

TEST_CASE("apgd: passes are counted, and images that are wrong already cost one") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(20, model.input_shape());
  auto labels = attack_checks::predictions(model, images);
  labels[3] = (labels[3] + 1) % model.classes();
  labels[17] = (labels[17] + 2) % model.classes();
  for (const Norm norm : kNorms) {
    const attack::Threat threat(norm, 1e-6);  // nothing falls
    for (const std::int64_t steps : {1, 10, 30}) {
      // In L1 the point where each of two further radii begins; with one step there is but one radius.
      const std::int64_t points = steps + 1 + (norm == Norm::l1 && steps > 2 ? 2 : 0);
      for (const auto& a : all_losses(threat, steps)) {
        CAPTURE(a.name());
        CAPTURE(std::string(attack::norm_name(norm)));
        const auto result = attack::run(a, model, images, labels, {.restarts = 2});
        for (std::int64_t i = 0; i < 20; ++i) {
          const auto at = static_cast<std::size_t>(i);
          const bool wrong = i == 3 || i == 17;
          CHECK(result.success[at] == wrong);
          CHECK(result.attempt[at] == (wrong ? -1 : result.attempt[at]));
          CHECK(result.backward[at] == (wrong ? 0 : 2 * a.attempts() * points));
          CHECK(result.forward[at] == (wrong ? 1 : 1 + 2 * a.attempts() * (points + 1)));
        }
        CHECK(result.robust_correct == 18);
      }
    }
    // A start that is adversarial ends the attempt: clean, start, judgement.
    const attack::Threat wide(norm, norm == Norm::linf ? 2.0 : 60.0, -20.0, 20.0);
    const auto result = attack::run(attack::apgd_ce(wide, {.larger_radii = false}), model, images, labels);
    CHECK(*std::min_element(result.forward.begin(), result.forward.end()) == 1);
    CHECK(std::count(result.forward.begin(), result.forward.end(), 3) > 2);
    CHECK(result.robust_correct == 0);
  }
}

TEST_CASE("apgd: of a random classifier the success of the largest loss, after all steps") {
  const auto network = attack_checks::small_network();
  const auto model = attack::smoothed(network, 0.3, {.repeated = false}).with_mean(attack::Mean::loss);
  const auto images = attack_checks::drawn_images(18, network.input_shape());
  const auto labels = attack_checks::predictions(network, images);
  const auto result = attack::run(attack::apgd_ce(attack::linf(0.05), {.steps = 6}), model.with_draws(4), images,
                                  labels, {.judging_draws = 10});
  for (std::size_t i = 0; i < 18; ++i) {
    const bool wrong = result.clean_prediction[i] != labels[i];
    CHECK(result.forward[i] == (wrong ? 10 : 10 + 7 * 4 + 10));
    CHECK(result.backward[i] == (wrong ? 0 : 7 * 4));
  }
  CHECK(result.clean_correct > 8);
}

TEST_CASE("apgd: the same bits for any batch, order, number of threads and instruction set") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  for (const Norm norm : kNorms) {
    const attack::Threat threat(norm, norm == Norm::linf ? 0.03 : norm == Norm::l2 ? 0.15 : 0.6);
    for (const auto& a : all_losses(threat, 12)) {
      attack_checks::check_independence(a, model, images, labels, {.restarts = a.attempts() > 1 ? 1 : 2});
    }
  }
}

TEST_CASE("apgd: images whose logits become NaN leave the others alone") {
  for (const Norm norm : kNorms) {
    const attack::Threat threat(norm, norm == Norm::linf ? 0.3 : norm == Norm::l2 ? 1.0 : 6.0);
    for (const auto& a : all_losses(threat, 15)) {
      attack_checks::check_undefined_images(a);
    }
    attack_checks::check_undefined_images(attack::apgd_t(threat, {.steps = 15, .targeted = true}));
  }
}

TEST_CASE("apgd: what cannot be run is refused") {
  const auto threat = attack::linf(0.1);
  CHECK_THROWS_WITH_AS(attack::apgd_ce(threat, {.steps = 0}), "apgd-ce: 0 steps, expected 1 or more", pv::ValueError);
  CHECK_THROWS_WITH_AS(attack::apgd_dlr(threat, {.rho = 1.5}), "apgd-dlr: rho 1.5, expected 0 to 1", pv::ValueError);
  CHECK_THROWS_WITH_AS(attack::apgd_t(threat, {.targets = 0}), "apgd-t: 0 targets, expected 1 or more", pv::ValueError);
  CHECK_THROWS_WITH_AS(attack::apgd_dlr(threat, {.targeted = true}),
                       "apgd-dlr: has no targeted form, expected the targeted ratio (apgd-t) or cross-entropy",
                       pv::ValueError);
  const LinearProblem two(2, 4);
  const LinearProblem three(3, 4);
  CHECK_THROWS_WITH_AS(attack::run(attack::apgd_dlr(threat), two.model, two.images, two.labels),
                       "apgd-dlr: model linear has 2 classes, expected 3 or more for the difference of logits ratio",
                       pv::ValueError);
  CHECK_THROWS_WITH_AS(
      attack::run(attack::apgd_t(threat), three.model, three.images, three.labels),
      "apgd-t: model linear has 3 classes, expected 4 or more for the targeted difference of logits ratio",
      pv::ValueError);
  CHECK_NOTHROW(attack::run(attack::apgd_dlr(threat, {.steps = 2}), three.model, three.images, three.labels));
  CHECK_NOTHROW(attack::run(attack::apgd_ce(threat, {.steps = 2}), two.model, two.images, two.labels));
  // Radius 0 is a radius.
  for (const Norm norm : kNorms) {
    const auto result =
        attack::run(attack::apgd_ce(attack::Threat(norm, 0.0), {.steps = 3}), two.model, two.images, two.labels);
    CHECK(result.robust_correct == 4);
    CHECK(std::equal(result.adversarial.begin(), result.adversarial.end(), two.images.begin()));
  }
}
