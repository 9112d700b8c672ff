// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>

#include "pavise/attack/attack.hpp"
#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/defend/strategy.hpp"

namespace pavise::defend {

/// The inner maximisation of TRADES: from the image plus 0.001 times normal noise, `steps` projected steps along the
/// gradient of KL(softmax f(x) || softmax f(x')) with respect to x'. f(x) is computed once and is a constant. Labels
/// play no part.
class DivergenceAttack : public attack::Attack {
 public:
  DivergenceAttack(attack::Threat threat, std::int64_t steps, double step_size)
      : Attack(threat), steps_(steps), step_size_(step_size) {
    require(steps >= 1, "trades: ", steps, " steps, expected 1 or more");
    require(step_size >= 0, "trades: step size ", step_size, ", expected 0 or more");
  }

  std::string name() const override { return "kl-pgd"; }

  void perturb_group(const attack::Classifier& model, const LaneBatch<float>& clean, std::int64_t group,
                     float* adversarial, const attack::Seed& seed, attack::Passes& passes) const override {
    const std::int64_t n = clean.size();
    const int lanes = clean.lanes();
    float* center = const_cast<float*>(clean.values(group));  // read only: an input that is not watched
    auto& tape = thread_tape<float>();
    tape.begin(clean.valid(group), lanes);
    const auto logit_count = static_cast<std::size_t>(model.classes()) * static_cast<std::size_t>(lanes);
    float* clean_logits = tape.arena().allocate<float>(logit_count);
    {
      const TapeScope<float> scope(tape);
      std::copy_n(model(tape.view(clean.shape(), center)).data(), logit_count, clean_logits);
    }
    start(clean, group, adversarial, seed);
    for (std::int64_t i = 0; i < steps_; ++i) {
      const TapeScope<float> scope(tape);
      const Var<float> x = tape.view(clean.shape(), adversarial, true);
      const Var<float> logits = model(x);
      tape.backward(kl_divergence(tape.view(logits.shape(), clean_logits), logits));
      attack::step(threat(), adversarial, tape.input_gradient(x), center, n, lanes, step_size_);
    }
    passes.forward += (steps_ + 1) * clean.valid(group);
    passes.backward += steps_ * clean.valid(group);
  }

 private:
  /// x' = x + 0.001 N(0,1); product and sum are two loops, so that no compiler contracts them.
  void start(const LaneBatch<float>& clean, std::int64_t group, float* x, const attack::Seed& seed) const {
    const std::int64_t values = clean.size() * clean.lanes();
    const kernels::LaneKeys keys{.seed = seed.seed,
                                 .purpose = static_cast<std::uint32_t>(Purpose::random_start),
                                 .iteration = seed.iteration,
                                 .image = clean.ids(group),
                                 .restart = clean.restarts(group)};
    kernels::run([&](auto isa) { random_normal<float>(isa, x, clean.size(), clean.lanes(), keys); });
    for (std::int64_t i = 0; i < values; ++i) {
      x[i] *= 0.001f;
    }
    const float* from = clean.values(group);
    for (std::int64_t i = 0; i < values; ++i) {
      x[i] += from[i];
    }
    attack::step(threat(), x, nullptr, from, clean.size(), clean.lanes(), 0.0);
  }

  std::int64_t steps_;
  double step_size_;
};

/// CE(f(x), y) + beta * KL(softmax f(x) || softmax f(x')), one number for each image: the loss of TRADES.
template <class T>
Var<T> trades_loss(Var<T> clean, Var<T> adversarial, const std::int32_t* labels, std::type_identity_t<T> beta,
                   std::type_identity_t<T> smoothing = 0) {
  const Var<T> divergence = scale(kl_divergence(clean, adversarial), beta);  // first, whatever the compiler prefers
  return cross_entropy(clean, labels, smoothing) + divergence;
}

struct TradesOptions {
  double beta = 6.0;
  std::int64_t steps = 10;
  double step_size = 0;  ///< 0: epsilon/4
};

/// TRADES (Zhang et al. 2019, algorithm 1): trains on the clean images' cross-entropy and, beta times, on how far the
/// prediction can be moved. The sum is divided by the images of the batch that are there; the paper's code divides a
/// short last batch by the full size. Clean and perturbed images are two passes, each with its own batch statistics, as
/// there.
class Trades : public Strategy {
 public:
  explicit Trades(attack::Threat threat, TradesOptions options = {})
      : beta_(options.beta),
        steps_(options.steps),
        step_size_(options.step_size > 0 ? options.step_size : threat.epsilon / 4),
        attack_(threat, options.steps, step_size_) {
    require(std::isfinite(options.beta) && options.beta >= 0, "trades: beta ", options.beta, ", expected 0 or more");
    require(options.step_size >= 0, "trades: step size ", options.step_size, ", expected 0 or more");
  }

  std::string name() const override { return "trades"; }
  Recipe recipe() const override {
    return {{"defense", "trades"},
            {"norm", std::string(attack::norm_name(attack_.threat().norm))},
            {"epsilon", concat(attack_.threat().epsilon)},
            {"box", concat(attack_.threat().low, " ", attack_.threat().high)},
            {"beta", concat(beta_)},
            {"steps", std::to_string(steps_)},
            {"step_size", concat(step_size_)}};
  }
  bool runs_on_device() const override { return true; }
  void craft(Step& step) override { detail::perturb_first(step, attack_, step.clean.images()); }
  void accumulate(Step& step) override {
    step.begin();
    const Var<float> clean = step.logits(step.tape.view(step.clean.shape(), step.clean.values()));
    const Var<float> adversarial = step.logits(step.tape.view(step.clean.shape(), step.adversarial.data()));
    step.count(clean, 0);
    step.count(adversarial, step.clean.images());
    step.backward(trades_loss(clean, adversarial, step.clean.labels(), static_cast<float>(beta_),
                              static_cast<float>(step.label_smoothing)));
  }

 private:
  double beta_;
  std::int64_t steps_;
  double step_size_;
  DivergenceAttack attack_;
};

}  // namespace pavise::defend
