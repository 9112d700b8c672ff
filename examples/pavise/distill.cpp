// SPDX-License-Identifier: MIT
// `pavise distill`: defensive distillation at several temperatures, and what attacks make of it.
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "common.hpp"
#include "pavise/attack/settings.hpp"
#include "pavise/data/catalog.hpp"
#include "pavise/evaluate/distillation.hpp"
#include "pavise/report/training_progress.hpp"
#include "teach.hpp"

namespace pavise::program {
namespace {

struct DistillOptions : Shared {
  std::string model = "small-cnn";
  std::string teacher;
  std::string temperatures = "1,2,5,10,20,50,100";
  std::string eps = "0.1";
  std::int64_t train_count = 0;
  std::int64_t count = 500;
  std::string json;
  defend::TrainOptions train;
  evaluate::DistillationOptions show;
};

nlohmann::json share_json(const evaluate::AttackedShare& s) { return {{"fooled", s.fooled}, {"total", s.total}}; }

std::string percent(double share) {
  char text[32];
  std::snprintf(text, sizeof text, "%.1f %%", 100.0 * share);
  return text;
}

void run_distill(DistillOptions o) {
  o.apply();
  o.require_cpu("distill");
  require(o.count >= 1, "--count ", o.count, ", expected 1 or more");
  const attack::Threat threat = attack::linf(parse_radius(o.eps));
  const std::vector<double> temperatures = parse_radii(o.temperatures);
  for (const double t : temperatures) {
    require(t > 0.0, "--temperatures ", o.temperatures, ": ", t, ", expected more than 0");
  }
  if (!o.json.empty()) {
    prepare_output(o.json);
  }
  data::Split split = data::load(o.data);
  if (o.train_count > 0) {
    split.train = split.train.first(o.train_count);
  }
  const data::Dataset test = split.test.first(o.count);
  nn::ModelOptions model{.seed = o.seed, .input = split.train.image_shape(), .classes = split.train.classes()};
  o.train.seed = o.seed;
  o.show.seed = o.seed;
  const std::string teacher = o.teacher.empty() ? o.model : o.teacher;

  nlohmann::json points = nlohmann::json::array();
  std::FILE* table = o.json == "-" ? stderr : stdout;
  std::fprintf(table, "%5s %9s %9s %9s %10s %9s %9s %9s %9s %9s\n", "T", "teacher", "student", "mean |z|", "zero grad.",
               "fgsm", "jsma", "apgd-dlr", "cw", "cw L2");
  for (const double temperature : temperatures) {
    model.temperature = temperature;
    if (!o.quiet) {
      o.train.progress = report::progress();
      std::fprintf(stderr, "T = %g: teacher, then student\n", temperature);
    }
    const Taught taught = teach(teacher, o.model, model, split.train, o.train);
    const auto right = defend::accuracy(taught.teacher, test);
    const auto r = evaluate::show_distillation(taught.student, test, threat, o.show);
    std::fprintf(table, "%5g %9s %9s %9.3g %10s %9s %9s %9s %9s %9.3f\n", temperature,
                 percent(static_cast<double>(right.correct) / static_cast<double>(right.total)).c_str(),
                 percent(static_cast<double>(r.correct) / static_cast<double>(r.total)).c_str(), r.mean_logit,
                 percent(r.zero_gradients).c_str(), percent(r.fgsm.success()).c_str(),
                 percent(r.jsma.success()).c_str(), percent(r.apgd_dlr.success()).c_str(),
                 percent(r.carlini_wagner.success()).c_str(), r.carlini_wagner_distance);
    std::fflush(table);
    points.push_back({{"temperature", temperature},
                      {"teacher", count(right.correct, right.total)},
                      {"student", count(r.correct, r.total)},
                      {"mean_logit", r.mean_logit},
                      {"zero_gradients", r.zero_gradients},
                      {"zero_derivatives", r.zero_derivatives},
                      {"fgsm", share_json(r.fgsm)},
                      {"jsma", share_json(r.jsma)},
                      {"apgd_dlr", share_json(r.apgd_dlr)},
                      {"carlini_wagner", share_json(r.carlini_wagner)},
                      {"carlini_wagner_distance", r.carlini_wagner_distance}});
  }
  std::fprintf(
      table,
      "Success of attacks: fgsm and apgd-dlr within Linf %s, jsma on the probabilities with 14.5 %% of the pixels, "
      "cw at any distance.\n",
      o.eps.c_str());
  if (!o.json.empty()) {
    nlohmann::json json = record("distillation", o.command, o.seed);
    json["data"] = o.data;
    json["data_note"] = o.data_note;
    json["model"] = o.model;
    json["teacher"] = teacher;
    json["label"] = o.label.empty() ? "distillation" : o.label;
    json["epsilon"] = parse_radius(o.eps);
    json["epochs"] = o.train.epochs;
    json["points"] = std::move(points);
    write_json(o.json, json);
  }
}

}  // namespace

void add_distill(CLI::App& app, const std::string& command) {
  auto o = std::make_shared<DistillOptions>();
  o->command = command;
  auto* sub = app.add_subcommand(
      "distill", "Defensive distillation at several temperatures: gradients vanish, and attacks on the logits succeed");
  o->add_to(*sub);
  sub->add_option("--model", o->model, "The student, one of " + join(nn::model_names()))->capture_default_str();
  sub->add_option("--teacher", o->teacher, "The teacher's network (default: the student's)");
  sub->add_option("--temperatures", o->temperatures, "Temperatures, separated by commas")->capture_default_str();
  sub->add_option("--eps", o->eps, "Linf radius of fgsm and apgd-dlr")->capture_default_str();
  sub->add_option("--count", o->count, "The first images of the test set")->capture_default_str();
  sub->add_option("--train-count", o->train_count, "Train on the first images only (0: on all)");
  sub->add_option("--jsma-count", o->show.jsma_images, "Of these, images for jsma")->capture_default_str();
  sub->add_option("--cw-count", o->show.cw_images, "And for cw")->capture_default_str();
  sub->add_option("--cw-steps", o->show.cw_steps, "Steps of cw for each of five constants")->capture_default_str();
  sub->add_option("--epochs", o->train.epochs, "Passes over the training set, of teacher and student each")
      ->capture_default_str();
  sub->add_option("--batch-size", o->train.batch_size, "Images of one update")->capture_default_str();
  sub->add_option("--optimizer", o->train.optimizer, "sgd, adam or adamw")->capture_default_str();
  sub->add_option("--learning-rate", o->train.learning_rate, "The schedule's largest learning rate")
      ->capture_default_str();
  sub->add_option("--schedule", o->train.schedule, "constant, step, cosine, cyclic or one-cycle")
      ->capture_default_str();
  sub->add_option("--json", o->json, "Write the record here; - for standard output");
  sub->callback([o] { run_distill(*o); });
}

}  // namespace pavise::program
