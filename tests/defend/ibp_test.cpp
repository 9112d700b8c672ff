// SPDX-License-Identifier: MIT
// Training of bounds: losses against certified bounds and central differences, and what it is worth.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "autodiff/check.hpp"
#include "certify/networks.hpp"
#include "defend/small.hpp"
#include "pavise/certify/propagation/propagation.hpp"
#include "pavise/defend/presets.hpp"
#include "pavise/defend/trainer.hpp"
#include "pavise/nn/models.hpp"

namespace {

namespace pv = pavise;
namespace defend = pavise::defend;
namespace pc = pavise::certify;

/// Convolutions, normalisation and fully connected layers; a maximum too where asked for.
pv::nn::Model conv_net(bool pool) {
  auto n = pavise_test::net();
  n->add<pv::nn::Normalize>("norm", std::vector<double>{0.4}, std::vector<double>{0.5});
  n->add<pv::nn::Conv2d>("conv1", 1, 3, 4, pv::ConvOptions{.stride = 2, .padding = 1}).add<pv::nn::ReLU>("relu1");
  if (pool) {
    n->add<pv::nn::MaxPool2d>("pool", pv::PoolOptions{.kernel = 2, .stride = 1});
  }
  n->add<pv::nn::Conv2d>("conv2", 3, 4, 2, pv::ConvOptions{}, false).add<pv::nn::ReLU>("relu2");
  n->add<pv::nn::Flatten>("flatten").add<pv::nn::Linear>("fc1", pool ? 16 : 36, 6).add<pv::nn::ReLU>("relu3");
  n->add<pv::nn::Linear>("fc2", 6, 3);
  return {"conv", std::move(n), pv::Shape{1, 8, 8}, 4};
}

/// Margins, or the loss of training, of 18 drawn images at radius 0.05 by the network on the tape.
template <class T>
struct Pass {
  pv::Tape<T> tape;
  defend::IntervalNetwork<T> network;
  std::vector<std::int32_t> labels;
  pv::Var<T> margins, loss;

  Pass(const pv::nn::BasicModel<T>& model, bool crown) : network("test", model, crown) {
    constexpr std::int64_t kImages = 18;
    tape.begin(kImages, 16, pv::Mode::training, true);
    tape.set_key({.seed = 1, .iteration = 0, .images = nullptr});
    pv::Var<T> x = tape.input(model.input_shape());
    defend::Interval<T> ball{tape.input(x.shape()), tape.input(x.shape())};
    for (std::int64_t i = 0; i < 32; ++i) {
      labels.push_back(static_cast<std::int32_t>(i % 3));
      const auto image = pavise_test::random_image(x.shape(), static_cast<std::uint32_t>(i));
      for (std::int64_t e = 0; e < x.size(); ++e) {
        const T v = image[static_cast<std::size_t>(e)];
        x.data(i / 16)[e * 16 + i % 16] = v;
        ball.low.data(i / 16)[e * 16 + i % 16] = std::max(T(0), v - T(0.05));
        ball.high.data(i / 16)[e * 16 + i % 16] = std::min(T(1), v + T(0.05));
      }
    }
    const auto trace = network.propagate(ball);
    margins = network.margins(trace, labels.data());
    if (crown) {
      margins = network.crown_margins(trace, network.differences(tape, labels.data())) * T(0.75) + margins * T(0.25);
    }
    loss = defend::verified_loss(model(x), margins, labels.data(), T(0.6));
  }
  double sum() const {
    double out = 0;
    for (std::int64_t i = 0; i < 18; ++i) {
      out += static_cast<double>(loss.data()[i]);
    }
    return out;
  }
};

TEST_CASE("absolute weights: values, gradients, and weights that were edited") {
  pv::ParameterStore<double> store;
  auto& weight = store.add("weight", pv::Shape{3, 2, 2, 2}, [](std::span<double> v, std::uint32_t, std::uint64_t) {
    for (std::size_t i = 0; i < v.size(); ++i) {
      v[i] = std::sin(3.0 * static_cast<double>(i) + 1);
    }
  });
  store.allocate(0);
  pv::AbsoluteWeights<double> absolute;
  pv::Tape<double> tape;
  const auto value = [&](bool backward) {
    tape.begin(3, 16, pv::Mode::training, true);
    auto x = tape.input(pv::Shape{2, 4, 4});
    for (std::int64_t i = 0; i < x.size() * 16; ++i) {
      x.data()[i] = std::cos(static_cast<double>(i));
    }
    // |w| twice, and w itself.
    const auto first = conv2d(x, absolute(tape, weight), {}, {});
    const auto second = conv2d(x, absolute(tape, weight), {}, {.stride = 2});
    const auto y = sum(square(first)) + sum(second) + sum(conv2d(x, tape.parameter(weight), {}, {}));
    if (backward) {
      tape.backward(y);
    }
    return y.data()[0] + y.data()[1] + y.data()[2];
  };
  store.zero_gradients();
  value(true);
  const std::vector<double> gradient(weight.gradient().begin(), weight.gradient().end());
  value(true);  // adds up, as parameters' do
  for (std::size_t i = 0; i < gradient.size(); ++i) {
    CHECK(weight.gradient()[i] == doctest::Approx(2 * gradient[i]).epsilon(1e-12));
    const double before = weight.value()[i];
    weight.edit()[i] = before + 1e-6;
    const double more = value(false);
    weight.edit()[i] = before - 1e-6;
    const double less = value(false);
    weight.edit()[i] = before;
    CHECK(gradient[i] == doctest::Approx((more - less) / 2e-6).epsilon(1e-6));
  }
}

TEST_CASE("ibp and crown-ibp: gradients of the losses against central differences") {
  for (const auto& kind : {std::pair{false, false}, {false, true}, {true, false}}) {
    const bool crown = kind.first;
    const bool pool = kind.second;
    CAPTURE(crown);
    CAPTURE(pool);
    auto model = pv::nn::clone<double>(conv_net(pool));
    model.parameters().zero_gradients();
    {
      Pass<double> pass(model, crown);
      pass.tape.backward(pass.loss);
    }
    std::int64_t zeros = 0;
    std::int64_t checked = 0;
    for (auto& p : model.parameters().parameters()) {
      for (std::size_t i = 0; p.trainable() && i < static_cast<std::size_t>(p.size()); i += 3) {
        CAPTURE(p.name());
        const double before = p.value()[i];
        constexpr double kStep = 1e-6;
        p.edit()[i] = before + kStep;
        const double more = Pass<double>(model, crown).sum();
        p.edit()[i] = before - kStep;
        const double less = Pass<double>(model, crown).sum();
        p.edit()[i] = before;
        CHECK(std::abs(p.gradient()[i] - (more - less) / (2 * kStep)) < 2e-7 * (1 + std::abs(p.gradient()[i])));
        zeros += p.gradient()[i] == 0 ? 1 : 0;
        ++checked;
      }
    }
    CHECK(checked > 60);
    CHECK(zeros < checked / 4);
  }
}

TEST_CASE("ibp: the margins on the tape are those that are certified, but for rounding") {
  const auto model = conv_net(true);
  const Pass<float> pass(model, false);
  const pc::Network network(model);
  for (std::int64_t i = 0; i < 18; ++i) {
    const auto image = pavise_test::random_image(model.input_shape(), static_cast<std::uint32_t>(i));
    const std::int32_t label = pass.labels[static_cast<std::size_t>(i)];
    const auto certified =
        pc::ImageBounds(network, image.data(), pv::attack::linf(0.05), pc::Propagation::ibp).margins(label);
    for (std::int64_t j = 0; j < 3; ++j) {
      const double trained = static_cast<double>(pass.margins.data(i / 16)[j * 16 + i % 16]);
      CHECK(trained == doctest::Approx(certified[static_cast<std::size_t>(j)]).epsilon(1e-4));
    }
  }
}

TEST_CASE("crown-ibp: margins of linear bounds hold, and are 0 at the label") {
  const auto model = conv_net(false);
  Pass<float> pass(model, true);
  for (std::int64_t i = 0; i < 18; ++i) {
    const auto image = pavise_test::random_image(model.input_shape(), static_cast<std::uint32_t>(i));
    const auto label = static_cast<std::size_t>(pass.labels[static_cast<std::size_t>(i)]);
    CHECK(pass.margins.data(i / 16)[static_cast<std::int64_t>(label) * 16 + i % 16] == 0);
    const auto z = pavise_test::logits_of(
        model, pavise_test::points(image, pv::attack::linf(0.05), static_cast<std::uint32_t>(i)));
    for (std::size_t j = 0; j < 3; ++j) {
      for (std::size_t lane = 0; lane < 16; ++lane) {
        CHECK(z[label * 16 + lane] - z[j * 16 + lane] >
              pass.margins.data(i / 16)[static_cast<std::int64_t>(j) * 16 + i % 16] - 1e-5f);
      }
    }
  }
}

TEST_CASE("ibp and crown-ibp: what they cannot train is refused, with the layer's name") {
  const auto message = [](const char* name, const pv::nn::Model& model, const pv::attack::Threat& threat) {
    try {
      defend::make_defense(name, threat).strategy->begin(model, 1);
    } catch (const pv::ValueError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  const auto threat = pv::attack::linf(0.1);
  CHECK(message("ibp", small::network(true), threat).find("ibp: layer bn (batch_norm2d)") == 0);
  CHECK(message("ibp", pv::nn::resnet18(), threat).find("ibp: layer bn1 (batch_norm2d)") == 0);
  CHECK(message("ibp", pv::nn::lenet(), threat).empty());
  CHECK(message("crown-ibp", pv::nn::lenet(), threat).find("crown-ibp: layer pool1 (max_pool2d)") == 0);
  CHECK(message("crown-ibp", pv::nn::small_cnn(), threat).empty());
  CHECK(message("ibp", small::network(), pv::attack::l2(0.1)) == "ibp: the norm is l2, expected linf");
  CHECK_THROWS_AS(defend::Ibp(threat, {.kappa = 2}), pv::ValueError);
  CHECK_THROWS_AS(defend::Ibp(threat, {.warm_up = 0.7, .ramp = 0.5}), pv::ValueError);
}

TEST_CASE("ibp: a warm-up over the whole run is plain training, and no other part of it") {
  const auto train = small::images(100);
  const auto trained = [&](std::shared_ptr<defend::Strategy> strategy) {
    auto model = small::network();
    const auto history = defend::Trainer(std::move(strategy), {.epochs = 2, .batch_size = 25}).fit(model, train);
    return std::pair{small::state(model), history.epochs.back().adversarial.total};
  };
  const auto plain = trained(std::make_shared<defend::Standard>());
  const auto warm =
      trained(std::make_shared<defend::Ibp>(small::threat(), defend::IbpOptions{.warm_up = 1, .ramp = 0}));
  const auto half =
      trained(std::make_shared<defend::Ibp>(small::threat(), defend::IbpOptions{.warm_up = 0.5, .ramp = 0.5}));
  CHECK(small::same_bits(warm.first, plain.first));
  CHECK(warm.second == 0);
  CHECK_FALSE(small::same_bits(half.first, plain.first));
  CHECK(half.second == 75);  // of the second epoch's four updates all but the first, whose radius is 0
}

struct Score {
  std::int64_t clean = 0, ibp = 0, crown = 0, pgd = 0;
};

/// Right answers: clean, certified, under PGD.
Score score(const pv::nn::Model& model, const pv::data::Dataset& set) {
  Score s;
  const pc::Network network(model);
  const pv::attack::Pgd pgd(small::threat(), {.steps = 30});
  s.pgd = defend::accuracy(model, set, &pgd).correct;
  std::vector<std::int64_t> certified;
  for (const auto method : {pc::Propagation::ibp, pc::Propagation::crown}) {
    std::int64_t& verified = method == pc::Propagation::ibp ? s.ibp : s.crown;
    s.clean = 0;
    pc::verify_images(network, set, {method, small::threat(), 0}, [&](std::int64_t i, const pc::PropagationResult& r) {
      const bool right = r.chosen == set.label(i);
      s.clean += right ? 1 : 0;
      verified += right && r.verified ? 1 : 0;
      if (right && r.verified && method == pc::Propagation::crown) {
        certified.push_back(i);
      }
    });
  }
  // No certified image falls to the attack.
  const auto sure = set.subset(certified);
  if (sure.size() > 0) {
    CHECK(defend::accuracy(model, sure, &pgd).correct == sure.size());
  }
  CHECK(s.ibp <= s.crown);
  CHECK(s.crown <= s.pgd);
  CHECK(s.pgd <= s.clean);
  return s;
}

TEST_CASE("ibp and crown-ibp verify what plain training does not") {
  const auto train = small::images(600);
  const auto test = small::images(200, 2);
  const auto trained = [&](const char* name, int threads) {
    const small::Threads scope(threads);
    auto model = small::network();
    defend::Trainer(defend::make_defense(name, small::threat()).strategy,
                    {.epochs = 8, .batch_size = 50, .learning_rate = 0.02})
        .fit(model, train);
    return model;
  };
  const auto plain = score(trained("none", 2), test);
  CHECK(plain.clean == 200);
  CHECK(plain.crown < 100);
  for (const auto* name : {"ibp", "crown-ibp"}) {
    CAPTURE(std::string(name));
    const auto model = trained(name, 3);
    const auto s = score(model, test);
    CHECK(s.clean >= 195);
    CHECK(s.ibp >= 160);
    CHECK(small::same_bits(small::state(model), small::state(trained(name, 1))));
  }
}

}  // namespace
