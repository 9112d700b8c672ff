// SPDX-License-Identifier: MIT
// Auto-PGD: projected gradient descent that chooses its step size itself.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <utility>

#include "pavise/attack/apgd_search.hpp"
#include "pavise/attack/l1_apgd.hpp"

namespace pavise::attack {

/// Auto-PGD (Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
/// parameter-free attacks", algorithm 1). Linf and L2, from eta = 2 epsilon and a random point of norm epsilon:
///   z = P(x + eta s(gradient));  x' = P(x + 0.75 (z - x) + 0.25 (x - previous))
/// with P the projection on the ball and then the box. At the end of each window of steps (0.22 N, then 0.03 N fewer each
/// time, at least 0.06 N; rounded down, at least 1) an image's eta is halved and its search goes on from its best point,
/// if no more than rho of the window's steps increased the loss, or if eta was not halved at the last checkpoint and the
/// best loss has not changed since. L1: the sparse variant of Croce and Hein (2021), detail::L1ApgdSearch.
///
/// An image ends at its first success (of a random classifier: after all steps, with the success of the largest loss),
/// else with the point of the largest loss. N steps take N + 1 forward and backward passes (in L1 one more for each of
/// two further radii).
///
/// Choices where the authors' code and paper leave one: the first window counts the first step as an increase if its
/// loss exceeds the starting point's, as in the paper (the code compares with 0, which for cross-entropy is always an
/// increase and for DLR hardly ever); a share of exactly rho halves eta, as in the code; after a restart the next loss
/// is compared with that of the point left behind, and the momentum is that of the point before it, as in the code.
///
/// The targeted ratio (APGD-T) makes `targets` attempts, attempt t at the (t mod targets)-th most likely wrong class of
/// the clean image. With `targeted` the labels are targets: cross-entropy (or `custom`) of the target is minimised; the
/// targeted ratio leads from the clean image's class to the target. DLR has no targeted form: its least value for a
/// class outside of the three largest does not lead there.
class Apgd : public SearchAttack {
 public:
  explicit Apgd(Threat threat, ApgdOptions options = {}) : SearchAttack(threat), options_(std::move(options)) {
    const std::string who = name();
    require(options_.steps >= 1, who, ": ", options_.steps, " steps, expected 1 or more");
    require(options_.targets >= 1, who, ": ", options_.targets, " targets, expected 1 or more");
    require(!options_.targeted || options_.custom || options_.loss != ApgdLoss::dlr, who,
            ": has no targeted form, expected the targeted ratio (apgd-t) or cross-entropy");
    require(options_.rho >= 0.0 && options_.rho <= 1.0, who, ": rho ", options_.rho, ", expected 0 to 1");
  }

  const ApgdOptions& options() const { return options_; }
  std::string name() const override {
    return options_.custom                            ? "apgd"
           : options_.loss == ApgdLoss::cross_entropy ? "apgd-ce"
           : options_.loss == ApgdLoss::dlr           ? "apgd-dlr"
                                                      : "apgd-t";
  }
  bool targeted() const override { return options_.targeted; }
  bool random() const override { return options_.random_start; }
  std::int64_t attempts() const override {
    return !options_.custom && options_.loss == ApgdLoss::dlr_targeted && !options_.targeted ? options_.targets : 1;
  }

  /// Throws ValueError for DLR with fewer than 3 classes, for targeted DLR with fewer than 4.
  void check(const Classifier& model) const override {
    if (options_.custom || options_.loss == ApgdLoss::cross_entropy) {
      return;
    }
    const std::int32_t least = options_.loss == ApgdLoss::dlr ? 3 : 4;
    require(model.classes() >= least, name(), ": model ", model.name(), " has ", model.classes(), " classes, expected ",
            least, " or more for ",
            least == 3 ? "the difference of logits ratio" : "the targeted difference of logits ratio");
  }

  /// In L1; the search in Linf and L2 has a loop of its own on a device.
  std::int64_t arrays(std::int32_t) const override { return threat().norm == Norm::l1 ? 4 : 0; }

  /// On a device that holds the model, where it can: in Linf and L2, without a `custom` loss, of a classifier that draws
  /// nothing.
  void attempt(const Classifier& model, const Work& work, std::span<Attempt> attempts) const override {
    Accelerator* device = model.accelerator();
    if (device == nullptr || options_.custom || threat().norm == Norm::l1 || model.declaration().random) {
      SearchAttack::attempt(model, work, attempts);
      return;
    }
    Ascent ascent;
    ascent.threat = threat();
    ascent.loss = options_.loss;
    ascent.steps = options_.steps;
    ascent.rho = options_.rho;
    ascent.targeted = options_.targeted;
    ascent.sign = detail::apgd_sign(options_);
    const std::int64_t n = model.input_shape().numel();
    bind(ascent, work, attempts, true, [&](const Attempt& a, Attempts::Begun& begun) {
      begun.other = options_.loss == ApgdLoss::dlr_targeted
                        ? detail::apgd_other_class(work.ranking(a.image), begun.label, a.restart, options_.targets,
                                                   options_.targeted)
                        : begun.label;
      if (options_.random_start) {
        detail::apgd_start_point(threat(), threat().epsilon, work.seed, begun.image, begun.restart, begun.clean, n,
                                 begun.start);
      } else {
        std::copy_n(begun.clean, n, begun.start);
      }
    });
    device->ascend(ascent, static_cast<std::int64_t>(attempts.size()));
  }

  std::unique_ptr<Search> search(Lanes& lanes) const override {
    if (threat().norm == Norm::l1) {
      return std::make_unique<detail::L1ApgdSearch>(lanes, options_);
    }
    return std::make_unique<detail::ApgdSearch>(lanes, options_);
  }

 private:
  ApgdOptions options_;
};

/// Auto-PGD on cross-entropy.
inline Apgd apgd_ce(Threat threat, ApgdOptions options = {}) {
  options.loss = ApgdLoss::cross_entropy;
  return Apgd(threat, std::move(options));
}

/// Auto-PGD on the difference of logits ratio.
inline Apgd apgd_dlr(Threat threat, ApgdOptions options = {}) {
  options.loss = ApgdLoss::dlr;
  return Apgd(threat, std::move(options));
}

/// Targeted Auto-PGD on the targeted difference of logits ratio.
inline Apgd apgd_t(Threat threat, ApgdOptions options = {}) {
  options.loss = ApgdLoss::dlr_targeted;
  return Apgd(threat, std::move(options));
}

}  // namespace pavise::attack
