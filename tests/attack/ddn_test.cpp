// SPDX-License-Identifier: MIT
// DDN: exact distances on linear classifiers, the published algorithm in double step by step, and
// the kernel against a loop.
#include "pavise/attack/ddn.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numbers>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/minimum_norm_checks.hpp"
#include "attack/undefined_checks.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Ddn;
using attack::DdnOptions;
using attack::Norm;
using attack_checks::LinearProblem;

namespace {

/// Makes logits, but no distance, `factor` times as large.
void sharpen(LinearProblem& problem, float factor) {
  for (const char* name : {"fc.weight", "fc.bias"}) {
    for (float& v : problem.model.parameters()[name].edit()) {
      v *= factor;
    }
  }
}

/// The distance at which the attack in double ends on a linear problem; infinite where it finds nothing.
double ddn(const LinearProblem& problem, std::int64_t image, const DdnOptions& options, double low, double high) {
  const std::int32_t label = problem.labels[static_cast<std::size_t>(image)];
  const auto clean = problem.images.row(image);
  const std::size_t n = clean.size();
  std::vector<double> delta(n, 0.0);
  double norm = options.initial_norm;
  double best = std::numeric_limits<double>::infinity();
  for (std::int64_t k = 0; k < options.steps; ++k) {
    std::vector<float> x;
    double length = 0;
    for (std::size_t e = 0; e < n; ++e) {
      x.push_back(static_cast<float>(static_cast<double>(clean[e]) + delta[e]));
      length += delta[e] * delta[e];
    }
    // Of the cross-entropy: sum_k p_k (w_k - w_label).
    bool fooled = false;
    double sum = 1;
    std::vector<double> gradient(n, 0.0);
    for (std::int32_t c = 0; c < problem.model.classes(); ++c) {
      if (c != label) {
        const double over = -problem.margin(x, image, c);
        fooled = fooled || over > 0;
        sum += std::exp(over);
        const auto direction = problem.direction(image, c);
        for (std::size_t e = 0; e < n; ++e) {
          gradient[e] += std::exp(over) * direction[e];
        }
      }
    }
    best = fooled ? std::min(best, std::sqrt(length)) : best;
    norm *= fooled ? 1 - options.gamma : 1 + options.gamma;
    const double alpha =
        options.final_step_size +
        (options.step_size - options.final_step_size) / 2 *
            (1 + std::cos(std::numbers::pi * static_cast<double>(k) / static_cast<double>(options.steps)));
    double size = 0;
    for (const double g : gradient) {
      size += g * g;
    }
    double moved = 0;
    for (std::size_t e = 0; e < n; ++e) {
      delta[e] += alpha * gradient[e] / std::sqrt(size);
      moved += delta[e] * delta[e];
    }
    for (std::size_t e = 0; e < n; ++e) {
      const auto c = static_cast<double>(clean[e]);
      delta[e] = std::clamp(c + norm / std::sqrt(moved) * delta[e], low, high) - c;
    }
  }
  return best;
}

}  // namespace

TEST_CASE("ddn: the exact distances of linear classifiers") {
  const LinearProblem two(2);
  const DdnOptions many{.steps = 1000, .gamma = 0.01};
  for (const attack::Threat& threat : {attack::l2(10.0), attack::l2(10.0, -1.0, 2.5)}) {
    CHECK(attack_checks::linear_excess(Ddn(threat), two).worst < 0.01);  // a hundred steps
    CHECK(attack_checks::linear_excess(Ddn(threat, many), two).worst < 1e-3);
  }
  CHECK(
      attack_checks::linear_excess(Ddn(attack::l2(10.0), {.steps = 1000, .gamma = 0.01, .targeted = true}), two).worst <
      1e-3);
  // Cross-entropy leads to the nearest point only where no third class has a share of the probability.
  LinearProblem ten(10);
  const auto soft = attack_checks::linear_excess(Ddn(attack::l2(10.0, -1.0, 2.5), many), ten);
  sharpen(ten, 100.0f);
  const auto sharp = attack_checks::linear_excess(Ddn(attack::l2(10.0, -1.0, 2.5), many), ten);
  CHECK(sharp.mean < 1e-3);
  CHECK(soft.mean > 0.1);
}

TEST_CASE("ddn: the algorithm in double, step by step") {
  const LinearProblem problem(5);
  for (const DdnOptions& options :
       {DdnOptions{.steps = 40}, DdnOptions{.steps = 25, .initial_norm = 0.1, .gamma = 0.2}}) {
    const auto result = attack::run(Ddn(attack::l2(10.0), options), problem.model, problem.images, problem.labels);
    double worst = 0;
    std::int64_t found = 0;
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const double expected = ddn(problem, i, options, 0.0, 1.0);
      CHECK((result.fooled[at] != 0) == std::isfinite(expected));
      CHECK(result.backward[at] == options.steps);
      if (std::isfinite(expected)) {
        ++found;
        worst = std::max(worst, std::abs(static_cast<double>(result.distance[at]) / expected - 1.0));
      }
    }
    MESSAGE(options.steps, " steps: ", found, " found, worst relative difference ", worst);
    CHECK(worst < 1e-4);
    CHECK(found >= 35);
  }
}

TEST_CASE("ddn: targets are reached on a network") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  auto targets = attack_checks::predictions(model, images);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    targets[i] = (targets[i] + 1 + static_cast<std::int32_t>(i) % 4) % 5;
  }
  const auto result = attack::run(Ddn(attack::l2(10.0, -5.0, 5.0), {.targeted = true}), model, images, targets);
  CHECK(attack_checks::predictions(model, result.adversarial) == targets);
  CHECK(result.robust_correct == 0);
}

TEST_CASE("ddn: a norm beyond the box is no obstacle") {
  LinearProblem problem(2);
  for (std::int64_t k = 0; k < 2; ++k) {  // a pixel that counts for nothing
    problem.model.parameters()["fc.weight"].edit()[static_cast<std::size_t>(k * problem.pixels())] = 0.0f;
  }
  problem.labels = attack_checks::predictions(problem.model, problem.images);
  const Ddn attack(attack::l2(10.0), {.steps = 300, .initial_norm = 1e300});
  CHECK(attack_checks::linear_excess(attack, problem).worst < 0.02);
}

TEST_CASE("ddn: an image that is adversarial already takes one pass") {
  const LinearProblem problem(4);
  attack_checks::check_nothing_to_do(Ddn(attack::l2(1.0)), problem);
  attack_checks::check_nothing_to_do(Ddn(attack::l2(1.0), {.targeted = true}), problem);
}

TEST_CASE("ddn: images whose logits become NaN leave the others alone") {
  attack_checks::check_undefined_images(Ddn(attack::l2(2.0)));
  attack_checks::check_undefined_images(Ddn(attack::l2(2.0), {.targeted = true}));
}

TEST_CASE("ddn: the same bits for any batch, order, number of threads and instruction set") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  attack_checks::check_independence(Ddn(attack::l2(0.3), {.steps = 30}), model, images, labels);
}

TEST_CASE("ddn: scaling a perturbation within the box, against a loop in double") {
  constexpr std::int64_t n = 19;
  for (const int lanes : {1, 16}) {
    auto x = attack_checks::drawn<float>(n * lanes + 16, 1, -0.5, 1.5);
    const auto center = attack_checks::drawn<float>(n * lanes + 16, 2, 0.0, 1.0);
    const auto drawn = attack_checks::drawn<float>(16, 3, 0.0, 2.0);
    alignas(64) std::array<float, 16> factor{};
    std::copy(drawn.begin(), drawn.end(), factor.begin());
    const auto before = x;
    pv::kernels::run_light(
        [&](auto isa) { lane_rescale<float>(isa, x.data(), center.data(), n, lanes, factor.data(), 0.125f, 0.75f); });
    for (std::size_t i = 0; i < static_cast<std::size_t>(n * lanes); ++i) {
      const auto c = static_cast<double>(center[i]);
      const double wanted = std::clamp(
          c + static_cast<double>(factor[i % static_cast<std::size_t>(lanes)]) * (static_cast<double>(before[i]) - c),
          0.125, 0.75);
      CHECK(std::abs(static_cast<double>(x[i]) - wanted) < 1e-6);
    }
  }
}

TEST_CASE("ddn: options out of range are refused by their value") {
  CHECK_THROWS_WITH_AS(Ddn(attack::linf(0.1)), "ddn: norm linf, expected l2 (fmn attacks in any norm)", pv::ValueError);
  CHECK_THROWS_WITH_AS(Ddn(attack::l2(1.0), {.steps = 0}), "ddn: 0 steps, expected 1 or more", pv::ValueError);
  CHECK_THROWS_AS(Ddn(attack::l2(1.0), {.initial_norm = 0.0}), pv::ValueError);
  CHECK_THROWS_WITH_AS(Ddn(attack::l2(1.0), {.gamma = 1.0}), "ddn: gamma 1, expected more than 0, less than 1",
                       pv::ValueError);
  CHECK_THROWS_AS(Ddn(attack::l2(1.0), {.step_size = -1.0}), pv::ValueError);
  CHECK_THROWS_AS(Ddn(attack::l2(1.0), {.step_size = 0.1, .final_step_size = 0.2}), pv::ValueError);
}
