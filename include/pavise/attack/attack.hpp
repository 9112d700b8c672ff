// SPDX-License-Identifier: MIT
// The base of every attack, and the loop that runs one over many images and restarts.
#pragma once

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "pavise/attack/threat.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/core/lane_batch.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/nn/model.hpp"

namespace pavise::attack {

/// What an attack's random numbers are keyed by, besides image and restart.
struct Seed {
  std::uint64_t seed = 0;
  std::uint32_t iteration = 0;  ///< the training step, where an attack is part of training
};

/// How many times images went through the network.
struct Passes {
  std::atomic<std::int64_t> forward{0};
  std::atomic<std::int64_t> backward{0};
};

/// A loss of the logits with one value for each image, which the attack maximises (minimises, where it is targeted).
/// Labels are one for each lane of the pass.
using Loss = std::function<Var<float>(Var<float> logits, const std::int32_t* labels)>;

/// One way to look for adversarial images. An attack works on one group of lanes at a time, in the calling thread, and
/// an image's outcome depends on the image, its label and its key alone, never on its neighbours.
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

  /// Perturbs group `group` of `clean` into `adversarial`, [size][lanes] of that group (with one lane, and room for
  /// fifteen elements behind it). Evaluation mode throughout.
  virtual void perturb_group(const nn::Model& model, const LaneBatch<float>& clean, std::int64_t group,
                             float* adversarial, const Seed& seed, Passes& passes) const = 0;

  /// Perturbs a whole batch into `adversarial`, laid out as clean.values(); groups run in parallel.
  void perturb(const nn::Model& model, const LaneBatch<float>& clean, float* adversarial, const Seed& seed,
               Passes& passes) const {
    parallel_for(clean.groups(), [&](std::int64_t g) {
      perturb_group(model, clean, g, adversarial + g * clean.size() * clean.lanes(), seed, passes);
    });
  }

 private:
  Threat threat_;
};

/// What a run of an attack found, image by image.
struct Result {
  Tensor<float> adversarial;  ///< (N,C,H,W): the best restart's image; the clean one where that was wrong
  std::vector<std::int32_t> clean_prediction;
  std::vector<std::int32_t> prediction;  ///< of the adversarial image
  std::vector<float> clean_confidence;   ///< softmax probability of the prediction
  std::vector<float> confidence;
  std::vector<std::uint8_t> success;  ///< wrong prediction (or target reached): clean mistakes count
  std::vector<std::int32_t> restart;  ///< the one that the image comes from; -1: the clean image
  std::vector<float> distance;        ///< in the threat's norm
  std::int64_t clean_correct = 0;
  std::int64_t robust_correct = 0;
  std::int64_t forward_passes = 0;  ///< images through the network, forward and backward
  std::int64_t backward_passes = 0;
  std::int64_t size() const { return static_cast<std::int64_t>(success.size()); }
};

struct RunOptions {
  std::int64_t restarts = 1;
  std::uint64_t seed = 0;
  bool stop_at_success = true;  ///< further restarts only for images that stand; else all, and the largest loss wins
  /// Called with the images (times restarts; without a random start there is one) newly done, by any thread.
  std::function<void(std::int64_t images)> progress = {};
};

namespace detail {

/// Logits of one group, on the thread's tape, and what is read off them.
struct GroupOutcome {
  std::vector<std::int32_t> prediction;
  std::vector<float> confidence;
  std::vector<float> loss;
};

inline GroupOutcome classify_group(const nn::Model& model, const Shape& shape, float* x, std::int64_t valid, int lanes,
                                   const std::int32_t* labels) {
  auto& tape = thread_tape<float>();
  tape.begin(valid, lanes);
  const Var<float> logits = model(tape.view(shape, x));
  GroupOutcome out;
  out.prediction.resize(static_cast<std::size_t>(lanes));
  argmax(logits, out.prediction.data());
  const Var<float> loss = cross_entropy(logits, labels);
  const Var<float> own = cross_entropy(logits, out.prediction.data());
  for (int lane = 0; lane < lanes; ++lane) {
    out.loss.push_back(loss.data()[lane]);
    out.confidence.push_back(std::exp(-own.data()[lane]));
  }
  return out;
}

/// One image and one restart: the unit of work, one lane.
struct Item {
  std::int64_t image;
  std::uint32_t restart;
};

/// Up to this many images left over go through the network one at a time: cheaper than a group of mostly empty lanes.
inline constexpr std::int64_t kSingles = 4;

/// Calls body(batch, group, first) for the items packed in groups; `first` is the item in the group's first lane.
template <class Pack, class Body>
void for_item_groups(std::span<const Item> items, const Pack& pack, const Body& body) {
  const auto n = static_cast<std::int64_t>(items.size());
  const std::int64_t rest = n % 16;
  const std::int64_t grouped = rest > 0 && rest <= kSingles ? n - rest : n;
  for (const auto& [begin, end, lanes] : {std::tuple{std::int64_t{0}, grouped, 16}, std::tuple{grouped, n, 1}}) {
    if (begin == end) {
      continue;
    }
    LaneBatch<float> batch =
        pack(items.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin)), lanes);
    parallel_for(batch.groups(),
                 [&, first = begin, width = lanes](std::int64_t g) { body(batch, g, first + g * width); });
  }
}

}  // namespace detail

/// Runs an attack on images (N,C,H,W) with their labels: clean images that are classified wrongly count as successes
/// and are left alone, the others get up to `restarts` tries. An image's result is its first successful restart's, or
/// else the one with the largest loss; it does not depend on the other images, their order, or the number of threads.
/// `ids`: index of each image in its data set, which keys its random numbers (null: 0, 1, 2, ...). For a targeted
/// attack `labels` are the targets and `success` means reached; clean_correct and robust_correct then count images off
/// target.
inline Result run(const Attack& attack, const nn::Model& model, const Tensor<float>& images,
                  std::span<const std::int32_t> labels, const RunOptions& options = {},
                  const std::uint32_t* ids = nullptr) {
  const std::int64_t n = images.shape().rank() > 0 ? images.shape()[0] : 0;
  require<ShapeError>(images.shape().rank() == 4 && static_cast<std::int64_t>(labels.size()) == n, attack.name(),
                      ": expects images (N,C,H,W) and N labels, got ", images.shape(), " and ", labels.size());
  require(options.restarts >= 1 && options.restarts <= 65535, attack.name(), ": ", options.restarts,
          " restarts, expected 1 to 65535");
  const Shape shape(images.shape().begin() + 1, 3);
  const auto& threat = attack.threat();
  const auto low = static_cast<float>(threat.low);  // the walls as the attacks' steps round them
  const auto high = static_cast<float>(threat.high);
  for (const float v : images) {
    require(v >= low && v <= high, attack.name(), ": a pixel is ", v, ", outside the declared box [", threat.low, ",",
            threat.high, "]; images are given before normalisation");
  }
  const auto count = static_cast<std::size_t>(n);
  Result result;
  result.adversarial = images;
  result.clean_prediction.resize(count);
  result.clean_confidence.resize(count);
  result.distance.resize(count);
  result.success.resize(count);
  result.restart.assign(count, -1);
  std::vector<float> best_loss(count, -std::numeric_limits<float>::infinity());
  Passes passes;
  const std::int64_t restarts = attack.random() ? options.restarts : 1;
  // Logits with a NaN are no classification: neither a correct one, nor a target reached.
  const auto succeeds = [&](std::int32_t prediction, float confidence, std::int32_t label) {
    return (prediction == label && !std::isnan(confidence)) == attack.targeted();
  };

  const auto pack = [&](std::span<const detail::Item> items, int lanes) {
    LaneBatch<float> batch(shape, static_cast<std::int64_t>(items.size()), lanes);
    for (std::size_t i = 0; i < items.size(); ++i) {
      const auto image = static_cast<std::size_t>(items[i].image);
      batch.labels()[i] = labels[image];
      batch.ids()[i] = ids != nullptr ? ids[image] : static_cast<std::uint32_t>(image);
      batch.restarts()[i] = items[i].restart;
    }
    batch.repeat_last();
    batch.pack([&](std::int64_t i, float* out) {
      const auto row = images.row(items[static_cast<std::size_t>(i)].image);
      std::copy(row.begin(), row.end(), out);
    });
    return batch;
  };

  std::vector<detail::Item> items;
  for (std::int64_t i = 0; i < n; ++i) {
    items.push_back({i, 0});
  }
  detail::for_item_groups(items, pack, [&](LaneBatch<float>& batch, std::int64_t g, std::int64_t first) {
    const auto outcome =
        detail::classify_group(model, shape, batch.values(g), batch.valid(g), batch.lanes(), batch.labels(g));
    passes.forward += batch.valid(g);
    for (std::int64_t lane = 0; lane < batch.valid(g); ++lane) {
      const auto i = static_cast<std::size_t>(first + lane);
      result.clean_prediction[i] = outcome.prediction[static_cast<std::size_t>(lane)];
      result.clean_confidence[i] = outcome.confidence[static_cast<std::size_t>(lane)];
      result.success[i] = succeeds(result.clean_prediction[i], result.clean_confidence[i], labels[i]) ? 1 : 0;
    }
  });
  result.prediction = result.clean_prediction;
  result.confidence = result.clean_confidence;
  std::vector<std::int64_t> pending;
  for (std::int64_t i = 0; i < n; ++i) {
    if (result.success[static_cast<std::size_t>(i)] == 0) {
      pending.push_back(i);
    }
  }
  result.clean_correct = static_cast<std::int64_t>(pending.size());
  if (options.progress) {
    options.progress((n - result.clean_correct) * restarts);
  }

  const std::int64_t wanted = 16 * static_cast<std::int64_t>(thread_count());
  for (std::int64_t next = 0; next < restarts && !pending.empty();) {
    // Few images left: several restarts of each fill the lanes.
    const auto left = static_cast<std::int64_t>(pending.size());
    const std::int64_t together = std::min(restarts - next, std::max<std::int64_t>(1, wanted / left));
    items.clear();
    for (const std::int64_t i : pending) {
      for (std::int64_t r = 0; r < together; ++r) {
        items.push_back({i, static_cast<std::uint32_t>(next + r)});
      }
    }
    struct Outcome {
      std::int32_t prediction;
      float confidence, loss, distance;
    };
    std::vector<Outcome> outcomes(items.size());
    std::vector<AlignedVector<float>> images_of(items.size());
    detail::for_item_groups(items, pack, [&](LaneBatch<float>& batch, std::int64_t g, std::int64_t first) {
      const int lanes = batch.lanes();
      thread_local AlignedVector<float> x;
      x.resize(static_cast<std::size_t>((batch.size() + 2) * lanes) + 16);
      attack.perturb_group(model, batch, g, x.data(), {.seed = options.seed, .iteration = 0}, passes);
      const auto outcome = detail::classify_group(model, shape, x.data(), batch.valid(g), lanes, batch.labels(g));
      passes.forward += batch.valid(g);
      alignas(64) float distance[16];
      distances(threat, x.data(), batch.values(g), batch.size(), lanes, distance);
      for (std::int64_t lane = 0; lane < batch.valid(g); ++lane) {
        const auto at = static_cast<std::size_t>(first + lane);
        const auto l = static_cast<std::size_t>(lane);
        outcomes[at] = {outcome.prediction[l], outcome.confidence[l], outcome.loss[l], distance[lane]};
        images_of[at].resize(static_cast<std::size_t>(batch.size()));
        for (std::int64_t e = 0; e < batch.size(); ++e) {
          images_of[at][static_cast<std::size_t>(e)] = x[static_cast<std::size_t>(e * lanes + lane)];
        }
      }
      if (options.progress) {
        options.progress(batch.valid(g));
      }
    });
    std::vector<std::int64_t> standing;
    for (std::size_t at = 0; at < items.size(); ++at) {
      const auto i = static_cast<std::size_t>(items[at].image);
      const bool success = succeeds(outcomes[at].prediction, outcomes[at].confidence, labels[i]);
      const float loss = attack.targeted() ? -outcomes[at].loss : outcomes[at].loss;
      const bool better = success != (result.success[i] != 0) ? success : loss > best_loss[i];
      if (better && !(options.stop_at_success && result.success[i] != 0)) {
        result.success[i] = success;
        result.prediction[i] = outcomes[at].prediction;
        result.confidence[i] = outcomes[at].confidence;
        result.distance[i] = outcomes[at].distance;
        result.restart[i] = static_cast<std::int32_t>(items[at].restart);
        best_loss[i] = loss;
        std::copy(images_of[at].begin(), images_of[at].end(), result.adversarial.row(items[at].image).begin());
      }
    }
    for (const std::int64_t i : pending) {
      if (result.success[static_cast<std::size_t>(i)] == 0 || !options.stop_at_success) {
        standing.push_back(i);
      } else if (options.progress) {
        options.progress(restarts - next - together);
      }
    }
    pending = std::move(standing);
    next += together;
  }
  for (std::size_t i = 0; i < count; ++i) {
    result.robust_correct += result.success[i] == 0 ? 1 : 0;
  }
  result.forward_passes = passes.forward;
  result.backward_passes = passes.backward;
  return result;
}

/// The images of a data set as a tensor (N,C,H,W) of pixels byte/255, for `run`.
inline Tensor<float> to_tensor(const data::Dataset& set) {
  const Shape& s = set.image_shape();
  Tensor<float> images(Shape{set.size(), s[0], s[1], s[2]});
  parallel_chunks(set.size(), 256, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      const auto row = images.row(i);
      const std::uint8_t* pixels = set.pixels(i);
      for (std::size_t e = 0; e < row.size(); ++e) {
        row[e] = static_cast<float>(pixels[e]) / 255.0f;
      }
    }
  });
  return images;
}

/// Runs an attack on a data set; the images' random numbers are keyed by their index in the set that they come from.
inline Result run(const Attack& attack, const nn::Model& model, const data::Dataset& set,
                  const RunOptions& options = {}) {
  std::vector<std::uint32_t> ids;
  for (std::int64_t i = 0; i < set.size(); ++i) {
    ids.push_back(static_cast<std::uint32_t>(set.source_index(i)));
  }
  return run(attack, model, to_tensor(set), set.labels(), options, ids.data());
}

}  // namespace pavise::attack
