// SPDX-License-Identifier: MIT
// Attacks by name: every one can be made, set, refused and run.
#include "pavise/attack/catalog.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "core/text_checks.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/nn/models.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Norm;
using attack::Threat;
using pavise_test::contains;
using pavise_test::refusal;

namespace {

std::string value_of(const attack::Settings& settings, const std::string& name) {
  for (const auto& [key, value] : settings) {
    if (key == name) {
      return value;
    }
  }
  return "absent";
}

}  // namespace

TEST_CASE("catalog: numbers are decimal or fractions") {
  CHECK(attack::parse_number("x", "0.25") == 0.25);
  CHECK(attack::parse_number("x", "8/255") == 8.0 / 255.0);
  CHECK(attack::parse_number("x", "1e-3") == 1e-3);
  for (const auto* text : {"", "0.1x", " 1", "1/0", "1/", "/2", "nan", "inf", "1/2/3"}) {
    CAPTURE(text);
    CHECK(contains(refusal([&] { attack::parse_number("radius", text); }), std::string("radius '") + text + "'"));
  }
}

TEST_CASE(
    "catalog: every attack has a name of its own, a norm and a summary, and its settings can be given back to it") {
  std::set<std::string> names;
  for (const auto& name : attack::attack_names()) {
    CAPTURE(name);
    CHECK(names.insert(name).second);
    const auto d = attack::describe_attack(name);
    CHECK_FALSE(d.norms.empty());
    CHECK(d.summary.size() > 10);
    for (const Norm norm : d.norms) {
      const Threat threat(norm, 0.1);
      const auto first = attack::make_attack(name, threat);
      REQUIRE(first.attack != nullptr);
      CHECK(first.attack->threat().norm == norm);
      CHECK(attack::make_attack(name, threat, first.settings).settings == first.settings);
    }
  }
}

TEST_CASE("catalog: settings reach the attack") {
  const Threat threat = attack::linf(0.1);
  const auto pgd = attack::make_attack("pgd", threat, {{"steps", "7"}, {"step_size", "2/255"}, {"loss", "dlr"}});
  CHECK(value_of(pgd.settings, "steps") == "7");
  CHECK(value_of(pgd.settings, "step_size") == pv::concat(2.0 / 255.0));
  CHECK(value_of(pgd.settings, "loss") == "dlr");
  CHECK(value_of(pgd.settings, "random_start") == "true");
  const auto& typed = dynamic_cast<const attack::Pgd&>(*pgd.attack);
  CHECK(typed.options().steps == 7);
  CHECK(typed.options().step_size == 2.0 / 255.0);
  CHECK(static_cast<bool>(typed.options().loss));
  CHECK(attack::make_attack("pgd", threat, {{"random_start", "false"}}).attack->random() == false);
  CHECK(attack::make_attack("apgd-t", threat, {{"targets", "3"}}).attack->attempts() == 3);
  CHECK(attack::make_attack("pgd", threat, {}, true).attack->targeted());
  // What an attack works out by itself is told as it is.
  CHECK(value_of(attack::make_attack("fgsm", threat).settings, "step_size") == "0.1");
}

TEST_CASE("catalog: what it refuses, it names") {
  const Threat threat = attack::linf(0.1);
  const auto made = [&](const char* name, const attack::Settings& settings, bool targeted = false) {
    return refusal([&] { attack::make_attack(name, threat, settings, targeted); });
  };
  CHECK(contains(made("pgdd", {}), "unknown attack pgdd, expected one of fgsm,"));
  CHECK(contains(made("fab", {{"loss", "dlr"}}), "attack fab has no setting loss (dlr), it has steps,"));
  CHECK(contains(made("fgsm", {{"steps", "5"}}), "no setting steps"));
  CHECK(contains(made("pgd", {{"steps", "many"}}), "pgd: steps 'many': expected a whole number"));
  CHECK(contains(made("pgd", {{"steps", "1.5"}}), "expected a whole number"));
  CHECK(contains(made("pgd", {{"steps", "-3"}}), "-3"));
  CHECK(contains(made("pgd", {{"loss", "hinge"}}), "unknown loss hinge, expected one of cross-entropy"));
  CHECK(contains(made("pgd", {{"random_start", "1"}}), "expected true or false"));
  CHECK(contains(made("pgd", {{"step_size", "1/0"}}), "denominator"));
  CHECK(contains(made("hop-skip-jump", {}, true), "no targeted form"));
  CHECK(contains(refusal([] { attack::make_attack("ddn", attack::linf(0.1)); }), "l2"));
}

TEST_CASE("catalog: every attack in every norm runs, changes only what it may, and counts its passes") {
  const auto digits = pv::data::drawn_digits().test.first(3);
  const auto model = pv::nn::mlp({.seed = 3, .input = digits.image_shape(), .hidden = {24}});
  // Predictions for labels, so that no image is wrong from the start.
  const auto clean = attack::run(attack::fgsm(attack::linf(0.0)), model, digits);
  const auto right = digits.with_labels(clean.clean_prediction);
  for (const auto& name : attack::attack_names()) {
    const auto d = attack::describe_attack(name);
    for (const Norm norm : d.norms) {
      CAPTURE(name);
      CAPTURE(attack::norm_name(norm));
      const Threat threat(norm, norm == Norm::linf ? 0.2 : norm == Norm::l2 ? 2.0 : 20.0);
      attack::Settings few;
      for (const auto& [key, value] : d.settings) {
        if (key == "steps" && name != "bim") {
          few.emplace_back(key, name == "cw" || name == "ead" ? "200" : name == "fmn" ? "100" : "10");
        } else if (key == "queries") {
          few.emplace_back(key, "300");
        } else if (key == "search_steps") {
          few.emplace_back(key, "3");
        } else if (key == "initial_constant") {
          few.emplace_back(key, "1");
        }
      }
      if (norm == Norm::linf && name == "cw") {
        few = {{"steps", "50"}, {"largest_constant", "1"}, {"initial_constant", "0.1"}};
      }
      const auto named = attack::make_attack(name, threat, few);
      const auto result = attack::run(*named.attack, model, right);
      CHECK(result.clean_correct == 3);
      for (std::size_t i = 0; i < 3; ++i) {
        CHECK(result.forward[i] >= 2);
        const auto image = result.adversarial.row(static_cast<std::int64_t>(i));
        CHECK(std::all_of(image.begin(), image.end(), [](float v) { return v >= 0.0f && v <= 1.0f; }));
        if (result.success[i] != 0) {
          CHECK(static_cast<double>(result.distance[i]) <= threat.epsilon * 1.0001);
          CHECK(result.prediction[i] != right.label(static_cast<std::int64_t>(i)));
        }
      }
      // An untrained network holds nothing: gradient attacks with this much room must break images (but not by a
      // single pixel, which is FGSM in L1).
      if (!(name == "fgsm" && norm == Norm::l1) && name != "square" && name != "hop-skip-jump" && name != "spsa" &&
          name != "jsma") {
        CHECK(result.robust_correct < 3);
      }
    }
  }
}

TEST_CASE("attacks: a target that is the image's own label is refused, as are labels where there are no targets") {
  const auto digits = pv::data::drawn_digits().test.first(4);
  const auto model = pv::nn::mlp({.seed = 3, .input = digits.image_shape()});
  const auto truth = digits.labels();
  std::vector<std::int32_t> targets;
  for (const auto label : truth) {
    targets.push_back((label + 1) % 10);
  }
  const auto targeted = attack::make_attack("pgd", attack::linf(0.1), {}, true);
  attack::RunOptions options;
  options.truth = truth;
  CHECK_NOTHROW(attack::run(*targeted.attack, model, digits.with_labels(targets), options));
  targets[2] = truth[2];
  CHECK(contains(refusal([&] { attack::run(*targeted.attack, model, digits.with_labels(targets), options); }),
                 pv::concat("target ", truth[2], " of image 2 is its own label")));
  const auto plain = attack::make_attack("pgd", attack::linf(0.1));
  CHECK(contains(refusal([&] { attack::run(*plain.attack, model, digits, options); }), "is not targeted"));
  options.truth = std::span(truth).first(3);
  CHECK(contains(refusal([&] { attack::run(*targeted.attack, model, digits.with_labels(targets), options); }),
                 "3 true labels for 4 images"));
}
