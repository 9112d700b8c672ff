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
  static const auto split = [] {
    auto all = pv::data::drawn_digits();
    all.test = all.test.first(64);
    return all;
  }();
  return split;
}

const pv::nn::Model& model() {
  static const pv::nn::Model m = [] {
    auto net = pv::nn::small_cnn({.seed = 0});
    defend::AdversarialTraining{.epochs = 3}.fit(net, digits().train);
    return net;
  }();
  return m;
}

/// Images that stand against DeepFool, made on the model without the filters and going little beyond its boundary.
std::int64_t naive(const attack::Classifier& pipeline, const attack::Threat& threat) {
  return attack::run(attack::transfer(attack::DeepFool(threat), model()), pipeline, digits().test,
                     {.judging_draws = 30})
      .robust_correct;
}

void check_broken(const std::string& text, double epsilon, bool random) {
  const auto threat = attack::linf(epsilon);
  const auto filters = filter_list({text});
  const auto left = naive(filters | attack::Classifier(model()), threat);
  const auto r = evaluate::show_filter(model(), filters, digits().test, threat,
                                       {.settings = {.steps = 20, .queries = 100, .draws = 10}, .judging_draws = 30});
  INFO(text, ": clean ", r.clean, ", naive ", left, ", unaware ", r.unaware, ", adaptive ", r.adaptive, " of ",
       r.total);
  CHECK(10 * r.clean > 9 * r.total);
  CHECK(2 * left > r.total);
  CHECK(10 * r.adaptive < r.total);
  CHECK(r.declaration.random == random);
}

}  // namespace

TEST_CASE("filters without a useful derivative fall to the adaptive attack") {
  check_broken("bit-depth:3", 0.1, false);
  check_broken("jpeg:50", 0.12, false);
  check_broken("median:3", 0.1, false);
}

TEST_CASE("random filters fall to the expectation over their draws") {
  check_broken("resize-pad:24", 0.12, true);
  check_broken("gaussian-noise:0.1", 0.1, true);
  check_broken("uniform-noise:0.2", 0.1, true);
}
