// SPDX-License-Identifier: MIT
// When Auto-PGD halves its step and goes back to its best point (Croce and Hein 2020, algorithm 1): plain numbers of one
// attempt, for the CPU and for a thread of a GPU.
#pragma once

#include <cstdint>

namespace pavise::kernels {

/// Where an attempt stands.
struct ApgdState {
  float best = 0, last = 0;  ///< losses: the largest so far, the one before
  float at_checkpoint = 0;   ///< the largest at the last checkpoint
  float eta = 0;
  std::int64_t step = 0, window = 0, since = 0, increases = 0;
  bool halved = true;  ///< at the last checkpoint; the first one counts as after a halving, as in the authors' code
};

/// What follows from the loss at the current point.
struct ApgdVerdict {
  bool improved = false;  ///< it is the best point so far
  bool over = false;      ///< there are no more steps
  bool restart = false;   ///< the search goes on from the best point
  float weight = 0;       ///< of the step against the momentum
};

constexpr std::int64_t apgd_larger(std::int64_t a, std::int64_t b) { return a > b ? a : b; }

/// An attempt of `steps` steps before its first.
constexpr ApgdState apgd_begin(float eta, std::int64_t steps) {
  ApgdState s;
  s.eta = eta;
  s.window = apgd_larger(22 * steps / 100, 1);
  return s;
}

/// Takes the loss `value` of the current point (larger is better), of an attempt of `steps` steps. rho: the share of a
/// window's steps that must increase the loss for eta to stay.
constexpr ApgdVerdict apgd_judge(ApgdState& s, float value, std::int64_t steps, double rho) {
  ApgdVerdict v;
  const std::int64_t i = s.step++;
  v.improved = i == 0 || value > s.best;
  s.best = v.improved ? value : s.best;
  v.over = i == steps;
  if (v.over) {
    return v;
  }
  if (i == 0) {
    s.at_checkpoint = value;
  } else {
    s.increases += value > s.last ? 1 : 0;
    if (++s.since == s.window) {
      const bool oscillates = static_cast<double>(s.increases) <= rho * static_cast<double>(s.window);
      const bool stands_still = !s.halved && s.best <= s.at_checkpoint;
      s.halved = v.restart = oscillates || stands_still;
      s.eta *= s.halved ? 0.5f : 1.0f;
      s.at_checkpoint = s.best;
      s.window = apgd_larger(s.window - apgd_larger(3 * steps / 100, 1), apgd_larger(6 * steps / 100, 1));
      s.since = s.increases = 0;
    }
  }
  s.last = value;
  v.weight = i == 0 ? 1.0f : 0.75f;
  return v;
}

}  // namespace pavise::kernels
