// SPDX-License-Identifier: MIT
// Defensive distillation: what a temperature does, soft labels against double, and training on them.
#include "pavise/defend/distillation.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/text_checks.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/standard.hpp"
#include "pavise/defend/trainer.hpp"
#include "pavise/nn/models.hpp"
#include "pavise/nn/registry.hpp"

namespace pv = pavise;
namespace defend = pavise::defend;
using pavise_test::contains;
using pavise_test::refusal;

namespace {

pv::nn::Model student(double temperature, std::uint64_t seed = 5) {
  return pv::nn::mlp({.seed = seed, .input = {1, 28, 28}, .hidden = {32}, .temperature = temperature});
}

/// Logits of one image in a mode.
std::vector<float> logits(const pv::nn::Model& model, const pv::data::Dataset& set, std::int64_t image, pv::Mode mode) {
  pv::LaneBatch<float> batch;
  defend::pack_batch(set, std::vector<std::int64_t>{image}, {}, batch);
  pv::Tape<float> tape;
  tape.begin(1, 16, mode);
  const auto z = model(tape.view(batch.shape(), batch.values()));
  std::vector<float> out;
  for (std::int64_t k = 0; k < z.size(); ++k) {
    out.push_back(z.data()[k * 16]);
  }
  return out;
}

}  // namespace

TEST_CASE("temperature: divides the logits in training, not in evaluation, and belongs to the model and its spec") {
  const auto digits = pv::data::drawn_digits().test.first(2);
  const auto model = student(20);
  const auto plain = student(1);
  CHECK(model.net().declaration().temperature == 20);
  CHECK(plain.net().declaration().temperature == 1);
  const auto deployed = logits(model, digits, 0, pv::Mode::evaluation);
  CHECK(deployed == logits(plain, digits, 0, pv::Mode::evaluation));
  const auto trained = logits(model, digits, 0, pv::Mode::training);
  for (std::size_t k = 0; k < trained.size(); ++k) {
    CHECK(trained[k] == doctest::Approx(deployed[k] / 20).epsilon(1e-6));
  }
  const auto copy = pv::nn::clone(model);
  CHECK(copy.net().declaration().temperature == 20);
  CHECK(contains(refusal([] { pv::nn::Temperature<float>(0.0); }), "temperature 0"));
  CHECK(contains(refusal([] { pv::nn::Temperature<float>(-1.0); }), "temperature -1"));
}

TEST_CASE("distillation: soft labels are the teacher's softmax at the temperature, image by image") {
  const auto digits = pv::data::drawn_digits().test.first(37);
  const auto teacher = student(10);
  const auto labels = defend::soft_labels(teacher, digits, 10);
  REQUIRE(labels.probabilities.shape() == pv::Shape{37, 10});
  for (const std::int64_t i : {0, 15, 16, 36}) {
    const auto z = logits(teacher, digits, i, pv::Mode::evaluation);
    double sum = 0;
    for (const float v : z) {
      sum += std::exp(static_cast<double>(v) / 10);
    }
    const auto row = labels.probabilities.row(i);
    for (std::size_t k = 0; k < z.size(); ++k) {
      CHECK(static_cast<double>(row[k]) ==
            doctest::Approx(std::exp(static_cast<double>(z[k]) / 10) / sum).epsilon(1e-6));
    }
  }
  // Neither the order of the images nor the threads change a bit.
  std::vector<std::int64_t> reversed;
  for (std::int64_t i = 36; i >= 0; --i) {
    reversed.push_back(i);
  }
  pv::set_thread_count(3);
  const auto other = defend::soft_labels(teacher, digits.subset(reversed), 10);
  pv::set_thread_count(0);
  for (std::int64_t i = 0; i < 37; ++i) {
    for (std::size_t k = 0; k < 10; ++k) {
      CHECK(other.probabilities.row(36 - i)[k] == labels.probabilities.row(i)[k]);
    }
  }
}

TEST_CASE("distillation: with one-hot labels it is plain training, to the bit of the rounding of the loss") {
  const auto digits = pv::data::drawn_digits().train.first(256);
  defend::SoftLabels hard{.temperature = 1, .probabilities = pv::Tensor<float>(pv::Shape{256, 10}), .ids = {}};
  for (std::int64_t i = 0; i < 256; ++i) {
    hard.probabilities.row(i)[static_cast<std::size_t>(digits.label(i))] = 1;
    hard.ids.push_back(static_cast<std::uint32_t>(digits.source_index(i)));
  }
  const defend::TrainOptions options{.epochs = 2, .batch_size = 32};
  auto one = student(1);
  auto two = student(1);
  const auto soft = defend::Trainer(std::make_shared<defend::Distillation>(hard), options).fit(one, digits);
  const auto plain = defend::Trainer(std::make_shared<defend::Standard>(), options).fit(two, digits);
  CHECK(soft.epochs.back().loss == doctest::Approx(plain.epochs.back().loss).epsilon(1e-4));
  CHECK(soft.epochs.back().clean.correct == plain.epochs.back().clean.correct);
}

TEST_CASE("distillation: a student learns what its teacher knows, and its logits grow with the temperature") {
  const auto [train, test] = pv::data::drawn_digits();
  const auto part = train.first(2048);
  double size_at_1 = 0;
  for (const double temperature : {1.0, 40.0}) {
    CAPTURE(temperature);
    const defend::TrainOptions options{.epochs = 40, .batch_size = 64};
    auto teacher = student(temperature, 1);
    defend::Trainer(std::make_shared<defend::Standard>(), options).fit(teacher, part);
    auto pupil = student(temperature, 2);
    const auto strategy = std::make_shared<defend::Distillation>(defend::soft_labels(teacher, part, temperature));
    defend::Trainer(strategy, options).fit(pupil, part);
    const auto right = defend::accuracy(pupil, test.first(500));
    CHECK(right.correct > 400);
    double size = 0;
    for (std::int64_t i = 0; i < 50; ++i) {
      for (const float z : logits(pupil, test, i, pv::Mode::evaluation)) {
        size += std::fabs(static_cast<double>(z)) / 500;
      }
    }
    if (temperature == 1) {
      size_at_1 = size;
    } else {
      CHECK(size > 8 * size_at_1);
    }
  }
}

TEST_CASE("distillation: what does not fit is refused in words") {
  const auto digits = pv::data::drawn_digits().train.first(64);
  const auto teacher = student(10);
  const auto labels = defend::soft_labels(teacher, digits, 10);
  const auto fit = [](defend::SoftLabels soft, pv::nn::Model model, const pv::data::Dataset& set) {
    defend::Trainer(std::make_shared<defend::Distillation>(std::move(soft)), {.epochs = 1, .batch_size = 32})
        .fit(model, set);
  };
  CHECK(contains(refusal([&] { fit(labels, student(5), digits); }),
                 "trains at temperature 5, the soft labels are made at 10"));
  CHECK(contains(refusal([&] { fit(labels, student(10), pv::data::drawn_digits().train.first(65)); }),
                 "there is no soft label for image"));
  CHECK(contains(refusal([&] {
                   fit(labels, pv::nn::mlp({.input = {1, 28, 28}, .classes = 12, .temperature = 10}), digits);
                 }),
                 "has 12 classes, the soft labels 10"));
  CHECK(contains(refusal([&] { defend::soft_labels(teacher, digits, 0); }), "temperature 0"));
}
