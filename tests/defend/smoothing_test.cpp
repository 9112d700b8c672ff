// SPDX-License-Identifier: MIT
// Training for smoothing: the losses against scalar formulas, SmoothAdv's adversary against the closed form of a linear
// model, and what the trainings do to certified radii.
#include <doctest/doctest.h>

#include <boost/math/distributions/normal.hpp>
#include <cmath>
#include <memory>
#include <vector>

#include "autodiff/check.hpp"
#include "certify/small.hpp"
#include "defend/small.hpp"
#include "pavise/certify/smoothing.hpp"
#include "pavise/defend/presets.hpp"
#include "pavise/defend/trainer.hpp"

namespace pv = pavise;
namespace defend = pavise::defend;

namespace {

using Images = std::vector<std::vector<double>>;

/// Mean of softmax(beta z) over the draws.
std::vector<double> mean_softmax(const Images& draws, double beta = 1) {
  std::vector<double> mean(draws.front().size());
  for (const auto& z : draws) {
    const auto p = small::softmax(z, beta);
    for (std::size_t k = 0; k < p.size(); ++k) {
      mean[k] += p[k] / static_cast<double>(draws.size());
    }
  }
  return mean;
}

double quantile(double p) { return boost::math::quantile(boost::math::normal(), p); }

template <class F, class R>
void check_loss(const F& f, const R& reference, std::size_t inputs) {
  const std::vector<pv::Shape> shapes(inputs, pv::Shape{4});
  check::forward_check<double>(f, shapes, reference, 1e-11);
  check::forward_check<float>(f, shapes, reference, 1e-4);
  check::gradient_check(f, shapes);
}

TEST_CASE("normal quantile: against Boost") {
  for (const double p : {1e-300, 1e-20, 1e-6, 0.02, 0.3, 0.5, 0.500001, 0.77, 0.999, 1 - 1e-9}) {
    CAPTURE(p);
    CHECK(defend::detail::normal_quantile(p) == doctest::Approx(quantile(p)).epsilon(1e-12));
  }
  CHECK(std::isinf(defend::detail::normal_quantile(1)));
  CHECK(std::isinf(defend::detail::normal_quantile(0)));
}

TEST_CASE("mean probability: loss and gradient") {
  check_loss(
      [](auto& x, std::int64_t first) {
        using V = std::remove_reference_t<decltype(x[0])>;
        return defend::mean_probability_loss(std::span<const std::remove_const_t<V>>(x),
                                             small::labels_from(first, 4).data());
      },
      [](Images& x, std::int64_t n) {
        return std::vector{-std::log(mean_softmax(x)[static_cast<std::size_t>(small::labels_from(n, 4)[0])])};
      },
      3);
}

TEST_CASE("consistency: loss and gradient") {
  check_loss(
      [](auto& x, std::int64_t first) {
        using V = std::remove_reference_t<decltype(x[0])>;
        return defend::consistency_loss(std::span<const std::remove_const_t<V>>(x), small::labels_from(first, 4).data(),
                                        5, 0.5);
      },
      [](Images& x, std::int64_t n) {
        const auto p = mean_softmax(x);
        double loss = 0;
        for (const auto& z : x) {
          const auto q = small::softmax(z);
          loss -= std::log(q[static_cast<std::size_t>(small::labels_from(n, 4)[0])]) / 3;
          for (std::size_t k = 0; k < p.size(); ++k) {
            loss += 5 * p[k] * std::log(p[k] / q[k]) / 3;
          }
        }
        for (const double v : p) {
          loss -= 0.5 * v * std::log(v);
        }
        return std::vector{loss};
      },
      3);
}

TEST_CASE("stability: loss and gradient") {
  check_loss(
      [](auto& x, std::int64_t first) {
        return defend::stability_loss(x[0], x[1], small::labels_from(first, 4).data(), 2);
      },
      [](Images& x, std::int64_t n) {
        const auto p = small::softmax(x[0]);
        const auto q = small::softmax(x[1]);
        double loss = -std::log(p[static_cast<std::size_t>(small::labels_from(n, 4)[0])]);
        for (std::size_t k = 0; k < p.size(); ++k) {
          loss -= 2 * p[k] * std::log(q[k]);
        }
        return std::vector{loss};
      },
      2);
}

TEST_CASE("macer: loss and gradient, where the label wins and where it does not") {
  int won = 0;
  int lost = 0;
  check_loss(
      [](auto& x, std::int64_t first) {
        using V = std::remove_reference_t<decltype(x[0])>;
        return defend::macer_loss(std::span<const std::remove_const_t<V>>(x), small::labels_from(first, 4).data(), 0.25,
                                  12, 3, 1.5);
      },
      [&](Images& x, std::int64_t n) {
        const auto y = static_cast<std::size_t>(small::labels_from(n, 4)[0]);
        const auto p = mean_softmax(x, 1.5);
        double second = 0;
        for (std::size_t k = 0; k < p.size(); ++k) {
          second = k == y ? second : std::max(second, p[k]);
        }
        const double radius = quantile(p[y]) - quantile(second);
        ++(radius > 0 ? won : lost);
        const double hinge = radius > 0 ? std::max(0.0, 3 - radius) : 0;
        return std::vector{-std::log(mean_softmax(x)[y]) + 12 * 0.25 / 2 * hinge};
      },
      3);
  CHECK(won > 3);
  CHECK(lost > 3);
}

TEST_CASE("macer: no radius where a probability is 0 or the radius suffices") {
  pv::Tape<float> tape;
  tape.begin(3);
  auto p = tape.input(pv::Shape{2}, true);
  for (int lane = 0; lane < 16; ++lane) {
    const float first[] = {1.0f, 0.9f, 0.6f};
    p.data()[lane] = first[std::min(lane, 2)];
    p.data()[16 + lane] = 1 - p.data()[lane];
  }
  const std::vector<std::int32_t> labels(16, 0);
  const auto y = defend::radius_hinge(p, labels.data(), 2);
  CHECK(y.data()[0] == 0);
  CHECK(y.data()[1] == 0);  // 2 * 1.28 > 2
  CHECK(y.data()[2] == doctest::Approx(2 - 2 * quantile(0.6)).epsilon(1e-5));
  tape.backward(y);
  const float* g = tape.input_gradient(p);
  CHECK(g[0] == 0);
  CHECK(g[1] == 0);
  CHECK(g[2] < 0);
  CHECK(g[18] == -g[2]);
}

/// 16 pixels in the middle of the box, logits w x.
pv::nn::Model linear_smoothed() {
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  net->add<pv::nn::Linear>("fc", small::kPixels, 2);
  return {"linear", std::move(net), pv::Shape{1, 1, small::kPixels}, 3};
}

TEST_CASE("smoothadv: the adversary reaches the exact optimum of a linear model, in the ball") {
  const auto model = linear_smoothed();
  const auto set = small::images(20);
  std::vector<std::int64_t> positions;
  for (std::int64_t i = 0; i < 20; ++i) {
    positions.push_back(i);
  }
  pv::LaneBatch<float> clean;
  defend::pack_batch(set, positions, {}, clean);
  pv::AlignedVector<float> x(static_cast<std::size_t>(clean.groups() * clean.size() * 16) + 16);
  const defend::SmoothedPgd attack(pv::attack::l2(0.3), {.sigma = 0.25, .draws = 3}, 4);
  pv::attack::Passes passes;
  attack.perturb(model, clean, x.data(), {.seed = 4}, passes);
  CHECK(passes.forward == 20 * 3 * 4);
  const auto& w = model.parameters()["fc.weight"].value();
  std::vector<double> direction;
  double size = 0;
  for (std::size_t e = 0; e < 16; ++e) {
    direction.push_back(static_cast<double>(w[e + 16]) - static_cast<double>(w[e]));  // towards class 1
    size += direction.back() * direction.back();
  }
  for (std::size_t i = 0; i < 20; ++i) {
    const double sign = clean.labels()[i] == 0 ? 1 : -1;
    for (std::size_t e = 0; e < 16; ++e) {
      const std::size_t at = (i / 16 * 16 + e) * 16 + i % 16;
      const double expected = static_cast<double>(clean.values()[at]) + sign * 0.3 * direction[e] / std::sqrt(size);
      CHECK(static_cast<double>(x[at]) == doctest::Approx(expected).epsilon(1e-4));
    }
  }
}

TEST_CASE("smoothadv: the adversary's noise is that of the pass it is made for") {
  const auto model = linear_smoothed();
  const defend::NoiseOptions noise{.sigma = 0.5, .draws = 2};
  const auto logits = [&](std::int64_t images, pv::Mode mode, std::uint32_t iteration) {
    std::vector<float> values(static_cast<std::size_t>((images + 15) / 16 * 16 * 16) + 16, 0.5f);
    pv::Tape<float> tape;
    tape.begin(images, 16, mode, mode == pv::Mode::training);
    tape.set_key({.seed = 9, .iteration = iteration, .images = nullptr});
    const auto z = defend::detail::noisy_logits(model, tape.view(model.input_shape(), values.data()), noise);
    return std::vector{z[0].data()[3], z[1].data()[3]};
  };
  const auto alone = logits(16, pv::Mode::evaluation, 7);
  CHECK(small::same_bits(alone, logits(40, pv::Mode::training, 7)));
  CHECK(alone[0] != alone[1]);
  CHECK(alone[0] != logits(16, pv::Mode::evaluation, 8)[0]);
}

TEST_CASE("training for smoothing: certified radii grow over those of plain training") {
  const auto train = small::images(400);
  const auto test = small::images(40, 2);
  const double sigma = 0.1;
  const auto radius = [&](const char* name) {
    const auto defense = defend::make_defense(name, pv::attack::l2(0.1),
                                              {.steps = 3, .gaussian_sigma = sigma, .draws = 4, .warmup_epochs = 2});
    auto model = small::network();
    defend::Trainer(defense.strategy, {.epochs = 40,
                                       .batch_size = 50,
                                       .learning_rate = 0.01,
                                       .gaussian_sigma = name == std::string("none") ? 0 : defense.gaussian_sigma})
        .fit(model, train);
    double sum = 0;
    const auto results = pv::certify::certify(
        model, test,
        {.noise = {pv::certify::NoiseKind::gaussian, sigma}, .method = pv::certify::Method::fixed, .n = 2000});
    for (std::size_t i = 0; i < results.size(); ++i) {
      sum += results[i].chosen == test.label(static_cast<std::int64_t>(i)) ? results[i].radius : 0;
    }
    return sum / 40;
  };
  const double plain = radius("none");
  for (const auto name : {"gaussian", "stability", "macer", "consistency", "smoothadv"}) {
    CAPTURE(std::string(name));
    const double mine = radius(name);
    CHECK(mine > plain + 0.003);
    CHECK(mine < 0.215);  // half the distance of the classes
  }
}

TEST_CASE("training for smoothing: what cannot be is refused") {
  const auto make = [](const char* name, defend::DefenseOptions o, pv::attack::Threat threat = pv::attack::l2(0.5)) {
    return defend::make_defense(name, threat, o);
  };
  CHECK_THROWS_WITH_AS(make("smoothadv", {}, pv::attack::linf(0.1)),
                       "smoothadv: a ball of linf, expected l2, in which Gaussian noise certifies", pv::ValueError);
  CHECK_THROWS_AS(make("macer", {.draws = 5000}), pv::ValueError);
  CHECK_THROWS_AS(defend::Consistency({.noise = {.sigma = -1}}), pv::ValueError);
  CHECK_THROWS_AS(defend::Consistency({.lambda = NAN}), pv::ValueError);
  CHECK(make("consistency", {.gaussian_sigma = 0.5}).strategy->recipe()[3].second == "5");
}

}  // namespace
