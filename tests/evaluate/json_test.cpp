// SPDX-License-Identifier: MIT
// Reports as JSON, read back by the reader of the report.
#include "pavise/evaluate/json.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>
#include <string>

#include "pavise/report/evaluation_record.hpp"

namespace pv = pavise;
namespace evaluate = pavise::evaluate;

namespace {

evaluate::Report sample() {
  evaluate::Report r;
  r.model = "a \"model\"";
  r.suite = "auto";
  r.threat = pv::attack::l2(0.5);
  r.seed = ~std::uint64_t{0};
  r.total = 3;
  r.clean_correct = 2;
  r.robust_correct = 1;
  r.robust_interval = evaluate::clopper_pearson(1, 3);
  r.verdict = evaluate::Verdict::unreliable;
  r.reason = "because";
  r.notes = {"a note"};
  r.attacks.resize(2);
  r.attacks[0].name = "apgd-ce";
  r.attacks[0].settings = "100 steps";
  r.attacks[0].tried = 2;
  r.attacks[0].broken = 1;
  r.attacks[0].first = 1;
  r.attacks[0].standing = 1;
  r.attacks[0].forward = 12;
  r.attacks[1].name = "square";
  r.attacks[1].access = pv::attack::Access::outputs;
  r.attacks[1].tried = 1;
  r.attacks[1].standing = 1;
  r.images.resize(3);
  r.images[0].broken_by = 0;
  r.images[0].distance = 0.25f;
  r.images[1].broken_by = evaluate::kMisclassified;
  using evaluate::Outcome;
  r.matrix = {Outcome::broken,    Outcome::not_tried, Outcome::stood,
              Outcome::not_tried, Outcome::not_tried, Outcome::stood};
  r.checks = {{"epsilon 0", true, "as it should be"}, {"pixel box", false, "is not"}};
  r.signs.resize(2);
  r.signs[0].name = "zero gradients";
  r.signs[0].value = 0.75;
  r.signs[0].threshold = 0.05;
  r.signs[0].images = 2;
  r.signs[0].state = evaluate::SignState::failed;
  r.signs[0].sentence = "gradients vanish";
  r.signs[1].name = "variance";
  r.signs[1].value = std::numeric_limits<double>::quiet_NaN();
  r.signs[1].at_most = false;
  r.curve = {{0.0, 2, 2, 0.5}, {0.5, 1, 2, std::numeric_limits<double>::infinity()}};
  return r;
}

}  // namespace

TEST_CASE("json: an evaluation comes back through text as it was") {
  const auto r = sample();
  const auto json = nlohmann::json::parse(evaluate::to_json(r).dump());
  CHECK(json.at("kind") == "evaluation");
  CHECK(json.at("seed").get<std::uint64_t>() == r.seed);
  CHECK(json.at("threat").at("norm") == "l2");
  CHECK(json.at("robust_interval").at("high").get<double>() == r.robust_interval.high);
  CHECK(json.at("images")[0].at("distance").get<float>() == 0.25f);
  CHECK(json.at("model") == r.model);

  const auto back = pv::report::detail::read_evaluation({&json, "test", ""});
  CHECK(back.suite == "auto");
  CHECK(back.verdict == "unreliable");
  CHECK(back.reason == "because");
  CHECK(back.notes == r.notes);
  REQUIRE(back.attacks.size() == 2);
  CHECK(back.attacks[0].name == "apgd-ce");
  CHECK(back.attacks[0].settings == "100 steps");
  CHECK(back.attacks[0].access == "gradients");
  CHECK(back.attacks[0].outcomes == "x.o");
  CHECK(back.attacks[0].standing.correct == 1);
  CHECK(back.attacks[0].standing.total == 3);
  CHECK(back.attacks[0].forward == 12);
  CHECK(back.attacks[1].access == "outputs");
  CHECK(back.attacks[1].outcomes == "..o");
  CHECK(back.broken_by == std::vector<std::int64_t>{0, -2, -1});
  REQUIRE(back.checks.size() == 2);
  CHECK(back.checks[0].passed);
  CHECK_FALSE(back.checks[1].passed);
  CHECK(back.checks[1].detail == "is not");
  REQUIRE(back.signs.size() == 2);
  CHECK(back.signs[0].value == 0.75);
  CHECK(back.signs[0].threshold == 0.05);
  CHECK(back.signs[0].state == "failed");
  CHECK(back.signs[0].at_most);
  CHECK(back.signs[1].state == "not applicable");
  CHECK_FALSE(back.signs[1].at_most);
  REQUIRE(back.curve.size() == 2);
  CHECK(back.curve[1].epsilon == 0.5);
  CHECK(back.curve[1].count.correct == 1);
}
