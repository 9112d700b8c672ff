// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>

#include "pavise/attack/pgd.hpp"
#include "pavise/defend/adversarial.hpp"
#include "pavise/defend/batch.hpp"
#include "pavise/defend/strategy.hpp"

namespace pavise::defend {

struct FastOptions {
  double step_factor = 1.25;  ///< step size over epsilon
  double share = 1.0;         ///< of each batch that is perturbed
  bool guard = true;          ///< against catastrophic overfitting
  double tolerance = 0.2;     ///< fall of the accuracy that counts as such
  std::int64_t interval = 0;  ///< updates between two looks; 0: at the end of each epoch
};

/// FGSM with random start (Wong et al. 2020, "Fast is better than free", algorithm 3), with a guard. Training on one
/// large step can collapse within an epoch ("catastrophic overfitting"): the model learns to defeat that step alone,
/// and PGD succeeds on every image. So the guard measures the accuracy under PGD-5 (steps of epsilon/4) on the first
/// minibatch at the end of each epoch. Where it fell by more than `tolerance` since the last look, weights and
/// optimizer go back to that last look, and training goes on with twice as many steps of half the size (at most kLevels
/// times). The paper stops instead.
class Fast : public Strategy {
 public:
  static constexpr int kLevels = 3;

  explicit Fast(attack::Threat threat, FastOptions options = {})
      : threat_(threat), options_(options), inner_(std::make_unique<Adversarial>(adversary(0), options.share)) {
    require(options.step_factor > 0, "fgsm-rs: step factor ", options.step_factor, ", expected more than 0");
    require(options.interval >= 0, "fgsm-rs: interval ", options.interval, ", expected 0 or more");
  }

  std::string name() const override { return "fgsm-rs"; }
  Recipe recipe() const override {
    Recipe out = Adversarial(adversary(0), options_.share).recipe();
    out.emplace_back("guard",
                     options_.guard ? concat("PGD-5 accuracy, tolerance ", options_.tolerance) : std::string("no"));
    if (options_.guard && options_.interval > 0) {
      out.emplace_back("guard_interval", std::to_string(options_.interval));
    }
    return out;
  }
  /// How often it rolled back.
  std::int64_t rollbacks() const { return rollbacks_; }

  void begin(const nn::Model&, std::int64_t) override {
    rollbacks_ = 0;
    looked_at_ = 0;
    accuracy_ = -1;
    good_ = {};
    set_level(0);
  }
  bool runs_on_device() const override { return inner_->runs_on_device(); }
  void craft(Step& step) override { inner_->craft(step); }
  void accumulate(Step& step) override { inner_->accumulate(step); }

  void inspect(Inspection& run) override {
    const bool due = options_.interval > 0 ? run.update() - looked_at_ >= options_.interval : run.end_of_epoch();
    if (!options_.guard || !due) {
      return;
    }
    looked_at_ = run.update();
    const attack::Pgd pgd(threat_, {.steps = 5, .step_size = threat_.epsilon / 4});
    const attack::Seed seed{.seed = run.seed(), .iteration = detail::kMeasuring};
    const double now = batch_accuracy(run.model(), run.first_batch(), &pgd, seed, run.passes()).share();
    if (accuracy_ < 0 || now >= accuracy_ - options_.tolerance) {
      accuracy_ = now;
      good_ = run.snapshot();
      return;
    }
    run.restore(good_);
    ++rollbacks_;
    set_level(std::min(level_ + 1, kLevels));
    run.event(concat("update ", run.update(), ": accuracy under PGD-5 on the first minibatch fell from ", accuracy_,
                     " to ", now, " (catastrophic overfitting); weights rolled back, from now on ",
                     std::int64_t{1} << level_, " steps of ", step_size(level_)));
  }

  void save(StateWriter& out) const override {
    out.put("guard level", level_);
    out.put("guard rollbacks", rollbacks_);
    out.put("guard looked at", looked_at_);
    out.put("guard accuracy", accuracy_);
    detail::put_snapshot(out, "guard state", good_);
  }
  void load(StateReader& in) override {
    const int level = in.get<int>("guard level");
    require<IoError>(level >= 0 && level <= kLevels, in.source(), ": the guard's level is ", level, ", expected 0 to ",
                     kLevels);
    set_level(level);
    rollbacks_ = in.get<std::int64_t>("guard rollbacks");
    looked_at_ = in.get<std::int64_t>("guard looked at");
    accuracy_ = in.get<double>("guard accuracy");
    good_ = detail::get_snapshot(in, "guard state");
  }

 private:
  double step_size(int level) const {
    return options_.step_factor * threat_.epsilon / static_cast<double>(std::int64_t{1} << level);
  }
  attack::Pgd adversary(int level) const {
    return attack::Pgd(threat_, {.steps = std::int64_t{1} << level, .step_size = step_size(level), .name = "fgsm-rs"});
  }
  void set_level(int level) {
    level_ = level;
    inner_ = std::make_unique<Adversarial>(adversary(level), options_.share);
  }

  attack::Threat threat_;
  FastOptions options_;
  std::unique_ptr<Adversarial> inner_;
  int level_ = 0;
  std::int64_t rollbacks_ = 0;
  std::int64_t looked_at_ = 0;
  double accuracy_ = -1;
  Snapshot good_;
};

}  // namespace pavise::defend
