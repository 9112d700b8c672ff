// SPDX-License-Identifier: MIT
// Questions to a classifier about a few images: what signs and self-tests are measured with.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <vector>

#include "pavise/attack/query.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/tensor.hpp"

namespace pavise::evaluate {

/// Images that questions are asked about.
struct Probe {
  Tensor<float> images;  ///< (M,C,H,W)
  std::vector<std::int32_t> labels;
  std::vector<std::uint32_t> ids;   ///< names of their random numbers
  std::vector<std::int64_t> index;  ///< among the images of the evaluation
  std::int64_t size() const { return static_cast<std::int64_t>(labels.size()); }
  std::int64_t image_size() const { return size() == 0 ? 0 : images.size() / size(); }
};

/// The images at `index`.
inline Probe make_probe(const Tensor<float>& images, std::span<const std::int32_t> labels,
                        std::span<const std::uint32_t> ids, std::vector<std::int64_t> index) {
  Probe probe;
  const Shape& s = images.shape();
  probe.images = Tensor<float>(Shape{static_cast<std::int64_t>(index.size()), s[1], s[2], s[3]});
  for (std::size_t i = 0; i < index.size(); ++i) {
    const auto from = images.row(index[i]);
    std::copy(from.begin(), from.end(), probe.images.row(static_cast<std::int64_t>(i)).begin());
    probe.labels.push_back(labels[static_cast<std::size_t>(index[i])]);
    probe.ids.push_back(ids[static_cast<std::size_t>(index[i])]);
  }
  probe.index = std::move(index);
  return probe;
}

/// What a classifier says of the images of a probe.
struct Answers {
  std::int64_t classes = 0;
  std::vector<float> logits;  ///< [M][classes]
  std::vector<float> loss;    ///< [M]
  std::vector<std::int32_t> prediction;
  std::vector<std::uint8_t> finite;  ///< whether all logits are
  Tensor<float> gradient;            ///< (M,size), where it was asked for
};

/// Asks a classifier about `images`, one row (of any shape) an image, in place of the probe's own. `lanes`: 16, or 1 to
/// put each image alone. Image i goes through as number `order[i]` (empty: i), in the company of its neighbours there.
/// `number` names the draws of a random classifier.
inline Answers ask(const attack::Classifier& model, const Probe& probe, const Tensor<float>& images,
                   const attack::Loss& loss, bool gradient, std::uint64_t seed, std::int64_t number, int lanes = 16,
                   std::span<const std::int64_t> order = {}) {
  const std::int64_t m = probe.size();
  const std::int64_t size = model.input_shape().numel();
  Answers answers;
  answers.classes = model.classes();
  answers.logits.resize(static_cast<std::size_t>(m * answers.classes));
  answers.loss.resize(static_cast<std::size_t>(m));
  answers.prediction.resize(static_cast<std::size_t>(m));
  answers.finite.resize(static_cast<std::size_t>(m));
  if (gradient) {
    answers.gradient = Tensor<float>(Shape{m, size});
  }
  std::vector<std::int64_t> at(static_cast<std::size_t>(m));  // the image at each place
  for (std::int64_t i = 0; i < m; ++i) {
    at[static_cast<std::size_t>(order.empty() ? i : order[static_cast<std::size_t>(i)])] = i;
  }
  parallel_for((m + lanes - 1) / lanes, [&](std::int64_t g) {
    AlignedVector<float> x(static_cast<std::size_t>(size * lanes) + 16);
    attack::PerLane<std::uint32_t> ids{};
    attack::PerLane<std::int32_t> labels{};
    const attack::PerLane<std::uint32_t> restarts{};
    const std::int64_t valid = std::min<std::int64_t>(lanes, m - g * lanes);
    const auto image_of = [&](std::int64_t lane) {
      return at[static_cast<std::size_t>(g * lanes + std::min(lane, valid - 1))];
    };
    for (std::int64_t lane = 0; lane < lanes; ++lane) {
      const std::int64_t i = image_of(lane);
      ids[static_cast<std::size_t>(lane)] = probe.ids[static_cast<std::size_t>(i)];
      labels[static_cast<std::size_t>(lane)] = probe.labels[static_cast<std::size_t>(i)];
      const float* row = images.data() + i * size;
      for (std::int64_t e = 0; e < size; ++e) {
        x[static_cast<std::size_t>(e * lanes + lane)] = row[e];
      }
    }
    attack::Answer answer;
    const float* d = attack::query(
        model, x.data(), lanes, lanes, labels.data(), loss, gradient,
        {.seed = seed, .ids = ids.data(), .restarts = restarts.data(), .numbers = nullptr, .number = number}, answer);
    for (std::int64_t lane = 0; lane < valid; ++lane) {
      const std::int64_t i = image_of(lane);
      const auto l = static_cast<std::size_t>(lane);
      answers.loss[static_cast<std::size_t>(i)] = answer.loss[l];
      answers.prediction[static_cast<std::size_t>(i)] = answer.prediction[l];
      answers.finite[static_cast<std::size_t>(i)] = answer.finite[l] ? 1 : 0;
      for (std::int64_t k = 0; k < answers.classes; ++k) {
        answers.logits[static_cast<std::size_t>(i * answers.classes + k)] =
            answer.logits[static_cast<std::size_t>(k * lanes + lane)];
      }
      for (std::int64_t e = 0; gradient && e < size; ++e) {
        answers.gradient[i * size + e] = d[e * lanes + lane];
      }
    }
  });
  return answers;
}

/// The numbers that key the draws of random classifiers in questions of the evaluator, apart from those of attacks
/// (which count from 0) and of judging.
inline constexpr std::int64_t kProbeNumber = 0xF0000000;

/// The random sequence of image `id` for question `question` of the evaluator.
inline RandomSequence probe_sequence(std::uint64_t seed, std::uint32_t id, std::uint32_t question) {
  return RandomSequence({seed, Purpose::attack_step, id, 0, static_cast<std::uint32_t>(kProbeNumber) + question});
}

}  // namespace pavise::evaluate
