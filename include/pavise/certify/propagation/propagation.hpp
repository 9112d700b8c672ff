// SPDX-License-Identifier: MIT
// Deterministic certificates: that no image of a ball is classified otherwise, by bounds of the network's values.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <utility>
#include <vector>

#include "pavise/autodiff/loss.hpp"
#include "pavise/certify/propagation/image_bounds.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/data/augment.hpp"
#include "pavise/data/dataset.hpp"

namespace pavise::certify {

struct PropagationOptions {
  Propagation method = Propagation::crown;
  attack::Threat threat = {};
  /// Halvings of the interval in which the largest verified radius is looked for, up to threat.epsilon; 0: that radius
  /// alone.
  std::int64_t search = 0;

  void check() const {
    require(search >= 0 && search <= 50, "bounds: ", search, " steps of the search for a radius, expected 0 to 50");
  }
};

struct PropagationResult {
  std::int32_t chosen = 0;  ///< the class that the model answers for the image itself
  bool verified = false;    ///< the model answers it everywhere within `radius`
  double radius = 0;        ///< epsilon, or the largest verified one that a search found
  /// At `radius`, lower bounds of the difference between the logit of the chosen class and that of every class; 0 for
  /// the chosen one.
  std::vector<double> margins = {};

  friend bool operator==(const PropagationResult&, const PropagationResult&) = default;
};

/// Whether the model's arg-max is sure to be `chosen` with these margins.
inline bool all_positive(const std::vector<double>& margins, std::int32_t chosen) {
  for (std::size_t j = 0; j < margins.size(); ++j) {
    if (static_cast<std::int32_t>(j) != chosen && !(margins[j] > 0)) {
      return false;
    }
  }
  return true;
}

/// The class that the model answers for an image (C,H,W), row-major.
inline std::int32_t predict(const nn::Model& model, const float* image) {
  Tape<float>& tape = thread_tape<float>();
  tape.begin(1, 1);
  Var<float> x = tape.input(model.input_shape());
  std::copy_n(image, x.size(), x.data());
  std::int32_t answer = 0;
  argmax(model(x), &answer);
  return answer;
}

/// What bounds say of an image (C,H,W), row-major. With a search: epsilon if it is verified, else the largest radius that
/// bisection found (bounds need not be monotone in the radius: it is verified, and none is promised beyond it).
inline PropagationResult verify_image(const Network& network, const float* image, const PropagationOptions& options) {
  options.check();
  PropagationResult out{.chosen = predict(network.model(), image)};
  const auto at = [&](double radius) {
    auto margins = ImageBounds(network, image, options.threat.with_epsilon(radius), options.method).margins(out.chosen);
    const bool verified = all_positive(margins, out.chosen);
    if (verified || out.margins.empty()) {
      out.verified = verified;
      out.radius = radius;
      out.margins = std::move(margins);
    }
    return verified;
  };
  if (at(options.threat.epsilon) || options.search == 0) {
    return out;
  }
  out.margins.clear();
  double low = 0;
  double high = options.threat.epsilon;
  if (!at(0)) {
    return out;
  }
  for (std::int64_t i = 0; i < options.search; ++i) {
    const double middle = (low + high) / 2;
    (at(middle) ? low : high) = middle;
  }
  return out;
}

/// Calls on_result(i, result) for every image i, in order. Images are worked on in parallel; no result depends on the
/// number of threads. Throws ShapeError where the images do not suit the model.
inline void verify_images(const Network& network, const data::Dataset& images, const PropagationOptions& options,
                          const std::function<void(std::int64_t, const PropagationResult&)>& on_result) {
  require<ShapeError>(images.size() == 0 || images.image_shape() == network.model().input_shape(), "bounds: model ",
                      network.model().name(), " expects images of ", network.model().input_shape(), ", data set ",
                      images.name(), " has ", images.image_shape());
  constexpr std::int64_t kTogether = 32;
  std::vector<PropagationResult> results(kTogether);
  for (std::int64_t first = 0; first < images.size(); first += kTogether) {
    const std::int64_t n = std::min(kTogether, images.size() - first);
    parallel_for(n, [&](std::int64_t i) {
      std::vector<float> image(static_cast<std::size_t>(images.image_size()));
      data::load_image(images, first + i, image.data());
      results[static_cast<std::size_t>(i)] = verify_image(network, image.data(), options);
    });
    for (std::int64_t i = 0; i < n; ++i) {
      on_result(first + i, results[static_cast<std::size_t>(i)]);
    }
  }
}

}  // namespace pavise::certify
