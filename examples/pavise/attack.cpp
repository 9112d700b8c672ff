// SPDX-License-Identifier: MIT
// `pavise attack`: how much of a model's accuracy an attack leaves.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>

#include "common.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/data/catalog.hpp"
#include "pavise/io/model_file.hpp"
#include "pavise/report/progress.hpp"

namespace pavise::program {
namespace {

struct Options : Shared {
  std::string model_file;
  std::string attack = "pgd";
  std::string norm = "linf";
  std::string loss = "cross-entropy";
  std::string eps = "0.1";
  std::string step_size;
  std::string curve;
  std::string json;
  std::int64_t steps = 10;
  std::int64_t restarts = 1;
  std::int64_t count = 1000;
  std::int64_t gallery = 0;
};

const std::vector<std::string> kAttacks = {"fgsm", "fgsm-rs", "bim", "pgd"};
const std::vector<std::string> kLosses = {"cross-entropy", "margin", "dlr"};

attack::Loss make_loss(const std::string& name) {
  if (name == "margin") {
    return [](Var<float> logits, const std::int32_t* labels) { return margin_loss(logits, labels); };
  }
  if (name == "dlr") {
    return [](Var<float> logits, const std::int32_t* labels) { return dlr_loss(logits, labels); };
  }
  require(name == "cross-entropy", "unknown loss ", name, ", expected one of ", join(kLosses));
  return {};
}

attack::Pgd make_attack(const Options& o, double epsilon) {
  const attack::Threat threat(attack::parse_norm(o.norm), epsilon);
  attack::PgdOptions options;
  options.steps = o.steps;
  options.loss = make_loss(o.loss);
  if (!o.step_size.empty()) {
    options.step_size = parse_radius(o.step_size);
    require(options.step_size > 0.0, "--step-size ", o.step_size, ", expected more than 0");
  }
  if (o.attack == "fgsm") {
    return attack::fgsm(threat, options);
  }
  if (o.attack == "fgsm-rs") {
    return attack::fgsm_rs(threat, options);
  }
  if (o.attack == "bim") {
    return attack::bim(threat, options);
  }
  require(o.attack == "pgd", "unknown attack ", o.attack, ", expected one of ", join(kAttacks));
  return attack::Pgd(threat, options);
}

/// Pixels as bytes, for the gallery.
nlohmann::json gallery(const data::Dataset& set, const attack::Result& result, std::int64_t wanted) {
  nlohmann::json items = nlohmann::json::array();
  // Images that the attack broke tell most; then those that stood.
  std::vector<std::int64_t> order;
  for (const bool broken : {true, false}) {
    for (std::int64_t i = 0; i < result.size(); ++i) {
      const auto at = static_cast<std::size_t>(i);
      if (result.clean_prediction[at] == set.label(i) && (result.success[at] != 0) == broken) {
        order.push_back(i);
      }
    }
  }
  order.resize(std::min(order.size(), static_cast<std::size_t>(wanted)));
  for (const std::int64_t i : order) {
    const auto at = static_cast<std::size_t>(i);
    nlohmann::json clean = nlohmann::json::array();
    nlohmann::json adversarial = nlohmann::json::array();
    const auto image = result.adversarial.row(i);
    for (std::size_t e = 0; e < image.size(); ++e) {
      clean.push_back(set.pixels(i)[e]);
      adversarial.push_back(std::round(image[e] * 255.0f * 100.0f) / 100.0);
    }
    items.push_back({{"index", set.source_index(i)},
                     {"label", set.label(i)},
                     {"clean_prediction", result.clean_prediction[at]},
                     {"adversarial_prediction", result.prediction[at]},
                     {"clean_confidence", result.clean_confidence[at]},
                     {"adversarial_confidence", result.confidence[at]},
                     {"distance", result.distance[at]},
                     {"clean", std::move(clean)},
                     {"adversarial", std::move(adversarial)}});
  }
  const Shape& s = set.image_shape();
  return {{"shape", {s[0], s[1], s[2]}}, {"items", std::move(items)}};
}

void run_attack(const Options& o) {
  o.apply();
  require(o.count >= 1, "--count ", o.count, ", expected 1 or more");
  const double epsilon = parse_radius(o.eps);
  const attack::Pgd main_attack = make_attack(o, epsilon);
  std::vector<double> radii = o.curve.empty() ? std::vector<double>{} : parse_radii(o.curve);
  for (const double r : radii) {
    make_attack(o, r);  // a bad radius is refused before the work begins
  }
  if (!o.json.empty()) {
    prepare_output(o.json);
  }
  const auto file = io::load_model(o.model_file);
  const nn::Model& model = file.model;
  const data::Dataset test = data::load(o.data).test.first(o.count);
  require<ShapeError>(test.image_shape() == model.input_shape(), o.model_file, " expects images of ",
                      model.input_shape(), ", data set ", o.data, " has ", test.image_shape());

  const Stopwatch watch;
  const auto attack_with = [&](const attack::Pgd& attack, const std::string& title) {
    std::optional<report::ProgressBar> bar;
    if (!o.quiet) {
      bar.emplace(title, test.size() * (attack.random() ? o.restarts : 1));
    }
    attack::RunOptions run;
    run.restarts = o.restarts;
    run.seed = o.seed;
    if (bar) {
      run.progress = [&](std::int64_t n) { bar->advance(n); };
    }
    auto result = attack::run(attack, model, test, run);
    if (bar) {
      bar->finish();
    }
    return result;
  };

  const std::string title = o.attack + " eps " + o.eps;
  const attack::Result result = attack_with(main_attack, title);
  nlohmann::json json = record("attack", o.command, o.seed);
  std::int64_t forward = result.forward_passes;
  std::int64_t backward = result.backward_passes;
  const double main_seconds = watch.seconds();
  nlohmann::json curve = nlohmann::json::array();
  for (const double radius : radii) {
    attack::Result at =
        radius == epsilon ? result : attack_with(make_attack(o, radius), concat(o.attack, " eps ", radius));
    if (radius != epsilon) {
      forward += at.forward_passes;
      backward += at.backward_passes;
    }
    nlohmann::json point = count(at.robust_correct, at.size());
    point["epsilon"] = radius;
    curve.push_back(std::move(point));
  }

  const auto defense = file.recipe.find("defense");
  json["data"] = o.data;
  json["data_note"] = o.data_note;
  json["model"] = model.name();
  json["model_file"] = o.model_file;
  json["defense"] = defense != file.recipe.end() ? defense->second : "unknown";
  const auto stored = file.recipe.find("label");
  json["label"] = !o.label.empty()              ? o.label
                  : stored != file.recipe.end() ? stored->second
                                                : json["defense"].get<std::string>();
  json["attack"] = o.attack;
  json["norm"] = o.norm;
  json["epsilon"] = epsilon;
  json["recipe"] = {{"steps", main_attack.options().steps},
                    {"step_size", main_attack.options().step_size},
                    {"restarts", main_attack.random() ? o.restarts : 1},
                    {"random_start", main_attack.options().random_start},
                    {"loss", o.loss}};
  json["count"] = result.size();
  json["clean"] = count(result.clean_correct, result.size());
  json["robust"] = count(result.robust_correct, result.size());
  if (!curve.empty()) {
    json["curve"] = std::move(curve);
  }
  json["passes"] = {{"forward", forward}, {"backward", backward}};
  json["seconds"] = watch.seconds();
  json["images_per_second"] = static_cast<double>(result.size()) / main_seconds;
  json["class_names"] = test.class_names();
  if (o.gallery > 0) {
    json["gallery"] = gallery(test, result, o.gallery);
  }
  std::printf("clean   %s\n", describe(result.clean_correct, result.size()).c_str());
  std::printf("robust  %s  %s, %s, eps %s\n", describe(result.robust_correct, result.size()).c_str(), o.attack.c_str(),
              o.norm.c_str(), o.eps.c_str());
  if (!o.json.empty()) {
    write_json(o.json, json);
  }
}

}  // namespace

void add_attack(CLI::App& app, const std::string& command) {
  auto o = std::make_shared<Options>();
  o->command = command;
  auto* sub = app.add_subcommand("attack", "Attacks a model and counts the images that stand");
  sub->add_option("--model-file", o->model_file, "The model, as `pavise train` wrote it")->required();
  o->add_to(*sub);
  sub->add_option("--attack", o->attack, "One of " + join(kAttacks))->capture_default_str();
  sub->add_option("--norm", o->norm, "linf, l2 or l1")->capture_default_str();
  sub->add_option("--eps", o->eps, "Radius in pixels of [0,1]: a number, or a fraction such as 8/255")
      ->capture_default_str();
  sub->add_option("--steps", o->steps, "Steps of pgd and bim (0: bim's own rule)")->capture_default_str();
  sub->add_option("--step-size", o->step_size, "Step size (default: the attack's own; for pgd 2.5 eps / steps)");
  sub->add_option("--restarts", o->restarts, "Random restarts; an image stands only if it stands all of them")
      ->capture_default_str();
  sub->add_option("--loss", o->loss, "The loss that is maximised: " + join(kLosses))->capture_default_str();
  sub->add_option("--count", o->count, "The first images of the test set")->capture_default_str();
  sub->add_option("--curve", o->curve, "Also attack at these radii, separated by commas");
  sub->add_option("--gallery", o->gallery, "Keep this many images for the report")->capture_default_str();
  sub->add_option("--json", o->json, "Write the record here; - for standard output");
  sub->callback([o] { run_attack(*o); });
}

}  // namespace pavise::program
