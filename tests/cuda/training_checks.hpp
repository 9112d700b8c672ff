// SPDX-License-Identifier: MIT
// Training on the device against training on the CPU: sums over images have other orders, so that weights agree within
// rounding.
#pragma once

#include <cmath>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "cuda/device_checks.hpp"
#include "pavise/defend/adversarial.hpp"
#include "pavise/defend/distillation.hpp"
#include "pavise/defend/ibp.hpp"
#include "pavise/defend/presets.hpp"
#include "pavise/defend/trainer.hpp"

namespace cuda_checks {

inline void close(Report& report, const std::string& what, std::span<const float> got, std::span<const float> expected,
                  double most) {
  double largest = 0;
  double worst = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(expected[i])));
    worst = std::max(worst, std::abs(static_cast<double>(got[i]) - static_cast<double>(expected[i])));
  }
  report.equal(pavise::concat(what, ": differs by ", worst, ", the largest is ", largest),
               worst <= most * largest && largest > 0, true);
}

/// Images of noise, whose labels take turns.
inline pavise::data::Dataset noise_set(const Shape& shape, std::int64_t images, std::int32_t classes) {
  std::vector<std::uint8_t> pixels;
  for (const float v : numbers(images * shape.numel(), 2, 0.0f, 255.0f)) {
    pixels.push_back(static_cast<std::uint8_t>(v));
  }
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < images; ++i) {
    labels.push_back(static_cast<std::int32_t>(i % classes));
  }
  std::vector<std::string> names;
  for (std::int32_t k = 0; k < classes; ++k) {
    names.push_back(std::string(1, static_cast<char>('a' + k)));
  }
  return {"noise", shape, pixels, labels, names};
}

/// Training on the device: the gradient of the weights agrees with the CPU's within rounding, and so do some epochs.
inline void check_training(Report& report, const Table&) {
  using namespace pavise::defend;  // NOLINT(google-build-using-namespace)
  const auto make = [&] { return pavise::nn::lenet({.seed = 4, .input = Shape{2, 16, 16}, .classes = 5}); };
  Model model = make();
  LaneBatch<float> batch = random_batch(model, 37);
  Tape<float> tape;
  tape.begin(37, 16, pavise::Mode::training, true);
  model.parameters().zero_gradients();
  const auto z = model(tape.view(model.input_shape(), batch.values()));
  const auto loss = cross_entropy(z, batch.labels(), 0.1f);
  std::vector<float> seeds(static_cast<std::size_t>(batch.groups() * 16));
  std::fill_n(seeds.begin(), 37, 1.0f / 37.0f);
  tape.backward(loss, seeds.data());
  const auto gradients = model.parameters().gradients();
  const std::vector<float> expected(gradients.begin(), gradients.end());
  pavise::device::GpuAccelerator device(model, Device::cuda(0), {.capacity = 37, .training = true});
  std::vector<float> losses(37);
  std::vector<std::int32_t> predictions(37), expected_predictions(static_cast<std::size_t>(batch.groups() * 16));
  for (int pass = 0; pass < 3; ++pass) {  // as it is, and recorded
    model.parameters().zero_gradients();
    device.accumulate(batch, batch.images(), {}, batch.values(), 0.1f, losses.data(), predictions.data());
    close(report, "gradient of the weights", gradients, expected, 1e-5);
  }
  report.equal("losses", losses.data(), loss.data(), 37);
  argmax(z, expected_predictions.data());
  expected_predictions.resize(37);
  report.equal("predictions are equal", predictions == expected_predictions, true);

  const auto set = noise_set(model.input_shape(), 96, 5);
  const auto trained = [&](bool gpu, double share) {
    Model m = make();
    TrainOptions options{
        .epochs = 2, .batch_size = 40, .optimizer = "sgd", .schedule = "constant", .learning_rate = 0.05};
    if (gpu) {
      options.accelerate = pavise::device::training(Device::cuda(0));
    }
    const auto history =
        Trainer(std::make_shared<Adversarial>(pavise::attack::Pgd(pavise::attack::linf(0.1), {.steps = 2}), share),
                options)
            .fit(m, set);
    const auto values = m.parameters().values();
    return std::pair(std::vector<float>(values.begin(), values.end()), history);
  };
  for (const double share : {1.0, 0.5}) {
    const auto [cpu_values, cpu] = trained(false, share);
    const auto [gpu_values, gpu] = trained(true, share);
    close(report, "weights after two epochs", gpu_values, cpu_values, 1e-3);
    report.equal("loss", std::abs(cpu.epochs.back().loss - gpu.epochs.back().loss) < 1e-4, true);
    if (share == 1.0) {  // else the device perturbs all images, and leaves some out
      report.equal("forward passes", gpu.forward_passes, cpu.forward_passes);
      report.equal("backward passes", gpu.backward_passes, cpu.backward_passes);
    }
    report.equal("adversarial images", gpu.epochs.back().adversarial.total, cpu.epochs.back().adversarial.total);
  }
}

/// Batch normalisation by the batch's statistics, the other normalisations, with and without ReLU and in front of a pool; dropout; both behind and
/// in front of weights.
inline Model normalised(double temperature = 1) {
  using namespace pavise::nn;  // NOLINT(google-build-using-namespace)
  auto net = std::make_unique<Sequential<float>>();
  net->add<Conv2d>("conv", 2, 6, 3, pavise::ConvOptions{.padding = 1});
  net->add<BatchNorm2d>("bn", 6);
  net->add<ReLU>("relu");
  net->add<PreActBlock>("block", 6, 8, 2);
  net->add<BatchNorm2d>("bn2", 8);
  net->add<GroupNorm>("gn", 2, 8);
  net->add<ReLU>("relu2");
  net->add<MaxPool2d>("pool", 2);
  net->add<LayerNorm>("ln");
  net->add<Flatten>("flatten");
  net->add<Dropout>("dropout", 0.25);
  net->add<Linear>("fc", 8, 5);
  if (temperature != 1) {
    net->add<Temperature>("temperature", temperature);
  }
  return {"normalised", std::move(net), Shape{2, 4, 4}, 3};
}

/// A network that has bounds for training, with every kind of layer that does.
inline Model bounded() {
  using namespace pavise::nn;  // NOLINT(google-build-using-namespace)
  auto net = std::make_unique<Sequential<float>>();
  net->add<Normalize>("normalize", std::vector<double>{0.4, 0.5}, std::vector<double>{0.2, 0.3});
  net->add<Conv2d>("conv", 2, 32, 3, pavise::ConvOptions{.padding = 1});
  net->add<ReLU>("relu");
  net->add<Conv2d>("conv2", 32, 32, 3, pavise::ConvOptions{.padding = 1});
  net->add<ReLU>("relu2");
  net->add<MaxPool2d>("max", 2);
  net->add<AvgPool2d>("mean", pavise::PoolOptions{.kernel = 2, .stride = 1});
  net->add<Dropout>("dropout", 0.25);
  net->add<Flatten>("flatten");
  net->add<Linear>("fc", 288, 7);
  net->add<ReLU>("relu3");
  net->add<Linear>("fc2", 7, 5);
  return {"bounded", std::move(net), Shape{2, 8, 8}, 3};
}

/// One that CROWN goes back through: convolutions by both algorithms, with a stride, and without a bias.
inline Model rectified() {
  using namespace pavise::nn;  // NOLINT(google-build-using-namespace)
  auto net = std::make_unique<Sequential<float>>();
  net->add<Normalize>("normalize", std::vector<double>{0.4, 0.5}, std::vector<double>{0.2, 0.3});
  net->add<Conv2d>("conv", 2, 16, 3, pavise::ConvOptions{.padding = 1});
  net->add<ReLU>("relu");
  net->add<Conv2d>("conv2", 16, 16, 3, pavise::ConvOptions{.padding = 1});
  net->add<ReLU>("relu2");
  net->add<Conv2d>("conv3", 16, 6, 4, pavise::ConvOptions{.stride = 2, .padding = 1}, false);
  net->add<ReLU>("relu3");
  net->add<Flatten>("flatten");
  net->add<Linear>("fc", 54, 7);
  net->add<ReLU>("relu4");
  net->add<Linear>("fc2", 7, 5);
  return {"rectified", std::move(net), Shape{2, 7, 7}, 3};
}

/// CROWN's margins are the CPU's to the last bit.
inline void check_linear_bounds(Report& report, const Table&) {
  using namespace pavise::defend;  // NOLINT(google-build-using-namespace)
  const Model model = rectified();
  constexpr std::int64_t kImages = 37;
  constexpr std::int64_t kClasses = 5;
  const std::int64_t ends = 2 * model.input_shape().numel();
  IntervalNetwork<float> network("crown-ibp", model, true);
  const pavise::attack::Part part{
      "margins", Shape{ends + kClasses * kClasses}, [&](pavise::Var<float> x) {
        const auto end = [&](std::int64_t i) {
          return reshape(slice(x, 0, i * ends / 2, (i + 1) * ends / 2), model.input_shape());
        };
        const auto trace = network.propagate({end(0), end(1)});
        return network.crown_margins(trace, reshape(slice(x, 0, ends, x.size()), Shape{kClasses, kClasses}));
      }};
  Tape<float> tape;
  tape.begin(kImages, 16, pavise::Mode::training, true);
  const LaneBatch<float> batch = random_batch(model, kImages);
  pavise::Var<float> pixels = tape.view(model.input_shape(), const_cast<float*>(batch.values()));
  const pavise::Var<float> x = concat(concat(flatten(pixels - 0.02f), flatten(pixels + 0.02f), 0),
                                      flatten(network.differences(tape, batch.labels())), 0);
  pavise::device::GpuAccelerator device(model, Device::cuda(0), {.capacity = kImages, .training = true});
  const pavise::Var<float> on_device = device.apply(part, x, kImages);
  const pavise::Var<float> on_cpu = part.function(x);
  const Rows got = from_lanes(on_device.data(), kImages, kClasses, 16);
  const Rows expected = from_lanes(on_cpu.data(), kImages, kClasses, 16);
  report.equal("margins", got.data(), expected.data(), kImages * kClasses);
}

/// Training of bounds: intervals and CROWN's margins are the device's, margins of intervals the host's.
inline void check_bounds_training(Report& report, const Table&) {
  using namespace pavise::defend;  // NOLINT(google-build-using-namespace)
  for (const bool crown : {false, true}) {
    std::vector<std::vector<float>> values;
    std::vector<History> histories;
    for (const bool gpu : {false, true}) {
      Model model = crown ? rectified() : bounded();
      TrainOptions options{
          .epochs = 2, .batch_size = 33, .seed = 7, .optimizer = "sgd", .schedule = "constant", .learning_rate = 0.02};
      if (gpu) {
        options.accelerate = pavise::device::training(Device::cuda(0));
      }
      const IbpOptions bounds{.crown = crown, .warm_up = 0, .ramp = crown ? 1.0 : 0.5};  // CROWN's to the end
      histories.push_back(Trainer(std::make_shared<Ibp>(pavise::attack::linf(0.1), bounds), options)
                              .fit(model, noise_set(model.input_shape(), 40, 5)));
      const auto v = model.parameters().values();
      values.emplace_back(v.begin(), v.end());
    }
    const std::string name = crown ? "crown-ibp" : "ibp";
    close(report, name, values[1], values[0], 1e-3);
    const double off = std::abs(histories[0].epochs.back().loss - histories[1].epochs.back().loss);
    report.equal(pavise::concat(name, ": the loss differs by ", off), off < 1e-3, true);
  }
}

/// Every defence: weights, running statistics and records of two epochs of a network with batch normalisation and
/// dropout.
inline void check_defenses(Report& report, const Table&) {
  using namespace pavise::defend;  // NOLINT(google-build-using-namespace)
  const auto set = noise_set(Shape{2, 4, 4}, 40, 5);
  const auto compare = [&](const std::string& name, double temperature, const auto& strategy, double sigma) {
    std::vector<std::vector<float>> states;
    std::vector<History> histories;
    for (const bool gpu : {false, true}) {
      Model model = normalised(temperature);
      TrainOptions options{.epochs = 2,
                           .batch_size = 33,
                           .seed = 7,
                           .optimizer = "sgd",
                           .schedule = "constant",
                           .learning_rate = 0.02,
                           .gaussian_sigma = sigma};
      if (gpu) {
        options.accelerate = pavise::device::training(Device::cuda(0));
      }
      histories.push_back(Trainer(strategy(), options).fit(model, set));
      const auto state = model.parameters().state();
      states.emplace_back(state.begin(), state.end());
    }
    close(report, name, states[1], states[0], 2e-3);
    const auto& cpu = histories[0];
    const auto& gpu = histories[1];
    const double off = std::abs(cpu.epochs.back().loss - gpu.epochs.back().loss);
    report.equal(pavise::concat(name, ": the loss differs by ", off), off < 2e-3, true);
    report.equal(name + ": forward passes", gpu.forward_passes, cpu.forward_passes);
    report.equal(name + ": backward passes", gpu.backward_passes, cpu.backward_passes);
    report.equal(name + ": clean images", gpu.epochs.back().clean.total, cpu.epochs.back().clean.total);
    report.equal(name + ": adversarial images", gpu.epochs.back().adversarial.total,
                 cpu.epochs.back().adversarial.total);
  };
  for (const auto name : defense_names()) {
    if (name == "ibp" || name == "crown-ibp" || name == "awp" || name == "awp-fgsm") {
      continue;  // have no bounds of this network; or are like others
    }
    const auto threat = name == "smoothadv" ? pavise::attack::l2(0.3) : pavise::attack::linf(0.05);
    const auto make = [&] { return make_defense(name, threat, {.steps = 2, .draws = 2}); };
    compare(
        std::string(name), 1, [&] { return make().strategy; }, make().gaussian_sigma);
  }
  const Model teacher = normalised(5);
  compare(
      "distill", 5, [&] { return std::make_shared<Distillation>(soft_labels(teacher, set, 5)); }, 0);
}

}  // namespace cuda_checks
