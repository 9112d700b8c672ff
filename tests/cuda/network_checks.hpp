// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>

#include "cuda/network.hpp"
#include "pavise/attack/pgd.hpp"

namespace cuda_checks {

/// A whole attack on small-cnn: random start, steps, success count. The adversarial images, logits and losses have the
/// CPU's bits, also when the attack is a recorded graph; weight gradients agree within rounding.
inline void check_attack(Report& report, const Table& t, std::int64_t images, int steps) {
  const auto model = pavise::nn::small_cnn({.seed = 3});
  auto& store = model.parameters();
  const auto threat = pavise::attack::linf(0.1);
  const pavise::attack::Pgd pgd(threat, {.steps = steps});
  const Rows pixels = numbers(images * 784, 1, 0.0f, 1.0f);
  pavise::LaneBatch<float> batch(pavise::Shape{1, 28, 28}, images, 16);
  pavise::RandomSequence random({.purpose = pavise::Purpose::test});
  std::vector<std::int32_t> label(static_cast<std::size_t>(images));
  std::vector<std::uint32_t> ids(static_cast<std::size_t>(images));
  for (std::size_t i = 0; i < label.size(); ++i) {
    label[i] = batch.labels()[i] = static_cast<std::int32_t>(random.below(10));
    ids[i] = batch.ids()[i] = 100 + static_cast<std::uint32_t>(i);
  }
  batch.repeat_last();
  batch.pack([&](std::int64_t i, float* out) { std::copy_n(pixels.begin() + i * 784, 784, out); });
  pavise::AlignedVector<float> adversarial(static_cast<std::size_t>(batch.groups() * 784 * 16) + 16);
  pavise::attack::Passes passes;
  pgd.perturb(model, batch, adversarial.data(), {.seed = 9, .iteration = 2}, passes);

  const kernels::cuda::Stream stream = t.make_stream();
  {
    DeviceNetwork net(t, small_cnn_layers(store), std::vector<float>(store.values().begin(), store.values().end()),
                      images, stream);
    const OnDevice<float> center(t, to_lanes(pixels, images, 784, 32));
    const OnDevice<float> x(t, net.lanes(784));
    const OnDevice<std::int32_t> labels(t, to_lanes(label, images, 1, 32));
    const OnDevice<std::uint32_t> id(t, to_lanes(ids, images, 1, 32));
    const OnDevice<std::uint32_t> restart(t, std::vector<std::uint32_t>(net.lanes(1)));
    const kernels::cuda::AttackStep step{.norm = 0,
                                         .alpha = static_cast<float>(pgd.options().step_size),
                                         .epsilon = static_cast<float>(threat.epsilon),
                                         .low = 0.0f,
                                         .high = 1.0f};
    const auto start = [&] {
      t.random_start(stream, x.get(), center.get(), 784, net.groups(), step,
                     {.seed = 9,
                      .purpose = static_cast<std::uint32_t>(pavise::Purpose::random_start),
                      .iteration = 2,
                      .image = id.get(),
                      .restart = restart.get()},
                     nullptr);
    };
    const auto expected = from_lanes(adversarial.data(), images, 784, 16);
    start();
    net.attack(x.get(), center.get(), labels.get(), step, steps);
    t.synchronize(stream);
    report.equal("PGD", from_lanes(x.values().data(), images, 784, 32).data(), expected.data(), images * 784);

    t.begin_graph(stream);
    net.attack(x.get(), center.get(), labels.get(), step, steps);
    net.forward(x.get());
    net.count_correct(labels.get());
    const auto graph = t.end_graph(stream);
    start();
    t.launch_graph(graph, stream);
    t.synchronize(stream);
    t.destroy_graph(graph);
    report.equal("PGD in a graph", from_lanes(x.values().data(), images, 784, 32).data(), expected.data(),
                 images * 784);

    // The same images through the CPU's network, in training's schedule.
    pavise::Tape<float> tape;
    tape.begin(images, 16, pavise::Mode::evaluation, true);
    store.zero_gradients();
    const auto logits = model(tape.view(pavise::Shape{1, 28, 28}, adversarial.data()));
    const auto loss = cross_entropy(logits, batch.labels());
    tape.backward(loss);
    std::uint32_t correct = 0;
    const auto host_logits = from_lanes(logits.data(), images, 10, 16);
    for (std::size_t i = 0; i < label.size(); ++i) {
      const auto row = host_logits.begin() + static_cast<std::ptrdiff_t>(i) * 10;
      correct += std::max_element(row, row + 10) - row == label[i] ? 1 : 0;
    }
    std::vector<float> got(net.lanes(10));
    std::vector<std::uint32_t> counted(1);
    t.copy_to_host(got.data(), net.logits(), got.size() * sizeof(float), stream);
    t.copy_to_host(counted.data(), net.count(), sizeof(std::uint32_t), stream);
    t.synchronize(stream);
    report.equal("logits", from_lanes(got.data(), images, 10, 32).data(), host_logits.data(), images * 10);
    report.equal("images still right", counted[0], correct);
    net.backward(labels.get(), false);
    net.weight_gradients(x.get());
    t.synchronize(stream);
    const auto gradient = net.gradients().values();
    double largest = 0.0;
    double worst = 0.0;
    for (std::size_t i = 0; i < store.gradients().size(); ++i) {
      largest = std::max(largest, std::abs(static_cast<double>(store.gradients()[i])));
      worst = std::max(worst, std::abs(static_cast<double>(gradient[i]) - static_cast<double>(store.gradients()[i])));
    }
    if (!(worst <= 1e-5 * largest) || largest == 0.0) {
      report.fail(pavise::concat("weight gradients differ from the CPU's by ", worst, ", the largest is ", largest));
    }
  }
  t.destroy_stream(stream);
}

}  // namespace cuda_checks
