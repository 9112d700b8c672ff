// SPDX-License-Identifier: MIT
// `pavise certify` and `pavise verify` from outside.
#include <doctest/doctest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "program/outside.hpp"

namespace {

using namespace pavise_test::program;

TEST_CASE("program: certify, killed and in shards, and verify") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  const std::string model = " --model-file " + (scratch / "m.safetensors") + " --data drawn-digits ";
  REQUIRE(run(kTrain + "--model mlp --defense gaussian --gaussian-sigma 0.25 --out " + (scratch / "m.safetensors"))
              .status == 0);
  const std::string certify = "certify --quiet --sigma 0.25 --count 20 --n 2000 --radii 0.1,0.2" + model;
  const std::string whole = scratch / "whole.jsonl";
  const Outcome out = run(certify + "--json " + (scratch / "record.json") + " --out " + whole);
  INFO(out.text);
  REQUIRE(out.status == 0);
  const auto record = nlohmann::json::parse(contents(scratch / "record.json"));
  CHECK(record["kind"] == "certification");
  CHECK(record["certified"]["images"] == 20);
  CHECK(record["certified"]["curve"].size() >= 3);
  const auto& cloud = record["cloud"];
  CHECK(cloud["samples"].size() == 11);
  CHECK(cloud["clean"].size() == 28 * 28);
  CHECK(cloud["samples"][0]["pixels"] != cloud["samples"][1]["pixels"]);

  REQUIRE(run("report --in " + scratch.path.string() + " --out " + (scratch / "report")).status == 0);
  CHECK(contents(scratch / "report/index.html").find("id=\"certificates\"") != std::string::npos);
  CHECK(contents(scratch / "report/index.html").find("One image under the noise") != std::string::npos);

  const std::string broken = scratch / "broken.jsonl";
  for (const int milliseconds : {20, 40, 80}) {
    run_and_kill(certify + "--threads 1 --out " + broken, milliseconds);
  }
  REQUIRE(run(certify + "--threads 2 --out " + broken).status == 0);
  CHECK(contents(broken) == contents(whole));
  for (const char* shard : {"1", "2", "3"}) {
    REQUIRE(run(certify + "--shard " + shard + "/3 --out " + (scratch / shard)).status == 0);
  }
  REQUIRE(run("certify --out " + (scratch / "merged.jsonl") + " --merge " + (scratch / "3") + " " + (scratch / "1") +
              " " + (scratch / "2"))
              .status == 0);
  CHECK(contents(scratch / "merged.jsonl") == contents(whole));

  const Outcome bounds = run("verify " + whole);
  CHECK(bounds.status == 0);
  CHECK(bounds.text.find("20 certificates: all bounds recomputed") != std::string::npos);
  const Outcome votes = run("verify --quiet " + whole + model);
  CHECK(votes.status == 0);
  CHECK(votes.text.find("every vote is the same") != std::string::npos);
  const std::string two = " --model-file " + (scratch / "m.safetensors");
  CHECK(run(certify + two + " --out " + (scratch / "two.jsonl")).status == 0);  // an ensemble
  CHECK(run("verify --quiet " + (scratch / "two.jsonl") + model + two).status == 0);
  CHECK(run("verify --quiet " + (scratch / "two.jsonl") + model).text.find("model: made with") != std::string::npos);
  REQUIRE(run(kTrain + "--model mlp --defense none --out " + (scratch / "m.safetensors")).status == 0);
  const Outcome other = run("verify --quiet " + whole + model);
  CHECK(other.status != 0);
  CHECK(other.text.find("model: made with model") != std::string::npos);
  const Outcome continued = run(certify + "--out " + whole);
  CHECK(continued.status != 0);
  CHECK(continued.text.find("of another run") != std::string::npos);
  std::string text = contents(whole);
  text.replace(text.find("\"seed\":0"), 8, "\"seed\":4");
  std::ofstream(whole) << text;
  const Outcome edited = run("verify " + whole);
  CHECK(edited.status != 0);
  CHECK(edited.text.find("line 1: seed: was changed") != std::string::npos);

  for (const auto& [arguments, words] : {std::pair<std::string, std::string>{"certify" + model, "--sigma"},
                                         {"certify --sigma 0.5", "--model-file"},
                                         {"certify --sigma 0" + model, "sigma 0, expected more than 0"},
                                         {"certify --sigma 0.5 --alpha 1" + model, "alpha 1, expected between 0 and 1"},
                                         {"certify --sigma 0.5 --method fixed --n 9" + model, "it takes n = 10"},
                                         {"certify --sigma 0.5 --radius 1 --n 100" + model, "it takes n = 401"},
                                         {"certify --sigma 0.5 --noise normal" + model, "gaussian-unsound"},
                                         {"certify --sigma 0.5 --shard 4/3" + model, "--shard 4/3"},
                                         {"verify /nowhere/certificates.jsonl", "/nowhere/certificates.jsonl"}}) {
    const Outcome refused = run(arguments);
    INFO(arguments, ": ", refused.text);
    CHECK(refused.status != 0);
    CHECK(refused.text.find(words) != std::string::npos);
  }
}

TEST_CASE("program: certify by bounds, in shards, and verify") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  const std::string file = scratch / "m.safetensors";
  const std::string model = " --model-file " + file + " --data drawn-digits ";
  REQUIRE(run(kTrain + "--model mlp --defense ibp --eps 0.05 --out " + file).status == 0);
  for (const std::string method : {"ibp", "crown"}) {
    const std::string certify = "certify --quiet --method " + method + " --eps 0.05 --count 12" + model;
    const std::string whole = scratch / (method + ".jsonl");
    const Outcome out = run(certify + "--json " + (scratch / (method + ".json")) + " --out " + whole);
    INFO(out.text);
    REQUIRE(out.status == 0);
    CHECK(out.text.find("certified") != std::string::npos);
    const auto record = nlohmann::json::parse(contents(scratch / (method + ".json")));
    CHECK(record["kind"] == "bounds");
    CHECK(record["certified"]["total"] == 12);
    CHECK(record["certified"]["correct"] <= record["clean"]["correct"]);
    for (const char* shard : {"1", "2"}) {
      REQUIRE(run(certify + "--threads 1 --shard " + shard + "/2 --out " + (scratch / (method + shard))).status == 0);
    }
    REQUIRE(run("certify --out " + (scratch / "merged.jsonl") + " --merge " + (scratch / (method + "2")) + " " +
                (scratch / (method + "1")))
                .status == 0);
    CHECK(contents(scratch / "merged.jsonl") == contents(whole));
    CHECK(run("verify " + whole).text.find("12 certificates: each claim follows") != std::string::npos);
    const Outcome again = run("verify --quiet " + whole + model);
    CHECK(again.status == 0);
    CHECK(again.text.find("12 certificates: bounds computed again, every bit is the same") != std::string::npos);
    CHECK(run("certify --quiet --method " + method + " --eps 0.04 --count 12 --out " + whole + model)
              .text.find("of another run") != std::string::npos);
    std::string text = contents(whole);
    text.replace(text.find("\"verified\":"), 16, "\"verified\":maybe");
    std::ofstream(whole) << text;
    CHECK(run("verify " + whole).status != 0);
  }
  REQUIRE(run("report --in " + scratch.path.string() + " --out " + (scratch / "report")).status == 0);
  CHECK(contents(scratch / "report/index.html").find("id=\"bounds\"") != std::string::npos);
  const Outcome search = run("certify --quiet --method crown --norm l2 --eps 0.5 --search 5 --count 3 --out " +
                             (scratch / "search.jsonl") + model);
  CHECK(search.status == 0);
  CHECK(search.text.find("average radius") != std::string::npos);
  for (const auto& [arguments, words] :
       {std::pair<std::string, std::string>{"--method crown --sigma 0.5", "--sigma does not go with --method crown"},
        {"--method ibp --alpha 0.1", "--alpha does not go with --method ibp"},
        {"--sigma 0.5 --eps 0.1", "--eps goes with --method ibp or crown"},
        {"--method ibp --eps 8", "exceeds the pixel box"},
        {"--method ibp --norm l3", "unknown norm l3"},
        {"--method crown --search -1", "-1 steps"},
        {"--method crown --model-file " + file, "2 files, expected one"}}) {
    const Outcome refused = run("certify " + arguments + model + "--out " + (scratch / "refused.jsonl"));
    INFO(arguments, ": ", refused.text);
    CHECK(refused.status != 0);
    CHECK(refused.text.find(words) != std::string::npos);
  }
}

}  // namespace
