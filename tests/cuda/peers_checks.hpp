// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/thread_team.hpp"
#include "cuda/training_checks.hpp"

namespace cuda_checks {

/// How the devices of a team's ranks reach each other.
using PeersOf = std::function<std::shared_ptr<pavise::device::Peers>(pavise::Communicator&)>;

inline std::shared_ptr<pavise::device::Peers> through_hosts(pavise::Communicator& team) {
  return std::make_shared<pavise::device::HostPeers>(team);
}

/// A training whose minibatches are shared.
struct Together {
  const char* what;
  bool normalised;  ///< batch normalisation and dropout: a pass in evaluation mode is another than one in training
  std::int64_t batch;
  std::function<std::shared_ptr<pavise::defend::Strategy>()> strategy;
};

/// Weights, running statistics and history: a convolution whose slices are groups of few images, and fully connected
/// layers whose slices are whole blocks. Two epochs of 700 images; the last minibatch is smaller.
inline auto train_together(pavise::Communicator* team, std::shared_ptr<pavise::device::Peers> peers,
                           const Together& together) {
  using namespace pavise::nn;  // NOLINT(google-build-using-namespace)
  auto net = std::make_unique<Sequential<float>>();
  net->add<Conv2d>("conv", 1, 4, 3, pavise::ConvOptions{.stride = 2, .padding = 1});
  if (together.normalised) {
    net->add<BatchNorm2d>("bn", 4);
  }
  net->add<ReLU>("relu");
  if (together.normalised) {
    net->add<Dropout>("dropout", 0.1);
  }
  net->add<Flatten>("flatten");
  net->add<Linear>("fc1", 4 * 9, 12);
  net->add<ReLU>("relu2");
  net->add<Linear>("fc2", 12, 3);
  Model model("peers", std::move(net), pavise::Shape{1, 6, 6}, 5);
  pavise::defend::TrainOptions options{.epochs = 2,
                                       .batch_size = together.batch,
                                       .optimizer = "sgd",
                                       .schedule = "constant",
                                       .learning_rate = 0.05,
                                       .team = team};
  options.accelerate = pavise::device::training(pavise::Device::cuda(0), pavise::device::Arithmetic::exact, peers);
  auto history =
      pavise::defend::Trainer(together.strategy(), options).fit(model, noise_set(model.input_shape(), 700, 3));
  const auto state = model.parameters().state();
  return std::pair(std::vector<float>(state.begin(), state.end()), std::move(history));
}

/// Adversarial training, of a share of each minibatch.
inline Together pgd_together(bool normalised, double share, std::int64_t batch) {
  return {"pgd", normalised, batch, [share] {
            const pavise::attack::Pgd pgd(pavise::attack::linf(0.1), {.steps = 1});
            return std::make_shared<pavise::defend::Adversarial>(pgd, share);
          }};
}

inline void check_peers(Report& report, const PeersOf& peers_of) {
  using namespace pavise::defend;  // NOLINT(google-build-using-namespace)
  const auto preset = [](const char* name, std::int64_t batch) {
    return Together{name, true, batch,
                    [name] { return make_defense(name, pavise::attack::linf(0.1), {.steps = 1}).strategy; }};
  };
  // The last layer of intervals is differentiated on the host; linear bounds end with the ramp.
  const Together bounds{
      "crown-ibp", false, 600,
      [] { return std::make_shared<Ibp>(pavise::attack::linf(0.02), IbpOptions{.crown = true, .warm_up = 0}); }};
  for (const Together& together : {pgd_together(false, 1.0, 600), pgd_together(true, 0.4, 520), preset("free", 300),
                                   preset("trades", 600), preset("awp-mart", 600), bounds}) {
    const auto [alone, history] = train_together(nullptr, nullptr, together);
    for (const int ranks : {1, 2, 3, 5}) {  // of five, some have no images
      std::mutex mutex;
      thread_team::run(ranks, [&, &alone = alone, &history = history](pavise::Communicator& team) {
        const auto [state, own] = train_together(&team, peers_of(team), together);
        const std::lock_guard lock(mutex);
        const std::string what = pavise::concat(together.what, ", rank ", team.rank(), " of ", ranks);
        report.equal(what, state.data(), alone.data(), static_cast<std::int64_t>(alone.size()));
        report.equal(what + ": loss", own.epochs.back().loss, history.epochs.back().loss);
        report.equal(what + ": right", own.epochs.back().adversarial.correct,
                     history.epochs.back().adversarial.correct);
        report.equal(what + ": clean images", own.epochs.back().clean.total, history.epochs.back().clean.total);
      });
    }
  }
}

}  // namespace cuda_checks
