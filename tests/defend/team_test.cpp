// SPDX-License-Identifier: MIT
// Processes that train together: the weights, the counts and the checkpoint are those of one process, to the last bit.
#include <doctest/doctest.h>

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/thread_team.hpp"
#include "defend/small.hpp"
#include "io/scratch.hpp"
#include "pavise/defend/defend.hpp"
#include "pavise/defend/presets.hpp"

namespace pv = pavise;
namespace defend = pavise::defend;
using small::Trained;

namespace {

/// Every kind of parameter: of a convolution, of batch and group normalisation, of fully connected layers.
pv::nn::Model network(bool normalise) {
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  net->add<pv::nn::Conv2d>("conv", 1, 7, 3, pv::ConvOptions{.padding = 1});
  if (normalise) {
    net->add<pv::nn::BatchNorm2d>("bn", 7);
  }
  net->add<pv::nn::ReLU>("relu1");
  if (normalise) {
    net->add<pv::nn::GroupNorm>("gn", 1, 7);
  }
  net->add<pv::nn::Flatten>("flatten");
  net->add<pv::nn::Linear>("fc1", 7 * small::kPixels, 19);
  net->add<pv::nn::ReLU>("relu2");
  net->add<pv::nn::Linear>("fc2", 19, 2);
  return {"team", std::move(net), pv::Shape{1, 1, small::kPixels}, 3};
}

/// Batches of 70, 70 and 11 images: five groups, the last of them not full, and a single one.
Trained train_by(const std::string& defense, defend::TrainOptions options) {
  const bool bounds = defense == "ibp" || defense == "crown-ibp";
  auto model = network(!bounds);
  options.epochs = 2;
  options.batch_size = 70;
  options.seed = 4;
  options.average_decay = 0.9;
  options.augmentation = {.flip = true};
  const auto threat = defense == "smoothadv" ? pv::attack::l2(0.3) : small::threat();
  const auto made = defend::make_defense(defense, threat, {.steps = 2, .draws = 2});
  options.gaussian_sigma = made.gaussian_sigma;
  options.validation_attack = pv::attack::Pgd{small::threat(), {.steps = 2}};
  auto history = defend::Trainer(made.strategy, options).fit(model, small::images(151), small::images(40, 2));
  return {small::state(model), std::move(history)};
}

}  // namespace

TEST_CASE("team: every defence trains to the bits of one process, with more ranks than groups too") {
  const small::Threads threads(1);  // a rank is a thread here
  for (const auto name : defend::defense_names()) {
    CAPTURE(name);
    const Trained alone = train_by(std::string(name), {});
    for (const int ranks : {1, 2, 3, 7}) {
      CAPTURE(ranks);
      std::vector<Trained> all(static_cast<std::size_t>(ranks));
      thread_team::run(ranks, [&](pv::Communicator& team) {
        all[static_cast<std::size_t>(team.rank())] = train_by(std::string(name), {.team = &team});
      });
      for (const auto& outcome : all) {
        small::check_same(outcome, alone);
      }
    }
  }
}

TEST_CASE("team: a share of each batch is perturbed, whoever has it") {
  const small::Threads threads(1);
  const auto run = [](pv::Communicator* team) {
    auto model = network(true);
    const auto strategy = std::make_shared<defend::Adversarial>(pv::attack::Pgd{small::threat(), {.steps = 2}}, 0.4);
    auto history =
        defend::Trainer(strategy, {.epochs = 1, .batch_size = 70, .team = team}).fit(model, small::images(151));
    return Trained{small::state(model), std::move(history)};
  };
  const Trained alone = run(nullptr);
  CHECK(alone.history.epochs.front().adversarial.total == 28 + 28 + 4);
  thread_team::run(3, [&](pv::Communicator& team) { small::check_same(run(&team), alone); });
}

TEST_CASE("team: a run that was stopped goes on with another number of ranks") {
  const small::Threads threads(1);
  const pavise_test::Scratch scratch;
  for (const char* defense : {"awp-fgsm-rs", "free"}) {
    CAPTURE(defense);
    const Trained whole = train_by(defense, {});
    const std::string checkpoint = scratch / (std::string(defense) + ".checkpoint");
    struct Stopped {};
    // Three ranks stop in the second epoch, two a little later; one process ends the run.
    const auto part = [&](int ranks, std::int64_t batches) {
      thread_team::run(ranks, [&](pv::Communicator& team) {
        std::int64_t done = 0;
        try {
          train_by(defense, {.checkpoint = checkpoint,
                             .checkpoint_interval = 1,
                             .progress =
                                 [&](const defend::Progress&) {
                                   if (++done == batches) {
                                     throw Stopped();
                                   }
                                 },
                             .team = &team});
          FAIL("it was not stopped");
        } catch (const Stopped&) {
        }
      });
    };
    part(3, 2);
    part(2, 3);
    const Trained rest = train_by(defense, {.checkpoint = checkpoint, .checkpoint_interval = 1});
    CHECK(rest.history.resumed_at > 0);
    small::check_same(rest, whole);
  }
}
