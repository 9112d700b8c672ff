// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include "pavise/attack/pgd.hpp"
#include "pavise/autodiff/broadcast.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/autodiff/softmax.hpp"
#include "pavise/defend/strategy.hpp"

namespace pavise::defend {

/// BCE(f(x'), y) + beta * KL(p || p') * (1.0000001 - p_y), one number for each image: the loss of MART, with p and p'
/// the softmax of the clean and the adversarial logits and BCE(z, y) = CE(z, y) - log(1.0001 - max_{k != y}
/// softmax(z)_k).
template <class T>
Var<T> mart_loss(Var<T> clean, Var<T> adversarial, const std::int32_t* labels, std::type_identity_t<T> beta) {
  const Var<T> doubt = affine(pick(softmax(clean), labels), T{-1}, static_cast<T>(1.0000001));
  const Var<T> pull = scale(kl_divergence(clean, adversarial) * doubt, beta);  // first, whatever the compiler prefers
  return boosted_cross_entropy(adversarial, labels) + pull;
}

struct MartOptions {
  double beta = 6.0;  ///< that of the paper's code; its text has 5
  std::int64_t steps = 10;
  double step_size = 0;  ///< 0: epsilon/4
};

/// MART (Wang et al. 2020, equation 8): adversarial training with a boosted cross-entropy, and a pull of the
/// adversarial prediction towards the clean one that is stronger where the clean image is misclassified. The attack is
/// PGD on the cross-entropy from the image plus 0.001 times normal noise in the paper's code; here from a random point
/// of the ball.
class Mart : public Strategy {
 public:
  explicit Mart(attack::Threat threat, MartOptions options = {})
      : beta_(options.beta),
        attack_(threat,
                {.steps = options.steps, .step_size = options.step_size > 0 ? options.step_size : threat.epsilon / 4}) {
    require(std::isfinite(options.beta) && options.beta >= 0, "mart: beta ", options.beta, ", expected 0 or more");
    require(options.step_size >= 0, "mart: step size ", options.step_size, ", expected 0 or more");
  }

  std::string name() const override { return "mart"; }
  Recipe recipe() const override {
    return {{"defense", "mart"},
            {"norm", std::string(attack::norm_name(attack_.threat().norm))},
            {"epsilon", concat(attack_.threat().epsilon)},
            {"box", concat(attack_.threat().low, " ", attack_.threat().high)},
            {"beta", concat(beta_)},
            {"steps", std::to_string(attack_.options().steps)},
            {"step_size", concat(attack_.options().step_size)}};
  }
  bool runs_on_device() const override { return true; }
  void craft(Step& step) override { detail::perturb_first(step, attack_, step.clean.images()); }
  void accumulate(Step& step) override {
    require(step.label_smoothing == 0, "mart: its loss has no label smoothing, got ", step.label_smoothing);
    step.begin();
    const Var<float> clean = step.logits(step.tape.view(step.clean.shape(), step.clean.values()));
    const Var<float> adversarial = step.logits(step.tape.view(step.clean.shape(), step.adversarial.data()));
    step.count(clean, 0);
    step.count(adversarial, step.clean.images());
    step.backward(mart_loss(clean, adversarial, step.clean.labels(), static_cast<float>(beta_)));
  }

 private:
  double beta_;
  attack::Pgd attack_;
};

}  // namespace pavise::defend
