// SPDX-License-Identifier: MIT
// Feature squeezing as a detector (Xu, Evans and Qi 2018, "Feature squeezing: detecting adversarial examples in deep
// neural networks"): a model that changes its mind about an image when the image is squeezed is suspected of having been
// fooled. It holds against attacks that do not know of it, and not against those that do: evaluate it with both.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/classifier.hpp"
#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/elementwise.hpp"
#include "pavise/autodiff/reduce.hpp"
#include "pavise/autodiff/shape_ops.hpp"
#include "pavise/autodiff/softmax.hpp"
#include "pavise/core/lane_batch.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/defend/filter/filter.hpp"

namespace pavise::defend {

/// The threshold at which at most a share `rate` of `scores` is above: sorted(scores)[ceil(n (1 - rate)) - 1], as in the
/// authors' program. Where scores are equal, fewer may be above. 0 <= rate < 1. Throws ValueError for no scores, NaN, or
/// a threshold that would be infinite because more than that share of the scores is.
inline float fit_threshold(std::vector<float> scores, double rate) {
  require(rate >= 0.0 && rate < 1.0, "detector: a false-positive rate of ", rate, ", expected 0 or more, less than 1");
  require(!scores.empty(), "detector: no scores, expected those of one clean image or more");
  for (std::size_t i = 0; i < scores.size(); ++i) {
    require(!std::isnan(scores[i]), "detector: score ", i, " is ", scores[i], ", expected a number");
  }
  std::sort(scores.begin(), scores.end());
  // ceil(n - n rate) = n - floor(n rate), where n rate may be a rounding below a whole number: 1000 * 0.29
  const auto n = static_cast<std::int64_t>(scores.size());
  const auto above = static_cast<std::int64_t>(std::floor(static_cast<double>(n) * rate + 1e-9));
  const float threshold = scores[static_cast<std::size_t>(std::max<std::int64_t>(n - above, 1) - 1)];
  require(std::isfinite(threshold), "detector: the threshold at a false-positive rate of ", rate, " is ", threshold,
          ": the model's outputs for these images are not numbers");
  return threshold;
}

namespace detail {

/// -log sum_i min(p_i, q_i) of p = softmax(a), q = softmax(b), from 0 to infinity. The sum is 1 - |p - q|_1 / 2, so that
/// it orders images as the L1 distance does; but the L1 distance of two certain softmaxes has no derivative in float,
/// and this has one that grows with what parts the logits.
inline Var<float> disagreement(Var<float> a, Var<float> b) {
  const Var<float> least = minimum(log_softmax(a), log_softmax(b));
  const Var<float> largest = max(least, {0}, true);
  return -(largest + log(sum(exp(least - largest), {0}, true)));
}

/// By how much several squeezers together are over the threshold: the sum over those that are, and where none is, what
/// the largest is below it. `disagreements` (S) are in nats; whether they are over is decided by the L1 distances (S),
/// which are what the detector's scores are made of: at the threshold itself rounding parts the two.
inline Var<float> excess(Var<float> disagreements, Var<float> distances, float threshold) {
  Tape<float>& tape = disagreements.tape();
  const std::int64_t count = disagreements.size();
  const int lanes = tape.lanes();
  const auto limit = static_cast<float>(-std::log(std::max(1.0 - static_cast<double>(threshold) / 2.0, 1e-30)));
  Var<float> y = tape.result("excess", Shape{1}, {disagreements});
  const auto over = [=](std::int64_t g, std::int64_t i) { return !(distances.data(g)[i] <= threshold); };
  tape.each_group([&](std::int64_t g) {
    for (int lane = 0; lane < lanes; ++lane) {
      float sum = 0.0f;
      float largest = -std::numeric_limits<float>::infinity();
      bool any = false;
      for (std::int64_t i = lane; i < count * lanes; i += lanes) {
        const float by = disagreements.data(g)[i] - limit;
        if (over(g, i)) {
          any = true;
          sum += by <= 0.0f ? std::numeric_limits<float>::min() : by;  // NaN stays
        } else {
          largest = std::max(largest, std::min(by, 0.0f));
        }
      }
      y.data(g)[lane] = any ? sum : largest;
    }
  });
  tape.on_backward(y, [=](Tape<float>& t) {
    const auto target = t.target(disagreements);
    t.each_group([&](std::int64_t g) {
      float* to = target.data + g * count * lanes;
      for (int lane = 0; lane < lanes; ++lane) {
        bool any = false;
        std::int64_t first = lane;  // the largest, of equals the first
        for (std::int64_t i = lane; i < count * lanes; i += lanes) {
          any = any || over(g, i);
          first = disagreements.data(g)[i] > disagreements.data(g)[first] ? i : first;
        }
        for (std::int64_t i = lane; i < count * lanes; i += lanes) {
          const float d = (any ? over(g, i) : i == first) ? t.gradient(y, g)[lane] : 0.0f;
          to[i] = target.accumulate ? to[i] + d : d;
        }
      }
    });
  });
  return y;
}

}  // namespace detail

/// A detector by feature squeezing. An image's score is
///   max over the squeezers s of || softmax(model(x)) - softmax(model(s(x))) ||_1,
/// from 0 to 2, and infinite where that is not a number; it is flagged where the score is above the threshold. A score
/// depends on its image alone: the same bits in any batch, order and number of threads.
class FeatureSqueezing {
 public:
  /// `squeezers`: each a filter, or several one after another, that keeps an image's shape. Throws ValueError for none,
  /// for one without filters, and for a threshold outside of 0 to 2.
  explicit FeatureSqueezing(std::vector<FilterList<float>> squeezers, std::optional<float> threshold = {})
      : squeezers_(std::move(squeezers)), threshold_(threshold) {
    require(!squeezers_.empty(), "detector: no squeezers, expected one or more");
    for (const auto& s : squeezers_) {
      require(!s.empty(), "detector: a squeezer has no filters, expected one or more");
    }
    if (threshold_) {
      require(*threshold_ >= 0.0f && *threshold_ <= 2.0f, "detector: a threshold of ", *threshold_,
              ", expected 0 to 2, the range of an L1 distance of probabilities");
    }
  }

  const std::vector<FilterList<float>>& squeezers() const { return squeezers_; }
  bool fitted() const { return threshold_.has_value(); }
  /// Throws ValueError where none has been fitted.
  float threshold() const {
    require(threshold_.has_value(), "detector ", name(), ": has no threshold, expected one fitted on clean images");
    return *threshold_;
  }
  bool flags(float score) const { return !(score <= threshold()); }
  FeatureSqueezing with_threshold(float threshold) const { return FeatureSqueezing(squeezers_, threshold); }

  /// "bit-depth:1, median:2"
  std::string name() const {
    std::string out;
    for (const auto& s : squeezers_) {
      out += (out.empty() ? "" : ", ") + s.to_string();
    }
    return out;
  }

  /// The scores of images (N,C,H,W). Costs a forward pass for the image and one for each squeezer. `ids` and `seed` key
  /// the random numbers of a model or squeezer that draws some (null: 0, 1, 2, ...). Throws ShapeError for images that
  /// the model does not take.
  std::vector<float> scores(const attack::Classifier& model, const Tensor<float>& images,
                            const std::uint32_t* ids = nullptr, std::uint64_t seed = 0) const {
    require<ShapeError>(images.shape().rank() == 4 && Shape(images.shape().begin() + 1, 3) == model.input_shape(),
                        "detector ", name(), ": model ", model.name(), " takes images of ", model.input_shape(),
                        ", got ", images.shape());
    const std::int64_t n = images.shape()[0];
    std::vector<float> out(static_cast<std::size_t>(n));
    if (n == 0) {
      return out;
    }
    LaneBatch<float> batch(model.input_shape(), n, 16);
    for (std::int64_t i = 0; i < n; ++i) {
      batch.ids()[i] = ids != nullptr ? ids[i] : static_cast<std::uint32_t>(i);
    }
    batch.pack([&](std::int64_t i, float* pixels) { std::copy_n(images.row(i).data(), batch.size(), pixels); });
    batch.repeat_last();
    parallel_for(batch.groups(), [&](std::int64_t g) {
      auto& tape = thread_tape<float>();
      tape.begin(batch.valid(g));
      tape.set_key({.seed = seed, .iteration = 0, .images = batch.ids(g)});
      const auto opinion = ask(model, tape.view(batch.shape(), batch.values(g)), false);
      for (std::int64_t lane = 0; lane < batch.valid(g); ++lane) {
        float largest = 0.0f;
        for (std::int64_t i = 0; i < opinion.distances.size(); ++i) {
          const float d = opinion.distances.data()[i * batch.lanes() + lane];
          largest = std::isfinite(d) ? std::max(largest, d) : std::numeric_limits<float>::infinity();
        }
        out[static_cast<std::size_t>(g * batch.lanes() + lane)] = largest;
      }
    });
    return out;
  }

  /// The detector with a threshold fitted on clean images: all that are given, whatever the model makes of them.
  FeatureSqueezing fit(const attack::Classifier& model, const Tensor<float>& clean, double false_positive_rate,
                       const std::uint32_t* ids = nullptr, std::uint64_t seed = 0) const {
    return with_threshold(fit_threshold(scores(model, clean, ids, seed), false_positive_rate));
  }

  /// The model with the detector in front of it, as attacks and evaluations see it: what the detector flags is refused,
  /// and no attack succeeds with it. Its rejection output is positive for a flagged image; its gradient is that of
  ///   sum over s of max(D_s - D(threshold), 0),  D = -log(1 - L1 / 2),
  /// the penalty of He et al. (2017) with the L1 distance on a scale on which a certain softmax does not saturate. The
  /// model behind `model` must outlive the result. Throws ValueError without a threshold, or for a model that refuses
  /// inputs itself.
  attack::Classifier guard(const attack::Classifier& model) const {
    require(!model.declaration().rejection_output, "detector ", name(), ": model ", model.name(),
            " refuses inputs itself, expected one without a detector");
    require(model.mean() == attack::Mean::loss, "detector ", name(), ": model ", model.name(),
            " is smoothed, expected one whose queries take the mean of losses");
    nn::Declaration declaration = model.declaration();
    declaration.rejects = declaration.rejection_output = true;
    declaration.differentiable = false;  // an image's own softmax is held, see `ask`
    for (const auto& s : squeezers_) {
      declaration = nn::together(declaration, s.declaration());
    }
    auto outputs = [detector = *this, limit = threshold(), model](Var<float> x) {
      const Opinion opinion = detector.ask(model, x, true);
      return concat(opinion.logits, detail::excess(opinion.disagreements, opinion.distances, limit), 0);
    };
    return attack::Classifier(pavise::concat(model.name(), " with a detector by ", name()), model.input_shape(),
                              model.classes(), std::move(outputs), declaration)
        .with_draws(model.draws(), model.repeats_draws());
  }

 private:
  /// The model's logits for an image, and how far the squeezed ones are from them, by squeezer.
  struct Opinion {
    Var<float> logits;
    Var<float> distances;      ///< (S): L1 distances of the softmaxes
    Var<float> disagreements;  ///< (S): -log(1 - L1 / 2), where it is asked for
  };

  Opinion ask(const attack::Classifier& model, Var<float> x, bool disagreements) const {
    Opinion out;
    out.logits = model(x);
    const Var<float> p = softmax(out.logits);
    const auto append = [](Var<float> all, Var<float> one) { return all ? concat(all, one, 0) : one; };
    for (const auto& s : squeezers_) {
      const Var<float> squeezed = s(x);
      require<ShapeError>(squeezed.shape() == x.shape(), "detector: squeezer ", s.to_string(), " makes ",
                          squeezed.shape(), " of ", x.shape(), ", expected the same shape");
      const Var<float> logits = model(squeezed);
      out.distances = append(out.distances, sum(abs(p - softmax(logits)), {0}, true));
      if (disagreements) {
        // The image's own softmax is held: the gradient takes the squeezed image after it. With a gradient to both, the
        // shortest way to agreement would often be back to the right class.
        const Var<float> held = x.tape().view(out.logits.shape(), out.logits.data());
        out.disagreements = append(out.disagreements, detail::disagreement(held, logits));
      }
    }
    return out;
  }

  std::vector<FilterList<float>> squeezers_;
  std::optional<float> threshold_;
};

}  // namespace pavise::defend
