// SPDX-License-Identifier: MIT
// What must hold of every attack that works by scores or predictions alone.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "attack/attack_checks.hpp"
#include "pavise/autodiff/tape.hpp"

namespace attack_checks {

/// What a staircase has been asked so far.
struct Asked {
  std::atomic<float> lowest{std::numeric_limits<float>::infinity()};  ///< pixel
  std::atomic<float> highest{-std::numeric_limits<float>::infinity()};
  std::atomic<std::int64_t> undefined{0};  ///< answers that were no numbers
};

/// Two classes, images (1,3,5): the score of class 1 is the sum of the pixels less 9 in steps of a quarter, so its slope
/// is 0 almost everywhere; backward is an error. It is no number where the first pixel exceeds 0.8.
inline attack::Classifier staircase(Asked& asked) {
  return {"staircase", {1, 3, 5}, 2, [&asked](pv::Var<float> x) {
            const auto forward = [&asked](std::span<const float> in, std::span<float> out) {
              const auto [least, most] = std::minmax_element(in.begin(), in.end());
              asked.lowest = std::min<float>(asked.lowest, *least);
              asked.highest = std::max<float>(asked.highest, *most);
              const std::size_t lanes = out.size() / 2;
              for (std::size_t lane = 0; lane < lanes; ++lane) {
                float sum = -9.0f;
                for (std::size_t i = lane; i < in.size(); i += lanes) {
                  sum += in[i];
                }
                const bool defined = in[lane] <= 0.8f;
                asked.undefined += defined ? 0 : 1;
                out[lane] = 0.0f;
                out[lanes + lane] = defined ? std::floor(4.0f * sum) : std::numeric_limits<float>::quiet_NaN();
              }
            };
            return pv::custom("staircase", x, pv::Shape{2}, forward,
                              [](auto, auto, auto, auto) { throw pv::Error("staircase: has no gradient"); });
          }};
}

/// Checks that the attack takes no gradients, asks for no image outside the box [0,1], breaks `least` or more of thirty
/// images, spends no more than `queries` passes on any and none on those that are broken already, and that an image with
/// scores that are no numbers changes nothing for its neighbours.
inline void check_without_gradients(const attack::Attack& attack, std::int64_t queries, std::int64_t least) {
  const RestoreSettings restore;
  pv::set_thread_count(1);  // Asked counts without locks
  Asked asked;
  const attack::Classifier model = staircase(asked);
  pv::Tensor<float> images = drawn_images(30, {1, 3, 5}, 9, 0.3, 0.7);
  constexpr std::int64_t kUndefined = 3;  // where a step upwards leads to no number
  images.row(kUndefined)[0] = 0.7999f;
  std::vector<std::int32_t> labels = predictions(model, images);
  constexpr std::size_t kBroken = 5;
  labels[kBroken] = 1 - labels[kBroken];
  const auto result = attack::run(attack, model, images, labels);
  CHECK(asked.lowest >= 0.0f);
  CHECK(asked.highest <= 1.0f);
  CHECK(asked.undefined > 0);
  std::int64_t broken = 0;
  for (std::size_t i = 0; i < labels.size(); ++i) {
    const auto x = result.adversarial.row(static_cast<std::int64_t>(i));
    broken += i != kBroken && result.success[i] != 0 ? 1 : 0;
    CHECK(result.success[i] ==
          (result.prediction[i] != labels[i] && x[0] <= 0.8f && attack::within(attack.threat(), result.distance[i])));
    CHECK(result.backward[i] == 0);
    CHECK(result.forward[i] <= (i == kBroken ? 1 : queries + 2));  // and one to judge it before, one behind
    CHECK(std::all_of(x.begin(), x.end(), [](float v) { return v >= 0.0f && v <= 1.0f; }));
  }
  CHECK_MESSAGE(broken >= least, attack.name(), " broke ", broken);

  std::vector<std::uint32_t> ids;
  std::vector<std::int32_t> other_labels;
  pv::Tensor<float> others(pv::Shape{29, 1, 3, 5});
  for (std::int64_t i = 0; i < 30; ++i) {
    if (i != kUndefined) {
      std::copy(images.row(i).begin(), images.row(i).end(), others.row(static_cast<std::int64_t>(ids.size())).begin());
      other_labels.push_back(labels[static_cast<std::size_t>(i)]);
      ids.push_back(static_cast<std::uint32_t>(i));
    }
  }
  const auto without = attack::run(attack, model, others, other_labels, {}, ids.data());
  for (std::size_t i = 0; i < ids.size(); ++i) {
    CHECK(std::equal(without.adversarial.row(static_cast<std::int64_t>(i)).begin(),
                     without.adversarial.row(static_cast<std::int64_t>(i)).end(),
                     result.adversarial.row(static_cast<std::int64_t>(ids[i])).begin()));
    CHECK(without.forward[i] == result.forward[ids[i]]);
  }
}

}  // namespace attack_checks
