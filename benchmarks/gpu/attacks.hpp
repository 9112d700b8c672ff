// SPDX-License-Identifier: MIT
// Whole attacks through the library: images and results on the host, every clean and every found image classified.
#pragma once

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "measure.hpp"
#include "pavise/attack/apgd.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/core/device.hpp"
#include "pavise/defend/filter/catalog.hpp"
#include "pavise/defend/filter/within.hpp"
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

}  // namespace gpu_bench
