// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "pavise/attack/attack.hpp"

namespace pavise::attack {

/// What an attack needs of the classifier that it is judged on: its gradients, its outputs alone, or nothing (the images
/// come from a surrogate). Values are part of the file formats.
enum class Access : std::uint8_t { gradients = 0, outputs = 1, transfer = 2 };

inline std::string_view access_name(Access access) {
  constexpr std::string_view kNames[] = {"gradients", "outputs", "transfer"};
  return kNames[static_cast<std::size_t>(access)];
}

/// An attack among several.
struct SuiteEntry {
  std::string name;  ///< "apgd-ce": what reports call it
  std::shared_ptr<const Attack> attack;
  std::int64_t restarts = 1;
  Access access = Access::gradients;
  std::string settings = {};  ///< "100 steps": in words, for reports; part of what a saved evaluation is known by
};

/// Attacks that run one after another, each on the images that stand.
struct Suite {
  std::string name;
  std::vector<SuiteEntry> entries;
  std::int64_t draws = 1;               ///< that a query of a random classifier averages
  std::vector<std::string> notes = {};  ///< where it departs from what its name promises
};

}  // namespace pavise::attack
