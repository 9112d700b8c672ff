// SPDX-License-Identifier: MIT
// Trains a small network against PGD on Fashion-MNIST and attacks it.
#include <cstdio>

#include "pavise/pavise.hpp"

namespace pv = pavise;

int main() {
  const auto [train, test] = pv::data::fashion_mnist();  // images (1,28,28), pixels in [0,1]
  const auto threat = pv::attack::linf(0.1);             // a ball in pixels, within the box

  auto model = pv::nn::small_cnn({.seed = 0});
  const pv::defend::AdversarialTraining trainer{.attack = pv::attack::Pgd{threat, {.steps = 7}}, .epochs = 2};
  trainer.fit(model, train, pv::report::progress());

  const auto result =
      pv::attack::run(pv::attack::Pgd{threat, {.steps = 50}}, model, test.first(1000), {.restarts = 10});
  const auto interval = pv::evaluate::clopper_pearson(result.robust_correct, result.size());
  std::printf(
      "of %lld images %lld are classified correctly, and %lld still are under PGD-50 with 10 restarts (%.1f to %.1f "
      "%%)\n",
      static_cast<long long>(result.size()), static_cast<long long>(result.clean_correct),
      static_cast<long long>(result.robust_correct), 100 * interval.low, 100 * interval.high);
}
