// SPDX-License-Identifier: MIT
// The same images under one attack of growing radius, as `pavise attack --curve ... --gallery N` writes them. Heavy
// (nlohmann-json): not in the umbrella.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

#include "pavise/report/field.hpp"

namespace pavise::report {

struct SweepRecord {
  struct Image {
    std::int64_t index = 0;  ///< in the test set
    std::int64_t label = 0;
    friend bool operator==(const Image&, const Image&) = default;
  };
  /// What the attack made of one of the images.
  struct Shown {
    std::int64_t prediction = 0;
    std::optional<double> confidence;
    bool fooled = false;
    std::vector<double> pixels;  ///< (C,H,W), 0 to 255
  };
  struct Step {
    double epsilon = 0;
    std::vector<Shown> images;  ///< one for each of the images
  };
  std::int64_t channels = 0, height = 0, width = 0;
  std::vector<Image> images;
  std::vector<Step> steps;  ///< by rising epsilon
};

namespace detail {

inline SweepRecord read_sweep(const Field& sweep) {
  SweepRecord out;
  const auto size = read_image_shape(sweep.at("shape"), out.channels, out.height, out.width);
  for (const auto& f : sweep.at("images").array()) {
    out.images.push_back({.index = f.at("index").integer(0), .label = f.at("label").integer(0)});
  }
  for (const auto& f : sweep.at("steps").array()) {
    SweepRecord::Step step{.epsilon = f.at("epsilon").number(0), .images = {}};
    const auto images = f.at("images").array();
    if (images.size() != out.images.size()) {
      f.at("images").fail("expected one for each of ", out.images.size(), " images, got ", images.size());
    }
    for (const auto& image : images) {
      step.images.push_back({.prediction = image.at("prediction").integer(-1),
                             .confidence = number_or_none(image, "confidence", 0, 1.0001),
                             .fooled = image.at("fooled").truth(),
                             .pixels = read_pixels(image.at("pixels"), size)});
    }
    out.steps.push_back(std::move(step));
  }
  if (out.images.empty() || out.steps.empty()) {
    sweep.fail("expected one image or more at one radius or more");
  }
  std::stable_sort(out.steps.begin(), out.steps.end(),
                   [](const auto& a, const auto& b) { return a.epsilon < b.epsilon; });
  return out;
}

}  // namespace detail

}  // namespace pavise::report
