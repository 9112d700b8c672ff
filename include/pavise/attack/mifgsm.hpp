// SPDX-License-Identifier: MIT
// The momentum iterative method.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "pavise/attack/search.hpp"
#include "pavise/autodiff/loss.hpp"

namespace pavise::attack {

/// Options of MI-FGSM. A step size of 0 means epsilon / steps.
struct MifgsmOptions {
  std::int64_t steps = 10;
  double step_size = 0.0;
  double decay = 1.0;            ///< mu: the share of the momentum that stays; 0 is the basic iterative method
  bool targeted = false;         ///< labels are targets, and the loss is minimised
  bool stop_at_success = false;  ///< else the last iterate counts, which transfers best to other models
  Loss loss = {};                ///< default: cross-entropy
};

/// MI-FGSM (Dong et al. 2018, "Boosting adversarial attacks with momentum", algorithm 1 and equation 8), in Linf and L2,
/// from the image itself:
///   g <- decay g + gradient / ||gradient||_1;  x <- P(x + step_size s(g))
/// with s(g) = sign(g) in Linf and g / ||g||_2 in L2, and P the projection on the ball and then the box. Takes `steps`
/// forward and backward passes. Throws ValueError for L1 and for options out of range.
class Mifgsm : public SearchAttack {
 public:
  explicit Mifgsm(Threat threat, MifgsmOptions options = {}) : SearchAttack(threat), options_(std::move(options)) {
    require(threat.norm != Norm::l1, "mifgsm: norm ", norm_name(threat.norm), ", expected linf or l2");
    require(options_.steps >= 1, "mifgsm: ", options_.steps, " steps, expected 1 or more");
    require(options_.step_size >= 0.0, "mifgsm: step size ", options_.step_size, ", expected 0 or more");
    require(options_.decay >= 0.0, "mifgsm: decay ", options_.decay, ", expected 0 or more");
    if (options_.step_size == 0.0) {
      options_.step_size = threat.epsilon / static_cast<double>(options_.steps);
    }
    custom_ = static_cast<bool>(options_.loss);
    if (!custom_) {
      options_.loss = [](Var<float> logits, const std::int32_t* labels) { return cross_entropy(logits, labels); };
    }
  }

  const MifgsmOptions& options() const { return options_; }
  std::string name() const override { return "mifgsm"; }
  bool targeted() const override { return options_.targeted; }
  bool random() const override { return false; }
  std::optional<Descent> descent() const override {
    if (custom_ || options_.stop_at_success) {
      return {};
    }
    return Descent{.threat = threat(),
                   .alpha = options_.targeted ? -options_.step_size : options_.step_size,
                   .steps = options_.steps,
                   .random_start = false,
                   .momentum = options_.decay};
  }

  std::unique_ptr<Search> search(Lanes& lanes) const override { return std::make_unique<State>(lanes, options_); }

 private:
  struct State : Search {
    State(const Lanes& lanes, const MifgsmOptions& o)
        : options(o), x(lanes.array()), gradient(lanes.array()), momentum(lanes.array()) {
      decay.fill(static_cast<float>(o.decay));
      one.fill(1.0f);
    }
    void start(Lanes& lanes, int lane) override {
      lanes.copy_lane(lanes.clean(), lane, x.data());
      for (std::int64_t i = lane; i < lanes.size() * lanes.width(); i += lanes.width()) {
        momentum[static_cast<std::size_t>(i)] = 0.0f;
      }
    }
    void step(Lanes& lanes) override {
      const std::int64_t n = lanes.size();
      const int width = lanes.width();
      const Answer& answer = lanes.differentiate(x.data(), options.loss, gradient.data());
      for (int lane = 0; options.stop_at_success && lane < width; ++lane) {
        if (lanes.active(lane) && lanes.fooled(answer, lane)) {
          lanes.keep(lane, x.data());
          lanes.finish(lane);
        }
      }
      kernels::run_light([&](auto isa) {
        lane_direction<float>(isa, gradient.data(), gradient.data(), n, width, 1);
        lane_combine<float>(isa, momentum.data(), n, width, momentum.data(), decay.data(), gradient.data(), one.data(),
                            nullptr, nullptr);
      });
      attack::step(lanes.threat(), x.data(), momentum.data(), lanes.clean(), n, width,
                   options.targeted ? -options.step_size : options.step_size);
      for (int lane = 0; lane < width; ++lane) {
        if (lanes.active(lane) && lanes.step(lane) + 1 == options.steps) {
          lanes.keep(lane, x.data());
          lanes.finish(lane);
        }
      }
    }
    const MifgsmOptions& options;
    AlignedVector<float> x, gradient, momentum;
    alignas(64) PerLane<float> decay{}, one{};
  };

  MifgsmOptions options_;
  bool custom_ = false;  ///< a loss of the caller's own
};

}  // namespace pavise::attack
