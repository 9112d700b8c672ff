// SPDX-License-Identifier: MIT
#pragma once

#include <memory>
#include <span>
#include <string>
#include <utility>

#include "pavise/attack/attack.hpp"

namespace pavise::attack {

/// An attack made on another classifier and judged on this one (Papernot et al. 2016, "Transferability in machine
/// learning"): whatever it is asked to attack, it attacks the surrogate. A defence that falls to images made for another
/// model, and stands against those made for itself, hides its gradients.
///
/// The surrogate's model must outlive it. Images of attacks that stop at the surrogate's own decision boundary (DeepFool,
/// FAB) rarely carry over; PGD's do. Passes through the surrogate are counted.
class Transfer : public Attack {
 public:
  /// Throws ValueError without an attack, or where it cannot be run on the surrogate.
  Transfer(Classifier surrogate, std::shared_ptr<const Attack> attack)
      : Attack(checked(attack).threat()), surrogate_(std::move(surrogate)), attack_(std::move(attack)) {
    attack_->check(surrogate_);
  }

  const Classifier& surrogate() const { return surrogate_; }
  std::string name() const override { return concat("transfer(", attack_->name(), " on ", surrogate_.name(), ")"); }
  bool targeted() const override { return attack_->targeted(); }
  bool random() const override { return attack_->random(); }
  std::int64_t attempts() const override { return attack_->attempts(); }
  bool minimum_norm() const override { return attack_->minimum_norm(); }
  void check(const Classifier& model) const override {
    require<ShapeError>(model.input_shape() == surrogate_.input_shape(), name(), ": the surrogate expects images of ",
                        surrogate_.input_shape(), ", ", model.name(), " of ", model.input_shape());
    require(model.classes() == surrogate_.classes(), name(), ": the surrogate has ", surrogate_.classes(), " classes, ",
            model.name(), " has ", model.classes());
  }

  void perturb_group(const Classifier&, const LaneBatch<float>& clean, std::int64_t group, float* adversarial,
                     const Seed& seed, Passes& passes) const override {
    attack_->perturb_group(surrogate_, clean, group, adversarial, seed, passes);
  }

  void attempt(const Classifier&, const Work& work, std::span<Attempt> attempts) const override {
    attack_->attempt(surrogate_, work, attempts);
  }

 private:
  static const Attack& checked(const std::shared_ptr<const Attack>& attack) {
    require(attack != nullptr, "transfer: no attack, expected the one to make on the surrogate");
    return *attack;
  }

  Classifier surrogate_;
  std::shared_ptr<const Attack> attack_;
};

/// `attack` made on `surrogate`: transfer(Pgd(threat), other_model).
template <class A>
Transfer transfer(A attack, Classifier surrogate) {
  return Transfer(std::move(surrogate), std::make_shared<const A>(std::move(attack)));
}

}  // namespace pavise::attack
