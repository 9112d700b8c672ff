// SPDX-License-Identifier: MIT
// Attacks whose images take different numbers of steps: a thread attacks sixteen images side by side, each at a step of
// its own, and as soon as one is done another image moves into its lane.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "pavise/attack/attack.hpp"
#include "pavise/attack/lane_math.hpp"
#include "pavise/attack/query.hpp"
#include "pavise/attack/threat.hpp"

namespace pavise::attack {

namespace detail {

/// `query` of lanes that have the model themselves: logits by their forward pass, the loss and its derivative by the
/// logits on the thread's tape, the rest by their backward pass.
inline void ask_network(LaneNetwork& network, std::int32_t classes, float* x, const std::int32_t* labels,
                        const Loss& loss, float* gradient, Answer& answer) {
  const std::int64_t width = network.width();
  float* z = network.forward(x);
  answer.logits.resize(static_cast<std::size_t>(classes * width));
  for (std::int64_t group = 0; group < width / 16; ++group) {
    const float* from = z + group * classes * 16;
    kernels::run_light([&](auto isa) { argmax<float>(isa, from, answer.prediction.data() + group * 16, classes, 16); });
    for (std::int64_t lane = 0; lane < 16; ++lane) {
      bool finite = true;
      for (std::int64_t k = 0; k < classes; ++k) {
        const float v = from[k * 16 + lane];
        finite = finite && std::isfinite(v);
        answer.logits[static_cast<std::size_t>(k * width + group * 16 + lane)] = v;
      }
      answer.finite[static_cast<std::size_t>(group * 16 + lane)] = finite ? 1 : 0;
    }
  }
  if (!loss) {
    return;
  }
  auto& tape = thread_tape<float>();
  tape.begin(width, 16);
  const Var<float> logits = tape.view(Shape{classes}, z, gradient != nullptr);
  const Var<float> value = loss(logits, labels);
  for (std::int64_t group = 0; group < width / 16; ++group) {
    std::copy_n(value.data(group), 16, answer.loss.begin() + group * 16);
  }
  if (gradient != nullptr) {
    const bool depends = tape.needs_gradient(value);
    if (depends) {
      tape.backward(value);
    }
    network.backward(depends ? tape.input_gradient(logits) : nullptr, gradient);
  }
}

}  // namespace detail

/// The images that one thread attacks side by side, the host's or those of a device. Arrays are [size][width]: element e
/// of lane l is [e * width + l]. What an attack keeps for an image must depend on that lane alone.
class Lanes {
 public:
  /// The host's: `width` is 16, or 1.
  Lanes(const Classifier& model, const Threat& threat, bool targeted, int width, std::uint64_t seed)
      : Lanes(model, threat, targeted, seed, std::make_unique<HostLaneMath>(model.input_shape().numel(), width)) {}
  /// Those of `network`, which has the model and must outlive them: for attacks that touch their arrays by math() alone.
  Lanes(const Classifier& model, const Threat& threat, bool targeted, std::uint64_t seed, LaneNetwork& network)
      : Lanes(model, threat, targeted, seed, nullptr, &network) {}

  const Classifier& model() const { return model_; }
  const Threat& threat() const { return threat_; }
  int width() const { return width_; }         ///< 16, or 1; of a device as many as it takes
  std::int64_t size() const { return size_; }  ///< pixels of an image, all channels
  std::int32_t classes() const { return model_.classes(); }
  std::uint64_t seed() const { return seed_; }
  LaneMath& math() const { return math_; }

  /// Zeros for [size][width] where the lanes lie.
  Field field() const { return Field(math_); }
  /// The same of the host's lanes, with the room that a pass with one lane needs.
  AlignedVector<float> array() const { return AlignedVector<float>(static_cast<std::size_t>(size() * width_) + 16); }
  /// One number for each lane, with room for sixteen.
  template <class T = float>
  AlignedVector<T> values(T value = T{}) const {
    return AlignedVector<T>(active_.size(), value);
  }

  bool active(int lane) const { return active_[at(lane)] != 0; }
  bool any_active() const {
    return std::any_of(active_.begin(), active_.begin() + width_, [](std::uint8_t a) { return a != 0; });
  }
  const float* clean() const { return clean_.data(); }
  /// The lane's clean image in row-major order, on the host.
  std::span<const float> image(int lane) const {
    return std::span(images_).subspan(at(lane) * static_cast<std::size_t>(size_), static_cast<std::size_t>(size_));
  }
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
  /// The gradient of every logit, [size][width] each, with 0 for what is not a finite number. Counts a forward pass and
  /// as many backward ones as classes; of a classifier with several draws the passes of a query for each class.
  const Answer& jacobian(float* x, std::span<float* const> rows) {
    if (network_ != nullptr) {
      ask(x, {}, nullptr);
      std::vector<float> seed(static_cast<std::size_t>(width_ * classes()));
      for (std::int64_t k = 0; k < classes(); ++k) {
        const auto give_logit = [&](float v) {
          for (std::int64_t group = 0; group < width_ / 16; ++group) {
            std::fill_n(seed.begin() + (group * classes() + k) * 16, 16, v);
          }
        };
        give_logit(1.0f);
        network_->backward(seed.data(), rows[static_cast<std::size_t>(k)]);
        give_logit(0.0f);
      }
      count(backward_, classes());
      return answer_of_query_;
    }
    query_jacobian(model_, x, width_, labels_.data(), rows, query_key(), answer_of_query_, targeted_);
    for (float* row : rows) {
      kernels::run_light([&](auto isa) { lane_finite<float>(isa, row, row, size_, width_); });
    }
    count(forward_, model_.draws() > 1 ? classes() * forward_passes(model_, true) : 1);
    count(backward_, model_.draws() * classes());
    next_query();
    return answer_of_query_;
  }
  /// Whether the lane's image of that answer is what the attack is after: a wrong class, or the target.
  bool fooled(const Answer& answer, int lane) const {
    return answer.finite[at(lane)] != 0 && (answer.prediction[at(lane)] == labels_[at(lane)]) == targeted_;
  }

  /// The image that this lane's attempt would end with, [size][width]: at first the clean one. Whoever writes it writes
  /// one lane, or takes `keep`.
  float* answer() { return answer_.data(); }
  /// Copies lane `lane` of x into the answer.
  void keep(int lane, const float* x) { copy_lane(x, lane, answer_.data()); }
  /// Ends the lane's attempt with the answer as it is.
  void finish(int lane) { active_[at(lane)] = 0; }

  /// to[., lane] = from[., lane].
  void copy_lane(const float* from, int lane, float* to) const { math_.copy_lane(from, lane, to); }

  // For the loop that runs a search.

  /// Moves an image, row-major, into a lane.
  void load(int lane, const float* image, std::int32_t label, std::uint32_t id, std::uint32_t restart,
            std::span<const std::int32_t> ranking) {
    std::copy_n(image, size_, images_.begin() + lane * size_);
    math_.put_lane(image, lane, clean_.data());
    math_.put_lane(image, lane, answer_.data());
    labels_[at(lane)] = label;
    ids_[at(lane)] = id;
    restarts_[at(lane)] = restart;
    rankings_[at(lane)].assign(ranking.begin(), ranking.end());
    steps_[at(lane)] = queries_[at(lane)] = forward_[at(lane)] = backward_[at(lane)] = 0;
    active_[at(lane)] = 1;
  }
  /// Copies lanes' answers out, row-major, one behind another.
  void unload(std::span<const int> lanes, float* images) const { math_.take_lanes(answer_.data(), lanes, images); }
  void end_step() { count(steps_, 1); }
  std::int64_t forward(int lane) const { return forward_[at(lane)]; }
  std::int64_t backward(int lane) const { return backward_[at(lane)]; }

 private:
  Lanes(const Classifier& model, const Threat& threat, bool targeted, std::uint64_t seed, std::unique_ptr<LaneMath> own,
        LaneNetwork* network = nullptr)
      : model_(model),
        threat_(threat),
        targeted_(targeted),
        own_(std::move(own)),
        network_(network),
        math_(network != nullptr ? *network : *own_),
        width_(math_.width()),
        size_(model.input_shape().numel()),
        seed_(seed),
        clean_(math_),
        answer_(math_),
        images_(static_cast<std::size_t>(size_ * width_)),
        active_(math_.values().size()),
        labels_(active_.size()),
        ids_(active_.size()),
        restarts_(active_.size()),
        steps_(active_.size()),
        queries_(active_.size()),
        forward_(active_.size()),
        backward_(active_.size()),
        rankings_(active_.size()),
        answer_of_query_(width_) {}

  static std::size_t at(int lane) { return static_cast<std::size_t>(lane); }
  void count(std::vector<std::int64_t>& counter, std::int64_t more) const {
    for (std::size_t lane = 0; lane < counter.size(); ++lane) {
      counter[lane] += active_[lane] != 0 ? more : 0;
    }
  }
  QueryKey query_key() const {
    return {.seed = seed_, .ids = ids_.data(), .restarts = restarts_.data(), .numbers = queries_.data(), .number = 0};
  }
  void next_query() { count(queries_, 1); }
  void ask(float* x, const Loss& loss, float* gradient) {
    if (network_ != nullptr) {
      detail::ask_network(*network_, classes(), x, labels_.data(), loss, gradient, answer_of_query_);
    } else {
      const float* g = query(model_, x, width_, width_, labels_.data(), loss, gradient != nullptr, query_key(),
                             answer_of_query_, targeted_);
      if (gradient != nullptr) {
        kernels::run_light([&](auto isa) { lane_finite<float>(isa, gradient, g, size_, width_); });
      }
    }
    count(forward_, forward_passes(model_, gradient != nullptr));
    next_query();
  }

  const Classifier& model_;
  Threat threat_;
  bool targeted_;
  std::unique_ptr<LaneMath> own_;
  LaneNetwork* network_;
  LaneMath& math_;
  int width_;
  std::int64_t size_;
  std::uint64_t seed_;
  Field clean_, answer_;
  std::vector<float> images_;
  std::vector<std::uint8_t> active_;
  AlignedVector<std::int32_t> labels_;
  std::vector<std::uint32_t> ids_, restarts_;
  std::vector<std::int64_t> steps_, queries_, forward_, backward_;
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

  /// How many arrays of images its search has, for so many classes, where it touches them by Lanes::math() alone, so that
  /// they may lie on a device; 0 where it does not.
  virtual std::int64_t arrays([[maybe_unused]] std::int32_t classes) const { return 0; }

  void attempt(const Classifier& model, const Work& work, std::span<Attempt> attempts) const override {
    Accelerator* device = model.accelerator();
    if (const auto on_device = descent(); device != nullptr && on_device) {
      attempt_on(*device, *on_device, work, attempts);
      return;
    }
    const auto count = static_cast<std::int64_t>(attempts.size());
    if (const std::int64_t fields = arrays(model.classes());
        device != nullptr && fields > 0 && !model.declaration().random) {
      device->in_lanes(count, fields, [&](LaneNetwork& network) {
        Lanes lanes(model, threat(), targeted(), work.seed, network);
        std::int64_t next = 0;
        search_all(lanes, network.width(), work, attempts, [&] { return next++; });
      });
      return;
    }
    const std::int64_t threads = thread_count();
    // One image at a time where a group would be mostly empty lanes; else as many lanes as keep all threads busy.
    const int width = count <= detail::kSingles * threads ? 1 : 16;
    const auto used = static_cast<int>(std::min<std::int64_t>(width, (count + threads - 1) / threads));
    const std::int64_t workers = std::min(threads, count);
    std::atomic<std::int64_t> next{0};
    parallel_for(workers, [&](std::int64_t) {
      Lanes lanes(model, threat(), targeted(), width, work.seed);
      search_all(lanes, used, work, attempts, [&] { return next.fetch_add(1); });
    });
  }

 protected:
  /// Attempts of an accelerator: they begin with their image, its label and what keys its random numbers, and end in
  /// `attempts`; `start(attempt, begun)` adds the rest. `backward`: passes are backward ones too.
  template <class Start>
  static void bind(Attempts& to, const Work& work, std::span<Attempt> attempts, bool backward, const Start& start) {
    to.begin = [&work, attempts, start](std::int64_t i, Attempts::Begun& begun) {
      const Attempt& a = attempts[static_cast<std::size_t>(i)];
      const auto row = work.images.row(a.image);
      std::copy(row.begin(), row.end(), begun.clean);
      begun.label = work.labels[static_cast<std::size_t>(a.image)];
      begun.image = work.id(a.image);
      begun.restart = a.restart;
      start(a, begun);
    };
    to.end = [&work, attempts, backward](std::int64_t i, const float* adversarial, std::int64_t passes) {
      Attempt& a = attempts[static_cast<std::size_t>(i)];
      a.adversarial.assign(adversarial, adversarial + work.images.row(a.image).size());
      a.forward = passes;
      a.backward = backward ? passes : 0;
      work.done(1);
    };
  }

 private:
  /// Makes the attempts that `next` names, until it names one behind the last, in the first `used` lanes.
  template <class Next>
  void search_all(Lanes& lanes, int used, const Work& work, std::span<Attempt> attempts, const Next& next) const {
    const auto count = static_cast<std::int64_t>(attempts.size());
    const auto state = search(lanes);
    std::vector<std::int64_t> held(static_cast<std::size_t>(used), -1);
    std::vector<int> over;
    std::vector<float> images;
    bool more = true;
    const auto refill = [&](int lane) {
      const std::int64_t i = more ? next() : count;
      more = i < count;
      held[static_cast<std::size_t>(lane)] = more ? i : -1;
      if (more) {
        const Attempt& a = attempts[static_cast<std::size_t>(i)];
        lanes.load(lane, work.images.row(a.image).data(), work.labels[static_cast<std::size_t>(a.image)],
                   work.id(a.image), a.restart, work.ranking(a.image));
        state->start(lanes, lane);
      }
    };
    for (int lane = 0; lane < used; ++lane) {
      refill(lane);
    }
    while (lanes.any_active()) {
      state->step(lanes);
      lanes.end_step();
      over.clear();
      for (int lane = 0; lane < used; ++lane) {
        if (held[static_cast<std::size_t>(lane)] >= 0 && !lanes.active(lane)) {
          over.push_back(lane);
        }
      }
      // Many lanes of a device: their images come out, and others move in, together.
      if (over.empty() || (lanes.any_active() && static_cast<int>(over.size()) < used / 32)) {
        continue;
      }
      images.resize(over.size() * static_cast<std::size_t>(lanes.size()));
      lanes.unload(over, images.data());
      for (std::size_t o = 0; o < over.size(); ++o) {
        Attempt& a = attempts[static_cast<std::size_t>(held[static_cast<std::size_t>(over[o])])];
        const float* image = images.data() + o * static_cast<std::size_t>(lanes.size());
        a.adversarial.assign(image, image + lanes.size());
        a.forward = lanes.forward(over[o]);
        a.backward = lanes.backward(over[o]);
        work.done(1);
        refill(over[o]);
      }
    }
  }
};

}  // namespace pavise::attack
