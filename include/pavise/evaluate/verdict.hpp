// SPDX-License-Identifier: MIT
// The verdict on an evaluation: whether its robust accuracy can be relied on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/evaluate/report.hpp"

namespace pavise::evaluate {

/// Fewer correctly classified images than this leave the signs without weight: none of 30 is a share of less than 12 %
/// with 95 % confidence, where the signs' thresholds are 1 to 10 %.
inline constexpr std::int64_t kFewestImages = 30;

/// The verdict, and why:
///   unreliable   a check of the evaluation failed, or a sign did. One is enough: each is a way in which gradients are
///                known to hide adversarial images, so that the number is an upper bound and says no more.
///   undecided    nothing failed, but something is open: a sign is unclear (its share is above the threshold and its
///                interval reaches below), too few images, or a part of the defence that no attack covers (`open`).
///   reliable     all checks and all signs that apply passed. The number is then what these attacks can do; it is no
///                proof.
inline std::pair<Verdict, std::string> give_verdict(const std::vector<Check>& checks, const std::vector<Sign>& signs,
                                                    std::int64_t images, const std::vector<std::string>& open) {
  std::vector<std::string_view> failed;
  std::vector<std::string_view> unclear;
  std::int64_t passed = 0;
  for (const auto& check : checks) {
    if (!check.passed) {
      failed.push_back(check.name);
    }
  }
  for (const auto& sign : signs) {
    if (sign.state == SignState::failed) {
      failed.push_back(sign.name);
    } else if (sign.state == SignState::unclear) {
      unclear.push_back(sign.name);
    }
    passed += sign.state == SignState::passed ? 1 : 0;
  }
  if (!failed.empty()) {
    return {Verdict::unreliable, concat("Failed: ", join(failed), ". The robust accuracy is an upper bound at best.")};
  }
  if (!open.empty()) {
    return {Verdict::undecided, concat("Open: ", join(open, "; "), ".")};
  }
  if (signs.empty()) {
    return {Verdict::undecided, "No sign was measured."};
  }
  if (images < kFewestImages) {
    return {Verdict::undecided, concat("The signs were measured on ", images, " correctly classified images, expected ",
                                       kFewestImages, " or more.")};
  }
  if (!unclear.empty()) {
    return {Verdict::undecided, concat("Too few images to tell: ", join(unclear), ".")};
  }
  return {Verdict::reliable, concat("All ", passed, " signs that apply passed on ", images, " images.")};
}

}  // namespace pavise::evaluate
