// SPDX-License-Identifier: MIT
// What the tests of attacks for the closest adversarial image share.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "attack/attack_checks.hpp"

namespace attack_checks {

/// How far the distances that an attack found on a linear problem are above the exact ones, relative to them.
struct Excess {
  double worst = 0;          ///< above the distance from the class that was reached
  double mean = 0;           ///< the same, of all images
  double least = 0;          ///< below 0 by more than rounding would be impossible
  std::int64_t nearest = 0;  ///< images that are within 0.1 percent of the nearest class's distance
};

/// Runs the attack on a linear problem, checks that every image is found, and compares with the exact distances. The
/// images that untargeted attacks may end with are nearest to a class, which need not be the nearest class. Targets are
/// the other class of two.
inline Excess linear_excess(const attack::Attack& attack, const LinearProblem& problem) {
  const attack::Threat& threat = attack.threat();
  std::vector<std::int32_t> labels = problem.labels;
  if (attack.targeted()) {
    REQUIRE(problem.model.classes() == 2);
    for (auto& label : labels) {
      label = 1 - label;
    }
  }
  const auto result = attack::run(attack, problem.model, problem.images, labels);
  Excess excess{.worst = -1, .mean = 0, .least = 1, .nearest = 0};
  for (std::int64_t i = 0; i < problem.size(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    CHECK_MESSAGE(result.fooled[at] == 1, attack.name(), ": image ", i, " stands");
    if (result.fooled[at] == 0) {
      continue;
    }
    for (const float v : result.adversarial.row(i)) {
      CHECK((v >= static_cast<float>(threat.low) && v <= static_cast<float>(threat.high)));
    }
    const auto distance = static_cast<double>(result.distance[at]);
    const double exact = problem.distance_to(threat.norm, i, result.prediction[at], threat.low, threat.high);
    REQUIRE(exact > 0);
    const double over = distance / exact - 1.0;
    excess.worst = std::max(excess.worst, over);
    excess.least = std::min(excess.least, over);
    excess.mean += over / static_cast<double>(problem.size());
    excess.nearest += distance < 1.001 * problem.distance(threat.norm, i, threat.low, threat.high) ? 1 : 0;
  }
  MESSAGE(attack.name(), std::string(attack.targeted() ? ", targeted, " : ", "),
          std::string(attack::norm_name(threat.norm)), ", ", problem.model.classes(), " classes, box [", threat.low,
          ",", threat.high, "]: excess at worst ", excess.worst, ", mean ", excess.mean, ", nearest class ",
          excess.nearest, " of ", problem.size(), ", ", result.backward_passes / problem.size(), " gradients each");
  CHECK(excess.least > -1e-4);
  return excess;
}

/// Attacks an image that is what the attack is after already: one pass, and the image itself comes back.
inline void check_nothing_to_do(const attack::Attack& attack, const LinearProblem& problem) {
  std::vector<std::int32_t> labels = problem.labels;
  if (!attack.targeted()) {
    for (auto& label : labels) {
      label = (label + 1) % problem.model.classes();
    }
  }
  std::vector<attack::Attempt> attempts(labels.size());
  for (std::size_t i = 0; i < labels.size(); ++i) {
    attempts[i].image = static_cast<std::int64_t>(i);
  }
  attack.attempt(problem.model, {problem.images, labels, nullptr, {}, 0, {}}, attempts);
  for (const auto& a : attempts) {
    const auto clean = problem.images.row(a.image);
    CHECK(std::equal(clean.begin(), clean.end(), a.adversarial.begin()));
    CHECK(a.forward == 1);
    CHECK(a.backward <= 1);
  }
  const auto result = attack::run(attack, problem.model, problem.images, labels);
  CHECK(result.clean_correct == 0);
  CHECK(result.forward_passes == problem.size());
  CHECK(result.backward_passes == 0);
}

/// n numbers, uniform in (low, high), in T.
template <class T>
std::vector<T> drawn(std::int64_t n, std::uint32_t name, double low, double high) {
  pv::RandomSequence random({.seed = 5, .purpose = pv::Purpose::test, .image = name});
  std::vector<T> out;
  for (std::int64_t i = 0; i < n; ++i) {
    out.push_back(static_cast<T>(random.uniform(low, high)));
  }
  return out;
}

}  // namespace attack_checks
