// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "pavise/data/augment.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/data/label_noise.hpp"
#include "pavise/defend/history.hpp"
#include "pavise/defend/strategy.hpp"
#include "pavise/defend/training_run.hpp"
#include "pavise/nn/model.hpp"

namespace pavise::defend {

/// Trains a model by a strategy:
///
///     Trainer trainer(std::make_shared<Adversarial>(attack::Pgd{linf(0.1), {.steps = 7}}), {.epochs = 5});
///     const History history = trainer.fit(model, train);
///
/// The outcome is a function of the model's initial weights, the data, the strategy and the options, to the last bit:
/// neither the number of threads nor a run that was killed and resumed from its checkpoint changes it.
class Trainer {
 public:
  explicit Trainer(std::shared_ptr<Strategy> strategy, TrainOptions options = {})
      : strategy_(std::move(strategy)), options_(std::move(options)) {
    require(strategy_ != nullptr, "trainer: no strategy is given");
    options_.check();
  }

  const TrainOptions& options() const { return options_; }
  TrainOptions& options() { return options_; }

  /// What this trainer does, as key and value: the strategy's recipe and the options.
  Recipe recipe() const {
    Recipe out = strategy_->recipe();
    const Recipe options = options_.recipe();
    out.insert(out.end(), options.begin(), options.end());
    return out;
  }

  /// Trains `model` on `train` and returns what was measured. `validation` is measured after each epoch; without it,
  /// options.validation_size images are held back from the end of `train`. Where options.checkpoint names a file that
  /// is there, the run goes on from it. Throws ShapeError where the images do not suit the model, ValueError where the
  /// loss is no longer finite, IoError where the checkpoint cannot be used or is of another run.
  History fit(nn::Model& model, const data::Dataset& train, const data::Dataset& validation = {}) {
    options_.check();
    data::Dataset set = train;
    data::Dataset held = validation;
    if (validation.size() == 0 && options_.validation_size > 0) {
      require(options_.validation_size < train.size(), "trainer: ", options_.validation_size,
              " images to hold back for validation, of ", train.size());
      const std::int64_t kept = train.size() - options_.validation_size;
      std::vector<std::int64_t> rest;
      for (std::int64_t i = kept; i < train.size(); ++i) {
        rest.push_back(i);
      }
      set = train.first(kept);
      held = train.subset(rest);
    }
    data::NoisyLabels noisy = data::label_noise(set, options_.label_noise, options_.seed);
    detail::TrainingRun run(model, noisy.dataset, held, *strategy_, options_);
    History history = run.finish();
    history.false_labels = noisy.flipped;
    return history;
  }

 private:
  std::shared_ptr<Strategy> strategy_;
  TrainOptions options_;
};

}  // namespace pavise::defend
