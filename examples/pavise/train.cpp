// SPDX-License-Identifier: MIT
// `pavise train`: a model, its file and the record of how it came about.
#include <cstdio>
#include <filesystem>
#include <map>
#include <memory>

#include "common.hpp"
#include "pavise/data/catalog.hpp"
#include "pavise/defend/filter/within.hpp"
#include "pavise/defend/presets.hpp"
#include "pavise/defend/trainer.hpp"
#include "pavise/device/accelerator.hpp"
#include "pavise/io/model_file.hpp"
#include "pavise/nn/models.hpp"
#include "pavise/nn/summary.hpp"
#include "pavise/report/training_progress.hpp"
#include "teach.hpp"
#include "team.hpp"

namespace pavise::program {
namespace {

struct TrainOptions : Shared {
  std::string model = "small-cnn";
  std::string init = "torch";
  std::string out;
  std::string runs;
  std::string resume;
  std::int64_t train_count = 0;
  bool summary = false;
  std::string norm = "linf";
  std::string eps = "0.1";
  std::string step_size;
  std::string defense = "none";
  std::string teacher;
  double temperature = 20.0;
  std::vector<std::string> filters;
  defend::DefenseOptions preset;
  defend::TrainOptions train;
};

nlohmann::json count_or_null(const defend::Count& c) {
  return c.total > 0 ? count(c.correct, c.total) : nlohmann::json(nullptr);
}

nlohmann::json history_json(const defend::History& history) {
  nlohmann::json epochs = nlohmann::json::array();
  for (const auto& e : history.epochs) {
    // What the report draws: the validation set where there is one, else what the passes themselves saw.
    const auto& clean = e.validation.total > 0 ? e.validation : e.clean;
    const auto& adversarial = e.validation_adversarial.total > 0 ? e.validation_adversarial : e.adversarial;
    epochs.push_back({{"epoch", e.epoch + 1},
                      {"loss", e.loss},
                      {"accuracy", count_or_null(clean)},
                      {"adversarial_accuracy", count_or_null(adversarial)},
                      {"learning_rate", e.learning_rate},
                      {"seconds", e.seconds},
                      {"images_per_second", e.images_per_second},
                      {"events", e.events}});
  }
  return epochs;
}

std::string default_out(const TrainOptions& o) {
  return (std::filesystem::path(o.runs.empty() ? "." : o.runs) / (o.defense + ".safetensors")).string();
}

void run_train(TrainOptions o) {
  o.apply();
  const std::string out = o.out.empty() ? default_out(o) : o.out;
  const attack::Threat threat(attack::parse_norm(o.norm), parse_radius(o.eps));
  if (!o.step_size.empty()) {
    o.preset.step_size = parse_radius(o.step_size);
    require(o.preset.step_size > 0.0, "--step-size ", o.step_size, ", expected more than 0");
  }
  o.train.seed = o.seed;
  o.train.checkpoint = o.resume;
  o.train.team = o.team;
  o.preset.gaussian_sigma = o.train.gaussian_sigma;
  const bool distill = o.defense == "distill";
  require(distill || o.teacher.empty(), "--teacher ", o.teacher, " goes with --defense distill");
  require(!distill || o.filters.empty(), "--filter does not go with --defense distill");
  const auto filters = make_filters(o.filters);
  const defend::Defense defense = distill ? defend::Defense{} : defend::make_defense(o.defense, threat, o.preset);
  o.train.gaussian_sigma = distill ? o.train.gaussian_sigma : defense.gaussian_sigma;
  prepare_output(out);
  data::Split split = data::load(o.data);
  if (o.train_count > 0) {
    split.train = split.train.first(o.train_count);
  }
  nn::ModelOptions model_options;
  model_options.seed = o.seed;
  model_options.input = filters.output_shape(split.train.image_shape());
  model_options.classes = split.train.classes();
  require(o.init == "torch" || o.init == "he" || o.init == "xavier", "unknown initialisation ", o.init,
          ", expected torch, he or xavier");
  model_options.init = o.init == "he" ? nn::Init::he : o.init == "xavier" ? nn::Init::xavier : nn::Init::torch;
  model_options.temperature = distill ? o.temperature : 1.0;
  nn::Model model = nn::make_model(o.model, model_options);
  if (!filters.empty()) {
    model = defend::with_filters(filters, model, split.train.image_shape());
  }
  if (o.summary && o.writes()) {
    std::printf("%s\n", nn::summary(model).c_str());
  }

  if (o.shows_progress()) {
    o.train.progress = report::progress();
  }
  std::shared_ptr<device::Peers> peers;  // GPUs of other processes
  if (const Device on = o.chosen_device(); on.is_cuda()) {
    peers = make_peers(o.team, on);
    o.train.accelerate = device::training(on, device::parse_arithmetic(o.arithmetic), peers);
  }
  const Stopwatch watch;
  defend::History history;
  defend::Recipe settings_of_training;
  if (distill) {
    Taught taught = teach(o.teacher.empty() ? o.model : o.teacher, o.model, model_options, split.train, o.train);
    model = std::move(taught.student);
    history = std::move(taught.history);
    settings_of_training = o.train.recipe();
    settings_of_training.insert(settings_of_training.begin(),
                                {{"teacher", taught.teacher.name()}, {"temperature", concat(o.temperature)}});
    const std::string teacher_file = std::filesystem::path(out).replace_extension(".teacher.safetensors").string();
    if (o.writes()) {
      io::save_model(teacher_file, taught.teacher,
                     {{"defense", "none"}, {"label", "teacher"}, {"data", o.data}, {"command", o.command}});
    }
  } else {
    defend::Trainer trainer(defense.strategy, o.train);
    history = trainer.fit(model, split.train);
    settings_of_training = trainer.recipe();
  }
  const double seconds = watch.seconds();
  if (!o.writes()) {
    return;
  }

  const std::string label = o.label.empty() ? o.defense : o.label;
  std::map<std::string, std::string> recipe{{"defense", o.defense}, {"label", label}, {"data", o.data},
                                            {"command", o.command}, {"norm", o.norm}, {"eps", o.eps}};
  if (!filters.empty()) {
    settings_of_training.emplace_back("filters", filters.to_string());
  }
  nlohmann::json settings = nlohmann::json::object();
  for (const auto& [key, value] : settings_of_training) {
    recipe[key] = value;
    settings[key] = value;
  }
  io::save_model(out, model, recipe);

  nlohmann::json json = record("training", o.command, o.seed);
  json["data"] = o.data;
  json["data_note"] = o.data_note;
  json["model"] = model.name();
  json["model_file"] = out;
  json["parameters"] = history.parameters;
  json["defense"] = o.defense;
  json["label"] = label;
  json["recipe"] = std::move(settings);
  json["history"] = history_json(history);
  json["passes"] = {{"forward", history.forward_passes}, {"backward", history.backward_passes}};
  json["false_labels"] = history.false_labels;
  json["seconds"] = seconds;
  json["device"] = o.device;
  json["arithmetic"] = o.arithmetic;
  json["processes"] = o.team != nullptr ? o.team->size() : 1;
  json["peers"] = peers != nullptr ? nlohmann::json(peers->name()) : nlohmann::json(nullptr);
  const std::string record_path = std::filesystem::path(out).replace_extension(".training.json").string();
  write_json(record_path, json);
  const auto& last = history.epochs.back();
  std::printf("%s: %s, %lld parameters, %lld epochs in %.1f s, loss %.4f\n", out.c_str(), label.c_str(),
              static_cast<long long>(history.parameters), static_cast<long long>(history.epochs.size()), seconds,
              last.loss);
}

}  // namespace

void add_train(CLI::App& app, const std::string& command, Communicator* team) {
  auto o = std::make_shared<TrainOptions>();
  o->command = command;
  o->team = team;
  auto* sub = app.add_subcommand("train", "Trains a model, plainly or with a defence");
  o->add_to(*sub);
  sub->add_option("--model", o->model, "One of " + join(nn::model_names()))->capture_default_str();
  sub->add_option("--init", o->init, "Initial weights: torch, he or xavier")->capture_default_str();
  sub->add_flag("--summary", o->summary, "Print the layers, their shapes and parameters");
  sub->add_option("--out", o->out, "The model's file (safetensors); its record goes beside it as .training.json");
  sub->add_option("--runs", o->runs, "Directory for the model's file where --out is not given");
  sub->add_option("--train-count", o->train_count, "Train on the first images only (0: on all)");
  sub->add_option("--defense", o->defense, "One of " + join(defend::defense_names()) + ", distill")
      ->capture_default_str();
  sub->add_option("--temperature", o->temperature, "distill: temperature of the softmax in training")
      ->capture_default_str();
  sub->add_option("--teacher", o->teacher,
                  "distill: the teacher's network (default: the student's); its file goes beside");
  sub->add_option(
      "--filter", o->filters,
      "A filter of the images as the model's first layer, such as thermometer:16; may be given several times");
  sub->add_option("--norm", o->norm, "Norm of the attack in training: linf, l2 or l1")->capture_default_str();
  sub->add_option("--eps", o->eps, "Its radius in pixels of [0,1]: a number, or a fraction such as 8/255")
      ->capture_default_str();
  sub->add_option("--steps", o->preset.steps, "Its steps (0: the defence's own)")->capture_default_str();
  sub->add_option("--step-size", o->step_size, "Its step size (default: the defence's own)");
  sub->add_option("--beta", o->preset.beta,
                  "Weight of the second term of trades, mart, stability, macer and consistency (0: the defence's own)")
      ->capture_default_str();
  sub->add_option("--draws", o->preset.draws,
                  "Draws of the noise for each image: macer, consistency, smoothadv (0: the defence's own)")
      ->capture_default_str();
  sub->add_option("--warmup-epochs", o->preset.warmup_epochs, "Epochs in which the radius of smoothadv grows (10)");
  sub->add_option("--awp-gamma", o->preset.awp_gamma, "Size of the perturbation of the weights (0: the defence's own)")
      ->capture_default_str();
  sub->add_option("--guard", o->preset.guard, "fgsm-rs: roll back at catastrophic overfitting")->capture_default_str();
  sub->add_option("--adversarial-share", o->preset.share, "Share of each batch that is perturbed")
      ->capture_default_str();
  sub->add_option("--epochs", o->train.epochs, "Passes over the training set")->capture_default_str();
  sub->add_option("--batch-size", o->train.batch_size, "Images of one update")->capture_default_str();
  sub->add_option("--optimizer", o->train.optimizer, "sgd, adam or adamw")->capture_default_str();
  sub->add_option("--learning-rate", o->train.learning_rate, "The schedule's largest learning rate")
      ->capture_default_str();
  sub->add_option("--schedule", o->train.schedule, "constant, step, cosine, cyclic or one-cycle")
      ->capture_default_str();
  sub->add_option("--momentum", o->train.optimizer_options.momentum, "Momentum of sgd")->capture_default_str();
  sub->add_option("--weight-decay", o->train.optimizer_options.weight_decay, "Weight decay")->capture_default_str();
  sub->add_option("--clip-norm", o->train.clip_norm, "Largest norm of the gradient (0: not clipped)")
      ->capture_default_str();
  sub->add_option("--average-decay", o->train.average_decay, "Moving average of the weights (0: none)")
      ->capture_default_str();
  sub->add_option("--label-smoothing", o->train.label_smoothing, "Label smoothing")->capture_default_str();
  sub->add_option("--label-noise", o->train.label_noise, "Share of the training labels that are replaced by false ones")
      ->capture_default_str();
  sub->add_option("--gaussian-sigma", o->train.gaussian_sigma, "Deviation of the Gaussian noise on the training images")
      ->capture_default_str();
  sub->add_flag("--flip", o->train.augmentation.flip, "Flip images at random");
  sub->add_option("--crop-padding", o->train.augmentation.crop_padding,
                  "Random crops after padding by this many pixels");
  sub->add_option("--cutout", o->train.augmentation.cutout, "Side of a square that is cut out");
  sub->add_option("--validation", o->train.validation_size, "Training images that are held back for validation")
      ->capture_default_str();
  sub->add_option("--checkpoint", o->resume, "Keep a checkpoint here, and go on from it if it is there");
  sub->add_option("--checkpoint-interval", o->train.checkpoint_interval,
                  "Updates between checkpoints (0: one an epoch)")
      ->capture_default_str();
  sub->callback([o] { run_train(*o); });
}

}  // namespace pavise::program
