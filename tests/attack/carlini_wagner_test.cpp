// SPDX-License-Identifier: MIT
// The attacks of Carlini and Wagner: exact distances on linear classifiers, the published algorithm in double step by
// step, the kernel against scalar loops.
#include "pavise/attack/carlini_wagner.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/minimum_norm_checks.hpp"
#include "attack/undefined_checks.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::CarliniWagner;
using attack::CarliniWagnerLinf;
using attack::Norm;
using attack_checks::LinearProblem;

namespace {

/// The L2 attack in double on a linear problem, one image, as its authors describe it.
struct Attacked {
  double distance = std::numeric_limits<double>::infinity();
  std::int64_t gradients = 0;
};
Attacked carlini_wagner(const LinearProblem& problem, std::int64_t image, const attack::CarliniWagnerOptions& options,
                        double low, double high) {
  const std::int32_t label = problem.labels[static_cast<std::size_t>(image)];
  const auto clean = problem.images.row(image);
  const std::size_t n = clean.size();
  double constant = options.initial_constant;
  double below = 0;
  double above = std::numeric_limits<double>::infinity();
  Attacked out;
  for (std::int64_t round = 0; round < options.search_steps; ++round) {
    std::vector<double> w(n), m(n, 0.0), v(n, 0.0);
    std::vector<double> x(clean.begin(), clean.end());
    for (std::size_t e = 0; e < n; ++e) {
      w[e] = std::atanh(0.999999 * (2 * (x[e] - low) / (high - low) - 1));
    }
    double before = std::numeric_limits<double>::infinity();
    bool success = false;
    for (std::int64_t t = 0; t < options.iterations; ++t) {
      if (t > 0) {
        for (std::size_t e = 0; e < n; ++e) {
          x[e] = low + (high - low) * (std::tanh(w[e]) + 1) / 2;
        }
      }
      double margin = std::numeric_limits<double>::infinity();  // z_label - max other
      std::int32_t other = 0;
      const std::vector<float> rounded(x.begin(), x.end());
      for (std::int32_t k = 0; k < problem.model.classes(); ++k) {
        if (k != label && problem.margin(rounded, image, k) < margin) {
          margin = problem.margin(rounded, image, k);
          other = k;
        }
      }
      double square = 0;
      for (std::size_t e = 0; e < n; ++e) {
        square += (x[e] - static_cast<double>(clean[e])) * (x[e] - static_cast<double>(clean[e]));
      }
      ++out.gradients;
      if (margin < -options.confidence) {
        success = true;
        out.distance = std::min(out.distance, std::sqrt(square));
      }
      const bool pushed = margin + options.confidence > 0;
      const double objective = square + constant * std::max(0.0, margin + options.confidence);
      if (options.abort_early && t % std::max<std::int64_t>(1, options.iterations / 10) == 0) {
        if (objective > 0.9999 * before) {
          break;
        }
        before = objective;
      }
      const auto direction = problem.direction(image, other);  // raises the other class
      for (std::size_t e = 0; e < n; ++e) {
        const double th = std::tanh(w[e]);
        const double slope = (high - low) * (1 - th * th) / 2;
        const double g =
            slope * (2 * (x[e] - static_cast<double>(clean[e])) - (pushed ? constant * direction[e] : 0.0));
        m[e] = 0.9 * m[e] + 0.1 * g;
        v[e] = 0.999 * v[e] + 0.001 * g * g;
        const auto k = static_cast<double>(t + 1);
        w[e] -= options.learning_rate * (m[e] / (1 - std::pow(0.9, k))) /
                (std::sqrt(v[e] / (1 - std::pow(0.999, k))) + 1e-8);
      }
    }
    (success ? above : below) = constant;
    constant = std::isinf(above) ? constant * 10 : (below + above) / 2;
  }
  return out;
}

}  // namespace

TEST_CASE("carlini-wagner: the exact L2 distances of linear classifiers") {
  const LinearProblem two(2, 16);
  for (const bool targeted : {false, true}) {  // walls are far in tanh space: that takes iterations
    const CarliniWagner attack(
        attack::l2(10.0),
        {.iterations = 2500, .search_steps = 6, .initial_constant = 0.1, .abort_early = false, .targeted = targeted});
    CHECK(attack_checks::linear_excess(attack, two).worst < 1e-3);
  }
  attack::CarliniWagnerOptions options{
      .iterations = 1000, .learning_rate = 1e-3, .search_steps = 6, .initial_constant = 0.1, .abort_early = false};
  CHECK(attack_checks::linear_excess(CarliniWagner(attack::l2(10.0, -1.0, 2.5), options), two).worst < 1e-4);
  options.iterations = 5000;
  options.learning_rate = 3e-4;
  const auto ten =
      attack_checks::linear_excess(CarliniWagner(attack::l2(10.0, -1.0, 2.5), options), LinearProblem(10, 16));
  CHECK(ten.worst < 1e-3);
  CHECK(ten.nearest >= 12);
}

TEST_CASE("carlini-wagner: the exact Linf distances of linear classifiers") {
  const attack::CarliniWagnerLinfOptions options{
      .iterations = 1500, .learning_rate = 1e-4, .initial_constant = 0.01, .shrink = 0.9995, .smallest_tau = 1e-4};
  CHECK(attack_checks::linear_excess(CarliniWagnerLinf(attack::linf(1.0), options), LinearProblem(2, 16)).worst < 1e-3);
  const auto ten = attack_checks::linear_excess(CarliniWagnerLinf(attack::linf(1.0), options), LinearProblem(10, 16));
  CHECK(ten.worst < 3e-3);
  CHECK(ten.nearest >= 11);
  // The published settings end where tau, nine tenths of the last distance, is out of reach.
  const CarliniWagnerLinf published(attack::linf(1.0), {.targeted = true});
  CHECK(attack_checks::linear_excess(published, LinearProblem(2, 16)).worst < 0.12);
}

TEST_CASE("carlini-wagner: the published settings come close, with early aborts and without") {
  const LinearProblem problem(2);
  for (const bool abort : {false, true}) {
    const CarliniWagner attack(attack::l2(10.0), {.iterations = 1000, .abort_early = abort});
    CHECK(attack_checks::linear_excess(attack, problem).worst < (abort ? 0.02 : 3e-3));
  }
}

TEST_CASE("carlini-wagner: the authors' algorithm in double, distances and passes") {
  const LinearProblem problem(5);
  for (const bool abort : {false, true}) {
    for (const double confidence : {0.0, 0.2}) {
      const attack::CarliniWagnerOptions options{.iterations = 60,
                                                 .search_steps = 5,
                                                 .initial_constant = 0.02,
                                                 .confidence = confidence,
                                                 .abort_early = abort};
      const auto result =
          attack::run(CarliniWagner(attack::l2(10.0), options), problem.model, problem.images, problem.labels);
      double worst = 0;
      std::int64_t found = 0;
      std::int64_t passes = 0;
      for (std::int64_t i = 0; i < problem.size(); ++i) {
        const auto at = static_cast<std::size_t>(i);
        const Attacked expected = carlini_wagner(problem, i, options, 0.0, 1.0);
        passes += expected.gradients;
        CHECK_MESSAGE(result.backward[at] == expected.gradients, "image ", i);
        if (std::isfinite(expected.distance)) {
          ++found;
          CHECK(result.fooled[at] == 1);
          worst = std::max(worst, std::abs(static_cast<double>(result.distance[at]) / expected.distance - 1.0));
        }
      }
      MESSAGE("abort ", abort, ", confidence ", confidence, ": ", found, " found in ", passes,
              " passes, worst relative difference ", worst);
      CHECK(worst < 1e-3);
      CHECK(found >= 30);
    }
  }
}

TEST_CASE("carlini-wagner: the margin that is asked for is there, and no more") {
  const LinearProblem problem(2);
  constexpr double kappa = 0.5;
  const auto check = [&](const attack::Attack& attack, double tolerance) {
    std::vector<std::int32_t> labels = problem.labels;
    for (auto& label : labels) {
      label = attack.targeted() ? 1 - label : label;
    }
    const auto result = attack::run(attack, problem.model, problem.images, labels);
    double worst = 0;
    for (std::int64_t i = 0; i < problem.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      const std::int32_t other = 1 - problem.labels[at];
      REQUIRE(result.fooled[at] == 1);
      CHECK(problem.margin(result.adversarial.row(i), i, other) <= -kappa + 1e-5);
      double dual = 0;
      for (const double w : problem.direction(i, other)) {
        dual = attack.threat().norm == Norm::l2 ? dual + w * w : dual + std::abs(w);
      }
      dual = attack.threat().norm == Norm::l2 ? std::sqrt(dual) : dual;
      const double exact = (problem.margin(problem.images.row(i), i, other) + kappa) / dual;
      worst = std::max(worst, static_cast<double>(result.distance[at]) / exact - 1.0);
    }
    MESSAGE(attack.name(), ", confidence ", kappa, ": relative excess at worst ", worst);
    CHECK(worst < tolerance);
  };
  for (const bool targeted : {false, true}) {
    const attack::CarliniWagnerOptions options{.iterations = 1000,
                                               .learning_rate = 1e-3,
                                               .search_steps = 6,
                                               .initial_constant = 0.1,
                                               .confidence = kappa,
                                               .abort_early = false,
                                               .targeted = targeted};
    check(CarliniWagner(attack::l2(10.0, -2.0, 3.0), options), 1e-3);
    check(
        CarliniWagnerLinf(attack::linf(1.0, -2.0, 3.0), {.iterations = 200, .confidence = kappa, .targeted = targeted}),
        0.15);
  }
  // A margin that the box does not hold: what fools at all is the answer.
  const auto out_of_reach =
      attack::run(CarliniWagner(attack::l2(10.0), {.iterations = 300, .learning_rate = 0.05, .confidence = 50.0}),
                  problem.model, problem.images, problem.labels);
  CHECK(std::count(out_of_reach.fooled.begin(), out_of_reach.fooled.end(), 1) == problem.size());
  // It is not the closest that could be found.
  CHECK(std::all_of(out_of_reach.backward.begin(), out_of_reach.backward.end(), [](auto b) { return b > 9; }));
}

TEST_CASE("carlini-wagner: targets are reached on a network") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(20, model.input_shape());
  const auto clean = attack_checks::predictions(model, images);
  std::vector<std::int32_t> targets;
  for (std::size_t i = 0; i < clean.size(); ++i) {
    targets.push_back((clean[i] + 1 + static_cast<std::int32_t>(i) % 4) % 5);
  }
  const auto untargeted =
      attack::run(CarliniWagner(attack::l2(10.0, -5.0, 5.0), {.iterations = 200}), model, images, clean);
  const auto l2 = attack::run(CarliniWagner(attack::l2(10.0, -5.0, 5.0), {.iterations = 200, .targeted = true}), model,
                              images, targets);
  const auto linf = attack::run(CarliniWagnerLinf(attack::linf(10.0, -5.0, 5.0), {.iterations = 200, .targeted = true}),
                                model, images, targets);
  CHECK(attack_checks::predictions(model, l2.adversarial) == targets);
  CHECK(attack_checks::predictions(model, linf.adversarial) == targets);
  CHECK(std::count(untargeted.fooled.begin(), untargeted.fooled.end(), 1) == 20);
  double near = 0;
  double far = 0;
  for (std::size_t i = 0; i < 20; ++i) {
    near += static_cast<double>(untargeted.distance[i]);
    far += static_cast<double>(l2.distance[i]);
  }
  MESSAGE("mean L2 distance ", near / 20, ", from targets ", far / 20);
  CHECK(near < far);
}

TEST_CASE("carlini-wagner: an image that is adversarial already takes one pass") {
  const LinearProblem problem(4);
  attack_checks::check_nothing_to_do(CarliniWagner(attack::l2(1.0)), problem);
  attack_checks::check_nothing_to_do(CarliniWagner(attack::l2(1.0), {.targeted = true}), problem);
  attack_checks::check_nothing_to_do(CarliniWagnerLinf(attack::linf(0.1)), problem);
  attack_checks::check_nothing_to_do(CarliniWagnerLinf(attack::linf(0.1), {.targeted = true}), problem);
}

TEST_CASE("carlini-wagner: only images within epsilon count, but the closest comes back all the same") {
  const LinearProblem problem(10);
  const attack::CarliniWagnerOptions options{.iterations = 100, .search_steps = 6};
  const auto all = attack::run(CarliniWagner(attack::l2(10.0), options), problem.model, problem.images, problem.labels);
  const auto some = attack::run(CarliniWagner(attack::l2(0.2), options), problem.model, problem.images, problem.labels);
  CHECK(all.distance == some.distance);
  std::int64_t within = 0;
  for (const float d : all.distance) {
    within += d <= 0.2f ? 1 : 0;
  }
  CHECK(within > 0);
  CHECK(within < problem.size());
  CHECK(some.robust_correct == problem.size() - within);
}

TEST_CASE("carlini-wagner: images whose logits become NaN leave the others alone") {
  attack_checks::check_undefined_images(CarliniWagner(attack::l2(2.0), {.iterations = 100, .search_steps = 6}));
  attack_checks::check_undefined_images(
      CarliniWagner(attack::l2(2.0), {.iterations = 100, .search_steps = 6, .targeted = true}));
  attack_checks::check_undefined_images(
      CarliniWagnerLinf(attack::linf(0.5), {.iterations = 100, .initial_constant = 0.01}));
}

TEST_CASE("carlini-wagner: the same bits for any batch, order, number of threads and instruction set") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  const CarliniWagner l2(attack::l2(0.3), {.iterations = 40, .search_steps = 4, .initial_constant = 0.05});
  attack_checks::check_independence(l2, model, images, labels);
  attack_checks::check_independence(CarliniWagnerLinf(attack::linf(0.05), {.iterations = 40, .initial_constant = 0.01}),
                                    model, images, labels);
  // Images really are given up at different times.
  const auto result = attack::run(l2, model, images, labels);
  const auto [least, most] = std::minmax_element(result.backward.begin(), result.backward.end());
  CHECK(*least < *most);
}

TEST_CASE("carlini-wagner: one step in tanh space, against scalar loops in double") {
  constexpr std::int64_t n = 23;
  for (const int lanes : {1, 16}) {
    for (const bool square : {true, false}) {
      const auto count = static_cast<std::size_t>(n * lanes);
      const double low = -0.5;
      const double high = 2.0;
      // w beyond where tanh w is 1 in float, too.
      pv::AlignedVector<float> w(count + 16), m(count + 16), v(count + 16), x(count + 16), g(count + 16), c(count + 16);
      const auto fill = [&](pv::AlignedVector<float>& to, std::uint32_t name, double from, double until) {
        const auto numbers = attack_checks::drawn<float>(n * lanes, name, from, until);
        std::copy(numbers.begin(), numbers.end(), to.begin());
      };
      fill(w, 1, -12.0, 12.0);
      fill(m, 2, -0.1, 0.1);
      fill(v, 3, 0.0, 0.01);
      fill(x, 4, low, high);
      fill(g, 5, -3.0, 3.0);
      fill(c, 6, low, high);
      g[3 * static_cast<std::size_t>(lanes)] = std::numeric_limits<float>::quiet_NaN();
      g[4 * static_cast<std::size_t>(lanes)] = std::numeric_limits<float>::infinity();
      alignas(64) std::array<float, 16> constant{}, rate{}, root{}, tau{}, distance{}, penalty{};
      for (std::size_t l = 0; l < 16; ++l) {
        constant[l] = 0.3f * static_cast<float>(l + 1);
        rate[l] = l == 5 ? 0.0f : 0.02f;
        root[l] = 1.5f;
        tau[l] = 0.1f * static_cast<float>(l);
      }
      std::vector<double> want_w(count), want_x(count), want_distance(16), want_penalty(16);
      for (std::size_t i = 0; i < count; ++i) {
        const std::size_t l = i % static_cast<std::size_t>(lanes);
        const double a = std::exp(-2 * std::abs(static_cast<double>(w[i])));
        const double slope = (high - low) * 2 * a / ((1 + a) * (1 + a));  // of (tanh w + 1) / 2
        const double d = static_cast<double>(x[i]) - static_cast<double>(c[i]);
        const double over = std::abs(d) - static_cast<double>(tau[l]);
        const double pull = square ? 2 * d : over > 0 ? std::copysign(1.0, d) : 0.0;
        double slide = slope * (pull - static_cast<double>(constant[l]) * static_cast<double>(g[i]));
        slide = std::isfinite(slide) ? slide : 0.0;
        const double m1 = 0.9 * static_cast<double>(m[i]) + 0.1 * slide;
        const double v1 = 0.999 * static_cast<double>(v[i]) + 0.001 * slide * slide;
        want_w[i] = static_cast<double>(w[i]) -
                    static_cast<double>(rate[l]) * m1 / (std::sqrt(v1) * static_cast<double>(root[l]) + 1e-8);
        want_x[i] = low + (high - low) * (std::tanh(want_w[i]) + 1) / 2;
        const double moved = std::abs(want_x[i] - static_cast<double>(c[i]));
        want_distance[l] = square ? want_distance[l] + moved * moved : std::max(want_distance[l], moved);
        want_penalty[l] += square ? moved * moved : std::max(0.0, moved - static_cast<double>(tau[l]));
      }
      pv::kernels::run_light([&](auto isa) {
        tanh_adam<float>(isa, square, w.data(), m.data(), v.data(), x.data(), g.data(), c.data(), n, lanes,
                         constant.data(), rate.data(), root.data(), tau.data(), static_cast<float>(low),
                         static_cast<float>(high), distance.data(), penalty.data());
      });
      for (std::size_t i = 0; i < count; ++i) {
        CHECK(static_cast<double>(w[i]) == doctest::Approx(want_w[i]).epsilon(1e-5));
        CHECK(static_cast<double>(x[i]) == doctest::Approx(want_x[i]).epsilon(1e-5));
      }
      for (std::size_t l = 0; l < static_cast<std::size_t>(lanes); ++l) {
        const double length = square ? std::sqrt(want_distance[l]) : want_distance[l];
        CHECK(static_cast<double>(distance[l]) == doctest::Approx(length).epsilon(1e-5));
        CHECK(static_cast<double>(penalty[l]) == doctest::Approx(want_penalty[l]).epsilon(1e-5));
      }
    }
  }
}

TEST_CASE("carlini-wagner: options out of range are refused by their value") {
  CHECK_THROWS_WITH_AS(CarliniWagner(attack::linf(0.1)),
                       "carlini-wagner: norm linf, expected l2 (carlini-wagner-linf attacks in linf)", pv::ValueError);
  CHECK_THROWS_WITH_AS(CarliniWagner(attack::l2(1.0), {.iterations = 0}),
                       "carlini-wagner: 0 iterations, expected 1 or more", pv::ValueError);
  CHECK_THROWS_WITH_AS(CarliniWagner(attack::l2(1.0), {.search_steps = -1}),
                       "carlini-wagner: -1 search steps, expected 1 or more", pv::ValueError);
  CHECK_THROWS_AS(CarliniWagner(attack::l2(1.0), {.learning_rate = 0.0}), pv::ValueError);
  CHECK_THROWS_AS(CarliniWagner(attack::l2(1.0), {.initial_constant = 0.0}), pv::ValueError);
  CHECK_THROWS_AS(CarliniWagner(attack::l2(1.0), {.confidence = -1.0}), pv::ValueError);
  CHECK_THROWS_AS(CarliniWagner(attack::l2(1.0), {.confidence = std::nan("")}), pv::ValueError);
  CHECK_THROWS_WITH_AS(CarliniWagnerLinf(attack::l2(1.0)),
                       "carlini-wagner-linf: norm l2, expected linf (carlini-wagner attacks in l2)", pv::ValueError);
  CHECK_THROWS_AS(CarliniWagnerLinf(attack::linf(0.1), {.iterations = 0}), pv::ValueError);
  CHECK_THROWS_AS(CarliniWagnerLinf(attack::linf(0.1), {.learning_rate = -1.0}), pv::ValueError);
  CHECK_THROWS_AS(CarliniWagnerLinf(attack::linf(0.1), {.initial_constant = 30.0}), pv::ValueError);
  CHECK_THROWS_WITH_AS(CarliniWagnerLinf(attack::linf(0.1), {.shrink = 1.0}),
                       "carlini-wagner-linf: shrink 1, expected more than 0, less than 1", pv::ValueError);
  CHECK_THROWS_AS(CarliniWagnerLinf(attack::linf(0.1), {.smallest_tau = 0.0}), pv::ValueError);
  CHECK_THROWS_AS(CarliniWagnerLinf(attack::linf(0.1), {.confidence = -0.5}), pv::ValueError);
}
