// SPDX-License-Identifier: MIT
// SPSA: near the exact optimum of linear models, and what must hold on any.
#include "pavise/attack/spsa.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/black_box_checks.hpp"
#include "pavise/attack/pgd.hpp"

using namespace attack_checks;
using attack::Spsa;
using attack::Threat;

TEST_CASE("spsa: linear models of two classes in a wide box are broken just beyond the exact distance") {
  const LinearProblem problem(2, 24);
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    std::int64_t outside = 0;
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const auto row = problem.images.row(i);
      pv::Tensor<float> image(pv::Shape{1, 1, 3, 5});
      std::copy(row.begin(), row.end(), image.row(0).begin());
      const std::vector<std::int32_t> label(1, problem.labels[static_cast<std::size_t>(i)]);
      const double distance = problem.distance(norm, i, -2, 3);
      for (const double share : {0.99, 1.05}) {
        const Threat threat(norm, share * distance, -2, 3);
        const Spsa spsa(threat, {.steps = 60, .samples = 32, .learning_rate = 0.2 * distance});
        const auto result = attack::run(spsa, problem.model, image, label);
        CHECK(result.success[0] == (share > 1 ? 1 : 0));
        outside += share < 1 ? 1 : 0;
        if (share < 1) {  // all of the ball is used: the margin that is left is about 1 % of the whole
          const std::int32_t other = 1 - label[0];
          CHECK(problem.margin(result.adversarial.row(0), i, other) < 0.05 * problem.margin(row, i, other));
          CHECK(static_cast<double>(result.distance[0]) <= threat.epsilon * (1 + 1e-5) + 1e-7);
          CHECK(result.forward[0] == 60 * 33 + 1 + 2);  // a last look, and the two of the judge
          CHECK(result.backward[0] == 0);
        }
      }
    }
    CHECK(outside == problem.size());
  }
}

TEST_CASE("spsa: as strong as a step along the gradient; targets are reached; all images break in a large ball") {
  const auto model = small_network(4, {1, 8, 8}, 6);
  const auto images = drawn_images(40, {1, 8, 8}, 6);
  const auto labels = predictions(model, images);
  for (const Threat threat : {attack::linf(0.12), attack::l2(0.6)}) {
    const auto one = attack::run(attack::fgsm(threat), model, images, labels);
    const auto spsa =
        attack::run(Spsa(threat, {.steps = 20, .samples = 64, .learning_rate = 0.03}), model, images, labels);
    MESSAGE(std::string(attack::norm_name(threat.norm)), ": FGSM leaves ", one.robust_correct, ", SPSA ",
            spsa.robust_correct);
    CHECK(one.robust_correct < 25);
    CHECK(spsa.robust_correct < one.robust_correct);
    const Threat large = threat.with_epsilon(threat.norm == Norm::linf ? 1.0 : 10.0);
    CHECK(attack::run(Spsa(large, {.steps = 60, .samples = 32, .learning_rate = 0.05}), model, images, labels)
              .robust_correct == 0);
    std::vector<std::int32_t> targets;
    for (const std::int32_t y : labels) {
      targets.push_back((y + 1) % 4);
    }
    const auto reached = attack::run(Spsa(large, {.steps = 60, .samples = 32, .learning_rate = 0.05, .targeted = true}),
                                     model, images, targets);
    CHECK(reached.robust_correct == 0);
  }
}

TEST_CASE("spsa: the same bits for any batch, order and thread count") {
  const auto model = small_network(5, {2, 5, 7});
  const auto images = drawn_images(23, {2, 5, 7}, 8);
  const auto labels = predictions(model, images);
  for (const Threat threat : {attack::linf(0.03), attack::l2(0.2)}) {
    check_independence(Spsa(threat, {.steps = 4, .samples = 6}), model, images, labels, {.restarts = 2});
  }
}

TEST_CASE("spsa: a classifier without gradients, whose scores are not always numbers; samples stay in the box") {
  check_without_gradients(Spsa(attack::linf(0.3), {.steps = 40, .samples = 8, .delta = 0.1}), 40 * 9 + 1, 20);
  check_without_gradients(Spsa(attack::l2(0.8), {.steps = 40, .samples = 8, .delta = 0.1}), 40 * 9 + 1, 20);
}

TEST_CASE("spsa: options are refused by value") {
  CHECK_THROWS_WITH_AS(Spsa(attack::l1(1)), "spsa: norm l1, expected linf or l2", pv::ValueError);
  CHECK_THROWS_WITH_AS(Spsa(attack::linf(0.1), {.samples = 7}), "spsa: 7 samples, expected an even number of 2 or more",
                       pv::ValueError);
  CHECK_THROWS_AS(Spsa(attack::linf(0.1), {.steps = 0}), pv::ValueError);
  CHECK_THROWS_AS(Spsa(attack::linf(0.1), {.delta = 0}), pv::ValueError);
  CHECK_THROWS_AS(Spsa(attack::linf(0.1), {.learning_rate = -1}), pv::ValueError);
}
