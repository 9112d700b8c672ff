// SPDX-License-Identifier: MIT
// Training of networks that are to be smoothed with Gaussian noise (certify/smoothing.hpp), beyond noise on the training
// images: every update sees several draws of the noise of each image.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/attack.hpp"
#include "pavise/autodiff/noise.hpp"
#include "pavise/defend/smoothing_losses.hpp"
#include "pavise/defend/strategy.hpp"

namespace pavise::defend {

/// The noise of a training for smoothing.
struct NoiseOptions {
  double sigma = 0.25;     ///< its deviation, in units of the pixels; not clipped to the box
  std::int64_t draws = 2;  ///< of each image, in every update

  void check(const char* what) const {
    require(std::isfinite(sigma) && sigma > 0, what, ": sigma ", sigma, ", expected more than 0");
    require(draws >= 1 && draws <= 1024, what, ": ", draws, " draws of the noise, expected 1 to 1024");
  }
};

namespace detail {

/// Logits of x under each of the draws of the noise. They are a function of the pass's key: passes with equal keys see
/// the same noise.
template <class Model>
std::vector<Var<float>> noisy_logits(const Model& model, Var<float> x, const NoiseOptions& noise) {
  std::vector<Var<float>> out;
  for (std::int64_t draw = 0; draw < noise.draws; ++draw) {
    out.push_back(model(
        gaussian_noise(x, static_cast<float>(noise.sigma), Purpose::gaussian_noise, static_cast<std::uint32_t>(draw))));
  }
  return out;
}

/// What these trainings share: the noise, and its place in the recipe.
class NoisyStrategy : public Strategy {
 public:
  std::string name() const override { return name_; }
  Recipe recipe() const override {
    Recipe out{{"defense", name_}, {"gaussian_sigma", concat(noise_.sigma)}, {"draws", concat(noise_.draws)}};
    for (const auto& [key, value] : settings_) {
      out.emplace_back(key, concat(value));
    }
    return out;
  }
  bool runs_on_device() const override { return true; }

 protected:
  NoisyStrategy(const char* name, NoiseOptions noise, std::vector<std::pair<const char*, double>> settings)
      : name_(name), noise_(noise), settings_(std::move(settings)) {
    noise.check(name);
    for (const auto& [key, value] : settings_) {
      require(std::isfinite(value) && value >= 0, name, ": ", key, " ", value, ", expected 0 or more");
    }
  }

  const NoiseOptions& noise() const { return noise_; }
  /// A pass over the noisy draws of `images`, which lie as step.clean does; loss(logits of the draws) is trained on. Of
  /// the predictions those for the first draw are counted.
  template <class Loss>
  void train_on(Step& step, float* images, bool adversarial, const Loss& loss) {
    step.begin();
    const auto logits =
        noisy_logits([&](Var<float> v) { return step.logits(v); }, step.tape.view(step.clean.shape(), images), noise_);
    step.count(logits.front(), adversarial ? step.clean.images() : 0);
    const std::int64_t more = (noise_.draws - 1) * step.clean.images();
    step.passes.forward += more;
    step.passes.backward += more;
    step.backward(loss(std::span(logits)));
  }
  void no_smoothing(const Step& step) const {
    require(step.label_smoothing == 0, name_, ": its loss has no label smoothing, got ", step.label_smoothing);
  }

 private:
  const char* name_;
  NoiseOptions noise_;
  std::vector<std::pair<const char*, double>> settings_;
};

}  // namespace detail

struct ConsistencyOptions {
  NoiseOptions noise = {};
  double lambda = 10;  ///< weight of the divergence; the paper's at sigma 0.25, and 5 at larger sigma
  double eta = 0.5;    ///< weight of the entropy
};

/// Consistency regularisation (Jeong and Shin, "Consistency regularization for certified robustness of smoothed
/// classifiers", NeurIPS 2020): see consistency_loss.
class Consistency : public detail::NoisyStrategy {
 public:
  explicit Consistency(ConsistencyOptions options = {})
      : NoisyStrategy("consistency", options.noise, {{"lambda", options.lambda}, {"eta", options.eta}}), o_(options) {}

  void accumulate(Step& step) override {
    train_on(step, step.clean.values(), false, [&](std::span<const Var<float>> z) {
      return consistency_loss(z, step.clean.labels(), static_cast<float>(o_.lambda), static_cast<float>(o_.eta),
                              static_cast<float>(step.label_smoothing));
    });
  }

 private:
  ConsistencyOptions o_;
};

struct StabilityOptions {
  double sigma = 0.25;
  double lambda = 2;
};

/// Stability training (Zheng et al. 2016; Li et al. 2019): see stability_loss. One draw of the noise, and the clean image.
class Stability : public detail::NoisyStrategy {
 public:
  explicit Stability(StabilityOptions options = {})
      : NoisyStrategy("stability", {.sigma = options.sigma, .draws = 1}, {{"lambda", options.lambda}}), o_(options) {}

  void accumulate(Step& step) override {
    train_on(step, step.clean.values(), false, [&](std::span<const Var<float>> noisy) {
      const Var<float> clean = step.logits(step.tape.view(step.clean.shape(), step.clean.values()));
      step.passes.forward += step.clean.images();
      step.passes.backward += step.clean.images();
      return stability_loss(clean, noisy.front(), step.clean.labels(), static_cast<float>(o_.lambda),
                            static_cast<float>(step.label_smoothing));
    });
  }

 private:
  StabilityOptions o_;
};

struct MacerOptions {
  NoiseOptions noise = {.sigma = 0.25, .draws = 16};
  double lambda = 12;  ///< the paper's at sigma 0.25 (CIFAR-10)
  double gamma = 8;    ///< the radius that is enough, in units of sigma/2
  double beta = 16;    ///< inverse temperature of the softmax that stands for votes
};

/// MACER (Zhai et al., "MACER: attack-free and scalable robust training via maximizing certified radius", ICLR 2020): see
/// macer_loss.
class Macer : public detail::NoisyStrategy {
 public:
  explicit Macer(MacerOptions options = {})
      : NoisyStrategy("macer", options.noise,
                      {{"lambda", options.lambda}, {"gamma", options.gamma}, {"beta", options.beta}}),
        o_(options) {}

  void accumulate(Step& step) override {
    no_smoothing(step);
    train_on(step, step.clean.values(), false, [&](std::span<const Var<float>> z) {
      return macer_loss(z, step.clean.labels(), static_cast<float>(o_.noise.sigma), static_cast<float>(o_.lambda),
                        static_cast<float>(o_.gamma), static_cast<float>(o_.beta));
    });
  }

 private:
  MacerOptions o_;
};

/// The adversary of SmoothAdv: from the image itself, `steps` projected steps that raise mean_probability_loss over draws
/// of the noise, the same ones in every step. They are those of a training pass with the same seed and iteration.
class SmoothedPgd : public attack::Attack {
 public:
  SmoothedPgd(attack::Threat threat, NoiseOptions noise, std::int64_t steps)
      : Attack(threat), noise_(noise), steps_(steps) {
    noise.check("smoothadv");
    require(steps >= 1, "smoothadv: ", steps, " steps, expected 1 or more");
  }

  std::string name() const override { return "smoothed-pgd"; }
  bool random() const override { return false; }

  void perturb_group(const attack::Classifier& model, const LaneBatch<float>& clean, std::int64_t group,
                     float* adversarial, const attack::Seed& seed, attack::Passes& passes) const override {
    const float* center = clean.values(group);
    std::copy_n(center, clean.size() * clean.lanes(), adversarial);
    auto& tape = thread_tape<float>();
    tape.begin(clean.valid(group), clean.lanes());
    tape.set_key({.seed = seed.seed, .iteration = seed.iteration, .images = clean.ids(group)});
    const double step_size = 2 * threat().epsilon / static_cast<double>(steps_);
    for (std::int64_t i = 0; i < steps_; ++i) {
      const TapeScope<float> scope(tape);
      const Var<float> x = tape.view(clean.shape(), adversarial, true);
      const auto logits = detail::noisy_logits(model, x, noise_);
      tape.backward(mean_probability_loss<float>(logits, clean.labels(group)));
      attack::step(threat(), adversarial, tape.input_gradient(x), center, clean.size(), clean.lanes(), step_size);
    }
    passes.forward += steps_ * noise_.draws * clean.valid(group);
    passes.backward += steps_ * noise_.draws * clean.valid(group);
  }

 private:
  NoiseOptions noise_;
  std::int64_t steps_;
};

struct SmoothAdvOptions {
  NoiseOptions noise = {};
  std::int64_t steps = 10;
  std::int64_t warmup_epochs = 10;  ///< over which the radius grows to epsilon
};

/// SmoothAdv (Salman et al., "Provably robust deep learning via adversarially trained smoothed classifiers", NeurIPS
/// 2019, algorithm 1): adversarial training of the smoothed classifier. The cross-entropy of every noisy draw of the
/// adversarial image is trained on, the draws being those that the adversary saw. Throws ValueError for a ball that is
/// not of L2, the norm in which Gaussian noise certifies.
class SmoothAdv : public detail::NoisyStrategy {
 public:
  explicit SmoothAdv(attack::Threat threat, SmoothAdvOptions options = {})
      : NoisyStrategy("smoothadv", options.noise,
                      {{"epsilon", threat.epsilon},
                       {"steps", static_cast<double>(options.steps)},
                       {"warmup_epochs", static_cast<double>(options.warmup_epochs)}}),
        threat_(threat),
        o_(options) {
    require(threat.norm == attack::Norm::l2, "smoothadv: a ball of ", attack::norm_name(threat.norm),
            ", expected l2, in which Gaussian noise certifies");
    (void)SmoothedPgd(threat, options.noise, options.steps);  // checks them
  }

  void craft(Step& step) override {
    const double share =
        step.epoch < o_.warmup_epochs ? static_cast<double>(step.epoch + 1) / static_cast<double>(o_.warmup_epochs) : 1;
    const SmoothedPgd attack(threat_.with_epsilon(share * threat_.epsilon), o_.noise, o_.steps);
    detail::perturb_first(step, attack, step.clean.images());
  }
  void accumulate(Step& step) override {
    train_on(step, step.adversarial.data(), true, [&](std::span<const Var<float>> z) {
      return detail::mean_over_draws(z, [&](Var<float> logits) {
        return cross_entropy(logits, step.clean.labels(), static_cast<float>(step.label_smoothing));
      });
    });
  }

 private:
  attack::Threat threat_;
  SmoothAdvOptions o_;
};

}  // namespace pavise::defend
