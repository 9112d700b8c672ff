// SPDX-License-Identifier: MIT
// What a detector of adversarial images is worth: against attacks that do not know of it, and against those that do (He
// et al. 2017, "Adversarial example defenses: ensembles of weak defenses are not strong").
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/attack/run.hpp"
#include "pavise/attack/suite.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/defend/detector.hpp"
#include "pavise/evaluate/roc.hpp"

namespace pavise::evaluate {

/// An attack on a model behind a detector: one that knows of the model alone, or of both.
struct DetectionAttack {
  attack::SuiteEntry entry;
  bool adaptive = false;
};

struct DetectionOptions {
  std::vector<double> rates = {0.01, 0.05, 0.10};  ///< false-positive rates at which detection is reported
  std::uint64_t seed = 0;
  double confidence = 0.95;  ///< of all intervals
  /// Called with an attack's name and how many of its attempts are newly done, of how many, by any thread.
  std::function<void(std::string_view attack, std::int64_t more, std::int64_t total)> progress = {};
};

/// One attack against model and detector.
struct DetectionRow {
  std::string name;
  std::string settings;
  bool adaptive = false;
  attack::Threat threat;
  bool within_threat =
      true;                ///< whether it counts for the robust accuracy: it has the evaluation's own norm and epsilon
  std::int64_t tried = 0;  ///< images that the model classified correctly, flagged or not
  /// Of these, the images that were made to fool the model: within epsilon, of an attack for the minimum norm at any
  /// distance. Whether they are flagged is another matter.
  std::int64_t fooled = 0;
  std::int64_t evaded = 0;             ///< of `fooled`, not flagged at the detector's own threshold
  double distance = 0;                 ///< mean of those that evaded, in the attack's norm
  std::vector<float> scores;           ///< of those that fooled the model
  std::vector<FlaggedShare> detected;  ///< of `scores`, at each rate
  std::vector<RocPoint> roc;           ///< of `scores` against the clean images; empty where nothing was fooled
  double area = 0;                     ///< under it
};

/// A model and a detector under attack.
///
/// Flagged clean images are counted in two ways. `clean_served` and `robust_served`: an image counts if it is classified
/// correctly and not flagged, a flagged one is a loss; this is what a user of the system gets. `robust` alone: an image
/// counts unless it is misclassified and not flagged, with or without an attack; a flagged one does no harm. The
/// accuracy of the first kind is what the evaluator (`robustness`) reports.
struct DetectionReport {
  std::int64_t total = 0;
  std::int64_t clean_correct = 0;          ///< classified correctly, flagged or not
  std::int64_t clean_served = 0;           ///< classified correctly and not flagged
  std::int64_t robust = 0;                 ///< no attack within the threat made them misclassified and not flagged
  std::int64_t robust_served = 0;          ///< of these, the ones that were correct and not flagged to begin with
  std::int64_t undetected_robust = 0;      ///< without the detector: correct, and fooled by no attack within the threat
  std::vector<float> clean_scores;         ///< of all images
  std::vector<FlaggedShare> false_alarms;  ///< of the clean images, at each rate
  std::vector<DetectionRow> rows;
};

/// Evaluates `detector` (with a threshold) in front of `model` on test images under attacks. `fit_scores`: those of the
/// clean images that its threshold was fitted on, for the thresholds at the other rates; not those of test images.
/// Attacks that are not adaptive are run on the model alone, adaptive ones on both together (FeatureSqueezing::guard).
/// An image is robust if no attack with the norm and epsilon of `threat` makes it misclassified and not flagged, whether
/// it knew of the detector or not. Throws ValueError where an attack is null, targeted, or cannot be run.
inline DetectionReport evaluate_detection(const attack::Classifier& model, const defend::FeatureSqueezing& detector,
                                          std::span<const float> fit_scores, const data::Dataset& test,
                                          const attack::Threat& threat, const std::vector<DetectionAttack>& attacks,
                                          const DetectionOptions& options = {}) {
  require(test.size() >= 1, "detection: no test images, expected one or more");
  require(!attacks.empty(), "detection: no attacks, expected one or more");
  const attack::Classifier guarded = detector.guard(model);
  std::vector<float> thresholds;
  for (const double rate : options.rates) {
    thresholds.push_back(defend::fit_threshold({fit_scores.begin(), fit_scores.end()}, rate));
  }
  const auto at_rates = [&](std::span<const float> scores) {
    std::vector<FlaggedShare> out;
    for (std::size_t i = 0; i < thresholds.size(); ++i) {
      out.push_back(flagged_share(scores, thresholds[i], options.rates[i], options.confidence));
    }
    return out;
  };
  const auto images = attack::to_tensor(test);
  const auto ids = attack::source_ids(test);
  DetectionReport out;
  out.total = test.size();
  out.clean_scores = detector.scores(model, images, ids.data(), options.seed);
  out.false_alarms = at_rates(out.clean_scores);
  std::vector<std::uint8_t> broken;    // misclassified and not flagged, with or without an attack
  std::vector<std::uint8_t> served;    // correct and not flagged without
  std::vector<std::uint8_t> mistaken;  // misclassified, flagged or not
  const auto look_at_clean = [&](const attack::Result& r) {
    for (std::size_t i = 0; i < r.clean_prediction.size(); ++i) {
      const bool right = r.clean_prediction[i] == test.label(static_cast<std::int64_t>(i));
      const bool flagged = detector.flags(out.clean_scores[i]);
      broken.push_back(!right && !flagged ? 1 : 0);
      served.push_back(right && !flagged ? 1 : 0);
      mistaken.push_back(right ? 0 : 1);
      out.clean_correct += right ? 1 : 0;
      out.clean_served += right && !flagged ? 1 : 0;
    }
  };
  for (const auto& [entry, adaptive] : attacks) {
    require(entry.attack != nullptr, "detection: attack ", entry.name, " is null");
    require(!entry.attack->targeted(), "detection: attack ", entry.name,
            " takes labels as targets, expected one that leaves the label");
    const std::int64_t tries = (entry.attack->random() ? entry.restarts : 1) * entry.attack->attempts();
    const auto progress = [&, name = entry.name](std::int64_t more) {
      if (options.progress) {
        options.progress(name, more, tries * test.size());
      }
    };
    const auto result =
        attack::run(*entry.attack, adaptive ? guarded : model, images, test.labels(),
                    {.restarts = entry.restarts, .seed = options.seed, .progress = progress}, ids.data());
    if (broken.empty()) {
      look_at_clean(result);
    }
    const auto scores = detector.scores(model, result.adversarial, ids.data(), options.seed);
    const attack::Threat& own = entry.attack->threat();
    DetectionRow row;
    row.name = entry.name;
    row.settings = entry.settings;
    row.adaptive = adaptive;
    row.threat = own;
    row.within_threat = own.norm == threat.norm && own.epsilon == threat.epsilon;
    row.tried = out.clean_correct;
    for (std::size_t i = 0; i < scores.size(); ++i) {
      const bool within = attack::within(own, result.distance[i]);
      if (result.attempt[i] < 0 || result.prediction[i] == test.label(static_cast<std::int64_t>(i)) ||
          !(within || entry.attack->minimum_norm())) {
        continue;
      }
      const bool evades = !detector.flags(scores[i]);
      if (within && row.within_threat) {
        broken[i] = broken[i] != 0 || evades ? 1 : 0;
      }
      if (result.clean_prediction[i] != test.label(static_cast<std::int64_t>(i))) {
        continue;  // a mistake that was flagged, and has been made to pass
      }
      if (within && row.within_threat) {
        mistaken[i] = 1;
      }
      ++row.fooled;
      row.scores.push_back(scores[i]);
      if (evades) {
        ++row.evaded;
        row.distance += static_cast<double>(result.distance[i]);
      }
    }
    row.distance = row.evaded > 0 ? row.distance / static_cast<double>(row.evaded) : 0.0;
    row.detected = at_rates(row.scores);
    if (!row.scores.empty()) {
      row.roc = roc(out.clean_scores, row.scores);
      row.area = area_under_roc(out.clean_scores, row.scores);
    }
    out.rows.push_back(std::move(row));
  }
  for (std::size_t i = 0; i < broken.size(); ++i) {
    out.robust += broken[i] == 0 ? 1 : 0;
    out.robust_served += broken[i] == 0 && served[i] != 0 ? 1 : 0;
    out.undetected_robust += mistaken[i] == 0 ? 1 : 0;
  }
  return out;
}

}  // namespace pavise::evaluate
