// SPDX-License-Identifier: MIT
// The `pavise` program from outside: the three commands on drawn digits, what it refuses, and a killed training run.
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

#include "program/outside.hpp"

namespace {

using namespace pavise_test::program;

TEST_CASE("program: train, attack and report") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  const std::string model = scratch / "runs/pgd.safetensors";
  const Outcome train = run(kTrain + "--defense pgd --steps 2 --eps 0.1 --label 'PGD <2>' --out " + model);
  CHECK(train.status == 0);
  INFO(train.text);
  const auto training = nlohmann::json::parse(contents(scratch / "runs/pgd.training.json"));
  CHECK(training["kind"] == "training");
  CHECK(training["history"].size() == 2);
  CHECK(training["seed"] == 3);

  const std::string record = scratch / "runs/pgd.json";
  const Outcome attack =
      run("attack --model-file " + model + " --data drawn-digits --attack pgd --steps 5 --restarts 2 --eps 8/255 " +
          "--count 100 --curve 0,0.1 --gallery 20 --quiet --json " + record);
  CHECK(attack.status == 0);
  INFO(attack.text);
  const auto json = nlohmann::json::parse(contents(record));
  CHECK(json["clean"]["total"] == 100);
  CHECK(json["robust"]["correct"].get<int>() <= json["clean"]["correct"].get<int>());
  CHECK(json["sweep"]["images"].size() == 20);
  CHECK(json["sweep"]["images"][2]["index"] == 2);  // the first of the test set, whatever became of them
  REQUIRE(json["sweep"]["steps"].size() == 2);
  CHECK(json["sweep"]["steps"][1]["epsilon"] == 0.1);
  CHECK(json["sweep"]["steps"][0]["images"] != json["sweep"]["steps"][1]["images"]);
  CHECK(json["curve"][0]["correct"] == json["clean"]["correct"]);  // epsilon 0 is the clean accuracy
  CHECK(json["label"] == "PGD <2>");                               // from the model's file
  CHECK(json["command"].get<std::string>().starts_with("pavise attack --model-file"));

  const Outcome again =
      run("attack --model-file " + model + " --data drawn-digits --attack pgd --steps 5 --restarts 2 --eps 8/255 " +
          "--count 100 --threads 1 --quiet --json " + (scratch / "again.json"));
  CHECK(again.status == 0);
  CHECK(nlohmann::json::parse(contents(scratch / "again.json"))["robust"] == json["robust"]);

  const Outcome report = run("report --in " + (scratch / "runs") + " --out " + (scratch / "report"));
  CHECK(report.status == 0);
  const std::string page = contents(scratch / "report/index.html");
  CHECK(page.find("id=\"sweep-1\"") != std::string::npos);
  CHECK(page.find("PGD &lt;2&gt;") != std::string::npos);
  CHECK(page.find("PGD <2>") == std::string::npos);
}

TEST_CASE("program: what it refuses, it names") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  for (const auto& [arguments, words] :
       {std::pair<std::string, std::string>{"train --data nope", "fashion-mnist"},
        {"train --data drawn-digits --model nope", "small-cnn"},
        {"train --data drawn-digits --defense nope", "fgsm-rs"},
        {"train --data drawn-digits --norm l3", "linf, l2 or l1"},
        {"train --data drawn-digits --eps 8", "8/255"},
        {"train --data drawn-digits --eps eight", "eight"},
        {"train --data drawn-digits --epochs 0", "epochs"},
        {"attack --model-file /nowhere/m.safetensors", "/nowhere/m.safetensors"},
        {"attack", "--model-file"},
        {"attack --model-file m --attack pgdd", "apgd-ce"},
        {"attack --model-file m --attack fab --loss dlr", "no setting loss"},
        {"attack --model-file m --set steps", "NAME=VALUE"},
        {"attack --model-file m --eps -0.1", "-0.1"},
        {"attack --model-file m --filter blur:2", "gaussian-blur"},
        {"attack --model-file m --filter jpeg:0", "quality 0"},
        {"attack --model-file m --filter-attack blind", "adaptive or unaware"},
        {"train --data drawn-digits --filter nope", "bit-depth"},
        {"train --data drawn-digits --device gpu", "expected cpu, cuda or cuda:N"},
        {"train --data drawn-digits --device cuda:7", "cuda:7: "},
        {"train --data drawn-digits --fast", "--arithmetic fast goes with --device cuda"},
        {"attack --model-file m --attack ddn --norm linf", "l2"},
        {"evaluate", "--model-file"},
        {"evaluate --model-file /nowhere/m.safetensors", "/nowhere/m.safetensors"},
        {"evaluate --model-file m --count 0", "--count 0"},
        {"evaluate --model-file m --attacks pgd,pgdd", "unknown attack pgdd"},
        {"evaluate --model-file m --detector d --smooth 0.5", "--detector goes without"},
        {"detect", "--model-file"},
        {"detect --model-file /nowhere/m.safetensors", "/nowhere/m.safetensors"},
        {"report --in /nowhere", "/nowhere"},
        {"fly", "fly"}}) {
    const Outcome out = run(arguments);
    INFO(arguments, ": ", out.text);
    CHECK(out.status != 0);
    CHECK(out.text.find(words) != std::string::npos);
  }
  for (const char* command : {"", "train", "attack", "evaluate", "certify", "verify", "distill", "filters", "detect",
                              "report", "import", "logits"}) {
    const Outcome help = run(std::string(command) + " --help");
    CHECK(help.status == 0);
    CHECK(help.text.find("Usage") != std::string::npos);
  }
}

TEST_CASE("program: attacks by name, with targets and surrogates") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  const std::string model = scratch / "a.safetensors";
  const std::string other = scratch / "b.safetensors";
  REQUIRE(run(kTrain + "--defense none --out " + model).status == 0);
  REQUIRE(run(kTrain + "--defense fgsm-rs --eps 0.05 --out " + other).status == 0);
  const std::string common = "attack --data drawn-digits --count 40 --quiet --json " + (scratch / "out.json") + " ";
  const auto record = [&](const std::string& arguments) {
    const Outcome out = run(common + arguments);
    INFO(arguments, ": ", out.text);
    REQUIRE(out.status == 0);
    return nlohmann::json::parse(contents(scratch / "out.json"));
  };
  const auto on_a = "--model-file " + model + " ";
  const auto cw = record(on_a + "--attack cw --norm l2 --eps 1 --steps 100 --set search-steps=2 --set confidence=1");
  CHECK(cw["recipe"]["steps"] == 100);
  CHECK(cw["recipe"]["search_steps"] == 2);
  CHECK(cw["recipe"]["confidence"] == 1);
  CHECK(cw["distance"]["images"].get<int>() > 0);
  CHECK(cw["distance"]["median"].get<double>() > 0);

  // Towards class 3 only images of other classes go; next leaves none out.
  const auto three = record(on_a + "--attack pgd --eps 0.3 --target 3");
  CHECK(three["count"].get<int>() < 40);
  CHECK(three["recipe"]["target"] == "3");
  CHECK(record(on_a + "--attack pgd --eps 0.3 --target next")["count"] == 40);
  const Outcome eleven = run(common + on_a + "--target 11");
  CHECK(eleven.status != 0);
  CHECK(eleven.text.find("--target 11, expected next, or a class 0 to 9") != std::string::npos);

  // What another model's images break, its own do all the more.
  const auto own = record("--model-file " + other + " --attack pgd --eps 0.2");
  const auto transferred = record("--model-file " + other + " --attack pgd --eps 0.2 --surrogate " + model);
  CHECK(transferred["recipe"]["surrogate"] == model);
  CHECK(transferred["robust"]["correct"].get<int>() >= own["robust"]["correct"].get<int>());
  CHECK(transferred["robust"]["correct"].get<int>() < transferred["clean"]["correct"].get<int>());

  const Outcome list = run("attack --list");
  CHECK(list.status == 0);
  CHECK(list.text.find("hop-skip-jump") != std::string::npos);
}

TEST_CASE("program: distillation, one temperature as a model and several as a sweep") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  const std::string model = scratch / "runs/d.safetensors";
  const Outcome train = run(kTrain + "--defense distill --temperature 10 --teacher mlp --out " + model);
  INFO(train.text);
  REQUIRE(train.status == 0);
  CHECK(fs::exists(scratch / "runs/d.teacher.safetensors"));
  CHECK(nlohmann::json::parse(contents(scratch / "runs/d.training.json"))["recipe"]["temperature"] == "10");
  // The evaluation knows the temperature from the file and attacks for it.
  const Outcome evaluate =
      run("evaluate --data drawn-digits --count 20 --steps 5 --queries 50 --no-signs --quiet --model-file " + model);
  INFO(evaluate.text);
  CHECK(evaluate.status == 0);
  CHECK(evaluate.text.find("trained at temperature 10") != std::string::npos);

  const Outcome sweep =
      run("distill --data drawn-digits --train-count 640 --epochs 1 --temperatures 1,50 --count 20 "
          "--jsma-count 4 --cw-count 4 --cw-steps 20 --quiet --json " +
          (scratch / "runs/sweep.json"));
  INFO(sweep.text);
  REQUIRE(sweep.status == 0);
  const auto json = nlohmann::json::parse(contents(scratch / "runs/sweep.json"));
  REQUIRE(json["points"].size() == 2);
  CHECK(json["points"][1]["temperature"] == 50);
  CHECK(json["points"][1]["student"]["total"] == 20);
  REQUIRE(run("report --in " + (scratch / "runs") + " --out " + (scratch / "report")).status == 0);
  CHECK(contents(scratch / "report/index.html").find("id=\"distillation\"") != std::string::npos);
  for (const auto* wrong : {"--temperatures 0", "--temperatures hot", "--count 0", "--model nope"}) {
    CAPTURE(std::string(wrong));
    CHECK(run(std::string("distill --data drawn-digits --quiet ") + wrong).status != 0);
  }
}

TEST_CASE("program: filters in front of a model, within it, and in a table") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  const std::string model = scratch / "runs/m.safetensors";
  REQUIRE(run(kTrain + "--defense none --out " + model).status == 0);
  const std::string common = "--data drawn-digits --count 40 --quiet --model-file " + model + " ";
  const auto record = [&](const std::string& arguments) {
    const Outcome out = run(arguments + " --json " + (scratch / "out.json"));
    INFO(arguments, ": ", out.text);
    REQUIRE(out.status == 0);
    return nlohmann::json::parse(contents(scratch / "out.json"));
  };
  const std::string attack = "attack " + common + "--attack pgd --steps 10 --filter jpeg:75 --filter bit-depth:4 ";
  const auto adaptive = record(attack);
  CHECK(adaptive["filters"] == "jpeg:75:420 | bit-depth:4");
  CHECK(adaptive["recipe"]["filter_attack"] == "adaptive");
  CHECK(adaptive["label"] == "none, behind jpeg:75:420 | bit-depth:4");
  const auto unaware = record(attack + "--filter-attack unaware");
  CHECK(unaware["recipe"]["filter_attack"] == "unaware");
  CHECK(adaptive["robust"]["correct"].get<int>() <= unaware["robust"]["correct"].get<int>());
  const Outcome evaluate = run("evaluate " + common +
                               "--filter gaussian-noise:0.1 --steps 3 --queries 20 --draws 2 "
                               "--judging-draws 5 --no-signs");
  INFO(evaluate.text);
  CHECK(evaluate.status == 0);
  CHECK(evaluate.text.find("the classifier is random") != std::string::npos);

  const auto table = record("filters " + common +
                            "--steps 5 --queries 20 --draws 2 --judging-draws 5 --gallery 2 "
                            "--filter median:2 --filter jpeg:50+gaussian-noise:0.05");
  REQUIRE(table["points"].size() == 3);
  CHECK(table["points"][0]["filters"] == "");
  CHECK(table["points"][2]["filters"] == "jpeg:50:420 | gaussian-noise:0.05");
  CHECK(table["points"][2]["random"] == true);
  CHECK(table["gallery"]["items"].size() == 2);
  fs::rename(scratch / "out.json", scratch / "runs/filters.json");
  REQUIRE(run("report --in " + (scratch / "runs") + " --out " + (scratch / "report")).status == 0);
  CHECK(contents(scratch / "report/index.html").find("id=\"filters\"") != std::string::npos);

  // A code within the model: its file loads by itself.
  const std::string coded = scratch / "runs/coded.safetensors";
  const Outcome train = run(kTrain + "--filter thermometer:8 --out " + coded);
  INFO(train.text);
  REQUIRE(train.status == 0);
  const auto json = record("attack --data drawn-digits --count 40 --quiet --attack pgd --model-file " + coded);
  CHECK(json["clean"]["correct"].get<int>() > 20);
  CHECK(json["robust"]["correct"].get<int>() < json["clean"]["correct"].get<int>());
}

TEST_CASE("program: a detector is fitted, attacked, shown, and stands in front of its own model alone") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  const std::string model = scratch / "m.safetensors";
  REQUIRE(run(kTrain + "--out " + model).status == 0);
  const std::string detector = scratch / "runs/m.json";  // beside the records: the report passes it over
  const std::string arguments =
      "detect --data drawn-digits --eps 0.2 --count 24 --steps 10 --cw-steps 20 --model-file " + model;
  const Outcome detect = run(arguments + " --out " + detector + " --json " + (scratch / "runs/detection.json"));
  INFO(detect.text);
  REQUIRE(detect.status == 0);
  CHECK(detect.text.find("detector-aware robust accuracy") != std::string::npos);
  const auto json = nlohmann::json::parse(contents(scratch / "runs/detection.json"));
  CHECK(json["kind"] == "detection");
  REQUIRE(json["attacks"].size() == 6);
  CHECK(json["attacks"][3]["adaptive"] == true);
  CHECK(json["robust"]["total"] == 24);
  CHECK(json["robust_served"]["correct"] <= json["clean_served"]["correct"]);
  const Outcome again = run(arguments + " --quiet --threads 1 --json -");
  const auto begin = again.text.find("{\n");
  REQUIRE(begin != std::string::npos);
  const auto same = nlohmann::json::parse(again.text.substr(begin));
  CHECK(same["attacks"] == json["attacks"]);
  CHECK(same["threshold"] == json["threshold"]);

  REQUIRE(run("report --in " + (scratch / "runs") + " --out " + (scratch / "report")).status == 0);
  CHECK(contents(scratch / "report/index.html").find("id=\"detection\"") != std::string::npos);

  const Outcome guarded =
      run("attack --data drawn-digits --eps 0.2 --count 20 --attack apgd-ce --steps 10 --quiet --model-file " + model +
          " --detector " + detector);
  INFO(guarded.text);
  CHECK(guarded.status == 0);
  const Outcome evaluated =
      run("evaluate --data drawn-digits --eps 0.2 --count 20 --suite quick --no-signs --quiet --model-file " + model +
          " --detector " + detector);
  INFO(evaluated.text);
  CHECK(evaluated.status == 0);
  CHECK(evaluated.text.find("misclassified and not refused") != std::string::npos);

  const std::string other = scratch / "other.safetensors";
  REQUIRE(run("train --data drawn-digits --train-count 320 --epochs 1 --quiet --seed 4 --out " + other).status == 0);
  const Outcome stranger =
      run("attack --data drawn-digits --count 20 --quiet --model-file " + other + " --detector " + detector);
  CHECK(stranger.status == 1);
  CHECK(stranger.text.find("its threshold was fitted for model") != std::string::npos);
  const auto refused = [&](const std::string& more, const std::string& part) {
    const Outcome outcome = run("detect --data drawn-digits --quiet --model-file " + model + " " + more);
    CAPTURE(more);
    CHECK(outcome.status == 1);
    CHECK(outcome.text.find(part) != std::string::npos);
  };
  refused("--fpr 1", "--fpr 1");
  refused("--count 0", "--count 0");
  refused("--eps 2", "exceeds the pixel box");
  refused("--squeezers sharpen:2", "sharpen");
  refused("--fit-count 1000000", "--fit-count 1000000");
  refused("--attacks nope", "unknown attack nope");
}

TEST_CASE("program: an evaluation, killed, goes on to the same record, and the report shows it") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  const std::string model = scratch / "m.safetensors";
  REQUIRE(run(kTrain + "--defense fgsm-rs --eps 0.1 --out " + model).status == 0);
  const std::string arguments =
      "evaluate --data drawn-digits --eps 0.1 --count 48 --steps 20 --queries 200 "
      "--sign-images 20 --gallery 2 --model-file " +
      model + " ";
  const auto without_times = [](nlohmann::json json) {
    for (const char* key : {"seconds", "date", "command", "images_per_second", "file", "build"}) {
      json.erase(key);
    }
    json["evaluation"].erase("seconds");
    for (auto& row : json["evaluation"]["attacks"]) {
      row.erase("seconds");
    }
    return json;
  };
  const auto read = [&](const std::string& name) { return nlohmann::json::parse(contents(scratch / name)); };
  const Outcome unbroken = run(arguments + "--threads 1 --json " + (scratch / "runs/a.json"));
  INFO(unbroken.text);
  REQUIRE(unbroken.status == 0);
  CHECK(unbroken.text.find("verdict:") != std::string::npos);
  const auto a = read("runs/a.json");
  CHECK(a["kind"] == "evaluation");
  CHECK(a["evaluation"]["attacks"].size() == 4);
  CHECK(a["robust"]["correct"] == a["evaluation"]["attacks"][3]["standing"]);

  const std::string broken = arguments + "--state " + (scratch / "state") + " --json " + (scratch / "b.json");
  for (const int milliseconds : {100, 200, 300}) {
    run_and_kill(broken, milliseconds);
  }
  const Outcome resumed = run(broken);
  INFO(resumed.text);
  REQUIRE(resumed.status == 0);
  CHECK(without_times(read("b.json")) == without_times(a));

  // The state belongs to this evaluation and no other.
  const Outcome other = run(arguments + "--seed 9 --state " + (scratch / "state"));
  CHECK(other.status != 0);
  CHECK(other.text.find("state") != std::string::npos);

  REQUIRE(run("report --in " + (scratch / "runs") + " --out " + (scratch / "report")).status == 0);
  CHECK(contents(scratch / "report/index.html").find("id=\"evaluation\"") != std::string::npos);
}

TEST_CASE("program: a killed training run goes on and ends with the same file") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  const std::string arguments = kTrain + "--defense fgsm-rs --checkpoint-interval 2 --checkpoint ";
  const auto model = [&](const std::string& name) { return " --out " + (scratch / (name + ".safetensors")); };
  // The command is part of a model's file, so both runs must be given the same words: one file, kept aside.
  REQUIRE(run(arguments + (scratch / "a.checkpoint") + model("a")).status == 0);
  fs::rename(scratch / "a.safetensors", scratch / "unbroken.safetensors");
  fs::remove(scratch / "a.checkpoint");
  for (const int milliseconds : {60, 120, 200}) {
    run_and_kill(arguments + (scratch / "a.checkpoint") + model("a"), milliseconds);
  }
  REQUIRE(run(arguments + (scratch / "a.checkpoint") + model("a")).status == 0);
  CHECK(contents(scratch / "a.safetensors") == contents(scratch / "unbroken.safetensors"));
}

}  // namespace
