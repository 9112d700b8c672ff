// SPDX-License-Identifier: MIT
// Trains and attacks a small model and prints what came out: compiled with the one header, and with the headers.
#ifdef PAVISE_ONE_HEADER
#include "pavise.hpp"
#else
#include "pavise/attack/square.hpp"
#include "pavise/core/hash.hpp"
#include "pavise/pavise.hpp"
#endif

#include <cstdio>

namespace pv = pavise;

int main() {
  const auto train = pv::data::drawn_digits({.train = 200, .test = 1}).train;
  const auto threat = pv::attack::linf(0.1);
  auto model = pv::nn::mlp({.seed = 1});
  const pv::defend::AdversarialTraining trainer{
      .attack = pv::attack::Pgd{threat, {.steps = 2}}, .epochs = 2, .batch_size = 40};
  trainer.fit(model, train);
  const auto result = pv::attack::run(pv::attack::Square(threat, {.queries = 20}), model, train.first(40));
  const auto hash = pv::Hash().numbers(std::span<const float>(model.parameters().values())).value();
  std::printf("Pavise %s: weights %016llx, %lld of 40 stand\n", std::string(pv::kVersion).c_str(),
              static_cast<unsigned long long>(hash), static_cast<long long>(result.robust_correct));
}
