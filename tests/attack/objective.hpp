// SPDX-License-Identifier: MIT
// Functions of an image that are known in double, as classifiers that write down what an attack asks them: for tests that
// follow an attack step by step.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <functional>
#include <numeric>
#include <utility>
#include <vector>

#include "attack/attack_checks.hpp"

namespace attack_checks {

using Doubles = std::vector<double>;

/// A function of an image, with its gradient, as a classifier that never changes its mind: logit 0 is 1e6, logit 1 the
/// value, logit 2 is 0. Every image that it is asked about is written down; for one image at a time.
struct Objective {
  using Value = std::function<double(const Doubles& x, Doubles* gradient)>;

  Objective(std::int64_t n, Value f) : size(n), value(std::move(f)) {}

  attack::Classifier classifier() {
    return {"objective", pv::Shape{1, 1, size}, 3, [this](pv::Var<float> x) {
              REQUIRE(x.tape().lanes() == 1);
              asked.emplace_back(x.data(), x.data() + size);
              return pv::custom(
                  "objective", x, pv::Shape{3},
                  [this](auto in, auto out) {
                    out[0] = 1e6f;
                    out[1] = static_cast<float>(value(Doubles(in.begin(), in.end()), nullptr));
                    out[2] = 0.0f;
                  },
                  [this](auto in, auto, auto dout, auto din) {
                    Doubles gradient(in.size());
                    value(Doubles(in.begin(), in.end()), &gradient);
                    for (std::size_t i = 0; i < in.size(); ++i) {
                      din[i] += dout[1] * static_cast<float>(gradient[i]);
                    }
                  });
            }};
  }
  /// The value as an attack's loss.
  static attack::Loss loss() {
    return [](pv::Var<float> z, const std::int32_t*) {
      return pv::custom(
          "second", z, pv::Shape{}, [](auto in, auto out) { out[0] = in[1]; },
          [](auto, auto, auto dout, auto din) { din[1] += dout[0]; });
    };
  }
  /// The images that an attack asked about, the clean one and the judged one left out.
  std::vector<Doubles> trace(const attack::Attack& attack, const std::vector<float>& clean) {
    pv::Tensor<float> image(pv::Shape{1, 1, 1, size});
    std::copy(clean.begin(), clean.end(), image.begin());
    asked.clear();
    const std::int32_t label = attack.targeted() ? 2 : 0;
    attack::run(attack, classifier(), image, {&label, 1});
    return {asked.begin() + 1, asked.end()};
  }

  std::int64_t size;
  Value value;
  std::vector<Doubles> asked;
};

/// sum_k s_k (w_k x - t_k)^2 with signs s of both kinds: hills, valleys and saddles.
inline Objective quadratic(std::int64_t n, std::uint64_t seed) {
  pv::RandomSequence random({.seed = seed, .purpose = pv::Purpose::test});
  constexpr std::size_t kTerms = 4;
  std::vector<Doubles> w(kTerms);
  Doubles t;
  for (auto& row : w) {
    for (std::int64_t i = 0; i < n; ++i) {
      row.push_back(random.uniform(-2, 2));
    }
    t.push_back(random.uniform(-1, 1));
  }
  return {n, [=](const Doubles& x, Doubles* gradient) {
            double sum = 0;
            for (std::size_t k = 0; k < kTerms; ++k) {
              const double d = std::inner_product(x.begin(), x.end(), w[k].begin(), -t[k]);
              const double sign = k == 0 ? 1.0 : -1.0;
              sum += sign * d * d;
              for (std::size_t i = 0; gradient != nullptr && i < x.size(); ++i) {
                (*gradient)[i] += sign * 2 * d * w[k][i];
              }
            }
            return sum;
          }};
}

/// ||a - b||.
inline double norm_of(Norm norm, Doubles a, const Doubles& b) {
  std::transform(a.begin(), a.end(), b.begin(), a.begin(), std::minus<>());
  return norm_of(norm, a);
}

}  // namespace attack_checks
