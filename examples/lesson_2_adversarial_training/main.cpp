// SPDX-License-Identifier: MIT
// Adversarial training: the network trains on the worst images that an adversary finds, and not on those that are there.
#include "../lesson.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/pavise.hpp"

namespace pv = pavise;
using pv::lesson::point;
using pv::lesson::share;

namespace {

/// Training minimises the loss of images that an attack has made worse. All that differs is the attack.
struct Recipe {
  std::string name;
  double radius;
  pv::defend::AnyAttack adversary;
};

}  // namespace

int main(int argc, char** argv) {
  pv::lesson::Lesson lesson(argc, argv, "Lesson 2: adversarial training", 20000, 1000);
  const auto& test = lesson.test;
  const std::int64_t n = test.size();
  const auto threat = pv::attack::linf(0.1);  // every pixel may move by a tenth of its range
  const auto fast = [](double radius) { return pv::attack::fgsm_rs(pv::attack::linf(radius)); };
  const std::vector<Recipe> recipes = {{"nothing", 0, {}},
                                       {"FGSM-RS, 0.025", 0.025, fast(0.025)},
                                       {"FGSM-RS, 0.05", 0.05, fast(0.05)},
                                       {"FGSM-RS, 0.1", 0.1, fast(0.1)},
                                       {"PGD-7, 0.1", 0.1, pv::attack::Pgd(threat, {.steps = 7})}};

  // Every network is then asked thrice: the image as it is, after one step, and after fifty from each of five starts.
  const auto one_step = pv::attack::fgsm(threat);
  const pv::attack::Pgd many_steps(threat, {.steps = 50});
  pv::report::Table table({{"trained on", {}}, {"clean", {}}, {"FGSM, 0.1", {}}, {"PGD-50, 0.1, 5 starts", {}}});
  std::vector<pv::report::Series> curves;
  std::vector<pv::attack::Result> results;
  pv::report::Series before{.name = "clean"};
  pv::report::Series after{.name = "under PGD-50 at 0.1"};
  for (const auto& recipe : recipes) {
    auto model = pv::nn::small_cnn({.seed = lesson.seed});
    const pv::defend::AdversarialTraining training{.attack = recipe.adversary, .epochs = 3, .seed = lesson.seed};
    training.fit(model, lesson.train, pv::report::progress());

    const auto weak = pv::attack::run(one_step, model, test);
    const auto strong = pv::attack::run(many_steps, model, test, {.restarts = 5, .seed = lesson.seed});
    table.add_row(
        {recipe.name, share(strong.clean_correct, n), share(weak.robust_correct, n), share(strong.robust_correct, n)});
    before.points.push_back(point(recipe.radius, strong.clean_correct, n));
    after.points.push_back(point(recipe.radius, strong.robust_correct, n));
    results.push_back(strong);

    curves.push_back({.name = recipe.name});
    for (const double radius : {0.0, 0.025, 0.05, 0.075, 0.1, 0.125, 0.15}) {
      const pv::attack::Pgd pgd(pv::attack::linf(radius), {.steps = 10});
      const auto stands = pv::attack::run(pgd, model, test.first(500), {.seed = lesson.seed}).robust_correct;
      curves.back().points.push_back(point(radius, stands, 500));
    }
  }
  std::printf("\n%s\n", table.to_string().c_str());

  // The same six images, each as its attack left it, under what the network takes it for.
  std::vector<pv::lesson::Row> rows = {{"the image", {}}, {"trained on|nothing", {}}, {"trained on|PGD-7, 0.1", {}}};
  const auto images = pv::attack::to_tensor(test.first(6));
  for (std::int64_t i = 0; i < 6; ++i) {
    const auto at = static_cast<std::size_t>(i);
    rows[0].shots.push_back({pv::lesson::image_of(images, i), lesson.name(test.label(i))});
    for (const auto& [row, result] : {std::pair(1, &results.front()), std::pair(2, &results.back())}) {
      rows[static_cast<std::size_t>(row)].shots.push_back(
          {pv::lesson::image_of(result->adversarial, i), lesson.name(result->prediction[at])});
    }
  }
  lesson.picture("images.svg", pv::lesson::gallery("Six images, and what PGD-50 makes of them", rows));
  lesson.picture("radius.svg", pv::report::line_chart(curves, pv::lesson::percent_chart(
                                                                  "What stands, by radius of the attack", "radius")));
  before.points.pop_back();  // one family of trainings, and not PGD-7
  after.points.pop_back();
  lesson.picture("price.svg",
                 pv::report::line_chart({before, after}, pv::lesson::percent_chart("What training at a radius costs",
                                                                                   "radius trained at")));

  const auto& plain = results.front();
  const auto& trained = results.back();
  lesson.claim(plain.robust_correct * 10 < plain.clean_correct, "plain training loses nine images in ten to PGD");
  lesson.claim(trained.robust_correct > 2 * trained.clean_correct / 3,
               "trained on PGD, two thirds of the accuracy stay");
  lesson.claim(trained.clean_correct < plain.clean_correct - n / 50, "that costs more than 2 % of clean accuracy");
  return lesson.end();
}
