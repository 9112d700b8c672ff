// SPDX-License-Identifier: MIT
// FMN: exact distances on linear classifiers in all norms, and the algorithm in double step by step.
#include "pavise/attack/fmn.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/minimum_norm_checks.hpp"
#include "attack/undefined_checks.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Fmn;
using attack::FmnOptions;
using attack::Norm;
using attack_checks::LinearProblem;

namespace {

double length(Norm norm, const std::vector<double>& d) {
  double sum = 0;
  for (const double v : d) {
    sum = norm == Norm::linf ? std::max(sum, std::abs(v)) : sum + (norm == Norm::l1 ? std::abs(v) : v * v);
  }
  return norm == Norm::l2 ? std::sqrt(sum) : sum;
}

/// delta <- its projection on the ball and the box; in L2 on the ball, then on the box, as published.
void project(const attack::Threat& threat, std::span<const float> clean, double epsilon, std::vector<double>& delta) {
  const auto wall = [&](std::size_t e) {  // room in the direction of delta
    const auto c = static_cast<double>(clean[e]);
    return delta[e] > 0 ? threat.high - c : c - threat.low;
  };
  const auto shrunk = [&](double threshold) {
    std::vector<double> out = delta;
    for (std::size_t e = 0; e < out.size(); ++e) {
      out[e] = std::copysign(std::min(wall(e), std::max(std::abs(delta[e]) - threshold, 0.0)), delta[e]);
    }
    return out;
  };
  if (threat.norm == Norm::l1) {
    double below = 0;
    double above = length(Norm::linf, delta);
    if (length(Norm::l1, shrunk(0)) <= epsilon) {
      above = 0;
    }
    for (int round = 0; round < 200; ++round) {
      const double middle = (below + above) / 2;
      (length(Norm::l1, shrunk(middle)) > epsilon ? below : above) = middle;
    }
    delta = shrunk(above);
    return;
  }
  const double size = length(threat.norm, delta);
  for (std::size_t e = 0; e < delta.size(); ++e) {
    const double d =
        threat.norm == Norm::linf ? std::clamp(delta[e], -epsilon, epsilon) : delta[e] * std::min(1.0, epsilon / size);
    delta[e] = std::copysign(std::min(std::abs(d), wall(e)), d);
  }
}

/// The distance at which the attack in double ends on a linear problem; infinite where it finds nothing.
double fmn(const LinearProblem& problem, std::int64_t image, const attack::Threat& threat, const FmnOptions& options) {
  const auto clean = problem.images.row(image);
  const std::size_t n = clean.size();
  std::vector<double> delta(n, 0.0);
  double epsilon = 0;
  double overshoot = 1;
  double best = std::numeric_limits<double>::infinity();
  for (std::int64_t k = 0; k < options.steps; ++k) {
    std::vector<float> x;
    for (std::size_t e = 0; e < n; ++e) {
      x.push_back(static_cast<float>(static_cast<double>(clean[e]) + delta[e]));
    }
    double margin = std::numeric_limits<double>::infinity();
    std::vector<double> gradient;
    for (std::int32_t c = 0; c < problem.model.classes(); ++c) {
      if (c != problem.labels[static_cast<std::size_t>(image)] && problem.margin(x, image, c) < margin) {
        margin = problem.margin(x, image, c);
        gradient = problem.direction(image, c);
      }
    }
    const double turn = std::cos(std::numbers::pi * static_cast<double>(k) / static_cast<double>(options.steps));
    const double gamma = options.final_gamma + (options.gamma - options.final_gamma) / 2 * (1 + turn);
    const double alpha = options.final_step_size + (options.step_size - options.final_step_size) / 2 * (1 + turn);
    if (margin < 0) {
      best = std::min(best, length(threat.norm, delta));
      epsilon = std::min(epsilon * (1 - gamma), best);
    } else if (std::isfinite(best)) {
      epsilon *= 1 + gamma;
    } else {
      const Norm dual = threat.norm == Norm::linf ? Norm::l1 : threat.norm == Norm::l1 ? Norm::linf : Norm::l2;
      overshoot *= 1 + gamma;
      epsilon = (length(threat.norm, delta) + margin / length(dual, gradient)) * overshoot;
    }
    const double size = length(Norm::l2, gradient);
    for (std::size_t e = 0; e < n; ++e) {
      delta[e] += alpha * gradient[e] / size;
    }
    project(threat, clean, epsilon, delta);
  }
  return best;
}

}  // namespace

TEST_CASE("fmn: the exact distances of linear classifiers") {
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    for (const std::int32_t classes : {2, 10}) {
      const LinearProblem problem(classes);
      for (const auto& [low, high] : {std::pair{0.0, 1.0}, std::pair{-1.0, 2.5}}) {
        const attack::Threat threat(norm, 1.0, low, high);
        CHECK(attack_checks::linear_excess(Fmn(threat), problem).worst < 3e-3);  // a hundred steps
        const auto many = attack_checks::linear_excess(Fmn(threat, {.steps = 1000}), problem);
        CHECK(many.worst < 5e-4);
        CHECK(many.nearest >= (classes == 2 ? problem.size() : 30));
      }
    }
    const Fmn targeted(attack::Threat(norm, 1.0), {.steps = 1000, .targeted = true});
    CHECK(attack_checks::linear_excess(targeted, LinearProblem(2)).worst < 5e-4);
  }
}

TEST_CASE("fmn: the algorithm in double, step by step") {
  const LinearProblem problem(5);
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    const attack::Threat threat(norm, 1.0);
    for (const FmnOptions& given : {FmnOptions{.steps = 40}, FmnOptions{.steps = 8, .step_size = 0.5}}) {
      const Fmn attack(threat, given);
      const auto result = attack::run(attack, problem.model, problem.images, problem.labels);
      double worst = 0;
      std::int64_t found = 0;
      for (std::int64_t i = 0; i < problem.size(); ++i) {
        const auto at = static_cast<std::size_t>(i);
        const double expected = fmn(problem, i, threat, attack.options());
        CHECK((result.fooled[at] != 0) == std::isfinite(expected));
        CHECK(result.backward[at] == given.steps);
        if (std::isfinite(expected)) {
          ++found;
          worst = std::max(worst, std::abs(static_cast<double>(result.distance[at]) / expected - 1.0));
        }
      }
      MESSAGE(std::string(attack::norm_name(norm)), ", ", given.steps, " steps: ", found,
              " found, worst relative difference ", worst);
      CHECK(worst < 1e-4);
      CHECK(found >= 25);
    }
  }
}

TEST_CASE("fmn: targets are reached on a network") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  auto targets = attack_checks::predictions(model, images);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    targets[i] = (targets[i] + 1 + static_cast<std::int32_t>(i) % 4) % 5;
  }
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    const Fmn attack(attack::Threat(norm, 10.0, -5.0, 5.0), {.targeted = true});
    const auto result = attack::run(attack, model, images, targets);
    CHECK(attack_checks::predictions(model, result.adversarial) == targets);
  }
}

TEST_CASE("fmn: step sizes that are not given are the published ones") {
  CHECK(Fmn(attack::linf(0.1)).options().step_size == 10.0);
  CHECK(Fmn(attack::linf(0.1)).options().final_step_size == 0.1);
  CHECK(Fmn(attack::l2(0.1)).options().step_size == 1.0);
  CHECK(Fmn(attack::l1(0.1), {.step_size = 2.0}).options().final_step_size == 0.02);
}

TEST_CASE("fmn: an image that is adversarial already takes one pass") {
  const LinearProblem problem(4);
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    attack_checks::check_nothing_to_do(Fmn(attack::Threat(norm, 1.0)), problem);
    attack_checks::check_nothing_to_do(Fmn(attack::Threat(norm, 1.0), {.targeted = true}), problem);
  }
}

TEST_CASE("fmn: images whose logits become NaN leave the others alone") {
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    attack_checks::check_undefined_images(Fmn(attack::Threat(norm, 1.0)));
    attack_checks::check_undefined_images(Fmn(attack::Threat(norm, 1.0), {.targeted = true}));
  }
}

TEST_CASE("fmn: the same bits for any batch, order, number of threads and instruction set") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  attack_checks::check_independence(Fmn(attack::linf(0.05), {.steps = 30}), model, images, labels);
  attack_checks::check_independence(Fmn(attack::l2(0.3), {.steps = 30}), model, images, labels);
  attack_checks::check_independence(Fmn(attack::l1(1.0), {.steps = 30}), model, images, labels);
}

TEST_CASE("fmn: options out of range are refused by their value") {
  CHECK_THROWS_WITH_AS(Fmn(attack::l2(1.0), {.steps = 0}), "fmn: 0 steps, expected 1 or more", pv::ValueError);
  CHECK_THROWS_AS(Fmn(attack::l2(1.0), {.step_size = -1.0}), pv::ValueError);
  CHECK_THROWS_WITH_AS(Fmn(attack::l2(1.0), {.step_size = 1.0, .final_step_size = 2.0}),
                       "fmn: final step size 2, expected more than 0, at most the first, 1", pv::ValueError);
  CHECK_THROWS_AS(Fmn(attack::l2(1.0), {.gamma = 0.0}), pv::ValueError);
  CHECK_THROWS_WITH_AS(Fmn(attack::l2(1.0), {.gamma = 0.05, .final_gamma = 0.1}),
                       "fmn: final gamma 0.1, expected more than 0, at most the first, 0.05", pv::ValueError);
}
