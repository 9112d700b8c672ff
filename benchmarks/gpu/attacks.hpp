// SPDX-License-Identifier: MIT
// Whole attacks and trainings through the library: images and results on the host; of an attack every clean and every
// found image is classified.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "measure.hpp"
#include "pavise/attack/apgd.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/core/device.hpp"
#include "pavise/defend/adversarial.hpp"
#include "pavise/defend/filter/catalog.hpp"
#include "pavise/defend/filter/within.hpp"
#include "pavise/defend/standard.hpp"
#include "pavise/defend/trainer.hpp"
#include "pavise/device/accelerator.hpp"
#include "pavise/nn/models.hpp"

namespace gpu_bench {

inline constexpr std::int64_t kAttacked = 4096;  ///< images

/// Median time of a run in milliseconds, the host's share included. Every image must stand to the end.
inline double time_attack(const pavise::attack::Attack& attack, const pavise::attack::Classifier& model,
                          const pavise::Tensor<float>& images) {
  const std::vector<std::int32_t> labels(static_cast<std::size_t>(images.shape()[0]));
  std::vector<double> times;
  for (int i = 0; i < 6; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    const auto result = pavise::attack::run(attack, model, images, labels);
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    pavise::require(result.robust_correct == images.shape()[0], "bench: ", attack.name(), ": ", result.robust_correct,
                    " images stand, expected ", images.shape()[0]);
  }
  times.erase(times.begin());  // the first records its graphs
  std::nth_element(times.begin(), times.begin() + 2, times.end());
  return times[2];
}

/// small-cnn, alone and behind a filter, attacked in Linf. Its first class is far ahead, so that no attempt ends early.
inline void attacks(Bench& b) {
  using namespace pavise::attack;  // NOLINT(google-build-using-namespace)
  pavise::defend::register_filters();
  auto model = pavise::nn::small_cnn({.seed = 0});
  model.parameters()["fc2.bias"].edit()[0] = 8.0f;
  const pavise::Shape shape = model.input_shape();
  const auto filtered = pavise::defend::with_filters(pavise::defend::make_filters({"median:3"}), model, shape);
  double forward = 0;
  for (const auto& l : cuda_checks::small_cnn_layers(model.parameters())) {
    forward += plan_flops(plan_of(l, false)) * static_cast<double>(kAttacked);
  }
  pavise::Tensor<float> images(pavise::Shape{kAttacked, shape[0], shape[1], shape[2]});
  const auto pixels = cuda_checks::numbers(images.size(), 1, 0.0f, 1.0f);
  std::copy(pixels.begin(), pixels.end(), images.data());
  const Pgd pgd(linf(0.1), {.steps = 7});
  const Apgd apgd = apgd_ce(linf(0.1), {.steps = 100});
  for (const Arithmetic arithmetic : kArithmetics) {
    const pavise::device::Options options{.capacity = kAttacked, .arithmetic = arithmetic};
    const auto row = [&](const std::string& name, const Attack& attack, const Classifier& of, int passes, int steps) {
      const double ms = time_attack(attack, of, images);
      b.line("network", name + suffix(kAttacked, arithmetic), ms, 2 * passes * forward, 0,
             pavise::concat(",\"images_per_s\":", static_cast<float>(static_cast<double>(kAttacked) / (ms * 1e-3)),
                            ",\"ms_per_step\":", static_cast<float>(ms / steps)));
    };
    const Classifier alone = pavise::device::classifier(model, pavise::Device::cuda(0), options);
    row("apgd100 attack", apgd, alone, 101, 100);
    row("pgd7 attack", pgd, alone, 7, 7);
    const Classifier behind = pavise::device::classifier(filtered, pavise::Device::cuda(0), options);
    row("pgd7 attack through median:3", pgd, behind, 7, 7);
  }
}

/// Median time of an update of Trainer::fit in milliseconds, images on the host.
inline double time_update(pavise::nn::Model model, const std::shared_ptr<pavise::defend::Strategy>& strategy,
                          std::int64_t batch, Arithmetic arithmetic) {
  std::vector<std::uint8_t> pixels;
  std::vector<std::int32_t> labels;
  for (const float v : cuda_checks::numbers(4 * batch * model.input_shape().numel(), 1, 0.0f, 255.0f)) {
    pixels.push_back(static_cast<std::uint8_t>(v));
  }
  for (std::int64_t i = 0; i < 4 * batch; ++i) {
    labels.push_back(static_cast<std::int32_t>(i % 10));
  }
  const pavise::data::Dataset set("noise", model.input_shape(), pixels, labels,
                                  {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"});
  pavise::defend::TrainOptions options;
  options.epochs = 5;
  options.batch_size = batch;
  options.accelerate = pavise::device::training(pavise::Device::cuda(0), arithmetic);
  std::vector<double> times;
  auto begin = std::chrono::steady_clock::now();
  options.progress = [&](const pavise::defend::Progress&) {
    const auto now = std::chrono::steady_clock::now();
    times.push_back(std::chrono::duration<double, std::milli>(now - begin).count());
    begin = now;
  };
  pavise::defend::Trainer(strategy, options).fit(model, set);
  times.erase(times.begin(), times.begin() + 3);
  std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
  return times[times.size() / 2];
}

/// Trainings through the library, from images on the host to the optimizer's update.
inline void training(Bench& b) {
  using namespace pavise::defend;  // NOLINT(google-build-using-namespace)
  for (const Arithmetic arithmetic : kArithmetics) {
    const auto row = [&](const std::string& name, double ms, std::int64_t batch) {
      b.line("network", name + suffix(batch, arithmetic), ms, 0, 0,
             pavise::concat(",\"images_per_s\":", static_cast<float>(static_cast<double>(batch) / (ms * 1e-3)),
                            ",\"ms_per_step\":", static_cast<float>(ms)));
    };
    row("fit: small-cnn, pgd7",
        time_update(pavise::nn::small_cnn({.seed = 0}),
                    std::make_shared<Adversarial>(pavise::attack::Pgd(pavise::attack::linf(0.1), {.steps = 7})), 4096,
                    arithmetic),
        4096);
    row("fit: lenet, plain", time_update(pavise::nn::lenet({.seed = 0}), std::make_shared<Standard>(), 256, arithmetic),
        256);
  }
}

}  // namespace gpu_bench
