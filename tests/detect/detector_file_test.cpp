// SPDX-License-Identifier: MIT
// Detector files: what comes back, and what is refused.
#include "pavise/defend/detector_file.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <fstream>
#include <iterator>
#include <string>
#include <utility>
#include <vector>

#include "detect/detect_checks.hpp"
#include "io/scratch.hpp"

using namespace detect_checks;

namespace {

std::string text_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}

pv::nn::Model small_model(std::uint64_t seed = 3) { return pv::nn::mlp({.seed = seed, .hidden = {8}}); }

defend::DetectorFile sample(const pv::nn::Model& model) {
  return {.detector = defend::FeatureSqueezing(defend::make_squeezers("bit-depth:4 | median:3, median:2"), 0.1f),
          .false_positive_rate = 0.05,
          .images = 500,
          .data = "drawn \"digits\" \u00E9",
          .model = model.name(),
          .model_hash = defend::hash_model(model)};
}

}  // namespace

TEST_CASE("detector file: what is written comes back, bit by bit") {
  const pavise_test::Scratch scratch;
  const auto model = small_model();
  for (const float threshold : {0.0f, 0.1f, 1.0f / 3.0f, 1e-30f, 2.0f}) {
    auto file = sample(model);
    file.detector = file.detector.with_threshold(threshold);
    save_detector(scratch / "d.detector", file);
    const auto back = defend::load_detector(scratch / "d.detector");
    CHECK(back.detector.threshold() == threshold);
    CHECK(back.detector.name() == "bit-depth:4 | median:3, median:2");
    CHECK(back.false_positive_rate == 0.05);
    CHECK(back.images == 500);
    CHECK(back.data == file.data);
    CHECK(back.model == "mlp");
    CHECK(back.version == std::string(pv::kVersion));
    defend::require_fitted_for(back, model);
  }
}

TEST_CASE("detector file: gives the scores and decisions of the detector that was saved") {
  const pavise_test::Scratch scratch;
  const auto& model = undefended();
  const auto detector = joint_detector().fit(model, attack::to_tensor(fit_images()), 0.1);
  auto file = sample(model);
  file.detector = detector;
  save_detector(scratch / "d.detector", file);
  const auto back = defend::load_detector(scratch / "d.detector").detector;
  const auto images = attack::to_tensor(test_images(20));
  const auto scores = detector.scores(model, images);
  CHECK(same_bits(back.scores(model, images), scores));
  for (const float s : scores) {
    CHECK(back.flags(s) == detector.flags(s));
  }
}

TEST_CASE("detector file: another model is refused, down to one bit of a weight") {
  const auto file = sample(small_model());
  CHECK(contains(refusal([&] { require_fitted_for(file, small_model(4)); }), file.model_hash));
  auto changed = small_model();
  auto& weight = changed.parameters().parameters()[0].edit()[5];
  weight = std::nextafter(weight, 1.0f);
  const auto message = refusal([&] { require_fitted_for(file, changed); });
  CHECK(contains(message, "hash " + defend::hash_model(changed)));
  CHECK(contains(message, "mlp"));
}

TEST_CASE(
    "detector file: every byte that is changed, and every length that it is cut to, is refused or means the same") {
  const pavise_test::Scratch scratch;
  const auto model = small_model();
  const auto path = scratch / "d.detector";
  save_detector(path, sample(model));
  const std::string good = text_of(path);
  const auto refused = [&](std::string text) {
    const std::vector<std::uint8_t> bytes(text.begin(), text.end());
    scratch.write("d.detector", bytes);
    try {
      const auto back = defend::load_detector(path);
      return back.detector.threshold() == 0.1f && back.detector.name() == "bit-depth:4 | median:3, median:2" &&
             back.model_hash == defend::hash_model(model) && back.images == 500;  // a blank for another
    } catch (const pv::IoError& error) {
      CHECK(contains(error.what(), path));
      return true;
    }
  };
  for (std::size_t i = 0; i < good.size(); ++i) {
    for (const unsigned bit : {0u, 1u, 4u, 7u}) {
      auto bad = good;
      bad[i] = static_cast<char>(static_cast<unsigned char>(bad[i]) ^ (1u << bit));
      CHECK(refused(bad));
    }
  }
  for (std::size_t n = 0; n + 1 < good.size(); ++n) {
    CHECK(refused(good.substr(0, n)));
  }
}

TEST_CASE("detector file: names what is wrong in it") {
  const pavise_test::Scratch scratch;
  const auto path = scratch / "d.detector";
  const auto refused = [&](auto&& change, bool sign) {
    auto json = defend::detail::detector_json(sample(small_model()));
    change(json);
    if (sign) {
      json["checksum"] = defend::detail::detector_checksum(json);
    }
    const std::string text = json.dump();
    scratch.write("d.detector", std::vector<std::uint8_t>(text.begin(), text.end()));
    return refusal([&] { defend::load_detector(path); });
  };
  CHECK(contains(refused([](auto& j) { j["kind"] = "attack"; }, true), "kind"));
  CHECK(contains(refused([](auto&) {}, false), "checksum is null"));
  CHECK(contains(refused([](auto& j) { j["threshold"] = 3.5; }, true), "threshold of 3.5"));
  CHECK(contains(refused([](auto& j) { j["threshold"] = "low"; }, true), "number"));
  CHECK(contains(refused([](auto& j) { j.erase("model_hash"); }, true), "model_hash"));
  CHECK(contains(refused([](auto& j) { j["squeezers"] = {"sharpen:3"}; }, true), "sharpen"));
  CHECK(contains(refused([](auto& j) { j["squeezers"] = nlohmann::json::array(); }, true), "no squeezers"));
  CHECK(contains(refused([](auto& j) { j["squeezers"] = std::vector<std::string>(65, "bit-depth:1"); }, true),
                 "more than 64 squeezers"));
  const std::string deep(100000, '[');  // would take the stack, where values are written again for the checksum
  const auto nested = [&](const std::string& value) {
    const std::string text = "{\"kind\": \"detector\", \"checksum\": " + value + "}";
    scratch.write("d.detector", std::vector<std::uint8_t>(text.begin(), text.end()));
    return refusal([&] { defend::load_detector(path); });
  };
  CHECK(contains(nested(deep + std::string(100000, ']')), "nested deeper than 32 levels"));
  CHECK(contains(nested("1e999"), "not JSON"));
  CHECK(contains(refusal([&] { defend::load_detector(scratch / "none"); }), "none"));
  CHECK(contains(refusal([&] {
                   defend::save_detector(path, {joint_detector(), 0.05, 1, "", "", ""});
                 }),
                 "no threshold"));
}
