// SPDX-License-Identifier: MIT
// Attacks that follow the sign (or direction) of the gradient: FGSM, BIM, PGD.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "pavise/attack/attack.hpp"
#include "pavise/autodiff/loss.hpp"

namespace pavise::attack {

/// Options of the gradient attacks. A step size of 0 means the attack's own default.
struct PgdOptions {
  std::int64_t steps = 10;
  double step_size = 0.0;
  bool random_start = true;
  bool targeted = false;             ///< labels are targets, and the loss is minimised
  double l1_sparsity = kL1Sparsity;  ///< L1: share of the coordinates that a step moves, at least one of them
  Loss loss = {};                    ///< default: cross-entropy
  std::string name = "pgd";
};

/// Projected gradient descent (Madry et al. 2018, "Towards deep learning models resistant to adversarial attacks"):
/// from a random point of the ball, `steps` steps of
///   x <- clip to the box( project on the ball( x + step_size * direction of the loss's gradient ) )
/// and the last iterate counts. The default step size is 2.5 epsilon / steps, so that the ball's far side is in reach.
/// Linf: sign of the gradient; L2: the gradient over its norm; L1: its largest coordinates.
class Pgd : public Attack {
 public:
  explicit Pgd(Threat threat, PgdOptions options = {}) : Attack(threat), options_(std::move(options)) {
    require(options_.steps >= 1, options_.name, ": ", options_.steps, " steps, expected 1 or more");
    require(options_.l1_sparsity >= 0.0 && options_.l1_sparsity <= 1.0, options_.name, ": L1 sparsity ",
            options_.l1_sparsity, ", expected 0 to 1");
    require(options_.step_size >= 0.0, options_.name, ": step size ", options_.step_size, ", expected 0 or more");
    if (options_.step_size == 0.0) {
      options_.step_size = 2.5 * threat.epsilon / static_cast<double>(options_.steps);
    }
  }

  const PgdOptions& options() const { return options_; }
  std::string name() const override { return options_.name; }
  bool targeted() const override { return options_.targeted; }
  bool random() const override { return options_.random_start; }
  std::optional<Descent> descent() const override {
    if (options_.loss) {
      return {};
    }
    return Descent{.threat = threat(),
                   .alpha = options_.targeted ? -options_.step_size : options_.step_size,
                   .steps = options_.steps,
                   .random_start = options_.random_start,
                   .l1_sparsity = options_.l1_sparsity};
  }

  void perturb_group(const Classifier& model, const LaneBatch<float>& clean, std::int64_t group, float* adversarial,
                     const Seed& seed, Passes& passes) const override {
    const std::int64_t n = clean.size();
    const int lanes = clean.lanes();
    const float* center = clean.values(group);
    auto& tape = thread_tape<float>();
    tape.begin(clean.valid(group), lanes);
    start(clean, group, adversarial, seed, tape);
    const Loss cross_entropy_loss = [](Var<float> logits, const std::int32_t* labels) {
      return cross_entropy(logits, labels);
    };
    Answer answer;
    const double alpha = options_.targeted ? -options_.step_size : options_.step_size;
    for (std::int64_t i = 0; i < options_.steps; ++i) {
      const float* gradient = query(model, adversarial, clean.valid(group), lanes, clean.labels(group),
                                    options_.loss ? options_.loss : cross_entropy_loss, true,
                                    {.seed = seed.seed + seed.iteration,
                                     .ids = clean.ids(group),
                                     .restarts = clean.restarts(group),
                                     .numbers = nullptr,
                                     .number = i},
                                    answer, options_.targeted);
      step(threat(), adversarial, gradient, center, n, lanes, alpha, static_cast<float>(options_.l1_sparsity));
    }
    passes.forward += options_.steps * forward_passes(model, true) * clean.valid(group);
    passes.backward += options_.steps * model.draws() * clean.valid(group);
  }

 private:
  void start(const LaneBatch<float>& clean, std::int64_t group, float* x, const Seed& seed, Tape<float>& tape) const {
    const auto elements = static_cast<std::size_t>(clean.size() * clean.lanes());
    const float* center = clean.values(group);
    if (!options_.random_start || threat().epsilon == 0.0) {
      std::copy(center, center + elements, x);
      return;
    }
    const TapeScope<float> scope(tape);
    float* draws = tape.arena().allocate<float>(
        static_cast<std::size_t>(random_start_size(threat(), clean.size()) * clean.lanes()));
    attack::random_start(threat(), draws, center, clean.size(), clean.lanes(),
                         {.seed = seed.seed,
                          .purpose = static_cast<std::uint32_t>(Purpose::random_start),
                          .iteration = seed.iteration,
                          .image = clean.ids(group),
                          .restart = clean.restarts(group)});
    std::copy(draws, draws + elements, x);
  }

  PgdOptions options_;
};

/// The fast gradient sign method (Goodfellow et al. 2015): one step of epsilon from the image itself. In L2 along the
/// gradient; in L1 all of epsilon on the coordinate with the largest one.
inline Pgd fgsm(Threat threat, PgdOptions options = {}) {
  options.name = "fgsm";
  options.steps = 1;
  options.random_start = false;
  options.l1_sparsity = 0.0;
  options.step_size = options.step_size > 0.0 ? options.step_size : threat.epsilon;
  return Pgd(threat, std::move(options));
}

/// FGSM from a random start with a step of 1.25 epsilon (Wong et al. 2020, "Fast is better than free").
inline Pgd fgsm_rs(Threat threat, PgdOptions options = {}) {
  options.name = "fgsm-rs";
  options.steps = 1;
  options.random_start = true;
  options.step_size = options.step_size > 0.0 ? options.step_size : 1.25 * threat.epsilon;
  return Pgd(threat, std::move(options));
}

/// The basic iterative method (Kurakin et al. 2017): steps of 1/255 from the image itself; without a given number of
/// steps (0), min(255 epsilon + 4, 1.25 * 255 epsilon) of them, rounded up.
inline Pgd bim(Threat threat, PgdOptions options = {}) {
  options.name = "bim";
  options.random_start = false;
  const double levels = threat.epsilon * 255.0 / (threat.high - threat.low);
  if (options.step_size == 0.0) {
    options.step_size = (threat.high - threat.low) / 255.0;
  }
  if (options.steps == 0) {
    options.steps =
        std::max<std::int64_t>(1, static_cast<std::int64_t>(std::ceil(std::min(levels + 4.0, 1.25 * levels))));
  }
  return Pgd(threat, std::move(options));
}

}  // namespace pavise::attack
