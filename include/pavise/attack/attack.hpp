// SPDX-License-Identifier: MIT
// The base of every attack.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <tuple>
#include <vector>

#include "pavise/attack/classifier.hpp"
#include "pavise/attack/query.hpp"
#include "pavise/attack/threat.hpp"
#include "pavise/core/lane_batch.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/tensor.hpp"

namespace pavise::attack {

/// How many times images went through the network.
struct Passes {
  std::atomic<std::int64_t> forward{0};
  std::atomic<std::int64_t> backward{0};
};

/// One try at one image: the unit of work, one lane.
struct Attempt {
  std::int64_t image = 0;
  std::uint32_t restart = 0;
  std::vector<float> adversarial;  ///< what came out, row-major
  std::int64_t forward = 0;        ///< passes that it took
  std::int64_t backward = 0;
};

/// The images that attempts refer to.
struct Work {
  const Tensor<float>& images;             ///< (N,C,H,W)
  std::span<const std::int32_t> labels;    ///< classes to leave, or targets to reach
  const std::uint32_t* ids = nullptr;      ///< names of their random numbers; null: 0, 1, 2, ...
  std::span<const std::int32_t> rankings;  ///< (N,classes): classes by clean logit, the largest first
  std::uint64_t seed = 0;
  std::function<void(std::int64_t images)> progress = {};

  std::uint32_t id(std::int64_t image) const { return ids != nullptr ? ids[image] : static_cast<std::uint32_t>(image); }
  std::span<const std::int32_t> ranking(std::int64_t image) const {
    const std::size_t classes = labels.empty() ? 0 : rankings.size() / labels.size();
    return rankings.subspan(static_cast<std::size_t>(image) * classes, classes);
  }
  void done(std::int64_t count) const {
    if (progress) {
      progress(count);
    }
  }
  /// The images of some attempts side by side.
  LaneBatch<float> pack(std::span<const Attempt> attempts, int lanes) const {
    const Shape shape(images.shape().begin() + 1, 3);
    LaneBatch<float> batch(shape, static_cast<std::int64_t>(attempts.size()), lanes);
    for (std::size_t i = 0; i < attempts.size(); ++i) {
      batch.labels()[i] = labels[static_cast<std::size_t>(attempts[i].image)];
      batch.ids()[i] = id(attempts[i].image);
      batch.restarts()[i] = attempts[i].restart;
    }
    batch.repeat_last();
    batch.pack([&](std::int64_t i, float* out) {
      const auto row = images.row(attempts[static_cast<std::size_t>(i)].image);
      std::copy(row.begin(), row.end(), out);
    });
    return batch;
  }
};

namespace detail {

/// Up to this many images left over go through the network one at a time: cheaper than a group of mostly empty lanes.
inline constexpr std::int64_t kSingles = 4;

/// Splits [0, n) into full groups and a rest: body(begin, end, lanes), at most twice.
template <class Body>
void for_packings(std::int64_t n, const Body& body) {
  const std::int64_t rest = n % 16;
  const std::int64_t grouped = rest > 0 && rest <= kSingles ? n - rest : n;
  for (const auto& [begin, end, lanes] : {std::tuple{std::int64_t{0}, grouped, 16}, std::tuple{grouped, n, 1}}) {
    if (begin != end) {
      body(begin, end, lanes);
    }
  }
}

/// The classes by logit, the largest first, the lowest of equals first; logit k is at z[k * stride].
inline std::vector<std::int32_t> rank_classes(const float* z, std::int32_t classes, int stride) {
  std::vector<std::int32_t> order(static_cast<std::size_t>(classes));
  for (std::int32_t k = 0; k < classes; ++k) {
    order[static_cast<std::size_t>(k)] = k;
  }
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
    return z[static_cast<std::int64_t>(a) * stride] > z[static_cast<std::int64_t>(b) * stride];
  });
  return order;
}

}  // namespace detail

/// One way to look for adversarial images. An image's outcome depends on the image, its label and its key alone, never
/// on its neighbours.
class Attack {
 public:
  explicit Attack(Threat threat) : threat_(threat) {}
  virtual ~Attack() = default;

  const Threat& threat() const { return threat_; }
  virtual std::string name() const = 0;
  /// Whether labels are targets to reach rather than classes to leave.
  virtual bool targeted() const { return false; }
  /// Whether restarts differ: without a random start there is nothing to gain from a second one.
  virtual bool random() const { return true; }
  /// Attempts that make one restart: nine, for an attack that aims at nine classes in turn. Attempt t of an image has
  /// the key `restart` = t.
  virtual std::int64_t attempts() const { return 1; }
  /// Whether it looks for the closest adversarial image rather than for the worst one within epsilon.
  virtual bool minimum_norm() const { return false; }
  /// What a device that holds the model can do of it without the host: all of it, or nothing.
  virtual std::optional<Descent> descent() const { return {}; }
  /// Throws ValueError where the attack cannot be run on that classifier (DLR with two classes).
  virtual void check(const Classifier& model) const { (void)model; }

  /// Perturbs group `group` of `clean` into `adversarial`, [size][lanes] of that group (with one lane, and room for
  /// fifteen elements behind it). Evaluation mode throughout.
  virtual void perturb_group(const Classifier& model, const LaneBatch<float>& clean, std::int64_t group,
                             float* adversarial, const Seed& seed, Passes& passes) const = 0;

  /// Perturbs a whole batch into `adversarial`, laid out as clean.values(); groups run in parallel.
  void perturb(const Classifier& model, const LaneBatch<float>& clean, float* adversarial, const Seed& seed,
               Passes& passes) const {
    parallel_for(clean.groups(), [&](std::int64_t g) {
      perturb_group(model, clean, g, adversarial + g * clean.size() * clean.lanes(), seed, passes);
    });
  }

  /// Makes all attempts, in parallel. Here group by group, for attacks whose images all take the same steps.
  virtual void attempt(const Classifier& model, const Work& work, std::span<Attempt> attempts) const {
    const auto on_device = descent();
    if (model.accelerator() != nullptr && on_device) {
      attempt_on(*model.accelerator(), *on_device, work, attempts);
      return;
    }
    detail::for_packings(
        static_cast<std::int64_t>(attempts.size()), [&](std::int64_t begin, std::int64_t end, int lanes) {
          const auto part = attempts.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
          const LaneBatch<float> batch = work.pack(part, lanes);
          parallel_for(batch.groups(), [&](std::int64_t g) {
            thread_local AlignedVector<float> x;
            x.resize(static_cast<std::size_t>((batch.size() + 2) * lanes) + 16);
            Passes passes;
            const std::int64_t valid = batch.valid(g);
            perturb_group(model, batch, g, x.data(), {.seed = work.seed, .iteration = 0}, passes);
            for (std::int64_t lane = 0; lane < valid; ++lane) {
              Attempt& a = part[static_cast<std::size_t>(g * lanes + lane)];
              a.forward = passes.forward / valid;
              a.backward = passes.backward / valid;
              a.adversarial.resize(static_cast<std::size_t>(batch.size()));
              for (std::int64_t e = 0; e < batch.size(); ++e) {
                a.adversarial[static_cast<std::size_t>(e)] = x[static_cast<std::size_t>(e * lanes + lane)];
              }
            }
            work.done(valid);
          });
        });
  }

 protected:
  /// All attempts on a device that holds the model.
  static void attempt_on(Accelerator& device, const Descent& descent, const Work& work, std::span<Attempt> attempts) {
    AlignedVector<float> x;
    for (std::size_t begin = 0; begin < attempts.size();) {
      const auto part =
          attempts.subspan(begin, std::min(attempts.size() - begin, static_cast<std::size_t>(device.capacity())));
      const LaneBatch<float> batch = work.pack(part, 16);
      x.resize(static_cast<std::size_t>(batch.groups() * 16 * batch.size()));
      device.descend(descent, batch, {.seed = work.seed, .iteration = 0}, x.data());
      parallel_for(static_cast<std::int64_t>(part.size()), [&](std::int64_t i) {
        Attempt& a = part[static_cast<std::size_t>(i)];
        a.forward = a.backward = descent.steps;
        a.adversarial.resize(static_cast<std::size_t>(batch.size()));
        const float* from = x.data() + i / 16 * 16 * batch.size() + i % 16;
        for (std::int64_t e = 0; e < batch.size(); ++e) {
          a.adversarial[static_cast<std::size_t>(e)] = from[e * 16];
        }
      });
      work.done(static_cast<std::int64_t>(part.size()));
      begin += part.size();
    }
  }

 private:
  Threat threat_;
};

}  // namespace pavise::attack
