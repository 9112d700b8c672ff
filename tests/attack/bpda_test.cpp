// SPDX-License-Identifier: MIT
// BPDA, and expectation over the draws of a random classifier, around attacks that know of neither.
#include "pavise/attack/bpda.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "attack/attack_checks.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/smoothed.hpp"
#include "pavise/attack/square.hpp"
#include "pavise/autodiff/elementwise.hpp"

using namespace attack_checks;
using attack::Bpda;
using attack::Square;

namespace {

/// Eight levels; the derivative is 0.
template <class T>
pv::Var<T> quantise(pv::Var<T> x) {
  return pv::pointwise(
      "quantise", x,
      [](std::span<const T> in, std::span<T> out) {
        for (std::size_t i = 0; i < in.size(); ++i) {
          out[i] = std::round(in[i] * T{7}) / T{7};
        }
      },
      [](auto, auto, auto, auto) {});
}

/// The network of small_network(4, {1,8,8}, 2) behind a filter of its input, or without one.
pv::nn::Model filtered(std::unique_ptr<pv::nn::Layer<float>> filter) {
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  if (filter) {
    net->add("filter", std::move(filter));
  }
  net->add<pv::nn::Linear>("fc1", 64, 40);
  net->add<pv::nn::ReLU>("relu");
  net->add<pv::nn::Linear>("fc2", 40, 4);
  return {"filtered", std::move(net), {1, 8, 8}, 2};
}

/// A quantiser as it is: no gradient passes it, and it does not say so.
class Quantiser : public pv::nn::Layer<float> {
 public:
  pv::Shape build(const pv::Shape& in, pv::ParameterStore<float>&, const std::string&) override { return in; }
  pv::Var<float> forward(pv::Var<float> x, bool) override { return quantise(x); }
  pv::nn::Spec spec() const override { return {.name = "", .type = "quantiser", .options = {}, .children = {}}; }
};

}  // namespace

TEST_CASE_TEMPLATE("bpda: the value of the one, the derivative of the other", T, float, double) {
  for (const int lanes : {16, 1}) {
    pv::Tape<T> tape;
    tape.begin(lanes == 1 ? 1 : 20, lanes);
    pv::Var<T> x = tape.input({3}, true);
    const std::int64_t n = 3 * lanes;
    for (std::int64_t g = 0; g < tape.groups(); ++g) {
      for (std::int64_t i = 0; i < n; ++i) {
        x.data(g)[i] = static_cast<T>(0.01 * static_cast<double>(i + n * g) - 0.2);
      }
    }
    const auto steps = quantise(x);
    const auto y = attack::with_gradient_of(steps, pv::tanh(x));
    CHECK(std::equal(y.data(), y.data() + tape.groups() * n, steps.data()));
    const auto both = y + x;  // the derivative adds up with others
    tape.backward(both);
    for (std::int64_t g = 0; g < tape.groups(); ++g) {
      for (std::int64_t i = 0; i < n; ++i) {
        if (g * lanes + i % lanes < tape.images()) {
          const auto v = static_cast<double>(x.data(g)[i]);
          CHECK(std::abs(static_cast<double>(tape.input_gradient(x, g)[i]) - (2 - std::tanh(v) * std::tanh(v))) < 1e-6);
        }
      }
    }
  }
}

TEST_CASE("bpda: a quantiser, against which gradients are of no use, falls to PGD") {
  const attack::Pgd pgd(attack::linf(0.15), {.steps = 20, .random_start = false});
  const auto images = drawn_images(60, {1, 8, 8}, 6);
  const auto plain = filtered(nullptr);
  const auto masked = filtered(std::make_unique<Quantiser>());
  const auto labels = predictions(masked, images);
  const auto without = attack::run(pgd, plain, images, predictions(plain, images));
  CHECK(attack::run(pgd, masked, images, labels).robust_correct == 60);
  for (const bool smooth : {false, true}) {
    const Bpda<float>::Function substitute =
        smooth ? [](pv::Var<float> x) { return x + 0.02f * pv::tanh(x); } : Bpda<float>::Function{};
    const auto layer = filtered(std::make_unique<Bpda<float>>("quantiser", quantise<float>, substitute));
    CHECK(predictions(layer, images) == labels);
    const auto result = attack::run(pgd, layer, images, labels);
    MESSAGE("stand without a filter ", without.robust_correct, ", with BPDA ", result.robust_correct);
    CHECK(without.robust_correct < 30);
    CHECK(result.robust_correct <= without.robust_correct + 6);
    CHECK(!attack::Classifier(layer).declaration().differentiable);
    // The same around a classifier: the same bits.
    const auto wrapped = attack::bpda(plain, "quantised", quantise<float>, substitute);
    const auto same = attack::run(pgd, wrapped, images, labels);
    CHECK(std::equal(same.adversarial.begin(), same.adversarial.end(), result.adversarial.begin()));
    CHECK(!wrapped.declaration().differentiable);
    check_independence(attack::Pgd(attack::linf(0.05), {.steps = 3}), layer, images, labels);
  }
}

TEST_CASE("bpda: what does not fit is refused") {
  auto model = small_network();
  CHECK_THROWS_WITH_AS(Bpda<float>("bits", {}), "bpda bits: no function, expected one on the tape", pv::ValueError);
  const auto half = [](pv::Var<float> x) {
    return pv::custom(
        "half", x, pv::Shape{2}, [](auto, std::span<float> y) { std::fill(y.begin(), y.end(), 0.0f); },
        [](auto, auto, auto, auto) {});
  };
  CHECK_THROWS_AS(filtered(std::make_unique<Bpda<float>>("half", half)), pv::ShapeError);
  pv::Tape<float> tape;
  tape.begin(1);
  CHECK_THROWS_WITH_AS(attack::with_gradient_of(tape.input({3}), tape.input({4})),
                       "bpda: the function gives (3), its substitute (4), expected equal shapes", pv::ShapeError);
  pv::Parameter<float>& weight = model.parameters()["fc1.weight"];
  CHECK_THROWS_AS(attack::with_gradient_of(tape.parameter(weight), tape.input(weight.shape())), pv::ShapeError);
}

TEST_CASE("expectation over transformations: any attack on a random classifier, by its draws") {
  const auto model = small_network(4, {1, 8, 8}, 5);
  const auto images = drawn_images(40, {1, 8, 8}, 6);
  const auto labels = predictions(model, images);
  const attack::Pgd pgd(attack::l2(1.5), {.steps = 8});
  const Square square(attack::l2(1.5), {.queries = 60});
  const auto check = [&](const attack::Attack& attack, double sigma) {
    const auto noisy = attack::smoothed(model, sigma, {.repeated = false}).with_mean(attack::Mean::loss);
    const auto run = [&](std::int64_t draws, std::uint64_t seed) {
      return attack::run(attack, noisy.with_draws(draws), images, labels, {.seed = seed, .judging_draws = 300});
    };
    const auto one = run(1, 0);
    const auto many = run(40, 0);
    MESSAGE(attack.name(), ": stand with 1 draw ", one.robust_correct, ", with 40 ", many.robust_correct, " of ",
            one.clean_correct);
    CHECK(many.robust_correct < one.robust_correct - 3);
    const auto again = run(40, 0);
    CHECK(std::equal(many.adversarial.begin(), many.adversarial.end(), again.adversarial.begin()));
    CHECK(many.success == again.success);
    CHECK(many.forward == again.forward);
    const auto other = run(40, 1);
    CHECK(!std::equal(many.adversarial.begin(), many.adversarial.end(), other.adversarial.begin()));
    check_independence(attack, noisy.with_draws(2), images, labels, {.judging_draws = 10});
  };
  check(pgd, 1.0);
  check(square, 0.3);
}
