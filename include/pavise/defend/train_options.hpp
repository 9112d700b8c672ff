// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pavise/core/communicator.hpp"
#include "pavise/core/error.hpp"
#include "pavise/data/augment.hpp"
#include "pavise/defend/history.hpp"
#include "pavise/defend/strategy.hpp"
#include "pavise/optim/optimizer.hpp"
#include "pavise/optim/schedule.hpp"

namespace pavise::defend {

/// How a model is trained, whatever the defence. The defaults are those of Fast-AT on MNIST (Wong et al. 2020): Adam,
/// with a rate that rises to 5e-3 in 2/5 of the steps and falls to 0.
struct TrainOptions {
  std::int64_t epochs = 5;
  std::int64_t batch_size = 128;
  std::uint64_t seed = 0;  ///< of the order of the images, of attacks, augmentation, noise and dropout

  std::string optimizer = "adam";
  optim::OptimizerOptions optimizer_options = {};
  std::string schedule = "cyclic";
  double learning_rate = 5e-3;                                                            ///< the schedule's largest
  std::function<double(std::int64_t update, std::int64_t updates)> custom_schedule = {};  ///< instead of `schedule`
  double clip_norm = 0;      ///< of all gradients together; 0: not clipped
  double average_decay = 0;  ///< above 0: the model ends with the moving average of its weights

  double label_smoothing = 0;
  double label_noise = 0;  ///< share of the training labels that are replaced by false ones
  data::Augmentation augmentation = {};
  double gaussian_sigma = 0;  ///< of the noise on every training image (an attack on it clips to its box)

  std::int64_t validation_size = 0;  ///< images held back from the training set where no validation set is given
  AnyAttack validation_attack = {};

  std::string checkpoint = {};           ///< path; empty: none is written
  std::int64_t checkpoint_interval = 0;  ///< updates between two checkpoints; 0: one at the end of each epoch
  bool resume = true;                    ///< go on from the checkpoint if it is there; else begin anew

  /// Makes what stands for the model on a device (device::training); empty: training runs on the CPU. Images and
  /// random numbers are those of the CPU; sums over images round in another order.
  std::function<std::unique_ptr<attack::Accelerator>(const nn::Model& model, std::int64_t batch_size)> accelerate = {};

  ProgressCallback progress = {};

  /// The processes that train together, each on its share of every batch; null: this one alone. Neither the weights nor
  /// the checkpoint (which the first rank writes) depend on how many they are. All give the same model, data and options.
  Communicator* team = nullptr;

  /// Throws ValueError for what no run can be made of.
  void check() const {
    require(epochs >= 1, "trainer: ", epochs, " epochs, expected 1 or more");
    require(batch_size >= 1, "trainer: batch size ", batch_size, ", expected 1 or more");
    require(std::isfinite(learning_rate) && learning_rate >= 0, "trainer: learning rate ", learning_rate,
            ", expected 0 or more");
    require(clip_norm >= 0, "trainer: clip norm ", clip_norm, ", expected 0 or more");
    require(average_decay >= 0 && average_decay < 1, "trainer: average decay ", average_decay,
            ", expected 0 or more and less than 1");
    require(label_smoothing >= 0 && label_smoothing <= 1, "trainer: label smoothing ", label_smoothing,
            ", expected 0 to 1");
    require(label_noise >= 0 && label_noise <= 1, "trainer: label noise ", label_noise, ", expected 0 to 1");
    require(std::isfinite(gaussian_sigma) && gaussian_sigma >= 0, "trainer: gaussian sigma ", gaussian_sigma,
            ", expected 0 or more");
    require(validation_size >= 0, "trainer: validation size ", validation_size, ", expected 0 or more");
    require(checkpoint_interval >= 0, "trainer: checkpoint interval ", checkpoint_interval, ", expected 0 or more");
  }

  /// The learning rate as a function of the update, of `updates` in all.
  std::function<double(std::int64_t)> rates(std::int64_t updates) const {
    if (custom_schedule) {
      return [rate = custom_schedule, updates](std::int64_t update) { return rate(update, updates); };
    }
    return optim::make_schedule(schedule, learning_rate, updates);
  }

  /// What decides the outcome, as key and value; options at their neutral value are left out.
  Recipe recipe() const {
    Recipe out{{"epochs", std::to_string(epochs)},
               {"batch_size", std::to_string(batch_size)},
               {"seed", std::to_string(seed)},
               {"optimizer", optimizer},
               {"schedule", custom_schedule ? std::string("custom") : schedule},
               {"learning_rate", concat(learning_rate)}};
    const optim::OptimizerOptions usual;
    const optim::OptimizerOptions& o = optimizer_options;
    const auto add = [&](const char* key, double value, double neutral) {
      if (value != neutral) {
        out.emplace_back(key, concat(value));
      }
    };
    if (optimizer == "sgd") {
      out.emplace_back("momentum", concat(o.momentum));
      add("nesterov", o.nesterov ? 1 : 0, 0);
    } else {
      add("beta1", o.beta1, usual.beta1);
      add("beta2", o.beta2, usual.beta2);
      add("adam_epsilon", o.epsilon, usual.epsilon);
    }
    add("weight_decay", o.weight_decay, 0);
    add("clip_norm", clip_norm, 0);
    add("average_decay", average_decay, 0);
    add("label_smoothing", label_smoothing, 0);
    add("label_noise", label_noise, 0);
    add("flip", augmentation.flip ? 1 : 0, 0);
    add("crop_padding", augmentation.crop_padding, 0);
    add("cutout", augmentation.cutout, 0);
    add("gaussian_sigma", gaussian_sigma, 0);
    add("validation_size", static_cast<double>(validation_size), 0);
    return out;
  }
};

}  // namespace pavise::defend
