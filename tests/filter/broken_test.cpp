// SPDX-License-Identifier: MIT
// Defences that are known to be broken must be broken by the evaluation: the attack that does not see through them
// leaves more than half of the images, the adaptive one less than a tenth.
#include <doctest/doctest.h>

#include <algorithm>
#include <string>
#include <utility>

#include "filter/filter_checks.hpp"
#include "pavise/attack/pgd.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/defend/adversarial_training.hpp"
#include "pavise/evaluate/filters.hpp"
#include "pavise/nn/models.hpp"

using namespace filter_checks;
namespace attack = pavise::attack;
namespace evaluate = pavise::evaluate;

namespace {

const pv::data::Split& digits() {
  static const auto split = pv::data::drawn_digits({.train = 3000, .test = 64, .seed = 5});
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

/// The pipeline as it is to whoever differentiates it without thinking: no gradient passes the filter.
attack::Classifier hidden(const defend::FilterList<float>& filters) {
  auto logits = [filters](Var<float> x) {
    const Var<float> y = filters(x);
    const auto n = static_cast<std::size_t>(y.size() * y.tape().lanes());
    const Var<float> stopped = pv::pointwise(
        "stopped", x, [&](auto, auto out) { std::copy_n(std::as_const(y).data(), n, out.begin()); },
        [](auto, auto, auto, auto) {});
    return model()(stopped);
  };
  return {"hidden", model().input_shape(), model().classes(), logits};
}

double share(std::int64_t k, std::int64_t n) { return static_cast<double>(k) / static_cast<double>(n); }

}  // namespace

TEST_CASE("filters without a useful derivative: an attack that follows it leaves most, the adaptive one nothing") {
  const auto threat = attack::linf(0.1);
  for (const char* text : {"bit-depth:3", "jpeg:50", "median:3"}) {
    INFO(text);
    const auto filters = filter_list({text});
    const auto naive = attack::run(attack::Pgd(threat, {.steps = 20}), hidden(filters), digits().test, {});
    const auto r =
        evaluate::show_filter(model(), filters, digits().test, threat, {.settings = {.steps = 20, .queries = 100}});
    MESSAGE(text, ": clean ", r.clean, ", naive ", naive.robust_correct, ", unaware ", r.unaware, ", adaptive ",
            r.adaptive, " of ", r.total);
    CHECK(share(r.clean, r.total) > 0.9);
    CHECK(share(naive.robust_correct, r.total) > 0.5);
    CHECK(share(r.adaptive, r.total) < 0.1);
    CHECK(r.adaptive <= r.unaware);
    CHECK_FALSE(r.declaration.differentiable);
  }
}

TEST_CASE("random filters: an attack that does not know them leaves most, expectation over their draws nothing") {
  for (const auto& [text, epsilon] : {std::pair{"resize-pad:20", 0.1}, {"gaussian-noise:0.2", 0.1}}) {
    INFO(text);
    const auto r = evaluate::show_filter(model(), filter_list({text}), digits().test, attack::linf(epsilon),
                                         {.settings = {.steps = 20, .queries = 100, .draws = 10}, .judging_draws = 30});
    MESSAGE(text, ": clean ", r.clean, ", unaware ", r.unaware, ", adaptive ", r.adaptive, " of ", r.total);
    CHECK(share(r.unaware, r.total) > 0.5);
    CHECK(share(r.adaptive, r.total) < 0.1);
    CHECK(r.declaration.random);
  }
}
