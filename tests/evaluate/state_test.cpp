// SPDX-License-Identifier: MIT
// The state of an evaluation: killed at any moment it goes on to the same bits, and files of others are refused.
#include "pavise/evaluate/state.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "attack/attack_checks.hpp"
#include "core/text_checks.hpp"
#include "evaluate/models.hpp"
#include "io/scratch.hpp"
#include "pavise/io/file.hpp"

using namespace evaluate_checks;
using pavise_test::contains;
using pavise_test::refusal;

namespace {

struct Killed {};

evaluate::Options small_options() {
  auto options = few_steps();
  options.settings = {.steps = 8, .targets = 2, .queries = 60, .draws = 4};
  options.signs = {.measure = true, .images = 20, .steps = 5};
  return options;
}

/// A small network, and images with the labels that it gives.
struct Problem {
  pv::nn::Model model = attack_checks::small_network();
  pv::Tensor<float> images = attack_checks::drawn_images(100, {1, 4, 6});
  std::vector<std::int32_t> labels = attack_checks::predictions(model, images);
  attack::Threat threat = attack::linf(0.05);

  evaluate::Report evaluated(const evaluate::Options& options) const {
    return evaluate::robustness(model, images, labels, threat, options);
  }
};

/// A report at its start, with two attacks and three images.
evaluate::Report blank() {
  evaluate::Report r;
  r.attacks.resize(2);
  r.images.resize(3);
  r.matrix.assign(6, evaluate::Outcome::not_tried);
  r.adversarial = pv::Tensor<float>(pv::Shape{3, 1, 2, 2}, 0.25f);
  return r;
}

evaluate::Report filled() {
  evaluate::Report r = blank();
  r.attacks[0].tried = 3;
  r.attacks[1].seconds = 0.5;
  r.images[1] = {.broken_by = 1, .prediction = 4, .confidence = 0.5f, .distance = 0.125f, .attempt = 7, .forward = 11};
  r.images[2].broken_by = evaluate::kMisclassified;
  r.matrix[3 + 1] = evaluate::Outcome::broken;
  r.matrix[0] = evaluate::Outcome::stood;
  r.adversarial.row(1)[2] = 0.75f;
  evaluate::Sign& sign = r.signs.emplace_back();
  sign.name = "a sign";
  sign.value = 0.5;
  sign.at_most = false;
  sign.state = evaluate::SignState::unclear;
  sign.sentence = "says something";
  r.curve.push_back({.epsilon = 0.1, .correct = 2, .total = 3, .loss = 1.5});
  return r;
}

constexpr evaluate::Identity kIdentity{1, 2, 3};

}  // namespace

TEST_CASE("state: killed within or after any attack, an evaluation ends with the same bits") {
  const Problem problem;
  const auto evaluated = [&](const evaluate::Options& o) { return problem.evaluated(o); };
  const auto reference = evaluated(small_options());
  REQUIRE(reference.robust_correct > 0);
  REQUIRE(reference.robust_correct < reference.clean_correct);
  REQUIRE(reference.attacks.size() == 4);
  const pavise_test::Scratch scratch;
  int killed = 0;
  for (const std::string stage : {"apgd-ce", "apgd-t", "fab-t", "square", "signs"}) {
    // At its beginning: what came before is saved. At its end: the last part of its images is lost.
    for (const bool at_end : {false, true}) {
      CAPTURE(stage);
      CAPTURE(at_end);
      auto options = small_options();
      options.state_file = scratch / (stage + (at_end ? "-end" : "-begin"));
      options.progress = [&](std::string_view name, std::int64_t done, std::int64_t total) {
        if (name == stage && (at_end ? done == total : done == 0)) {
          throw Killed{};
        }
      };
      try {
        evaluated(options);
        FAIL("nobody was killed");
      } catch (const Killed&) {
        ++killed;
      }
      CHECK(pv::io::is_file(options.state_file) == !(stage == "apgd-ce" && !at_end));
      std::vector<std::string> stages;
      options.progress = [&](std::string_view name, std::int64_t, std::int64_t) {
        if (stages.empty() || stages.back() != name) {
          stages.emplace_back(name);
        }
      };
      check_same(evaluated(options), reference);
      CHECK(stages.front() == stage);  // nothing that was done is done again
      stages.clear();
      check_same(evaluated(options), reference);
      CHECK(stages.empty());
    }
  }
  CHECK(killed == 10);
}

TEST_CASE("state: the file of another evaluation is refused, with what differs") {
  const pavise_test::Scratch scratch;
  auto options = small_options();
  options.signs.measure = false;
  options.state_file = scratch / "state";
  const Problem problem;
  problem.evaluated(options);
  const auto before = pv::io::read_file(options.state_file);
  const auto refused = [&](const Problem& other, std::string_view why) {
    const auto message = refusal<pv::ValueError>([&] { other.evaluated(options); });
    CHECK_MESSAGE((contains(message, why) && contains(message, options.state_file)), message);
  };
  Problem model;
  model.model = attack_checks::small_network(5, {1, 4, 6}, 4);
  refused(model, "another model");
  Problem images;
  images.images.row(7)[3] = 0.5f;
  refused(images, "other images");
  Problem labels;
  labels.labels[7] = (labels.labels[7] + 1) % 5;
  refused(labels, "other images");
  Problem threat;
  threat.threat = attack::linf(0.06);
  refused(threat, "another threat");
  static const auto surrogate = attack_checks::small_network(5, {1, 4, 6}, 8);
  const std::vector<void (*)(evaluate::Options&)> changes = {
      [](auto& o) { o.seed = 1; },
      [](auto& o) { o.suite = "quick"; },
      [](auto& o) { o.settings.steps = 9; },
      [](auto& o) { o.settings.queries = 61; },
      [](auto& o) { o.settings.targets = 3; },
      [](auto& o) { o.all_images = true; },
      [](auto& o) { o.surrogates.push_back(surrogate); },
  };
  for (std::size_t i = 0; i < changes.size(); ++i) {
    CAPTURE(i);
    auto other = options;
    changes[i](other);
    const auto message = refusal<pv::ValueError>([&] { problem.evaluated(other); });
    CHECK(contains(message, "another threat, other attacks or options"));
    CHECK(contains(message, options.state_file));
  }
  CHECK(pv::io::read_file(options.state_file) == before);
}

TEST_CASE("state: what is written is read back") {
  const pavise_test::Scratch scratch;
  const auto path = scratch / "state";
  const auto r = filled();
  evaluate::save_state(path, kIdentity, r);
  auto back = blank();
  evaluate::load_state(path, kIdentity, back);
  CHECK(back.attacks[0].tried == 3);
  CHECK(back.attacks[1].seconds == 0.5);
  CHECK(back.matrix == r.matrix);
  for (std::int64_t i = 0; i < 3; ++i) {
    check_same_image(r, i, back, i);
  }
  REQUIRE(back.signs.size() == 1);
  CHECK(back.signs[0].name == "a sign");
  CHECK(back.signs[0].sentence == "says something");
  CHECK(back.signs[0].state == evaluate::SignState::unclear);
  CHECK_FALSE(back.signs[0].at_most);
  CHECK(back.signs[0].value == 0.5);
  REQUIRE(back.curve.size() == 1);
  CHECK(back.curve[0].loss == 1.5);
  for (const evaluate::Identity& other : {evaluate::Identity{0, 2, 3}, {1, 0, 3}, {1, 2, 0}}) {
    CHECK_THROWS_AS(evaluate::load_state(path, other, back), pv::ValueError);
  }
}

TEST_CASE("state: truncated and damaged files are refused") {
  const pavise_test::Scratch scratch;
  const auto path = scratch / "state";
  evaluate::save_state(path, kIdentity, filled());
  const auto bytes = pv::io::read_file(path);
  const auto read = [&](const pavise_test::Bytes& damaged) {
    scratch.write("damaged", damaged);
    auto report = blank();
    evaluate::load_state(scratch / "damaged", kIdentity, report);
  };
  CHECK_NOTHROW(read(bytes));
  pavise_test::check_truncations(bytes, read);
  pavise_test::Bytes longer = bytes;
  longer.push_back(0);
  CHECK(contains(pavise_test::io_error([&] { read(longer); }), "byte "));
  // Damage that leaves the bytes as they were (a byte put in place of an equal one) is rare.
  CHECK(pavise_test::fuzz(bytes, 500, read) > 450);

  // Damage whose checksum was mended: whatever it says, nothing but the library's own errors comes out.
  const auto mended = [&](pavise_test::Bytes damaged) {
    if (damaged.size() >= 8) {
      const auto sum = evaluate::Hash().bytes(damaged.data(), damaged.size() - 8).value();
      std::memcpy(damaged.data() + damaged.size() - 8, &sum, 8);
    }
    try {
      read(damaged);
    } catch (const pv::ValueError& other) {
      throw pv::IoError(other.what());
    }
  };
  CHECK(pavise_test::fuzz(bytes, 1000, mended) > 300);
}
