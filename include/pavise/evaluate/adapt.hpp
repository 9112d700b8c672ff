// SPDX-License-Identifier: MIT
// From what a defence declares to the attacks that are made for it (Tramer et al. 2020, "On adaptive attacks to
// adversarial example defenses").
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pavise/attack/auto.hpp"
#include "pavise/attack/carlini_wagner.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/transfer.hpp"
#include "pavise/autodiff/loss.hpp"

namespace pavise::evaluate {

/// The attacks of an evaluation, and what they are made of.
struct Plan {
  attack::Suite suite;
  attack::Loss loss;                             ///< that the signs' gradient attacks maximise
  std::shared_ptr<const attack::Attack> apgd;    ///< the strongest attack on that loss, for the signs
  std::shared_ptr<const attack::Attack> longer;  ///< the same with ten times the steps
  std::vector<std::string> notes;                ///< what was adapted, and why
  std::vector<std::string> open;                 ///< parts of the defence that no attack covers
};

/// Carlini and Wagner's L2 attack as it has to be for detectors (He et al. 2017): pixels start at the walls of the box,
/// where tanh space is flat, and have to go farther than across the nearest boundary, for which the authors' learning
/// rate of 0.01 takes thousands of steps.
inline attack::SuiteEntry detector_carlini_wagner(const attack::Threat& threat, std::int64_t steps = 200) {
  attack::CarliniWagnerOptions options;
  options.iterations = steps;
  options.learning_rate = 0.1;
  options.search_steps = 5;
  options.initial_constant = 1.0;
  return {"carlini-wagner", std::make_shared<const attack::CarliniWagner>(threat, options), 1,
          attack::Access::gradients, concat(steps, " steps, 5 constants")};
}

/// Makes the plan for a classifier's declaration:
///   random              the `rand` suite in place of `auto`, every query the mean of `draws` draws (expectation over
///                       transformations), and Square, with a fifth of its queries
///   not differentiable  its backward pass is a substitute (BPDA): an attack that needs no gradients is always there
///   temperature T       a classifier that was trained at T has logits T times too large, at which cross-entropy
///                       underflows: cross-entropy of logits / T in its place, next to the plain one and a loss of the
///                       logits
///   rejects             with a rejection output every attack sees by how much an image is refused, and succeeds only with
///                       one that is misclassified and not refused (attack/rejection.hpp); in L2 the attack by which the
///                       published detectors fell comes on top, Carlini and Wagner's. Without that output no attack
///                       here keeps an image unflagged: that part stays open
/// Any suite gets an attack without gradients, and attacks that use gradients go first, so that what the others add is
/// seen. `suite`: attacks of the caller's own; without entries those of its name.
inline Plan adapt(const attack::Classifier& model, const attack::Threat& threat, attack::Suite suite,
                  const attack::AutoOptions& settings, const std::vector<attack::Classifier>& surrogates) {
  const nn::Declaration& d = model.declaration();
  const std::int32_t classes = model.classes();
  Plan plan;
  if (suite.entries.empty()) {
    const bool replace = d.random && suite.name == "auto";
    suite = attack::make_suite(replace ? "rand" : suite.name, threat, classes, settings);
    if (replace) {
      plan.notes.push_back("the classifier is random: suite rand in place of auto");
    }
  }
  plan.notes.insert(plan.notes.end(), suite.notes.begin(), suite.notes.end());
  const auto has = [&](const auto& holds) { return std::any_of(suite.entries.begin(), suite.entries.end(), holds); };
  if (d.random) {
    suite.draws = std::max({suite.draws, settings.draws, model.draws()});
    plan.notes.push_back(concat("every query is the mean of ", suite.draws, " draws"));
  }
  const auto temperature = static_cast<float>(d.temperature);
  plan.loss = [](Var<float> z, const std::int32_t* labels) { return cross_entropy(z, labels); };
  if (d.temperature != 1.0) {
    plan.loss = [temperature](Var<float> z, const std::int32_t* labels) {
      return cross_entropy(z, labels, 0, temperature);
    };
    suite.entries.insert(suite.entries.begin(),
                         {attack::detail::apgd_entry(concat("apgd-ce T=", d.temperature), threat,
                                                     {.steps = settings.steps, .custom = plan.loss}, 1),
                          attack::detail::apgd_logits_entry(threat, classes, settings)});
    plan.notes.push_back(concat("trained at temperature ", d.temperature,
                                ": cross-entropy of the logits over it, and a loss of the logits, are attacked too"));
  }
  plan.apgd =
      std::make_shared<const attack::Apgd>(threat, attack::ApgdOptions{.steps = settings.steps, .custom = plan.loss});
  plan.longer = std::make_shared<const attack::Apgd>(
      threat, attack::ApgdOptions{.steps = 10 * settings.steps, .custom = plan.loss});
  for (const auto& surrogate : surrogates) {
    attack::PgdOptions options;
    options.steps = 40;
    const auto pgd = std::make_shared<const attack::Pgd>(threat, options);
    suite.entries.push_back({concat("transfer(", surrogate.name(), ")"),
                             std::make_shared<const attack::Transfer>(surrogate, pgd), 1, attack::Access::transfer,
                             "PGD, 40 steps"});
  }
  if (!has([](const attack::SuiteEntry& e) { return e.access == attack::Access::outputs; })) {
    suite.entries.push_back(attack::detail::square_entry(
        threat, d.random ? std::max<std::int64_t>(1, settings.queries / 5) : settings.queries));
    plan.notes.push_back("square is added: no evaluation relies on gradients alone");
  }
  if (!d.differentiable) {
    plan.notes.push_back("not differentiable: the backward pass is a substitute (BPDA)");
  }
  if (d.rejection_output) {
    plan.notes.push_back(
        "refuses inputs: an image is broken where it is misclassified and not refused, which every attack aims at");
    if (threat.norm == attack::Norm::l2) {
      suite.entries.push_back(detector_carlini_wagner(threat));
    }
  } else if (d.rejects) {
    plan.open.push_back("the defence may refuse inputs, and no attack here keeps an image unflagged");
  }
  // Stable, by Access: gradients, then outputs alone, then transfer.
  std::stable_sort(suite.entries.begin(), suite.entries.end(),
                   [](const attack::SuiteEntry& a, const attack::SuiteEntry& b) { return a.access < b.access; });
  plan.suite = std::move(suite);
  return plan;
}

}  // namespace pavise::evaluate
