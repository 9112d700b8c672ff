// SPDX-License-Identifier: MIT
// EAD: the published algorithm in double step by step, the least elastic net and L1 of linear classifiers, the kernel
// against a loop.
#include "pavise/attack/ead.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/minimum_norm_checks.hpp"
#include "attack/undefined_checks.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Ead;
using attack::EadOptions;
using attack::EadRule;
using attack_checks::LinearProblem;

namespace {

double elastic_net(double beta, std::span<const float> x, std::span<const float> clean) {
  double sum = 0;
  for (std::size_t e = 0; e < x.size(); ++e) {
    const double d = std::abs(static_cast<double>(x[e]) - static_cast<double>(clean[e]));
    sum += beta * d + d * d;
  }
  return sum;
}

/// The least beta ||d||_1 + ||d||_2^2 with which image i of a problem reaches the boundary with class k in the box: by
/// bisection for the multiplier of w.d = margin, |d_e| = min(room, max(multiplier |w_e| - beta, 0) / 2).
double least_elastic_net(const LinearProblem& problem, std::int64_t i, std::int32_t k, double beta,
                         const attack::Threat& threat) {
  const auto w = problem.direction(i, k);
  const auto clean = problem.images.row(i);
  const auto moved = [&](double multiplier, std::size_t e) {
    const auto c = static_cast<double>(clean[e]);
    return std::min(w[e] > 0 ? threat.high - c : c - threat.low, std::max(multiplier * std::abs(w[e]) - beta, 0.0) / 2);
  };
  double below = 0;
  double above = 1e6;
  for (int round = 0; round < 200; ++round) {
    const double middle = (below + above) / 2;
    double gain = 0;
    for (std::size_t e = 0; e < w.size(); ++e) {
      gain += std::abs(w[e]) * moved(middle, e);
    }
    (gain < problem.margin(clean, i, k) ? below : above) = middle;
  }
  double sum = 0;
  for (std::size_t e = 0; e < w.size(); ++e) {
    sum += beta * moved(above, e) + moved(above, e) * moved(above, e);
  }
  return sum;
}

/// The attack in double on a linear problem, one image: what the rule made of the closest image, and passes.
struct Written {
  double closest = std::numeric_limits<double>::infinity();
  std::int64_t judged = 0;
};
Written ead(const LinearProblem& problem, std::int64_t image, const EadOptions& options, double low, double high) {
  const auto clean = problem.images.row(image);
  const std::size_t n = clean.size();
  // The smallest of the label's leads, and the class that it is over.
  const auto lead = [&](const std::vector<double>& at) {
    const std::vector<float> rounded(at.begin(), at.end());
    std::pair<double, std::int32_t> least(std::numeric_limits<double>::infinity(), 0);
    for (std::int32_t k = 0; k < problem.model.classes(); ++k) {
      if (k != problem.labels[static_cast<std::size_t>(image)]) {
        least = std::min(least, {problem.margin(rounded, image, k), k});
      }
    }
    return least;
  };
  double constant = options.initial_constant;
  double below = 0;
  double above = std::numeric_limits<double>::infinity();
  Written out;
  for (std::int64_t round = 0; round < options.search_steps; ++round) {
    std::vector<double> x(clean.begin(), clean.end());
    std::vector<double> y = x;
    double before = std::numeric_limits<double>::infinity();
    bool success = false;
    for (std::int64_t k = 0; k < options.iterations; ++k) {
      double l1 = 0;
      double square = 0;
      for (std::size_t e = 0; e < n; ++e) {
        const double d = std::abs(x[e] - static_cast<double>(clean[e]));
        l1 += d;
        square += d * d;
      }
      ++out.judged;
      const double margin = lead(x).first;
      if (margin < -options.confidence) {
        success = true;
        out.closest = std::min(out.closest, options.rule == EadRule::l1 ? l1 : options.beta * l1 + square);
      }
      const double objective = options.beta * l1 + square + constant * std::max(0.0, margin + options.confidence);
      if (options.abort_early && k % std::max<std::int64_t>(1, options.iterations / 10) == 0) {
        if (objective > 0.9999 * before) {
          break;
        }
        before = objective;
      }
      const auto [at_y, other] = lead(y);
      const auto direction = problem.direction(image, other);
      const double rate =
          options.learning_rate * std::sqrt(1.0 - static_cast<double>(k) / static_cast<double>(options.iterations));
      for (std::size_t e = 0; e < n; ++e) {
        const auto c = static_cast<double>(clean[e]);
        const double push = at_y + options.confidence > 0 ? constant * direction[e] : 0.0;
        const double z = y[e] - rate * (2 * (y[e] - c) - push);
        const double shrunk = std::copysign(std::max(std::abs(z - c) - options.beta, 0.0), z - c);
        const double moved = std::clamp(c + shrunk, low, high);
        const double momentum = options.accelerated ? static_cast<double>(k) / static_cast<double>(k + 3) : 0.0;
        y[e] = moved + momentum * (moved - x[e]);
        x[e] = moved;
      }
    }
    (success ? above : below) = constant;
    constant = std::isinf(above) ? constant * 10 : (below + above) / 2;
  }
  return out;
}

}  // namespace

TEST_CASE("ead: the algorithm in double, what it finds and its passes") {
  const LinearProblem problem(5);
  for (const bool accelerated : {true, false}) {
    for (const bool abort : {false, true}) {
      for (const EadRule rule : {EadRule::l1, EadRule::elastic_net}) {
        const EadOptions options{.iterations = 60,
                                 .beta = 0.003,
                                 .rule = rule,
                                 .accelerated = accelerated,
                                 .search_steps = 5,
                                 .initial_constant = 0.05,
                                 .confidence = abort ? 0.1 : 0.0,
                                 .abort_early = abort};
        const auto result = attack::run(Ead(attack::l1(10.0), options), problem.model, problem.images, problem.labels);
        std::int64_t same = 0;
        for (std::int64_t i = 0; i < problem.size(); ++i) {
          const auto at = static_cast<std::size_t>(i);
          const Written expected = ead(problem, i, options, 0.0, 1.0);
          // Two passes that judge, and no gradient at the point where the last descent ends.
          CHECK(result.forward[at] == (accelerated ? 2 * expected.judged - 1 : expected.judged) + 2);
          CHECK(result.backward[at] == expected.judged - (accelerated ? 1 : 0));
          CHECK(result.fooled[at] == 1);
          const double value = rule == EadRule::l1
                                   ? static_cast<double>(result.distance[at])
                                   : elastic_net(options.beta, result.adversarial.row(i), problem.images.row(i));
          same += std::abs(value / expected.closest - 1.0) < 1e-4 ? 1 : 0;
        }
        // An iterate so close to the boundary that rounding decides may turn up.
        CHECK(same >= problem.size() - 1);
      }
    }
  }
}

TEST_CASE("ead: near the exact L1 distances of linear classifiers") {
  const LinearProblem two(2);
  EadOptions options{.iterations = 2000,
                     .learning_rate = 1e-3,
                     .beta = 0.01,
                     .rule = EadRule::l1,
                     .search_steps = 12,
                     .initial_constant = 1.0,
                     .abort_early = false};
  CHECK(attack_checks::linear_excess(Ead(attack::l1(20.0, -1.0, 2.5), options), two).worst < 1e-3);
  CHECK(attack_checks::linear_excess(Ead(attack::l1(20.0), options), two).worst < 0.01);
  CHECK(attack_checks::linear_excess(Ead(attack::l1(20.0), options), LinearProblem(10)).worst < 0.03);
  options.targeted = true;
  CHECK(attack_checks::linear_excess(Ead(attack::l1(20.0), options), two).worst < 0.01);
}

TEST_CASE("ead: near the least elastic nets of linear classifiers") {
  const LinearProblem problem(2);
  const EadOptions options{
      .iterations = 2000, .beta = 1e-4, .search_steps = 9, .initial_constant = 0.3, .abort_early = false};
  for (const auto& threat : {attack::l1(20.0), attack::l1(20.0, -1.0, 2.5)}) {
    const auto result = attack::run(Ead(threat, options), problem.model, problem.images, problem.labels);
    // A step shrinks by beta, whatever its rate: what it descends on weighs L1 by beta / rate.
    for (const double weight : {options.beta, options.beta / options.learning_rate}) {
      double worst = 0;
      double least = 1;
      for (std::int64_t i = 0; i < problem.size(); ++i) {
        const auto at = static_cast<std::size_t>(i);
        REQUIRE(result.fooled[at] == 1);
        const double over = elastic_net(weight, result.adversarial.row(i), problem.images.row(i)) /
                                least_elastic_net(problem, i, 1 - problem.labels[at], weight, threat) -
                            1.0;
        worst = std::max(worst, over);
        least = std::min(least, over);
      }
      MESSAGE("box [", threat.low, ",", threat.high, "], weight ", weight, ": excess at worst ", worst);
      CHECK(worst < (weight > options.beta ? 5e-3 : 0.03));
      CHECK(least > -1e-4);
    }
  }
}

TEST_CASE("ead: a larger beta changes fewer pixels") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  std::vector<std::int64_t> changed;
  for (const double beta : {0.0, 1e-3, 1e-2}) {
    const auto result = attack::run(Ead(attack::l1(20.0), {.iterations = 200, .beta = beta}), model, images, labels);
    std::int64_t pixels = 0;
    for (std::size_t e = 0; e < images.span().size(); ++e) {
      pixels += result.adversarial.span()[e] != images.span()[e] ? 1 : 0;
    }
    changed.push_back(pixels);
  }
  MESSAGE("pixels changed with beta 0, 0.001, 0.01: ", changed[0], ", ", changed[1], ", ", changed[2]);
  CHECK(changed[0] > changed[1]);
  CHECK(changed[1] > changed[2]);
  CHECK(changed[2] > 0);
}

TEST_CASE("ead: the margin that is asked for is there") {
  const LinearProblem problem(2);
  for (const bool targeted : {false, true}) {
    auto labels = problem.labels;
    for (auto& label : labels) {
      label = targeted ? 1 - label : label;
    }
    const Ead attack(attack::l1(20.0, -2.0, 3.0), {.iterations = 300, .confidence = 0.5, .targeted = targeted});
    const auto result = attack::run(attack, problem.model, problem.images, labels);
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      REQUIRE(result.fooled[at] == 1);
      CHECK(problem.margin(result.adversarial.row(i), i, 1 - problem.labels[at]) <= -0.5 + 1e-5);
    }
  }
}

TEST_CASE("ead: targets are reached on a network") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  auto targets = attack_checks::predictions(model, images);
  for (std::size_t i = 0; i < targets.size(); ++i) {
    targets[i] = (targets[i] + 1 + static_cast<std::int32_t>(i) % 4) % 5;
  }
  const Ead attack(attack::l1(50.0, -5.0, 5.0), {.iterations = 200, .targeted = true});
  CHECK(attack_checks::predictions(model, attack::run(attack, model, images, targets).adversarial) == targets);
}

TEST_CASE("ead: an image that is adversarial already takes one pass") {
  const LinearProblem problem(4);
  attack_checks::check_nothing_to_do(Ead(attack::l1(1.0)), problem);
  attack_checks::check_nothing_to_do(Ead(attack::l1(1.0), {.accelerated = false, .targeted = true}), problem);
}

TEST_CASE("ead: images whose logits become NaN leave the others alone") {
  for (const bool accelerated : {false, true}) {
    const EadOptions options{.iterations = 100, .accelerated = accelerated, .search_steps = 6};
    attack_checks::check_undefined_images(Ead(attack::l1(5.0), options));
  }
  attack_checks::check_undefined_images(Ead(attack::l1(5.0), {.iterations = 100, .search_steps = 6, .targeted = true}));
}

TEST_CASE("ead: the same bits for any batch, order, number of threads and instruction set") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  EadOptions options{.iterations = 40, .search_steps = 4, .initial_constant = 0.05};
  attack_checks::check_independence(Ead(attack::l1(1.0), options), model, images, labels);
  // Images really are given up at different times.
  const auto result = attack::run(Ead(attack::l1(1.0), options), model, images, labels);
  const auto [least, most] = std::minmax_element(result.backward.begin(), result.backward.end());
  CHECK(*least < *most);
  options.accelerated = false;
  options.rule = EadRule::l1;
  attack_checks::check_independence(Ead(attack::l1(1.0), options), model, images, labels);
}

TEST_CASE("ead: one step of FISTA, against a loop in double") {
  constexpr std::int64_t n = 29;
  for (const int lanes : {1, 16}) {
    const auto count = static_cast<std::size_t>(n * lanes);
    auto x = attack_checks::drawn<float>(n * lanes + 16, 1, 0.0, 1.0);
    auto y = attack_checks::drawn<float>(n * lanes + 16, 2, -0.2, 1.2);
    const auto gradient = attack_checks::drawn<float>(n * lanes + 16, 3, -2.0, 2.0);
    const auto clean = attack_checks::drawn<float>(n * lanes + 16, 4, 0.0625, 0.875);
    alignas(64) std::array<float, 16> constant{}, rate{}, momentum{}, absolute{}, square{};
    for (std::size_t l = 0; l < 16; ++l) {
      constant[l] = 0.25f * static_cast<float>(l + 1);
      rate[l] = 0.1f / static_cast<float>(l + 1);
      momentum[l] = static_cast<float>(l) / static_cast<float>(l + 3);
    }
    y[0] = clean[0];  // stays where it is, but for the gradient
    std::vector<double> want_x(count), want_y(count), want_absolute(16), want_square(16);
    std::int64_t still = 0;
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t l = i % static_cast<std::size_t>(lanes);
      const auto c = static_cast<double>(clean[i]);
      const double z = static_cast<double>(y[i]) -
                       static_cast<double>(rate[l]) *
                           (2 * (static_cast<double>(y[i]) - c) - static_cast<double>(constant[l] * gradient[i]));
      want_x[i] = std::clamp(c + std::copysign(std::max(std::abs(z - c) - 0.125, 0.0), z - c), 0.0625, 0.875);
      want_x[i] = std::abs(z - c) <= 0.125 ? c : want_x[i];
      want_y[i] = want_x[i] + static_cast<double>(momentum[l]) * (want_x[i] - static_cast<double>(x[i]));
      still += want_x[i] == c ? 1 : 0;
      want_absolute[l] += std::abs(want_x[i] - c);
      want_square[l] += (want_x[i] - c) * (want_x[i] - c);
    }
    CHECK(still > 0);
    CHECK(still < n * lanes);
    pv::kernels::run_light([&](auto isa) {
      elastic_net<float>(isa, x.data(), y.data(), gradient.data(), clean.data(), n, lanes, constant.data(), rate.data(),
                         momentum.data(), 0.125f, 0.0625f, 0.875f, absolute.data(), square.data());
    });
    for (std::size_t i = 0; i < count; ++i) {
      CHECK(std::abs(static_cast<double>(x[i]) - want_x[i]) < 1e-6);
      CHECK(std::abs(static_cast<double>(y[i]) - want_y[i]) < 1e-6);
    }
    for (std::size_t l = 0; l < static_cast<std::size_t>(lanes); ++l) {
      CHECK(static_cast<double>(absolute[l]) == doctest::Approx(want_absolute[l]).epsilon(1e-5));
      CHECK(static_cast<double>(square[l]) == doctest::Approx(want_square[l]).epsilon(1e-5));
    }
  }
}

TEST_CASE("ead: options out of range are refused by their value") {
  CHECK_THROWS_WITH_AS(Ead(attack::l2(1.0)), "ead: norm l2, expected l1", pv::ValueError);
  CHECK_THROWS_WITH_AS(Ead(attack::l1(1.0), {.iterations = 0}), "ead: 0 iterations, expected 1 or more",
                       pv::ValueError);
  CHECK_THROWS_AS(Ead(attack::l1(1.0), {.learning_rate = 0.0}), pv::ValueError);
  CHECK_THROWS_WITH_AS(Ead(attack::l1(1.0), {.beta = -0.5}), "ead: beta -0.5, expected 0 or more", pv::ValueError);
  CHECK_THROWS_AS(Ead(attack::l1(1.0), {.search_steps = 0}), pv::ValueError);
  CHECK_THROWS_AS(Ead(attack::l1(1.0), {.initial_constant = 1e11}), pv::ValueError);
  CHECK_THROWS_AS(Ead(attack::l1(1.0), {.confidence = -1.0}), pv::ValueError);
  CHECK(Ead(attack::l1(1.0)).name() == "ead-en");
  CHECK(Ead(attack::l1(1.0), {.rule = EadRule::l1}).name() == "ead-l1");
}
