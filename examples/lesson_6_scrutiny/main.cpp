// SPDX-License-Identifier: MIT
// Scrutiny: a defence of one's own, which looks robust, is taken apart by its author before others do.
#include "../lesson.hpp"
#include "pavise/attack/apgd.hpp"
#include "pavise/attack/bpda.hpp"
#include "pavise/evaluate/robustness.hpp"
#include "pavise/pavise.hpp"

namespace pv = pavise;
using pv::lesson::point;
using pv::lesson::share;

namespace {

/// The defence: pixels are rounded to eight levels, so that small changes vanish. Its derivative is 0 wherever it has one.
pv::Var<float> staircase(pv::Var<float> x) {
  return pv::pointwise(
      "staircase", x,
      [](auto in, auto out) {
        std::transform(in.begin(), in.end(), out.begin(), [](float v) { return std::round(v * 7) / 7; });
      },
      [](auto, auto, auto, auto) {});
}

/// The signs by which an evaluation knows that it was misled, and its verdict.
void print(const pv::evaluate::Report& report) {
  pv::report::Table table({{"sign", {}}, {"value", {}}, {"expected", {}}, {"", {}}});
  for (const auto& sign : report.signs) {
    if (sign.state != pv::evaluate::SignState::not_applicable) {
      table.add_row({sign.name, pv::report::significant(sign.value, 3),
                     pv::concat(sign.at_most ? "at most " : "at least ", sign.threshold),
                     std::string(pv::evaluate::name_of(sign.state))});
    }
  }
  std::printf("\n%s: stand %s, verdict %s\n%s\n", report.model.c_str(),
              share(report.robust_correct, report.total).c_str(),
              std::string(pv::evaluate::name_of(report.verdict)).c_str(), table.to_string().c_str());
}

}  // namespace

int main(int argc, char** argv) {
  pv::lesson::Lesson lesson(argc, argv, "Lesson 6: scrutiny", 20000, 200);
  const auto& test = lesson.test;
  const std::int64_t n = test.size();
  const auto threat = pv::attack::linf(0.1);
  const auto train = [&](const pv::defend::AnyAttack& adversary) {
    auto model = pv::nn::small_cnn({.seed = lesson.seed});
    const pv::defend::AdversarialTraining training{.attack = adversary, .epochs = 4, .seed = lesson.seed};
    training.fit(model, lesson.train, pv::report::progress());
    return model;
  };
  const auto plain = train({});
  const auto trained = train(pv::attack::fgsm_rs(threat));
  const pv::attack::Classifier home_made("home-made", plain.input_shape(), plain.classes(),
                                         [&](pv::Var<float> x) { return plain(staircase(x)); });

  // The optimist: PGD with fifty steps from ten starts, as in every paper.
  const pv::attack::Pgd pgd(threat, {.steps = 50});
  const auto claimed = pv::attack::run(pgd, home_made, test, {.restarts = 10, .seed = lesson.seed});
  const auto honest = pv::attack::run(pgd, trained, test, {.restarts = 10, .seed = lesson.seed});

  // The sceptic: AutoAttack's attacks, and then the questions that a number alone does not answer.
  pv::evaluate::Options options;
  options.seed = lesson.seed;
  options.settings.queries = 2000;
  const auto suspected = pv::evaluate::robustness(home_made, test, threat, options);
  const auto confirmed = pv::evaluate::robustness(trained, test, threat, options);
  print(suspected);
  print(confirmed);

  // The author, who knows where the gradient went: the stairs are computed, and differentiated as if they were a ramp.
  const auto ramp = pv::attack::bpda(plain, "home-made, by who knows it", staircase);
  const auto adaptive = pv::attack::run(pv::attack::apgd_ce(threat, {.steps = 50}), ramp, test, {.seed = lesson.seed});

  pv::report::Table table(
      {{"", {}}, {"clean", {}}, {"PGD-50, 10 starts", {}}, {"AutoAttack", {}}, {"made for it", {}}});
  table.add_row({"home-made", share(claimed.clean_correct, n), share(claimed.robust_correct, n),
                 share(suspected.robust_correct, n), share(adaptive.robust_correct, n)});
  table.add_row({"trained by FGSM-RS", share(honest.clean_correct, n), share(honest.robust_correct, n),
                 share(confirmed.robust_correct, n), "the same attacks"});
  std::printf("%s\n", table.to_string().c_str());

  // The cheapest question of all: does a larger ball break more? Where the ball is the whole box everything must fall.
  std::vector<pv::report::Series> curves = {
      {.name = "home-made"}, {.name = "home-made, by who knows it"}, {.name = "trained by FGSM-RS"}};
  const pv::attack::Classifier models[] = {home_made, ramp, trained};
  for (const double radius : {0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5}) {
    const pv::attack::Pgd at(pv::attack::linf(radius), {.steps = 40});
    for (std::size_t k = 0; k < curves.size(); ++k) {
      const auto stands = pv::attack::run(at, models[k], test, {.seed = lesson.seed}).robust_correct;
      curves[k].points.push_back(point(radius, stands, n));
    }
  }
  std::vector<pv::lesson::Row> rows = {{"the image", {}}, {"standard|PGD", {}}, {"made for|the defence", {}}};
  const auto images = pv::attack::to_tensor(test.first(6));
  for (std::int64_t i = 0; i < 6; ++i) {
    const auto at = static_cast<std::size_t>(i);
    rows[0].shots.push_back({pv::lesson::image_of(images, i), lesson.name(claimed.clean_prediction[at])});
    rows[1].shots.push_back({pv::lesson::image_of(claimed.adversarial, i), lesson.name(claimed.prediction[at])});
    rows[2].shots.push_back({pv::lesson::image_of(adaptive.adversarial, i), lesson.name(adaptive.prediction[at])});
  }
  lesson.picture("images.svg", pv::lesson::gallery("What the home-made defence answers", rows));
  lesson.picture("radius.svg",
                 pv::report::line_chart(
                     curves, pv::lesson::percent_chart("What stands under PGD-40, by radius", "radius in Linf")));

  const bool found_out = suspected.verdict == pv::evaluate::Verdict::unreliable;
  lesson.claim(claimed.robust_correct * 2 > n, "against PGD more than half of the images seem to stand");
  lesson.claim(found_out, "the verdict on that number: unreliable");
  lesson.claim(adaptive.robust_correct * 20 < n, "an attack made for the defence leaves less than one in twenty");
  lesson.claim(confirmed.verdict == pv::evaluate::Verdict::reliable, "the verdict on adversarial training: reliable");
  lesson.claim(honest.clean_correct < claimed.clean_correct,
               "what holds costs clean accuracy, and what did not hold was free");
  return lesson.end();
}
