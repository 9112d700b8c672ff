// SPDX-License-Identifier: MIT
// A tensor, a tape and a network of fifty lines each learn to tell clothes apart, and are fooled; Pavise does the same.
#include <numeric>

#include "../lesson.hpp"
#include "network.hpp"
#include "pavise/defend/batch.hpp"
#include "pavise/pavise.hpp"

namespace pv = pavise;
using pv::lesson::share;

namespace {

constexpr std::int64_t kBatch = 64;
constexpr float kRate = 0.1f;
constexpr float kEpsilon = 0.1f;

/// One pass forward and back: x -> relu(x w1^T + b1) w2^T + b2, and the loss of what comes out.
struct Pass {
  tiny::Tape tape;
  std::vector<tiny::Node*> weights;
  tiny::Node *images, *logits, *loss;

  Pass(const std::vector<tiny::Tensor>& w, tiny::Tensor x, const std::vector<std::int32_t>& labels) {
    for (const auto& weight : w) {
      weights.push_back(&tape.append(weight));
    }
    images = &tape.append(std::move(x));
    tiny::Node& hidden = relu(tape, linear(tape, *images, *weights[0], *weights[1]));
    logits = &linear(tape, hidden, *weights[2], *weights[3]);
    loss = &cross_entropy(tape, *logits, labels);
    tape.backward(*loss);
  }
  /// The class with the largest logit.
  std::int32_t answer(std::size_t row) const {
    const auto z = logits->value.values.begin() + static_cast<std::ptrdiff_t>(row * logits->value.columns);
    return static_cast<std::int32_t>(std::max_element(z, z + static_cast<std::ptrdiff_t>(logits->value.columns)) - z);
  }
};

/// Images as rows of pixels from 0 to 1.
tiny::Tensor rows_of(const pv::data::Dataset& set) {
  const auto images = pv::attack::to_tensor(set);
  return {
      static_cast<std::size_t>(set.size()), static_cast<std::size_t>(set.image_size()), {images.begin(), images.end()}};
}

std::int64_t correct(const Pass& pass, const pv::data::Dataset& set) {
  std::int64_t n = 0;
  for (std::int64_t i = 0; i < set.size(); ++i) {
    n += pass.answer(static_cast<std::size_t>(i)) == set.label(i) ? 1 : 0;
  }
  return n;
}

}  // namespace

int main(int argc, char** argv) {
  pv::lesson::Lesson lesson(argc, argv, "Lesson 0: a tensor, a tape and a network", 20000, 1000);
  const auto& test = lesson.test;
  auto model = pv::nn::mlp({.seed = lesson.seed, .hidden = {32}});
  std::vector<tiny::Tensor> weights;  // the tiny network begins with the same ones
  for (const auto& p : model.parameters().parameters()) {
    const auto rows = static_cast<std::size_t>(p.shape().rank() == 2 ? p.shape()[0] : 1);
    weights.push_back({rows, p.value().size() / rows, {p.value().begin(), p.value().end()}});
  }

  // Both learn from the same images in the same order, by gradient descent: w <- w - rate * gradient.
  pv::Tape<float> tape;
  pv::optim::Sgd<float> descent(model.parameters());
  pv::LaneBatch<float> batch;
  pv::report::Series tiny_curve{.name = "fifty lines each"};
  pv::report::Series curve{.name = "Pavise", .marks = false};
  double difference = 0;
  const auto order = pv::data::Loader{lesson.train, kBatch, lesson.seed}.epoch(0);
  for (std::int64_t step = 0; step < order.size(); ++step) {
    const auto positions = order.batch(step);
    const auto set = lesson.train.subset({positions.begin(), positions.end()});
    const Pass pass(weights, rows_of(set), set.labels());
    for (std::size_t i = 0; i < weights.size(); ++i) {
      for (std::size_t k = 0; k < weights[i].values.size(); ++k) {
        weights[i].values[k] -= kRate * pass.weights[i]->gradient.values[k];
      }
    }

    pv::defend::pack_batch(lesson.train, positions, {}, batch);
    tape.begin(set.size(), 16, pv::Mode::training, true);
    const auto losses = pv::cross_entropy(model(tape.view(batch.shape(), batch.values())), batch.labels());
    model.parameters().zero_gradients();
    tape.backward(losses);                                       // one loss an image: the gradient of their sum,
    descent.step(kRate, 1.0 / static_cast<double>(set.size()));  // of which a step takes the mean

    const double tiny_loss = static_cast<double>(pass.loss->value(0, 0));
    const double loss =
        std::accumulate(losses.data(), losses.data() + set.size(), 0.0) / static_cast<double>(set.size());
    difference = std::max(difference, std::abs(loss - tiny_loss));
    if (step % 8 == 0) {
      tiny_curve.points.push_back({.x = static_cast<double>(step), .y = tiny_loss});
      curve.points.push_back({.x = static_cast<double>(step), .y = loss});
    }
  }

  // The same tape gives the gradient of the images. A step along its sign is the fast gradient sign method.
  const Pass clean(weights, rows_of(test), test.labels());
  tiny::Tensor attacked = clean.images->value;
  for (std::size_t i = 0; i < attacked.values.size(); ++i) {
    const float g = clean.images->gradient.values[i];
    const float moved = attacked.values[i] + (g > 0 ? kEpsilon : g < 0 ? -kEpsilon : 0);
    attacked.values[i] = std::clamp(moved, 0.0f, 1.0f);
  }
  const Pass fooled(weights, attacked, test.labels());
  const auto result = pv::attack::run(pv::attack::fgsm(pv::attack::linf(static_cast<double>(kEpsilon))), model, test);

  pv::report::Table table({{"", {}}, {"fifty lines each", {}}, {"Pavise", {}}});
  const std::int64_t n = test.size(), right = correct(clean, test), stand = correct(fooled, test);
  table.add_row({"clean", share(right, n), share(result.clean_correct, n)});
  table.add_row({"under FGSM at 0.1", share(stand, n), share(result.robust_correct, n)});
  std::printf("\n%s\n", table.to_string().c_str());

  std::vector<pv::lesson::Row> rows = {
      {"the image", {}}, {"the loss's|gradient", {}}, {"a step of 0.1|by its sign", {}}};
  for (std::size_t i = 0; i < 6; ++i) {
    const auto pixels = [&](const tiny::Tensor& t) { return std::span(t.values).subspan(i * t.columns, t.columns); };
    const auto plain = pixels(clean.images->value), moved = pixels(attacked);
    rows[0].shots.push_back({{plain.begin(), plain.end()}, lesson.name(clean.answer(i))});
    rows[1].shots.push_back({pv::lesson::around_grey(pixels(clean.images->gradient)), ""});
    rows[2].shots.push_back({{moved.begin(), moved.end()}, lesson.name(fooled.answer(i))});
  }
  lesson.picture("images.svg", pv::lesson::gallery("Six images, and what one step of their gradient does", rows));
  lesson.picture("loss.svg", pv::report::line_chart({curve, tiny_curve}, {.title = "Training, twice",
                                                                          .x = {.title = "step"},
                                                                          .y = {.title = "cross-entropy", .low = 0},
                                                                          .width = 640,
                                                                          .standalone = true}));
  lesson.claim(difference < 1e-3, "the two losses differ by less than 0.001 at every step");
  lesson.claim(std::abs(right - result.clean_correct) <= 2 && std::abs(stand - result.robust_correct) <= 2,
               "clean and attacked, their counts of right answers differ by two at most");
  lesson.claim(stand * 2 < right, "one step takes away more than half of the accuracy");
  return lesson.end();
}
