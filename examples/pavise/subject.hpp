// SPDX-License-Identifier: MIT
// What `attack` and `evaluate` have in common: a model file, the first images of a data set, and the record of what came
// out.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "common.hpp"
#include "pavise/attack/classifier.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/attack/threat.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise/io/model_file.hpp"

namespace pavise::program {

struct Subject : Shared {
  std::string model_file;
  std::string norm = "linf";
  std::string eps = "0.1";
  std::int64_t count = 1000;
  std::int64_t gallery = 0;
  std::string json;
  std::string smooth;                ///< sigma of the noise whose majority vote is attacked; empty: the model as it is
  std::int64_t draws = 20;           ///< of a random classifier, in each query of an attack
  std::vector<std::string> filters;  ///< in front of the model, the first one first
  std::string detector;              ///< a file of `pavise detect`; empty: nothing is refused

  void add_to(CLI::App& app);
  /// Sets the threads up, and refuses what cannot be before long work begins.
  void apply();
  attack::Threat threat() const { return threat_of(parse_radius(eps)); }
  attack::Threat threat_of(double epsilon) const { return {attack::parse_norm(norm), epsilon}; }
  io::ModelFile load_model() const { return io::load_model(model_file); }
  /// The first `count` images of the test set; behind the filters they must suit the model.
  data::Dataset load_test(const nn::Model& model) const;
  /// The model, its smoothed classifier, or the model with the detector, without filters; refers to the model.
  attack::Classifier bare_classifier(const nn::Model& model) const;
  /// The same behind some filters, of images of shape `input`; on a device together with them.
  attack::Classifier behind(const defend::FilterList<float>& list, const nn::Model& model, const Shape& input) const;
  /// The same behind the command's filters, asked for as many draws as it says.
  attack::Classifier classifier(const nn::Model& model, const Shape& input) const;
  /// A record with data, model, defence, label, threat and command.
  nlohmann::json make_record(const std::string& kind, const io::ModelFile& file, const data::Dataset& test) const;
};

/// A model, behind filters, and the images that another one's were made with.
void require_same_images(const std::string& file, const nn::Model& model, const data::Dataset& set,
                         const defend::FilterList<float>& filters = {});

/// Images before and after, as an attack or an evaluation left them.
struct GallerySource {
  const data::Dataset& set;
  const Tensor<float>& adversarial;
  std::vector<std::int32_t> clean_prediction, prediction;
  std::vector<float> clean_confidence, confidence, distance;
  std::vector<std::uint8_t> broken;
};

/// Up to `wanted` images as bytes: first those that were broken, then those that stood.
nlohmann::json gallery(const GallerySource& source, std::int64_t wanted);

/// What an attack of one radius made of the first `wanted` images, whatever became of them: a step of the report's slider.
nlohmann::json sweep_step(double epsilon, const attack::Result& result, std::int64_t wanted);

/// The steps together, with the images' own labels: `truth`, or the data set's where it is empty.
nlohmann::json sweep(const data::Dataset& set, std::span<const std::int32_t> truth, nlohmann::json steps);

}  // namespace pavise::program
