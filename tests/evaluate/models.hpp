// SPDX-License-Identifier: MIT
// What the tests of evaluations share: drawn digits, a model trained plainly and one trained adversarially on them
// (once for the program), and defences in front of a model that mask its gradients.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/bits_checks.hpp"
#include "pavise/attack/classifier.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/autodiff/elementwise.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/adversarial_training.hpp"
#include "pavise/evaluate/robustness.hpp"
#include "pavise/nn/models.hpp"

namespace evaluate_checks {

namespace pv = pavise;
namespace attack = pavise::attack;
namespace evaluate = pavise::evaluate;
using pavise_test::same_bits;

inline const pv::data::Split& digits() {
  static const auto split = pv::data::drawn_digits({.train = 6000, .test = 400, .seed = 5});
  return split;
}

inline const attack::Threat& threat() {
  static const attack::Threat t = attack::linf(0.1);
  return t;
}

inline const pv::nn::Model& plain_model() {
  static const pv::nn::Model model = [] {
    auto m = pv::nn::small_cnn({.seed = 1});
    pv::defend::AdversarialTraining{.epochs = 3}.fit(m, digits().train);
    return m;
  }();
  return model;
}

inline const pv::nn::Model& robust_model() {
  static const pv::nn::Model model = [] {
    auto m = pv::nn::small_cnn({.seed = 2});
    pv::defend::AdversarialTraining{.attack = attack::Pgd{threat(), {.steps = 5}}, .epochs = 4}.fit(m, digits().train);
    return m;
  }();
  return model;
}

/// A model behind a filter of its input or output.
using Function = std::function<pv::Var<float>(pv::Var<float>)>;

inline attack::Classifier behind(std::string name, const pv::nn::Model& model, Function input, Function output = {},
                                 pv::nn::Declaration declaration = {}) {
  auto logits = [&model, input = std::move(input), output = std::move(output)](pv::Var<float> x) {
    const auto z = model(input ? input(x) : x);
    return output ? output(z) : z;
  };
  return {std::move(name), model.input_shape(), model.classes(), std::move(logits), declaration};
}

/// Pixels rounded to `levels` steps, with the derivative that it has: zero.
inline pv::Var<float> quantise(pv::Var<float> x, float levels) {
  return pv::pointwise(
      "quantise", x,
      [levels](auto in, auto out) {
        for (std::size_t i = 0; i < in.size(); ++i) {
          out[i] = std::round(in[i] * levels) / levels;
        }
      },
      [](auto, auto, auto, auto) {});
}

/// The value of x, times `factor` backwards: 0 hides the gradient, -1 turns it round.
inline pv::Var<float> false_gradient(pv::Var<float> x, float factor) {
  return pv::pointwise(
      "false-gradient", x, [](auto in, auto out) { std::copy(in.begin(), in.end(), out.begin()); },
      [factor](auto, auto, auto dy, auto dx) {
        for (std::size_t i = 0; i < dx.size(); ++i) {
          dx[i] += factor * dy[i];
        }
      });
}

/// x with noise uniform in [-radius, radius) on every pixel, drawn anew in each pass.
inline pv::Var<float> add_noise(pv::Var<float> x, double radius) {
  const auto key = x.tape().key();
  const auto lanes = static_cast<std::size_t>(x.tape().lanes());
  return pv::pointwise(
      "noise", x,
      [=](auto in, auto out) {
        for (std::size_t lane = 0; lane < lanes; ++lane) {
          pv::RandomSequence random(
              {.seed = key.seed,
               .purpose = pv::Purpose::gaussian_noise,
               .image = key.images != nullptr ? key.images[lane] : static_cast<std::uint32_t>(lane),
               .iteration = key.iteration});
          for (std::size_t i = lane; i < in.size(); i += lanes) {
            out[i] = in[i] + static_cast<float>(random.uniform(-radius, radius));
          }
        }
      },
      [](auto, auto, auto dy, auto dx) {
        for (std::size_t i = 0; i < dx.size(); ++i) {
          dx[i] += dy[i];
        }
      });
}

inline pv::nn::Declaration declared_random() {
  pv::nn::Declaration d;
  d.random = true;
  return d;
}

inline const evaluate::Sign& sign(const std::vector<evaluate::Sign>& signs, std::string_view name) {
  for (const auto& s : signs) {
    if (s.name == name) {
      return s;
    }
  }
  throw pv::ValueError(pv::concat("no sign ", name));
}

/// Few steps, for many evaluations.
inline evaluate::Options few_steps() {
  evaluate::Options options;
  options.settings = {.steps = 20, .targets = 3, .queries = 200, .draws = 8};
  options.signs.steps = 20;
  return options;
}

/// Checks that two reports say the same of all images together, bit by bit, `seconds` apart.
inline void check_same_totals(const evaluate::Report& a, const evaluate::Report& b) {
  CHECK(a.clean_correct == b.clean_correct);
  CHECK(a.robust_correct == b.robust_correct);
  CHECK(a.forward_passes == b.forward_passes);
  CHECK(a.backward_passes == b.backward_passes);
  CHECK(a.verdict == b.verdict);
  CHECK(a.reason == b.reason);
  CHECK(a.notes == b.notes);
  REQUIRE(a.attacks.size() == b.attacks.size());
  for (std::size_t i = 0; i < a.attacks.size(); ++i) {
    const auto numbers = [](const evaluate::AttackRow& r) {
      return std::vector<std::int64_t>{r.tried, r.broken, r.first, r.standing, r.forward, r.backward};
    };
    CHECK_MESSAGE(numbers(a.attacks[i]) == numbers(b.attacks[i]), "attack ", a.attacks[i].name);
  }
  REQUIRE(a.signs.size() == b.signs.size());
  for (std::size_t i = 0; i < a.signs.size(); ++i) {
    const auto numbers = [](const evaluate::Sign& s) {
      return std::vector<double>{s.value, s.interval.low, s.interval.high, s.threshold, static_cast<double>(s.images)};
    };
    CHECK_MESSAGE(same_bits(numbers(a.signs[i]), numbers(b.signs[i])), "sign ", a.signs[i].name);
    CHECK(a.signs[i].state == b.signs[i].state);
    CHECK(a.signs[i].sentence == b.signs[i].sentence);
  }
  REQUIRE(a.curve.size() == b.curve.size());
  for (std::size_t i = 0; i < a.curve.size(); ++i) {
    const auto numbers = [](const evaluate::CurvePoint& p) {
      return std::vector<double>{p.epsilon, static_cast<double>(p.correct), static_cast<double>(p.total), p.loss};
    };
    CHECK_MESSAGE(same_bits(numbers(a.curve[i]), numbers(b.curve[i])), "radius ", a.curve[i].epsilon);
  }
  CHECK(a.checks.size() == b.checks.size());
}

/// Checks that image i of one report fares as image j of another.
inline void check_same_image(const evaluate::Report& a, std::int64_t i, const evaluate::Report& b, std::int64_t j) {
  const auto& x = a.images[static_cast<std::size_t>(i)];
  const auto& y = b.images[static_cast<std::size_t>(j)];
  const auto whole = [](const evaluate::ImageResult& r) {
    return std::vector<std::int64_t>{r.label,   r.clean_prediction, r.broken_by, r.prediction,
                                     r.attempt, r.forward,          r.backward};
  };
  const auto floats = [](const evaluate::ImageResult& r) {
    return std::vector<float>{r.clean_confidence, r.confidence, r.distance};
  };
  bool outcomes = true;
  for (std::size_t k = 0; k < a.attacks.size(); ++k) {
    outcomes = outcomes && a.outcome(k, static_cast<std::size_t>(i)) == b.outcome(k, static_cast<std::size_t>(j));
  }
  CHECK_MESSAGE((whole(x) == whole(y) && same_bits(floats(x), floats(y)) && outcomes &&
                 same_bits(a.adversarial.row(i), b.adversarial.row(j))),
                "image ", i, " and ", j);
}

/// Both, for reports on the same images in the same order.
inline void check_same(const evaluate::Report& a, const evaluate::Report& b) {
  check_same_totals(a, b);
  REQUIRE(a.images.size() == b.images.size());
  for (std::int64_t i = 0; i < static_cast<std::int64_t>(a.images.size()); ++i) {
    check_same_image(a, i, b, i);
  }
}

}  // namespace evaluate_checks
