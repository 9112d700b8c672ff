// SPDX-License-Identifier: MIT
// Checks of whole models on the device: networks, attacks, training and certificates against the CPU's. They run on the
// host model of the execution model and on a GPU; `quick` ones are small enough for the former.
#pragma once

#include <cmath>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/support.hpp"
#include "pavise/attack/apgd.hpp"
#include "pavise/attack/bpda.hpp"
#include "pavise/attack/carlini_wagner.hpp"
#include "pavise/attack/ddn.hpp"
#include "pavise/attack/deepfool.hpp"
#include "pavise/attack/ead.hpp"
#include "pavise/attack/fab.hpp"
#include "pavise/attack/fmn.hpp"
#include "pavise/attack/hop_skip_jump.hpp"
#include "pavise/attack/mifgsm.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/attack/spsa.hpp"
#include "pavise/attack/square.hpp"
#include "pavise/autodiff/noise.hpp"
#include "pavise/certify/smoothing.hpp"
#include "pavise/defend/trainer.hpp"
#include "pavise/device/accelerator.hpp"
#include "pavise/device/samples.hpp"
#include "pavise/nn/models.hpp"

namespace cuda_checks {

using pavise::Device;
using pavise::LaneBatch;
using pavise::Shape;
using pavise::Tape;
using pavise::Tensor;
using pavise::nn::Model;

/// A network with every operation that a device knows but for filters: normalisation, Winograd's convolution, both
/// residual blocks, a batch normalisation that nothing folds, group and layer normalisation, pooling of both kinds, an
/// activation that is not ReLU, a transposed convolution. Its running statistics are not those of a new one.
inline Model all_operations(std::uint64_t seed) {
  using namespace pavise::nn;  // NOLINT(google-build-using-namespace)
  auto net = std::make_unique<Sequential<float>>();
  net->add<Normalize>("normalize", std::vector<double>{0.4, 0.5}, std::vector<double>{0.2, 0.3});
  net->add<Conv2d>("conv1", 2, 32, 3, pavise::ConvOptions{.padding = 1});
  net->add<GELU>("gelu");
  net->add<BasicBlock>("block1", 32, 32);
  net->add<MaxPool2d>("pool", 2);
  net->add<PreActBlock>("block2", 32, 48, 2);
  net->add<ConvTranspose2d>("up", 48, 8, 2, pavise::ConvOptions{.stride = 2});
  net->add<GroupNorm>("gn", 4, 8);
  net->add<ReLU>("relu2");
  net->add<BatchNorm2d>("bn", 8);
  net->add<ReLU>("relu");
  net->add<LayerNorm>("ln");
  net->add<GlobalAvgPool>("mean");
  net->add<Linear>("fc", 8, 5);
  Model model("all operations", std::move(net), Shape{2, 8, 8}, seed);
  for (auto& p : model.parameters().parameters()) {
    if (p.name().find("running") != std::string::npos) {
      pavise::RandomSequence random({.seed = seed, .purpose = pavise::Purpose::test});
      for (float& v : p.edit()) {
        v = static_cast<float>(random.uniform(0.3, 1.5));
      }
    }
  }
  return model;
}

/// Images of the model's shape, with labels.
inline LaneBatch<float> random_batch(const pavise::attack::Classifier& model, std::int64_t images, int lanes = 16) {
  const std::int64_t n = model.input_shape().numel();
  const Rows pixels = numbers(images * n, 1, 0.0f, 1.0f);
  LaneBatch<float> batch(model.input_shape(), images, lanes);
  pavise::RandomSequence random({.purpose = pavise::Purpose::test});
  for (std::int64_t i = 0; i < images; ++i) {
    batch.labels()[i] = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(model.classes())));
    batch.ids()[i] = 100 + static_cast<std::uint32_t>(i);
  }
  batch.repeat_last();
  batch.pack([&](std::int64_t i, float* out) { std::copy_n(pixels.begin() + i * n, n, out); });
  return batch;
}

/// Logits and gradients of the input of a model, through the exchange of a tape's operation, have the CPU's bits.
inline void compare_model(Report& report, const Model& model, std::int64_t images) {
  pavise::device::Exchange exchange(model, Device::cuda(0), images);
  for (const int lanes : {16, 1}) {
    LaneBatch<float> batch = random_batch(model, lanes == 1 ? 3 : images, lanes);
    Tape<float> cpu;
    Tape<float> gpu;
    std::vector<Rows> logits, gradients;
    for (Tape<float>* tape : {&cpu, &gpu}) {
      tape->begin(batch.images(), lanes);
      const auto x = tape->view(model.input_shape(), batch.values(), true);
      const auto z = tape == &cpu ? model(x) : exchange.apply(x);
      tape->backward(cross_entropy(z, batch.labels()));
      logits.push_back(from_lanes(z.data(), batch.images(), z.size(), lanes));
      gradients.push_back(from_lanes(tape->input_gradient(x), batch.images(), x.size(), lanes));
    }
    const std::string what = pavise::concat(model.name(), ", ", lanes, " lanes");
    report.equal(what + ", logits", logits[1].data(), logits[0].data(), static_cast<std::int64_t>(logits[0].size()));
    report.equal(what + ", gradient", gradients[1].data(), gradients[0].data(),
                 static_cast<std::int64_t>(gradients[0].size()));
  }
}

inline void check_small_models(Report& report, const Table&) {
  Model model = all_operations(3);
  compare_model(report, model, 33);
  const auto mlp = pavise::nn::mlp({.seed = 1, .input = Shape{1, 5, 5}, .hidden = {17, 9}});
  compare_model(report, mlp, 5);
  // Changed weights are taken over, those with a normalisation folded in among them.
  pavise::device::Exchange exchange(model, Device::cuda(0), 32);
  LaneBatch<float> batch = random_batch(model, 4);
  for (const float factor : {1.0f, 1.5f}) {
    for (auto& p : model.parameters().parameters()) {
      for (float& v : p.edit()) {
        v *= factor;
      }
    }
    Tape<float> tape;
    tape.begin(4, 16);
    const auto x = tape.view(model.input_shape(), batch.values());
    const auto z = exchange.apply(x);
    const auto expected = model(x);
    report.equal("after a change of the weights", z.data(), expected.data(), 16 * z.size());
  }
}

/// A model on tensor cores: near the CPU's logits and gradients of the input, by the rounding of the factors, and not at
/// them.
inline void compare_rounded(Report& report, const Model& model, pavise::device::Arithmetic arithmetic,
                            std::int64_t images, double least, double most) {
  pavise::device::Exchange exchange(model, Device::cuda(0), images, arithmetic);
  LaneBatch<float> batch = random_batch(model, images);
  std::vector<Rows> logits, gradients;
  for (const bool on_device : {false, true}) {
    Tape<float> tape;
    tape.begin(images, batch.lanes());
    const auto x = tape.view(model.input_shape(), batch.values(), true);
    const auto z = on_device ? exchange.apply(x) : model(x);
    tape.backward(cross_entropy(z, batch.labels()));
    logits.push_back(from_lanes(z.data(), images, z.size(), batch.lanes()));
    gradients.push_back(from_lanes(tape.input_gradient(x), images, x.size(), batch.lanes()));
  }
  const auto near = [&](const std::string& what, const Rows& got, const Rows& right, double factor) {
    double difference = 0;
    double size = 0;
    for (std::size_t i = 0; i < right.size(); ++i) {
      difference += std::pow(static_cast<double>(got[i]) - static_cast<double>(right[i]), 2);
      size += std::pow(static_cast<double>(right[i]), 2);
    }
    const double relative = std::sqrt(difference / size);
    report.equal(pavise::concat(model.name(), ", ", pavise::device::arithmetic_name(arithmetic), ", ", what,
                                ": off by ", relative, ", expected ", least, " to ", most * factor),
                 relative >= least && relative <= most * factor, true);
  };
  near("logits", logits[1], logits[0], 1);
  near("gradient", gradients[1], gradients[0], 10);  // some values change the side of a ReLU or of a maximum
}

inline void check_rounded_models(Report& report, const Table&) {
  const Model model = all_operations(3);
  compare_rounded(report, model, pavise::device::Arithmetic::fast, 5, 1e-5, 1.5e-3);
  compare_rounded(report, model, pavise::device::Arithmetic::bf16, 5, 1.5e-3, 2e-2);
}

inline void check_library_models(Report& report, const Table&) {
  for (const auto& name : pavise::nn::model_names()) {
    compare_model(report, pavise::nn::make_model(name, {.seed = 2}), 70);
  }
  compare_model(
      report,
      pavise::nn::carlini_cnn({.input = Shape{3, 32, 32}, .mean = {0.4, 0.5, 0.4}, .deviation = {0.2, 0.2, 0.3}}), 40);
}

/// The image-by-image outcome of attacks on the device and on the CPU.
inline void compare_attack(Report& report, const pavise::attack::Attack& attack,
                           const pavise::attack::Classifier& model, const pavise::attack::Classifier& on_device,
                           std::int64_t images) {
  const LaneBatch<float> batch = random_batch(model, images, 1);
  const Shape& s = model.input_shape();
  Tensor<float> pixels(Shape{images, s[0], s[1], s[2]});
  std::copy_n(batch.values(), pixels.size(), pixels.data());
  const std::vector<std::int32_t> labels(batch.labels(), batch.labels() + images);
  const pavise::attack::RunOptions options{.restarts = 2, .seed = 7};
  const auto expected = run(attack, model, pixels, labels, options, batch.ids());
  const auto got = run(attack, on_device, pixels, labels, options, batch.ids());
  const std::string what =
      pavise::concat(attack.name(), " in ", norm_name(attack.threat().norm), attack.targeted() ? ", targeted" : "");
  report.equal(what, got.adversarial.data(), expected.adversarial.data(), pixels.size());
  report.equal(what + ", confidence", got.confidence.data(), expected.confidence.data(), images);
  report.equal(what + ", images that stand", got.robust_correct, expected.robust_correct);
  report.equal(what + ", forward passes", got.forward_passes, expected.forward_passes);
  report.equal(what + ", backward passes", got.backward_passes, expected.backward_passes);
}

/// Auto-PGD, whose attempts end at different steps and make room for others, and momentum.
inline void check_device_ascents(Report& report, const Model& model, std::int64_t images) {
  using namespace pavise::attack;  // NOLINT(google-build-using-namespace)
  const Classifier on_device = pavise::device::classifier(model, Device::cuda(0), {.capacity = (images + 1) / 2});
  compare_attack(report, Mifgsm(linf(0.1), {.steps = 3, .decay = 0.5}), model, on_device, images);
  compare_attack(report, Mifgsm(l2(0.5), {.steps = 3, .targeted = true}), model, on_device, images);
  for (const auto& threat : {linf(0.03), l2(0.2)}) {
    for (const auto loss : {ApgdLoss::cross_entropy, ApgdLoss::dlr, ApgdLoss::dlr_targeted}) {
      compare_attack(report, Apgd(threat, {.steps = 8, .loss = loss, .targets = 2}), model, on_device, images);
    }
    compare_attack(report, Apgd(threat, {.steps = 5, .targeted = true, .random_start = false}), model, on_device,
                   images);
    compare_attack(report, Apgd(threat, {.steps = 4, .loss = ApgdLoss::dlr_targeted, .targeted = true}), model,
                   on_device, images);
  }
}

inline void check_device_attacks(Report& report, const Model& model, std::int64_t images) {
  using namespace pavise::attack;  // NOLINT(google-build-using-namespace)
  const Classifier on_device = pavise::device::classifier(model, Device::cuda(0), {.capacity = (images + 1) / 2});
  compare_attack(report, Pgd(linf(0.1), {.steps = 3}), model, on_device, images);
  compare_attack(report, Pgd(l2(0.5), {.steps = 2}), model, on_device, images);
  compare_attack(report, Pgd(linf(0.05), {.steps = 2, .random_start = false, .targeted = true}), model, on_device,
                 images);
  compare_attack(report, fgsm(linf(0.1)), model, on_device, images);
  compare_attack(report, Pgd(l1(3.0), {.steps = 2}), model, on_device, images);
  compare_attack(report, fgsm(l1(3.0)), model, on_device, images);
  compare_attack(report, Square(linf(0.05), {.queries = 30}), model, on_device, images);
  compare_attack(report, Square(linf(0.0), {.queries = 3}), model, on_device, images);
  // Without lanes on the device: through the exchange.
  compare_attack(report, Square(l2(1.0), {.queries = 5}), model, on_device, std::min<std::int64_t>(images, 6));
}

/// Searches whose steps the host decides, and whose images are on the device. Other images than attempts at a time, so
/// that attempts move in where others are over.
inline void check_device_searches(Report& report, const Model& model, std::int64_t images) {
  using namespace pavise::attack;  // NOLINT(google-build-using-namespace)
  const Classifier on_device = pavise::device::classifier(model, Device::cuda(0), {.capacity = (images + 1) / 2});
  const auto compare = [&](const Attack& attack) { compare_attack(report, attack, model, on_device, images); };
  for (const bool targeted : {false, true}) {
    for (const auto& threat : {linf(0.05), l2(0.3), l1(1.0)}) {
      compare(Fmn(threat, {.steps = 8, .targeted = targeted}));
      compare(Fab(threat, {.steps = 3, .targeted = targeted, .restarts = 2}));
    }
    compare(Ddn(l2(0.3), {.steps = 8, .targeted = targeted}));
    compare(Apgd(l1(1.0), {.steps = 8, .targeted = targeted}));
    compare(CarliniWagner(
        l2(0.3),
        {.iterations = 9, .learning_rate = 0.1, .search_steps = 3, .initial_constant = 1.0, .targeted = targeted}));
    compare(CarliniWagnerLinf(linf(0.05), {.iterations = 9,
                                           .learning_rate = 0.1,
                                           .initial_constant = 0.5,
                                           .largest_constant = 1.0,
                                           .targeted = targeted}));
    for (const bool accelerated : {false, true}) {
      compare(Ead(l1(1.0), {.iterations = 9,
                            .learning_rate = 0.1,
                            .accelerated = accelerated,
                            .search_steps = 3,
                            .initial_constant = 1.0,
                            .targeted = targeted}));
    }
  }
  for (const auto& threat : {linf(0.05), l2(0.3)}) {
    for (const bool targeted : {false, true}) {
      compare(Spsa(threat, {.steps = 2, .samples = 4, .targeted = targeted}));
    }
    compare(HopSkipJump(threat, {.steps = 2, .initial_samples = 5, .queries = 60}));
    compare(fab_t(threat, {.steps = 3, .targets = 4}));
    compare(DeepFool(threat, {.steps = 4}));
  }
}
/// An attempt that cannot begin, or be taken, ends the ascent; the accelerator goes on.
inline void check_broken_ascent(Report& report, const Table&) {
  const Model model = pavise::nn::mlp({.seed = 1, .input = Shape{1, 5, 5}, .hidden = {9}});
  pavise::device::GpuAccelerator accelerator(model, Device::cuda(0), {.capacity = 32});
  for (const int broken : {0, 1, 2}) {
    std::int64_t ended = 0;
    pavise::attack::Ascent ascent;
    ascent.threat = pavise::attack::linf(0.1);
    ascent.steps = 2;
    ascent.begin = [&](std::int64_t i, pavise::attack::Attempts::Begun& begun) {
      pavise::require(broken != 0 || i != 40, "no image ", i);
      std::fill_n(begun.clean, 25, 0.5f);
      std::fill_n(begun.start, 25, 0.5f);
      begun.label = begun.other = static_cast<std::int32_t>(i % 10);
    };
    ascent.end = [&](std::int64_t i, const float*, std::int64_t) {
      pavise::require(broken != 1 || i != 20, "no room for ", i);
      ++ended;
    };
    bool thrown = false;
    try {
      accelerator.ascend(ascent, 0);
      accelerator.ascend(ascent, 50);
    } catch (const pavise::ValueError&) {
      thrown = true;
    }
    report.equal("an ascent breaks off", thrown, broken != 2);
    report.equal("attempts that ended", broken != 2 || ended == 50, true);
  }
}

inline void check_small_attacks(Report& report, const Table&) {
  const Model small = pavise::nn::mlp({.seed = 1, .input = Shape{1, 5, 5}, .hidden = {17, 9}});
  check_device_attacks(report, small, 70);
  check_device_ascents(report, small, 70);
  check_device_searches(report, pavise::nn::mlp({.seed = 2, .input = Shape{2, 5, 4}, .hidden = {17}}), 70);
  const Model all = all_operations(4);
  const auto on_device = pavise::device::classifier(all, Device::cuda(0), {.capacity = 32});
  compare_attack(report, pavise::attack::Pgd(pavise::attack::linf(0.1), {.steps = 2}), all, on_device, 35);
}
inline void check_large_attacks(Report& report, const Table&) {
  check_device_attacks(report, pavise::nn::small_cnn({.seed = 5}), 3000);
  check_device_ascents(report, pavise::nn::small_cnn({.seed = 5}), 3000);
}

inline void check_certificates(Report& report, const Model& model, std::int64_t images, std::int64_t n,
                               std::int64_t capacity) {
  using namespace pavise::certify;  // NOLINT(google-build-using-namespace)
  std::vector<std::uint8_t> pixels;
  for (const float v : numbers(images * model.input_shape().numel(), 3, 0.0f, 255.9f)) {
    pixels.push_back(static_cast<std::uint8_t>(v));
  }
  const pavise::data::Dataset set("noise", model.input_shape(), pixels,
                                  std::vector<std::int32_t>(static_cast<std::size_t>(images)), {"a", "b"});
  for (const Options& options :
       {Options{.noise = {NoiseKind::gaussian, 0.25}, .method = Method::fixed, .n = n, .seed = 3},
        Options{.noise = {NoiseKind::uniform, 0.5}, .n = n, .radii = {0.1}, .seed = 4}}) {
    const Sampler sampler(options.noise);
    const Plan plan = make_plan(options, model, sampler);
    std::vector<Result> expected, got;
    certify(model, sampler, set, plan, [&](std::int64_t, const Result& r) { expected.push_back(r); });
    certify(
        model, sampler, set, plan, [&](std::int64_t, const Result& r) { got.push_back(r); }, {},
        pavise::device::sampling(model, sampler, Device::cuda(0), capacity));
    report.equal(pavise::concat(noise_name(options.noise.kind), ": certificates are equal"), got == expected, true);
  }
}
inline void check_small_certificates(Report& report, const Table&) {
  check_certificates(report, pavise::nn::mlp({.seed = 1, .input = Shape{1, 5, 5}, .hidden = {9}}), 5, 300, 96);
}
inline void check_large_certificates(Report& report, const Table&) {
  check_certificates(report, pavise::nn::small_cnn({.seed = 1}), 20, 5000, 4096);
}

/// Noise on the grid, whose rare cases take the full thresholds: many draws.
inline void check_grid_noise(Report& report, const Table& t) {
  using namespace pavise::certify;  // NOLINT(google-build-using-namespace)
  constexpr std::int64_t kPixels = 39;
  constexpr std::int64_t kSamples = 2048;
  const Rows shade = numbers(3 * kPixels, 5, 0.0f, 255.9f);
  const std::vector<std::uint8_t> images(shade.begin(), shade.end());
  for (const Noise& noise : {Noise{NoiseKind::gaussian, 0.02}, Noise{NoiseKind::gaussian, 1.0},
                             Noise{NoiseKind::laplace, 0.1}, Noise{NoiseKind::uniform, 0.3}}) {
    const Sampler sampler(noise);
    const auto table = sampler.grid()->table();
    std::vector<std::int32_t> row;
    std::vector<std::uint32_t> image, stage, sample;
    for (std::int64_t i = 0; i < kSamples; ++i) {
      row.push_back(static_cast<std::int32_t>(i % 3));
      image.push_back(static_cast<std::uint32_t>(7 * row.back()));
      stage.push_back(static_cast<std::uint32_t>(i % 2));
      sample.push_back(static_cast<std::uint32_t>(i));
    }
    const OnDevice<std::uint8_t> device_images(t, images);
    const OnDevice<std::int32_t> rows(t, row);
    const OnDevice<std::uint32_t> device_image(t, image), device_stage(t, stage), device_sample(t, sample);
    const OnDevice<std::uint32_t> buckets(t, std::vector<std::uint32_t>(table.buckets, table.buckets + (1 << 16)));
    const OnDevice<kernels::Threshold> thresholds(
        t, std::vector<kernels::Threshold>(table.thresholds, table.thresholds + table.count));
    const OnDevice<float> out(t, static_cast<std::size_t>(kSamples * kPixels));
    const auto purpose = static_cast<std::uint32_t>(pavise::Purpose::smoothing);
    t.grid_noise(nullptr, device_images.get(), rows.get(), out.get(), kPixels, kSamples / 32, sampler.grid()->least(),
                 sampler.grid()->most(), {buckets.get(), thresholds.get(), table.count, table.lowest},
                 {5, purpose, device_image.get(), device_stage.get(), device_sample.get()});
    const Rows got = from_lanes(out.values().data(), kSamples, kPixels, 32);
    std::vector<std::int32_t> pixels(static_cast<std::size_t>(kPixels * 16));
    pavise::AlignedVector<float> noisy(pixels.size());
    for (std::int64_t g = 0; g < kSamples / 16; ++g) {
      for (std::int64_t i = 0; i < kPixels * 16; ++i) {
        pixels[static_cast<std::size_t>(i)] =
            images[static_cast<std::size_t>(row[static_cast<std::size_t>(g * 16 + i % 16)] * kPixels + i / 16)];
      }
      sampler.draw(pixels.data(), noisy.data(), kPixels, 16,
                   {5, purpose, image.data() + g * 16, stage.data() + g * 16, sample.data() + g * 16});
      const Rows expected = from_lanes(noisy.data(), 16, kPixels, 16);
      report.equal(pavise::concat("noise ", noise_name(noise.kind)), got.data() + g * 16 * kPixels, expected.data(),
                   16 * kPixels);
    }
  }
}

/// From each number of lanes to each.
inline void check_layouts(Report& report, const Table& t) {
  for (const std::int64_t images : {1, 31, 33, 50}) {
    constexpr std::int64_t kSize = 7;
    const Rows rows = numbers(images * kSize, 1);
    for (const int from : {1, 16, 32}) {
      for (const int to : {1, 16, 32}) {
        const OnDevice<float> source(t, to_lanes(rows, images, kSize, from));
        const Rows expected = to_lanes(rows, images, kSize, to);
        const OnDevice<float> result(t, expected.size());
        t.change_lanes(nullptr, source.get(), from, result.get(), to, kSize, images);
        report.equal(pavise::concat("lanes ", from, " to ", to), result.values().data(), expected.data(),
                     static_cast<std::int64_t>(expected.size()));
      }
    }
  }
}

/// What does not run on a device says so.
inline void check_refusals(Report& report, const Table&) {
  const auto refused = [&](const char* word, const auto& work) {
    try {
      work();
      report.fail(pavise::concat("not refused: ", word));
    } catch (const pavise::Error& e) {
      report.equal(pavise::concat("the message names ", word, ": ", e.what()),
                   std::string(e.what()).find(word) != std::string::npos, true);
    }
  };
  const auto device = Device::cuda(0);
  refused("softmax", [&] {
    auto net = std::make_unique<pavise::nn::Sequential<float>>();
    net->add("softmax",
             std::make_unique<pavise::attack::Bpda<float>>("shares", [](pavise::Var<float> x) { return softmax(x); }));
    net->add<pavise::nn::Flatten>("flatten");
    const Model model("shares", std::move(net), Shape{2, 1, 1}, 1);
    pavise::device::Network(model, device, 32, pavise::device::Use::logits);
  });
  const auto mlp = pavise::nn::mlp({.input = Shape{1, 5, 5}});
  refused("gaussian-unsound", [&] {
    const pavise::certify::Sampler sampler({pavise::certify::NoiseKind::gaussian_unsound, 0.5});
    pavise::device::Samples(mlp, sampler, device, 32, 0);
  });
  refused("of-mine: this training does not run on cuda:0", [&] {
    struct Mine : pavise::defend::Strategy {
      std::string name() const override { return "of-mine"; }
      pavise::defend::Recipe recipe() const override { return {}; }
      void accumulate(pavise::defend::Step&) override {}
    };
    Model model = pavise::nn::mlp({.input = Shape{1, 1, 2}});
    pavise::defend::TrainOptions options{.epochs = 1};
    options.accelerate = pavise::device::training(device);
    pavise::defend::Trainer(std::make_shared<Mine>(), options)
        .fit(model, {"two", Shape{1, 1, 2}, {1, 2, 3, 4}, {0, 1}, {"a", "b"}});
  });
  refused("draws random numbers", [&] {  // of a layer that does not say so
    auto net = std::make_unique<pavise::nn::Sequential<float>>();
    net->add("noise", std::make_unique<pavise::attack::Bpda<float>>("noise", [](pavise::Var<float> x) {
               return gaussian_noise(x, 0.1f, pavise::Purpose::defense, 1);
             }));
    net->add<pavise::nn::Linear>("fc", 2, 2);
    const Model model("noisy", std::move(net), Shape{2, 1, 1}, 1);
    pavise::attack::Ascent ascent;
    ascent.threat = pavise::attack::linf(0.1);
    pavise::device::GpuAccelerator(model, device, {.capacity = 32}).ascend(ascent, 1);
  });
  refused("room for 32", [&] {
    pavise::device::GpuAccelerator accelerator(mlp, device, {.capacity = 32});
    const LaneBatch<float> batch = random_batch(mlp, 33);
    accelerator.descend({.threat = pavise::attack::linf(0.1)}, batch, {}, nullptr);
  });
}

}  // namespace cuda_checks
