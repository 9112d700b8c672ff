// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "pavise/attack/pgd.hpp"
#include "pavise/defend/adversarial.hpp"
#include "pavise/defend/awp.hpp"
#include "pavise/defend/fast.hpp"
#include "pavise/defend/free.hpp"
#include "pavise/defend/ibp.hpp"
#include "pavise/defend/mart.hpp"
#include "pavise/defend/smoothing.hpp"
#include "pavise/defend/standard.hpp"
#include "pavise/defend/trades.hpp"

namespace pavise::defend {

/// What a preset leaves open. A value of 0 (share: below 0) means the defence's own.
struct DefenseOptions {
  double share = 1.0;                   ///< of each batch that is perturbed: fgsm, fgsm-rs, pgd
  std::int64_t steps = 0;               ///< of the attack: pgd (7), trades, mart, smoothadv (10); replays of free (8)
  double step_size = 0;                 ///< of the attack, in pixels; of fgsm-rs 1.25 epsilon, of pgd 2.5 epsilon/steps
  double beta = 0;                      ///< weight of the robust term: trades, mart (6), stability (2), macer (12),
                                        ///< consistency (10; 5 at sigma 0.5 and more)
  double awp_gamma = 0;                 ///< 0.01; 0.005 around trades
  std::int64_t awp_warmup_epochs = -1;  ///< below 0: none; 10 around trades
  double gaussian_sigma = 0;            ///< gaussian and the other trainings for smoothing (0.25)
  std::int64_t draws = 0;               ///< of the noise: consistency, smoothadv (2), macer (16)
  std::int64_t warmup_epochs = -1;      ///< in which the radius of smoothadv grows; below 0: 10
  bool guard = true;                    ///< fgsm-rs: against catastrophic overfitting
};

/// A strategy, and the noise that goes on the training images with it (TrainOptions::gaussian_sigma).
struct Defense {
  std::shared_ptr<Strategy> strategy;
  double gaussian_sigma = 0;
};

namespace detail {

/// A value of 0 stands for the usual one.
template <class T>
T or_else(T value, std::type_identity_t<T> usual) {
  return value > 0 ? value : usual;
}

/// One of the trainings for smoothing that see several draws of the noise.
inline std::shared_ptr<Strategy> make_noisy_strategy(std::string_view name, const attack::Threat& threat,
                                                     const DefenseOptions& options) {
  const double sigma = or_else(options.gaussian_sigma, 0.25);
  const auto noise = [&](std::int64_t draws) { return NoiseOptions{sigma, or_else(options.draws, draws)}; };
  if (name == "stability") {
    return std::make_shared<Stability>(StabilityOptions{.sigma = sigma, .lambda = or_else(options.beta, 2)});
  }
  if (name == "macer") {
    return std::make_shared<Macer>(MacerOptions{.noise = noise(16), .lambda = or_else(options.beta, 12)});
  }
  if (name == "consistency") {
    return std::make_shared<Consistency>(
        ConsistencyOptions{.noise = noise(2), .lambda = or_else(options.beta, sigma < 0.5 ? 10 : 5)});
  }
  const std::int64_t warmup = options.warmup_epochs >= 0 ? options.warmup_epochs : 10;
  return std::make_shared<SmoothAdv>(
      threat, SmoothAdvOptions{.noise = noise(2), .steps = or_else(options.steps, 10), .warmup_epochs = warmup});
}

}  // namespace detail

/// The names that make_defense knows; fgsm, fgsm-rs, pgd, trades and mart may have "awp-" in front of them, and "awp" is
/// "awp-pgd".
inline std::vector<std::string_view> defense_names() {
  return {"none",     "fgsm",      "fgsm-rs",     "pgd",         "free",       "trades",  "mart",
          "gaussian", "stability", "macer",       "consistency", "smoothadv",  "ibp",     "crown-ibp",
          "awp",      "awp-fgsm",  "awp-fgsm-rs", "awp-pgd",     "awp-trades", "awp-mart"};
}

/// The defence of that name against `threat`:
///   none      plain training
///   gaussian  plain training on noisy images, sigma 0.25
///   stability, macer, consistency, smoothadv   trainings for smoothing; see smoothing.hpp
///   fgsm      one step of epsilon from the image itself; collapses for larger radii, which is its lesson
///   fgsm-rs   FGSM from a random start, with the guard against that collapse (Wong et al. 2020)
///   pgd       PGD-7 (Madry et al. 2018)
///   free      8 replays of each minibatch (Shafahi et al. 2019)
///   trades    beta 6, 10 steps of epsilon/4 (Zhang et al. 2019)
///   mart      beta 6, 10 steps of epsilon/4 (Wang et al. 2020)
///   ibp       interval bound propagation (Gowal et al. 2019), Linf only
///   crown-ibp the same with linear bounds (Zhang et al. 2020)
///   awp-...   with weights perturbed by gamma 0.01, 0.005 around trades after 10 epochs (Wu et al. 2020)
/// ValueError lists the names there are.
inline Defense make_defense(std::string_view name, const attack::Threat& threat, const DefenseOptions& options = {}) {
  using detail::or_else;
  bool known = false;
  for (const auto& other : defense_names()) {
    known = known || other == name;
  }
  require(known, "defense: there is no '", name, "', expected one of ", join(defense_names()));
  if (name.starts_with("awp")) {
    const std::string_view inner = name == "awp" ? "pgd" : name.substr(4);
    const bool trades = inner == "trades";
    const std::int64_t warmup = options.awp_warmup_epochs >= 0 ? options.awp_warmup_epochs : trades ? 10 : 0;
    return {.strategy = std::make_shared<Awp>(
                make_defense(inner, threat, options).strategy,
                AwpOptions{.gamma = or_else(options.awp_gamma, trades ? 0.005 : 0.01), .warmup_epochs = warmup}),
            .gaussian_sigma = options.gaussian_sigma};
  }
  if (name == "none") {
    return {.strategy = std::make_shared<Standard>(), .gaussian_sigma = options.gaussian_sigma};
  }
  if (name == "gaussian") {
    return {.strategy = std::make_shared<Standard>(), .gaussian_sigma = or_else(options.gaussian_sigma, 0.25)};
  }
  if (name == "stability" || name == "macer" || name == "consistency" || name == "smoothadv") {
    return {.strategy = detail::make_noisy_strategy(name, threat, options)};
  }
  if (name == "ibp" || name == "crown-ibp") {
    return {.strategy = std::make_shared<Ibp>(threat, IbpOptions{.crown = name == "crown-ibp"}),
            .gaussian_sigma = options.gaussian_sigma};
  }
  Defense out{.strategy = nullptr, .gaussian_sigma = options.gaussian_sigma};
  if (name == "fgsm") {
    out.strategy = std::make_shared<Adversarial>(attack::fgsm(threat, {.step_size = options.step_size}), options.share);
  } else if (name == "fgsm-rs") {
    FastOptions fast{.share = options.share, .guard = options.guard};
    if (options.step_size > 0 && threat.epsilon > 0) {
      fast.step_factor = options.step_size / threat.epsilon;
    }
    out.strategy = std::make_shared<Fast>(threat, fast);
  } else if (name == "pgd") {
    out.strategy = std::make_shared<Adversarial>(
        attack::Pgd(threat, {.steps = or_else(options.steps, 7), .step_size = options.step_size}), options.share);
  } else if (name == "free") {
    out.strategy = std::make_shared<Free>(
        threat, FreeOptions{.replays = or_else(options.steps, 8), .step_size = options.step_size});
  } else if (name == "trades") {
    out.strategy = std::make_shared<Trades>(threat, TradesOptions{.beta = or_else(options.beta, 6.0),
                                                                  .steps = or_else(options.steps, 10),
                                                                  .step_size = options.step_size});
  } else {
    out.strategy = std::make_shared<Mart>(threat, MartOptions{.beta = or_else(options.beta, 6.0),
                                                              .steps = or_else(options.steps, 10),
                                                              .step_size = options.step_size});
  }
  return out;
}

/// The same against a Linf adversary of radius `epsilon` on pixels in [0,1].
inline Defense make_defense(std::string_view name, double epsilon, const DefenseOptions& options = {}) {
  return make_defense(name, attack::linf(epsilon), options);
}

}  // namespace pavise::defend
