// SPDX-License-Identifier: MIT
#include "subject.hpp"

#include <algorithm>
#include <cmath>
#include <memory>
#include <utility>

#include "pavise/attack/settings.hpp"
#include "pavise/attack/smoothed.hpp"
#include "pavise/data/catalog.hpp"
#include "pavise/defend/detector_file.hpp"
#include "pavise/defend/filter/pipeline.hpp"
#include "pavise/defend/filter/within.hpp"
#include "pavise/device/accelerator.hpp"

namespace pavise::program {

namespace {

/// Threads whose groups of images wait for a GPU together: they sleep most of the time.
constexpr int kDeviceThreads = 64;

}  // namespace

void Subject::add_to(CLI::App& app) {
  app.add_option("--model-file", model_file, "The model, as `pavise train` wrote it")->required();
  Shared::add_to(app);
  app.add_option("--norm", norm, "linf, l2 or l1")->capture_default_str();
  app.add_option("--eps", eps, "Radius in pixels of [0,1]: a number, or a fraction such as 8/255")
      ->capture_default_str();
  app.add_option("--count", count, "The first images of the test set")->capture_default_str();
  app.add_option(
      "--smooth", smooth,
      "Attack the majority vote over Gaussian noise of this sigma (randomized smoothing), not the model itself");
  app.add_option("--filter", filters,
                 "A filter in front of the model, such as jpeg:75; may be given several times, the first one first. " +
                     filter_list());
  app.add_option("--detector", detector,
                 "A detector in front of the model, as `pavise detect --out` wrote it: attacks have to stay unflagged");
  app.add_option("--draws", draws, "Draws of noise, or of a random model, in each query of an attack")
      ->capture_default_str();
  app.add_option("--gallery", gallery, "Keep this many images for the report")->capture_default_str();
  app.add_option("--json", json, "Write the record here; - for standard output");
}

void Subject::apply() {
  Shared::apply();
  if (threads == 0 && chosen_device().is_cuda()) {
    set_thread_count(kDeviceThreads);
  }
  require(count >= 1, "--count ", count, ", expected 1 or more");
  threat();
  require(draws >= 1, "--draws ", draws, ", expected 1 or more");
  make_filters(filters);
  if (!smooth.empty()) {
    require(attack::parse_number("--smooth", smooth) > 0.0, "--smooth ", smooth, ", expected more than 0");
  }
  require(detector.empty() || (filters.empty() && smooth.empty()),
          "--detector goes without --filter and --smooth: its threshold was fitted for the model alone");
  if (!json.empty()) {
    prepare_output(json);
  }
}

void require_same_images(const std::string& file, const nn::Model& model, const data::Dataset& set,
                         const defend::FilterList<float>& filters) {
  const Shape shape = filters.output_shape(set.image_shape());
  require<ShapeError>(shape == model.input_shape(), file, " expects images of ", model.input_shape(), ", data set ",
                      set.name(), " has ", shape, filters.empty() ? "" : " behind ", filters.to_string());
  require(set.classes() <= model.classes(), file, " tells ", model.classes(), " classes apart, data set ", set.name(),
          " has ", set.classes());
}

data::Dataset Subject::load_test(const nn::Model& model) const {
  data::Dataset test = data::load(data).test.first(count);
  require_same_images(model_file, model, test, make_filters(filters));
  return test;
}

namespace {

device::Options device_options(const std::string& arithmetic) {
  return {.arithmetic = device::parse_arithmetic(arithmetic)};
}

}  // namespace

attack::Classifier Subject::bare_classifier(const nn::Model& model) const {
  const Device on = chosen_device();
  attack::Classifier plain =
      on.is_cuda() ? device::classifier(model, on, device_options(arithmetic)) : attack::Classifier(model);
  if (smooth.empty()) {
    if (!detector.empty()) {
      const auto file = defend::load_detector(detector);
      defend::require_fitted_for(file, model);
      plain = file.detector.guard(plain);
    }
    return plain.with_draws(plain.declaration().random ? draws : 1);
  }
  return attack::smoothed(plain, attack::parse_number("--smooth", smooth), {.draws = draws});
}

attack::Classifier Subject::behind(const defend::FilterList<float>& list, const nn::Model& model,
                                   const Shape& input) const {
  const Device on = chosen_device();
  const auto& layers = model.net().layers();
  const bool filtered = std::any_of(layers.begin(), layers.end(), [](const auto& layer) {
    return dynamic_cast<const defend::Filter<float>*>(layer.second.get()) != nullptr;
  });
  if (on.is_cuda() && smooth.empty() && detector.empty() && !filtered) {  // all of it there
    return device::classifier(std::make_shared<const nn::Model>(defend::with_filters(list, model, input)), on,
                              device_options(arithmetic))
        .with_name(concat(list.to_string(), " | ", model.name()));
  }
  return defend::Pipeline(list, bare_classifier(model), input);
}

attack::Classifier Subject::classifier(const nn::Model& model, const Shape& input) const {
  if (filters.empty()) {
    return bare_classifier(model);
  }
  const attack::Classifier all = behind(make_filters(filters), model, input);
  return all.with_draws(all.declaration().random ? draws : 1, all.repeats_draws());
}

nlohmann::json Subject::make_record(const std::string& kind, const io::ModelFile& file,
                                    const data::Dataset& test) const {
  nlohmann::json out = record(kind, command, seed);
  const auto recipe = [&file](const char* key, const std::string& otherwise) {
    const auto at = file.recipe.find(key);
    return at != file.recipe.end() ? at->second : otherwise;
  };
  out["data"] = data;
  out["data_note"] = data_note;
  out["model"] = file.model.name();
  out["model_file"] = model_file;
  out["defense"] = recipe("defense", "unknown");
  out["label"] = !label.empty() ? label : recipe("label", out["defense"].get<std::string>());
  if (!smooth.empty()) {
    out["smooth"] = attack::parse_number("--smooth", smooth);
    out["label"] = concat(out["label"].get<std::string>(), ", smoothed ", smooth);
  }
  if (!detector.empty()) {
    out["detector"] = detector;
    out["label"] = concat(out["label"].get<std::string>(), ", with a detector");
  }
  if (!filters.empty()) {
    const std::string all = make_filters(filters).to_string();
    out["filters"] = all;
    out["label"] = concat(out["label"].get<std::string>(), ", behind ", all);
  }
  out["device"] = device;
  out["arithmetic"] = arithmetic;
  out["norm"] = norm;
  out["epsilon"] = parse_radius(eps);
  out["count"] = test.size();
  out["class_names"] = test.class_names();
  return out;
}

nlohmann::json gallery(const GallerySource& source, std::int64_t wanted) {
  const data::Dataset& set = source.set;
  nlohmann::json items = nlohmann::json::array();
  std::vector<std::int64_t> order;  // images that were broken tell most
  for (const bool broken : {true, false}) {
    for (std::int64_t i = 0; i < set.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (source.clean_prediction[at] == set.label(i) && (source.broken[at] != 0) == broken) {
        order.push_back(i);
      }
    }
  }
  order.resize(std::min(order.size(), static_cast<std::size_t>(wanted)));
  for (const std::int64_t i : order) {
    const auto at = static_cast<std::size_t>(i);
    nlohmann::json clean = nlohmann::json::array();
    nlohmann::json adversarial = nlohmann::json::array();
    const auto image = source.adversarial.row(i);
    for (std::size_t e = 0; e < image.size(); ++e) {
      clean.push_back(set.pixels(i)[e]);
      adversarial.push_back(std::round(image[e] * 255.0f * 100.0f) / 100.0);
    }
    items.push_back({{"index", set.source_index(i)},
                     {"label", set.label(i)},
                     {"clean_prediction", source.clean_prediction[at]},
                     {"adversarial_prediction", source.prediction[at]},
                     {"clean_confidence", source.clean_confidence[at]},
                     {"adversarial_confidence", source.confidence[at]},
                     {"distance", source.distance[at]},
                     {"clean", std::move(clean)},
                     {"adversarial", std::move(adversarial)}});
  }
  const Shape& s = set.image_shape();
  return {{"shape", {s[0], s[1], s[2]}}, {"items", std::move(items)}};
}

nlohmann::json sweep_step(double epsilon, const attack::Result& result, std::int64_t wanted) {
  nlohmann::json images = nlohmann::json::array();
  for (std::int64_t i = 0; i < std::min(wanted, result.size()); ++i) {
    const auto at = static_cast<std::size_t>(i);
    images.push_back({{"prediction", result.prediction[at]},
                      {"confidence", result.confidence[at]},
                      {"fooled", result.success[at] != 0},
                      {"pixels", bytes_json(result.adversarial.row(i))}});
  }
  return {{"epsilon", epsilon}, {"images", std::move(images)}};
}

nlohmann::json sweep(const data::Dataset& set, std::span<const std::int32_t> truth, nlohmann::json steps) {
  nlohmann::json images = nlohmann::json::array();
  for (std::size_t at = 0; at < steps[0]["images"].size(); ++at) {
    const auto i = static_cast<std::int64_t>(at);
    images.push_back({{"index", set.source_index(i)}, {"label", truth.empty() ? set.label(i) : truth[at]}});
  }
  const Shape& s = set.image_shape();
  return {{"shape", {s[0], s[1], s[2]}}, {"images", std::move(images)}, {"steps", std::move(steps)}};
}

}  // namespace pavise::program
