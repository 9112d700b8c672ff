// SPDX-License-Identifier: MIT
// Detector files: JSON that says which squeezers and which threshold, and for which model. Opt-in: includes
// nlohmann-json.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/core/hash.hpp"
#include "pavise/core/version.hpp"
#include "pavise/defend/detector.hpp"
#include "pavise/defend/squeezers.hpp"
#include "pavise/io/file.hpp"
#include "pavise/io/json.hpp"
#include "pavise/nn/model.hpp"
#include "pavise/nn/spec.hpp"

namespace pavise::defend {

/// A detector, and what it was fitted on. A threshold fits one model: another one, even of the same architecture, has
/// other scores.
struct DetectorFile {
  FeatureSqueezing detector;
  double false_positive_rate = 0;  ///< that the threshold was fitted for
  std::int64_t images = 0;         ///< clean ones that it was fitted on
  std::string data;                ///< where they come from
  std::string model;               ///< the model's name
  std::string model_hash;          ///< `hash_model` of it
  std::string version = std::string(kVersion);
};

/// The layers and weights of a model as sixteen hexadecimal digits.
inline std::string hash_model(const nn::Model& model) {
  const std::uint64_t hash = Hash()
                                 .text(nn::to_text(model.net().spec()))
                                 .text(model.input_shape().to_string())
                                 .numbers(std::as_const(model.parameters()).state())
                                 .value();
  std::string out(16, '0');
  for (std::size_t i = 0; i < out.size(); ++i) {
    out[i] = "0123456789abcdef"[(hash >> (60 - 4 * i)) & 15];
  }
  return out;
}

namespace detail {

inline constexpr std::string_view kDetectorKind = "detector";

/// What a detector file says, without its checksum.
inline nlohmann::json detector_json(const DetectorFile& file) {
  nlohmann::json out = {{"kind", kDetectorKind},
                        {"version", file.version},
                        {"squeezers", nlohmann::json::array()},
                        {"threshold", file.detector.threshold()},
                        {"false_positive_rate", file.false_positive_rate},
                        {"images", file.images},
                        {"data", file.data},
                        {"model", file.model},
                        {"model_hash", file.model_hash}};
  for (const auto& s : file.detector.squeezers()) {
    out["squeezers"].push_back(s.to_string());
  }
  return out;
}

inline std::string detector_checksum(const nlohmann::json& json) {
  return std::to_string(Hash().text(json.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)).value());
}

}  // namespace detail

/// Writes a detector with a threshold, atomically. Throws IoError where it cannot be written, ValueError for a detector
/// without a threshold.
inline void save_detector(const std::string& path, const DetectorFile& file) {
  nlohmann::json json = detail::detector_json(file);
  json["checksum"] = detail::detector_checksum(json);
  io::write_atomically(path, json.dump(1) + "\n");
}

/// Reads a detector. Throws IoError that names the file for what is no detector file, is damaged or was changed by hand,
/// or names filters that this library does not have.
inline DetectorFile load_detector(const std::string& path) {
  constexpr std::uint64_t kLargest = std::uint64_t{1} << 20;
  constexpr std::size_t kMaxSqueezers = 64;  // each is a pass of the model
  const auto refusal = [&](const auto&... pieces) { return IoError(concat(path, ": detector file: ", pieces...)); };
  const auto bytes = io::read_file(path, kLargest);
  nlohmann::json json = io::parse_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, path);
  if (!json.is_object() || json.value("kind", nlohmann::json()) != detail::kDetectorKind) {
    throw refusal("not JSON of kind \"detector\"");
  }
  const nlohmann::json checksum = json.value("checksum", nlohmann::json());
  json.erase("checksum");
  if (const std::string found = detail::detector_checksum(json); checksum != found) {
    throw refusal("its checksum is ", checksum.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace),
                  ", expected \"", found,
                  "\": it is damaged, or was changed by hand; fit a detector anew in place of changing one");
  }
  try {
    std::vector<FilterList<float>> squeezers;
    for (const auto& text : json.at("squeezers")) {
      for (auto& one : make_squeezers(text.get<std::string>())) {
        require(squeezers.size() < kMaxSqueezers, "more than ", kMaxSqueezers, " squeezers");
        squeezers.push_back(std::move(one));
      }
    }
    return {.detector = FeatureSqueezing(std::move(squeezers), json.at("threshold").get<float>()),
            .false_positive_rate = json.at("false_positive_rate").get<double>(),
            .images = json.at("images").get<std::int64_t>(),
            .data = json.at("data").get<std::string>(),
            .model = json.at("model").get<std::string>(),
            .model_hash = json.at("model_hash").get<std::string>(),
            .version = json.at("version").get<std::string>()};
  } catch (const nlohmann::json::exception& error) {
    throw refusal(std::string_view(error.what()));
  } catch (const ValueError& error) {
    throw refusal(std::string_view(error.what()));
  }
}

/// Throws ValueError unless the file's detector was fitted for this model: the same layers and weights.
inline void require_fitted_for(const DetectorFile& file, const nn::Model& model) {
  const std::string hash = hash_model(model);
  require(hash == file.model_hash, "detector: its threshold was fitted for model ", file.model, " with hash ",
          file.model_hash, ", got model ", model.name(), " with hash ", hash, ": fit one for this model");
}

}  // namespace pavise::defend
