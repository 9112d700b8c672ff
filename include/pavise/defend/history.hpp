// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace pavise::defend {

/// Settings as key and value, in words: what a model file and a report keep of a training run.
using Recipe = std::vector<std::pair<std::string, std::string>>;

/// `correct` of `total` images; total 0 where nothing was measured.
struct Count {
  std::int64_t correct = 0;
  std::int64_t total = 0;

  double share() const {
    return total > 0 ? static_cast<double>(correct) / static_cast<double>(total)
                     : std::numeric_limits<double>::quiet_NaN();
  }
  Count& operator+=(const Count& other) {
    correct += other.correct;
    total += other.total;
    return *this;
  }
  bool operator==(const Count&) const = default;
};

/// What one pass over the training set measured. Accuracies are those of the training passes themselves, so the weights
/// change while they are counted; those of the validation set are measured at the end of the epoch, in evaluation mode.
struct EpochRecord {
  std::int64_t epoch = 0;        ///< from 0
  double loss = 0;               ///< mean over the images
  Count clean;                   ///< of the unperturbed images that the step saw (none, where all are perturbed)
  Count adversarial;             ///< of the perturbed ones
  Count validation;              ///< clean images of the validation set, where there is one
  Count validation_adversarial;  ///< the same images under TrainOptions::validation_attack
  double learning_rate = 0;      ///< of the epoch's last update
  double seconds = 0;
  double images_per_second = 0;
  std::vector<std::string> events;  ///< what happened besides: a roll-back, weights perturbed from now on
};

struct History {
  std::vector<EpochRecord> epochs;
  std::int64_t parameters = 0;      ///< trained values of the model
  std::int64_t updates = 0;         ///< of the weights
  std::int64_t false_labels = 0;    ///< that label noise put into the training set
  std::int64_t forward_passes = 0;  ///< images through the network, of attacks and updates together
  std::int64_t backward_passes = 0;
  std::int64_t resumed_at = -1;  ///< the update that a checkpoint continued from; -1: from the beginning
};

/// Where a training run stands, for a progress bar. Called after every batch by the thread that trains.
struct Progress {
  std::string_view name;   ///< of the defence
  std::int64_t epoch = 0;  ///< from 0
  std::int64_t epochs = 0;
  std::int64_t batch = 0;  ///< done in this epoch
  std::int64_t batches = 0;
  std::int64_t images = 0;       ///< of the batch that was just done; 0 at the start of a resumed run
  std::int64_t images_done = 0;  ///< in this epoch
  std::int64_t images_of_epoch = 0;
  double loss = 0;      ///< mean of this epoch so far
  double accuracy = 0;  ///< of the images that were trained on: the perturbed ones where there are any
  double learning_rate = 0;
};

using ProgressCallback = std::function<void(const Progress&)>;

}  // namespace pavise::defend
