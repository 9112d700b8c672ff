// SPDX-License-Identifier: MIT
// `pavise attack`: how much of a model's accuracy an attack leaves, or how far it has to go.
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "interchange.hpp"
#include "pavise/attack/catalog.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/attack/transfer.hpp"
#include "pavise/report/progress.hpp"
#include "subject.hpp"

namespace pavise::program {
namespace {

struct AttackOptions : Subject {
  std::string attack = "pgd";
  std::string loss;
  std::string steps;
  std::string step_size;
  std::vector<std::string> set;
  std::string target;
  std::string surrogate;
  std::string curve;
  std::string filter_attack = "adaptive";
  std::int64_t restarts = 1;
  std::string export_to;
  std::int64_t pictures = 20;
};

attack::Settings settings_of(const AttackOptions& o) {
  attack::Settings settings;
  for (const auto& [name, value] :
       {std::pair{"steps", &o.steps}, std::pair{"step_size", &o.step_size}, std::pair{"loss", &o.loss}}) {
    if (!value->empty()) {
      settings.emplace_back(name, *value);
    }
  }
  for (const auto& text : o.set) {
    const auto equals = text.find('=');
    require(equals != std::string::npos && equals > 0, "--set ", text, ", expected NAME=VALUE");
    std::string name = text.substr(0, equals);
    std::replace(name.begin(), name.end(), '-', '_');
    settings.emplace_back(std::move(name), text.substr(equals + 1));
  }
  return settings;
}

/// The images that are to become something else, and the classes that they are to become.
data::Dataset with_targets(const data::Dataset& test, const std::string& target, std::int32_t classes,
                           std::vector<std::int32_t>& truth) {
  std::int64_t one = -1;
  if (target != "next") {
    std::size_t used = 0;
    try {
      one = std::stoll(target, &used);
    } catch (const std::exception&) {
      used = 0;
    }
    require(used == target.size() && one >= 0 && one < classes, "--target ", target,
            ", expected next, or a class 0 to ", classes - 1);
  }
  std::vector<std::int64_t> kept;
  std::vector<std::int32_t> targets;
  for (std::int64_t i = 0; i < test.size(); ++i) {
    if (test.label(i) != one) {
      kept.push_back(i);
      truth.push_back(test.label(i));
      targets.push_back(one >= 0 ? static_cast<std::int32_t>(one) : (test.label(i) + 1) % classes);
    }
  }
  return test.subset(kept).with_labels(std::move(targets));
}

/// How far the images went that changed their class, of those that were right: median and mean.
nlohmann::json distances(const attack::Result& result) {
  std::vector<float> all;
  double sum = 0;
  for (std::size_t i = 0; i < result.distance.size(); ++i) {
    if (result.fooled[i] != 0 && result.attempt[i] >= 0) {
      all.push_back(result.distance[i]);
      sum += static_cast<double>(result.distance[i]);
    }
  }
  if (all.empty()) {
    return {{"images", 0}, {"median", nullptr}, {"mean", nullptr}};
  }
  const auto middle = all.begin() + static_cast<std::ptrdiff_t>(all.size() / 2);
  std::nth_element(all.begin(), middle, all.end());
  return {{"images", all.size()}, {"median", *middle}, {"mean", sum / static_cast<double>(all.size())}};
}

void run_attack(AttackOptions o) {
  o.apply();
  const auto settings = settings_of(o);
  require(o.filter_attack == "adaptive" || o.filter_attack == "unaware", "--filter-attack ", o.filter_attack,
          ", expected adaptive or unaware");
  require(o.filter_attack == "adaptive" || (!o.filters.empty() && o.surrogate.empty()),
          "--filter-attack unaware goes with --filter, and without --surrogate");
  std::optional<io::ModelFile> other;
  std::optional<attack::Classifier> maker;  // what the images are made on, where that is not the classifier itself
  const auto make = [&](double epsilon) {
    auto named = attack::make_attack(o.attack, o.threat_of(epsilon), settings, !o.target.empty());
    if (maker) {
      named.attack = std::make_shared<const attack::Transfer>(*maker, named.attack);
    }
    return named;
  };
  const double epsilon = parse_radius(o.eps);
  const std::vector<double> radii = o.curve.empty() ? std::vector<double>{} : parse_radii(o.curve);
  for (const double r : radii) {
    make(r);  // a bad radius is refused before the work begins
  }
  make(epsilon);
  if (!o.export_to.empty()) {
    prepare_export(o.export_to);
  }
  const auto file = o.load_model();
  data::Dataset test = o.load_test(file.model);
  const attack::Classifier model = o.classifier(file.model, test.image_shape());
  if (!o.surrogate.empty()) {
    other.emplace(io::load_model(o.surrogate));
    require_same_images(o.surrogate, other->model, test);
    maker = other->model;
  } else if (o.filter_attack == "unaware") {
    maker = o.bare_classifier(file.model);
  }
  std::vector<std::int32_t> truth;
  if (!o.target.empty()) {
    test = with_targets(test, o.target, model.classes(), truth);
    require(test.size() > 0, "--target ", o.target, ": all ", o.count, " images are of that class");
  }

  const auto attack_with = [&](const attack::Attack& attack, const std::string& title) {
    std::optional<report::ProgressBar> bar;
    if (o.shows_progress()) {  // of this process's images
      const auto [begin, end] = share_of(test.size(), 0, o.team != nullptr ? o.team->size() : 1);
      bar.emplace(title, (end - begin) * attack.attempts() * (attack.random() ? o.restarts : 1));
    }
    attack::RunOptions run;
    run.restarts = o.restarts;
    run.seed = o.seed;
    run.truth = truth;
    if (bar) {
      run.progress = [&](std::int64_t n) { bar->advance(n); };
    }
    run.team = o.team;
    auto result = attack::run(attack, model, test, run);
    if (bar) {
      bar->finish();
    }
    return result;
  };

  const Stopwatch watch;
  const auto main_attack = make(epsilon);
  const attack::Result result = attack_with(*main_attack.attack, o.attack + " eps " + o.eps);
  const double main_seconds = watch.seconds();
  std::int64_t forward = result.forward_passes;
  std::int64_t backward = result.backward_passes;
  nlohmann::json curve = nlohmann::json::array();
  nlohmann::json steps = nlohmann::json::array();
  const auto add_point = [&](double radius, const attack::Result& at) {
    nlohmann::json point = count(at.robust_correct, at.size());
    point["epsilon"] = radius;
    curve.push_back(std::move(point));
    if (o.gallery > 0) {
      steps.push_back(sweep_step(radius, at, o.gallery));
    }
  };
  for (const double radius : radii) {
    if (radius == epsilon) {
      add_point(radius, result);
      continue;
    }
    const auto at = attack_with(*make(radius).attack, concat(o.attack, " eps ", radius));
    forward += at.forward_passes;
    backward += at.backward_passes;
    add_point(radius, at);
  }

  nlohmann::json json = o.make_record("attack", file, test);
  json["attack"] = o.attack;
  json["recipe"] = nlohmann::json::object();
  for (const auto& [name, value] : main_attack.settings) {
    // Numbers and truth values as such; a loss is a string.
    const auto parsed = nlohmann::json::parse(value, nullptr, false);
    json["recipe"][name] = parsed.is_discarded() ? nlohmann::json(value) : parsed;
  }
  json["recipe"]["restarts"] = main_attack.attack->random() ? o.restarts : 1;
  if (!o.target.empty()) {
    json["recipe"]["target"] = o.target;
  }
  if (model.declaration().random) {
    json["recipe"]["draws"] = model.draws();
  }
  if (other) {
    json["recipe"]["surrogate"] = o.surrogate;
  }
  if (!o.filters.empty()) {
    json["recipe"]["filter_attack"] = o.filter_attack;
  }
  json["clean"] = count(result.clean_correct, result.size());
  json["robust"] = count(result.robust_correct, result.size());
  if (main_attack.attack->minimum_norm()) {
    json["distance"] = distances(result);
  }
  if (!curve.empty()) {
    json["curve"] = std::move(curve);
  }
  json["passes"] = {{"forward", forward}, {"backward", backward}};  // of the curve as well
  json["passes_at_epsilon"] = {{"forward", result.forward_passes}, {"backward", result.backward_passes}};
  if (!o.writes()) {
    return;
  }
  json["seconds"] = watch.seconds();
  json["images_per_second"] = static_cast<double>(result.size()) / main_seconds;
  if (o.gallery > 0) {
    json["gallery"] = gallery({test, result.adversarial, result.clean_prediction, result.prediction,
                               result.clean_confidence, result.confidence, result.distance, result.success},
                              o.gallery);
  }
  if (!steps.empty()) {
    json["sweep"] = sweep(test, truth, std::move(steps));
  }
  std::FILE* out = o.json == "-" ? stderr : stdout;  // standard output is the record's then
  std::fprintf(out, "clean   %s%s\n", describe(result.clean_correct, result.size()).c_str(),
               o.target.empty() ? "" : "  not of the target class");
  std::fprintf(out, "robust  %s  %s, %s, eps %s\n", describe(result.robust_correct, result.size()).c_str(),
               o.attack.c_str(), o.norm.c_str(), o.eps.c_str());
  if (const auto at = json.find("distance"); at != json.end() && (*at)["images"] != 0) {
    std::fprintf(out, "distance of the %lld images that changed class: median %.4g, mean %.4g (%s)\n",
                 static_cast<long long>((*at)["images"].get<std::int64_t>()), (*at)["median"].get<double>(),
                 (*at)["mean"].get<double>(), o.norm.c_str());
  }
  if (!o.export_to.empty()) {
    export_images(o.export_to, test, result, truth.empty() ? test.labels() : truth, o.pictures);
  }
  if (!o.json.empty()) {
    write_json(o.json, json);
  }
}

/// The attacks as text: what each is, its norms, its settings with their defaults.
std::string attack_list() {
  std::string out = "Attacks for --attack, their norms, and what --set changes, with the defaults at --eps 0.1:\n";
  for (const auto& name : attack::attack_names()) {
    const auto d = attack::describe_attack(name);
    std::string norms;
    for (const auto norm : d.norms) {
      norms += concat(norms.empty() ? "" : ", ", attack::norm_name(norm));
    }
    std::string settings;
    for (const auto& [key, value] : d.settings) {
      settings += concat(" ", key, "=", value);
    }
    out += concat("\n  ", d.name, std::string(d.name.size() < 14 ? 14 - d.name.size() : 1, ' '), d.summary, "\n",
                  std::string(16, ' '), norms, ":", settings, "\n");
  }
  return out;
}

}  // namespace

void add_attack(CLI::App& app, const std::string& command, Communicator* team) {
  auto o = std::make_shared<AttackOptions>();
  o->command = command;
  o->team = team;
  auto* sub = app.add_subcommand("attack", "Attacks a model and counts the images that stand");
  o->add_to(*sub);
  sub->add_option("--attack", o->attack, "One of " + join(attack::attack_names()))->capture_default_str();
  sub->add_option("--steps", o->steps, "Steps (default: the attack's own)");
  sub->add_option("--step-size", o->step_size, "Step size (default: the attack's own; for pgd 2.5 eps / steps)");
  sub->add_option("--restarts", o->restarts, "Random restarts; an image stands only if it stands all of them")
      ->capture_default_str();
  sub->add_option("--loss", o->loss, "The loss that is maximised: " + join(attack::loss_names()));
  sub->add_option("--set", o->set, "Another setting of the attack, as NAME=VALUE; may be given several times");
  sub->add_option("--target", o->target,
                  "Make images become a class: its number, or next, for the one after their own");
  sub->add_option("--surrogate", o->surrogate,
                  "Make the images on this model file instead, and see whether they transfer");
  sub->add_option("--filter-attack", o->filter_attack,
                  "adaptive: the attack knows the filters, and is made for them; unaware: it is made on the model "
                  "without them")
      ->capture_default_str();
  sub->add_option(
      "--curve", o->curve,
      "Also attack at these radii, separated by commas; with --gallery the report's slider shows the images at each");
  sub->add_option(
      "--export", o->export_to,
      "Write the images to this directory: clean.npy, adversarial.npy, labels.npy, predictions.npy, and PNG");
  sub->add_option("--pictures", o->pictures, "With --export: PNG files of the first images")->capture_default_str();
  sub->add_flag_callback(
      "--list",
      [] {
        std::cout << attack_list();
        throw CLI::Success();
      },
      "List the attacks with their norms and settings");
  sub->callback([o] { run_attack(*o); });
}

}  // namespace pavise::program
