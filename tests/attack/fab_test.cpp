// SPDX-License-Identifier: MIT
// FAB against exact distances, and against DeepFool on a network that was trained.
#include "pavise/attack/fab.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/undefined_checks.hpp"
#include "pavise/attack/deepfool.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/adversarial_training.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Norm;
using attack_checks::kNorms;
using attack_checks::LinearProblem;

namespace {

/// The worst relative error of the distances that an attack finds, against the exact ones.
double worst_error(const attack::Attack& fab, const LinearProblem& problem, const attack::RunOptions& options = {}) {
  const attack::Threat& threat = fab.threat();
  const auto result = attack::run(fab, problem.model, problem.images, problem.labels, options);
  double worst = 0;
  for (std::int64_t i = 0; i < problem.size(); ++i) {
    const double exact = problem.distance(threat.norm, i, threat.low, threat.high);
    if (!std::isfinite(exact)) {
      CHECK(result.fooled[static_cast<std::size_t>(i)] == 0);
      continue;
    }
    CHECK(result.fooled[static_cast<std::size_t>(i)] == 1);
    const double found = static_cast<double>(result.distance[static_cast<std::size_t>(i)]);
    CHECK(found >= exact * (1.0 - 1e-4));
    worst = std::max(worst, found / exact - 1.0);
  }
  return worst;
}

double mean(const std::vector<float>& v) {
  return std::accumulate(v.begin(), v.end(), 0.0) / static_cast<double>(v.size());
}

}  // namespace

TEST_CASE("fab: linear classifiers, exact distances") {
  for (const std::int32_t classes : {2, 10}) {
    const LinearProblem problem(classes);
    for (const Norm norm : kNorms) {
      const attack::Threat threat(norm, 15.0, -20.0, 20.0);
      const double nearest = worst_error(attack::Fab(threat), problem);
      const double targets = worst_error(attack::fab_t(threat, {.steps = 30}), problem, {.stop_at_success = false});
      MESSAGE(classes, " classes, ", attack::norm_name(norm), ": worst relative error ", nearest, ", of FAB-T ",
              targets);
      CHECK(nearest < 1e-3);
      CHECK(targets < 1e-3);
    }
  }
}

TEST_CASE("fab: linear classifiers where the walls of the box are in the way") {
  const LinearProblem problem(2, 60);
  for (const Norm norm : kNorms) {
    const attack::Threat threat(norm, norm == Norm::linf ? 1.0 : 15.0);
    const double error = worst_error(attack::Fab(threat), problem);
    MESSAGE(attack::norm_name(norm), ": worst relative error in [0,1] ", error);
    CHECK(error < 0.02);
  }
}

TEST_CASE("fab: targets are reached") {
  const LinearProblem two(2);
  std::vector<std::int32_t> other;
  for (const std::int32_t label : two.labels) {
    other.push_back(1 - label);
  }
  for (const Norm norm : kNorms) {
    const attack::Fab fab(attack::Threat(norm, 15.0, -20.0, 20.0), {.steps = 30, .targeted = true});
    const auto result = attack::run(fab, two.model, two.images, other);
    for (std::int64_t i = 0; i < two.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      CHECK(result.prediction[at] == other[at]);
      CHECK(static_cast<double>(result.distance[at]) ==
            doctest::Approx(two.distance(norm, i, -20.0, 20.0)).epsilon(1e-3));
    }
  }
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(24, model.input_shape());
  const std::vector<std::int32_t> target(24, 2);
  const auto result = attack::run(attack::Fab(attack::l2(8.0, -20.0, 20.0), {.targeted = true}), model, images, target);
  CHECK(std::count(result.fooled.begin(), result.fooled.end(), 1) == 24);
}

TEST_CASE("fab: restarts, targets that are missing, and an early end") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(24, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  for (const Norm norm : kNorms) {
    const attack::Threat threat(norm, 5.0, -10.0, 10.0);
    const auto one = attack::run(attack::Fab(threat, {.steps = 20}), model, images, labels);
    const auto three = attack::run(attack::Fab(threat, {.steps = 20, .restarts = 3}), model, images, labels);
    CHECK(std::count(one.fooled.begin(), one.fooled.end(), 1) == 24);
    CHECK(mean(three.distance) <= mean(one.distance) * 1.001);
    CHECK(three.distance != one.distance);  // the random starts start elsewhere
    // Restarts of a run start at half of epsilon: within a ball that fits the distances some end closer.
    const attack::Threat fitting = threat.with_epsilon(2.0 * mean(one.distance));
    const auto outer = attack::run(attack::Fab(fitting, {.steps = 20}), model, images, labels,
                                   {.restarts = 3, .stop_at_success = false});
    CHECK(mean(outer.distance) <= mean(one.distance));
    CHECK(*std::max_element(outer.attempt.begin(), outer.attempt.end()) > 0);
    // Nine targets of five classes: the last five attempts cost a judgement alone.
    const auto nine =
        attack::run(attack::fab_t(threat, {.steps = 20}), model, images, labels, {.stop_at_success = false});
    const auto four = attack::run(attack::fab_t(threat, {.steps = 20, .targets = 4}), model, images, labels,
                                  {.stop_at_success = false});
    CHECK(nine.distance == four.distance);
    CHECK(nine.backward_passes == four.backward_passes);
    CHECK(nine.forward_passes == four.forward_passes + 24 * 5);
    CHECK(mean(nine.distance) <= mean(one.distance) * 1.02);
    MESSAGE(attack::norm_name(norm), ": mean distance ", mean(one.distance), ", three restarts ", mean(three.distance),
            ", all targets ", mean(nine.distance));
    const auto early = attack::run(attack::Fab(threat, {.stop_within_epsilon = true}), model, images, labels);
    CHECK(early.robust_correct == 0);
    CHECK(early.backward_passes < one.backward_passes / 5);
  }
}

TEST_CASE("fab: on a trained network closer than DeepFool, in the box, and on the boundary") {
  const auto split = pv::data::drawn_digits({.train = 1500, .test = 16, .seed = 5});
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  net->add<pv::nn::Linear>("fc1", 784, 48);
  net->add<pv::nn::ReLU>("relu");
  net->add<pv::nn::Linear>("fc2", 48, 10);
  pv::nn::Model model("digits", std::move(net), {1, 28, 28}, 1);
  pv::defend::AdversarialTraining{.epochs = 6}.fit(model, split.train);
  const auto images = attack::to_tensor(split.test);
  const auto labels = attack_checks::predictions(model, images);
  for (const Norm norm : kNorms) {
    const attack::Threat threat(norm, norm == Norm::linf ? 1.0 : norm == Norm::l2 ? 5.0 : 50.0);
    const auto nearest =
        attack::run(attack::Fab(threat, {.steps = 50}), model, images, labels, {.stop_at_success = false});
    const auto target =
        attack::run(attack::fab_t(threat, {.steps = 30}), model, images, labels, {.stop_at_success = false});
    for (const auto* found : {&nearest, &target}) {
      CHECK(found->robust_correct == 0);
      CHECK(attack_checks::predictions(model, found->adversarial) == found->prediction);
      pv::Tensor<float> nearer = images;
      for (std::int64_t i = 0; i < 16; ++i) {
        const auto x = found->adversarial.row(i);
        CHECK(found->prediction[static_cast<std::size_t>(i)] != labels[static_cast<std::size_t>(i)]);
        CHECK(std::all_of(x.begin(), x.end(), [](float v) { return v >= 0.0f && v <= 1.0f; }));
        for (std::size_t e = 0; e < x.size(); ++e) {
          nearer.row(i)[e] += 0.995f * (x[e] - images.row(i)[e]);
        }
      }
      CHECK(attack_checks::predictions(model, nearer) == labels);  // the final search left little
    }
    const double distance = mean(nearest.distance);
    CHECK(mean(target.distance) <= 1.01 * distance);
    if (norm == Norm::l1) {
      MESSAGE("l1: mean distance ", distance, ", targeted ", mean(target.distance));
      continue;
    }
    const auto deepfool = attack::run(attack::DeepFool(threat), model, images, labels);
    CHECK(deepfool.robust_correct == 0);
    double worst = 0;
    for (std::size_t i = 0; i < 16; ++i) {
      worst = std::max(worst, static_cast<double>(nearest.distance[i]) / static_cast<double>(deepfool.distance[i]));
    }
    MESSAGE(attack::norm_name(norm), ": mean distance ", distance, ", targeted ", mean(target.distance), ", DeepFool ",
            mean(deepfool.distance), "; FAB at most ", worst, " of DeepFool's");
    CHECK(distance < mean(deepfool.distance));
    CHECK(worst < 1.01);
  }
}

TEST_CASE("fab: images whose logits become NaN leave the others alone") {
  attack_checks::check_undefined_images(attack::Fab(attack::linf(0.3), {.steps = 20}));
  attack_checks::check_undefined_images(attack::Fab(attack::l2(2.0), {.steps = 20, .targeted = true}));
  attack_checks::check_undefined_images(attack::fab_t(attack::l1(9.0), {.steps = 20, .restarts = 2}));
}

TEST_CASE("fab: the same bits for any batch, order, number of threads and instruction set") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  attack_checks::check_independence(attack::Fab(attack::linf(0.03), {.steps = 7, .restarts = 2}), model, images, labels,
                                    {.restarts = 2});
  attack_checks::check_independence(attack::fab_t(attack::l1(0.6), {.steps = 7}), model, images, labels);
  attack_checks::check_independence(attack::fab_t(attack::l2(0.2), {.steps = 6, .stop_within_epsilon = true}), model,
                                    images, labels, {.restarts = 2});
}

TEST_CASE("fab: options out of range are refused") {
  const auto threat = attack::linf(0.1);
  CHECK_THROWS_WITH_AS(attack::Fab(threat, {.steps = 0}), "fab: 0 steps, expected 1 or more", pv::ValueError);
  CHECK_THROWS_WITH_AS(attack::Fab(threat, {.alpha_max = 1.5}), "fab: alpha_max 1.5, expected 0 to 1", pv::ValueError);
  CHECK_THROWS_AS(attack::Fab(threat, {.eta = 0.9}), pv::ValueError);
  CHECK_THROWS_AS(attack::Fab(threat, {.beta = -0.1}), pv::ValueError);
  CHECK_THROWS_AS(attack::Fab(threat, {.targets = -1}), pv::ValueError);
  CHECK_THROWS_AS(attack::Fab(threat, {.targets = 3, .targeted = true}), pv::ValueError);
  CHECK_THROWS_AS(attack::Fab(threat, {.restarts = 0}), pv::ValueError);
}
