// SPDX-License-Identifier: MIT
// Noise: in front of a network it is a defence that its own randomness flatters; in training it is one that holds.
#include "../lesson.hpp"
#include "pavise/attack/smoothed.hpp"
#include "pavise/attack/transfer.hpp"
#include "pavise/certify/smoothing.hpp"
#include "pavise/pavise.hpp"

namespace pv = pavise;
using pv::lesson::point;
using pv::lesson::share;

int main(int argc, char** argv) {
  pv::lesson::Lesson lesson(argc, argv, "Lesson 3: noise", 20000, 300);
  const auto& test = lesson.test;
  const std::int64_t n = test.size();
  const pv::attack::Pgd pgd(pv::attack::l2(1), {.steps = 20});  // the ball of radius 1: a change of all pixels by 1/28
  const pv::attack::RunOptions options{.seed = lesson.seed, .judging_draws = 50};

  pv::report::Table table({{"noise in training", {}},
                           {"clean", {}},
                           {"PGD", {}},
                           {"vote, clean", {}},
                           {"vote, attack without noise", {}},
                           {"vote, attack on it", {}}});
  pv::report::Series clean{.name = "clean"}, alone{.name = "PGD on the network"}, vote{.name = "PGD on the vote"};
  std::vector<pv::lesson::Row> rows = {{"the image", {}}};
  const auto images = pv::attack::to_tensor(test.first(6));
  for (std::int64_t i = 0; i < 6; ++i) {
    rows[0].shots.push_back({pv::lesson::image_of(images, i), lesson.name(test.label(i))});
  }
  struct Counts {
    std::int64_t clean, alone, unaware, vote;
  };
  std::vector<Counts> found;
  for (const double sigma : {0.0, 0.25, 0.5, 1.0}) {
    // Normal numbers with deviation sigma are added to every training image, new ones each time that it is seen.
    auto model = pv::nn::small_cnn({.seed = lesson.seed});
    const pv::defend::AdversarialTraining training{
        .epochs = 4, .seed = lesson.seed, .options = {.gaussian_sigma = sigma}};
    training.fit(model, lesson.train, pv::report::progress());
    const auto plain = pv::attack::run(pgd, model, test, options);

    // The same network asked many times, each time with noise of its own: the class that it answers most often counts. An
    // attack can ignore that and be made on the network alone; or raise, in every step, the loss of the mean of 16 answers.
    const double drawn = sigma > 0 ? sigma : 0.25;
    const auto votes = pv::attack::smoothed(model, drawn, {.draws = 16});
    const auto unaware = pv::attack::run(pv::attack::transfer(pgd, model), votes, test, options);
    const auto aware = pv::attack::run(pgd, votes, test, options);
    found.push_back({plain.clean_correct, plain.robust_correct, unaware.robust_correct, aware.robust_correct});
    table.add_row({sigma > 0 ? pv::concat("sigma ", sigma) : "none; votes at 0.25", share(plain.clean_correct, n),
                   share(plain.robust_correct, n), share(aware.clean_correct, n), share(unaware.robust_correct, n),
                   share(aware.robust_correct, n)});
    clean.points.push_back(point(sigma, plain.clean_correct, n));
    alone.points.push_back(point(sigma, plain.robust_correct, n));
    vote.points.push_back(point(sigma, aware.robust_correct, n));

    // Six images under noise of deviation 0.5, and what the network answers.
    rows.push_back({sigma > 0 ? pv::concat("trained at|sigma ", sigma) : "trained|without", {}});
    for (std::int64_t i = 0; i < 6; ++i) {
      const auto sample =
          pv::certify::first_samples(model, pv::certify::Sampler({.scale = 0.5}), test, i, lesson.seed, 1);
      rows.back().shots.push_back({sample[0].image, lesson.name(sample[0].chosen)});
    }
  }
  std::printf("\n%s\n", table.to_string().c_str());
  lesson.picture("images.svg", pv::lesson::gallery("Six images under noise of sigma 0.5, and the answers", rows));
  lesson.picture("price.svg", pv::report::line_chart({clean, alone, vote},
                                                     pv::lesson::percent_chart("Clean, and attacked in L2 at radius 1",
                                                                               "sigma in training")));

  lesson.claim(found[0].vote < found[0].unaware,
               "noise in front of a plain network: averaging finds more than ignoring it");
  lesson.claim(found[2].alone > 2 * found[0].alone, "trained with noise of 0.5 more than twice as many images stand");
  lesson.claim(found[3].clean < found[0].clean - n / 20, "noise of 1 costs more than 5 % of clean accuracy");
  return lesson.end();
}
