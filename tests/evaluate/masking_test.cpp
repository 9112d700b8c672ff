// SPDX-License-Identifier: MIT
// Gradient masking that was planted, which the verdict has to find, and models without any, which it has to let pass.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "evaluate/models.hpp"
#include "pavise/attack/bpda.hpp"

using namespace evaluate_checks;
using evaluate::SignState;
using evaluate::Verdict;

namespace {

evaluate::Report evaluated(const attack::Classifier& model, const evaluate::Options& options = few_steps()) {
  return evaluate::robustness(model, digits().test.first(130), threat(), options);
}

/// That the verdict is unreliable, and that these signs are why, each named in the reason.
void check_unreliable(const evaluate::Report& report, const std::vector<std::string>& failed) {
  INFO(report.summary());
  CHECK(report.verdict == Verdict::unreliable);
  for (const auto& name : failed) {
    CHECK(sign(report.signs, name).state == SignState::failed);
    CHECK(report.reason.find(name) != std::string::npos);
  }
}

}  // namespace

TEST_CASE("verdict: an adversarially trained model is reliable, and so is a plain one without any robustness") {
  const auto robust = evaluated(robust_model());
  INFO(robust.summary());
  CHECK(robust.verdict == Verdict::reliable);
  CHECK(robust.robust_accuracy() > 0.3);
  const auto plain = evaluated(plain_model());
  INFO(plain.summary());
  CHECK(plain.verdict == Verdict::reliable);
  CHECK(plain.robust_accuracy() < 0.1);
  CHECK(plain.clean_accuracy() > 0.95);
  for (const auto& report : {robust, plain}) {
    for (const auto& s : report.signs) {
      CHECK((s.state == SignState::passed || s.state == SignState::not_applicable));
      CHECK(s.sentence.size() > 10);
    }
  }
}

TEST_CASE("verdict: a quantiser and a layer with zero gradients are unreliable") {
  const auto quantised = evaluated(behind("quantised", plain_model(), [](auto x) { return quantise(x, 7); }));
  check_unreliable(quantised, {"zero gradients", "unbounded epsilon", "gradient-free attacks"});
  const auto hidden = evaluated(behind("hidden", robust_model(), [](auto x) { return false_gradient(x, 0); }));
  check_unreliable(hidden, {"zero gradients", "unbounded epsilon", "gradient-free attacks"});
  // Square saw through both.
  CHECK(quantised.robust_accuracy() < 0.5);
  CHECK(hidden.robust_correct < hidden.clean_correct);
}

TEST_CASE("verdict: gradients that point the wrong way are unreliable") {
  const auto turned = evaluated(behind("turned", plain_model(), [](auto x) { return false_gradient(x, -1); }));
  check_unreliable(turned, {"finite differences in random directions", "finite differences along the gradient",
                            "loss over epsilon", "unbounded epsilon"});
}

TEST_CASE(
    "verdict: a softmax saturated by temperature 100 is unreliable, declared or not, and falls to losses of the "
    "logits") {
  const auto plain = evaluated(plain_model());
  const auto hot = [](auto z) { return pv::scale(z, 100); };
  const auto secret = evaluated(behind("distilled", plain_model(), {}, hot));
  check_unreliable(secret, {"zero gradients"});
  CHECK(secret.attacks[0].name == "apgd-ce");
  CHECK(secret.attacks[0].broken < secret.clean_correct / 10);  // what the naive attack sees
  CHECK(secret.robust_correct <= plain.robust_correct + 2);

  pv::nn::Declaration declaration;
  declaration.temperature = 100;
  const auto declared = evaluated(behind("distilled", plain_model(), {}, hot, declaration));
  check_unreliable(declared, {"zero gradients"});
  CHECK(declared.attacks[0].name == "apgd-ce T=100");
  CHECK(declared.attacks[1].name == "apgd-dlr");
  CHECK(declared.attacks[0].broken > declared.clean_correct / 2);  // what the adaptive attack sees
  CHECK(declared.robust_correct <= plain.robust_correct + 2);
  CHECK(declared.notes.size() == 1);
}

TEST_CASE("verdict: a quantiser that declares its substitute gradient is attacked through it") {
  const auto filter = [](auto x) { return quantise(x, 7); };
  const auto report = evaluated(attack::bpda(plain_model(), "quantised", filter));
  INFO(report.summary());
  CHECK(report.verdict != Verdict::unreliable);
  CHECK(report.robust_accuracy() < 0.1);
  CHECK(report.attacks[0].broken > report.clean_correct / 2);
  CHECK(sign(report.signs, "finite differences along the gradient").state == SignState::not_applicable);
  CHECK(report.notes.size() == 1);
}

TEST_CASE("verdict: expectation over the draws of a random defence; one that hides its draws is unreliable") {
  auto options = few_steps();
  options.settings = {.steps = 10, .targets = 3, .queries = 100, .draws = 8};
  options.signs = {.measure = true, .images = 40, .steps = 10};
  options.judging_draws = 20;
  const auto set = digits().test.first(60);
  const auto noise = [](auto x) { return add_noise(x, 0.1); };
  const auto report =
      evaluate::robustness(behind("noisy", robust_model(), noise, {}, declared_random()), set, threat(), options);
  INFO(report.summary());
  CHECK(report.suite == "rand");
  CHECK(report.draws == 8);
  CHECK(report.judging_draws == 20);
  REQUIRE(report.attacks.size() == 3);
  CHECK(report.attacks[0].name == "apgd-ce");
  CHECK(report.attacks[1].name == "apgd-dlr");
  CHECK(report.attacks[2].name == "square");
  for (std::size_t a = 0; a < 2; ++a) {
    const auto& row = report.attacks[a];
    CHECK(row.backward == row.tried * 11 * 8);             // the starting point and ten steps, eight draws each
    CHECK(row.forward == row.tried * (11 * 8 + 20 + 20));  // and the clean and the final image, judged by twenty
  }
  CHECK(sign(report.signs, "variance of the gradient").state == SignState::passed);
  for (const auto& check : report.checks) {
    CHECK_MESSAGE(check.passed, check.name, ": ", check.detail);
  }
  CHECK(report.robust_correct < report.clean_correct);

  options.signs.measure = false;
  const auto secret = evaluate::robustness(behind("noisy", robust_model(), noise), set, threat(), options);
  CHECK(secret.verdict == Verdict::unreliable);
  CHECK(secret.reason.find("evaluation mode") != std::string::npos);
}

TEST_CASE("verdict: undecided where a part of the defence is open, signs are missing or images are few") {
  auto options = few_steps();
  options.suite = "quick";
  options.signs.measure = false;
  CHECK(evaluated(plain_model(), options).verdict == Verdict::undecided);
  options.signs.measure = true;
  const auto few = evaluate::robustness(plain_model(), digits().test.first(20), threat(), options);
  CHECK(few.verdict == Verdict::undecided);
  CHECK(few.reason.find("20") != std::string::npos);
  pv::nn::Declaration detector;
  detector.rejects = true;
  const auto open = evaluated(behind("detector", plain_model(), {}, {}, detector), options);
  CHECK(open.verdict == Verdict::undecided);
  CHECK(open.reason.find("refuse") != std::string::npos);
}
