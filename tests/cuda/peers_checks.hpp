// SPDX-License-Identifier: MIT
#pragma once

#include <functional>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "core/thread_team.hpp"
#include "cuda/support.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/defend/adversarial.hpp"
#include "pavise/defend/trainer.hpp"
#include "pavise/device/accelerator.hpp"
#include "pavise/nn/models.hpp"

namespace cuda_checks {

/// How the devices of a team's ranks reach each other.
using PeersOf = std::function<std::shared_ptr<pavise::device::Peers>(pavise::Communicator&)>;

inline std::shared_ptr<pavise::device::Peers> through_hosts(pavise::Communicator& team) {
  return std::make_shared<pavise::device::HostPeers>(team);
}

/// Weights and history of adversarial training: a convolution whose slices are groups of few images, batch normalisation,
/// dropout, and fully connected layers whose slices are whole blocks. 1,300 images in minibatches of `batch`; the last one is smaller.
inline auto train_together(pavise::Communicator* team, std::shared_ptr<pavise::device::Peers> peers, double share,
                           std::int64_t batch) {
  using namespace pavise::nn;  // NOLINT(google-build-using-namespace)
  auto net = std::make_unique<Sequential<float>>();
  net->add<Conv2d>("conv", 1, 8, 3, pavise::ConvOptions{.stride = 2, .padding = 1});
  net->add<BatchNorm2d>("bn", 8);
  net->add<ReLU>("relu");
  net->add<Dropout>("dropout", 0.1);
  net->add<Flatten>("flatten");
  net->add<Linear>("fc1", 8 * 9, 16);
  net->add<ReLU>("relu2");
  net->add<Linear>("fc2", 16, 3);
  Model model("peers", std::move(net), pavise::Shape{1, 6, 6}, 5);
  std::vector<std::uint8_t> pixels;
  for (const float v : numbers(1300 * 36, 2, 0.0f, 255.0f)) {
    pixels.push_back(static_cast<std::uint8_t>(v));
  }
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < 1300; ++i) {
    labels.push_back(static_cast<std::int32_t>(i % 3));
  }
  const pavise::data::Dataset set("noise", model.input_shape(), pixels, labels, {"a", "b", "c"});
  pavise::defend::TrainOptions options{.epochs = 1,
                                       .batch_size = batch,
                                       .optimizer = "sgd",
                                       .schedule = "constant",
                                       .learning_rate = 0.05,
                                       .label_smoothing = 0.1,
                                       .team = team};
  options.accelerate = pavise::device::training(pavise::Device::cuda(0), pavise::device::Arithmetic::exact, peers);
  auto history = pavise::defend::Trainer(std::make_shared<pavise::defend::Adversarial>(
                                             pavise::attack::Pgd(pavise::attack::linf(0.1), {.steps = 1}), share),
                                         options)
                     .fit(model, set);
  const auto values = model.parameters().state();  // running statistics, too
  return std::pair(std::vector<float>(values.begin(), values.end()), std::move(history));
}

inline void check_peers(Report& report, const PeersOf& peers_of) {
  for (const auto& [share, batch] : {std::pair(1.0, 1024), std::pair(0.4, 700)}) {
    const auto [alone, history] = train_together(nullptr, nullptr, share, batch);
    for (const int ranks : {1, 2, 3, 6}) {  // of six, some have no images
      thread_team::run(
          ranks, [&, share = share, batch = batch, &alone = alone, &history = history](pavise::Communicator& team) {
            const auto [values, own] = train_together(&team, peers_of(team), share, batch);
            static std::mutex mutex;
            const std::lock_guard lock(mutex);
            const std::string what = pavise::concat("rank ", team.rank(), " of ", ranks, ", share ", share);
            report.equal(what, values.data(), alone.data(), static_cast<std::int64_t>(alone.size()));
            report.equal(what + ": loss", own.epochs.back().loss, history.epochs.back().loss);
            report.equal(what + ": right", own.epochs.back().adversarial.correct,
                         history.epochs.back().adversarial.correct);
            report.equal(what + ": clean images", own.epochs.back().clean.total, history.epochs.back().clean.total);
          });
    }
  }
}

}  // namespace cuda_checks
