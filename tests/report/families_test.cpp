// SPDX-License-Identifier: MIT
#include "pavise/report/families.hpp"

#include <doctest/doctest.h>

#include <string>
#include <tuple>
#include <vector>

#include "pavise/report/html.hpp"
#include "report/sample_records.hpp"

namespace {

using namespace pavise::report;
using pavise_test::count;
using pavise_test::Json;

/// The table's rows by label.
const detail::FamilyRow& row(const detail::FamilyTable& table, const std::string& label) {
  for (const auto& r : table.rows()) {
    if (r.label == label) {
      return r;
    }
  }
  FAIL("no row ", label);
  return table.rows().front();
}

Json filters_record() {
  Json out = pavise_test::origin("Plain", "none");
  out["kind"] = "filters";
  out["command"] = "pavise filters";
  out["norm"] = "linf";
  out["epsilon"] = 0.1;
  for (const auto& [name, unaware, adaptive] : {std::tuple{"", 0, 0}, std::tuple{"jpeg:75", 61, 2}}) {
    out["points"].push_back({{"filters", name},
                             {"random", false},
                             {"differentiable", false},
                             {"clean", count(90, 100)},
                             {"unaware", count(unaware, 100)},
                             {"adaptive", count(adaptive, 100)}});
  }
  return out;
}

Json smoothed_attack() {
  Json out = pavise_test::attack_record(0, "Noise, smoothed 0.25", "gaussian", "pgd", 800, 400);
  out["smooth"] = 0.25;
  out["norm"] = "l2";
  out["epsilon"] = 0.5;
  return out;
}

Json certification(const std::string& noise = "gaussian") {
  Json out = pavise_test::origin("Noise", "gaussian");
  out["kind"] = "certification";
  out["command"] = "pavise certify";
  out["noise"] = noise;
  out["method"] = "sequential";
  out["norm"] = "l2";
  out["scale"] = 0.25;
  out["alpha"] = 0.001;
  out["n0"] = 100;
  out["n"] = 1000;
  out["certified"] = {{"average_radius", 0.4}, {"abstained", 0}, {"curve", Json::array()}, {"results", Json::array()}};
  for (const double radius : {0.0, 0.25, 0.5}) {
    Json point = count(200 - static_cast<int>(200 * radius), 200);
    point["radius"] = radius;
    out["certified"]["curve"].push_back(point);
  }
  for (const int samples : {500, 1500}) {
    out["certified"]["results"].push_back({{"samples", samples}});
  }
  return out;
}

Json bounds() {
  Json out = pavise_test::origin("IBP", "ibp");
  out["kind"] = "bounds";
  out["command"] = "pavise certify --method crown";
  out["method"] = "crown";
  out["norm"] = "linf";
  out["epsilon"] = 0.1;
  out["search"] = 0;
  out["average_radius"] = 0;
  out["seconds"] = 2.0;
  out["clean"] = count(95, 100);
  out["certified"] = count(70, 100);
  return out;
}

Json distillation(int attacked) {
  const auto fooled = [](int k, int n) { return Json{{"fooled", k}, {"total", n}}; };
  Json out = pavise_test::origin("distillation", "distill");
  out["kind"] = "distillation";
  out["command"] = "pavise distill";
  out["epsilon"] = 0.1;
  for (const double t : {100.0, 1.0}) {
    out["points"].push_back({{"temperature", t},
                             {"teacher", count(91, 100)},
                             {"student", count(90, 100)},
                             {"mean_logit", 4.0},
                             {"zero_gradients", 0.5},
                             {"fgsm", fooled(t > 1 ? 9 : 90, 90)},
                             {"jsma", fooled(15, 90)},
                             {"apgd_dlr", fooled(attacked - 5, attacked)},
                             {"carlini_wagner", fooled(90, 90)},
                             {"carlini_wagner_distance", 1.2}});
  }
  return out;
}

TEST_CASE("families: attacks off the shelf are naive, suites and attacks made for the defence adaptive") {
  auto records = pavise_test::sample_records();
  records.push_back(pavise_test::evaluation_record("undecided"));
  records.push_back(filters_record());
  Json unaware = pavise_test::attack_record(2, "PGD-7, behind jpeg:75", "pgd", "pgd", 810, 700);
  unaware["filters"] = "jpeg:75";
  unaware["recipe"]["filter_attack"] = "unaware";
  Json aware = unaware;
  aware["recipe"]["filter_attack"] = "adaptive";
  aware["robust"] = count(610, 1000);
  Json transfer = pavise_test::attack_record(0, "Plain", "none", "fgsm", 913, 1);
  transfer["recipe"]["surrogate"] = "runs/pgd.safetensors";
  records.insert(records.end(), {unaware, aware, transfer});
  const auto results = read_records(records);
  const detail::FamilyTable table(results);
  CHECK(table.rows().size() == 5);

  const auto& plain = row(table, "Plain");
  CHECK(plain.family == detail::Family::none);
  CHECK(plain.naive->count.correct == 0);  // the filters' record has the least; of 100
  CHECK(plain.clean->count.total == 1000);
  CHECK(plain.adaptive->count.total == 100);
  CHECK(plain.verdict.empty());
  CHECK(plain.cost.front() == "training 12.5 s");

  const auto& pgd = row(table, "PGD-7");
  CHECK(pgd.family == detail::Family::adversarial_training);
  CHECK(pgd.naive->count.correct == 634);  // the stronger of FGSM and PGD
  CHECK(pgd.adaptive->count.correct == 600);
  CHECK(pgd.verdict == "undecided");
  CHECK_FALSE(pgd.certified);

  CHECK(row(table, "Plain, behind jpeg:75").naive->count.correct == 61);
  CHECK(row(table, "Plain, behind jpeg:75").adaptive->count.correct == 2);
  const auto& filtered = row(table, "PGD-7, behind jpeg:75");
  CHECK(filtered.family == detail::Family::preprocessing);
  CHECK(filtered.naive->count.correct == 700);
  CHECK(filtered.naive->words == "PGD, made on another model");
  CHECK(filtered.adaptive->count.correct == 610);
  CHECK(filtered.cost.front() == "training 52.5 s");  // of the model behind the filter
  CHECK_FALSE(row(table, "FGSM-RS").adaptive);
}

TEST_CASE("families: what is certified stands beside what attacks left, at the same radius") {
  const auto results = read_records({smoothed_attack(), certification(), bounds()});
  const detail::FamilyTable table(results);
  REQUIRE(table.rows().size() == 2);
  const auto& noise = row(table, "Noise, smoothed 0.25");
  CHECK(noise.family == detail::Family::noise);
  CHECK_FALSE(noise.naive);
  CHECK(noise.adaptive->count.correct == 400);
  CHECK(noise.certified->count.correct == 100);
  CHECK(noise.cost == std::vector<std::string>{"attack 201 passes an image", "certificate 1,000 samples an image"});
  const auto& ibp = row(table, "IBP");
  CHECK(ibp.family == detail::Family::assurance);
  CHECK(ibp.certified->count.correct == 70);
  CHECK(ibp.cost == std::vector<std::string>{"certificate 0.02 s an image"});

  // Other noise than the attacked model's, or none attacked: a row of its own. What proves nothing is not certified.
  Json other = certification();
  other["scale"] = 0.5;
  const auto apart = read_records({smoothed_attack(), other});
  const detail::FamilyTable two(apart);
  CHECK(two.rows().size() == 2);
  CHECK_FALSE(row(two, "Noise, smoothed 0.25").certified);
  const auto unsound = read_records({smoothed_attack(), certification("gaussian-unsound")});
  const detail::FamilyTable one(unsound);
  CHECK(one.rows().size() == 1);
  CHECK_FALSE(row(one, "Noise, smoothed 0.25").certified);
}

TEST_CASE("families: distillation counts all images where all were attacked, else those that were") {
  for (const int attacked : {90, 40}) {
    const auto results = read_records({distillation(attacked)});
    const detail::FamilyTable table(results);
    const auto& hot = row(table, "distillation, T = 100");
    CHECK(hot.family == detail::Family::distillation);
    CHECK(hot.naive->count.correct == 81);
    CHECK(hot.naive->count.total == 100);
    CHECK(hot.adaptive->count.correct == 5);
    CHECK(hot.adaptive->count.total == (attacked == 90 ? 100 : 40));
    CHECK(hot.verdict == "unreliable");
  }
}

TEST_CASE("families: the table names every family, and says what was not measured") {
  const std::string page = render_report(pavise_test::sample_records());
  for (const char* words :
       {"<b>P</b>reprocessing", "<b>A</b>dversarial training", "<b>N</b>oise", "<b>D</b>istillation",
        "<b>A</b>ssurance", "<b>S</b>crutiny", "not measured", "of 3 rows 0 met"}) {
    CAPTURE(words);
    CHECK(page.find(words) != std::string::npos);
  }
  const auto training = pavise_test::training_record(0, "Plain", "none");
  CHECK(render_report({training}).find("id=\"families\"") == std::string::npos);
}

}  // namespace
