// SPDX-License-Identifier: MIT
// What the tests of detectors share: drawn digits, a model trained plainly on them, images in tensors.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/bits_checks.hpp"
#include "core/text_checks.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/adversarial_training.hpp"
#include "pavise/defend/detector.hpp"
#include "pavise/defend/squeezers.hpp"
#include "pavise/nn/models.hpp"

namespace detect_checks {

namespace pv = pavise;
namespace attack = pavise::attack;
namespace defend = pavise::defend;

inline const pv::data::Split& drawn() {
  static const auto split = pv::data::drawn_digits({.train = 6000, .test = 600, .seed = 5});
  return split;
}

/// Images that thresholds are fitted on.
inline pv::data::Dataset fit_images() { return drawn().test.first(400); }

/// Images that detectors are tested with, apart from those.
inline pv::data::Dataset test_images(std::int64_t n) {
  std::vector<std::int64_t> index;
  for (std::int64_t i = 0; i < n; ++i) {
    index.push_back(400 + i);
  }
  return drawn().test.subset(index);
}

inline const pv::nn::Model& undefended() {
  static const pv::nn::Model model = [] {
    auto m = pv::nn::small_cnn({.seed = 1});
    defend::AdversarialTraining{.epochs = 3}.fit(m, drawn().train);
    return m;
  }();
  return model;
}

/// The published set for MNIST: one bit, and the median of 2 x 2.
inline defend::FeatureSqueezing joint_detector() { return defend::FeatureSqueezing(defend::make_squeezers("mnist")); }

using pavise_test::contains;
using pavise_test::refusal;
using pavise_test::same_bits;
using pavise_test::Threads;

}  // namespace detect_checks
