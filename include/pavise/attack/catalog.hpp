// SPDX-License-Identifier: MIT
// Attacks by name, for programs. Includes every attack: not in the umbrella.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/attack/apgd.hpp"
#include "pavise/attack/attack.hpp"
#include "pavise/attack/carlini_wagner.hpp"
#include "pavise/attack/ddn.hpp"
#include "pavise/attack/deepfool.hpp"
#include "pavise/attack/ead.hpp"
#include "pavise/attack/fab.hpp"
#include "pavise/attack/fmn.hpp"
#include "pavise/attack/hop_skip_jump.hpp"
#include "pavise/attack/jsma.hpp"
#include "pavise/attack/mifgsm.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/attack/settings.hpp"
#include "pavise/attack/spsa.hpp"
#include "pavise/attack/square.hpp"
#include "pavise/attack/suite.hpp"

namespace pavise::attack {

/// An attack made by its name.
struct NamedAttack {
  std::shared_ptr<const Attack> attack;
  Settings settings;  ///< all that it has, with the values that it uses
};

namespace detail {

/// Of PGD's kin: one step, and steps from the image itself.
struct OneStepOptions : PgdOptions {};
struct BimOptions : PgdOptions {};

// What of each attack's options a user may set by name. `v` is Assign or Describe.

template <class V>
void visit(OneStepOptions& o, V& v) {
  v("step_size", o.step_size);
  v("loss", o.loss);
}
template <class V>
void visit(BimOptions& o, V& v) {
  v("steps", o.steps);
  v("step_size", o.step_size);
  v("loss", o.loss);
}
template <class V>
void visit(PgdOptions& o, V& v) {
  v("steps", o.steps);
  v("step_size", o.step_size);
  v("random_start", o.random_start);
  v("loss", o.loss);
}
template <class V>
void visit(MifgsmOptions& o, V& v) {
  v("steps", o.steps);
  v("step_size", o.step_size);
  v("decay", o.decay);
  v("loss", o.loss);
}
template <class V>
void visit(ApgdOptions& o, V& v) {
  v("steps", o.steps);
  v("rho", o.rho);
  if (o.loss == ApgdLoss::dlr_targeted) {
    v("targets", o.targets);
  }
}
template <class V>
void visit(FabOptions& o, V& v) {
  v("steps", o.steps);
  v("alpha_max", o.alpha_max);
  v("eta", o.eta);
  v("beta", o.beta);
  if (o.targets > 0) {
    v("targets", o.targets);
  }
}
template <class V>
void visit(DeepFoolOptions& o, V& v) {
  v("steps", o.steps);
  v("overshoot", o.overshoot);
}
template <class V>
void visit(JsmaOptions& o, V& v) {
  v("theta", o.theta);
  v("gamma", o.gamma);
  v("pairs", o.pairs);
  v("probabilities", o.probabilities);
  v("targets", o.targets);
}
template <class V>
void visit(SquareOptions& o, V& v) {
  v("queries", o.queries);
  v("p_init", o.p_init);
  v("resc_schedule", o.resc_schedule);
}
template <class V>
void visit(SpsaOptions& o, V& v) {
  v("steps", o.steps);
  v("samples", o.samples);
  v("delta", o.delta);
  v("learning_rate", o.learning_rate);
}
template <class V>
void visit(HopSkipJumpOptions& o, V& v) {
  v("steps", o.steps);
  v("initial_samples", o.initial_samples);
  v("max_samples", o.max_samples);
  v("queries", o.queries);
  v("gamma", o.gamma);
}
template <class V>
void visit(CarliniWagnerOptions& o, V& v) {
  v("steps", o.iterations);
  v("learning_rate", o.learning_rate);
  v("search_steps", o.search_steps);
  v("initial_constant", o.initial_constant);
  v("confidence", o.confidence);
  v("abort_early", o.abort_early);
}
template <class V>
void visit(CarliniWagnerLinfOptions& o, V& v) {
  v("steps", o.iterations);
  v("learning_rate", o.learning_rate);
  v("initial_constant", o.initial_constant);
  v("largest_constant", o.largest_constant);
  v("shrink", o.shrink);
  v("smallest_tau", o.smallest_tau);
  v("confidence", o.confidence);
}
template <class V>
void visit(DdnOptions& o, V& v) {
  v("steps", o.steps);
  v("initial_norm", o.initial_norm);
  v("gamma", o.gamma);
  v("step_size", o.step_size);
  v("final_step_size", o.final_step_size);
}
template <class V>
void visit(FmnOptions& o, V& v) {
  v("steps", o.steps);
  v("step_size", o.step_size);
  v("final_step_size", o.final_step_size);
  v("gamma", o.gamma);
  v("final_gamma", o.final_gamma);
}
template <class V>
void visit(EadOptions& o, V& v) {
  v("steps", o.iterations);
  v("learning_rate", o.learning_rate);
  v("beta", o.beta);
  bool l1 = o.rule == EadRule::l1;
  v("l1_rule", l1);
  o.rule = l1 ? EadRule::l1 : EadRule::elastic_net;
  v("search_steps", o.search_steps);
  v("initial_constant", o.initial_constant);
  v("confidence", o.confidence);
  v("abort_early", o.abort_early);
}

/// What a user asks for.
struct Request {
  std::string_view name;
  const Threat& threat;
  const Settings& settings;
  bool targeted;
};

/// Makes an attack of `options` as the request changes them; `make` is its constructor, or a function like `fgsm`.
template <class Options, class Make>
NamedAttack make_named(const Request& r, Options options, const Make& make) {
  Assign assign(r.name, r.settings);
  visit(options, assign);
  assign.finish();
  if constexpr (requires { options.targeted; }) {
    options.targeted = r.targeted;
  } else {
    require(!r.targeted, "attack ", r.name, " has no targeted form");
  }
  using A = decltype(make(r.threat, options));
  const auto attack = std::make_shared<const A>(make(r.threat, std::move(options)));
  Options used{attack->options()};
  Describe describe(r.settings);
  visit(used, describe);
  return {attack, std::move(describe.settings)};
}

template <class A, class Options>
NamedAttack make_named(const Request& r, Options options) {
  return make_named(r, std::move(options), [](const Threat& t, Options o) { return A(t, std::move(o)); });
}

struct CatalogEntry {
  std::string_view name;
  std::string_view summary;
  NamedAttack (*make)(const Request&);
  Access access = Access::gradients;
};

inline constexpr std::array kAttackCatalog = {
    CatalogEntry{"fgsm", "one step by the gradient's sign (Goodfellow et al. 2015)",
                 [](const Request& r) { return make_named(r, OneStepOptions{}, fgsm); }},
    CatalogEntry{"fgsm-rs", "one step from a random start (Wong et al. 2020)",
                 [](const Request& r) { return make_named(r, OneStepOptions{}, fgsm_rs); }},
    CatalogEntry{"bim", "steps without a random start (Kurakin et al. 2017)",
                 [](const Request& r) { return make_named(r, BimOptions{{.steps = 0}}, bim); }},
    CatalogEntry{"mi-fgsm", "steps with momentum, which transfer well (Dong et al. 2018)",
                 [](const Request& r) { return make_named<Mifgsm>(r, MifgsmOptions{}); }},
    CatalogEntry{"pgd", "projected gradient steps from random starts (Madry et al. 2018)",
                 [](const Request& r) { return make_named<Pgd>(r, PgdOptions{}); }},
    CatalogEntry{"apgd-ce", "Auto-PGD on cross-entropy, no step size to choose (Croce and Hein 2020)",
                 [](const Request& r) { return make_named(r, ApgdOptions{}, apgd_ce); }},
    CatalogEntry{"apgd-dlr", "Auto-PGD on the ratio of logit differences",
                 [](const Request& r) { return make_named(r, ApgdOptions{.loss = ApgdLoss::dlr}, apgd_dlr); }},
    CatalogEntry{"apgd-t", "Auto-PGD on the targeted ratio, class by class",
                 [](const Request& r) { return make_named(r, ApgdOptions{.loss = ApgdLoss::dlr_targeted}, apgd_t); }},
    CatalogEntry{"fab", "minimum distance along linearised boundaries (Croce and Hein 2020)",
                 [](const Request& r) { return make_named<Fab>(r, FabOptions{}); }},
    CatalogEntry{"fab-t", "the same, class by class",
                 [](const Request& r) { return make_named(r, FabOptions{.targets = 9}, fab_t); }},
    CatalogEntry{"deepfool", "minimum distance, quickly and roughly (Moosavi-Dezfooli et al. 2016)",
                 [](const Request& r) { return make_named<DeepFool>(r, DeepFoolOptions{}); }},
    CatalogEntry{"cw", "minimum distance by Adam, L2 and Linf (Carlini and Wagner 2017)",
                 [](const Request& r) {
                   return r.threat.norm == Norm::linf ? make_named<CarliniWagnerLinf>(r, CarliniWagnerLinfOptions{})
                                                      : make_named<CarliniWagner>(r, CarliniWagnerOptions{});
                 }},
    CatalogEntry{"ddn", "minimum L2 distance, direction and norm apart (Rony et al. 2019)",
                 [](const Request& r) { return make_named<Ddn>(r, DdnOptions{}); }},
    CatalogEntry{"fmn", "minimum distance in few steps (Pintor et al. 2021)",
                 [](const Request& r) { return make_named<Fmn>(r, FmnOptions{}); }},
    CatalogEntry{"ead", "minimum elastic-net distance, sparse (Chen et al. 2018)",
                 [](const Request& r) { return make_named<Ead>(r, EadOptions{}); }},
    CatalogEntry{"jsma", "few pixels, by the saliency map (Papernot et al. 2016)",
                 [](const Request& r) { return make_named<Jsma>(r, JsmaOptions{}); }},
    CatalogEntry{"square", "random windows, without gradients (Andriushchenko et al. 2020)",
                 [](const Request& r) { return make_named<Square>(r, SquareOptions{}); }, Access::outputs},
    CatalogEntry{"spsa", "gradients from pairs of queries (Uesato et al. 2018)",
                 [](const Request& r) { return make_named<Spsa>(r, SpsaOptions{}); }, Access::outputs},
    CatalogEntry{"hop-skip-jump", "the boundary, from labels alone (Chen et al. 2020)",
                 [](const Request& r) { return make_named<HopSkipJump>(r, HopSkipJumpOptions{}); }, Access::outputs},
};

inline const CatalogEntry& find_attack(std::string_view name) {
  std::vector<std::string> names;
  for (const auto& entry : kAttackCatalog) {
    if (entry.name == name) {
      return entry;
    }
    names.emplace_back(entry.name);
  }
  throw ValueError(concat("unknown attack ", name, ", expected one of ", join(names)));
}

}  // namespace detail

/// The names that `make_attack` takes.
inline std::vector<std::string> attack_names() {
  std::vector<std::string> names;
  for (const auto& entry : detail::kAttackCatalog) {
    names.emplace_back(entry.name);
  }
  return names;
}

/// The attack of that name. Throws ValueError that lists the names or settings for an unknown one, and for a norm, a
/// value or a targeted form that the attack does not have.
inline NamedAttack make_attack(std::string_view name, const Threat& threat, const Settings& settings = {},
                               bool targeted = false) {
  return detail::find_attack(name).make({name, threat, settings, targeted});
}

/// A suite of attacks by name, each with its defaults and so many restarts where they differ, in that order.
inline Suite make_suite_of(const std::vector<std::string>& names, const Threat& threat, std::int64_t restarts = 1) {
  Suite suite{.name = join(names, "+"), .entries = {}, .draws = 1, .notes = {}};
  for (const auto& name : names) {
    const auto named = make_attack(name, threat);
    std::string settings;
    for (const auto& [key, value] : named.settings) {
      settings += concat(settings.empty() ? "" : ", ", key, " ", value);
    }
    if (named.attack->random() && restarts > 1) {
      settings += concat(settings.empty() ? "" : ", ", restarts, " restarts");
    }
    suite.entries.push_back({name, named.attack, named.attack->random() ? restarts : 1,
                             detail::find_attack(name).access, std::move(settings)});
  }
  return suite;
}

/// What there is to know of an attack, in a sentence; its norms, and its settings with their defaults.
struct AttackDescription {
  std::string name;
  std::string summary;
  std::vector<Norm> norms;
  Settings settings;  ///< in the first of the norms, at epsilon 0.1
};

inline AttackDescription describe_attack(std::string_view name) {
  const auto& entry = detail::find_attack(name);
  AttackDescription out{std::string(entry.name), std::string(entry.summary), {}, {}};
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    try {
      auto made = make_attack(name, Threat(norm, 0.1));
      if (out.norms.empty()) {
        out.settings = std::move(made.settings);
      }
      out.norms.push_back(norm);
    } catch (const ValueError&) {  // not for this norm
    }
  }
  return out;
}

}  // namespace pavise::attack
