// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "pavise/attack/threat.hpp"
#include "pavise/defend/strategy.hpp"

namespace pavise::defend {

struct FreeOptions {
  std::int64_t replays = 8;
  double step_size = 0;  ///< of the perturbation; 0: epsilon
};

/// Free adversarial training (Shafahi et al. 2019, algorithm 1): every minibatch is used `replays` times, and one
/// backward pass gives the gradient of the weights, for the update, and of the images, for the perturbation's own step.
/// The perturbation stays where it is from one minibatch to the next. An epoch makes `replays` updates for each
/// minibatch, so it costs about as much as one of PGD with replays - 1 steps; the paper divides the number of epochs by
/// `replays`.
class Free : public Strategy {
 public:
  explicit Free(attack::Threat threat, FreeOptions options = {}) : threat_(threat), options_(options) {
    require(options_.replays >= 1, "free: ", options_.replays, " replays, expected 1 or more");
    require(options_.step_size >= 0, "free: step size ", options_.step_size, ", expected 0 or more");
    if (options_.step_size == 0) {
      options_.step_size = threat.epsilon;
    }
  }

  std::string name() const override { return "free"; }
  Recipe recipe() const override {
    return {{"defense", "free"},
            {"norm", std::string(attack::norm_name(threat_.norm))},
            {"epsilon", concat(threat_.epsilon)},
            {"box", concat(threat_.low, " ", threat_.high)},
            {"replays", std::to_string(options_.replays)},
            {"step_size", concat(options_.step_size)}};
  }
  bool runs_on_device() const override { return true; }
  std::int64_t replays() const override { return options_.replays; }

  void begin(const nn::Model& model, std::int64_t batch_size) override {
    const std::int64_t groups = (batch_size + kernels::kLanes - 1) / kernels::kLanes;
    delta_.assign(static_cast<std::size_t>(groups * model.input_shape().numel() * kernels::kLanes) + 16, 0.0f);
  }

  void accumulate(Step& step) override {
    const LaneBatch<float>& clean = step.clean;
    const std::int64_t values = clean.size() * kernels::kLanes;
    float* perturbation = delta_.data() + step.images_before / kernels::kLanes * values;
    float* images = step.adversarial.data();
    parallel_for(clean.groups(), [&](std::int64_t g) {
      float* x = images + g * values;
      const float* center = clean.values(g);
      const float* delta = perturbation + g * values;
      for (std::int64_t i = 0; i < values; ++i) {
        x[i] = center[i] + delta[i];
      }
      attack::step(threat_, x, nullptr, center, clean.size(), kernels::kLanes, 0.0);
    });
    step.begin();
    const Var<float> x = step.tape.view(clean.shape(), images, true);
    const Var<float> logits = step.logits(x);
    step.count(logits, clean.images());
    step.backward(cross_entropy(logits, clean.labels(), static_cast<float>(step.label_smoothing)));
    parallel_for(clean.groups(), [&](std::int64_t g) {
      float* moved = images + g * values;
      const float* center = clean.values(g);
      float* delta = perturbation + g * values;
      attack::step(threat_, moved, step.tape.input_gradient(x, g), center, clean.size(), kernels::kLanes,
                   options_.step_size);
      // Lanes behind the last image keep the perturbation of the minibatch before.
      const std::int64_t lanes = clean.valid(g);
      for (std::int64_t e = 0; e < values; e += kernels::kLanes) {
        for (std::int64_t i = e; i < e + lanes; ++i) {
          delta[i] = moved[i] - center[i];
        }
      }
    });
    if (step.team != nullptr) {  // every process has all of it, and saves it
      gather_shares(*step.team, delta_.data(), (step.images() + kernels::kLanes - 1) / kernels::kLanes, values,
                    step.block / kernels::kLanes);
    }
  }

  void save(StateWriter& out) const override { out.put("free perturbation", std::span<const float>(delta_)); }
  void load(StateReader& in) override { in.read("free perturbation", std::span<float>(delta_)); }

 private:
  attack::Threat threat_;
  FreeOptions options_;
  AlignedVector<float> delta_;
};

}  // namespace pavise::defend
