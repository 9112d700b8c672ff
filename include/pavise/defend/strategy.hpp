// SPDX-License-Identifier: MIT
// What a defence by training is made of: a strategy says on which images and for which loss the weights of a step get
// their gradient; the trainer does the rest.
#pragma once

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "pavise/attack/attack.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/core/communicator.hpp"
#include "pavise/core/lane_batch.hpp"
#include "pavise/defend/history.hpp"
#include "pavise/defend/state.hpp"
#include "pavise/nn/model.hpp"

namespace pavise::defend {

/// What the passes of an epoch added up to, image by image in the order of the batches.
struct Totals {
  double loss = 0;
  std::int64_t images = 0;
  Count clean;
  Count adversarial;
};

/// One minibatch on its way through an update. Its memory is the trainer's and is used again by the next one. Where
/// processes train together, `clean` and `adversarial` are this one's share of the minibatch: whole groups, possibly none.
struct Step {
  const nn::Model& model;
  Tape<float>& tape;
  LaneBatch<float>& clean;            ///< as packed: augmented, labelled
  AlignedVector<float>& adversarial;  ///< room for as many images, laid out as clean.values()
  attack::Passes& passes;
  Totals& totals;
  AlignedVector<float>& seeds;  ///< scratch of `backward`
  std::vector<std::int32_t>& predictions;
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::int64_t update = 0;   ///< updates so far: keys the random numbers of this one
  std::int64_t updates = 0;  ///< of the whole run
  double label_smoothing = 0;
  Communicator* team = nullptr;           ///< who makes the update together with this process; null: nobody
  std::int64_t images_of_all = 0;         ///< images of the minibatch, where there is a team
  std::int64_t images_before = 0;         ///< of these, in front of this process's
  std::int64_t block = kernels::kLanes;   ///< images that a share is a multiple of
  attack::Accelerator* device = nullptr;  ///< that holds the model, where one does

  /// Images of the minibatch.
  std::int64_t images() const { return team != nullptr ? images_of_all : clean.images(); }

  attack::Seed attack_seed() const { return {.seed = seed, .iteration = static_cast<std::uint32_t>(update)}; }

  /// Logits of images on the tape, in training mode: by the model, or by the device that holds it.
  Var<float> logits(Var<float> x) const { return device != nullptr ? device->apply(x, images()) : model(x); }

  /// Begins the breadth-first pass of the update: training mode, gradients of the weights.
  void begin() {
    tape.begin(clean.images(), kernels::kLanes, Mode::training, true, {.team = team, .images_of_all = images_of_all});
    tape.set_key({.seed = seed, .iteration = static_cast<std::uint32_t>(update), .images = clean.ids()});
  }

  /// Differentiates the mean over the minibatch's images of `loss`, a number for each, and adds it to the totals.
  void backward(Var<float> loss) {
    const std::int64_t own = clean.images();
    const auto slots = static_cast<std::size_t>(clean.groups() * kernels::kLanes);
    seeds.assign(slots, 0.0f);
    std::fill_n(seeds.begin(), own, 1.0f / static_cast<float>(images()));
    tape.backward(loss, seeds.data());
    if (team != nullptr && device == nullptr) {  // a device gives all processes the sums itself
      broadcast(*team, model.parameters().gradients(), team->size() - 1);
    }
    add_losses(loss.data());  // one number an image: groups follow each other
  }
  /// Adds the losses of the minibatch's images, of which these are this process's, to the totals, behind a backward pass.
  void add_losses(const float* losses) {
    passes.backward += clean.images();
    if (team != nullptr) {
      losses_of_all.resize(static_cast<std::size_t>(images()));
      std::copy_n(losses, clean.images(), losses_of_all.begin() + images_before);
      gather_shares(*team, losses_of_all.data(), images(), 1, block);
      losses = losses_of_all.data();
    }
    for (std::int64_t i = 0; i < images(); ++i) {
      totals.loss += static_cast<double>(losses[i]);
    }
    totals.images += images();
  }

  /// Counts right predictions: the first `perturbed` images of `clean` as adversarial ones, the others as clean ones.
  void count(Var<float> logits, std::int64_t perturbed) {
    predictions.resize(static_cast<std::size_t>(clean.groups() * kernels::kLanes));
    argmax(logits, predictions.data());
    count_predictions(perturbed);
  }
  void count_predictions(std::int64_t perturbed) {
    passes.forward += clean.images();
    std::int64_t counts[4] = {};
    for (std::int64_t i = 0; i < clean.images(); ++i) {
      std::int64_t* count = counts + (i < perturbed ? 0 : 2);
      count[0] += predictions[static_cast<std::size_t>(i)] == clean.labels()[i] ? 1 : 0;
      ++count[1];
    }
    if (team != nullptr) {
      add_up(*team, counts);
    }
    totals.adversarial += {.correct = counts[0], .total = counts[1]};
    totals.clean += {.correct = counts[2], .total = counts[3]};
  }

  std::vector<float> losses_of_all = {};  ///< scratch of `add_losses`
};

/// A copy of all that training changes.
struct Snapshot {
  std::vector<float> values;  ///< weights, running statistics, the optimizer's state, averaged weights
  std::int64_t optimizer_steps = 0;
};

/// The trainer's state, as a strategy may look at it between two batches.
class Inspection {
 public:
  virtual ~Inspection() = default;
  virtual const nn::Model& model() const = 0;
  virtual std::int64_t epoch() const = 0;
  virtual std::int64_t update() const = 0;
  virtual bool end_of_epoch() const = 0;
  virtual std::uint64_t seed() const = 0;
  /// The batch that is kept for measuring: the first one of the first epoch, without augmentation.
  virtual const LaneBatch<float>& first_batch() = 0;
  virtual attack::Passes& passes() = 0;
  virtual Snapshot snapshot() const = 0;
  /// Puts a snapshot back. The count of updates goes on.
  virtual void restore(const Snapshot& snapshot) = 0;
  /// Puts a line into the epoch's record.
  virtual void event(std::string text) = 0;
};

/// How a defence makes the gradient of an update. Strategies have a state of their own where they need one, and save
/// it.
class Strategy {
 public:
  Strategy() = default;
  Strategy(const Strategy&) = delete;
  Strategy& operator=(const Strategy&) = delete;
  virtual ~Strategy() = default;

  virtual std::string name() const = 0;
  /// What it does, as key and value.
  virtual Recipe recipe() const = 0;
  /// Updates that are made from one minibatch.
  virtual std::int64_t replays() const { return 1; }
  /// Whether it makes its passes by Step::logits, so that a device can do them; else it is refused there.
  virtual bool runs_on_device() const { return false; }
  /// Before the first batch: forgets everything. Throws where the model or the batch does not suit.
  virtual void begin([[maybe_unused]] const nn::Model& model, [[maybe_unused]] std::int64_t batch_size) {}
  /// Makes the perturbed images of this step, with the weights as they are.
  virtual void craft([[maybe_unused]] Step& step) {}
  /// Adds the gradient of the mean loss to the parameters' gradients, and the pass to the totals.
  virtual void accumulate(Step& step) = 0;
  /// After the optimizer changed the weights.
  virtual void after_update([[maybe_unused]] Step& step) {}
  /// Between two batches.
  virtual void inspect([[maybe_unused]] Inspection& inspection) {}
  virtual void save([[maybe_unused]] StateWriter& state) const {}
  virtual void load([[maybe_unused]] StateReader& state) {}
};

/// An attack of any kind, held by value: AnyAttack a = attack::Pgd{threat, {.steps = 7}}.
class AnyAttack {
 public:
  AnyAttack() = default;
  template <class A>
    requires std::derived_from<std::remove_cvref_t<A>, attack::Attack> AnyAttack(
        A&& attack)  // NOLINT: converting on purpose
        : attack_(std::make_shared<std::remove_cvref_t<A>>(std::forward<A>(attack))) {}
    AnyAttack(std::shared_ptr<const attack::Attack> attack) : attack_(std::move(attack)) {}  // NOLINT

    explicit operator bool() const { return attack_ != nullptr; }
    const attack::Attack& operator*() const { return *attack_; }
    const attack::Attack* operator->() const { return attack_.get(); }

   private:
    std::shared_ptr<const attack::Attack> attack_;
};

namespace detail {

/// Perturbs the first `count` images of the step's batch into step.adversarial; the others are copied. `stay`: where all
/// are perturbed on a device they stay there, for cross_entropy_pass; returns whether they did.
inline bool perturb_first(Step& step, const attack::Attack& attack, std::int64_t count, bool stay = false) {
  const LaneBatch<float>& clean = step.clean;
  const std::int64_t n = clean.size();
  const attack::Seed seed = step.attack_seed();
  if (clean.images() == 0 || count <= 0) {
    std::copy_n(clean.values(), clean.groups() * n * kernels::kLanes, step.adversarial.data());
    return false;
  }
  if (const auto descent = attack.descent(); step.device != nullptr && descent.has_value()) {
    const bool all = count >= clean.images();
    stay = stay && all;
    step.device->descend(*descent, clean, seed, stay ? nullptr : step.adversarial.data());
    for (std::int64_t i = count; i < clean.images(); ++i) {
      for (std::int64_t e = 0; e < n; ++e) {
        const std::int64_t at = (i / kernels::kLanes * n + e) * kernels::kLanes + i % kernels::kLanes;
        step.adversarial[static_cast<std::size_t>(at)] = clean.values()[at];
      }
    }
    step.passes.forward += descent->steps * clean.images();
    step.passes.backward += descent->steps * clean.images();
    return stay;
  }
  const attack::Classifier queried = step.device != nullptr ? step.device->classifier() : step.model;
  parallel_for(clean.groups(), [&](std::int64_t g) {
    float* out = step.adversarial.data() + g * n * kernels::kLanes;
    const float* from = clean.values(g);
    const std::int64_t perturbed = count - g * kernels::kLanes;
    if (perturbed <= 0) {
      std::copy_n(from, n * kernels::kLanes, out);
      return;
    }
    attack.perturb_group(queried, clean, g, out, seed, step.passes);
    for (std::int64_t lane = perturbed; lane < kernels::kLanes; ++lane) {
      for (std::int64_t e = 0; e < n; ++e) {
        out[e * kernels::kLanes + lane] = from[e * kernels::kLanes + lane];
      }
    }
  });
  return false;
}

/// The pass of a step that trains on `images` with cross-entropy, of which the first `perturbed` are adversarial. `stayed`:
/// they are on the device (perturb_first).
inline void cross_entropy_pass(Step& step, float* images, std::int64_t perturbed, bool stayed = false) {
  if (step.device != nullptr) {
    step.seeds.resize(static_cast<std::size_t>(step.clean.images()));
    step.predictions.resize(step.seeds.size());
    step.device->accumulate(step.clean, step.images(), step.attack_seed(), stayed ? nullptr : images,
                            static_cast<float>(step.label_smoothing), step.seeds.data(), step.predictions.data());
    step.count_predictions(perturbed);
    step.add_losses(step.seeds.data());
    return;
  }
  step.begin();
  const Var<float> logits = step.logits(step.tape.view(step.clean.shape(), images));
  step.count(logits, perturbed);
  step.backward(cross_entropy(logits, step.clean.labels(), static_cast<float>(step.label_smoothing)));
}

inline void put_snapshot(StateWriter& out, std::string_view name, const Snapshot& snapshot) {
  out.put(name, std::span<const float>(snapshot.values));
  out.put("optimizer steps", snapshot.optimizer_steps);
}

inline Snapshot get_snapshot(StateReader& in, std::string_view name) {
  Snapshot out;
  out.values = in.get_vector<float>(name);
  out.optimizer_steps = in.get<std::int64_t>("optimizer steps");
  return out;
}

/// Keys the random starts of attacks that only measure, apart from every update's.
inline constexpr std::uint32_t kMeasuring = 0xFFFFFFFFu;

}  // namespace detail

}  // namespace pavise::defend
