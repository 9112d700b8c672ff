// SPDX-License-Identifier: MIT
// Assurance: proofs that no attack whatever can change an answer, by bounds of a network's values and by votes over noise.
#include "../lesson.hpp"
#include "pavise/attack/smoothed.hpp"
#include "pavise/certify/propagation/propagation.hpp"
#include "pavise/certify/smoothing.hpp"
#include "pavise/defend/batch.hpp"
#include "pavise/defend/ibp.hpp"
#include "pavise/defend/trainer.hpp"
#include "pavise/pavise.hpp"

namespace pv = pavise;
using pv::lesson::point;
using pv::lesson::share;

namespace {

/// Images that stand against an attack, that are proven to, and that both break and are proven: of a proof, none.
struct Counts {
  std::int64_t stand = 0, proven = 0, contradictions = 0;
  void add(bool stands, bool is_proven) {
    stand += stands ? 1 : 0;
    proven += is_proven ? 1 : 0;
    contradictions += is_proven && !stands ? 1 : 0;
  }
};

}  // namespace

int main(int argc, char** argv) {
  pv::lesson::Lesson lesson(argc, argv, "Lesson 5: assurance", 20000, 1000);
  const auto& test = lesson.test;
  const auto some = test.first(100), more = test.first(200);
  const auto full = pv::attack::linf(0.1);
  std::int64_t contradictions = 0;

  // Bounds. Every pixel is an interval; behind each layer every value is one; if at the end the right logit's lower end is
  // above all others' upper ends, no image of the ball is answered otherwise. CROWN does it with linear functions.
  struct Training {
    std::string name;
    std::shared_ptr<pv::defend::Strategy> strategy;
  };
  const std::vector<Training> trainings = {
      {"FGSM-RS", std::make_shared<pv::defend::Adversarial>(pv::attack::fgsm_rs(full))},
      {"IBP", std::make_shared<pv::defend::Ibp>(full)}};
  pv::report::Table bounds(
      {{"trained by", {}}, {"clean", {}}, {"radius", {}}, {"stand under PGD", {}}, {"proven by CROWN", {}}});
  std::vector<pv::report::Series> curves;
  std::vector<Counts> at_full;
  std::vector<std::int64_t> clean;
  for (const auto& training : trainings) {
    auto model = pv::nn::small_cnn({.seed = lesson.seed});
    const pv::defend::TrainOptions options{
        .epochs = 5, .seed = lesson.seed, .learning_rate = 3e-3, .progress = pv::report::progress()};
    pv::defend::Trainer(training.strategy, options).fit(model, lesson.train);
    clean.push_back(pv::defend::accuracy(model, test).correct);
    const pv::certify::Network network(model);
    curves.push_back({.name = training.name + ", under PGD"});
    curves.push_back({.name = training.name + ", proven"});
    for (const double radius : {0.025, 0.05, 0.075, 0.1}) {
      const auto threat = pv::attack::linf(radius);
      const auto attacked = pv::attack::run(pv::attack::Pgd(threat, {.steps = 40}), model, some, {.seed = lesson.seed});
      Counts counts;
      pv::certify::verify_images(network, some, {.threat = threat}, [&](std::int64_t i, const auto& proof) {
        counts.add(attacked.success[static_cast<std::size_t>(i)] == 0, proof.verified && proof.chosen == test.label(i));
      });
      contradictions += counts.contradictions;
      bounds.add_row({training.name, share(clean.back(), test.size()), pv::concat(radius),
                      share(counts.stand, some.size()), share(counts.proven, some.size())});
      curves[curves.size() - 2].points.push_back(point(radius, counts.stand, some.size()));
      curves.back().points.push_back(point(radius, counts.proven, some.size()));
      if (radius == full.epsilon) {
        at_full.push_back(counts);
      }
    }
  }
  std::printf("\nBounds, in Linf\n%s\n", bounds.to_string().c_str());

  // Votes. If a class gets the share p of all noisy copies of an image, it keeps the majority of those of every image
  // within sigma PhiInv(p) of it. p is not known, but bounded from 3,000 votes, wrongly for one image in a thousand.
  constexpr double kSigma = 0.25;
  auto model = pv::nn::small_cnn({.seed = lesson.seed});
  const pv::defend::AdversarialTraining training{
      .epochs = 5, .seed = lesson.seed, .options = {.gaussian_sigma = kSigma}};
  training.fit(model, lesson.train, pv::report::progress());
  const auto certificates =
      pv::certify::certify(model, more, {.noise = {.scale = kSigma}, .n = 3000, .alpha = 0.001, .seed = lesson.seed});
  const auto votes = pv::attack::smoothed(model, kSigma, {.draws = 8});
  pv::report::Table radii({{"radius", {}}, {"stand under PGD", {}}, {"proven by votes", {}}});
  pv::report::Series attacked_curve{.name = "under PGD"}, proven_curve{.name = "proven"};
  for (const double radius : {0.0, 0.2, 0.4, 0.6}) {
    const pv::attack::Pgd pgd(pv::attack::l2(radius), {.steps = 20});
    const auto attacked = pv::attack::run(pgd, votes, more, {.seed = lesson.seed});
    Counts counts;
    for (std::int64_t i = 0; i < more.size(); ++i) {
      const auto& proof = certificates[static_cast<std::size_t>(i)];
      counts.add(attacked.success[static_cast<std::size_t>(i)] == 0,
                 !proof.abstains() && proof.chosen == test.label(i) && proof.radius >= radius);
    }
    contradictions += counts.contradictions;
    radii.add_row({pv::concat(radius), share(counts.stand, more.size()), share(counts.proven, more.size())});
    attacked_curve.points.push_back(point(radius, counts.stand, more.size()));
    proven_curve.points.push_back(point(radius, counts.proven, more.size()));
  }
  std::printf("Votes over noise of sigma %g, in L2\n%s\n", kSigma, radii.to_string().c_str());
  lesson.picture("bounds.svg", pv::report::line_chart(
                                   curves, pv::lesson::percent_chart("Bounds: the truth lies between attack and proof",
                                                                     "radius in Linf")));
  lesson.picture("votes.svg",
                 pv::report::line_chart(
                     {attacked_curve, proven_curve},
                     pv::lesson::percent_chart("Votes: the truth lies between attack and proof", "radius in L2")));

  lesson.claim(contradictions == 0, "no image that is proven to stand was broken");
  lesson.claim(at_full[0].proven * 4 < at_full[0].stand,
               "adversarial training withstands, and next to nothing is proven");
  lesson.claim(at_full[1].proven * 2 > at_full[1].stand, "trained for its bounds, most of what stands is proven");
  lesson.claim(clean[1] < clean[0] - test.size() / 50, "which costs more than 2 % of clean accuracy again");
  return lesson.end();
}
