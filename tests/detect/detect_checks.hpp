// SPDX-License-Identifier: MIT
// What the tests of detectors share: drawn digits, a model trained plainly on them, images in tensors.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "core/text_checks.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/adversarial_training.hpp"
#include "pavise/defend/detector.hpp"
#include "pavise/defend/squeezers.hpp"
#include "pavise/nn/models.hpp"

namespace detect_checks {

namespace pv = pavise;
namespace attack = pavise::attack;
namespace defend = pavise::defend;

inline const pv::data::Split& digits() {
  static const auto split = pv::data::drawn_digits({.train = 6000, .test = 600, .seed = 5});
  return split;
}

/// Images that thresholds are fitted on.
inline pv::data::Dataset fit_images() { return digits().test.first(400); }

/// Images that detectors are tested with, apart from those.
inline pv::data::Dataset test_images(std::int64_t n) {
  std::vector<std::int64_t> index;
  for (std::int64_t i = 0; i < n; ++i) {
    index.push_back(400 + i);
  }
  return digits().test.subset(index);
}

inline const pv::nn::Model& plain_model() {
  static const pv::nn::Model model = [] {
    auto m = pv::nn::small_cnn({.seed = 1});
    defend::AdversarialTraining{.epochs = 3}.fit(m, digits().train);
    return m;
  }();
  return model;
}

/// The published set for MNIST: one bit, and the median of 2 x 2.
inline defend::FeatureSqueezing joint_detector() { return defend::FeatureSqueezing(defend::make_squeezers("mnist")); }

template <class A, class B>
bool same_bits(const A& a, const B& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof *a.data()) == 0;
}

using pavise_test::contains;
using pavise_test::refusal;

/// The number of threads, put back at the end of a block.
struct Threads {
  explicit Threads(int n) { pv::set_thread_count(n); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { pv::set_thread_count(before); }
  int before = pv::thread_count();
};

}  // namespace detect_checks
