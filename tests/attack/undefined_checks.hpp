// SPDX-License-Identifier: MIT
// What must hold of an attack by gradients whose search runs into images without logits.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "attack/attack_checks.hpp"
#include "pavise/autodiff/tape.hpp"

namespace attack_checks {

/// `small_network` behind a door that lets nothing through but NaN, forward and backward, as soon as a pixel leaves
/// [0.25,0.75] in images whose first pixel is not within (0.26,0.74). `undefined` counts the images that were asked so.
inline attack::Classifier guarded(const pv::nn::Model& model, std::atomic<std::int64_t>& undefined) {
  return {"guarded", model.input_shape(), model.classes(), [&](pv::Var<float> x) {
            const int lanes = x.tape().lanes();
            const auto closed = [lanes](auto in, std::size_t at) {
              const std::size_t lane = at % static_cast<std::size_t>(lanes);
              bool left = false;
              for (std::size_t i = lane; i < in.size(); i += static_cast<std::size_t>(lanes)) {
                left = left || !(in[i] >= 0.25f && in[i] <= 0.75f);
              }
              return left && !(in[lane] > 0.26f && in[lane] < 0.74f);
            };
            return model(pv::pointwise(
                "door", x,
                [closed, lanes, &undefined](auto in, auto out) {
                  for (std::size_t i = 0; i < in.size(); ++i) {
                    out[i] = closed(in, i) ? std::numeric_limits<float>::quiet_NaN() : in[i];
                    undefined += i < static_cast<std::size_t>(lanes) && std::isnan(out[i]) ? 1 : 0;
                  }
                },
                [closed](auto in, auto, auto dout, auto din) {
                  for (std::size_t i = 0; i < in.size(); ++i) {
                    din[i] += closed(in, i) ? std::numeric_limits<float>::quiet_NaN() : dout[i];
                  }
                }));
          }};
}

/// Checks that images whose logits become NaN on the way change nothing for their neighbours, and that what the attack
/// claims of any image is true.
inline void check_undefined_images(const attack::Attack& attack, const attack::RunOptions& options = {}) {
  const auto network = small_network();
  std::atomic<std::int64_t> undefined{0};
  const attack::Classifier model = guarded(network, undefined);
  constexpr std::int64_t kImages = 24;
  auto images = drawn_images(kImages, model.input_shape(), 21, 0.3, 0.65);
  const auto guard = [](std::int64_t i) { return i % 5 == 2; };
  for (std::int64_t i = 0; i < kImages; ++i) {
    images.row(i)[0] = !guard(i) ? images.row(i)[0] : i % 2 == 0 ? 0.74f : 0.26f;
  }
  auto labels = predictions(model, images);
  if (attack.targeted()) {
    for (auto& label : labels) {
      label = (label + 4) % model.classes();
    }
  }
  const auto result = attack::run(attack, model, images, labels, options);
  CHECK_MESSAGE(undefined > 0, attack.name(), " met no image without logits");
  const auto seen = predictions(model, result.adversarial);
  std::int64_t fooled = 0;
  std::vector<std::int64_t> others;
  for (std::int64_t i = 0; i < kImages; ++i) {
    const auto at = static_cast<std::size_t>(i);
    for (const float v : result.adversarial.row(i)) {
      CHECK((v >= static_cast<float>(attack.threat().low) && v <= static_cast<float>(attack.threat().high)));
    }
    if (result.fooled[at] != 0) {
      CHECK((seen[at] == labels[at]) == attack.targeted());
    }
    if (!guard(i)) {
      others.push_back(i);
      fooled += result.fooled[at];
    }
  }
  CHECK(fooled > 0);
  const auto count = static_cast<std::int64_t>(others.size());
  pv::Tensor<float> rest(pv::Shape{count, images.shape()[1], images.shape()[2], images.shape()[3]});
  std::vector<std::int32_t> rest_labels;
  std::vector<std::uint32_t> rest_ids;
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t from = others[static_cast<std::size_t>(i)];
    std::copy(images.row(from).begin(), images.row(from).end(), rest.row(i).begin());
    rest_labels.push_back(labels[static_cast<std::size_t>(from)]);
    rest_ids.push_back(static_cast<std::uint32_t>(from));
  }
  const auto without = attack::run(attack, model, rest, rest_labels, options, rest_ids.data());
  for (std::int64_t i = 0; i < count; ++i) {
    const auto from = static_cast<std::size_t>(others[static_cast<std::size_t>(i)]);
    const auto expected = result.adversarial.row(static_cast<std::int64_t>(from));
    CHECK_MESSAGE(std::equal(expected.begin(), expected.end(), without.adversarial.row(i).begin()), attack.name(),
                  ": image ", from, " differs without the images that have no logits");
    CHECK(without.forward[static_cast<std::size_t>(i)] == result.forward[from]);
  }
}

}  // namespace attack_checks
