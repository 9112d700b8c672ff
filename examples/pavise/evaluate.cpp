// SPDX-License-Identifier: MIT
// `pavise evaluate`: robust accuracy under a suite of attacks, with a verdict on whether it can be relied on.
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <list>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/catalog.hpp"
#include "pavise/evaluate/json.hpp"
#include "pavise/evaluate/robustness.hpp"
#include "pavise/report/progress.hpp"
#include "subject.hpp"

namespace pavise::program {
namespace {

struct EvaluateOptions : Subject {
  evaluate::Options evaluation;
  std::vector<std::string> attacks;
  std::vector<std::string> surrogates;
  std::int64_t restarts = 1;
  bool no_signs = false;
};

/// One bar after another, as the evaluation goes from attack to attack.
class Bars {
 public:
  void operator()(std::string_view stage, std::int64_t done, std::int64_t total) {
    if (!bar_ || stage != stage_) {
      finish();
      stage_ = stage;
      report::ProgressOptions options;
      options.unit = stage == "signs" ? "signs" : "attempts";
      bar_.emplace(stage, total, options);
      done_ = 0;
    }
    bar_->advance(done - done_);
    done_ = done;
  }
  void finish() {
    if (bar_) {
      bar_->finish();
      bar_.reset();
    }
  }

 private:
  std::optional<report::ProgressBar> bar_;
  std::string stage_;
  std::int64_t done_ = 0;
};

/// The report's record: as `attack` writes one, with the evaluation inside.
nlohmann::json make_record(const EvaluateOptions& o, const io::ModelFile& file, const data::Dataset& test,
                           const evaluate::Report& report) {
  nlohmann::json json = o.make_record("evaluation", file, test);
  json["attack"] = report.suite;
  json["recipe"] = {{"steps", o.evaluation.settings.steps},
                    {"queries", o.evaluation.settings.queries},
                    {"targets", o.evaluation.settings.targets}};
  if (!o.attacks.empty()) {
    json["recipe"] = {{"restarts", o.restarts}};
  } else if (report.suite == "quick") {
    json["recipe"] = nlohmann::json::object();  // its numbers are its own: they stand with each attack
  }
  json["clean"] = count(report.clean_correct, report.total);
  json["robust"] = count(report.robust_correct, report.total);
  json["passes"] = {{"forward", report.forward_passes}, {"backward", report.backward_passes}};
  json["seconds"] = report.seconds;
  json["images_per_second"] = static_cast<double>(report.total) / report.seconds;
  json["evaluation"] = evaluate::to_json(report);
  if (o.gallery > 0) {
    GallerySource source{test, report.adversarial, {}, {}, {}, {}, {}, {}};
    for (const auto& image : report.images) {
      source.clean_prediction.push_back(image.clean_prediction);
      source.prediction.push_back(image.prediction);
      source.clean_confidence.push_back(image.clean_confidence);
      source.confidence.push_back(image.confidence);
      source.distance.push_back(image.distance);
      source.broken.push_back(image.stands() ? 0 : 1);
    }
    json["gallery"] = gallery(source, o.gallery);
  }
  return json;
}

void run_evaluation(EvaluateOptions o) {
  o.apply();
  const attack::Threat threat = o.threat();
  evaluate::Options& e = o.evaluation;
  e.seed = o.seed;
  e.settings.draws = o.draws;
  e.signs.measure = !o.no_signs;
  if (!o.attacks.empty()) {
    e.attacks = attack::make_suite_of(o.attacks, threat, o.restarts);
  }
  if (!e.state_file.empty()) {
    prepare_output(e.state_file);
  }
  const auto file = o.load_model();
  const data::Dataset test = o.load_test(file.model);
  std::list<io::ModelFile> others;  // classifiers refer to their models
  for (const auto& path : o.surrogates) {
    others.push_back(io::load_model(path));
    require_same_images(path, others.back().model, test);
    e.surrogates.emplace_back(others.back().model);
  }
  Bars bars;
  if (!o.quiet) {
    e.progress = [&bars](std::string_view stage, std::int64_t done, std::int64_t total) { bars(stage, done, total); };
  }
  const auto report = evaluate::robustness(o.classifier(file.model, test.image_shape()), test, threat, e);
  bars.finish();
  std::fputs(report.summary().c_str(), o.json == "-" ? stderr : stdout);  // standard output is the record's then
  if (!o.json.empty()) {
    write_json(o.json, make_record(o, file, test, report));
  }
}

}  // namespace

void add_evaluate(CLI::App& app, const std::string& command) {
  auto o = std::make_shared<EvaluateOptions>();
  o->command = command;
  evaluate::Options& e = o->evaluation;
  auto* sub = app.add_subcommand(
      "evaluate", "Robust accuracy under a suite of attacks, and a verdict on whether it can be relied on");
  o->add_to(*sub);
  auto* suite = sub->add_option("--suite", e.suite,
                                "auto: AutoAttack's standard version; rand: for random models; plus: its long version; "
                                "quick: a first impression")
                    ->capture_default_str();
  sub->add_option(
         "--attacks", o->attacks,
         "Attacks of your own choice in its place, in order, separated by commas: " + join(attack::attack_names()))
      ->delimiter(',')
      ->excludes(suite);
  sub->add_option("--restarts", o->restarts, "Restarts of each of these")->capture_default_str();
  sub->add_option("--steps", e.settings.steps, "Steps of the suite's APGD and FAB")->capture_default_str();
  sub->add_option("--queries", e.settings.queries, "Queries of its Square")->capture_default_str();
  sub->add_option("--targets", e.settings.targets, "Targets of its targeted attacks")->capture_default_str();
  sub->add_option("--judging-draws", e.judging_draws, "Draws of a random model by which an image is judged")
      ->capture_default_str();
  sub->add_option("--surrogate", o->surrogates,
                  "Another model file whose adversarial images are tried on this one; may be given several times");
  sub->add_flag("--all-images", e.all_images, "Every attack on all images, not only on those that stand");
  sub->add_flag("--no-signs", o->no_signs, "Leave the signs out; there is no verdict then");
  sub->add_option("--sign-images", e.signs.images, "Images that the signs are measured on")->capture_default_str();
  sub->add_option("--state", e.state_file, "Keep what is done in this file: run again after a stop, it goes on");
  sub->callback([o] { run_evaluation(*o); });
}

}  // namespace pavise::program
