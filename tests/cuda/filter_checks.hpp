// SPDX-License-Identifier: MIT
// Models with filters of images in front: networks, attacks and training on the device against the CPU's.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "cuda/training_checks.hpp"
#include "pavise/defend/filter/catalog.hpp"
#include "pavise/defend/filter/pipeline.hpp"
#include "pavise/defend/filter/within.hpp"

namespace cuda_checks {

/// A small network with weights for what the filters make of images of shape `in`.
inline Model behind_filters(const std::vector<std::string>& texts, const Shape& in) {
  using namespace pavise::nn;  // NOLINT(google-build-using-namespace)
  const auto filters = pavise::defend::make_filters(texts);
  auto net = std::make_unique<Sequential<float>>();
  net->add<Conv2d>("conv", filters.output_shape(in)[0], 4, 3, pavise::ConvOptions{.stride = 2});
  net->add<ReLU>("relu");
  net->add<Flatten>("flatten");
  const std::int64_t rows = (in[1] - 3) / 2 + 1;
  const std::int64_t columns = (in[2] - 3) / 2 + 1;
  net->add<Linear>("fc", 4 * rows * columns, 5);
  return {filters.to_string(), std::move(net), filters.output_shape(in), 6};
}
/// The filters as its first layers.
inline Model filtered(const std::vector<std::string>& texts, const Shape& in) {
  pavise::defend::register_filters();
  return pavise::defend::with_filters(pavise::defend::make_filters(texts), behind_filters(texts, in), in);
}

/// Every filter of the catalogue, and some behind others, whose gradients meet.
inline std::vector<std::pair<std::vector<std::string>, Shape>> filter_cases() {
  const Shape grey{1, 9, 10};
  const Shape colour{3, 9, 10};
  return {{{"bit-depth:3"}, grey},
          {{"median:3"}, colour},
          {{"median:2"}, grey},
          {{"median:4-6"}, grey},
          {{"jpeg:60:444"}, colour},
          {{"jpeg:75"}, colour},
          {{"jpeg:20"}, grey},
          {{"gaussian-blur:0.7"}, colour},
          {{"bilateral:3-0.2-1.5"}, colour},
          {{"bilateral:5-0.1-2"}, grey},
          {{"nlm:5-3-20"}, grey},
          {{"nlm:3-3-30"}, colour},
          {{"tv:0.03-0.5-4"}, colour},
          {{"gaussian-noise:0.1"}, grey},
          {{"uniform-noise:0.1"}, colour},
          {{"resize-pad:7"}, colour},
          {{"thermometer:5"}, colour},
          {{"gaussian-noise:0.1", "jpeg:75", "median:3", "gaussian-noise:0.05"}, colour}};
}

inline void check_filtered_models(Report& report, const Table&) {
  for (const auto& [texts, shape] : filter_cases()) {
    compare_model(report, filtered(texts, shape), 33);
  }
}

/// Those with scratch, substitutes and places of their own, for one group of images.
inline void check_few_filtered_models(Report& report, const Table&) {
  for (const auto& texts :
       std::vector<std::vector<std::string>>{{"median:4-6"}, {"jpeg:75"}, {"tv:0.03-0.5-2"}, {"resize-pad:3"}}) {
    compare_model(report, filtered(texts, Shape{3, 4, 5}), 5);
  }
}

/// Deterministic filters leave the whole attack to the device; of random ones every step is a query of its own, alone or
/// the mean of several.
inline void check_filtered_attacks(Report& report, const Table&) {
  using namespace pavise::attack;  // NOLINT(google-build-using-namespace)
  const Shape shape{3, 9, 10};
  for (const auto& texts : std::vector<std::vector<std::string>>{
           {"jpeg:75"}, {"median:3", "bit-depth:4"}, {"gaussian-noise:0.1"}, {"resize-pad:7", "uniform-noise:0.02"}}) {
    const Model model = filtered(texts, shape);
    const Model behind = behind_filters(texts, shape);
    const Classifier pipeline = pavise::defend::Pipeline(pavise::defend::make_filters(texts), behind, shape);
    const Classifier on_device = pavise::device::classifier(model, Device::cuda(0), {.capacity = 32});
    compare_attack(report, Pgd(linf(0.1), {.steps = 2}), pipeline, on_device, 35);
    compare_attack(report, Apgd(linf(0.1), {.steps = 3}), pipeline, on_device, 35);
    compare_attack(report, DeepFool(l2(1.0), {.steps = 2}), pipeline, on_device, 4);
    if (model.net().declaration().random) {
      compare_attack(report, Pgd(linf(0.1), {.steps = 2}), pipeline.with_draws(3), on_device.with_draws(3), 20);
    }
  }
}

/// Training behind filters that draw.
inline void check_filtered_training(Report& report, const Table&) {
  using namespace pavise::defend;  // NOLINT(google-build-using-namespace)
  const Shape shape{1, 9, 10};
  const auto set = noise_set(shape, 40, 5);
  for (const char* name : {"pgd", "trades"}) {
    std::vector<std::vector<float>> values;
    for (const bool gpu : {false, true}) {
      Model model = filtered({"gaussian-noise:0.1", "median:3"}, shape);
      TrainOptions options{
          .epochs = 2, .batch_size = 33, .seed = 7, .optimizer = "sgd", .schedule = "constant", .learning_rate = 0.02};
      if (gpu) {
        options.accelerate = pavise::device::training(Device::cuda(0));
      }
      Trainer(make_defense(name, pavise::attack::linf(0.05), {.steps = 2}).strategy, options).fit(model, set);
      const auto v = model.parameters().values();
      values.emplace_back(v.begin(), v.end());
    }
    close(report, pavise::concat(name, " behind filters"), values[1], values[0], 2e-3);
  }
}

}  // namespace cuda_checks
