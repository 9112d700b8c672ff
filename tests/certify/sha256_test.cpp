// SPDX-License-Identifier: MIT
#include "pavise/certify/sha256.hpp"

#include <doctest/doctest.h>

#include <string>

#include "pavise/nn/models.hpp"

namespace {

namespace pc = pavise::certify;

TEST_CASE("a model's hash is a function of its architecture and of every parameter") {
  auto model = pavise::nn::lenet({.seed = 1});
  const std::string before = pc::model_hash(model);
  CHECK(before == pc::model_hash(pavise::nn::lenet({.seed = 1})));
  CHECK(before != pc::model_hash(pavise::nn::lenet({.seed = 2})));
  model.parameters().parameters().front().edit()[0] += 1.0f;
  CHECK(before != pc::model_hash(model));
}

}  // namespace
