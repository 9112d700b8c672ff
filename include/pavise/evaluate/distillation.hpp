// SPDX-License-Identifier: MIT
// What defensive distillation does: gradients vanish, and attacks that need none of them by way of the softmax succeed as
// before (Carlini and Wagner 2017, section VIII).
#pragma once

#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/attack/apgd.hpp"
#include "pavise/attack/carlini_wagner.hpp"
#include "pavise/attack/jsma.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/evaluate/probe.hpp"

namespace pavise::evaluate {

struct DistillationOptions {
  std::int64_t jsma_images = 200;  ///< of the test images, for the attacks that take longest
  std::int64_t cw_images = 100;
  std::int64_t cw_steps = 200;
  std::uint64_t seed = 0;
  std::function<void(std::string_view attack)> progress = {};  ///< before each attack
};

/// What an attack did to the images that were classified correctly.
struct AttackedShare {
  std::int64_t fooled = 0;
  std::int64_t total = 0;
  double success() const { return total == 0 ? 0.0 : static_cast<double>(fooled) / static_cast<double>(total); }
};

/// One network under attacks by way of its softmax, and past it.
struct DistillationResult {
  std::int64_t correct = 0;  ///< of `total`, without an attack
  std::int64_t total = 0;
  double mean_logit = 0;               ///< mean of |z| over images and classes
  double zero_gradients = 0;           ///< share of the images at which all derivatives of cross-entropy are exactly 0
  double zero_derivatives = 0;         ///< share of all derivatives that are
  AttackedShare fgsm;                  ///< within the threat, on cross-entropy
  AttackedShare jsma;                  ///< on the probabilities, at most 14.5 % of the pixels
  AttackedShare apgd_dlr;              ///< within the threat, on the ratio of logits
  AttackedShare carlini_wagner;        ///< at any L2 distance, on the logits
  double carlini_wagner_distance = 0;  ///< its mean, of the images fooled
};

/// Attacks `model` on `test` four ways; `threat` is that of FGSM and APGD.
inline DistillationResult show_distillation(const attack::Classifier& model, const data::Dataset& test,
                                            const attack::Threat& threat, const DistillationOptions& options = {}) {
  DistillationResult out;
  out.total = test.size();
  const auto images = attack::to_tensor(test);
  std::vector<std::int64_t> index(static_cast<std::size_t>(test.size()));
  std::iota(index.begin(), index.end(), std::int64_t{0});
  const Probe probe = make_probe(images, test.labels(), attack::source_ids(test), std::move(index));
  const attack::Loss loss = [](Var<float> z, const std::int32_t* labels) { return cross_entropy(z, labels); };
  const auto answers = ask(model, probe, probe.images, loss, true, options.seed, kProbeNumber);
  for (const float z : answers.logits) {
    out.mean_logit += std::fabs(static_cast<double>(z)) / static_cast<double>(answers.logits.size());
  }
  std::int64_t zero_images = 0;
  std::int64_t zeros = 0;
  for (std::int64_t i = 0; i < probe.size(); ++i) {
    const auto row = answers.gradient.row(i);
    std::int64_t here = 0;
    for (const float d : row) {
      here += d == 0.0f ? 1 : 0;
    }
    zeros += here;
    zero_images += here == static_cast<std::int64_t>(row.size()) ? 1 : 0;
    out.correct += answers.prediction[static_cast<std::size_t>(i)] == test.label(i) ? 1 : 0;
  }
  out.zero_gradients = static_cast<double>(zero_images) / static_cast<double>(probe.size());
  out.zero_derivatives = static_cast<double>(zeros) / static_cast<double>(answers.gradient.size());

  const auto attacked = [&](const attack::Attack& attack, const data::Dataset& set, double* distance = nullptr) {
    if (options.progress) {
      options.progress(attack.name());
    }
    const auto result = attack::run(attack, model, set, {.seed = options.seed});
    AttackedShare share{.fooled = 0, .total = result.clean_correct};
    double sum = 0;
    for (std::size_t i = 0; i < result.fooled.size(); ++i) {
      if (result.attempt[i] >= 0 && result.fooled[i] != 0 && (distance != nullptr || result.success[i] != 0)) {
        ++share.fooled;
        sum += static_cast<double>(result.distance[i]);
      }
    }
    if (distance != nullptr && share.fooled > 0) {
      *distance = sum / static_cast<double>(share.fooled);
    }
    return share;
  };
  out.fgsm = attacked(attack::fgsm(threat), test);
  const attack::Threat box(attack::Norm::linf, threat.high - threat.low, threat.low, threat.high);
  double unused = 0;
  out.jsma = attacked(attack::Jsma(box, {.probabilities = true}), test.first(options.jsma_images), &unused);
  if (model.classes() >= 3) {
    out.apgd_dlr = attacked(attack::apgd_dlr(threat, {}), test);
  }
  const attack::Threat ball(attack::Norm::l2, 1.0, threat.low, threat.high);
  out.carlini_wagner = attacked(
      attack::CarliniWagner(ball, {.iterations = options.cw_steps,
                                   .learning_rate = 0.1,  // pixels begin at the walls, where tanh space is flat
                                   .search_steps = 5,
                                   .initial_constant = 0.1}),
      test.first(options.cw_images), &out.carlini_wagner_distance);
  return out;
}

}  // namespace pavise::evaluate
