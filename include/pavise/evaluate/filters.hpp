// SPDX-License-Identifier: MIT
// What a filter of the input is worth: against an attack that does not know it, and against one that does (Athalye,
// Carlini and Wagner 2018; Tramer et al. 2020).
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/attack/auto.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/attack/transfer.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/defend/filter/pipeline.hpp"
#include "pavise/evaluate/robustness.hpp"

namespace pavise::evaluate {

struct FilterOptions {
  attack::AutoOptions settings = {.queries = 1000};  ///< steps of APGD, queries of Square, draws of a random filter
  std::int64_t judging_draws = 100;
  std::uint64_t seed = 0;
  /// Called before each attack, with what it is.
  std::function<void(std::string_view stage)> progress = {};
};

/// Images that are classified correctly, of `total`.
struct FilterResult {
  std::string filters;  ///< "jpeg:75"
  nn::Declaration declaration;
  std::int64_t total = 0;
  std::int64_t clean = 0;     ///< without an attack
  std::int64_t unaware = 0;   ///< under APGD on cross-entropy and on the logits, made on the model without the filters
  std::int64_t adaptive = 0;  ///< under the same made for the filters, Square, and the unaware attacks' images
};

/// Attacks `model` behind `filters` twice: by an attack that is made on the model alone, and by the one that `adapt`
/// makes of what the filters declare: expectation over the draws of random ones, substitutes in the backward pass of
/// those that are not differentiable. The images that both break are the same ones up to the draws that judge.
/// `all`: the model behind the filters, whose text is `filters`.
inline FilterResult show_filter(const attack::Classifier& model, const attack::Classifier& all, std::string filters,
                                const data::Dataset& test, const attack::Threat& threat,
                                const FilterOptions& options = {}) {
  const attack::Classifier pipeline = all.with_draws(all.declaration().random ? options.settings.draws : 1);
  FilterResult out;
  out.filters = std::move(filters);
  out.declaration = pipeline.declaration();
  out.total = test.size();

  Options evaluation;
  evaluation.settings = options.settings;
  evaluation.seed = options.seed;
  evaluation.judging_draws = options.judging_draws;
  evaluation.signs.measure = false;
  evaluation.attacks.name = "filters";
  std::vector<std::uint8_t> broken(static_cast<std::size_t>(test.size()), 0);
  for (const auto& entry : {attack::detail::apgd_ce_entry(threat, options.settings),
                            attack::detail::apgd_logits_entry(threat, model.classes(), options.settings)}) {
    if (options.progress) {
      options.progress(entry.name + ", unaware");
    }
    auto unaware = std::make_shared<const attack::Transfer>(model, entry.attack);
    const auto result =
        attack::run(*unaware, pipeline, test, {.seed = options.seed, .judging_draws = options.judging_draws});
    for (std::size_t i = 0; i < broken.size(); ++i) {
      broken[i] = broken[i] != 0 || result.success[i] != 0 ? 1 : 0;
    }
    evaluation.attacks.entries.push_back(entry);
    evaluation.attacks.entries.push_back(
        {entry.name + ", unaware", std::move(unaware), 1, attack::Access::transfer, entry.settings});
  }
  out.unaware = std::count(broken.begin(), broken.end(), 0);
  if (options.progress) {
    evaluation.progress = [&](std::string_view stage, std::int64_t done, std::int64_t) {
      if (done == 0) {
        options.progress(stage);
      }
    };
  }
  const Report report = robustness(pipeline, test, threat, evaluation);
  out.clean = report.clean_correct;
  out.adaptive = report.robust_correct;
  return out;
}

/// The same of a pipeline of both.
inline FilterResult show_filter(const attack::Classifier& model, const defend::FilterList<float>& filters,
                                const data::Dataset& test, const attack::Threat& threat,
                                const FilterOptions& options = {}) {
  return show_filter(model, defend::Pipeline(filters, model, test.image_shape()), filters.to_string(), test, threat,
                     options);
}

}  // namespace pavise::evaluate
