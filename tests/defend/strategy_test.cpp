// SPDX-License-Identifier: MIT
// The strategies beside plain adversarial training: losses against scalar formulas, gradients against differences,
// training.
#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "autodiff/check.hpp"
#include "defend/small.hpp"
#include "pavise/defend/defend.hpp"

namespace pv = pavise;
namespace defend = pavise::defend;

namespace {

using Images = std::vector<std::vector<double>>;

double divergence(const std::vector<double>& p, const std::vector<double>& q) {
  double sum = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    sum += p[i] * std::log(p[i] / q[i]);
  }
  return sum;
}

/// A batch and all that a Step refers to.
struct Bench {
  explicit Bench(const pv::nn::Model& model_, std::int64_t n) : model(model_) {
    const auto set = small::images(n);
    std::vector<std::int64_t> positions;
    for (std::int64_t i = 0; i < n; ++i) {
      positions.push_back(i);
    }
    defend::pack_batch(set, positions, {}, clean);
    adversarial.resize(static_cast<std::size_t>(clean.groups() * clean.size() * 16) + 16);
  }
  defend::Step step() {
    return {.model = model,
            .tape = tape,
            .clean = clean,
            .adversarial = adversarial,
            .passes = passes,
            .totals = totals,
            .seeds = seeds,
            .predictions = predictions};
  }
  const pv::nn::Model& model;
  pv::Tape<float> tape;
  pv::LaneBatch<float> clean;
  pv::AlignedVector<float> adversarial;
  pv::attack::Passes passes;
  defend::Totals totals;
  pv::AlignedVector<float> seeds;
  std::vector<std::int32_t> predictions;
};

std::vector<float> gradients(const pv::nn::Model& model) {
  const auto g = model.parameters().gradients();
  return {g.begin(), g.end()};
}

}  // namespace

TEST_CASE("trades: loss and gradient") {
  const auto f = [](auto& x, std::int64_t first) {
    return defend::trades_loss(x[0], x[1], small::labels_from(first, 5).data(), 6);
  };
  const auto reference = [](Images& x, std::int64_t n) {
    const auto p = small::softmax(x[0]);
    const auto y = static_cast<std::size_t>(small::labels_from(n, 5)[0]);
    return std::vector<double>{-std::log(p[y]) + 6 * divergence(p, small::softmax(x[1]))};
  };
  check::forward_check<double>(f, {{5}, {5}}, reference, 1e-12);
  check::forward_check<float>(f, {{5}, {5}}, reference, 1e-5);
  check::gradient_check(f, {{5}, {5}});
}

TEST_CASE("mart: loss and gradient") {
  const auto f = [](auto& x, std::int64_t first) {
    return defend::mart_loss(x[0], x[1], small::labels_from(first, 5).data(), 6);
  };
  const auto reference = [](Images& x, std::int64_t n) {
    const auto p = small::softmax(x[0]);
    const auto q = small::softmax(x[1]);
    const auto y = static_cast<std::size_t>(small::labels_from(n, 5)[0]);
    double other = 0;
    for (std::size_t i = 0; i < q.size(); ++i) {
      other = i == y ? other : std::max(other, q[i]);
    }
    return std::vector<double>{-std::log(q[y]) - std::log(1.0001 - other) + 6 * divergence(p, q) * (1.0000001 - p[y])};
  };
  check::forward_check<double>(f, {{5}, {5}}, reference, 1e-12);
  check::forward_check<float>(f, {{5}, {5}}, reference, 1e-5);
  check::gradient_check(f, {{5}, {5}});
}

TEST_CASE("trades: the attack raises the divergence within ball and box") {
  auto model = small::network();
  defend::Trainer(std::make_shared<defend::Standard>(), {.epochs = 3, .batch_size = 50}).fit(model, small::images(300));
  Bench bench(model, 20);
  const auto mean_divergence = [&](std::int64_t steps) {
    const defend::DivergenceAttack attack(small::threat(), steps, 0.025);
    attack.perturb(model, bench.clean, bench.adversarial.data(), {.seed = 4}, bench.passes);
    pv::Tape<float> tape;
    tape.begin(20);
    const auto loss = pv::kl_divergence(model(tape.view(bench.clean.shape(), bench.clean.values())),
                                        model(tape.view(bench.clean.shape(), bench.adversarial.data())));
    double sum = 0;
    for (int i = 0; i < 20; ++i) {
      sum += static_cast<double>(loss.data()[i]) / 20;
    }
    return sum;
  };
  const double one = mean_divergence(1);
  const double ten = mean_divergence(10);
  CHECK(one > 0);
  CHECK(ten > 2 * one);
  std::vector<float> a(16), b(16);
  pv::LaneBatch<float> perturbed = bench.clean;
  std::copy_n(bench.adversarial.begin(), perturbed.groups() * perturbed.size() * 16, perturbed.values());
  for (std::int64_t i = 0; i < 20; ++i) {
    bench.clean.unpack(i, a.data());
    perturbed.unpack(i, b.data());
    for (std::size_t e = 0; e < 16; ++e) {
      CHECK(std::abs(a[e] - b[e]) <= 0.1f + 1e-6f);
      CHECK((b[e] >= 0 && b[e] <= 1));
    }
  }
}

TEST_CASE("awp: the update's gradient is taken at w + gamma ||w|| g/||g||, and the weights come back") {
  auto model = small::network(true);
  auto& store = model.parameters();
  Bench bench(model, 40);
  auto step = bench.step();
  const auto before = small::state(model);

  defend::Standard plain;
  store.zero_gradients();
  plain.accumulate(step);
  const auto g = gradients(model);
  const auto after_plain = small::state(model);  // one pass of running statistics
  std::copy(before.begin(), before.end(), store.edit_state().begin());

  // By hand: move each weight matrix, in double, and take the gradient there.
  auto moved = before;
  for (auto& p : store.parameters()) {
    if (p.trainable() && p.shape().rank() >= 2) {
      const auto at = static_cast<std::size_t>(p.value().data() - store.values().data());
      double ww = 0, gg = 0;
      for (std::size_t i = at; i < at + static_cast<std::size_t>(p.size()); ++i) {
        ww += static_cast<double>(before[i]) * static_cast<double>(before[i]);
        gg += static_cast<double>(g[i]) * static_cast<double>(g[i]);
      }
      for (std::size_t i = at; i < at + static_cast<std::size_t>(p.size()); ++i) {
        moved[i] =
            static_cast<float>(static_cast<double>(before[i]) + 0.1 * std::sqrt(ww / gg) * static_cast<double>(g[i]));
      }
    }
  }
  std::copy(moved.begin(), moved.end(), store.edit_state().begin());
  store.zero_gradients();
  plain.accumulate(step);
  const auto expected = gradients(model);
  std::copy(before.begin(), before.end(), store.edit_state().begin());

  defend::Awp awp(std::make_shared<defend::Standard>(), {.gamma = 0.1});
  store.zero_gradients();
  bench.totals = {};
  awp.accumulate(step);
  CHECK(bench.totals.images == 40);  // the first pass is not counted
  const auto got = gradients(model);
  double worst = 0, change = 0, size = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    worst = std::max(worst, static_cast<double>(std::abs(got[i] - expected[i])));
    change = std::max(change, static_cast<double>(std::abs(got[i] - g[i])));
    size = std::max(size, static_cast<double>(std::abs(expected[i])));
  }
  CHECK(worst < 1e-4 * size);
  CHECK(change > 1e-2 * size);
  awp.after_update(step);
  const auto after = small::state(model);
  double drift = 0;
  for (std::size_t i = 0; i < store.values().size(); ++i) {
    drift = std::max(drift, static_cast<double>(std::abs(after[i] - before[i])));
  }
  CHECK(drift < 1e-6);
  // Running statistics moved once, at the perturbed weights: not twice.
  const auto& mean = store["bn.running_mean"];
  const auto at = static_cast<std::size_t>(mean.value().data() - store.state().data());
  double moved_once = 0;
  for (std::size_t i = at; i < at + 24; ++i) {
    moved_once = std::max(moved_once, static_cast<double>(std::abs(after[i] - after_plain[i])));
  }
  CHECK(moved_once < 0.05);
  CHECK(moved_once > 0);
}

TEST_CASE("free: one pass gives both gradients, and the perturbation goes on") {
  auto model = small::network();
  Bench bench(model, 24);
  defend::Free free(small::threat(), {.replays = 4, .step_size = 0.05});
  free.begin(model, 24);
  auto step = bench.step();
  auto& store = model.parameters();
  double loss[3];
  for (int i = 0; i < 3; ++i) {  // the weights stay: the perturbation alone moves
    bench.totals = {};
    store.zero_gradients();
    free.accumulate(step);
    loss[i] = bench.totals.loss;
    if (i == 0) {
      const auto g = gradients(model);
      defend::Standard plain;
      store.zero_gradients();
      plain.accumulate(step);
      CHECK(small::same_bits(g, gradients(model)));  // from a perturbation of 0
    }
  }
  CHECK(loss[1] > loss[0]);
  CHECK(loss[2] > loss[1]);
  defend::StateWriter out;
  free.save(out);
  defend::StateReader in("memory", out.bytes());
  const auto delta = in.get_vector<float>("free perturbation");
  std::int64_t at_the_edge = 0;
  for (const float d : delta) {
    CHECK(std::abs(d) <= 0.1f + 1e-6f);
    at_the_edge += std::abs(d) > 0.099f ? 1 : 0;
  }
  CHECK(at_the_edge > 100);
  CHECK(bench.passes.backward == 24 * 4);
}

TEST_CASE("presets: every defence trains, names itself, and its recipe rebuilds it") {
  const auto train = small::images(220);
  const auto test = small::images(300, 2);
  auto plain = small::network();
  defend::TrainOptions o{.epochs = 15, .batch_size = 50, .learning_rate = 0.02};
  defend::Trainer(std::make_shared<defend::Standard>(), o).fit(plain, train);
  const double floor = small::robust(plain, test);
  for (const auto name : defend::defense_names()) {
    CAPTURE(std::string(name));
    const bool smoothing = name == "stability" || name == "macer" || name == "consistency" || name == "smoothadv";
    const auto threat = smoothing ? pv::attack::l2(0.2) : small::threat();
    const auto defense = defend::make_defense(name, threat, {.awp_warmup_epochs = 1, .warmup_epochs = 1});
    auto model = small::network();
    o.gaussian_sigma = defense.gaussian_sigma;
    const auto history = defend::Trainer(defense.strategy, o).fit(model, train);
    CHECK(history.epochs.back().loss < history.epochs.front().loss);
    if (name != "none" && name != "gaussian") {
      CHECK((smoothing || small::robust(model, test) > floor + 0.05));
      CHECK(defense.strategy->name() == (name == "awp" ? "awp-pgd" : name));
    }
    CHECK(defense.strategy->recipe().front().first == "defense");
    CHECK(history.updates == 15 * 5 * (name == "free" ? 8 : 1));
  }
  CHECK(defend::make_defense("gaussian", 0.1).gaussian_sigma == 0.25);
  try {
    defend::make_defense("pdg", 0.1);
    FAIL("an unknown name was taken");
  } catch (const pv::ValueError& e) {
    CHECK(std::string(e.what()).find("'pdg', expected one of none, fgsm, fgsm-rs, pgd, free") != std::string::npos);
  }
  CHECK_THROWS_AS(defend::make_defense("awp-free", 0.1), pv::ValueError);
  CHECK_THROWS_AS(defend::make_defense("pgd", 8), pv::ValueError);
  CHECK_THROWS_AS(defend::Awp(std::make_shared<defend::Free>(small::threat())), pv::ValueError);
}

TEST_CASE("strategies: the same bits with 1 and 3 threads") {
  const auto train = small::images(75);
  for (const auto name : {"free", "trades", "mart", "awp-trades", "fgsm-rs", "consistency", "macer", "smoothadv"}) {
    CAPTURE(std::string(name));
    const auto threat = std::string(name) == "smoothadv" ? pv::attack::l2(0.2) : small::threat();
    std::vector<float> reference;
    for (const int threads : {1, 3}) {
      const small::Threads scope(threads);
      auto model = small::network(true);
      defend::Trainer(defend::make_defense(name, threat, {.steps = 3, .awp_warmup_epochs = 0}).strategy,
                      {.epochs = 2, .batch_size = 40})
          .fit(model, train);
      if (reference.empty()) {
        reference = small::state(model);
      }
      CHECK(small::same_bits(small::state(model), reference));
    }
  }
}
