// SPDX-License-Identifier: MIT
// JSMA: answers known by hand, the same walk written out over all pairs, its budget, and what softmax costs it.
#include "pavise/attack/jsma.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/undefined_checks.hpp"
#include "pavise/autodiff/elementwise.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack_checks::LinearProblem;

namespace {

using Pair = std::pair<std::int32_t, std::int32_t>;

/// z = W x + b on images (1,1,size), with the weights given row by row.
pv::nn::Model linear(std::int64_t size, const std::vector<float>& weights, const std::vector<float>& bias) {
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  net->add<pv::nn::Linear>("fc", size, static_cast<std::int64_t>(bias.size()));
  pv::nn::Model model("by hand", std::move(net), {1, 1, size}, 1);
  std::copy(weights.begin(), weights.end(), model.parameters()["fc.weight"].edit().begin());
  std::copy(bias.begin(), bias.end(), model.parameters()["fc.bias"].edit().begin());
  return model;
}

/// The best pair by looking at all, the first of equals in the order of Salience.
Pair best_of_all(std::vector<attack::detail::Salience> all) {
  std::sort(all.begin(), all.end());
  Pair found{-1, -1};
  double largest = 0;
  for (std::size_t p = 0; p < all.size(); ++p) {
    for (std::size_t q = p + 1; q < all.size(); ++q) {
      const double gain = static_cast<double>(all[p].gain) + static_cast<double>(all[q].gain);
      const double loss = static_cast<double>(all[p].loss) + static_cast<double>(all[q].loss);
      if (gain > 0 && loss > 0 && gain * loss > largest) {
        largest = gain * loss;
        found = {all[p].element, all[q].element};
      }
    }
  }
  return found;
}

/// Algorithms 2 and 3 on a linear classifier, whose derivatives never change: the image that it ends with.
std::vector<float> walk(const pv::nn::Model& model, std::span<const float> image, std::int32_t label,
                        std::int32_t target, const attack::JsmaOptions& options) {
  const auto w = model.parameters()["fc.weight"].value();
  const auto b = model.parameters()["fc.bias"].value();
  const std::size_t n = image.size();
  const float sign = options.theta > 0 ? 1.0f : -1.0f;
  std::vector<float> x(image.begin(), image.end());
  const auto budget = static_cast<std::size_t>(options.gamma * static_cast<double>(n));
  for (;;) {
    std::vector<double> z(b.begin(), b.end());
    for (std::size_t k = 0; k < z.size(); ++k) {
      for (std::size_t e = 0; e < n; ++e) {
        z[k] += static_cast<double>(w[k * n + e]) * static_cast<double>(x[e]);
      }
    }
    const auto best = static_cast<std::int32_t>(std::max_element(z.begin(), z.end()) - z.begin());
    if (options.targeted ? best == target : best != label) {
      return x;
    }
    std::size_t changed = 0;
    for (std::size_t e = 0; e < n; ++e) {
      changed += x[e] != image[e] ? 1 : 0;
    }
    std::vector<attack::detail::Salience> all;
    for (std::size_t e = 0; e < n; ++e) {
      if ((options.theta > 0 ? x[e] < 1.0f : x[e] > 0.0f) &&
          (changed + (options.pairs ? 2 : 1) <= budget || x[e] != image[e])) {
        float others = 0;
        for (std::size_t k = 0; k < z.size(); ++k) {
          others += static_cast<std::int32_t>(k) == target ? 0.0f : w[k * n + e];
        }
        all.push_back(
            {sign * w[static_cast<std::size_t>(target) * n + e], -sign * others, static_cast<std::int32_t>(e)});
      }
    }
    Pair pair = best_of_all(all);
    if (!options.pairs) {
      pair = {-1, -1};
      double largest = 0;
      for (const auto& s : all) {
        const double product = static_cast<double>(s.gain) * static_cast<double>(s.loss);
        if (s.gain > 0 && s.loss > 0 && product > largest) {
          largest = product;
          pair.first = s.element;
        }
      }
    }
    if (pair.first < 0) {
      return x;
    }
    for (const std::int32_t e : {pair.first, pair.second}) {
      if (e >= 0) {
        float& v = x[static_cast<std::size_t>(e)];
        v = std::clamp(v + static_cast<float>(options.theta), 0.0f, 1.0f);
      }
    }
  }
}

std::int64_t changed(const attack::Result& result, const pv::Tensor<float>& images, std::int64_t i) {
  std::int64_t count = 0;
  for (std::size_t e = 0; e < images.row(i).size(); ++e) {
    count += result.adversarial.row(i)[e] != images.row(i)[e] ? 1 : 0;
  }
  return count;
}

}  // namespace

TEST_CASE("jsma: a linear model by hand") {
  // Class 0 leads by 1.55. Of the six pixels 1 and 4 speak most for class 1 and against the others together.
  const auto model = linear(6,
                            {0.0f, -0.6f, 0.5f, 0.0f, -0.5f, 0.0f,   //
                             0.2f, 0.7f, 0.9f, -1.0f, 0.6f, 0.1f,    //
                             0.0f, -0.2f, 0.4f, 0.3f, -0.2f, 0.0f},  //
                            {2.0f, 0.0f, 0.0f});
  pv::Tensor<float> image(pv::Shape{1, 1, 1, 6});
  std::fill(image.begin(), image.end(), 0.25f);
  const std::vector<std::int32_t> target{1};
  const auto threat = attack::linf(1.0);
  const auto run = [&](attack::JsmaOptions options) {
    options.targeted = true;
    const auto result = attack::run(attack::Jsma(threat, options), model, image, target);
    return std::pair{std::vector<float>(result.adversarial.begin(), result.adversarial.end()), result};
  };
  // Up by all that the box allows: -1.275 + 0.75 (0.7 + 0.6 + 0.6 + 0.5) = 0.525, one step is enough.
  const auto [whole, first] = run({.gamma = 0.5});
  CHECK(whole == std::vector<float>{0.25f, 1.0f, 0.25f, 0.25f, 1.0f, 0.25f});
  CHECK(first.success[0] == 1);
  CHECK(first.backward[0] == 3);  // and one more where it sees that it is there
  // By quarters it takes three steps of the same pair, the last of which ends at the wall.
  const auto [quarters, second] = run({.theta = 0.25, .gamma = 0.5});
  CHECK(quarters == whole);
  CHECK(second.backward[0] == 7);
  // One at a time: pixel 1 (0.7 * 0.8), then pixel 4 (0.6 * 0.7).
  const auto [single, third] = run({.gamma = 0.5, .pairs = false});
  CHECK(single == whole);
  CHECK(third.backward[0] == 5);
  // A budget of one pixel moves pixel 1 alone, and that is not enough.
  const auto [one, fourth] = run({.gamma = 0.17, .pairs = false});
  CHECK(one == std::vector<float>{0.25f, 1.0f, 0.25f, 0.25f, 0.25f, 0.25f});
  CHECK(fourth.fooled[0] == 0);
  // Downwards pixel 3 alone speaks against class 1, but for the others: (1.0, 0.3) and pixel 0 or 5 with nothing.
  const auto [down, fifth] = run({.theta = -1.0, .gamma = 0.17, .pairs = false});
  CHECK(down == std::vector<float>{0.25f, 0.25f, 0.25f, 0.0f, 0.25f, 0.25f});
  CHECK(fifth.fooled[0] == 0);
}

TEST_CASE("jsma: the pair is the best of all, and the first of equals") {
  pv::RandomSequence random({.seed = 1, .purpose = pv::Purpose::test});
  for (int round = 0; round < 3000; ++round) {
    const std::size_t n = random.below(40);
    const bool coarse = round % 2 == 0;  // many equals
    const double tilt = random.uniform(-1.5, 1.5);
    std::vector<attack::detail::Salience> all;
    for (std::size_t e = 0; e < n; ++e) {
      const double gain = random.normal() + tilt;
      const double loss = random.normal() - tilt * (round % 3 == 0 ? 1.0 : 0.0);
      all.push_back({static_cast<float>(coarse ? std::round(gain) : gain),
                     static_cast<float>(coarse ? std::round(loss) : loss), static_cast<std::int32_t>(e)});
    }
    const Pair expected = best_of_all(all);
    const Pair found = attack::detail::most_salient_pair(all);
    CHECK_MESSAGE(found == expected, "round ", round, ", ", n, " elements");
  }
}

TEST_CASE("jsma: linear classifiers, the walk over all pairs") {
  const LinearProblem problem(10, 37, {2, 4, 5});
  const auto& images = problem.images;
  std::vector<std::int32_t> targets;
  for (const std::int32_t label : problem.labels) {
    targets.push_back((label + 3) % 10);
  }
  for (const auto& options : {attack::JsmaOptions{.theta = 1.0, .gamma = 0.5, .targeted = true},
                              attack::JsmaOptions{.theta = 0.3, .gamma = 0.25, .targeted = true},
                              attack::JsmaOptions{.theta = -1.0, .gamma = 0.5, .targeted = true},
                              attack::JsmaOptions{.theta = -0.125, .gamma = 0.9, .targeted = true},
                              attack::JsmaOptions{.theta = 1.0, .gamma = 0.4, .pairs = false, .targeted = true},
                              attack::JsmaOptions{.theta = -0.4, .gamma = 0.4, .pairs = false, .targeted = true},
                              attack::JsmaOptions{.theta = 1.0, .gamma = 0.3, .targeted = false, .targets = 1}}) {
    const auto& labels = options.targeted ? targets : problem.labels;
    const auto result = attack::run(attack::Jsma(attack::linf(1.0), options), problem.model, images, labels);
    std::int64_t fooled = 0;
    std::int64_t same = 0;
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      std::int32_t target = labels[at];
      if (!options.targeted) {  // the runner-up
        for (std::int32_t k = 0; k < 10; ++k) {
          if (k != labels[at] && (target == labels[at] ||
                                  problem.margin(images.row(i), i, k) < problem.margin(images.row(i), i, target))) {
            target = k;
          }
        }
      }
      const auto expected = walk(problem.model, images.row(i), labels[at], target, options);
      const auto x = result.adversarial.row(i);
      same += std::equal(x.begin(), x.end(), expected.begin()) ? 1 : 0;
      fooled += result.fooled[at];
      CHECK(result.success[at] == result.fooled[at]);
      CHECK(changed(result, images, i) <= static_cast<std::int64_t>(options.gamma * 40));
    }
    MESSAGE("theta ", options.theta, ", gamma ", options.gamma, ", pairs ", options.pairs, ": ", fooled, " fooled");
    CHECK(same == problem.size());
    CHECK(fooled > 0);
  }
}

TEST_CASE("jsma: a network, within the budget of elements") {
  const auto model = attack_checks::small_network(5, {2, 6, 5});
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  std::int64_t before = 0;
  for (const double gamma : {0.05, 0.1, 0.3, 0.6}) {  // of 60
    const auto result = attack::run(attack::Jsma(attack::linf(1.0), {.gamma = gamma}), model, images, labels);
    std::int64_t most = 0;
    for (std::int64_t i = 0; i < 40; ++i) {
      most = std::max(most, changed(result, images, i));
    }
    const auto fooled = std::count(result.fooled.begin(), result.fooled.end(), 1);
    CHECK(static_cast<double>(most) <= gamma * 60.0 + 1e-9);
    CHECK(fooled >= before);
    CHECK(attack_checks::predictions(model, result.adversarial) == result.prediction);
    before = fooled;
  }
  CHECK(before >= 36);
  // More targets break more; those that a model does not have cost a judgement alone.
  const auto with = [&](std::int64_t targets) {
    return attack::run(attack::Jsma(attack::linf(1.0), {.gamma = 0.1, .targets = targets}), model, images, labels);
  };
  const auto one = with(1);
  const auto four = with(4);
  const auto nine = with(9);
  CHECK(four.robust_correct < one.robust_correct);
  CHECK(nine.robust_correct == four.robust_correct);
  CHECK(nine.backward_passes == four.backward_passes);
  // A threat with less than the box: pixels move by theta all the same, and success is what lies within epsilon.
  const auto ball = attack::run(attack::Jsma(attack::linf(0.01), {.gamma = 0.6}), model, images, labels);
  CHECK(ball.robust_correct == 40);
  CHECK(std::count(ball.fooled.begin(), ball.fooled.end(), 1) >= 36);
}

TEST_CASE("jsma: derivatives of probabilities vanish with the temperature, those of logits do not") {
  const auto network = attack_checks::small_network();
  const attack::Classifier sharp("sharp", network.input_shape(), network.classes(),
                                 [&](pv::Var<float> x) { return pv::scale(network(x), 4096.0f); });
  const auto images = attack_checks::drawn_images(24, network.input_shape());
  const auto labels = attack_checks::predictions(network, images);
  const auto broken = [&](const attack::Classifier& model, bool probabilities) {
    const attack::Jsma jsma(attack::linf(1.0), {.gamma = 0.6, .probabilities = probabilities});
    return attack::run(jsma, model, images, labels);
  };
  CHECK(broken(network, true).robust_correct < 18);
  CHECK(broken(network, false).robust_correct < 18);
  CHECK(broken(sharp, false).robust_correct == broken(network, false).robust_correct);
  CHECK(broken(sharp, true).robust_correct == 24);  // probabilities of 0 and 1: no pair is left
  // Of probabilities one gradient a step is enough.
  const auto one = broken(network, true);
  CHECK(one.forward_passes > one.backward_passes);
}

TEST_CASE("jsma: images whose logits become NaN leave the others alone") {
  attack_checks::check_undefined_images(attack::Jsma(attack::linf(1.0), {.theta = 0.2, .gamma = 0.8}));
  attack_checks::check_undefined_images(
      attack::Jsma(attack::linf(1.0), {.theta = -0.2, .gamma = 0.8, .targeted = true}));
}

TEST_CASE("jsma: the same bits for any batch, order, number of threads and instruction set") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  attack_checks::check_independence(attack::Jsma(attack::linf(1.0), {.theta = 0.4, .gamma = 0.2}), model, images,
                                    labels);
  attack_checks::check_independence(
      attack::Jsma(attack::l1(9.0), {.theta = -0.3, .gamma = 0.3, .pairs = false, .probabilities = true}), model,
      images, labels);
}

TEST_CASE("jsma: options out of range are refused") {
  const auto threat = attack::linf(1.0);
  CHECK_THROWS_WITH_AS(attack::Jsma(threat, {.theta = 0.0}),
                       "jsma: theta 0, expected 1e-04 to 1 (the pixel box), or as much below 0", pv::ValueError);
  CHECK_THROWS_AS(attack::Jsma(threat, {.theta = -1.5}), pv::ValueError);
  CHECK_THROWS_AS(attack::Jsma(threat, {.theta = std::nan("")}), pv::ValueError);
  CHECK_THROWS_AS(attack::Jsma(threat, {.gamma = 0.0}), pv::ValueError);
  CHECK_THROWS_AS(attack::Jsma(threat, {.gamma = 1.01}), pv::ValueError);
  CHECK_THROWS_AS(attack::Jsma(threat, {.targets = 0}), pv::ValueError);
  const LinearProblem problem(2, 3);
  CHECK_THROWS_WITH_AS(attack::run(attack::Jsma(threat, {.gamma = 0.1}), problem.model, problem.images, problem.labels),
                       "jsma: gamma 0.1 of 15 elements is 1, expected at least 2", pv::ValueError);
  CHECK_NOTHROW(
      attack::run(attack::Jsma(threat, {.gamma = 0.1, .pairs = false}), problem.model, problem.images, problem.labels));
}
