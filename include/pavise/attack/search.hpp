// SPDX-License-Identifier: MIT
// Attacks whose images take different numbers of steps: a thread attacks sixteen images side by side, each at a step of
// its own, and as soon as one is done another image moves into its lane.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "pavise/attack/attack.hpp"
#include "pavise/attack/query.hpp"
#include "pavise/attack/threat.hpp"

namespace pavise::attack {

/// The images that one thread attacks side by side. Arrays are [size][width]: element e of lane l is [e * width + l].
/// What an attack keeps for an image must depend on that lane alone.
class Lanes {
 public:
  Lanes(const Classifier& model, const Threat& threat, bool targeted, int width, std::uint64_t seed)
      : model_(model),
        threat_(threat),
        targeted_(targeted),
        width_(width),
        size_(model.input_shape().numel()),
        seed_(seed) {
    clean_ = array();
    answer_ = array();
    rankings_.resize(static_cast<std::size_t>(width));
  }

  const Classifier& model() const { return model_; }
  const Threat& threat() const { return threat_; }
  int width() const { return width_; }         ///< 16, or 1
  std::int64_t size() const { return size_; }  ///< pixels of an image, all channels
  std::int32_t classes() const { return model_.classes(); }
  std::uint64_t seed() const { return seed_; }

  /// Zeros for [size][width], with the room that a pass with one lane needs.
  AlignedVector<float> array() const { return AlignedVector<float>(static_cast<std::size_t>(size() * width_) + 16); }

  bool active(int lane) const { return active_[at(lane)]; }
  bool any_active() const {
    return std::any_of(active_.begin(), active_.begin() + width_, [](bool a) { return a; });
  }
  const float* clean() const { return clean_.data(); }
  /// The class to leave; of a targeted attack the one to reach.
  const std::int32_t* labels() const { return labels_.data(); }
  std::uint32_t id(int lane) const { return ids_[at(lane)]; }
  std::uint32_t restart(int lane) const { return restarts_[at(lane)]; }
  /// Steps that the image has behind it in this attempt: 0 in its first.
  std::int64_t step(int lane) const { return steps_[at(lane)]; }
  /// The classes by logit of the clean image, the largest first.
  std::span<const std::int32_t> ranking(int lane) const { return rankings_[at(lane)]; }
  /// The random sequence of this image and restart for `purpose` and `iteration`.
  RandomKey key(int lane, Purpose purpose, std::uint32_t iteration = 0) const {
    return {seed_, purpose, ids_[at(lane)], restarts_[at(lane)], iteration};
  }

  /// Logits and predictions of x; `loss` may be empty. Counts a forward pass for each active lane.
  const Answer& classify(float* x, const Loss& loss = {}) {
    ask(x, loss, nullptr);
    return answer_of_query_;
  }
  /// Also the gradient of the loss, [size][width], with 0 for what is not a finite number. Counts a forward and a backward pass for each active lane.
  const Answer& differentiate(float* x, const Loss& loss, float* gradient) {
    ask(x, loss, gradient);
    count(backward_, model_.draws());
    return answer_of_query_;
  }
  /// The gradient of every logit, [classes][size][width]. Counts a forward pass and as many backward ones as classes;
  /// of a classifier with several draws the passes of a query for each class.
  const Answer& jacobian(float* x, float* rows) {
    query_jacobian(model_, x, width_, labels_.data(), rows, query_key(), answer_of_query_, targeted_);
    count(forward_, model_.draws() > 1 ? classes() * forward_passes(model_, true) : 1);
    count(backward_, model_.draws() * classes());
    next_query();
    return answer_of_query_;
  }
  /// Whether the lane's image of that answer is what the attack is after: a wrong class, or the target.
  bool fooled(const Answer& answer, int lane) const {
    return answer.finite[at(lane)] && (answer.prediction[at(lane)] == labels_[at(lane)]) == targeted_;
  }

  /// The image that this lane's attempt would end with, [size][width]: at first the clean one. Whoever writes it writes
  /// one lane, or takes `keep`.
  float* answer() { return answer_.data(); }
  /// Copies lane `lane` of x into the answer.
  void keep(int lane, const float* x) { copy_lane(x, lane, answer_.data()); }
  /// Ends the lane's attempt with the answer as it is.
  void finish(int lane) { active_[at(lane)] = false; }

  /// to[., lane] = from[., lane].
  void copy_lane(const float* from, int lane, float* to) const {
    for (std::int64_t i = lane; i < size() * width_; i += width_) {
      to[i] = from[i];
    }
  }

  // For the loop that runs a search.

  /// Moves an image, row-major, into a lane.
  void load(int lane, const float* image, std::int32_t label, std::uint32_t id, std::uint32_t restart,
            std::span<const std::int32_t> ranking) {
    for (std::int64_t e = 0; e < size(); ++e) {
      clean_[static_cast<std::size_t>(e * width_ + lane)] = image[e];
      answer_[static_cast<std::size_t>(e * width_ + lane)] = image[e];
    }
    labels_[at(lane)] = label;
    ids_[at(lane)] = id;
    restarts_[at(lane)] = restart;
    rankings_[at(lane)].assign(ranking.begin(), ranking.end());
    steps_[at(lane)] = queries_[at(lane)] = forward_[at(lane)] = backward_[at(lane)] = 0;
    active_[at(lane)] = true;
  }
  /// Copies a lane's answer out, row-major.
  void unload(int lane, float* image) const {
    for (std::int64_t e = 0; e < size(); ++e) {
      image[e] = answer_[static_cast<std::size_t>(e * width_ + lane)];
    }
  }
  void end_step() { count(steps_, 1); }
  std::int64_t forward(int lane) const { return forward_[at(lane)]; }
  std::int64_t backward(int lane) const { return backward_[at(lane)]; }

 private:
  static std::size_t at(int lane) { return static_cast<std::size_t>(lane); }
  void count(PerLane<std::int64_t>& counter, std::int64_t more) const {
    for (std::size_t lane = 0; lane < counter.size(); ++lane) {
      counter[lane] += active_[lane] ? more : 0;
    }
  }
  QueryKey query_key() const {
    return {.seed = seed_, .ids = ids_.data(), .restarts = restarts_.data(), .numbers = queries_.data(), .number = 0};
  }
  void next_query() { count(queries_, 1); }
  void ask(float* x, const Loss& loss, float* gradient) {
    const float* g = query(model_, x, width_, width_, labels_.data(), loss, gradient != nullptr, query_key(),
                           answer_of_query_, targeted_);
    if (gradient != nullptr) {
      kernels::run_light([&](auto isa) { lane_finite<float>(isa, gradient, g, size_, width_); });
    }
    count(forward_, forward_passes(model_, gradient != nullptr));
    next_query();
  }

  const Classifier& model_;
  Threat threat_;
  bool targeted_;
  int width_;
  std::int64_t size_;
  std::uint64_t seed_;
  AlignedVector<float> clean_, answer_;
  PerLane<bool> active_{};
  PerLane<std::int32_t> labels_{};
  PerLane<std::uint32_t> ids_{}, restarts_{};
  PerLane<std::int64_t> steps_{}, queries_{}, forward_{}, backward_{};
  std::vector<std::vector<std::int32_t>> rankings_;
  Answer answer_of_query_;
};

/// The state of an attack on one thread's lanes.
class Search {
 public:
  virtual ~Search() = default;
  /// An image has moved into `lane`: makes its state. May not ask the classifier anything.
  virtual void start(Lanes& lanes, int lane) = 0;
  /// One step of every active lane (about one query), which ends some of them with lanes.finish. The other lanes hold
  /// images that are done, or none.
  virtual void step(Lanes& lanes) = 0;
};

/// An attack written as a Search.
class SearchAttack : public Attack {
 public:
  using Attack::Attack;

  virtual std::unique_ptr<Search> search(Lanes& lanes) const = 0;

  void perturb_group(const Classifier& model, const LaneBatch<float>& clean, std::int64_t group, float* adversarial,
                     const Seed& seed, Passes& passes) const override {
    Lanes lanes(model, threat(), targeted(), clean.lanes(), seed.seed + seed.iteration);
    const auto state = search(lanes);
    // The ranking of the classes takes a pass of its own here.
    thread_local AlignedVector<float> x;
    x.assign(clean.values(group), clean.values(group) + clean.size() * clean.lanes());
    x.resize(x.size() + 16);
    Answer first;
    query(model, x.data(), clean.valid(group), clean.lanes(), nullptr, {}, false, {.seed = seed.seed}, first);
    passes.forward += clean.valid(group);
    std::vector<float> row(static_cast<std::size_t>(clean.size()));
    for (std::int64_t lane = 0; lane < clean.valid(group); ++lane) {
      const int l = static_cast<int>(lane);
      clean.unpack(group * clean.lanes() + lane, row.data());
      lanes.load(l, row.data(), clean.labels(group)[lane], clean.ids(group)[lane], clean.restarts(group)[lane],
                 detail::rank_classes(first.logits.data() + lane, model.classes(), clean.lanes()));
      state->start(lanes, l);
    }
    while (lanes.any_active()) {
      state->step(lanes);
      lanes.end_step();
    }
    std::copy_n(lanes.answer(), clean.size() * clean.lanes(), adversarial);
    for (int lane = 0; lane < clean.lanes(); ++lane) {
      if (lane >= clean.valid(group)) {  // repeat the last image, as the batch does
        for (std::int64_t e = 0; e < clean.size(); ++e) {
          adversarial[e * clean.lanes() + lane] = adversarial[e * clean.lanes() + clean.valid(group) - 1];
        }
      } else {
        passes.forward += lanes.forward(lane);
        passes.backward += lanes.backward(lane);
      }
    }
  }

  void attempt(const Classifier& model, const Work& work, std::span<Attempt> attempts) const override {
    if (const auto on_device = descent(); model.accelerator() != nullptr && on_device) {
      attempt_on(*model.accelerator(), *on_device, work, attempts);
      return;
    }
    const auto count = static_cast<std::int64_t>(attempts.size());
    const std::int64_t threads = thread_count();
    // One image at a time where a group would be mostly empty lanes; else as many lanes as keep all threads busy.
    const int width = count <= detail::kSingles * threads ? 1 : 16;
    const std::int64_t used = std::min<std::int64_t>(width, (count + threads - 1) / threads);
    const std::int64_t workers = std::min(threads, count);
    std::atomic<std::int64_t> next{0};
    parallel_for(workers, [&](std::int64_t) {
      Lanes lanes(model, threat(), targeted(), width, work.seed);
      const auto state = search(lanes);
      PerLane<std::int64_t> held;
      held.fill(-1);
      const auto refill = [&](int lane) {
        const std::int64_t i = next.fetch_add(1);
        held[static_cast<std::size_t>(lane)] = i < count ? i : -1;
        if (i >= count) {
          return;
        }
        const Attempt& a = attempts[static_cast<std::size_t>(i)];
        lanes.load(lane, work.images.row(a.image).data(), work.labels[static_cast<std::size_t>(a.image)],
                   work.id(a.image), a.restart, work.ranking(a.image));
        state->start(lanes, lane);
      };
      for (int lane = 0; lane < used; ++lane) {
        refill(lane);
      }
      while (lanes.any_active()) {
        state->step(lanes);
        lanes.end_step();
        for (int lane = 0; lane < used; ++lane) {
          const std::int64_t i = held[static_cast<std::size_t>(lane)];
          if (i >= 0 && !lanes.active(lane)) {
            Attempt& a = attempts[static_cast<std::size_t>(i)];
            a.adversarial.resize(static_cast<std::size_t>(lanes.size()));
            lanes.unload(lane, a.adversarial.data());
            a.forward = lanes.forward(lane);
            a.backward = lanes.backward(lane);
            work.done(1);
            refill(lane);
          }
        }
      }
    });
  }
};

}  // namespace pavise::attack
