// SPDX-License-Identifier: MIT
// Defences that are known to be broken must be broken by the evaluation: a naive attack leaves more than half of the
// images, the adaptive one less than a tenth.
#include <doctest/doctest.h>

#include <cstdint>
#include <string>

#include "filter/filter_checks.hpp"
#include "pavise/attack/deepfool.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/adversarial_training.hpp"
#include "pavise/evaluate/filters.hpp"
#include "pavise/nn/models.hpp"

using namespace filter_checks;
namespace attack = pavise::attack;
namespace evaluate = pavise::evaluate;

namespace {

const pv::data::Split& digits() {
  static const auto split = pv::data::drawn_digits({.train = 6000, .test = 64, .seed = 5});
  return split;
}

const pv::nn::Model& model() {
  static const pv::nn::Model m = [] {
    auto net = pv::nn::small_cnn({.seed = 1});
    defend::AdversarialTraining{.epochs = 3}.fit(net, digits().train);
    return net;
  }();
  return m;
}

/// Images that stand against DeepFool, made on the model without the filters and going no further than its boundary.
std::int64_t naive(const attack::Classifier& pipeline, const attack::Threat& threat) {
  return attack::run(attack::transfer(attack::DeepFool(threat, {.overshoot = 0.001}), model()), pipeline, digits().test,
                     {.judging_draws = 30})
      .robust_correct;
}

void check_broken(const char* text, bool random) {
  INFO(text);
  const auto threat = attack::linf(0.15);
  const auto filters = filter_list({text});
  const auto left = naive(filters | attack::Classifier(model()), threat);
  const auto r = evaluate::show_filter(model(), filters, digits().test, threat,
                                       {.settings = {.steps = 20, .queries = 100, .draws = 10}, .judging_draws = 30});
  MESSAGE(text, ": clean ", r.clean, ", naive ", left, ", unaware ", r.unaware, ", adaptive ", r.adaptive, " of ",
          r.total);
  CHECK(10 * r.clean > 9 * r.total);
  CHECK(2 * left > r.total);
  CHECK(10 * r.adaptive < r.total);
  CHECK(r.declaration.random == random);
}

}  // namespace

TEST_CASE("filters without a useful derivative fall to the adaptive attack") {
  for (const char* text : {"bit-depth:3", "jpeg:50", "median:3"}) {
    check_broken(text, false);
  }
}

TEST_CASE("random filters fall to the expectation over their draws") {
  for (const char* text : {"resize-pad:24", "gaussian-noise:0.1", "uniform-noise:0.2"}) {
    check_broken(text, true);
  }
}
