// SPDX-License-Identifier: MIT
// The `pavise` program from outside: the three commands on drawn digits, what it refuses, and a killed training run.
#include <doctest/doctest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

namespace {

namespace fs = std::filesystem;

struct Outcome {
  int status = -1;
  std::string text;  ///< both outputs
};

std::string program() {
  const char* path = std::getenv("PAVISE_PROGRAM");
  return path != nullptr && fs::exists(path) ? path : "";
}

Outcome run(const std::string& arguments) {
  Outcome out;
  std::FILE* pipe = popen(("'" + program() + "' " + arguments + " 2>&1").c_str(), "r");
  REQUIRE(pipe != nullptr);
  char buffer[4096];
  for (std::size_t n = 0; (n = std::fread(buffer, 1, sizeof buffer, pipe)) > 0;) {
    out.text.append(buffer, n);
  }
  out.status = WEXITSTATUS(pclose(pipe));
  return out;
}

std::string contents(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

/// A directory of the test's own, removed at its end.
struct Scratch {
  fs::path path = fs::temp_directory_path() / ("pavise_program_test_" + std::to_string(getpid()));
  Scratch() { fs::create_directories(path); }
  ~Scratch() { fs::remove_all(path); }
  std::string operator/(const std::string& name) const { return (path / name).string(); }
};

bool there() {
  if (!program().empty()) {
    return true;
  }
  MESSAGE("skipped: the program is not built (PAVISE_PROGRAM)");
  return false;
}

const std::string kTrain = "train --data drawn-digits --train-count 1280 --epochs 2 --quiet --seed 3 ";

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
          "--count 100 --curve 0,0.1 --gallery 3 --quiet --json " + record);
  CHECK(attack.status == 0);
  INFO(attack.text);
  const auto json = nlohmann::json::parse(contents(record));
  CHECK(json["clean"]["total"] == 100);
  CHECK(json["robust"]["correct"].get<int>() <= json["clean"]["correct"].get<int>());
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
  CHECK(page.find("PGD &lt;2&gt;") != std::string::npos);
  CHECK(page.find("PGD <2>") == std::string::npos);
}

TEST_CASE("program: what it refuses, it names") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  for (const auto& [arguments, words] : {std::pair<std::string, std::string>{"train --data nope", "fashion-mnist"},
                                         {"train --data drawn-digits --model nope", "small-cnn"},
                                         {"train --data drawn-digits --defense nope", "fgsm-rs"},
                                         {"train --data drawn-digits --norm l3", "linf, l2 or l1"},
                                         {"train --data drawn-digits --eps 8", "8/255"},
                                         {"train --data drawn-digits --eps eight", "eight"},
                                         {"train --data drawn-digits --epochs 0", "epochs"},
                                         {"attack --model-file /nowhere/m.safetensors", "/nowhere/m.safetensors"},
                                         {"attack", "--model-file"},
                                         {"report --in /nowhere", "/nowhere"},
                                         {"fly", "fly"}}) {
    const Outcome out = run(arguments);
    INFO(arguments, ": ", out.text);
    CHECK(out.status != 0);
    CHECK(out.text.find(words) != std::string::npos);
  }
  for (const char* command : {"", "train", "attack", "report"}) {
    const Outcome help = run(std::string(command) + " --help");
    CHECK(help.status == 0);
    CHECK(help.text.find("Usage") != std::string::npos);
  }
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
    const pid_t child = fork();
    if (child == 0) {
      const std::string line =
          "exec '" + program() + "' " + arguments + (scratch / "a.checkpoint") + model("a") + " >/dev/null 2>&1";
      execl("/bin/sh", "sh", "-c", line.c_str(), static_cast<char*>(nullptr));
      _exit(127);
    }
    usleep(static_cast<useconds_t>(milliseconds) * 1000);
    kill(child, SIGKILL);
    int status = 0;
    waitpid(child, &status, 0);
  }
  REQUIRE(run(arguments + (scratch / "a.checkpoint") + model("a")).status == 0);
  CHECK(contents(scratch / "a.safetensors") == contents(scratch / "unbroken.safetensors"));
}

}  // namespace
