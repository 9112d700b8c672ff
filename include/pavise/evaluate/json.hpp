// SPDX-License-Identifier: MIT
// An evaluation as JSON; report/evaluation_record.hpp reads it. Heavy (nlohmann-json): not in the umbrella.
#pragma once

#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "pavise/evaluate/report.hpp"

namespace pavise::evaluate {

inline nlohmann::json to_json(const Interval& i) { return {{"low", i.low}, {"high", i.high}}; }

/// A report under the names of its fields, and kind "evaluation". `matrix` has a string for each attack with a
/// character
/// for each image: '.' not tried, 'o' stood, 'x' broken. Pixels are left out. A number that is not finite is null.
inline nlohmann::json to_json(const Report& r) {
  using Json = nlohmann::json;
  Json out = {{"kind", "evaluation"},
              {"model", r.model},
              {"suite", r.suite},
              {"threat",
               {{"norm", attack::norm_name(r.threat.norm)},
                {"epsilon", r.threat.epsilon},
                {"low", r.threat.low},
                {"high", r.threat.high}}},
              {"seed", r.seed},
              {"confidence", r.confidence},
              {"draws", r.draws},
              {"judging_draws", r.judging_draws},
              {"total", r.total},
              {"clean_correct", r.clean_correct},
              {"robust_correct", r.robust_correct},
              {"clean_interval", to_json(r.clean_interval)},
              {"robust_interval", to_json(r.robust_interval)},
              {"verdict", name_of(r.verdict)},
              {"reason", r.reason},
              {"notes", r.notes},
              {"forward_passes", r.forward_passes},
              {"backward_passes", r.backward_passes},
              {"seconds", r.seconds}};
  for (const char* list : {"attacks", "matrix", "images", "checks", "signs", "curve"}) {
    out[list] = Json::array();
  }
  for (std::size_t a = 0; a < r.attacks.size(); ++a) {
    const AttackRow& row = r.attacks[a];
    out["attacks"].push_back({{"name", row.name},
                              {"settings", row.settings},
                              {"access", attack::access_name(row.access)},
                              {"tried", row.tried},
                              {"broken", row.broken},
                              {"first", row.first},
                              {"standing", row.standing},
                              {"interval", to_json(row.interval)},
                              {"forward", row.forward},
                              {"backward", row.backward},
                              {"seconds", row.seconds}});
    std::string outcomes;
    for (std::size_t i = 0; i < r.images.size(); ++i) {
      outcomes += ".ox"[static_cast<std::size_t>(r.outcome(a, i))];
    }
    out["matrix"].push_back(std::move(outcomes));
  }
  for (const auto& image : r.images) {
    out["images"].push_back({{"label", image.label},
                             {"clean_prediction", image.clean_prediction},
                             {"clean_confidence", image.clean_confidence},
                             {"broken_by", image.broken_by},
                             {"prediction", image.prediction},
                             {"confidence", image.confidence},
                             {"distance", image.distance},
                             {"attempt", image.attempt},
                             {"forward", image.forward},
                             {"backward", image.backward}});
  }
  for (const auto& check : r.checks) {
    out["checks"].push_back({{"name", check.name}, {"passed", check.passed}, {"detail", check.detail}});
  }
  for (const auto& sign : r.signs) {
    out["signs"].push_back({{"name", sign.name},
                            {"value", sign.value},
                            {"interval", to_json(sign.interval)},
                            {"threshold", sign.threshold},
                            {"at_most", sign.at_most},
                            {"images", sign.images},
                            {"state", name_of(sign.state)},
                            {"sentence", sign.sentence}});
  }
  for (const auto& point : r.curve) {
    out["curve"].push_back(
        {{"epsilon", point.epsilon}, {"correct", point.correct}, {"total", point.total}, {"loss", point.loss}});
  }
  return out;
}

}  // namespace pavise::evaluate
