// SPDX-License-Identifier: MIT
// HopSkipJump: the exact distances of linear models by predictions alone.
#include "pavise/attack/hop_skip_jump.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/black_box_checks.hpp"

using namespace attack_checks;
using attack::HopSkipJump;
using attack::Threat;

TEST_CASE("hop-skip-jump: linear models, the exact distance in a wide box") {
  for (const std::int32_t classes : {2, 10}) {
    const LinearProblem problem(classes, 12);
    for (const Norm norm : {Norm::l2, Norm::linf}) {
      const Threat threat(norm, 0.1, -2, 3);
      const HopSkipJump attack(threat, {.steps = 25, .initial_samples = 200, .queries = 1000000});
      const auto result = attack::run(attack, problem.model, problem.images, problem.labels);
      const auto best =
          attack::run(attack, problem.model, problem.images, problem.labels, {.restarts = 8, .stop_at_success = false});
      double worst = 0;
      double worst_of_best = 0;
      for (std::int64_t i = 0; i < problem.size(); ++i) {
        const auto l = static_cast<std::size_t>(i);
        // One search ends at the boundary to some class, where that is closest: a local minimum of the distance.
        const double to_class = problem.distance_to(norm, i, result.prediction[l], -2, 3);
        const double exact = problem.distance(norm, i, -2, 3);
        CHECK(result.fooled[l] == 1);
        CHECK(static_cast<double>(result.distance[l]) > exact * (1 - 1e-4));
        CHECK(result.success[l] == (attack::within(threat, result.distance[l]) ? 1 : 0));
        worst = std::max(worst, static_cast<double>(result.distance[l]) / to_class - 1);
        worst_of_best = std::max(worst_of_best, static_cast<double>(best.distance[l]) / exact - 1);
      }
      MESSAGE(classes, " classes, ", std::string(attack::norm_name(norm)), ": one search is at most ", worst,
              " beyond the distance from the class it ends in, the best of 8 ", worst_of_best, " beyond that from all");
      CHECK(worst < 0.02);
      CHECK(worst_of_best < 0.02);
    }
  }
}

TEST_CASE("hop-skip-jump: within the usual box, and no query more than allowed") {
  const LinearProblem problem(3, 16);
  for (const std::int64_t queries : {1, 30, 3000}) {
    const HopSkipJump attack(attack::l2(0.1), {.queries = queries});
    const auto result = attack::run(attack, problem.model, problem.images, problem.labels);
    std::int64_t near = 0;
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const auto l = static_cast<std::size_t>(i);
      CHECK(result.forward[l] <= queries + 2);
      near += result.fooled[l] != 0 && static_cast<double>(result.distance[l]) <
                                           1.1 * problem.distance_to(Norm::l2, i, result.prediction[l], 0, 1)
                  ? 1
                  : 0;
    }
    MESSAGE(queries, " queries: near the boundary ", near);
    CHECK((queries < 3000 || near >= 12));
  }
}

TEST_CASE("hop-skip-jump: images of the class that uniform noise has") {
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  net->add<pv::nn::Linear>("fc", 400, 2);
  pv::nn::Model model("mean", std::move(net), {1, 20, 20}, 0);
  const auto weight = model.parameters()["fc.weight"].edit();  // class 1 where the mean of the pixels exceeds 0.8
  std::fill_n(weight.begin(), 400, 0.0f);
  std::fill_n(weight.begin() + 400, 400, 1.0f / 400);
  const auto bias = model.parameters()["fc.bias"].edit();
  bias[0] = 0.0f;
  bias[1] = -0.8f;
  const auto images = drawn_images(8, {1, 20, 20});
  const std::vector<std::int32_t> labels(8, 0);
  const auto result = attack::run(HopSkipJump(attack::linf(0.4), {.steps = 5}), model, images, labels);
  CHECK(result.clean_correct == 8);
  CHECK(std::count(result.fooled.begin(), result.fooled.end(), 1) == 8);
}

TEST_CASE("hop-skip-jump: a classifier without gradients, whose scores are not always numbers") {
  check_without_gradients(HopSkipJump(attack::linf(0.3), {.steps = 5, .queries = 2000}), 2000, 27);
  check_without_gradients(HopSkipJump(attack::l2(1.0), {.steps = 10, .queries = 4000}), 4000, 27);
}

TEST_CASE("hop-skip-jump: the same bits for any batch, order and thread count") {
  const LinearProblem problem(3, 23, {2, 3, 5});
  for (const Threat threat : {attack::linf(0.03), attack::l2(0.2)}) {
    check_independence(HopSkipJump(threat, {.steps = 3, .initial_samples = 10, .queries = 95}), problem.model,
                       problem.images, problem.labels, {.restarts = 2});
  }
}

TEST_CASE("hop-skip-jump: options are refused by value") {
  CHECK_THROWS_WITH_AS(HopSkipJump(attack::l1(1)), "hop-skip-jump: norm l1, expected linf or l2", pv::ValueError);
  CHECK_THROWS_WITH_AS(HopSkipJump(attack::l2(1), {.steps = 0}), "hop-skip-jump: 0 steps, expected 1 or more",
                       pv::ValueError);
  CHECK_THROWS_AS(HopSkipJump(attack::l2(1), {.initial_samples = 1}), pv::ValueError);
  CHECK_THROWS_AS(HopSkipJump(attack::l2(1), {.max_samples = 50}), pv::ValueError);
  CHECK_THROWS_AS(HopSkipJump(attack::l2(1), {.queries = 0}), pv::ValueError);
  CHECK_THROWS_AS(HopSkipJump(attack::l2(1), {.start_queries = 0}), pv::ValueError);
  CHECK_THROWS_AS(HopSkipJump(attack::l2(1), {.gamma = 0}), pv::ValueError);
}
