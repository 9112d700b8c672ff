// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <utility>

#include "pavise/data/dataset.hpp"
#include "pavise/defend/adversarial.hpp"
#include "pavise/defend/standard.hpp"
#include "pavise/defend/trainer.hpp"

namespace pavise::defend {

/// Adversarial training in one line, with the settings that are changed most:
///
///     AdversarialTraining trainer{.attack = attack::Pgd{attack::linf(0.1), {.steps = 7}}, .epochs = 5};
///     trainer.fit(model, train);
///
/// Everything else is in `options`, whose own epochs, batch_size, seed and learning_rate are not read. Without an
/// attack it is plain training.
struct AdversarialTraining {
  AnyAttack attack = {};
  double share = 1.0;  ///< of each batch that is perturbed
  std::int64_t epochs = 5;
  std::int64_t batch_size = 128;
  double learning_rate = 5e-3;
  std::uint64_t seed = 0;
  TrainOptions options = {};

  /// The trainer that this describes.
  Trainer trainer() const {
    TrainOptions all = options;
    all.epochs = epochs;
    all.batch_size = batch_size;
    all.learning_rate = learning_rate;
    all.seed = seed;
    if (!attack) {
      return Trainer(std::make_shared<Standard>(), std::move(all));
    }
    return Trainer(std::make_shared<Adversarial>(attack, share), std::move(all));
  }

  /// Trains `model` on `train`; see Trainer::fit. `progress` is called after every batch.
  History fit(nn::Model& model, const data::Dataset& train, const ProgressCallback& progress = {}) const {
    Trainer all = trainer();
    if (progress) {
      all.options().progress = progress;
    }
    return all.fit(model, train);
  }
};

}  // namespace pavise::defend
