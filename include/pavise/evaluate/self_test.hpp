// SPDX-License-Identifier: MIT
// What an evaluation checks of itself before it starts. Most wrong numbers of published evaluations are failures of one
// of these: a model in training mode, pixels in other units than epsilon, outputs that depend on the batch.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "pavise/attack/pgd.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/evaluate/probe.hpp"
#include "pavise/evaluate/report.hpp"

namespace pavise::evaluate {

namespace detail {

/// The logits of the probe's first sixteen images at most, in a pass of its own with key `key`.
inline std::vector<float> logits_with_key(const attack::Classifier& model, const Probe& probe, std::uint64_t key) {
  auto& tape = thread_tape<float>();
  const std::int64_t n = std::min<std::int64_t>(16, probe.size());
  tape.begin(n, 16);
  attack::PerLane<std::uint32_t> names{};
  for (std::int64_t lane = 0; lane < 16; ++lane) {
    names[static_cast<std::size_t>(lane)] = static_cast<std::uint32_t>(key * 1000 + static_cast<std::uint64_t>(lane));
  }
  tape.set_key({.seed = key, .iteration = static_cast<std::uint32_t>(key), .images = names.data()});
  Var<float> x = tape.input(model.input_shape());
  for (std::int64_t lane = 0; lane < 16; ++lane) {
    const auto row = probe.images.row(std::min(lane, n - 1));
    for (std::size_t e = 0; e < row.size(); ++e) {
      x.data()[e * 16 + static_cast<std::size_t>(lane)] = row[e];
    }
  }
  const Var<float> z = model(x);
  return {z.data(), z.data() + z.size() * 16};
}

inline bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

}  // namespace detail

/// Whether the pixels lie in the threat's box, and fill more than a twentieth of it (else they are in other units).
inline Check check_pixel_box(const Tensor<float>& images, const attack::Threat& threat) {
  float low = std::numeric_limits<float>::infinity();
  float high = -low;
  bool inside = true;
  for (const float v : images) {
    inside = inside && v >= static_cast<float>(threat.low) && v <= static_cast<float>(threat.high);
    low = std::min(low, v);
    high = std::max(high, v);
  }
  const bool filled =
      images.size() == 0 || static_cast<double>(high) - static_cast<double>(low) >= (threat.high - threat.low) / 20;
  return {"pixel box", inside && filled,
          concat("pixels from ", low, " to ", high, " in the declared box [", threat.low, ",", threat.high, "]",
                 filled ? "" : ", of which they fill less than a twentieth: they, or epsilon, are in other units")};
}

/// Whether a classifier that declares no random numbers gives the same logits under two keys of the random numbers, and
/// any classifier the same ones twice under the same key: dropout that is left on, or statistics that each pass
/// updates.
inline Check check_evaluation_mode(const attack::Classifier& model, const Probe& probe) {
  Check check{"evaluation mode", true, ""};
  if (probe.size() == 0) {
    check.detail = "no images";
    return check;
  }
  const auto a = detail::logits_with_key(model, probe, 1);
  const auto again = detail::logits_with_key(model, probe, 1);
  const auto other = detail::logits_with_key(model, probe, 2);
  const bool repeats = detail::same_bits(a, again);
  const bool same = detail::same_bits(a, other);
  const bool random = model.declaration().random;
  check.passed = repeats && (random || same);
  check.detail = !repeats ? "the same pass twice gives different logits: something changes from pass to pass"
                 : random && same
                     ? "the classifier declares that it draws random numbers, and two keys give the same logits"
                 : random ? "random, as declared; the same numbers give the same logits"
                 : same   ? "the same logits, bit by bit, whatever the random numbers are"
                          : "the classifier draws random numbers that it does not declare";
  return check;
}

/// Whether an image's logits are the same bits alone, among others, in another lane and in another order.
inline Check check_batch_independence(const attack::Classifier& model, const Probe& probe, std::uint64_t seed) {
  const std::int64_t m = probe.size();
  const attack::Classifier one = model.with_draws(1);
  std::vector<std::int64_t> reversed;
  for (std::int64_t i = 0; i < m; ++i) {
    reversed.push_back(m - 1 - i);
  }
  const auto among = ask(one, probe, probe.images, {}, false, seed, kProbeNumber);
  const auto other = ask(one, probe, probe.images, {}, false, seed, kProbeNumber, 16, reversed);
  const auto alone = ask(one, probe, probe.images, {}, false, seed, kProbeNumber, 1);
  std::int64_t differ = 0;
  for (std::int64_t i = 0; i < m; ++i) {
    const auto* a = among.logits.data() + i * among.classes;
    const std::size_t bytes = static_cast<std::size_t>(among.classes) * sizeof(float);
    differ += std::memcmp(a, other.logits.data() + i * among.classes, bytes) == 0 &&
                      std::memcmp(a, alone.logits.data() + i * among.classes, bytes) == 0
                  ? 0
                  : 1;
  }
  return {"independence of the batch", differ == 0,
          concat("of ", m, " images put alone, among others and in reversed order, ", differ,
                 " change a bit of their logits")};
}

/// Whether an attack with epsilon 0 leaves every image as it is and gives the clean accuracy. `zero` is its result.
inline Check check_epsilon_zero(const attack::Classifier& model, const Tensor<float>& images,
                                const attack::Result& zero) {
  const bool untouched = std::memcmp(zero.adversarial.data(), images.data(), images.span().size_bytes()) == 0;
  // The clean and the perturbed images of a random classifier are judged by different draws: votes may tip.
  const std::int64_t fallen = zero.clean_correct - zero.robust_correct;
  const std::int64_t allowed = model.declaration().random ? (zero.clean_correct + 19) / 20 : 0;
  return {"epsilon 0", untouched && fallen <= allowed,
          concat("clean accuracy ", zero.clean_correct, " of ", zero.size(), ", under an attack with epsilon 0 ",
                 zero.robust_correct, untouched ? "" : "; it changed pixels")};
}

}  // namespace pavise::evaluate
