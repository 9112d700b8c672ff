// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>

#include "pavise/attack/threat.hpp"
#include "pavise/defend/interval_network.hpp"
#include "pavise/defend/strategy.hpp"

namespace pavise::defend {

struct IbpOptions {
  bool crown = false;    ///< CROWN-IBP
  double kappa = 0.5;    ///< share of the clean loss in the end
  double warm_up = 0.1;  ///< share of all updates that are plain training
  double ramp = 0.5;     ///< share of all updates, after that, in which the radius grows to its full size
};

/// kappa CE(z, y) + (1 - kappa) CE(-margins, y), one number for each image, where the margins (classes) are lower bounds
/// of z[y] - z[j]: -margins are the worst logits, up to a number that no softmax sees (Gowal et al. 2019, equation 10).
template <class T>
Var<T> verified_loss(Var<T> clean, Var<T> margins, const std::int32_t* labels, std::type_identity_t<T> kappa,
                     std::type_identity_t<T> smoothing = 0) {
  return cross_entropy(clean, labels, smoothing) * kappa + cross_entropy(-margins, labels, smoothing) * (T{1} - kappa);
}

/// Training of bounds in a Linf ball: interval bound propagation (Gowal et al., "Scalable verified training for provably
/// robust image classification", ICCV 2019), and CROWN-IBP (Zhang et al., "Towards stable and efficient training of
/// verifiably robust neural networks", ICLR 2020), whose margins are beta times those of linear bounds through the
/// intervals plus 1 - beta times the intervals' own. After the warm-up the radius grows linearly from 0 to epsilon, kappa
/// falls from 1 and beta from 1 to 0 with it. In the records of epochs, adversarial images are those that the margins of
/// the update verify.
class Ibp : public Strategy {
 public:
  explicit Ibp(attack::Threat threat, IbpOptions options = {}) : threat_(threat), options_(options) {
    require(threat.norm == attack::Norm::linf, name(), ": the norm is ", attack::norm_name(threat.norm),
            ", expected linf");
    require(options.kappa >= 0 && options.kappa <= 1, name(), ": kappa ", options.kappa, ", expected 0 to 1");
    require(options.warm_up >= 0 && options.ramp >= 0 && options.warm_up + options.ramp <= 1, name(), ": warm-up ",
            options.warm_up, " and ramp ", options.ramp, " of the updates, expected 0 or more and at most 1 together");
  }

  std::string name() const override { return options_.crown ? "crown-ibp" : "ibp"; }
  Recipe recipe() const override {
    return {{"defense", name()},
            {"norm", std::string(attack::norm_name(threat_.norm))},
            {"epsilon", concat(threat_.epsilon)},
            {"box", concat(threat_.low, " ", threat_.high)},
            {"kappa", concat(options_.kappa)},
            {"warm_up", concat(options_.warm_up)},
            {"ramp", concat(options_.ramp)}};
  }
  void begin(const nn::Model& model, std::int64_t) override {
    network_ = std::make_unique<IntervalNetwork<float>>(options_.crown ? "crown-ibp" : "ibp", model, options_.crown);
    const Shape& in = model.input_shape();
    const Shape ends{2 * in[0], in[1], in[2]};
    const std::int64_t classes = model.classes();
    ends_ = std::make_unique<const attack::Part>(
        attack::Part{"the intervals of " + model.name(), ends, [this](Var<float> pixels) {
                       const Interval<float> last = network_->propagate(split(pixels)).back();
                       return flatten(concat(last.low, last.high, 0));
                     }});
    linear_ = std::make_unique<const attack::Part>(attack::Part{
        "the linear bounds of " + model.name(), Shape{ends.numel() + classes * classes}, [=, this](Var<float> x) {
          const auto trace = network_->propagate(split(reshape(slice(x, 0, 0, ends.numel()), ends)));
          const Var<float> functions = reshape(slice(x, 0, ends.numel(), x.size()), Shape{classes, classes});
          const Var<float> last = flatten(concat(trace.back().low, trace.back().high, 0));
          return concat(last, network_->crown_margins(trace, functions), 0);
        }});
  }
  /// The intervals and CROWN's margins; those of the intervals are the host's.
  bool runs_on_device() const override { return true; }
  void accumulate(Step& step) override {
    const double grown = growth(step);
    if (grown == 0) {
      detail::cross_entropy_pass(step, step.clean.values(), 0);
      return;
    }
    step.begin();
    const Var<float> clean = step.logits(step.tape.view(step.clean.shape(), step.clean.values()));
    step.count(clean, 0);
    const std::int32_t* labels = step.clean.labels();
    const auto [trace, linear] = bounds(step, threat_.epsilon * grown, options_.crown && grown < 1);
    Var<float> margins = network_->margins(trace, labels);
    if (linear) {
      const auto beta = static_cast<float>(1 - grown);
      margins = linear * beta + margins * (1 - beta);
    }
    step.count(-margins, step.clean.images());
    step.backward(verified_loss(clean, margins, labels, static_cast<float>(1 - grown * (1 - options_.kappa)),
                                static_cast<float>(step.label_smoothing)));
    if (step.device != nullptr && step.team != nullptr) {  // the margins' share of the gradient is of one process
      broadcast(*step.team, step.model.parameters().gradients(), step.team->size() - 1);
    }
  }

 private:
  /// Both halves of a value along its first axis.
  static Interval<float> split(Var<float> both) {
    const std::int64_t half = both.shape()[0] / 2;
    return {slice(both, 0, 0, half), slice(both, 0, half, 2 * half)};
  }

  struct Bounds {
    IntervalNetwork<float>::Trace trace;  ///< the intervals in front of each layer; from a device of the last one alone
    Var<float> linear;                    ///< CROWN's margins, where they are asked for
  };
  Bounds bounds(Step& step, double radius, bool crown) const {
    const Interval<float> pixels = ball(step, radius);
    const auto functions = [&] { return network_->differences(step.tape, step.clean.labels()); };
    if (step.device == nullptr) {
      const auto trace = network_->propagate(pixels);
      return {trace, crown ? network_->crown_margins(trace, functions()) : Var<float>{}};
    }
    Var<float> x = concat(pixels.low, pixels.high, 0);
    if (crown) {
      x = concat(flatten(x), flatten(functions()), 0);
    }
    const Var<float> y = step.device->apply(crown ? *linear_ : *ends_, x, step.images());
    const std::int64_t n = 2 * network_->last_input().numel();
    const Interval<float> ends = split(slice(y, 0, 0, n));
    return {{{reshape(ends.low, network_->last_input()), reshape(ends.high, network_->last_input())}},
            crown ? slice(y, 0, n, y.size()) : Var<float>{}};
  }

  /// The share of the radius that an update trains with: 0 in the warm-up, 1 behind the ramp.
  double growth(const Step& step) const {
    if (step.update >= step.updates) {
      return 1;
    }
    const double done = static_cast<double>(step.update) / static_cast<double>(step.updates) - options_.warm_up;
    return done <= 0 ? 0 : done >= options_.ramp ? 1 : done / options_.ramp;
  }

  /// The pixels' intervals: constants.
  Interval<float> ball(Step& step, double radius) const {
    Interval<float> out{step.tape.input(step.clean.shape()), step.tape.input(step.clean.shape())};
    const auto r = static_cast<float>(radius);
    const auto low = static_cast<float>(threat_.low);
    const auto high = static_cast<float>(threat_.high);
    step.tape.each_group([&](std::int64_t g) {
      const float* x = step.clean.values(g);
      for (std::int64_t i = 0; i < out.low.size() * kernels::kLanes; ++i) {
        out.low.data(g)[i] = std::clamp(x[i] - r, low, high);
        out.high.data(g)[i] = std::clamp(x[i] + r, low, high);
      }
    });
    return out;
  }

  attack::Threat threat_;
  IbpOptions options_;
  std::unique_ptr<IntervalNetwork<float>> network_;
  std::unique_ptr<const attack::Part> ends_;    ///< from the pixels' ends to those in front of the last layer
  std::unique_ptr<const attack::Part> linear_;  ///< from these and the margins' functions to CROWN's margins, too
};

}  // namespace pavise::defend
