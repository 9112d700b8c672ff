// SPDX-License-Identifier: MIT
// MI-FGSM against its formula written out in double, and on linear classifiers, whose optimum is exact.
#include "pavise/attack/mifgsm.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/objective.hpp"
#include "attack/undefined_checks.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Norm;
using attack_checks::Doubles;
using attack_checks::LinearProblem;
using attack_checks::norm_of;

namespace {

constexpr Norm kSteps[] = {Norm::linf, Norm::l2};  // the norms of the steps that it has

/// Algorithm 1 of Dong et al. (2018), in double: the points that it visits, the last one included.
std::vector<Doubles> written_out(const attack_checks::Objective& f, const attack::Threat& threat, const Doubles& clean,
                                 int steps, double step_size, double decay) {
  Doubles x = clean;
  Doubles momentum(x.size());
  const Doubles origin(x.size());
  std::vector<Doubles> visited{x};
  for (int k = 0; k < steps; ++k) {
    Doubles g(x.size());
    f.value(x, &g);
    const double size = norm_of(Norm::l1, g, origin);
    for (std::size_t i = 0; i < x.size(); ++i) {
      momentum[i] = decay * momentum[i] + g[i] / size;
    }
    const double length = norm_of(Norm::l2, momentum, origin);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double sign = (momentum[i] > 0) - (momentum[i] < 0);
      x[i] += step_size * (threat.norm == Norm::linf ? sign : momentum[i] / length);
    }
    const double distance = norm_of(threat.norm, x, clean);
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double d = x[i] - clean[i];
      const double moved = threat.norm == Norm::linf ? std::clamp(d, -threat.epsilon, threat.epsilon)
                                                     : d * std::min(1.0, threat.epsilon / distance);
      x[i] = std::clamp(clean[i] + moved, threat.low, threat.high);
    }
    visited.push_back(x);
  }
  return visited;
}

}  // namespace

TEST_CASE("mifgsm: step by step the published algorithm, in Linf and L2") {
  for (const Norm norm : kSteps) {
    for (const double decay : {0.0, 0.6, 1.0}) {
      for (const std::uint64_t seed : {1, 2, 3}) {
        for (const bool targeted : {false, true}) {
          CAPTURE(std::string(attack::norm_name(norm)));
          CAPTURE(decay);
          CAPTURE(seed);
          CAPTURE(targeted);
          auto f = attack_checks::quadratic(7, seed);
          const auto drawn = attack_checks::drawn_images(1, {1, 1, 7}, seed);
          const Doubles clean(drawn.begin(), drawn.end());
          const attack::Threat threat(norm, norm == Norm::linf ? 0.3 : 0.5);
          const double step = threat.epsilon / 4;  // beyond the ball in twelve steps
          const attack::Mifgsm attack(threat, {.steps = 12,
                                               .step_size = step,
                                               .decay = decay,
                                               .targeted = targeted,
                                               .loss = attack_checks::Objective::loss()});
          const auto points = f.trace(attack, {drawn.begin(), drawn.end()});  // the judged one is the last
          const auto want = written_out(f, threat, clean, 12, targeted ? -step : step, decay);
          REQUIRE(points.size() == want.size());
          double worst = 0;
          for (std::size_t k = 0; k < want.size(); ++k) {
            worst = std::max(worst, norm_of(Norm::linf, points[k], want[k]));
          }
          CHECK(worst < 1e-5);
        }
      }
    }
  }
}

TEST_CASE("mifgsm: two linear classes fall at their exact distance, and never within") {
  const LinearProblem problem(2);
  const attack::Mifgsm defaults(attack::linf(0.2));
  CHECK(defaults.options().steps == 10);
  CHECK(defaults.options().step_size == doctest::Approx(0.02));
  for (const Norm norm : kSteps) {
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const double exact = problem.distance(norm, i, -20.0, 20.0);
      pv::Tensor<float> image(pv::Shape{1, 1, 3, 5});
      std::copy(problem.images.row(i).begin(), problem.images.row(i).end(), image.begin());
      const std::int32_t label = problem.labels[static_cast<std::size_t>(i)];
      for (const double factor : {0.999, 1.001}) {
        const attack::Mifgsm attack(attack::Threat(norm, factor * exact, -20.0, 20.0));
        const auto result = attack::run(attack, problem.model, image, {&label, 1});
        CHECK(result.success[0] == (factor > 1));
      }
    }
  }
}

TEST_CASE("mifgsm: targets, the early end and passes") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(24, model.input_shape());
  auto labels = attack_checks::predictions(model, images);
  std::vector<std::int32_t> targets;
  for (const std::int32_t label : labels) {
    targets.push_back((label + 2) % model.classes());
  }
  for (const Norm norm : kSteps) {
    const attack::Threat threat(norm, norm == Norm::linf ? 2.0 : 8.0, -20.0, 20.0);
    const auto reached = attack::run(attack::Mifgsm(threat, {.targeted = true}), model, images, targets);
    CHECK(attack_checks::predictions(model, reached.adversarial) == targets);
    CHECK(std::count(reached.success.begin(), reached.success.end(), 1) == 24);
    const auto all = attack::run(attack::Mifgsm(threat), model, images, labels, {.restarts = 3});
    const auto early = attack::run(attack::Mifgsm(threat, {.stop_at_success = true}), model, images, labels);
    CHECK(all.robust_correct == 0);
    CHECK(early.robust_correct == 0);
    for (std::size_t i = 0; i < 24; ++i) {
      CHECK(all.backward[i] == 10);
      CHECK(all.forward[i] == 12);
      CHECK(early.backward[i] < 10);
      CHECK(early.forward[i] == early.backward[i] + 2);
      CHECK(early.distance[i] < all.distance[i]);
    }
  }
  // It does not start at random: a second restart would find the same.
  const attack::Mifgsm nothing(attack::linf(1e-6));
  CHECK_FALSE(nothing.random());
  labels[5] = (labels[5] + 1) % model.classes();
  const auto result = attack::run(nothing, model, images, labels, {.restarts = 3});
  CHECK(result.robust_correct == 23);
  for (std::size_t i = 0; i < 24; ++i) {
    CHECK(result.forward[i] == (i == 5 ? 1 : 12));
  }
}

TEST_CASE("mifgsm: the same bits for any batch, order, number of threads and instruction set") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  attack_checks::check_independence(attack::Mifgsm(attack::linf(0.03)), model, images, labels);
  attack_checks::check_independence(attack::Mifgsm(attack::l2(0.2), {.decay = 0.5, .stop_at_success = true}), model,
                                    images, labels);
}

TEST_CASE("mifgsm: images whose logits become NaN leave the others alone") {
  attack_checks::check_undefined_images(attack::Mifgsm(attack::linf(0.3)));
  attack_checks::check_undefined_images(attack::Mifgsm(attack::l2(1.0), {.stop_at_success = true}));
  attack_checks::check_undefined_images(attack::Mifgsm(attack::linf(0.3), {.targeted = true}));
}

TEST_CASE("mifgsm: options out of range are refused") {
  CHECK_THROWS_WITH_AS(attack::Mifgsm(attack::l1(1.0)), "mifgsm: norm l1, expected linf or l2", pv::ValueError);
  CHECK_THROWS_WITH_AS(attack::Mifgsm(attack::linf(0.1), {.steps = 0}), "mifgsm: 0 steps, expected 1 or more",
                       pv::ValueError);
  CHECK_THROWS_AS(attack::Mifgsm(attack::linf(0.1), {.step_size = -1.0}), pv::ValueError);
  CHECK_THROWS_AS(attack::Mifgsm(attack::linf(0.1), {.decay = -0.5}), pv::ValueError);
}
