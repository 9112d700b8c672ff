// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/pipeline.hpp"

#include <doctest/doctest.h>

#include <memory>
#include <string>

#include "filter/filter_checks.hpp"
#include "pavise/defend/filter/bit_depth.hpp"
#include "pavise/defend/filter/median.hpp"
#include "pavise/nn/models.hpp"

using namespace filter_checks;

TEST_CASE("pipeline: filters in front of a model, in order, with what they declare") {
  const auto model = pv::nn::mlp({.seed = 3, .input = {1, 6, 6}, .classes = 4});
  const auto pipeline = defend::BitDepth<float>(4) | defend::Median<float>(2) | model;
  CHECK(pipeline.to_string() == "bit-depth:4 | median:2 | mlp");
  const pv::attack::Classifier c = pipeline;
  CHECK(c.name() == "bit-depth:4 | median:2 | mlp");
  CHECK_FALSE(c.declaration().differentiable);
  CHECK_FALSE(c.declaration().random);
  CHECK(c.input_shape() == Shape{1, 6, 6});
  CHECK(c.classes() == 4);

  pv::Tape<float> tape;
  tape.begin(1, 1);
  Var<float> x = tape.input({1, 6, 6});
  for (std::int64_t i = 0; i < 36; ++i) {
    x.data()[i] = static_cast<float>(i * 7 % 36) / 36.0f;
  }
  const Var<float> a = c(x);
  const Var<float> b = model(defend::median(defend::bit_depth(x, 4), 2, 2));
  const Var<float> other = model(x);
  for (int k = 0; k < 4; ++k) {
    CHECK(a.data()[k] == b.data()[k]);
    CHECK(a.data()[k] != other.data()[k]);
  }
  const auto plain = defend::FilterList<float>{} | model;
  CHECK(plain.to_string() == "mlp");
  CHECK(plain.filters().declaration().differentiable);
}
