// SPDX-License-Identifier: MIT
// What a device that holds a copy of a model does by itself, without the host in the loop. The classifier that it stands
// behind carries one (Classifier::accelerator); device/accelerator.hpp has that of a GPU.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "pavise/attack/threat.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/core/lane_batch.hpp"

namespace pavise::optim {

template <class T>
class Optimizer;

}  // namespace pavise::optim

namespace pavise::attack {

/// Steps of projected gradient descent on the cross-entropy, as Pgd takes them:
///   x <- clip to the box( project on the ball( x + alpha * direction of the gradient ) )
struct Descent {
  Threat threat;
  double alpha = 0;  ///< of a step; negative: towards the labels
  std::int64_t steps = 1;
  bool random_start = true;
  double l1_sparsity = 0;  ///< L1: share of the coordinates that a step moves
  /// Steps follow g <- momentum g + gradient / ||gradient||_1 (MI-FGSM); without a value the gradient itself.
  std::optional<double> momentum = {};
};

/// What an Auto-PGD maximises: cross-entropy; the difference of logits ratio; or the targeted ratio, for one target
/// class after another.
enum class ApgdLoss { cross_entropy, dlr, dlr_targeted };

/// Attempts whose images and results are somebody else's to keep.
struct Attempts {
  /// What an attempt begins with.
  struct Begun {
    float* clean;  ///< gets the image, in row-major order
    float* start;  ///< gets the starting point, in row-major order
    std::int32_t label = 0;
    std::int32_t other = 0;     ///< Ascent: the class beside it of the targeted ratio
    std::uint32_t image = 0;    ///< what keys its random numbers,
    std::uint32_t restart = 0;  ///< with this
  };
  /// Writes what attempt i begins with. Several threads call it.
  std::function<void(std::int64_t i, Begun&)> begin = {};
  /// Takes attempt i's image, in row-major order, and the passes that it took, forward (and as many backward, where there
  /// are any). It may not ask the accelerator anything.
  std::function<void(std::int64_t i, const float* adversarial, std::int64_t passes)> end = {};
};

/// Attempts of Auto-PGD, as Apgd makes them.
struct Ascent : Attempts {
  Threat threat;  ///< Linf or L2
  ApgdLoss loss = ApgdLoss::cross_entropy;
  std::int64_t steps = 100;
  double rho = 0.75;
  bool targeted = false;
  float sign = 1;  ///< of the loss: larger is better
};

/// Attempts of Square, untargeted and in Linf, as Square makes them.
struct RandomSearch : Attempts {
  Threat threat;
  std::vector<std::int32_t> sides;  ///< of the window that follows each query
  std::uint64_t seed = 0;
};

/// What an attack's random numbers are keyed by, besides image and restart.
struct Seed {
  std::uint64_t seed = 0;
  std::uint32_t iteration = 0;  ///< the training step, where an attack is part of training
};

/// A function by a model's parameters other than the model itself, such as the bounds of its values. It is made on the
/// tape that it is given.
struct Part {
  std::string name;
  Shape input;  ///< of one image
  std::function<Var<float>(Var<float> x)> function;
};

class Classifier;
class LaneNetwork;

class Accelerator {
 public:
  Accelerator() = default;
  Accelerator(const Accelerator&) = delete;
  Accelerator& operator=(const Accelerator&) = delete;
  virtual ~Accelerator() = default;

  /// "cuda:0"
  virtual std::string device() const = 0;
  /// How products are computed: "exact", to the CPU's bits, or what stands for it in records.
  virtual std::string arithmetic() const { return "exact"; }
  /// Images that it takes in one go.
  virtual std::int64_t capacity() const = 0;
  /// Processes, each with such an accelerator, that share the minibatches of `accumulate`.
  virtual int processes() const { return 1; }
  /// They take whole blocks of so many images.
  virtual std::int64_t block() const = 0;
  /// What attacks without a Descent query: the model on the device, in evaluation mode, for all threads.
  virtual const Classifier& classifier() = 0;
  /// Logits of any number of images, (images, classes), in evaluation mode, of a model that draws no random numbers;
  /// `pixels(i)` points to image i's, in row-major order, and is called by several threads. Thread-safe.
  virtual void classify(std::int64_t images, const std::function<const float*(std::int64_t i)>& pixels,
                        float* logits) = 0;
  /// Perturbs a whole batch (capacity() images at most) into `adversarial`, laid out as clean.values(); every image gets
  /// the bits of the CPU's Pgd. `adversarial` null: the images stay on the device for `accumulate`. Thread-safe.
  virtual void descend(const Descent& descent, const LaneBatch<float>& clean, const Seed& seed, float* adversarial) = 0;
  /// Makes `attempts` attempts, each with the bits of the CPU's Apgd; an attempt that ends makes room for another.
  /// Thread-safe.
  virtual void ascend(const Ascent& ascent, std::int64_t attempts) = 0;
  /// The same of the CPU's Square. Images of at most 32 channels.
  virtual void search(const RandomSearch& search, std::int64_t attempts) = 0;
  /// Calls `body` with lanes on the device for `images` images, or as many as it takes with `arrays` arrays of them: for
  /// searches whose steps the host decides. Not of models that draw random numbers. Thread-safe.
  virtual void in_lanes(std::int64_t images, std::int64_t arrays, const std::function<void(LaneNetwork&)>& body) = 0;
  /// A training pass over the images of `batch` with the pixels at `pixels`, laid out as batch.values() (null: what the
  /// last `descend` left, with no other question behind it): adds the gradient of their mean cross-entropy to the
  /// gradients of the model's parameters. losses and predictions get a number for each image, in their order. With several processes `batch` is this one's
  /// share of `images_of_all` images (share_of, by blocks), possibly none, and the gradient is that of all of them, with
  /// the same bits on every process for any number of processes. `seed`: what dropout draws by.
  virtual void accumulate(const LaneBatch<float>& batch, std::int64_t images_of_all, const Seed& seed,
                          const float* pixels, float smoothing, float* losses, std::int32_t* predictions) = 0;
  /// The model as an operation of a training pass, for any loss: logits of x, (C,H,W), on its tape, whose key the
  /// accelerator draws by. Its derivative adds to the gradients of the model's parameters, those of all processes, as
  /// `accumulate`. May be called several times in a pass.
  virtual Var<float> apply(Var<float> x, std::int64_t images_of_all) = 0;
  /// The same of another function by the model's parameters, which must outlive the accelerator; all elements of its
  /// result in one axis.
  virtual Var<float> apply(const Part& part, Var<float> x, std::int64_t images_of_all) = 0;
  /// From now on gradients stay on the device, and the optimizer's updates are made there, with the same bits, where all
  /// of the gradient is; weights, gradients and the optimizer's state come to the host when they are asked for in their
  /// places (spans and pointers from before are out of date after a pass or an update). `optimizer` is of the model, and
  /// outlives the accelerator. At most once. This one leaves updates to the host.
  virtual void take_updates([[maybe_unused]] optim::Optimizer<float>& optimizer) {}
};

}  // namespace pavise::attack
