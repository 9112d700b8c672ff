// SPDX-License-Identifier: MIT
// What the tests of layers and models share: passes over drawn images, and derivatives against central differences.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "pavise/autodiff/loss.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/nn/registry.hpp"

namespace model_check {

using namespace pavise;

/// Pixel `element` of drawn image `image`, in (0,1).
inline double pixel(std::int64_t image, std::int64_t element) {
  const RandomKey key{.seed = 11, .purpose = Purpose::test, .image = static_cast<std::uint32_t>(image)};
  return (static_cast<double>(random_block(key, static_cast<std::uint32_t>(element))[0] >> 8) + 0.5) * 0x1p-24;
}

struct PassOptions {
  int lanes = 16;
  bool parameter_gradients = true;  ///< with 16 lanes; a single lane has none
  std::int64_t nudged = -1;         ///< pixel of the first image to which `nudge` is added
  double nudge = 0;
};

/// One pass over images first, first + 1, ...; labels are image numbers modulo classes.
template <class T>
struct Pass {
  Tape<T> tape;
  Var<T> x, logits, loss;

  Pass(const nn::BasicModel<T>& model, std::int64_t first, std::int64_t images, Mode mode, PassOptions options = {}) {
    const int lanes = options.lanes;
    tape.begin(images, lanes, mode, options.parameter_gradients && lanes == 16);
    tape.set_key({.seed = 5, .iteration = 2, .images = nullptr});
    x = tape.input(model.input_shape(), true);
    std::vector<std::int32_t> labels;
    for (std::int64_t g = 0; g < tape.groups(); ++g) {
      for (int lane = 0; lane < lanes; ++lane) {
        const std::int64_t image = std::min(g * lanes + lane, images - 1);
        labels.push_back(static_cast<std::int32_t>((first + image) % model.classes()));
        for (std::int64_t e = 0; e < x.size(); ++e) {
          x.data(g)[e * lanes + lane] =
              static_cast<T>(pixel(first + image, e) + (e == options.nudged && image == 0 ? options.nudge : 0.0));
        }
      }
    }
    logits = model(x);
    loss = cross_entropy(logits, labels.data());
  }

  /// The sum of the images' losses.
  double total() {
    double sum = 0;
    for (std::int64_t n = 0; n < tape.images(); ++n) {
      sum += static_cast<double>(loss.data(n / tape.lanes())[n % tape.lanes()]);
    }
    return sum;
  }
  std::vector<T> logits_of(std::int64_t image) {
    std::vector<T> out;
    for (std::int64_t e = 0; e < logits.size(); ++e) {
      out.push_back(logits.data(image / tape.lanes())[e * tape.lanes() + image % tape.lanes()]);
    }
    return out;
  }
  std::vector<T> input_gradient_of(std::int64_t image) {
    std::vector<T> out;
    const T* g = tape.input_gradient(x, image / tape.lanes());
    for (std::int64_t e = 0; e < x.size(); ++e) {
      out.push_back(g[e * tape.lanes() + image % tape.lanes()]);
    }
    return out;
  }
};

/// CHECKs derivatives of the summed loss against central differences in double: of some values of each parameter, and
/// of some pixels of the first image. Running statistics and weights are left as they were.
inline void gradients(const nn::BasicModel<double>& model, Mode mode, std::int64_t images, std::int64_t samples = 2) {
  constexpr double kStep = 1e-5;
  constexpr double kTolerance = 1e-6;  // relative to 1 + |derivative|
  auto& store = model.parameters();
  const std::vector<double> state(store.state().begin(), store.state().end());
  const auto restore = [&] { std::copy(state.begin(), state.end(), store.edit_state().begin()); };

  store.zero_gradients();
  Pass<double> exact(model, 0, images, mode);
  exact.tape.backward(exact.loss);
  restore();
  const auto dx = exact.input_gradient_of(0);
  const auto loss_with = [&](std::int64_t pixel_at, double nudge) {
    Pass<double> pass(model, 0, images, mode, {.nudged = pixel_at, .nudge = nudge});
    const double sum = pass.total();
    return sum;
  };
  for (auto& p : store.parameters()) {
    if (!p.trainable()) {
      continue;
    }
    CAPTURE(p.name());
    const auto g = p.gradient();
    CHECK(std::any_of(g.begin(), g.end(), [](double v) { return v != 0; }));
    for (std::int64_t k = 0; k < std::min(samples, p.size()); ++k) {
      // The largest derivative, and others from anywhere.
      const auto at = static_cast<std::size_t>(
          k == 0 ? std::max_element(g.begin(), g.end(), [](double a, double b) { return std::abs(a) < std::abs(b); }) -
                       g.begin()
                 : (k * 7919 + 13) % p.size());
      p.edit()[at] += kStep;
      const double up = loss_with(-1, 0);
      restore();
      p.edit()[at] -= kStep;
      const double down = loss_with(-1, 0);
      restore();
      const double slope = (up - down) / (2 * kStep);
      CAPTURE(at);
      CHECK(std::abs(slope - g[at]) <= kTolerance * (1 + std::abs(slope)));
    }
  }
  CHECK(std::any_of(dx.begin(), dx.end(), [](double v) { return v != 0; }));
  for (std::int64_t k = 0; k < samples; ++k) {
    const auto at = (k * 7919 + 5) % static_cast<std::int64_t>(dx.size());
    const double up = loss_with(at, kStep);
    restore();
    const double down = loss_with(at, -kStep);
    restore();
    const double slope = (up - down) / (2 * kStep);
    CAPTURE(at);
    CHECK(std::abs(slope - dx[static_cast<std::size_t>(at)]) <= kTolerance * (1 + std::abs(slope)));
  }
}

template <class T>
bool equal_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

/// CHECKs that an image's logits and input gradient have the same bits among others and alone, in one lane: in passes
/// without gradients of parameters, as attacks make them.
template <class T>
void lanes(const nn::BasicModel<T>& model) {
  Pass<T> many(model, 0, 18, Mode::evaluation, {.parameter_gradients = false});
  many.tape.backward(many.loss);
  for (const std::int64_t image : {0, 7, 17}) {
    CAPTURE(image);
    Pass<T> one(model, image, 1, Mode::evaluation, {.lanes = 1});
    one.tape.backward(one.loss);
    CHECK(equal_bits(one.logits_of(0), many.logits_of(image)));
    CHECK(equal_bits(one.input_gradient_of(0), many.input_gradient_of(image)));
  }
}

}  // namespace model_check
