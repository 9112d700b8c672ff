// SPDX-License-Identifier: MIT
// The versions of AutoAttack: their attacks, their order and their settings, as published.
#include "pavise/attack/auto.hpp"

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "pavise/attack/apgd.hpp"
#include "pavise/attack/fab.hpp"
#include "pavise/attack/square.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;

namespace {

std::vector<std::string> names(const attack::Suite& suite) {
  std::vector<std::string> out;
  for (const auto& entry : suite.entries) {
    out.push_back(entry.name);
    CHECK(entry.attack->name() == (entry.name == "apgd-margin" ? "apgd" : entry.name));
    CHECK_FALSE(entry.settings.empty());
    CHECK_FALSE(entry.attack->targeted());
  }
  return out;
}

const attack::ApgdOptions& apgd(const attack::SuiteEntry& entry) {
  return dynamic_cast<const attack::Apgd&>(*entry.attack).options();
}
const attack::FabOptions& fab(const attack::SuiteEntry& entry) {
  return dynamic_cast<const attack::Fab&>(*entry.attack).options();
}

}  // namespace

TEST_CASE("auto: the standard version") {
  const auto suite = attack::auto_attack(attack::linf(0.1), 10);
  REQUIRE(names(suite) == std::vector<std::string>{"apgd-ce", "apgd-t", "fab-t", "square"});
  CHECK(apgd(suite.entries[0]).steps == 100);
  CHECK(suite.entries[0].restarts == 1);
  CHECK(apgd(suite.entries[1]).steps == 100);
  CHECK(suite.entries[1].attack->attempts() == 9);
  CHECK(fab(suite.entries[2]).steps == 100);
  CHECK(fab(suite.entries[2]).targets == 9);
  CHECK(fab(suite.entries[2]).restarts == 1);
  CHECK(dynamic_cast<const attack::Square&>(*suite.entries[3].attack).options().queries == 5000);
  CHECK(suite.entries[3].access == attack::Access::outputs);
  CHECK(suite.draws == 1);
  CHECK(suite.notes.empty());
  for (const auto& entry : suite.entries) {
    CHECK(entry.attack->threat().epsilon == 0.1);
  }
}

TEST_CASE("auto: in L1 five restarts and five targets") {
  const auto suite = attack::auto_attack(attack::l1(12), 10);
  REQUIRE(names(suite) == std::vector<std::string>{"apgd-ce", "apgd-t", "fab-t", "square"});
  CHECK(suite.entries[0].restarts == 5);
  CHECK(suite.entries[1].attack->attempts() == 5);
  CHECK(apgd(suite.entries[0]).larger_radii);
  CHECK(fab(suite.entries[2]).targets == 9);
}

TEST_CASE("auto: the versions rand and plus, and a quick look") {
  const auto random = attack::auto_attack_rand(attack::linf(0.1), 10);
  CHECK(names(random) == std::vector<std::string>{"apgd-ce", "apgd-dlr"});
  CHECK(random.draws == 20);
  const auto plus = attack::auto_attack_plus(attack::linf(0.1), 10);
  REQUIRE(names(plus) == std::vector<std::string>{"apgd-ce", "apgd-dlr", "fab", "square", "apgd-t", "fab-t"});
  CHECK(plus.entries[0].restarts == 5);
  CHECK(plus.entries[1].restarts == 5);
  CHECK(fab(plus.entries[2]).restarts == 5);
  CHECK(fab(plus.entries[2]).targets == 0);
  CHECK(plus.entries[4].attack->attempts() == 9);
  const auto quick = attack::quick(attack::linf(0.1), 10);
  CHECK(names(quick) == std::vector<std::string>{"apgd-ce", "apgd-t", "square"});
  CHECK(quick.notes.size() == 1);
}

TEST_CASE("auto: few classes") {
  const auto three = attack::auto_attack(attack::linf(0.1), 3);
  CHECK(names(three) == std::vector<std::string>{"apgd-ce", "apgd-dlr", "fab-t", "square"});
  CHECK(fab(three.entries[2]).targets == 2);
  CHECK(three.notes.size() == 1);
  const auto two = attack::auto_attack(attack::linf(0.1), 2);
  CHECK(names(two) == std::vector<std::string>{"apgd-ce", "apgd-margin", "fab-t", "square"});
  CHECK(fab(two.entries[2]).targets == 1);
  CHECK(names(attack::auto_attack_rand(attack::linf(0.1), 2)) == std::vector<std::string>{"apgd-ce", "apgd-margin"});
  CHECK(names(attack::auto_attack_plus(attack::linf(0.1), 2)) ==
        std::vector<std::string>{"apgd-ce", "apgd-margin", "fab", "square", "fab-t"});
  // Four classes have three targets.
  const auto four = attack::auto_attack(attack::linf(0.1), 4);
  CHECK(four.entries[1].attack->attempts() == 3);
  CHECK(fab(four.entries[2]).targets == 3);
}

TEST_CASE("auto: names and options out of range") {
  const auto threat = attack::linf(0.1);
  for (const std::string name : {"auto", "rand", "plus", "quick"}) {
    CHECK(attack::make_suite(name, threat, 10).name == name);
  }
  CHECK_THROWS_WITH_AS(attack::make_suite("standard", threat, 10),
                       "unknown suite standard, expected auto, rand, plus or quick", pv::ValueError);
  CHECK_THROWS_AS(attack::auto_attack(threat, 1), pv::ValueError);
  CHECK_THROWS_AS(attack::auto_attack(threat, 10, {.targets = 0}), pv::ValueError);
  CHECK_THROWS_AS(attack::auto_attack(threat, 10, {.steps = 0}), pv::ValueError);
  CHECK_THROWS_AS(attack::auto_attack(threat, 10, {.queries = 0}), pv::ValueError);
}
