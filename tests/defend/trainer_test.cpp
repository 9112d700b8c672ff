// SPDX-License-Identifier: MIT
#include "pavise/defend/trainer.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "defend/small.hpp"
#include "pavise/defend/adversarial.hpp"
#include "pavise/defend/adversarial_training.hpp"
#include "pavise/defend/fast.hpp"
#include "pavise/defend/standard.hpp"

namespace pv = pavise;
using pv::defend::Adversarial;
using pv::defend::Standard;
using pv::defend::Trainer;

namespace {

std::shared_ptr<Adversarial> pgd(double share = 1.0) {
  return std::make_shared<Adversarial>(pv::attack::Pgd{small::threat(), {.steps = 7}}, share);
}

pv::defend::TrainOptions options(std::int64_t epochs = 8) {
  return {.epochs = epochs, .batch_size = 50, .learning_rate = 0.02};
}

}  // namespace

TEST_CASE("trainer: plain training learns, adversarial training withstands the attack better") {
  const auto train = small::images(500);
  const auto test = small::images(300, 2);
  auto plain = small::network();
  const auto history = Trainer(std::make_shared<Standard>(), options(20)).fit(plain, train);
  REQUIRE(history.epochs.size() == 20);
  CHECK(history.epochs.back().loss < 0.3 * history.epochs.front().loss);
  CHECK(history.updates == 200);
  CHECK(history.parameters == 16 * 24 + 24 + 24 * 2 + 2);
  CHECK(pv::defend::accuracy(plain, test).share() > 0.95);

  auto hardened = small::network();
  const auto adversarial = Trainer(pgd(), options(20)).fit(hardened, train);
  CHECK(adversarial.epochs.back().loss < adversarial.epochs.front().loss);
  CHECK(adversarial.backward_passes == 20 * 500 * (7 + 1));
  CHECK(small::robust(hardened, test) > small::robust(plain, test) + 0.1);

  auto fast = small::network();
  Trainer(std::make_shared<pv::defend::Fast>(small::threat()), options(20)).fit(fast, train);
  CHECK(small::robust(fast, test) > small::robust(plain, test) + 0.1);
}

TEST_CASE("trainer: the compact form is the same training") {
  const auto train = small::images(100);
  auto a = small::network();
  auto b = small::network();
  std::int64_t images = 0;
  pv::defend::AdversarialTraining trainer{
      .attack = pv::attack::Pgd{small::threat(), {.steps = 7}}, .epochs = 2, .batch_size = 50};
  trainer.fit(a, train, [&](const pv::defend::Progress& p) { images += p.images; });
  CHECK(images == 200);
  auto o = options(2);
  o.learning_rate = trainer.learning_rate;
  Trainer(pgd(), o).fit(b, train);
  CHECK(small::same_bits(small::state(a), small::state(b)));
}

TEST_CASE("trainer: a share of the batch is perturbed, and counted apart") {
  const auto train = small::images(53);  // batches of 20, 20 and 13
  for (const double share : {0.0, 0.25, 0.5, 1.0}) {
    CAPTURE(share);
    auto model = small::network();
    auto o = options(1);
    o.batch_size = 20;
    const auto history = Trainer(pgd(share), o).fit(model, train);
    const auto& e = history.epochs.at(0);
    const auto expected = 2 * std::llround(share * 20) + std::llround(share * 13);
    CHECK(e.adversarial.total == expected);
    CHECK(e.clean.total == 53 - expected);
  }
  auto none = small::network();
  auto plain = small::network();
  Trainer(pgd(0.0), options(2)).fit(none, train);
  Trainer(std::make_shared<Standard>(), options(2)).fit(plain, train);
  CHECK(small::same_bits(small::state(none), small::state(plain)));
}

TEST_CASE("trainer: the images behind the share are the clean ones") {
  const auto train = small::images(20);
  const auto model = small::network();
  pv::LaneBatch<float> clean;
  std::vector<std::int64_t> all(20);
  for (std::size_t i = 0; i < all.size(); ++i) {
    all[i] = static_cast<std::int64_t>(i);
  }
  pv::defend::pack_batch(train, all, {}, clean);
  pv::LaneBatch<float> perturbed = clean;
  pv::AlignedVector<float> adversarial(static_cast<std::size_t>(clean.groups() * clean.size() * 16) + 16);
  pv::Tape<float> tape;
  pv::attack::Passes passes;
  pv::defend::Totals totals;
  pv::AlignedVector<float> seeds;
  std::vector<std::int32_t> predictions;
  pv::defend::Step step{.model = model,
                        .tape = tape,
                        .clean = clean,
                        .adversarial = adversarial,
                        .passes = passes,
                        .totals = totals,
                        .seeds = seeds,
                        .predictions = predictions};
  pv::defend::detail::perturb_first(step, pv::attack::Pgd{small::threat(), {.steps = 3}}, 7);
  std::copy_n(adversarial.begin(), clean.groups() * clean.size() * 16, perturbed.values());
  std::vector<float> a(small::kPixels), b(small::kPixels);
  for (std::int64_t i = 0; i < 20; ++i) {
    CAPTURE(i);
    clean.unpack(i, a.data());
    perturbed.unpack(i, b.data());
    CHECK((a == b) == (i >= 7));
  }
}

TEST_CASE("trainer: the last short batch counts for what it holds") {
  // One batch of 21 images is a mean over 21, whatever lies in the 11 lanes behind them.
  const auto train = small::images(21);
  auto together = small::network();
  auto o = options(1);
  o.optimizer = "sgd";
  o.optimizer_options.momentum = 0;
  o.schedule = "constant";
  o.learning_rate = 0.5;
  o.batch_size = 64;
  Trainer(std::make_shared<Standard>(), o).fit(together, train);

  // The same step by hand: sums over single images.
  auto alone = small::network();
  auto& store = alone.parameters();
  std::vector<double> sum(store.gradients().size(), 0.0);
  for (std::int64_t i = 0; i < 21; ++i) {
    const std::int64_t position[] = {i};
    pv::LaneBatch<float> one;
    pv::defend::pack_batch(train, position, {}, one);
    pv::Tape<float> tape;
    tape.begin(1, 16, pv::Mode::training, true);
    store.zero_gradients();
    tape.backward(pv::cross_entropy(alone(tape.view(one.shape(), one.values())), one.labels()));
    for (std::size_t k = 0; k < sum.size(); ++k) {
      sum[k] += static_cast<double>(store.gradients()[k]) / 21;
    }
  }
  double worst = 0;
  for (std::size_t k = 0; k < sum.size(); ++k) {
    const double expected = static_cast<double>(store.values()[k]) - 0.5 * sum[k];
    worst = std::max(worst, std::abs(expected - static_cast<double>(together.parameters().values()[k])));
  }
  CHECK(worst < 1e-6);
  CHECK(worst > 0.0);  // the two ways are not the same code
}

TEST_CASE("trainer: the same bits with 1, 2 and 3 threads") {
  const auto train = small::images(77);
  std::vector<float> reference;
  double loss = 0;
  for (const int threads : {1, 2, 3}) {
    const small::Threads scope(threads);
    auto model = small::network(true);
    auto o = options(2);
    o.clip_norm = 0.5;
    o.average_decay = 0.9;
    o.gaussian_sigma = 0.05;
    o.augmentation.flip = true;
    const auto history = Trainer(pgd(0.6), o).fit(model, train);
    if (reference.empty()) {
      reference = small::state(model);
      loss = history.epochs.back().loss;
    }
    CHECK(small::same_bits(small::state(model), reference));
    CHECK(history.epochs.back().loss == loss);
  }
}

TEST_CASE("trainer: validation, averaged weights, label noise and smoothing") {
  const auto data = small::images(200);
  auto o = options(4);
  o.validation_size = 60;
  o.validation_attack = pv::attack::Pgd{small::threat(), {.steps = 5}};
  auto model = small::network();
  const auto history = Trainer(std::make_shared<Standard>(), o).fit(model, data);
  const auto& e = history.epochs.back();
  CHECK(e.clean.total == 140);
  CHECK(e.validation.total == 60);
  CHECK(e.validation_adversarial.total == 60);
  CHECK(e.validation_adversarial.correct < e.validation.correct);
  std::vector<std::int64_t> held;
  for (std::int64_t i = 140; i < 200; ++i) {
    held.push_back(i);
  }
  CHECK(pv::defend::accuracy(model, data.subset(held)) == e.validation);

  o.average_decay = 0.98;
  auto averaged = small::network();
  const auto with_average = Trainer(std::make_shared<Standard>(), o).fit(averaged, data);
  CHECK(with_average.epochs.back().loss == e.loss);  // the weights that are trained are the same
  CHECK_FALSE(small::same_bits(small::state(averaged), small::state(model)));
  CHECK(pv::defend::accuracy(averaged, data.subset(held)) == with_average.epochs.back().validation);

  auto noisy = small::network();
  auto n = options(2);
  n.label_noise = 0.3;
  const auto noise = Trainer(std::make_shared<Standard>(), n).fit(noisy, data);
  CHECK(noise.false_labels > 30);
  CHECK(noise.false_labels < 90);
  auto smooth = small::network();
  auto s = options(8);
  s.label_smoothing = 0.2;
  // With two classes the smoothed loss cannot fall below the entropy of (0.9, 0.1).
  CHECK(Trainer(std::make_shared<Standard>(), s).fit(smooth, data).epochs.back().loss > 0.325);
}

TEST_CASE("trainer: gaussian noise is keyed by image and epoch, normal, and not clipped") {
  const auto data = small::images(400);
  std::vector<std::int64_t> forward, backward;
  for (std::int64_t i = 0; i < 400; ++i) {
    forward.push_back(i);
    backward.push_back(399 - i);
  }
  pv::LaneBatch<float> clean, noisy, reversed, next;
  pv::defend::pack_batch(data, forward, {}, clean);
  pv::defend::pack_batch(data, forward, {.gaussian_sigma = 0.5, .seed = 3, .epoch = 1}, noisy);
  pv::defend::pack_batch(data, backward, {.gaussian_sigma = 0.5, .seed = 3, .epoch = 1}, reversed);
  pv::defend::pack_batch(data, forward, {.gaussian_sigma = 0.5, .seed = 3, .epoch = 2}, next);
  double sum = 0, squares = 0;
  std::int64_t outside = 0;
  std::vector<float> c(16), x(16), y(16), z(16);
  for (std::int64_t i = 0; i < 400; ++i) {
    clean.unpack(i, c.data());
    noisy.unpack(i, x.data());
    reversed.unpack(399 - i, y.data());
    next.unpack(i, z.data());
    CHECK(x == y);
    CHECK(x != z);
    for (std::size_t e = 0; e < 16; ++e) {
      const double d = static_cast<double>(x[e] - c[e]);
      sum += d;
      squares += d * d;
      outside += x[e] < 0 || x[e] > 1 ? 1 : 0;
    }
  }
  CHECK(std::abs(sum / 6400) < 0.025);  // four standard errors
  CHECK(std::abs(squares / 6400 - 0.25) < 0.02);
  CHECK(outside > 500);
}

TEST_CASE("trainer: packing agrees with the loader's own reading of an image") {
  const auto data = small::images(19);
  std::vector<std::int64_t> order{18, 3, 7, 0, 1, 2, 4, 5, 6, 8, 9, 10, 11, 12, 13, 14, 15};
  pv::LaneBatch<float> batch;
  for (const bool flip : {false, true}) {
    const pv::data::Augmentation augmentation{.flip = flip};
    pv::defend::pack_batch(data, order, {.augmentation = augmentation, .seed = 5, .epoch = 2}, batch);
    std::vector<float> expected(16), got(16);
    for (std::size_t i = 0; i < order.size(); ++i) {
      pv::data::load_image(data, order[i], augmentation, 5, 2, expected.data());
      batch.unpack(static_cast<std::int64_t>(i), got.data());
      CHECK(got == expected);
      CHECK(batch.labels()[i] == data.label(order[i]));
      CHECK(batch.ids()[i] == static_cast<std::uint32_t>(order[i]));
    }
  }
}

TEST_CASE("trainer: the guard rolls back and goes on with more steps") {
  const auto train = small::images(100);
  auto model = small::network();
  // A tolerance of -1 calls every look a collapse: the first one is kept, each later one returns to it.
  auto fast = std::make_shared<pv::defend::Fast>(small::threat(), pv::defend::FastOptions{.tolerance = -1});
  auto o = options(5);
  o.learning_rate = 1e-3;
  const auto history = Trainer(fast, o).fit(model, train);
  CHECK(fast->rollbacks() == 4);
  CHECK(history.epochs[0].events.empty());
  REQUIRE(history.epochs[1].events.size() == 1);
  CHECK(history.epochs[1].events[0].find("2 steps of 0.0625") != std::string::npos);
  CHECK(history.epochs[2].events.at(0).find("4 steps") != std::string::npos);
  CHECK(history.epochs[4].events.at(0).find("8 steps") != std::string::npos);  // no more than kLevels
  CHECK(history.backward_passes > 5 * 100 * 2);

  // The run ends on a roll-back, so its weights are those of the first epoch's end.
  auto short_model = small::network();
  auto first = o;
  first.epochs = 1;
  first.custom_schedule = [&](std::int64_t update, std::int64_t) { return o.rates(5 * 2)(update); };
  Trainer(std::make_shared<pv::defend::Fast>(small::threat()), first).fit(short_model, train);
  CHECK(small::same_bits(small::state(model), small::state(short_model)));

  auto calm = std::make_shared<pv::defend::Fast>(small::threat());
  auto other = small::network();
  Trainer(calm, options(3)).fit(other, train);
  CHECK(calm->rollbacks() == 0);
}

TEST_CASE("trainer: what cannot be trained is refused in words") {
  const auto data = small::images(20);
  auto model = small::network();
  auto o = options(1);
  o.batch_size = 0;
  CHECK_THROWS_WITH_AS(Trainer(std::make_shared<Standard>(), o), "trainer: batch size 0, expected 1 or more",
                       pv::ValueError);
  CHECK_THROWS_AS(Trainer(nullptr), pv::ValueError);
  CHECK_THROWS_AS(Adversarial(pv::defend::AnyAttack{}), pv::ValueError);
  CHECK_THROWS_AS(pgd(1.5), pv::ValueError);
  CHECK_THROWS_AS(Adversarial(pv::attack::Pgd{small::threat(), {.targeted = true}}), pv::ValueError);
  CHECK_THROWS_AS(Trainer(std::make_shared<Standard>()).fit(model, data.first(0)), pv::ValueError);
  const auto wrong = pv::data::two_gaussians(10, 5, 0.3, 0.1, 0);
  CHECK_THROWS_AS(Trainer(std::make_shared<Standard>()).fit(model, wrong), pv::ShapeError);
  auto diverging = options(3);
  diverging.optimizer = "sgd";
  diverging.learning_rate = 1e30;
  diverging.schedule = "constant";
  CHECK_THROWS_AS(Trainer(std::make_shared<Standard>(), diverging).fit(model, data), pv::ValueError);
}
