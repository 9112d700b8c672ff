// SPDX-License-Identifier: MIT
// The report's section on detectors.
#include "pavise/report/detection.hpp"

#include <doctest/doctest.h>

#include <functional>
#include <string>
#include <vector>

#include "core/text_checks.hpp"
#include "detect/detection_sample.hpp"
#include "pavise/report/record.hpp"

namespace pv = pavise;
using detect_checks::detection_sample;
using detect_checks::Json;
using namespace pavise::report;
using pavise_test::contains;

namespace {

std::string section(const Json& record) { return detail::detection_section(read_records({record}).detection); }

}  // namespace

TEST_CASE("report: a detector is tiles, two pictures of curves, a table and what became of it") {
  const std::string page = section(detection_sample());
  CHECK(contains(page, "id=\"detection\""));
  CHECK(contains(page, "<b>broken</b>: carlini-wagner, adaptive"));
  CHECK(contains(page, "bit-depth:1 and median:2"));
  CHECK(contains(page, "Attacks that do not know of the detector"));
  CHECK(contains(page, "Attacks that know of the detector"));
  CHECK(contains(page, "FGSM, AUC 0.970"));
  CHECK(contains(page, "88 of 97") == false);  // in the table shares have their own cells
  CHECK(contains(page, "90.7 %"));             // 88 of 97 at 5 %
  CHECK(contains(page, "<b>98.0 %</b>"));      // 96 of 98 evade
  CHECK(contains(page, "at any distance"));
  CHECK(contains(page, "2 of 100"));
  CHECK(contains(page, "pavise detect --model-file &lt;m&gt;"));
  CHECK(page.find("<polyline") != page.rfind("<polyline"));
  CHECK(detail::detection_section({}).empty());
}

TEST_CASE("report: a detector that no attack knew of, or that none broke, is undecided; nothing fooled has no curve") {
  auto record = detection_sample();
  record["attacks"].erase(1);
  CHECK(contains(section(record), "no attack here knew of the detector"));
  record = detection_sample();
  record["attacks"][1]["evaded"] = 3;
  CHECK(contains(section(record), "<b>undecided</b>: carlini-wagner, adaptive"));
  record["attacks"][0]["fooled"] = record["attacks"][0]["evaded"] = 0;
  record["attacks"][0]["roc"] = Json::array();
  for (auto& d : record["attacks"][0]["detected"]) {
    d["flagged"] = d["total"] = 0;
  }
  CHECK(!contains(section(record), "Attacks that do not know of the detector"));
}

TEST_CASE("report: what is wrong in a detector's record is named; a detector's file is no result") {
  const auto refused = [](const std::function<void(Json&)>& change) {
    Json record = detection_sample();
    record["file"] = "runs/x.json";
    change(record);
    try {
      read_records({record});
    } catch (const pv::ValueError& error) {
      return std::string(error.what());
    }
    return std::string("no ValueError");
  };
  CHECK(contains(refused([](Json& r) { r["threshold"] = 3; }), "runs/x.json: field threshold: got 3"));
  CHECK(contains(refused([](Json& r) { r["attacks"] = Json::array(); }), "one attack or more"));
  CHECK(contains(refused([](Json& r) { r["attacks"][0]["fooled"] = 101; }), "attacks[0].fooled"));
  CHECK(contains(refused([](Json& r) { r["attacks"][0]["detected"].erase(0); }), "got 2 rates, expected 3"));
  CHECK(contains(refused([](Json& r) { r["attacks"][1]["roc"][0] = {0.5}; }), "attacks[1].roc[0]"));
  CHECK(contains(refused([](Json& r) { r["attacks"][1]["roc"][0] = {0.5, 1.5}; }), "attacks[1].roc[0]"));
  CHECK(contains(refused([](Json& r) { r.erase("robust_served"); }), "robust_served"));
  CHECK(read_records({Json{{"kind", "detector"}}}).detection.empty());
}
