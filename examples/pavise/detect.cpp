// SPDX-License-Identifier: MIT
// `pavise detect`: fits the feature-squeezing detector to a model, and attacks both with and without knowledge of it.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common.hpp"
#include "pavise/attack/catalog.hpp"
#include "pavise/attack/settings.hpp"
#include "pavise/data/catalog.hpp"
#include "pavise/defend/detector_file.hpp"
#include "pavise/evaluate/adapt.hpp"
#include "pavise/evaluate/detection.hpp"
#include "pavise/report/progress.hpp"
#include "subject.hpp"

namespace pavise::program {
namespace {

struct DetectOptions : Shared {
  std::string model_file;
  std::string norm = "linf";
  std::string eps = "0.1";
  std::string squeezers;
  double rate = 0.05;
  std::int64_t fit_count = 0;
  std::int64_t count = 500;
  std::vector<std::string> unaware = {"fgsm", "pgd", "cw"};
  std::vector<std::string> adaptive = {"pgd", "apgd-ce", "cw"};
  std::int64_t steps = 100;
  std::int64_t cw_steps = 200;
  std::int64_t restarts = 1;
  std::string out;
  std::string json;
};

/// The images in an order that is a function of the seed: one part is for the threshold, another for the evaluation.
std::vector<std::int64_t> shuffled(std::int64_t n, std::uint64_t seed) {
  std::vector<std::pair<std::uint64_t, std::int64_t>> keyed;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto block =
        random_block({.seed = seed, .purpose = Purpose::shuffle, .image = static_cast<std::uint32_t>(i)}, 0);
    keyed.emplace_back(std::uint64_t{block[0]} << 32 | block[1], i);
  }
  std::sort(keyed.begin(), keyed.end());
  std::vector<std::int64_t> out;
  out.reserve(keyed.size());
  for (const auto& [key, i] : keyed) {
    out.push_back(i);
  }
  return out;
}

/// An attack by name. Carlini and Wagner's is the published one in L2 whatever the norm, with the steps that a detector
/// takes; the others of several steps get `--steps`.
attack::SuiteEntry make_entry(const DetectOptions& o, const std::string& name, const attack::Threat& threat) {
  if (name == "cw") {
    const attack::Threat ball =
        threat.norm == attack::Norm::l2 ? threat : attack::Threat(attack::Norm::l2, 1.0, threat.low, threat.high);
    return evaluate::detector_carlini_wagner(ball, o.cw_steps);
  }
  const auto described = attack::describe_attack(name).settings;
  const bool has_steps =
      std::any_of(described.begin(), described.end(), [](const auto& s) { return s.first == "steps"; });
  attack::Settings settings;
  std::string words;
  if (has_steps) {
    settings.emplace_back("steps", std::to_string(o.steps));
    words = concat(o.steps, " steps");
  }
  attack::SuiteEntry entry{name, attack::make_attack(name, threat, settings).attack, 1};
  if (entry.attack->random() && o.restarts > 1) {
    entry.restarts = o.restarts;
    words += concat(words.empty() ? "" : ", ", o.restarts, " restarts");
  }
  entry.settings = words;
  return entry;
}

nlohmann::json share_json(const evaluate::FlaggedShare& s) {
  return {{"rate", s.rate}, {"threshold", s.threshold}, {"flagged", s.flagged}, {"total", s.total}};
}

/// The curve without the points that lie between two others on a straight line.
nlohmann::json roc_json(const std::vector<evaluate::RocPoint>& roc) {
  nlohmann::json out = nlohmann::json::array();
  for (std::size_t i = 0; i < roc.size(); ++i) {
    const auto straight = [&](double evaluate::RocPoint::*axis) {
      return i > 0 && i + 1 < roc.size() && roc[i - 1].*axis == roc[i].*axis && roc[i].*axis == roc[i + 1].*axis;
    };
    if (!straight(&evaluate::RocPoint::false_positive_rate) && !straight(&evaluate::RocPoint::true_positive_rate)) {
      out.push_back({roc[i].false_positive_rate, roc[i].true_positive_rate});
    }
  }
  return out;
}

nlohmann::json row_json(const evaluate::DetectionRow& row) {
  nlohmann::json out = {{"name", row.name},
                        {"settings", row.settings},
                        {"adaptive", row.adaptive},
                        {"norm", attack::norm_name(row.threat.norm)},
                        {"epsilon", row.threat.epsilon},
                        {"within_threat", row.within_threat},
                        {"tried", row.tried},
                        {"fooled", row.fooled},
                        {"evaded", row.evaded},
                        {"distance", row.distance},
                        {"area", row.area},
                        {"detected", nlohmann::json::array()},
                        {"roc", roc_json(row.roc)}};
  for (const auto& share : row.detected) {
    out["detected"].push_back(share_json(share));
  }
  return out;
}

std::string percent(std::int64_t part, std::int64_t all) {
  if (all == 0) {
    return "-";
  }
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100.0 * static_cast<double>(part) / static_cast<double>(all));
  return text;
}

void print(std::FILE* to, const evaluate::DetectionReport& r, const defend::FeatureSqueezing& detector,
           const DetectOptions& o) {
  std::fprintf(to, "squeezers %s, threshold %.6g\n", detector.name().c_str(),
               static_cast<double>(detector.threshold()));
  std::fprintf(to, "clean, classified correctly              %s\n", describe(r.clean_correct, r.total).c_str());
  std::fprintf(to, "clean, correct and not flagged           %s\n", describe(r.clean_served, r.total).c_str());
  for (const auto& share : r.false_alarms) {
    std::fprintf(to, "clean images flagged, fitted for %4.1f %%   %s\n", 100.0 * share.rate,
                 describe(share.flagged, share.total).c_str());
  }
  std::fprintf(to, "\n%-24s %7s %8s  detected at", "attack", "tried", "fooled");
  for (const auto& share : r.false_alarms) {
    std::fprintf(to, " %6.0f %%", 100.0 * share.rate);
  }
  std::fprintf(to, "  %6s  %s\n", "AUC", "fooled and not flagged");
  for (const auto& row : r.rows) {
    const std::string name = row.name + (row.adaptive ? " (adaptive)" : "");
    std::fprintf(to, "%-24s %7lld %8lld             ", name.c_str(), static_cast<long long>(row.tried),
                 static_cast<long long>(row.fooled));
    for (const auto& share : row.detected) {
      std::fprintf(to, " %8s", percent(share.flagged, share.total).c_str());
    }
    std::fprintf(to, "  %6.3f  %lld, %s", row.area, static_cast<long long>(row.evaded),
                 percent(row.evaded, row.tried).c_str());
    if (!row.within_threat) {
      std::fprintf(to, ", at any %s distance", std::string(attack::norm_name(row.threat.norm)).c_str());
    }
    if (row.evaded > 0) {
      std::fprintf(to, ", mean %.3g", row.distance);
    }
    std::fputs("\n", to);
  }
  std::fprintf(to, "\nagainst all attacks within %s %s\n", o.norm.c_str(), o.eps.c_str());
  std::fprintf(to, "without the detector                     %s\n", describe(r.undetected_robust, r.total).c_str());
  std::fprintf(to, "detector-aware robust accuracy           %s  correct, and never misclassified unflagged\n",
               describe(r.robust_served, r.total).c_str());
  std::fprintf(to, "never misclassified unflagged            %s  where a flagged clean image does no harm\n",
               describe(r.robust, r.total).c_str());
}

void run_detect(DetectOptions o) {
  o.apply();
  o.require_cpu("detect");
  require(o.count >= 1, "--count ", o.count, ", expected 1 or more");
  require(o.fit_count >= 0, "--fit-count ", o.fit_count, ", expected 0 or more");
  require(o.rate >= 0.0 && o.rate < 1.0, "--fpr ", o.rate, ", expected 0 or more, less than 1");
  require(!o.unaware.empty() || !o.adaptive.empty(), "no attacks, expected --attacks or --adaptive");
  const attack::Threat threat(attack::parse_norm(o.norm), parse_radius(o.eps));
  std::vector<evaluate::DetectionAttack> attacks;
  for (const auto& name : o.unaware) {
    attacks.push_back({make_entry(o, name, threat), false});
  }
  for (const auto& name : o.adaptive) {
    attacks.push_back({make_entry(o, name, threat), true});
  }
  for (const auto* path : {&o.out, &o.json}) {
    if (!path->empty()) {
      prepare_output(*path);
    }
  }
  const auto file = io::load_model(o.model_file);
  const data::Dataset test = data::load(o.data).test;
  require_same_images(o.model_file, file.model, test);
  const std::string names = !o.squeezers.empty() ? o.squeezers : test.image_shape()[0] == 1 ? "mnist" : "cifar10";
  const defend::FeatureSqueezing unfitted(defend::make_squeezers(names));
  const std::int64_t fit_count = o.fit_count > 0 ? o.fit_count : test.size() / 2;
  require(fit_count < test.size(), "--fit-count ", fit_count, ", expected fewer than the ", test.size(),
          " test images: some are for the evaluation");
  const auto order = shuffled(test.size(), o.seed);
  const auto begin = order.begin() + static_cast<std::ptrdiff_t>(fit_count);
  const data::Dataset fit = test.subset({order.begin(), begin});
  const data::Dataset seen =
      test.subset({begin, begin + std::min<std::ptrdiff_t>(static_cast<std::ptrdiff_t>(o.count), order.end() - begin)});

  const Stopwatch watch;
  const auto fit_scores = unfitted.scores(file.model, attack::to_tensor(fit), attack::source_ids(fit).data(), o.seed);
  const auto detector = unfitted.with_threshold(defend::fit_threshold(fit_scores, o.rate));
  if (!o.out.empty()) {
    defend::save_detector(o.out, {.detector = detector,
                                  .false_positive_rate = o.rate,
                                  .images = fit.size(),
                                  .data = o.data,
                                  .model = file.model.name(),
                                  .model_hash = defend::hash_model(file.model)});
  }
  evaluate::DetectionOptions options;
  options.seed = o.seed;
  std::optional<report::ProgressBar> bar;
  std::string current;
  std::mutex mutex;
  if (!o.quiet) {
    options.progress = [&](std::string_view name, std::int64_t more, std::int64_t total) {
      const std::lock_guard lock(mutex);
      if (!bar || current != name) {
        if (bar) {
          bar->finish();
        }
        current = name;
        bar.emplace(current, total);
      }
      bar->advance(more);
    };
  }
  const auto report = evaluate::evaluate_detection(file.model, detector, fit_scores, seen, threat, attacks, options);
  if (bar) {
    bar->finish();
  }
  print(o.json == "-" ? stderr : stdout, report, detector, o);
  if (o.json.empty()) {
    return;
  }
  nlohmann::json json = record("detection", o.command, o.seed);
  const auto trained = file.recipe.find("label");
  json["data"] = o.data;
  json["data_note"] = o.data_note;
  json["model"] = file.model.name();
  json["model_file"] = o.model_file;
  json["defense"] = "feature squeezing";
  json["label"] = !o.label.empty() ? o.label : trained != file.recipe.end() ? trained->second : file.model.name();
  json["norm"] = o.norm;
  json["epsilon"] = threat.epsilon;
  json["squeezers"] = nlohmann::json::array();
  for (const auto& s : detector.squeezers()) {
    json["squeezers"].push_back(s.to_string());
  }
  json["threshold"] = detector.threshold();
  json["false_positive_rate"] = o.rate;
  json["fit_images"] = fit.size();
  json["clean"] = count(report.clean_correct, report.total);
  json["clean_served"] = count(report.clean_served, report.total);
  json["robust"] = count(report.robust, report.total);
  json["robust_served"] = count(report.robust_served, report.total);
  json["undetected_robust"] = count(report.undetected_robust, report.total);
  json["false_alarms"] = nlohmann::json::array();
  for (const auto& share : report.false_alarms) {
    json["false_alarms"].push_back(share_json(share));
  }
  json["attacks"] = nlohmann::json::array();
  for (const auto& row : report.rows) {
    json["attacks"].push_back(row_json(row));
  }
  json["seconds"] = watch.seconds();
  write_json(o.json, json);
}

}  // namespace

void add_detect(CLI::App& app, const std::string& command) {
  auto o = std::make_shared<DetectOptions>();
  o->command = command;
  auto* sub = app.add_subcommand(
      "detect", "Fits the feature-squeezing detector to a model, and attacks both with and without knowledge of it");
  sub->add_option("--model-file", o->model_file, "The model, as `pavise train` wrote it")->required();
  o->add_to(*sub);
  sub->add_option("--squeezers", o->squeezers,
                  "A published set (" + join(defend::squeezer_sets()) +
                      "), or filters with commas between them: \"bit-depth:4, median:2\" (default: mnist for grey "
                      "images, cifar10 for colour)");
  sub->add_option("--fpr", o->rate, "False-positive rate that the threshold is fitted for")->capture_default_str();
  sub->add_option(
      "--fit-count", o->fit_count,
      "Test images, drawn at random, that the threshold is fitted on, whether the model is right about them "
      "or not (0: half of them)");
  sub->add_option("--count", o->count, "Other test images, drawn at random, that are attacked")->capture_default_str();
  sub->add_option("--norm", o->norm, "linf, l2 or l1")->capture_default_str();
  sub->add_option("--eps", o->eps, "Radius in pixels of [0,1]: a number, or a fraction such as 8/255")
      ->capture_default_str();
  sub->add_option("--attacks", o->unaware,
                  "Attacks that know the model alone, separated by commas: " + join(attack::attack_names()) +
                      "; cw is in L2, at any distance, whatever the norm")
      ->delimiter(',')
      ->capture_default_str();
  sub->add_option("--adaptive", o->adaptive, "Attacks that have to fool the model and stay unflagged")
      ->delimiter(',')
      ->capture_default_str();
  sub->add_option("--steps", o->steps, "Steps of the attacks that take several")->capture_default_str();
  sub->add_option("--cw-steps", o->cw_steps, "Steps of cw for each of five constants")->capture_default_str();
  sub->add_option("--restarts", o->restarts, "Restarts of the attacks that have a random start")->capture_default_str();
  sub->add_option("--out", o->out, "Write the detector here, for --detector of `attack` and `evaluate`");
  sub->add_option("--json", o->json, "Write the record here; - for standard output");
  sub->callback([o] { run_detect(*o); });
}

}  // namespace pavise::program
