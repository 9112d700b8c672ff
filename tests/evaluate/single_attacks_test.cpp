// SPDX-License-Identifier: MIT
// The standard suite against every attack of the library: what stands against it stands against them.
#include <doctest/doctest.h>

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "evaluate/models.hpp"
#include "pavise/attack/catalog.hpp"

using namespace evaluate_checks;

namespace {

/// Fewer steps where an attack's own take long.
attack::Settings settings_of(const std::string& name, attack::Norm norm) {
  const std::map<std::string, attack::Settings> shorter = {
      {"apgd-t", {{"steps", "30"}}},
      {"cw", {{"steps", "100"}}},
      {"ead", {{"steps", "50"}, {"search_steps", "4"}}},
      {"fab", {{"steps", "30"}}},
      {"fab-t", {{"steps", "30"}}},
      {"hop-skip-jump", {{"queries", "1000"}}},
      {"spsa", {{"steps", "20"}, {"samples", "64"}}},
      {"square", {{"queries", "1000"}}},
  };
  if (name == "cw" && norm == attack::Norm::linf) {
    return {{"steps", "30"}};
  }
  const auto found = shorter.find(name);
  return found != shorter.end() ? found->second : attack::Settings{};
}

/// Checks that no attack breaks more than one in 200 of the images and leaves `auto` behind by that.
void check_strength(const pv::nn::Model& model, const attack::Threat& threat, std::int64_t images) {
  auto options = evaluate::Options{};
  options.signs.measure = false;
  const auto set = digits().test.first(images);
  const auto report = evaluate::robustness(model, set, threat, options);
  INFO(report.summary());
  std::vector<std::int64_t> standing;
  for (std::size_t i = 0; i < report.images.size(); ++i) {
    if (report.images[i].stands()) {
      standing.push_back(static_cast<std::int64_t>(i));
    }
  }
  REQUIRE(!standing.empty());
  const auto left = set.subset(standing);
  int tried = 0;
  for (const auto& name : attack::attack_names()) {
    attack::NamedAttack one;
    try {
      one = attack::make_attack(name, threat, settings_of(name, threat.norm));
    } catch (const pv::ValueError&) {
      continue;  // not for this norm
    }
    ++tried;
    const auto result = attack::run(*one.attack, model, left, {.seed = 7});
    const std::int64_t ahead = static_cast<std::int64_t>(standing.size()) - result.robust_correct;
    CHECK_MESSAGE(ahead * 200 <= images, name, " breaks ", ahead, " of ", standing.size(),
                  " images that stand against auto");
  }
  CHECK(tried >= 12);
}

}  // namespace

TEST_CASE("auto: no single attack breaks what stands against it, in Linf") {
  check_strength(robust_model(), threat(), 120);
  check_strength(plain_model(), attack::linf(0.05), 120);
}

TEST_CASE("auto: no single attack breaks what stands against it, in L2") {
  check_strength(robust_model(), attack::l2(1.5), 120);
}

TEST_CASE("auto: no single attack breaks what stands against it, in L1") {
  check_strength(robust_model(), attack::l1(10), 120);
}
