// SPDX-License-Identifier: MIT
// AutoAttack (Croce and Hein 2020, "Reliable evaluation of adversarial robustness with an ensemble of diverse
// parameter-free attacks"): the attacks of its versions, with their published settings, in their order. An evaluation
// runs each of them on the images that stand.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>

#include "pavise/attack/apgd.hpp"
#include "pavise/attack/fab.hpp"
#include "pavise/attack/square.hpp"
#include "pavise/attack/suite.hpp"

namespace pavise::attack {

/// What may be changed of AutoAttack; with another value than these it is no longer what papers call by its name.
struct AutoOptions {
  std::int64_t steps = 100;     ///< of APGD and FAB
  std::int64_t targets = 9;     ///< of the targeted attacks, at most classes - 1
  std::int64_t queries = 5000;  ///< of Square
  std::int64_t draws = 20;      ///< of a random classifier, averaged in each query
};

namespace detail {

inline SuiteEntry apgd_entry(std::string name, const Threat& threat, ApgdOptions options, std::int64_t restarts) {
  std::string settings = concat(options.steps, " steps");
  if (options.loss == ApgdLoss::dlr_targeted && !options.custom) {
    settings += concat(", ", options.targets, options.targets == 1 ? " target" : " targets");
  }
  if (restarts > 1) {
    settings += concat(", ", restarts, " restarts");
  }
  return {std::move(name), std::make_shared<const Apgd>(threat, std::move(options)), restarts, Access::gradients,
          std::move(settings)};
}

inline SuiteEntry apgd_ce_entry(const Threat& threat, const AutoOptions& o, std::int64_t restarts = 1) {
  return apgd_entry("apgd-ce", threat, {.steps = o.steps}, restarts);
}
/// A loss of the logits that no scale of them saturates: the ratio of differences, and of two classes the margin.
inline SuiteEntry apgd_logits_entry(const Threat& threat, std::int32_t classes, const AutoOptions& o,
                                    std::int64_t restarts = 1) {
  if (classes >= 3) {
    return apgd_entry("apgd-dlr", threat, {.steps = o.steps, .loss = ApgdLoss::dlr}, restarts);
  }
  const Loss margin = [](Var<float> z, const std::int32_t* labels) { return margin_loss(z, labels); };
  return apgd_entry("apgd-margin", threat, {.steps = o.steps, .custom = margin}, restarts);
}
inline SuiteEntry apgd_t_entry(const Threat& threat, const AutoOptions& o, std::int64_t targets) {
  return apgd_entry("apgd-t", threat, {.steps = o.steps, .loss = ApgdLoss::dlr_targeted, .targets = targets}, 1);
}
/// For robust accuracy an image is done within epsilon: nothing is gained by going closer.
inline SuiteEntry fab_entry(const Threat& threat, const AutoOptions& o, std::int64_t targets,
                            std::int64_t restarts = 1) {
  FabOptions options;
  options.steps = o.steps;
  options.targets = targets;
  options.restarts = restarts;
  options.stop_within_epsilon = true;
  options.name = targets > 0 ? "fab-t" : "fab";
  std::string settings = concat(o.steps, " steps");
  if (targets > 0) {
    settings += concat(", ", targets, targets == 1 ? " target" : " targets");
  }
  if (restarts > 1) {
    settings += concat(", ", restarts, " restarts");
  }
  const std::string name = options.name;
  return {name, std::make_shared<const Fab>(threat, std::move(options)), 1, Access::gradients, std::move(settings)};
}
inline SuiteEntry square_entry(const Threat& threat, std::int64_t queries) {
  SquareOptions options;
  options.queries = queries;
  return {"square", std::make_shared<const Square>(threat, options), 1, Access::outputs, concat(queries, " queries")};
}

inline std::int64_t auto_targets(std::int64_t wanted, std::int32_t classes) {
  require(wanted >= 1, "auto: ", wanted, " targets, expected 1 or more");
  require(classes >= 2, "auto: ", classes, " classes, expected 2 or more");
  return std::min<std::int64_t>(wanted, classes - 1);
}

/// The targeted ratio needs four classes. With fewer there is an untargeted attack on the logits in its place, which
/// with two or three classes has one or two classes to go to.
inline void add_targeted_apgd(Suite& suite, const Threat& threat, std::int32_t classes, const AutoOptions& o,
                              std::int64_t targets) {
  if (classes >= 4) {
    suite.entries.push_back(apgd_t_entry(threat, o, auto_targets(targets, classes)));
    return;
  }
  suite.entries.push_back(apgd_logits_entry(threat, classes, o));
  suite.notes.push_back(
      concat("apgd-t needs 4 classes or more; with ", classes, " its place is taken by ", suite.entries.back().name));
}

}  // namespace detail

/// The standard version: APGD on cross-entropy, targeted APGD on the targeted ratio (9 targets), targeted FAB (9), and
/// Square with 5000 queries. In L1 as published: five restarts of the first, five targets of the second, and both begin
/// at larger radii. With two or three classes an untargeted attack on the logits stands in for targeted APGD; `notes`
/// says so. Throws ValueError for fewer than two classes, or no target.
inline Suite auto_attack(const Threat& threat, std::int32_t classes, const AutoOptions& o = {}) {
  Suite suite{.name = "auto", .entries = {}, .draws = 1, .notes = {}};
  const bool l1 = threat.norm == Norm::l1;
  suite.entries.push_back(detail::apgd_ce_entry(threat, o, l1 ? 5 : 1));
  detail::add_targeted_apgd(suite, threat, classes, o, l1 ? std::min<std::int64_t>(5, o.targets) : o.targets);
  suite.entries.push_back(detail::fab_entry(threat, o, detail::auto_targets(o.targets, classes)));
  suite.entries.push_back(detail::square_entry(threat, o.queries));
  return suite;
}

/// The version for random classifiers: APGD on cross-entropy and on the ratio of differences, each query the mean of 20
/// draws.
inline Suite auto_attack_rand(const Threat& threat, std::int32_t classes, const AutoOptions& o = {}) {
  Suite suite{.name = "rand", .entries = {}, .draws = o.draws, .notes = {}};
  suite.entries.push_back(detail::apgd_ce_entry(threat, o));
  suite.entries.push_back(detail::apgd_logits_entry(threat, classes, o));
  if (classes < 3) {
    suite.notes.push_back(
        concat("apgd-dlr needs 3 classes or more; with ", classes, " its place is taken by apgd-margin"));
  }
  return suite;
}

/// The plus version: APGD on cross-entropy and on the ratio (five restarts each), FAB (five), Square, targeted APGD and
/// targeted FAB (nine targets, five restarts each).
inline Suite auto_attack_plus(const Threat& threat, std::int32_t classes, const AutoOptions& o = {}) {
  Suite suite{.name = "plus", .entries = {}, .draws = 1, .notes = {}};
  suite.entries.push_back(detail::apgd_ce_entry(threat, o, 5));
  suite.entries.push_back(detail::apgd_logits_entry(threat, classes, o, 5));
  suite.entries.push_back(detail::fab_entry(threat, o, 0, 5));
  suite.entries.push_back(detail::square_entry(threat, o.queries));
  if (classes >= 4) {
    suite.entries.push_back(detail::apgd_t_entry(threat, o, detail::auto_targets(o.targets, classes)));
  } else {
    suite.notes.push_back(concat("apgd-t needs 4 classes or more, and is left out with ", classes));
  }
  suite.entries.push_back(detail::fab_entry(threat, o, detail::auto_targets(o.targets, classes), 5));
  return suite;
}

/// No published version: a first look at a tenth of the cost. APGD on cross-entropy and targeted APGD (three targets)
/// with a fifth of the steps, Square with a tenth of the queries.
inline Suite quick(const Threat& threat, std::int32_t classes, const AutoOptions& o = {}) {
  Suite suite{.name = "quick", .entries = {}, .draws = o.draws, .notes = {}};
  AutoOptions fewer = o;
  fewer.steps = std::max<std::int64_t>(1, o.steps / 5);
  fewer.queries = std::max<std::int64_t>(1, o.queries / 10);
  suite.entries.push_back(detail::apgd_ce_entry(threat, fewer));
  detail::add_targeted_apgd(suite, threat, classes, fewer, std::min<std::int64_t>(3, o.targets));
  suite.entries.push_back(detail::square_entry(threat, fewer.queries));
  suite.notes.push_back("suite quick takes few steps: its robust accuracy is no number to publish");
  return suite;
}

/// The suite of that name: "auto", "rand", "plus" or "quick"; ValueError lists them.
inline Suite make_suite(std::string_view name, const Threat& threat, std::int32_t classes, const AutoOptions& o = {}) {
  if (name == "auto") {
    return auto_attack(threat, classes, o);
  }
  if (name == "rand") {
    return auto_attack_rand(threat, classes, o);
  }
  if (name == "plus") {
    return auto_attack_plus(threat, classes, o);
  }
  if (name == "quick") {
    return quick(threat, classes, o);
  }
  throw ValueError(concat("unknown suite ", name, ", expected auto, rand, plus or quick"));
}

}  // namespace pavise::attack
