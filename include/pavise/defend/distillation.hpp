// SPDX-License-Identifier: MIT
// Defensive distillation (Papernot et al. 2016, "Distillation as a defense to adversarial perturbations against deep neural
// networks"). It hides gradients and holds nothing: with logits T times larger, softmax saturates in float and the
// gradients of cross-entropy vanish, while an attack on the logits succeeds as before (Carlini and Wagner 2017). It is
// here to be studied, and to make a small network of a large one.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "pavise/autodiff/loss.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/defend/batch.hpp"
#include "pavise/defend/strategy.hpp"
#include "pavise/nn/model.hpp"

namespace pavise::defend {

/// What a teacher says of the images of a data set.
struct SoftLabels {
  double temperature = 1.0;
  Tensor<float> probabilities;     ///< (N,classes)
  std::vector<std::uint32_t> ids;  ///< of the images, in the set that they come from
};

/// softmax(z / temperature) of the teacher's logits z for every image, without augmentation or dropout.
inline SoftLabels soft_labels(const nn::Model& teacher, const data::Dataset& set, double temperature) {
  require(std::isfinite(temperature) && temperature > 0, "soft labels: temperature ", temperature,
          ", expected more than 0");
  require<ShapeError>(set.image_shape() == teacher.input_shape(), "soft labels: teacher ", teacher.name(),
                      " expects images of ", teacher.input_shape(), ", data set ", set.name(), " has ",
                      set.image_shape());
  const std::int64_t classes = teacher.classes();
  SoftLabels out{.temperature = temperature, .probabilities = Tensor<float>(Shape{set.size(), classes}), .ids = {}};
  for (std::int64_t i = 0; i < set.size(); ++i) {
    out.ids.push_back(static_cast<std::uint32_t>(set.source_index(i)));
  }
  constexpr std::int64_t kPart = 1024;
  LaneBatch<float> batch;
  for (std::int64_t begin = 0; begin < set.size(); begin += kPart) {
    std::vector<std::int64_t> positions;
    for (std::int64_t i = begin; i < std::min(set.size(), begin + kPart); ++i) {
      positions.push_back(i);
    }
    pack_batch(set, positions, {}, batch);
    parallel_for(batch.groups(), [&](std::int64_t g) {
      auto& tape = thread_tape<float>();
      tape.begin(kernels::kLanes, kernels::kLanes);
      const Var<float> logits = teacher(tape.view(batch.shape(), batch.values(g)));
      for (std::int64_t lane = 0; lane < batch.valid(g); ++lane) {
        const auto row = out.probabilities.row(begin + g * kernels::kLanes + lane);
        double largest = -std::numeric_limits<double>::infinity();
        for (std::int64_t k = 0; k < classes; ++k) {
          largest = std::max<double>(largest, logits.data()[k * kernels::kLanes + lane]);
        }
        double sum = 0.0;
        for (std::int64_t k = 0; k < classes; ++k) {
          sum += std::exp((logits.data()[k * kernels::kLanes + lane] - largest) / temperature);
        }
        for (std::int64_t k = 0; k < classes; ++k) {
          const double z = logits.data()[k * kernels::kLanes + lane];
          row[static_cast<std::size_t>(k)] = static_cast<float>(std::exp((z - largest) / temperature) / sum);
        }
      }
    });
  }
  return out;
}

/// Training on soft labels: cross-entropy with the teacher's probabilities. The temperature of the student's softmax is
/// that of its own layer nn::Temperature. Throws where the labels lack an image of the training set.
class Distillation : public Strategy {
 public:
  explicit Distillation(SoftLabels labels) : labels_(std::move(labels)) {
    require<ShapeError>(labels_.probabilities.shape().rank() == 2 &&
                            labels_.probabilities.shape()[0] == static_cast<std::int64_t>(labels_.ids.size()),
                        "distillation: soft labels ", labels_.probabilities.shape(), " of ", labels_.ids.size(),
                        " images, expected a row for each");
    for (std::size_t i = 0; i < labels_.ids.size(); ++i) {
      row_of_[labels_.ids[i]] = static_cast<std::int64_t>(i);
    }
  }

  std::string name() const override { return "distill"; }
  Recipe recipe() const override { return {{"defense", "distill"}, {"temperature", concat(labels_.temperature)}}; }
  bool runs_on_device() const override { return true; }
  void begin(const nn::Model& model, std::int64_t) override {
    require(model.classes() == labels_.probabilities.shape()[1], "distillation: student ", model.name(), " has ",
            model.classes(), " classes, the soft labels ", labels_.probabilities.shape()[1]);
    const double declared = model.net().declaration().temperature;
    require(declared == labels_.temperature, "distillation: student ", model.name(), " trains at temperature ",
            declared, ", the soft labels are made at ", labels_.temperature,
            "; give it that temperature (ModelOptions::temperature)");
  }
  void accumulate(Step& step) override {
    const LaneBatch<float>& batch = step.clean;
    const std::int64_t classes = labels_.probabilities.shape()[1];
    targets_.resize(static_cast<std::size_t>(batch.groups() * classes * kernels::kLanes));
    for (std::int64_t g = 0; g < batch.groups(); ++g) {
      for (std::int64_t lane = 0; lane < kernels::kLanes; ++lane) {
        const auto found = row_of_.find(batch.ids(g)[lane]);
        require(found != row_of_.end(), "distillation: there is no soft label for image ", batch.ids(g)[lane],
                " of the training set");
        const auto row = labels_.probabilities.row(found->second);
        for (std::int64_t k = 0; k < classes; ++k) {
          targets_[static_cast<std::size_t>((g * classes + k) * kernels::kLanes + lane)] =
              row[static_cast<std::size_t>(k)];
        }
      }
    }
    step.begin();
    const Var<float> logits = step.logits(step.tape.view(batch.shape(), step.clean.values()));
    step.count(logits, 0);
    step.backward(cross_entropy_soft(logits, targets_.data()));
  }

 private:
  SoftLabels labels_;
  std::unordered_map<std::uint32_t, std::int64_t> row_of_;
  AlignedVector<float> targets_;
};

}  // namespace pavise::defend
