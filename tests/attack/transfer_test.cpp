// SPDX-License-Identifier: MIT
// Transfer: an attack made on one classifier and judged on another.
#include "pavise/attack/transfer.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/black_box_checks.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/square.hpp"

using namespace attack_checks;
using attack::Pgd;
using attack::transfer;

TEST_CASE("transfer: a classifier without gradients falls to images made for another") {
  const auto model = small_network(4, {1, 8, 8}, 2);
  const auto images = drawn_images(40, {1, 8, 8}, 6);
  const auto labels = predictions(model, images);
  // The same predictions, in steps too large for a gradient.
  const attack::Classifier masked("masked", {1, 8, 8}, 4, [&](pv::Var<float> x) {
    return pv::pointwise(
        "steps", model(x),
        [](std::span<const float> in, std::span<float> out) {
          for (std::size_t i = 0; i < in.size(); ++i) {
            out[i] = std::round(in[i] * 256.0f);
          }
        },
        [](auto, auto, auto, auto) {});
  });
  const Pgd pgd(attack::linf(0.12), {.steps = 20, .random_start = false});
  const auto on_model = attack::run(pgd, model, images, labels);
  const auto on_masked = attack::run(pgd, masked, images, labels);
  const auto carried = attack::run(transfer(pgd, model), masked, images, labels);
  MESSAGE("stand: the surrogate ", on_model.robust_correct, ", the other one ", on_masked.robust_correct,
          ", by transfer ", carried.robust_correct);
  CHECK(on_masked.robust_correct == on_masked.clean_correct);
  CHECK(carried.robust_correct <= on_model.robust_correct + 2);
  CHECK(on_model.robust_correct < 20);
}

TEST_CASE("transfer: makes what the attack makes on the surrogate, and judges it on the other") {
  const auto surrogate = small_network(4, {1, 8, 8}, 2);
  const auto target = small_network(4, {1, 8, 8}, 6);
  const auto images = drawn_images(30, {1, 8, 8}, 6);
  const auto labels = predictions(target, images);
  const Pgd pgd(attack::l2(0.5), {.steps = 5});
  const auto carried = attack::run(transfer(pgd, surrogate), target, images, labels, {.restarts = 2});
  CHECK(carried.clean_correct == 30);
  const attack::Work work{images, labels, nullptr, {}, 0, {}};
  for (std::int64_t i = 0; i < 30; ++i) {
    const auto l = static_cast<std::size_t>(i);
    std::vector<attack::Attempt> attempt(1);
    attempt[0].image = i;
    attempt[0].restart = static_cast<std::uint32_t>(carried.attempt[l]);
    pgd.attempt(surrogate, work, attempt);
    CHECK(std::equal(attempt[0].adversarial.begin(), attempt[0].adversarial.end(), carried.adversarial.row(i).begin()));
    const auto predicted = attack::judge(
        target, work, attempt, [](const attack::Attempt& a) { return a.adversarial.data(); }, 1, 0);
    CHECK(carried.prediction[l] == predicted[0].prediction);
    CHECK(carried.forward[l] == 1 + (carried.attempt[l] == 0 && carried.success[l] != 0 ? 1 : 2) * (5 + 1));
  }
  check_independence(transfer(pgd, surrogate), target, images, labels, {.restarts = 2});
  check_independence(transfer(attack::Square(attack::linf(0.05), {.queries = 20}), surrogate), target, images, labels);
}

TEST_CASE("transfer: takes over what the attack is") {
  const auto model = small_network(4, {1, 8, 8}, 2);
  const auto attack = transfer(Pgd(attack::l1(2), {.random_start = false, .targeted = true}), model);
  CHECK(attack.name() == "transfer(pgd on small)");
  CHECK(attack.targeted());
  CHECK(!attack.random());
  CHECK(attack.threat().norm == Norm::l1);
}

TEST_CASE("transfer: what does not fit is refused") {
  const auto model = small_network(4, {1, 8, 8}, 2);
  const auto images = drawn_images(2, {1, 8, 8});
  const std::vector<std::int32_t> labels(2, 0);
  const Pgd pgd(attack::linf(0.1));
  CHECK_THROWS_WITH_AS(attack::Transfer(model, nullptr),
                       "transfer: no attack, expected the one to make on the surrogate", pv::ValueError);
  const auto smaller = small_network(4, {1, 4, 6});
  CHECK_THROWS_AS(attack::run(transfer(pgd, smaller), model, images, labels), pv::ShapeError);
  const auto fewer = small_network(3, {1, 8, 8});
  CHECK_THROWS_WITH_AS(attack::run(transfer(pgd, fewer), model, images, labels),
                       "transfer(pgd on small): the surrogate has 3 classes, small has 4", pv::ValueError);
}
