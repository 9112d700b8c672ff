// SPDX-License-Identifier: MIT
// Results as the program writes them (one JSON object a file), read with every field checked: a message names the file
// and the field. Unknown fields are let pass, so that newer records read. Heavy (nlohmann-json): not in the umbrella.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/io/file.hpp"
#include "pavise/io/json.hpp"
#include "pavise/report/bounds_record.hpp"
#include "pavise/report/certification_record.hpp"
#include "pavise/report/detection_record.hpp"
#include "pavise/report/distillation_record.hpp"
#include "pavise/report/evaluation_record.hpp"
#include "pavise/report/field.hpp"
#include "pavise/report/filter_record.hpp"
#include "pavise/report/origin.hpp"
#include "pavise/report/sweep_record.hpp"

namespace pavise::report {

struct Epoch {
  std::int64_t epoch = 0;
  std::optional<double> loss;  ///< absent where training diverged: JSON has no NaN
  std::optional<Count> accuracy;
  std::optional<Count> adversarial_accuracy;
  std::vector<std::string> events;
};

struct TrainingRecord : Origin {
  std::optional<std::int64_t> parameters;
  std::vector<Epoch> history;
};

struct CurvePoint {
  double epsilon = 0;
  Count count;
};

struct GalleryItem {
  std::int64_t index = 0;
  std::int64_t label = 0;
  std::int64_t clean_prediction = 0;
  std::int64_t adversarial_prediction = 0;
  std::optional<double> clean_confidence;
  std::optional<double> adversarial_confidence;
  std::vector<double> clean;  ///< (C,H,W), 0 to 255
  std::vector<double> adversarial;
};

struct AttackRecord : Origin {
  std::string attack;
  std::string norm;
  double epsilon = 0;
  Count clean;
  Count robust;
  std::vector<CurvePoint> curve;
  std::optional<std::int64_t> forward_passes;
  std::optional<std::int64_t> backward_passes;
  std::optional<std::int64_t> passes_at_epsilon;  ///< of both kinds, without those of the curve's other radii
  std::int64_t channels = 0;                      ///< of the gallery's images; 0 where there is none
  std::int64_t height = 0;
  std::int64_t width = 0;
  std::vector<GalleryItem> gallery;
  std::optional<SweepRecord> sweep;
  std::vector<std::string> class_names;
  std::optional<EvaluationRecord> evaluation;  ///< where it is a whole suite of attacks with a verdict
  std::string filters;                         ///< in front of the model, as text
  std::string detector;                        ///< its file; empty: nothing is refused
  std::optional<double> smooth;                ///< sigma of the noise whose majority vote was attacked

  /// The setting `key` of the recipe as text; empty where there is none.
  std::string setting(std::string_view key) const {
    const auto at = std::find_if(recipe.begin(), recipe.end(), [&](const auto& s) { return s.first == key; });
    return at == recipe.end() ? std::string() : at->second;
  }
};

namespace detail {

inline TrainingRecord read_training(const Field& record) {
  TrainingRecord out;
  read_origin(record, out);
  out.parameters = integer_or_none(record, "parameters", 0);
  for (const auto& field : record.at("history").array()) {
    Epoch epoch;
    epoch.epoch = field.at("epoch").integer(0);
    epoch.loss = number_or_none(field, "loss", -1e300);
    epoch.accuracy = count_or_none(field, "accuracy");
    epoch.adversarial_accuracy = count_or_none(field, "adversarial_accuracy");
    if (const Field events = field.find("events")) {
      for (const auto& event : events.array()) {
        epoch.events.push_back(event.text());
      }
    }
    out.history.push_back(std::move(epoch));
  }
  return out;
}

inline void read_gallery(const Field& gallery, AttackRecord& out) {
  const auto size = read_image_shape(gallery.at("shape"), out.channels, out.height, out.width);
  for (const auto& field : gallery.at("items").array()) {
    GalleryItem item;
    item.index = field.at("index").integer(0);
    item.label = field.at("label").integer(0);
    item.clean_prediction = field.at("clean_prediction").integer(0);
    item.adversarial_prediction = field.at("adversarial_prediction").integer(0);
    item.clean_confidence = number_or_none(field, "clean_confidence", 0, 1.0001);
    item.adversarial_confidence = number_or_none(field, "adversarial_confidence", 0, 1.0001);
    item.clean = read_pixels(field.at("clean"), size);
    item.adversarial = read_pixels(field.at("adversarial"), size);
    out.gallery.push_back(std::move(item));
  }
}

inline AttackRecord read_attack(const Field& record) {
  AttackRecord out;
  read_origin(record, out);
  out.attack = record.at("attack").text();
  out.norm = record.at("norm").text();
  out.epsilon = record.at("epsilon").number(0);
  out.clean = record.at("clean").count();
  out.robust = record.at("robust").count();
  if (const Field curve = record.find("curve")) {
    for (const auto& field : curve.array()) {
      out.curve.push_back({field.at("epsilon").number(0), field.count()});
    }
    std::stable_sort(out.curve.begin(), out.curve.end(),
                     [](const auto& a, const auto& b) { return a.epsilon < b.epsilon; });
  }
  if (const Field passes = record.find("passes")) {
    out.forward_passes = integer_or_none(passes, "forward", 0);
    out.backward_passes = integer_or_none(passes, "backward", 0);
  }
  if (const Field passes = record.find("passes_at_epsilon")) {
    out.passes_at_epsilon = passes.at("forward").integer(0) + passes.at("backward").integer(0);
  } else if (out.curve.empty() && out.forward_passes && out.backward_passes) {
    out.passes_at_epsilon = *out.forward_passes + *out.backward_passes;
  }
  if (const Field gallery = record.find("gallery")) {
    read_gallery(gallery, out);
  }
  if (const Field sweep = record.find("sweep")) {
    out.sweep = read_sweep(sweep);
  }
  out.filters = text_or_empty(record, "filters");
  out.detector = text_or_empty(record, "detector");
  out.smooth = number_or_none(record, "smooth", 0);
  if (const Field names = record.find("class_names")) {
    for (const auto& name : names.array()) {
      out.class_names.push_back(name.text());
    }
  }
  return out;
}

}  // namespace detail

/// All records of a report, read and checked.
struct Results {
  std::vector<TrainingRecord> training;
  std::vector<AttackRecord> attacks;
  std::vector<DistillationRecord> distillation;
  std::vector<FilterRecord> filters;
  std::vector<CertificationRecord> certification;
  std::vector<BoundsRecord> bounds;
  std::vector<DetectionRecord> detection;
};

/// Reads `records`, each an object of kind "training", "attack", "evaluation", "distillation", "filters", "detection",
/// "certification" or "bounds"; one of kind "detector" is no result and passed over. A record's "file", where it has one, names it
/// in messages. Throws ValueError that names the file and the field where one is missing or not what it should be.
inline Results read_records(const std::vector<nlohmann::json>& records) {
  Results out;
  for (std::size_t i = 0; i < records.size(); ++i) {
    std::string source = concat("record ", i);
    if (records[i].is_object() && records[i].contains("file") && records[i]["file"].is_string()) {
      source = records[i]["file"].get<std::string>();
    }
    const detail::Field record(&records[i], source, "");
    const auto kind = record.at("kind").text();
    if (kind == "training") {
      out.training.push_back(detail::read_training(record));
    } else if (kind == "attack") {
      out.attacks.push_back(detail::read_attack(record));
    } else if (kind == "evaluation") {
      out.attacks.push_back(detail::read_attack(record));
      out.attacks.back().evaluation = detail::read_evaluation(record.at("evaluation"));
    } else if (kind == "distillation") {
      out.distillation.push_back(detail::read_distillation(record));
    } else if (kind == "filters") {
      out.filters.push_back(detail::read_filters(record));
    } else if (kind == "detection") {
      out.detection.push_back(detail::read_detection(record));
    } else if (kind == "certification") {
      out.certification.push_back(detail::read_certification(record));
    } else if (kind == "bounds") {
      out.bounds.push_back(detail::read_bounds(record));
    } else if (kind != "detector") {  // which is no result
      record.at("kind").fail("got \"", kind,
                             "\", expected \"training\", \"attack\", \"evaluation\", \"distillation\", \"filters\", "
                             "\"detection\", \"certification\" or \"bounds\"");
    }
  }
  return out;
}

/// The records in the files *.json of `directory` and the directories in it, in the order of their paths; each gets its
/// path, relative to `directory`, as its field "file". Throws IoError where there is none, or a file cannot be read or
/// is not JSON (naming the byte), and ValueError, naming file and field, for what `read_records` refuses.
inline std::vector<nlohmann::json> collect_records(const std::string& directory) {
  namespace fs = std::filesystem;
  constexpr std::uint64_t kLargestRecord = std::uint64_t{1} << 28;
  require<IoError>(io::is_directory(directory), "report: ", directory, " is not a directory");
  std::vector<fs::path> paths;
  std::error_code error;
  for (fs::recursive_directory_iterator at(directory, error), end; !error && at != end; at.increment(error)) {
    if (at->path().extension() == ".json" && at->is_regular_file(error)) {
      paths.push_back(at->path());
    }
  }
  require<IoError>(!error, "report: ", directory, " cannot be read: ", error.message());
  require<IoError>(!paths.empty(), "report: no *.json in ", directory,
                   ", expected the records of at least one training or attack");
  std::sort(paths.begin(), paths.end());
  std::vector<nlohmann::json> out;
  for (const auto& path : paths) {
    const auto bytes = io::read_file(path.string(), kLargestRecord);
    out.push_back(io::parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path.string()));
    require(out.back().is_object(), path.string(), ": the record: expected an object, got a value of type ",
            out.back().type_name());
    out.back()["file"] = path.string();
    read_records({out.back()});  // a bad field is told here, by its path
    out.back()["file"] = path.lexically_relative(directory).generic_string();
  }
  return out;
}

}  // namespace pavise::report
