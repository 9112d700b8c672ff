// SPDX-License-Identifier: MIT
// Updates on the device against the host's updates by the same gradients: weights, running statistics, the optimizer's
// state and records of a training, bit for bit.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "cuda/training_checks.hpp"
#include "pavise/defend/awp.hpp"

namespace cuda_checks {

/// A device that leaves updates to the host.
class HostUpdates : public pavise::device::GpuAccelerator {
 public:
  using GpuAccelerator::GpuAccelerator;
  void take_updates(pavise::optim::Optimizer<float>&) override {}
};

/// Another strategy, and all that training changes at the end of each epoch. Counts the batches, those behind which the host
/// does not have the weights, and passes for which it had no need of them.
class Watched : public pavise::defend::Strategy {
 public:
  explicit Watched(std::shared_ptr<pavise::defend::Strategy> inner) : inner_(std::move(inner)) {}
  std::string name() const override { return inner_->name(); }
  pavise::defend::Recipe recipe() const override { return inner_->recipe(); }
  std::int64_t replays() const override { return inner_->replays(); }
  bool runs_on_device() const override { return true; }
  void begin(const Model& model, std::int64_t batch_size) override { inner_->begin(model, batch_size); }
  void craft(pavise::defend::Step& step) override { inner_->craft(step); }
  void accumulate(pavise::defend::Step& step) override {
    attacked += step.model.parameters().values_held() ? 1 : 0;
    inner_->accumulate(step);
  }
  void after_update(pavise::defend::Step& step) override { inner_->after_update(step); }
  void inspect(pavise::defend::Inspection& run) override {
    ++batches;
    held += run.model().parameters().values_held() ? 1 : 0;
    inner_->inspect(run);
    if (run.end_of_epoch()) {
      const auto snapshot = run.snapshot();
      states.insert(states.end(), snapshot.values.begin(), snapshot.values.end());
    }
  }
  void save(pavise::defend::StateWriter& out) const override { inner_->save(out); }
  void load(pavise::defend::StateReader& in) override { inner_->load(in); }

  std::vector<float> states;
  int batches = 0;
  int held = 0;
  int attacked = 0;

 private:
  std::shared_ptr<pavise::defend::Strategy> inner_;
};

/// Behind which updates the weights stay on the device.
enum class Stay { never, sometimes, always };

/// A training.
struct Updated {
  std::string what;
  std::function<Model()> model;
  std::function<std::shared_ptr<pavise::defend::Strategy>()> strategy;
  pavise::defend::TrainOptions options;
  Stay stay = Stay::always;
};

/// The states at the ends of the epochs, the model's at the end, and its losses.
inline std::vector<float> train_updated(Report& report, const Updated& u, bool host) {
  using namespace pavise::defend;  // NOLINT(google-build-using-namespace)
  Model model = u.model();
  TrainOptions options = u.options;
  options.epochs = 2;
  options.batch_size = 16;
  options.seed = 7;
  const auto on_device = pavise::device::training(Device::cuda(0));
  options.accelerate = [=](const Model& m, std::int64_t batch_size) -> std::unique_ptr<pavise::attack::Accelerator> {
    if (host) {
      return std::make_unique<HostUpdates>(m, Device::cuda(0),
                                           pavise::device::Options{.capacity = batch_size, .training = true});
    }
    return on_device(m, batch_size);
  };
  const auto set = noise_set(model.input_shape(), 40, 5);
  const auto watched = std::make_shared<Watched>(u.strategy());
  int batches = 0;
  const bool stops = !options.checkpoint.empty();
  if (stops) {  // behind the second batch of the second epoch, and goes on from behind the first
    std::filesystem::remove(options.checkpoint);
    options.progress = [&](const Progress&) {
      if (++batches == 5) {
        throw std::runtime_error("stopped");
      }
    };
    bool stopped = false;
    try {
      Trainer(watched, options).fit(model, set);
    } catch (const std::runtime_error&) {
      stopped = true;
    }
    report.equal(u.what + ": stops", stopped, true);
    const auto left = model.parameters().state();  // is there, whatever became of the run
    watched->states.insert(watched->states.end(), left.begin(), left.end());
    model = u.model();
  }
  const auto history = Trainer(watched, options).fit(model, set);
  std::vector<float> out = std::move(watched->states);
  report.equal(u.what + ": the host has the weights", model.parameters().values_held(), false);
  const auto state = model.parameters().state();
  out.insert(out.end(), state.begin(), state.end());
  const auto gradients = model.parameters().gradients();
  out.insert(out.end(), gradients.begin(), gradients.end());
  for (const auto& e : history.epochs) {
    for (const auto value : {e.loss, static_cast<double>(e.clean.correct), static_cast<double>(e.adversarial.correct),
                             static_cast<double>(e.validation.correct)}) {
      out.push_back(static_cast<float>(value));
    }
  }
  const Stay stayed = watched->held == 0                 ? Stay::never
                      : watched->held < watched->batches ? Stay::sometimes
                                                         : Stay::always;
  report.equal(u.what + ": weights stay on the device", static_cast<int>(stayed),
               static_cast<int>(host ? Stay::never : u.stay));
  if (!host && u.stay == Stay::always && !stops) {  // not for the first two of the run, and behind the end of an epoch
    report.equal(u.what + ": attacks leave them there", watched->attacked >= 3, true);
  }
  return out;
}

inline Model winograd_model() {
  using namespace pavise::nn;  // NOLINT(google-build-using-namespace)
  auto net = std::make_unique<Sequential<float>>();
  net->add<Normalize>("normalize", std::vector<double>{0.4}, std::vector<double>{0.3});
  net->add<Conv2d>("conv", 1, 32, 3, pavise::ConvOptions{.stride = 2, .padding = 1});
  net->add<ReLU>("relu");
  net->add<Conv2d>("conv2", 32, 32, 3, pavise::ConvOptions{.padding = 1});
  net->add<ReLU>("relu2");
  net->add<Flatten>("flatten");
  net->add<Linear>("fc", 512, 5);
  return {"winograd", std::move(net), Shape{1, 8, 8}, 3};
}

/// Convolutions with a normalisation behind, which an attack's passes fold into their weights, and one in front.
inline Model folded_model() {
  using namespace pavise::nn;  // NOLINT(google-build-using-namespace)
  auto net = std::make_unique<Sequential<float>>();
  net->add<BatchNorm2d>("bn0", 2);
  net->add<Conv2d>("conv", 2, 5, 3, pavise::ConvOptions{.stride = 2}, false);
  net->add<BatchNorm2d>("bn", 5);
  net->add<ReLU>("relu");
  net->add<Conv2d>("conv2", 5, 6, 2);
  net->add<BatchNorm2d>("bn2", 6);
  net->add<ReLU>("relu2");
  net->add<Flatten>("flatten");
  net->add<Linear>("fc", 24, 5);
  return {"folded", std::move(net), Shape{2, 7, 7}, 3};
}

inline Model plain_model() {
  using namespace pavise::nn;  // NOLINT(google-build-using-namespace)
  auto net = std::make_unique<Sequential<float>>();
  net->add<Conv2d>("conv", 1, 3, 3, pavise::ConvOptions{.stride = 2, .padding = 1});
  net->add<ReLU>("relu");
  net->add<Flatten>("flatten");
  net->add<Linear>("fc", 27, 5);
  return {"plain", std::move(net), Shape{1, 6, 6}, 3};
}

inline void check_updates(Report& report, const Table&) {
  using namespace pavise::defend;  // NOLINT(google-build-using-namespace)
  const auto pgd = [] {
    return std::make_shared<Adversarial>(pavise::attack::Pgd(pavise::attack::linf(0.1), {.steps = 1}), 1.0);
  };
  const auto preset = [](const char* name) {
    return [name] { return make_defense(name, pavise::attack::linf(0.1), {.steps = 1}).strategy; };
  };
  const TrainOptions sgd{
      .optimizer = "sgd", .optimizer_options = {.momentum = 0.0}, .schedule = "cyclic", .learning_rate = 0.05};
  TrainOptions nesterov = sgd;
  nesterov.optimizer_options = {.momentum = 0.9, .nesterov = true, .weight_decay = 5e-3};
  TrainOptions momentum = sgd;
  momentum.optimizer_options = {.momentum = 0.9, .weight_decay = 5e-3};
  TrainOptions adam = sgd;
  adam.optimizer = "adam";
  adam.optimizer_options.weight_decay = 1e-2;
  adam.label_smoothing = 0.1;
  TrainOptions adamw = adam;
  adamw.optimizer = "adamw";
  TrainOptions clipped = momentum;
  clipped.clip_norm = 0.5;
  TrainOptions averaged = momentum;
  averaged.average_decay = 0.9;
  averaged.validation_size = 7;
  TrainOptions resumed = adam;
  resumed.checkpoint =
      (std::filesystem::temp_directory_path() / pavise::concat("pavise-updates-", ::getpid(), ".ckpt")).string();
  resumed.checkpoint_interval = 1;
  TrainOptions resumed_momentum = momentum;
  resumed_momentum.checkpoint = resumed.checkpoint;
  resumed_momentum.checkpoint_interval = 1;
  const std::vector<Updated> cases = {
      {"sgd", plain_model, pgd, sgd},
      {"nesterov, Winograd", winograd_model, pgd, nesterov},
      {"adam", plain_model, pgd, adam},
      {"adamw, standard", plain_model, [] { return std::make_shared<Standard>(); }, adamw},
      {"folded", folded_model, pgd, momentum},
      {"normalised", [] { return normalised(); }, pgd, adam},
      {"trades, normalised", [] { return normalised(); }, preset("trades"), momentum},
      {"free", folded_model, preset("free"), momentum},
      {"awp", folded_model, preset("awp"), momentum, Stay::never},
      {"fgsm-rs", plain_model, preset("fgsm-rs"), momentum},
      {"clipped", plain_model, pgd, clipped, Stay::never},
      {"averaged", folded_model, pgd, averaged, Stay::never},
      {"resumed", folded_model, pgd, resumed},
      {"resumed, momentum", plain_model, pgd, resumed_momentum},
      {"ibp", plain_model,  // but for the first update margins have a share in the gradient, which is the host's
       [] { return std::make_shared<Ibp>(pavise::attack::linf(0.02), IbpOptions{.warm_up = 0}); }, adam,
       Stay::sometimes},
  };
  for (const Updated& u : cases) {
    const auto expected = train_updated(report, u, true);
    const auto got = train_updated(report, u, false);
    report.equal(u.what + ": numbers", got.size(), expected.size());
    if (got.size() == expected.size()) {
      report.equal(u.what, got.data(), expected.data(), static_cast<std::int64_t>(expected.size()));
    }
  }
  std::filesystem::remove(resumed.checkpoint);
}

}  // namespace cuda_checks
