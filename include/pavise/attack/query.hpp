// SPDX-License-Identifier: MIT
// What an attack asks of a classifier about one group of images: logits, the value of a loss, its gradient. Every
// attack's questions go through here, so that expectation over random defences is the same for all.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <vector>

#include "pavise/attack/classifier.hpp"
#include "pavise/attack/mean_softmax.hpp"
#include "pavise/attack/rejection.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/autodiff/shape_ops.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/core/tensor.hpp"

namespace pavise::attack {

/// A loss of the logits with one value for each image, which the attack maximises (minimises, where it is targeted).
/// Labels are one for each lane of the pass.
using Loss = std::function<Var<float>(Var<float> logits, const std::int32_t* labels)>;

/// One number for each lane.
template <class T>
using PerLane = std::array<T, 16>;

/// Names the random numbers of a query: image, restart and the query's number within it, for every lane. Two queries
/// of one search never share them.
struct QueryKey {
  std::uint64_t seed = 0;
  const std::uint32_t* ids = nullptr;
  const std::uint32_t* restarts = nullptr;
  const std::int64_t* numbers = nullptr;  ///< null: `number` for all
  std::int64_t number = 0;
};

/// What came back. Of a classifier that is asked for several draws: the mean of the losses (Mean::softmax: the loss of
/// the logits that follow), the logarithm of the mean softmax as logits, and the class with most votes (the lowest of
/// equals) as prediction. Of a classifier with a rejection output that is asked with labels: logits and prediction in
/// which a refused image counts as right (credit_rejection).
struct Answer {
  explicit Answer(int width = kernels::kLanes)
      : loss(room(width)), prediction(room(width)), finite(room(width)), rejected(room(width)) {}

  AlignedVector<float> logits;  ///< [classes][width]
  AlignedVector<float> loss;
  AlignedVector<std::int32_t> prediction;
  std::vector<std::uint8_t> finite;    ///< whether all logits are finite numbers
  std::vector<std::uint8_t> rejected;  ///< by the rejection output, or by more than half of the draws of it

 private:
  static std::size_t room(int width) { return static_cast<std::size_t>(std::max(width, kernels::kLanes)); }
};

/// What an image is called in draw `draw` of a query: (image, restart, number, draw) together.
inline std::uint32_t query_name(std::uint64_t seed, std::uint32_t image, std::uint32_t restart, std::uint32_t number,
                                std::int64_t draw) {
  return random_block(
      {.seed = seed, .purpose = Purpose::defense, .image = image, .restart = restart & 0xFFFFu, .iteration = number},
      static_cast<std::uint32_t>(draw))[0];
}

namespace detail {

/// Sets the key of draw `draw` of a query: by query_name. Where a classifier repeats its draws, all queries have the number 0.
inline void set_query_key(Tape<float>& tape, const Classifier& model, const QueryKey& key, std::int64_t draw, int lanes,
                          PerLane<std::uint32_t>& names) {
  for (int lane = 0; lane < lanes; ++lane) {
    const auto l = static_cast<std::size_t>(lane);
    const auto number = static_cast<std::uint32_t>(model.repeats_draws()    ? 0
                                                   : key.numbers != nullptr ? key.numbers[lane]
                                                                            : key.number);
    names[l] = query_name(key.seed, key.ids != nullptr ? key.ids[lane] : static_cast<std::uint32_t>(lane),
                          key.restarts != nullptr ? key.restarts[lane] : 0, number, draw);
  }
  tape.set_key({.seed = key.seed, .iteration = static_cast<std::uint32_t>(draw), .images = names.data()});
}

/// The logits behind a classifier's outputs, as `credit_rejection` makes them where there are labels; notes the lanes
/// that are refused. NaN is refused.
inline Var<float> read_rejection(const Classifier& model, Var<float> outputs, int lanes, const std::int32_t* labels,
                                 bool targeted, std::int64_t draw, PerLane<std::int64_t>& refusals, Answer& answer) {
  if (!model.declaration().rejection_output) {
    return outputs;
  }
  const float* excess = outputs.data() + model.classes() * lanes;
  for (int lane = 0; lane < lanes; ++lane) {
    const auto l = static_cast<std::size_t>(lane);
    refusals[l] = (draw == 0 ? 0 : refusals[l]) + (excess[lane] <= 0.0f ? 0 : 1);
    answer.rejected[l] = 2 * refusals[l] > model.draws() ? 1 : 0;
  }
  return labels != nullptr ? credit_rejection(outputs, labels, targeted) : slice(outputs, 0, 0, model.classes());
}

inline void read_answer(Var<float> logits, int lanes, std::int64_t draw, std::int64_t draws, Answer& answer,
                        AlignedVector<float>& probability, std::vector<std::int32_t>& votes) {
  const std::int64_t classes = logits.size();
  const auto count = static_cast<std::size_t>(classes * lanes);
  const float* z = logits.data();
  if (draws == 1) {
    answer.logits.assign(z, z + count);
    argmax(logits, answer.prediction.data());
  } else {
    if (draw == 0) {
      probability.assign(count, 0.0f);
      votes.assign(count, 0);
      answer.logits.assign(count, 0.0f);
    }
    PerLane<std::int32_t> prediction{};
    argmax(logits, prediction.data());
    for (int lane = 0; lane < lanes; ++lane) {
      ++votes[static_cast<std::size_t>(prediction[static_cast<std::size_t>(lane)] * lanes + lane)];
      double largest = -std::numeric_limits<double>::infinity();
      for (std::int64_t k = 0; k < classes; ++k) {
        largest = std::max<double>(largest, z[k * lanes + lane]);
      }
      double sum = 0.0;
      for (std::int64_t k = 0; k < classes; ++k) {
        sum += std::exp(z[k * lanes + lane] - largest);
      }
      for (std::int64_t k = 0; k < classes; ++k) {
        probability[static_cast<std::size_t>(k * lanes + lane)] +=
            static_cast<float>(std::exp(z[k * lanes + lane] - largest) / sum);
      }
    }
    if (draw + 1 == draws) {
      for (std::size_t i = 0; i < count; ++i) {
        answer.logits[i] = std::log(std::max(probability[i] / static_cast<float>(draws), 1e-30f));
      }
      for (int lane = 0; lane < lanes; ++lane) {
        std::int64_t best = 0;
        for (std::int64_t k = 1; k < classes; ++k) {
          if (votes[static_cast<std::size_t>(k * lanes + lane)] >
              votes[static_cast<std::size_t>(best * lanes + lane)]) {
            best = k;
          }
        }
        answer.prediction[static_cast<std::size_t>(lane)] = static_cast<std::int32_t>(best);
      }
    }
  }
  for (int lane = 0; lane < lanes; ++lane) {
    bool finite = true;
    for (std::int64_t k = 0; k < classes; ++k) {
      finite = finite && std::isfinite(z[k * lanes + lane]);
    }
    auto& all = answer.finite[static_cast<std::size_t>(lane)];
    all = finite && (draw == 0 || all != 0) ? 1 : 0;
  }
}

/// `query` of a classifier whose loss is that of the mean softmax. The draws go through once for the mean and, where
/// the gradient is asked for, once more, each with the derivative by its own logits: memory for one draw is enough.
inline const float* query_mean_softmax(const Classifier& model, float* x, std::int64_t images, int width,
                                       const std::int32_t* labels, const Loss& loss, bool gradient, const QueryKey& key,
                                       Answer& answer) {
  auto& tape = thread_tape<float>();
  thread_local AlignedVector<float> probability, sum, outer, inner;
  thread_local std::vector<std::int32_t> votes;
  PerLane<std::uint32_t> names{};
  Var<float> input;
  const auto pass = [&](std::int64_t draw, bool watch) {
    tape.begin(images, width);
    set_query_key(tape, model, key, draw, width, names);
    input = tape.view(model.input_shape(), x, watch);
    return model(input);
  };
  MeanSoftmax mean(model.classes(), width);
  for (std::int64_t draw = 0; draw < model.draws(); ++draw) {
    const Var<float> logits = pass(draw, false);
    mean.add(logits.data());
    read_answer(logits, width, draw, model.draws(), answer, probability, votes);
  }
  mean.log_mean(answer.logits.data());
  if (!loss) {
    return nullptr;
  }
  outer = answer.logits;
  outer.resize(outer.size() + 16);  // the room that a pass with one lane needs
  tape.begin(images, width);
  const Var<float> logits = tape.view(Shape{model.classes()}, outer.data(), gradient);
  const Var<float> value = loss(logits, labels);
  std::copy_n(value.data(), width, answer.loss.begin());
  if (!gradient) {
    return nullptr;
  }
  sum.assign(static_cast<std::size_t>(model.input_shape().numel() * width), 0.0f);
  if (!tape.needs_gradient(value)) {
    return sum.data();
  }
  tape.backward(value);
  if (const float* g = tape.input_gradient(logits)) {
    outer.assign(g, g + answer.logits.size());
    inner.resize(outer.size());
    for (std::int64_t draw = 0; draw < model.draws(); ++draw) {
      const Var<float> z = pass(draw, true);
      if (!tape.needs_gradient(z)) {
        continue;
      }
      mean.derivative(z.data(), outer.data(), inner.data());
      tape.backward(z, inner.data());
      const float* dx = tape.input_gradient(input);
      for (std::size_t i = 0; dx != nullptr && i < sum.size(); ++i) {
        sum[i] += dx[i];
      }
    }
  }
  return sum.data();
}

}  // namespace detail

/// Forward passes that a query of one image takes.
inline std::int64_t forward_passes(const Classifier& model, bool gradient) {
  return model.draws() * (gradient && model.mean() == Mean::softmax && model.draws() > 1 ? 2 : 1);
}

/// Puts `images` images in `width` lanes (16, or 1), x [size][width] with room for fifteen elements behind a single one,
/// to the classifier. `loss` (may be empty) is evaluated for `labels`, which are classes to reach where `targeted`.
/// Returns the derivative of the loss, [size][width], where `gradient` is asked for; it stays valid until the thread's
/// tape is used again. Works on the thread's tape.
inline const float* query(const Classifier& model, float* x, std::int64_t images, int width, const std::int32_t* labels,
                          const Loss& loss, bool gradient, const QueryKey& key, Answer& answer, bool targeted = false) {
  auto& tape = thread_tape<float>();
  const std::int64_t size = model.input_shape().numel();
  const std::int64_t draws = model.draws();
  if (draws > 1 && model.mean() == Mean::softmax) {
    return detail::query_mean_softmax(model, x, images, width, labels, loss, gradient, key, answer);
  }
  thread_local AlignedVector<float> probability;
  thread_local std::vector<std::int32_t> votes;
  thread_local AlignedVector<float> sum;
  PerLane<std::uint32_t> names{};
  PerLane<std::int64_t> refusals{};
  const float share = 1.0f / static_cast<float>(draws);
  const float* g = nullptr;
  for (std::int64_t draw = 0; draw < draws; ++draw) {
    tape.begin(images, width);
    if (model.declaration().random) {
      detail::set_query_key(tape, model, key, draw, width, names);
    }
    const Var<float> input = tape.view(model.input_shape(), x, gradient);
    const Var<float> logits =
        detail::read_rejection(model, model(input), width, labels, targeted, draw, refusals, answer);
    const Var<float> value = loss ? loss(logits, labels) : Var<float>();
    detail::read_answer(logits, width, draw, draws, answer, probability, votes);
    for (int lane = 0; loss && lane < width; ++lane) {
      auto& mean = answer.loss[static_cast<std::size_t>(lane)];
      mean = (draw == 0 ? 0.0f : mean) + value.data()[lane] * share;
    }
    if (!gradient) {
      continue;
    }
    g = nullptr;
    if (tape.needs_gradient(value)) {
      tape.backward(value);
      g = tape.input_gradient(input);
    }
    if (draws > 1 || g == nullptr) {
      if (draw == 0) {
        sum.assign(static_cast<std::size_t>(size * width), 0.0f);
      }
      for (std::int64_t i = 0; g != nullptr && i < size * width; ++i) {
        sum[static_cast<std::size_t>(i)] += g[i] * share;
      }
      g = sum.data();
    }
  }
  return g;
}

/// One query whose gradient of each logit comes back: rows[k], [size][width], gets the derivative of logit k. Of several
/// draws it is that of their mean, one query for each class: of the logits, or of what Mean::softmax makes of them.
/// `labels`, and whether they are `targeted`: to whom a refusal counts as right, of a classifier with a rejection output.
inline void query_jacobian(const Classifier& model, float* x, int width, const std::int32_t* labels,
                           std::span<float* const> rows, const QueryKey& key, Answer& answer, bool targeted = false) {
  auto& tape = thread_tape<float>();
  const std::int64_t size = model.input_shape().numel();
  if (model.draws() > 1) {
    PerLane<std::int32_t> own{};
    const Loss own_logit = [&own](Var<float> z, const std::int32_t*) { return pick(z, own.data()); };
    for (std::int32_t k = 0; k < model.classes(); ++k) {
      own.fill(k);
      const float* g = query(model, x, width, width, labels, own_logit, true, key, answer, targeted);
      std::copy(g, g + size * width, rows[static_cast<std::size_t>(k)]);
    }
    return;
  }
  thread_local AlignedVector<float> probability;
  thread_local std::vector<std::int32_t> votes;
  PerLane<std::uint32_t> names{};
  PerLane<std::int64_t> refusals{};
  tape.begin(width, width);
  if (model.declaration().random) {
    detail::set_query_key(tape, model, key, 0, width, names);
  }
  const Var<float> input = tape.view(model.input_shape(), x, true);
  const Var<float> logits = detail::read_rejection(model, model(input), width, labels, targeted, 0, refusals, answer);
  detail::read_answer(logits, width, 0, 1, answer, probability, votes);
  const std::int64_t classes = logits.size();
  for (float* row : rows) {
    std::fill_n(row, size * width, 0.0f);
  }
  if (!tape.needs_gradient(logits)) {
    return;
  }
  thread_local AlignedVector<float> seed;
  for (std::int64_t k = 0; k < classes; ++k) {
    seed.assign(static_cast<std::size_t>(classes * width), 0.0f);
    std::fill_n(seed.begin() + k * width, width, 1.0f);
    tape.backward(logits, seed.data());
    if (const float* g = tape.input_gradient(input)) {
      std::copy(g, g + size * width, rows[static_cast<std::size_t>(k)]);
    }
  }
}

}  // namespace pavise::attack
