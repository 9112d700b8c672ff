// SPDX-License-Identifier: MIT
// The report's section on certificates.
#include <doctest/doctest.h>

#include <string>

#include "core/text_checks.hpp"
#include "pavise/report/html.hpp"
#include "report/sample_records.hpp"

namespace {

namespace pv = pavise;
using Json = nlohmann::json;
using pavise_test::contains;
using pv::report::render_report;

Json certification(const std::string& label, const std::string& noise, const std::string& norm) {
  Json record = pavise_test::origin("certification", label);
  record["kind"] = "certification";
  record["label"] = label;
  record["command"] = "pavise certify --sigma 0.5 # " + label;
  record["noise"] = noise;
  record["norm"] = norm;
  record["method"] = "sequential";
  record["scale"] = 0.5;
  record["alpha"] = 0.001;
  record["n0"] = 100;
  record["n"] = 100000;
  Json curve = Json::array();
  for (int i = 0; i < 4; ++i) {
    Json point = pavise_test::count(95 - 10 * i, 100);
    point["radius"] = 0.25 * i;
    curve.push_back(point);
  }
  Json results = Json::array();
  for (int i = 0; i < 100; ++i) {
    results.push_back({{"samples", i < 90 ? 564 : i < 99 ? 3000 : 100100}});
  }
  record["certified"] = {{"average_radius", 0.4321}, {"abstained", 3}, {"curve", curve}, {"results", results}};
  return record;
}

TEST_CASE("report: certificates are a curve, a histogram and a table, alone or among other records") {
  const Json first = certification("first <model>", "gaussian", "l2");
  const Json second = certification("second", "gaussian-unsound", "l2");
  const Json third = certification("third", "uniform", "l1");
  auto records = pavise_test::sample_records();
  records.insert(records.end(), {first, second, third});
  for (const auto& page : {render_report({first, second, third}), render_report(records)}) {
    CHECK(contains(page, "id=\"certificates\""));
    CHECK(contains(page, "pavise certify --sigma 0.5 # second"));
    CHECK(contains(page, "first &lt;model&gt;, gaussian 0.5"));
    CHECK_FALSE(contains(page, "first <model>"));
    CHECK(contains(page, "0.4321"));
    CHECK(contains(page, "(proves nothing)"));
    CHECK(contains(page, "1778.6 of 100100"));  // the mean of the samples
    CHECK(contains(page, "90 images"));
    CHECK(contains(page, "L1 radius"));
    CHECK(contains(page, "L2 radius"));
  }
  CHECK_FALSE(contains(render_report(pavise_test::sample_records()), "id=\"certificates\""));
}

Json cloud() {
  const std::vector<int> grey(4, 100);
  return {{"index", 7},          {"label", 1},
          {"shape", {1, 2, 2}},  {"class_names", {"cat", "dog"}},
          {"clean", grey},       {"samples", {{{"pixels", grey}, {"chosen", 1}}, {{"pixels", grey}, {"chosen", -1}}}},
          {"votes", {250, 314}}, {"radius", 0.0625}};
}

TEST_CASE("report: one image under the noise, and the accuracy under attack beside what is certified") {
  Json record = certification("model", "gaussian", "l2");
  record["cloud"] = cloud();
  auto records = std::vector<Json>{record};
  std::string page = render_report(records);
  CHECK(contains(page, "One image under the noise"));
  CHECK(contains(page, "Image 7, dog: certified within 0.0625"));
  CHECK(contains(page, "Noisy image, taken for dog"));
  CHECK(contains(page, "Noisy image, taken for none"));
  CHECK(contains(page, "dog: 314 votes"));
  CHECK_FALSE(contains(page, "under attack"));
  for (Json attack : pavise_test::sample_records()) {
    if (attack["kind"] == "attack") {
      attack["label"] = "model, smoothed 0.5";
      attack["norm"] = "l2";
      attack["data"] = record["data"];
      records.push_back(attack);
      break;
    }
  }
  page = render_report(records);
  CHECK(contains(page, "model, under attack"));
  record["cloud"]["votes"] = {1, 2, 3};
  CHECK_THROWS_WITH_AS(render_report({record}), doctest::Contains("cloud.votes"), pv::ValueError);
  record["cloud"] = cloud();
  record["cloud"]["samples"][0]["chosen"] = 2;
  CHECK_THROWS_WITH_AS(render_report({record}), doctest::Contains("cloud.samples[0].chosen"), pv::ValueError);
}

TEST_CASE("report: what is wrong in a record of certificates is named") {
  Json record = certification("model", "gaussian", "l2");
  record["certified"]["curve"][1]["radius"] = -1;
  CHECK_THROWS_WITH_AS(render_report({record}), doctest::Contains("certified.curve[1].radius"), pv::ValueError);
  record = certification("model", "gaussian", "l2");
  record["certified"]["results"] = Json::array();
  CHECK_THROWS_WITH_AS(render_report({record}), doctest::Contains("one image or more"), pv::ValueError);
  record.erase("certified");
  CHECK_THROWS_WITH_AS(render_report({record}), doctest::Contains("certified"), pv::ValueError);
}

TEST_CASE("report: certificates by bounds are a table") {
  Json record = pavise_test::origin("verified <model>", "ibp");
  record["kind"] = "bounds";
  record["command"] = "pavise certify --method crown";
  record["method"] = "crown";
  record["norm"] = "linf";
  record["epsilon"] = 0.1;
  record["search"] = 0;
  record["average_radius"] = 0.0871;
  record["clean"] = pavise_test::count(98, 100);
  record["certified"] = pavise_test::count(87, 100);
  const auto page = render_report({record});
  CHECK(contains(page, "id=\"bounds\""));
  CHECK(contains(page, "verified &lt;model&gt;"));
  CHECK(contains(page, "crown, linf 0.1"));
  CHECK(contains(page, "87"));
  CHECK_FALSE(contains(page, "0.0871"));  // an average of radii that nobody looked for
  record["search"] = 10;
  CHECK(contains(render_report({record}), "0.0871"));
  record.erase("certified");
  CHECK_THROWS_AS(render_report({record}), pavise::ValueError);
}

}  // namespace
