// SPDX-License-Identifier: MIT
// Runs an attack over many images and restarts, and judges what it found independently of it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "pavise/attack/attack.hpp"
#include "pavise/attack/query.hpp"
#include "pavise/attack/threat.hpp"
#include "pavise/core/communicator.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/data/dataset.hpp"

namespace pavise::attack {

/// What a run of an attack found, image by image.
struct Result {
  Tensor<float> adversarial;  ///< (N,C,H,W): the best attempt's image; the clean one where that was wrong
  std::vector<std::int32_t> clean_prediction;
  std::vector<std::int32_t> prediction;  ///< of the adversarial image
  std::vector<float> clean_confidence;   ///< softmax probability of the prediction
  std::vector<float> confidence;
  /// Wrong prediction (or target reached) at any distance; clean mistakes count. Never an image that is refused.
  std::vector<std::uint8_t> fooled;
  std::vector<std::uint8_t> success;         ///< fooled within epsilon
  std::vector<std::int32_t> attempt;         ///< the one that the image comes from; -1: the clean image
  std::vector<float> distance;               ///< of the adversarial image, in the threat's norm
  std::vector<std::uint8_t> clean_rejected;  ///< whether the classifier refuses the clean image
  std::vector<std::uint8_t> rejected;        ///< and the adversarial one
  std::vector<std::int64_t> forward;         ///< passes of each image's attempts up to the one that succeeded, or all
  std::vector<std::int64_t> backward;
  std::int64_t clean_correct = 0;   ///< images that are not fooled from the start: refused ones are among them
  std::int64_t robust_correct = 0;  ///< images without success
  std::int64_t forward_passes = 0;  ///< sums of the above, the passes that judge included
  std::int64_t backward_passes = 0;
  std::int64_t size() const { return static_cast<std::int64_t>(success.size()); }
};

struct RunOptions {
  std::int64_t restarts = 1;
  std::uint64_t seed = 0;
  bool stop_at_success = true;  ///< further attempts only for images that stand; else all, and the best one wins
  /// Draws of a random classifier by which an image is judged; the most frequent class counts.
  std::int64_t judging_draws = 100;
  /// Of a targeted attack, whose labels are the targets: the images' own labels, none of which may be its target.
  std::span<const std::int32_t> truth = {};
  /// Called with the attempts (images times restarts) newly done, by any thread.
  std::function<void(std::int64_t attempts)> progress = {};
  /// The processes that share the images, each with the same arguments; all get the result that one alone would get.
  Communicator* team = nullptr;
};

/// How the classifier sees one image.
struct Judgement {
  std::int32_t prediction = -1;
  float confidence = 0;   ///< softmax probability of the prediction
  float loss = 0;         ///< cross-entropy of the label
  bool finite = true;     ///< whether all logits are
  bool rejected = false;  ///< whether the classifier refuses the image
};

/// Which of the predictions count (none of an image that is refused), and how far rounding may take a distance beyond
/// epsilon.
inline bool fooled(const Judgement& judgement, std::int32_t label, bool targeted) {
  return judgement.finite && !judgement.rejected && (judgement.prediction == label) == targeted;
}
inline bool within(const Threat& threat, float distance) {
  return static_cast<double>(distance) <= threat.epsilon * (1.0 + 1e-5) + 1e-6;
}

namespace detail {

/// By an image's logits, z[k * stride] of class k, and the class that counts as its prediction.
inline Judgement judgement_of(const float* z, std::int64_t classes, int stride, std::int32_t prediction,
                              std::int32_t label) {
  const auto logit = [&](std::int64_t k) { return static_cast<double>(z[k * stride]); };
  double largest = -std::numeric_limits<double>::infinity();
  for (std::int64_t k = 0; k < classes; ++k) {
    largest = std::max(largest, logit(k));
  }
  double sum = 0;
  for (std::int64_t k = 0; k < classes; ++k) {
    sum += std::exp(logit(k) - largest);
  }
  const double total = largest + std::log(sum);
  return {.prediction = prediction,
          .confidence = static_cast<float>(std::exp(logit(prediction) - total)),
          .loss = static_cast<float>(total - logit(label))};
}

/// Shapes, labels and pixels of a run, each refused by its value.
inline void check_images(const Attack& attack, const Classifier& model, const Tensor<float>& images,
                         std::span<const std::int32_t> labels, const RunOptions& options) {
  const std::string name = attack.name();
  const std::int64_t n = images.shape().rank() > 0 ? images.shape()[0] : 0;
  require<ShapeError>(images.shape().rank() == 4 && static_cast<std::int64_t>(labels.size()) == n, name,
                      ": expects images (N,C,H,W) and N labels, got ", images.shape(), " and ", labels.size());
  require<ShapeError>(Shape(images.shape().begin() + 1, 3) == model.input_shape(), name, ": model ", model.name(),
                      " expects images of ", model.input_shape(), ", got ", images.shape());
  require(options.restarts >= 1 && options.restarts * attack.attempts() <= 65535, name, ": ", options.restarts,
          " restarts, expected 1 to ", 65535 / attack.attempts());
  require(options.judging_draws >= 1, name, ": ", options.judging_draws, " judging draws, expected 1 or more");
  require(options.truth.empty() || attack.targeted(), name,
          ": is not targeted, expected no true labels besides labels");
  require<ShapeError>(options.truth.empty() || options.truth.size() == labels.size(), name, ": ", options.truth.size(),
                      " true labels for ", n, " images");
  const auto low = static_cast<float>(attack.threat().low);  // the walls as the attacks' steps round them
  const auto high = static_cast<float>(attack.threat().high);
  std::vector<std::uint8_t> inside(static_cast<std::size_t>(n));
  parallel_for(n, [&](std::int64_t i) {
    const auto row = images.row(i);
    inside[static_cast<std::size_t>(i)] =
        std::all_of(row.begin(), row.end(), [&](float v) { return v >= low && v <= high; }) ? 1 : 0;
  });
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int32_t label = labels[static_cast<std::size_t>(i)];
    require(label >= 0 && label < model.classes(), name, ": label ", label, " of image ", i, ", expected 0 to ",
            model.classes() - 1);
    require(options.truth.empty() || options.truth[static_cast<std::size_t>(i)] != label, name, ": target ", label,
            " of image ", i, " is its own label, expected another class");
    if (inside[static_cast<std::size_t>(i)] != 0) {
      continue;
    }
    for (const float v : images.row(i)) {
      require(v >= low && v <= high, name, ": a pixel of image ", i, " is ", v, ", outside the declared box [",
              attack.threat().low, ",", attack.threat().high, "]; images are given before normalisation");
    }
  }
  attack.check(model);
}

}  // namespace detail

/// How a classifier sees attempts' images, in their order; `image_of(a)` is a pointer to attempt a's pixels, row-major.
/// `rankings` (may be null) gets the classes by logit, (N,classes). `number` names the random draws.
template <class ImageOf>
std::vector<Judgement> judge(const Classifier& model, const Work& work, std::span<const Attempt> attempts,
                             const ImageOf& image_of, std::int64_t draws, std::int64_t number,
                             std::int32_t* rankings = nullptr) {
  const Classifier many = model.with_draws(model.declaration().random ? draws : 1);
  std::vector<Judgement> judgements(attempts.size());
  const std::int64_t size = model.input_shape().numel();
  const std::int64_t classes = model.classes();
  const auto count = static_cast<std::int64_t>(attempts.size());
  const auto label = [&](const Attempt& a) { return work.labels[static_cast<std::size_t>(a.image)]; };
  const auto rank = [&](const float* z, int stride, std::int64_t at) {
    if (rankings != nullptr) {
      const auto order = detail::rank_classes(z, static_cast<std::int32_t>(classes), stride);
      std::copy(order.begin(), order.end(), rankings + at * classes);
    }
  };
  if (many.accelerator() != nullptr && !model.declaration().random && !model.declaration().rejection_output) {
    std::vector<float> logits(static_cast<std::size_t>(count * classes));
    many.accelerator()->classify(
        count, [&](std::int64_t i) { return image_of(attempts[static_cast<std::size_t>(i)]); }, logits.data());
    parallel_for(count, [&](std::int64_t i) {
      const float* z = logits.data() + i * classes;
      std::int32_t prediction = 0;
      kernels::run_light([&](auto isa) { argmax<float>(isa, z, &prediction, classes, 1); });
      auto& judgement = judgements[static_cast<std::size_t>(i)];
      judgement = detail::judgement_of(z, classes, 1, prediction, label(attempts[static_cast<std::size_t>(i)]));
      judgement.finite = std::all_of(z, z + classes, [](float v) { return std::isfinite(v); });
      rank(z, 1, i);
    });
    return judgements;
  }
  detail::for_packings(count, [&](std::int64_t begin, std::int64_t end, int lanes) {
    parallel_for((end - begin + lanes - 1) / lanes, [&](std::int64_t g) {
      thread_local AlignedVector<float> x;
      x.resize(static_cast<std::size_t>(size * lanes) + 16);
      PerLane<std::uint32_t> ids{};
      PerLane<std::uint32_t> restarts{};
      const std::int64_t first = begin + g * lanes;
      const std::int64_t valid = std::min<std::int64_t>(lanes, end - first);
      for (std::int64_t lane = 0; lane < lanes; ++lane) {
        const Attempt& a = attempts[static_cast<std::size_t>(first + std::min(lane, valid - 1))];
        ids[static_cast<std::size_t>(lane)] = work.id(a.image);
        restarts[static_cast<std::size_t>(lane)] = a.restart;
        const float* pixels = image_of(a);
        for (std::int64_t e = 0; e < size; ++e) {
          x[static_cast<std::size_t>(e * lanes + lane)] = pixels[e];
        }
      }
      Answer answer;
      query(many, x.data(), lanes, lanes, nullptr, {}, false,
            {.seed = work.seed, .ids = ids.data(), .restarts = restarts.data(), .number = number}, answer);
      for (std::int64_t lane = 0; lane < valid; ++lane) {
        const auto l = static_cast<std::size_t>(lane);
        const auto at = static_cast<std::size_t>(first + lane);
        const float* z = answer.logits.data() + lane;
        judgements[at] = detail::judgement_of(z, classes, lanes, answer.prediction[l], label(attempts[at]));
        judgements[at].finite = answer.finite[l] != 0;
        judgements[at].rejected = answer.rejected[l] != 0;
        rank(z, lanes, first + lane);
      }
    });
  });
  return judgements;
}

namespace detail {

/// The numbers that key the draws of random classifiers in judging, apart from those of an attack's own queries.
inline constexpr std::int64_t kCleanJudgement = 0xFFFFFFFF;
inline constexpr std::int64_t kJudgement = 0xFFFFFFFE;

/// Classifies the clean images and fills in what is known before the attack begins.
inline Result judge_clean(const Attack& attack, const Classifier& model, Work& work,
                          std::vector<std::int32_t>& rankings, const RunOptions& options) {
  const std::int64_t n = static_cast<std::int64_t>(work.labels.size());
  const auto count = static_cast<std::size_t>(n);
  std::vector<Attempt> clean(count);
  for (std::size_t i = 0; i < count; ++i) {
    clean[i].image = static_cast<std::int64_t>(i);
  }
  rankings.resize(count * static_cast<std::size_t>(model.classes()));
  const auto judgements = judge(
      model, work, clean, [&](const Attempt& a) { return work.images.row(a.image).data(); }, options.judging_draws,
      kCleanJudgement, rankings.data());
  work.rankings = rankings;
  Result result;
  result.adversarial = work.images;
  result.distance.resize(count);
  result.attempt.assign(count, -1);
  const std::int64_t draws = model.declaration().random ? options.judging_draws : 1;
  result.forward.assign(count, draws);
  result.backward.assign(count, 0);
  for (std::size_t i = 0; i < count; ++i) {
    require(judgements[i].finite, attack.name(), ": model ", model.name(),
            " gives logits that are not finite numbers (", "loss ", judgements[i].loss, ") for clean image ", i);
    result.clean_prediction.push_back(judgements[i].prediction);
    result.clean_confidence.push_back(judgements[i].confidence);
    result.clean_rejected.push_back(judgements[i].rejected ? 1 : 0);
    result.fooled.push_back(fooled(judgements[i], work.labels[i], attack.targeted()) ? 1 : 0);
  }
  result.success = result.fooled;
  result.prediction = result.clean_prediction;
  result.confidence = result.clean_confidence;
  result.rejected = result.clean_rejected;
  return result;
}

/// The measure by which attempts at one image compare: success first, then being fooled, then closer (of an attack for
/// the minimum norm) or the larger loss.
struct Merit {
  bool success = false;
  bool fooled = false;
  float value = -std::numeric_limits<float>::infinity();
  bool operator<(const Merit& other) const {
    return success != other.success ? other.success : fooled != other.fooled ? other.fooled : value < other.value;
  }
};

/// The results of all processes, one behind another: those of consecutive images.
inline Result gather_results(Communicator& team, const Result& own) {
  const auto all = [&](const auto& values) { return gather(team, std::span(values)); };
  Result out;
  const auto& pixels = own.adversarial;
  const auto every = gather(team, std::span<const float>(pixels.data(), static_cast<std::size_t>(pixels.size())));
  out.clean_prediction = all(own.clean_prediction);
  out.prediction = all(own.prediction);
  out.clean_confidence = all(own.clean_confidence);
  out.confidence = all(own.confidence);
  out.fooled = all(own.fooled);
  out.success = all(own.success);
  out.attempt = all(own.attempt);
  out.distance = all(own.distance);
  out.clean_rejected = all(own.clean_rejected);
  out.rejected = all(own.rejected);
  out.forward = all(own.forward);
  out.backward = all(own.backward);
  std::int64_t sums[] = {own.clean_correct, own.robust_correct, own.forward_passes, own.backward_passes};
  add_up(team, sums);
  out.clean_correct = sums[0];
  out.robust_correct = sums[1];
  out.forward_passes = sums[2];
  out.backward_passes = sums[3];
  const Shape& s = pixels.shape();
  out.adversarial = Tensor<float>(Shape{out.size(), s[1], s[2], s[3]});
  std::copy(every.begin(), every.end(), out.adversarial.data());
  return out;
}

}  // namespace detail

/// Runs an attack on images (N,C,H,W) with their labels: clean images that are classified wrongly count as successes
/// and are left alone, the others get up to `restarts` tries. Whether an image is broken is judged here, from its
/// pixels alone: an image outside the ball or the box is not, whatever the attack says. An image's result is its first
/// successful attempt's, or else the best one's; it does not depend on the other images, their order, or the number of
/// threads. `ids`: index of each image in its data set, which keys its random numbers (null: 0, 1, 2, ...). For a
/// targeted attack `labels` are the targets and `success` means reached; clean_correct and robust_correct then count
/// images off target. Throws ShapeError or ValueError for images, labels or a classifier that cannot be attacked.
inline Result run(const Attack& attack, const Classifier& model, const Tensor<float>& images,
                  std::span<const std::int32_t> labels, const RunOptions& options = {},
                  const std::uint32_t* ids = nullptr) {
  if (options.team != nullptr && images.shape().rank() == 4 &&
      images.shape()[0] == static_cast<std::int64_t>(labels.size())) {  // else they are refused below
    const auto [begin, end] = share_of(images.shape()[0], options.team->rank(), options.team->size());
    const Shape& s = images.shape();
    Tensor<float> own(Shape{end - begin, s[1], s[2], s[3]});
    std::vector<std::uint32_t> own_ids;
    for (std::int64_t i = begin; i < end; ++i) {
      std::copy_n(images.row(i).begin(), images.row(i).size(), own.row(i - begin).begin());
      own_ids.push_back(ids != nullptr ? ids[i] : static_cast<std::uint32_t>(i));
    }
    const auto part = [&, begin = begin, end = end](std::span<const std::int32_t> values) {
      return values.empty() ? values
                            : values.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(end - begin));
    };
    RunOptions alone = options;
    alone.team = nullptr;
    alone.truth = part(options.truth);
    return detail::gather_results(*options.team, run(attack, model, own, part(labels), alone, own_ids.data()));
  }
  detail::check_images(attack, model, images, labels, options);
  const Threat& threat = attack.threat();
  Work work{images, labels, ids, {}, options.seed, {}};
  std::vector<std::int32_t> rankings;
  Result result = detail::judge_clean(attack, model, work, rankings, options);
  const std::int64_t n = result.size();
  const std::int64_t tries = (attack.random() ? options.restarts : 1) * attack.attempts();
  std::vector<std::int64_t> pending;
  for (std::int64_t i = 0; i < n; ++i) {
    if (result.success[static_cast<std::size_t>(i)] == 0) {
      pending.push_back(i);
    }
  }
  result.clean_correct = static_cast<std::int64_t>(pending.size());
  const auto progress = [&](std::int64_t done) {
    if (options.progress && done > 0) {
      options.progress(done);
    }
  };
  work.progress = options.progress;
  progress((n - result.clean_correct) * tries);

  const std::int64_t judging = model.declaration().random ? options.judging_draws : 1;
  std::vector<detail::Merit> best(static_cast<std::size_t>(n));
  const std::int64_t wanted = 16 * static_cast<std::int64_t>(thread_count());
  for (std::int64_t next = 0; next < tries && !pending.empty();) {
    // Few images left: several attempts at each fill the lanes.
    const auto left = static_cast<std::int64_t>(pending.size());
    const std::int64_t together = std::min(tries - next, std::max<std::int64_t>(1, wanted / left));
    std::vector<Attempt> attempts;
    for (const std::int64_t i : pending) {
      for (std::int64_t t = 0; t < together; ++t) {
        attempts.push_back({.image = i, .restart = static_cast<std::uint32_t>(next + t), .adversarial = {}});
      }
    }
    attack.attempt(model, work, attempts);
    const auto judgements = judge(
        model, work, attempts, [](const Attempt& a) { return a.adversarial.data(); }, options.judging_draws,
        detail::kJudgement);
    std::vector<float> distance(attempts.size());
    std::vector<std::uint8_t> in_box(attempts.size());
    parallel_for(static_cast<std::int64_t>(attempts.size()), [&](std::int64_t at) {
      const Attempt& a = attempts[static_cast<std::size_t>(at)];
      distances(threat, a.adversarial.data(), images.row(a.image).data(), images.size() / n, 1,
                &distance[static_cast<std::size_t>(at)]);
      const auto low = static_cast<float>(threat.low);
      const auto high = static_cast<float>(threat.high);
      in_box[static_cast<std::size_t>(at)] =
          std::all_of(a.adversarial.begin(), a.adversarial.end(), [&](float v) { return v >= low && v <= high; }) ? 1
                                                                                                                  : 0;
    });
    for (std::size_t at = 0; at < attempts.size(); ++at) {
      const Attempt& a = attempts[at];
      const auto i = static_cast<std::size_t>(a.image);
      if (options.stop_at_success && result.success[i] != 0) {
        continue;  // a later attempt of the same round
      }
      result.forward[i] += a.forward + judging;
      result.backward[i] += a.backward;
      detail::Merit merit;
      merit.fooled = fooled(judgements[at], labels[i], attack.targeted()) && in_box[at] != 0;
      merit.success = merit.fooled && within(threat, distance[at]);
      const float loss = attack.targeted() ? -judgements[at].loss : judgements[at].loss;
      merit.value = attack.minimum_norm() && merit.fooled ? -distance[at] : loss;
      if (in_box[at] != 0 && best[i] < merit) {
        best[i] = merit;
        result.success[i] = merit.success ? 1 : 0;
        result.fooled[i] = merit.fooled ? 1 : 0;
        result.prediction[i] = judgements[at].prediction;
        result.confidence[i] = judgements[at].confidence;
        result.rejected[i] = judgements[at].rejected ? 1 : 0;
        result.distance[i] = distance[at];
        result.attempt[i] = static_cast<std::int32_t>(a.restart);
        std::copy(a.adversarial.begin(), a.adversarial.end(), result.adversarial.row(a.image).begin());
      }
    }
    std::vector<std::int64_t> standing;
    for (const std::int64_t i : pending) {
      if (result.success[static_cast<std::size_t>(i)] == 0 || !options.stop_at_success) {
        standing.push_back(i);
      } else {
        progress(tries - next - together);
      }
    }
    pending = std::move(standing);
    next += together;
  }
  for (std::size_t i = 0; i < static_cast<std::size_t>(n); ++i) {
    result.robust_correct += result.success[i] == 0 ? 1 : 0;
    result.forward_passes += result.forward[i];
    result.backward_passes += result.backward[i];
  }
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

/// The index of each image in the set that it comes from, which keys its random numbers.
inline std::vector<std::uint32_t> source_ids(const data::Dataset& set) {
  std::vector<std::uint32_t> ids;
  for (std::int64_t i = 0; i < set.size(); ++i) {
    ids.push_back(static_cast<std::uint32_t>(set.source_index(i)));
  }
  return ids;
}

/// Runs an attack on a data set.
inline Result run(const Attack& attack, const Classifier& model, const data::Dataset& set,
                  const RunOptions& options = {}) {
  return run(attack, model, to_tensor(set), set.labels(), options, source_ids(set).data());
}

}  // namespace pavise::attack
