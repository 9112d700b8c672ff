// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>

#include "pavise/attack/pgd.hpp"
#include "pavise/defend/strategy.hpp"

namespace pavise::defend {

namespace detail {

/// What a model file should say of an attack.
inline void describe_attack(const attack::Attack& attack, Recipe& recipe) {
  recipe.emplace_back("attack", attack.name());
  recipe.emplace_back("norm", std::string(attack::norm_name(attack.threat().norm)));
  recipe.emplace_back("epsilon", concat(attack.threat().epsilon));
  recipe.emplace_back("box", concat(attack.threat().low, " ", attack.threat().high));
  if (const auto* pgd = dynamic_cast<const attack::Pgd*>(&attack)) {
    recipe.emplace_back("steps", std::to_string(pgd->options().steps));
    recipe.emplace_back("step_size", concat(pgd->options().step_size));
    recipe.emplace_back("random_start", pgd->options().random_start ? "yes" : "no");
  }
}

}  // namespace detail

/// Adversarial training (Madry et al. 2018, equation 2.1): each step trains on images that the attack found against the
/// weights as they are. The attack sees the model in evaluation mode, the update in training mode. `share` of each
/// batch's images are perturbed (rounded to whole images), the others stay clean: 1 is Madry's, 0.5 that of Kurakin et
/// al. (2017).
class Adversarial : public Strategy {
 public:
  explicit Adversarial(AnyAttack attack, double share = 1.0) : attack_(std::move(attack)), share_(share) {
    require(static_cast<bool>(attack_), "adversarial training: no attack is given");
    require(!attack_->targeted(), "adversarial training: ", attack_->name(),
            " is targeted, expected an untargeted attack");
    require(share >= 0 && share <= 1, "adversarial training: the adversarial share is ", share, ", expected 0 to 1");
  }

  std::string name() const override { return attack_->name(); }
  Recipe recipe() const override {
    Recipe out{{"defense", name()}, {"adversarial_share", concat(share_)}};
    detail::describe_attack(*attack_, out);
    return out;
  }
  bool runs_on_device() const override { return true; }
  void craft(Step& step) override {
    perturbed_ = std::llround(share_ * static_cast<double>(step.images())) - step.images_before;
    stayed_ = detail::perturb_first(step, *attack_, perturbed_, true);
  }
  void accumulate(Step& step) override {
    detail::cross_entropy_pass(step, step.adversarial.data(), perturbed_, stayed_);
  }

 private:
  AnyAttack attack_;
  double share_;
  std::int64_t perturbed_ = 0;
  bool stayed_ = false;  ///< on the device that perturbed them
};

}  // namespace pavise::defend
