// SPDX-License-Identifier: MIT
#pragma once

#include <string>

#include "pavise/defend/strategy.hpp"

namespace pavise::defend {

/// Plain training: the mean cross-entropy of the images as they are packed. With TrainOptions::gaussian_sigma it is the
/// training on noisy images that randomized smoothing certifies (Cohen et al. 2019).
class Standard : public Strategy {
 public:
  std::string name() const override { return "none"; }
  Recipe recipe() const override { return {{"defense", "none"}}; }
  bool runs_on_device() const override { return true; }
  void accumulate(Step& step) override { detail::cross_entropy_pass(step, step.clean.values(), 0); }
};

}  // namespace pavise::defend
