// SPDX-License-Identifier: MIT
// `pavise import`, `pavise logits` and `pavise attack --export` from outside.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <filesystem>
#include <string>
#include <utility>

#include "pavise/data/npy.hpp"
#include "pavise/io/image.hpp"
#include "program/outside.hpp"

namespace {

using namespace pavise_test::program;
namespace pv = pavise;

TEST_CASE("program: exported images and imported models give the same answers") {
  if (!there()) {
    return;
  }
  const Scratch scratch;
  const std::string model = scratch / "model.safetensors";
  REQUIRE(run(kTrain + "--defense none --out " + model).status == 0);
  const Outcome import = run("import --layout small-cnn --in " + model + " --out " + (scratch / "again.safetensors") +
                             " --label Imported --defense pgd");
  INFO(import.text);
  REQUIRE(import.status == 0);

  const Outcome attack = run("attack --model-file " + (scratch / "again.safetensors") +
                             " --data drawn-digits --attack pgd --steps 3 --eps 0.1 --count 37 --quiet --export " +
                             (scratch / "out") + " --pictures 2 --json " + (scratch / "attack.json"));
  INFO(attack.text);
  REQUIRE(attack.status == 0);
  CHECK(contents(scratch / "attack.json").find("\"label\": \"Imported\"") != std::string::npos);
  const auto clean = pv::data::read_npy_as<float>(scratch / "out/clean.npy");
  const auto adversarial = pv::data::read_npy_as<float>(scratch / "out/adversarial.npy");
  const auto labels = pv::data::read_npy_as<std::int32_t>(scratch / "out/labels.npy");
  const auto predictions = pv::data::read_npy_as<std::int32_t>(scratch / "out/predictions.npy");
  CHECK(clean.shape() == pv::Shape{37, 1, 28, 28});
  CHECK(adversarial.shape() == clean.shape());
  CHECK(labels.shape() == pv::Shape{37});
  float largest = 0;
  for (std::int64_t i = 0; i < clean.size(); ++i) {
    largest = std::max(largest, std::abs(adversarial[i] - clean[i]));
  }
  CHECK(largest == doctest::Approx(0.1).epsilon(1e-4));

  // The pictures are the images in 256 levels.
  for (const auto& [name, images] : {std::pair{"00001-clean.png", &clean}, {"00001-adversarial.png", &adversarial}}) {
    const auto file = pv::io::read_file(scratch / (std::string("out/") + name));
    const auto picture = pv::io::decode_image(file, name);
    REQUIRE(picture.pixels.size() == 784);
    for (std::size_t i = 0; i < 784; ++i) {
      CHECK(picture.pixels[i] == std::lround(images->row(1)[i] * 255.0f));
    }
  }
  CHECK(fs::exists(scratch / "out/00000-adversarial.png"));
  CHECK_FALSE(fs::exists(scratch / "out/00002-adversarial.png"));

  // Both models answer for the exported images what the attack noted.
  for (const std::string& file : {model, scratch / "again.safetensors"}) {
    const Outcome logits = run("logits --model-file " + file + " --images " + (scratch / "out/adversarial.npy") +
                               " --labels " + (scratch / "out/labels.npy") + " --out " + (scratch / "answers"));
    INFO(logits.text);
    REQUIRE(logits.status == 0);
    const auto answers = pv::data::read_npy_as<float>(scratch / "answers/logits.npy");
    REQUIRE(answers.shape() == pv::Shape{37, 10});
    for (std::int64_t i = 0; i < 37; ++i) {
      const auto row = answers.row(i);
      CHECK(std::max_element(row.begin(), row.end()) - row.begin() == predictions[i]);
    }
    const auto gradients = pv::data::read_npy_as<float>(scratch / "answers/gradients.npy");
    CHECK(gradients.shape() == clean.shape());
    CHECK(std::any_of(gradients.span().begin(), gradients.span().end(), [](float v) { return v != 0.0f; }));
    fs::remove_all(scratch / "answers");
  }
  CHECK(run("logits --model-file " + model + " --images " + (scratch / "out/clean.npy") + " --out " +
            (scratch / "answers"))
            .status == 0);
  CHECK_FALSE(fs::exists(scratch / "answers/gradients.npy"));  // of which loss?

  for (const auto& [arguments, words] :
       {std::pair<std::string, std::string>{"import --layout keras --in a --out b", "fast-at-mnist"},
        {"import --layout lenet --in " + model + " --out " + (scratch / "x"), "tensor conv1.weight has the shape"},
        {"import --layout lenet --in /nowhere/a --out " + (scratch / "x"), "/nowhere/a"},
        {"import --layout small-cnn --in " + model + " --out " + (scratch / "x") + " --mean 0.5", "go together"},
        {"import --layout lenet", "--in"},
        {"logits --model-file " + model + " --images " + (scratch / "out/labels.npy") + " --out " + (scratch / "y"),
         "the type is not <f4"},
        {"logits --model-file " + model + " --images " + (scratch / "out/clean.npy") + " --labels " +
             (scratch / "out/clean.npy") + " --out " + (scratch / "y"),
         "labels of an integer type"}}) {
    const Outcome out = run(arguments);
    INFO(arguments, ": ", out.text);
    CHECK(out.status != 0);
    CHECK(out.text.find(words) != std::string::npos);
  }
  const Outcome list = run("import --list");
  CHECK(list.status == 0);
  CHECK(list.text.find("trades-mnist") != std::string::npos);
}

}  // namespace
