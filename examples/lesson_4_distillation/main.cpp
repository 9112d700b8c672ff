// SPDX-License-Identifier: MIT
// Defensive distillation: a student of soft labels hides its gradients, and is fooled by who looks elsewhere.
#include <numeric>

#include "../lesson.hpp"
#include "pavise/defend/distillation.hpp"
#include "pavise/defend/trainer.hpp"
#include "pavise/evaluate/probe.hpp"
#include "pavise/pavise.hpp"

namespace pv = pavise;
using pv::lesson::point;
using pv::lesson::share;

int main(int argc, char** argv) {
  pv::lesson::Lesson lesson(argc, argv, "Lesson 4: distillation", 20000, 500);
  const auto& test = lesson.test;
  const std::int64_t n = test.size();

  // One attack, by two losses: the one that training minimises, which goes through the softmax, and the margin by which
  // the answer is wrong, which looks at the logits themselves.
  const auto threat = pv::attack::linf(0.1);
  const pv::attack::Loss entropy = [](pv::Var<float> z, const std::int32_t* y) { return pv::cross_entropy(z, y); };
  const pv::attack::Loss margin = [](pv::Var<float> z, const std::int32_t* y) { return pv::margin_loss(z, y); };
  const pv::attack::Pgd through_softmax(threat, {.steps = 40, .loss = entropy});
  const pv::attack::Pgd on_logits(threat, {.steps = 40, .loss = margin});

  const auto images = pv::attack::to_tensor(test);
  std::vector<std::int64_t> all(static_cast<std::size_t>(n));
  std::iota(all.begin(), all.end(), 0);
  const auto probe = pv::evaluate::make_probe(images, test.labels(), pv::attack::source_ids(test), all);

  pv::report::Table table({{"T", pv::report::Align::right},
                           {"clean", {}},
                           {"mean |logit|", pv::report::Align::right},
                           {"gradient is 0", {}},
                           {"PGD, cross-entropy", {}},
                           {"PGD, margin", {}}});
  pv::report::Series series[] = {{.name = "clean"}, {.name = "PGD on cross-entropy"}, {.name = "PGD on the margin"}};
  std::vector<std::string> names;
  std::vector<pv::lesson::Row> rows;
  struct Counts {
    std::int64_t clean, flat, entropy, margin;
  };
  std::vector<Counts> found;
  for (const double temperature : {1.0, 10.0, 100.0}) {
    // The teacher learns from labels, the student from what the teacher says of each image: a probability for every class.
    // Both divide their logits by T in training, and answer without.
    const pv::defend::TrainOptions options{.epochs = 3, .seed = lesson.seed, .progress = pv::report::progress()};
    auto teacher = pv::nn::small_cnn({.seed = lesson.seed, .temperature = temperature});
    pv::defend::Trainer(std::make_shared<pv::defend::Standard>(), options).fit(teacher, lesson.train);
    const auto soft = pv::defend::soft_labels(teacher, lesson.train, temperature);
    auto student = pv::nn::small_cnn({.seed = lesson.seed + 1, .temperature = temperature});
    pv::defend::Trainer(std::make_shared<pv::defend::Distillation>(soft), options).fit(student, lesson.train);

    // At how many images is the gradient that an attack would follow exactly 0?
    const auto answers = pv::evaluate::ask(student, probe, images, entropy, true, lesson.seed, 0);
    const auto logits = pv::evaluate::ask(student, probe, images, margin, true, lesson.seed, 0);
    std::int64_t flat = 0;
    for (std::int64_t i = 0; i < n; ++i) {
      const auto g = answers.gradient.row(i);
      flat += std::all_of(g.begin(), g.end(), [](float v) { return v == 0; }) ? 1 : 0;
    }
    double magnitude = 0;
    for (const float z : answers.logits) {
      magnitude += std::abs(static_cast<double>(z)) / static_cast<double>(answers.logits.size());
    }

    const auto hidden = pv::attack::run(through_softmax, student, test, {.seed = lesson.seed});
    const auto seen = pv::attack::run(on_logits, student, test, {.seed = lesson.seed});
    found.push_back({seen.clean_correct, flat, hidden.robust_correct, seen.robust_correct});
    table.add_row({pv::concat(temperature), share(seen.clean_correct, n), pv::report::fixed(magnitude, 1),
                   share(flat, n), share(hidden.robust_correct, n), share(seen.robust_correct, n)});
    names.push_back(pv::concat("T = ", temperature));
    series[0].points.push_back(point(0, seen.clean_correct, n));
    series[1].points.push_back(point(0, hidden.robust_correct, n));
    series[2].points.push_back(point(0, seen.robust_correct, n));
    rows.push_back({names.back(), {}});
    for (std::int64_t i = 0; i < 2; ++i) {
      rows.back().shots.push_back({pv::lesson::image_of(images, i), lesson.name(test.label(i))});
      rows.back().shots.push_back({pv::lesson::around_grey(answers.gradient.row(i)), "gradient of|cross-entropy"});
      rows.back().shots.push_back({pv::lesson::around_grey(logits.gradient.row(i)), "gradient of|the margin"});
    }
  }
  std::printf("\n%s\n", table.to_string().c_str());
  lesson.picture("gradients.svg", pv::lesson::gallery("What an attack has to go by", rows));
  lesson.picture("temperature.svg",
                 pv::report::bar_chart(names, {series[0], series[1], series[2]},
                                       pv::lesson::percent_chart("Images classified correctly", "")));

  const auto& last = found.back();
  lesson.claim(last.flat * 2 > n, "at T = 100 most images have a gradient of exactly 0");
  lesson.claim(last.entropy > 5 * found.front().entropy, "so that PGD on cross-entropy breaks few: it looks robust");
  lesson.claim(last.margin * 2 < last.entropy, "PGD on the margin leaves less than half of what seemed to stand");
  lesson.claim(last.clean < found.front().clean, "and clean accuracy is lower than at T = 1");
  return lesson.end();
}
