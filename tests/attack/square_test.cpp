// SPDX-License-Identifier: MIT
// Square: exact on linear models in Linf, within the ball in all norms, and the published schedule.
#include "pavise/attack/square.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/black_box_checks.hpp"
#include "pavise/attack/pgd.hpp"

using namespace attack_checks;
using attack::Square;
using attack::Threat;

namespace {

/// The smallest margin z_label - z_other that a model of two classes has in the ball and the box.
double lowest_margin(const LinearProblem& problem, std::int64_t i, const Threat& threat) {
  const std::int32_t other = 1 - problem.labels[static_cast<std::size_t>(i)];
  const auto x = problem.images.row(i);
  const auto w = problem.direction(i, other);
  double margin = problem.margin(x, i, other);
  for (std::size_t e = 0; e < w.size(); ++e) {
    const double v = static_cast<double>(x[e]);
    const double up = std::min(threat.epsilon, threat.high - v);
    const double down = std::min(threat.epsilon, v - threat.low);
    margin -= w[e] > 0 ? w[e] * up : -w[e] * down;
  }
  return margin;
}

}  // namespace

TEST_CASE("square: linf on linear models ends at the exact optimum, also on images that are not square") {
  for (const pv::Shape shape : {pv::Shape{1, 3, 5}, pv::Shape{2, 4, 3}, pv::Shape{3, 1, 6}}) {
    const LinearProblem problem(2, 20, shape);
    const Threat threat = attack::linf(0.03);
    const auto result = attack::run(Square(threat, {.queries = 3000}), problem.model, problem.images, problem.labels);
    std::int64_t stood = 0;
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const auto l = static_cast<std::size_t>(i);
      const double best = lowest_margin(problem, i, threat);
      CHECK(result.success[l] == (best < 0 ? 1 : 0));
      if (result.success[l] == 0) {
        ++stood;
        const double margin = problem.margin(result.adversarial.row(i), i, 1 - problem.labels[l]);
        CHECK(std::abs(margin - best) < 1e-5);
        CHECK(result.forward[l] == 3000 + 2);  // and the two of the judge
      } else {
        CHECK(result.forward[l] < 3002);
      }
      CHECK(result.backward[l] == 0);
    }
    CHECK(stood > 0);
  }
}

TEST_CASE("square: images stay in ball and box, and use up the ball") {
  const auto model = small_network(5, {3, 9, 11});
  const auto images = drawn_images(20, {3, 9, 11}, 5, 0.2, 0.8);
  const auto labels = predictions(model, images);
  for (const Threat threat : {attack::linf(0.01), attack::l2(0.2), attack::l1(1.5)}) {
    const auto result =
        attack::run(Square(threat, {.queries = 400}), model, images, labels, {.stop_at_success = false});
    std::int64_t stood = 0;
    for (std::int64_t i = 0; i < images.shape()[0]; ++i) {
      const auto l = static_cast<std::size_t>(i);
      CHECK(static_cast<double>(result.distance[l]) <= threat.epsilon * (1 + 1e-5));
      stood += result.success[l] == 0 ? 1 : 0;
      if (result.success[l] == 0) {
        CHECK(static_cast<double>(result.distance[l]) >= threat.epsilon * 0.99);
      }
    }
    CHECK(stood > 0);
  }
}

TEST_CASE("square: stronger than one step along the gradient, in every norm, and targets are reached") {
  const auto model = small_network(4, {1, 8, 8}, 6);
  const auto images = drawn_images(40, {1, 8, 8}, 6);
  const auto labels = predictions(model, images);
  for (const Threat threat : {attack::linf(0.12), attack::l2(0.6), attack::l1(4)}) {
    const auto one = attack::run(attack::fgsm(threat), model, images, labels);
    const auto random = attack::run(Square(threat, {.queries = 1}), model, images, labels);
    const auto square = attack::run(Square(threat, {.queries = 1000}), model, images, labels);
    MESSAGE(std::string(attack::norm_name(threat.norm)), ": stand after one query ", random.robust_correct, ", FGSM ",
            one.robust_correct, ", square ", square.robust_correct);
    CHECK(square.robust_correct < 30);
    CHECK(square.robust_correct <= one.robust_correct + 4);
    const auto stretched = attack::run(Square(threat, {.queries = 300, .resc_schedule = true}), model, images, labels);
    CHECK(stretched.robust_correct < random.robust_correct);
    const auto all = attack::run(Square(threat.with_epsilon(threat.norm == Norm::linf ? 1.0 : 60.0), {.queries = 3000}),
                                 model, images, labels);
    CHECK(all.robust_correct == 0);
    std::vector<std::int32_t> targets;
    for (const std::int32_t y : labels) {
      targets.push_back((y + 1) % 4);
    }
    const auto reached =
        attack::run(Square(threat.with_epsilon(2.5 * threat.epsilon), {.targeted = true}), model, images, targets);
    MESSAGE("targets missed: ", reached.robust_correct);
    CHECK(reached.robust_correct < 20);
  }
}

TEST_CASE("square: the same bits for any batch, order and thread count") {
  const auto model = small_network(5, {2, 5, 7});
  const auto images = drawn_images(23, {2, 5, 7}, 8);
  const auto labels = predictions(model, images);
  for (const Threat threat : {attack::linf(0.03), attack::l2(0.25), attack::l1(1.5)}) {
    check_independence(Square(threat, {.queries = 40}), model, images, labels, {.restarts = 2});
  }
}

TEST_CASE("square: the published schedule") {
  const Square square(attack::linf(0.1));
  CHECK(square.side(0, 28, 28) == 25);
  CHECK(square.side(10, 28, 28) == 25);
  CHECK(square.side(11, 28, 28) == 18);
  CHECK(square.side(50, 28, 28) == 18);
  CHECK(square.side(51, 28, 28) == 13);
  CHECK(square.side(501, 28, 28) == 6);
  CHECK(square.side(5000, 28, 28) == 2);
  CHECK(square.side(20000, 28, 28) == 1);
  CHECK(square.side(0, 4, 100) == 4);
  CHECK(Square(attack::l2(1)).side(0, 28, 28) == 25);
  CHECK(Square(attack::l2(1)).side(11, 28, 28) == 19);
  CHECK(Square(attack::l1(1)).side(9000, 28, 28) == 3);
  CHECK(Square(attack::linf(0.1), {.queries = 1000, .resc_schedule = true}).side(5, 28, 28) == 18);
}

TEST_CASE("square: with epsilon 0 images stay as they are") {
  const LinearProblem problem(3, 18);
  for (const Threat threat : {attack::linf(0), attack::l2(0), attack::l1(0)}) {
    const auto nothing = attack::run(Square(threat, {.queries = 20}), problem.model, problem.images, problem.labels);
    CHECK(nothing.robust_correct == problem.size());
    CHECK(std::equal(nothing.adversarial.begin(), nothing.adversarial.end(), problem.images.begin()));
  }
}

TEST_CASE("square: a classifier without gradients, whose scores are not always numbers") {
  check_without_gradients(Square(attack::linf(0.3), {.queries = 500}), 500, 27);
  check_without_gradients(Square(attack::l2(1.2), {.queries = 500}), 500, 12);  // its pattern hardly moves the sum
  check_without_gradients(Square(attack::l1(4.5), {.queries = 1000}), 1000, 12);
}

TEST_CASE("square: options are refused by value") {
  CHECK_THROWS_WITH_AS(Square(attack::linf(0.1), {.queries = 0}), "square: 0 queries, expected 1 or more",
                       pv::ValueError);
  CHECK_THROWS_AS(Square(attack::linf(0.1), {.p_init = 0}), pv::ValueError);
  CHECK_THROWS_AS(Square(attack::linf(0.1), {.p_init = 1.5}), pv::ValueError);
}
