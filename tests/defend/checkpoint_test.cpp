// SPDX-License-Identifier: MIT
// A run that is killed resumes and ends with the same bits; a checkpoint that is not this run's is refused.
#include "pavise/defend/checkpoint.hpp"

#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "defend/small.hpp"
#include "io/scratch.hpp"
#include "pavise/defend/defend.hpp"

namespace pv = pavise;
namespace defend = pavise::defend;
using pavise_test::Scratch;
using small::Trained;

namespace {

struct Interrupted {};

defend::TrainOptions base(const std::string& checkpoint) {
  return {.epochs = 3,
          .batch_size = 24,
          .seed = 5,
          .average_decay = 0.9,
          .label_noise = 0.1,
          .augmentation = {.flip = true},
          .validation_size = 20,
          .checkpoint = checkpoint,
          .checkpoint_interval = 2};
}

Trained train(const std::string& name, const defend::TrainOptions& options, double tolerance = 0.2) {
  auto model = small::network(true);
  auto strategy = name == "fgsm-rs" ? std::make_shared<defend::Fast>(
                                          small::threat(), defend::FastOptions{.tolerance = tolerance, .interval = 3})
                                    : defend::make_defense(name, 0.1, {.steps = 3, .awp_warmup_epochs = 1}).strategy;
  Trained out;
  out.history = defend::Trainer(strategy, options).fit(model, small::images(170));
  out.state = small::state(model);
  return out;
}

/// Stops the run, as a signal would between two batches.
defend::ProgressCallback stop_after(std::int64_t batches) {
  return [left = batches](const defend::Progress& p) mutable {
    if (p.images > 0 && --left == 0) {
      throw Interrupted{};
    }
  };
}

}  // namespace

TEST_CASE("checkpoint: a run that is broken off after any batch ends with the same bits") {
  for (const std::string name : {"none", "pgd", "free", "fgsm-rs", "awp-trades"}) {
    CAPTURE(name);
    const auto whole = train(name, base(""), -1);
    for (const std::int64_t after : {1, 4, 7, 10, 15, 20, 21}) {
      CAPTURE(after);
      const Scratch scratch;
      auto options = base(scratch / "run.checkpoint");
      options.progress = stop_after(after);
      CHECK_THROWS_AS(train(name, options, -1), Interrupted);
      options.progress = {};
      const bool there = pv::io::is_file(options.checkpoint);
      const auto resumed = train(name, options, -1);
      small::check_same(whole, resumed);
      CHECK((resumed.history.resumed_at >= 0) == there);
      if (after >= 4) {
        CHECK(resumed.history.resumed_at > 0);
      }
      const auto again = train(name, options, -1);  // a finished run is not trained again
      small::check_same(whole, again);
      CHECK(again.history.resumed_at == whole.history.updates);
    }
  }
}

TEST_CASE("checkpoint: a process that is killed at any moment resumes and ends with the same bits") {
  const small::Threads one(1);  // OpenMP's threads do not survive a fork
  const auto whole = train("pgd", base(""));
  const Scratch scratch;
  auto options = base(scratch / "run.checkpoint");
  options.checkpoint_interval = 1;
  std::int64_t kills = 0;
  for (int round = 0; round < 12; ++round) {
    CAPTURE(round);
    if (round % 4 == 0) {
      std::filesystem::remove(options.checkpoint);
    }
    const pid_t child = ::fork();
    REQUIRE(child >= 0);
    if (child == 0) {
      auto slow = options;
      slow.progress = [](const defend::Progress&) { std::this_thread::sleep_for(std::chrono::milliseconds(1)); };
      try {
        train("pgd", slow);
      } catch (...) {
        ::_exit(1);
      }
      ::_exit(0);
    }
    const auto word = pv::random_block({.seed = 9, .purpose = pv::Purpose::test}, static_cast<std::uint32_t>(round))[0];
    std::this_thread::sleep_for(std::chrono::microseconds(1000 + word % 80000));
    ::kill(child, SIGKILL);
    int status = 0;
    REQUIRE(::waitpid(child, &status, 0) == child);
    CHECK_FALSE((WIFEXITED(status) && WEXITSTATUS(status) == 1));  // it never refuses its own checkpoint
    kills += WIFSIGNALED(status) ? 1 : 0;
    if (round % 4 == 3) {
      small::check_same(whole, train("pgd", options));
    }
  }
  MESSAGE("killed ", kills, " of 12 processes before they were done");
  CHECK(kills > 0);
}

TEST_CASE("checkpoint: one of another run is refused, and names what differs") {
  const Scratch scratch;
  const auto options = base(scratch / "run.checkpoint");
  train("none", options);
  const auto refuse = [&](const std::string& name, const std::function<void(defend::TrainOptions&)>& change,
                          const std::string& words) {
    auto other = options;
    change(other);
    try {
      train(name, other);
      FAIL("the checkpoint of another run was taken: ", words);
    } catch (const pv::IoError& e) {
      CAPTURE(std::string(e.what()));
      CHECK(std::string(e.what()).find(words) != std::string::npos);
      CHECK(std::string(e.what()).find(options.checkpoint) == 0);
    }
  };
  refuse(
      "pgd", [](auto&) {}, "it has \"defense: none\", this run has \"defense: pgd\"");
  refuse(
      "none", [](auto& o) { o.seed = 6; }, "\"seed: 5\"");
  refuse(
      "none", [](auto& o) { o.epochs = 4; }, "\"epochs: 3\", this run has \"epochs: 4\"");
  refuse(
      "none", [](auto& o) { o.custom_schedule = [](auto, auto) { return 0.01; }; }, "schedule");
  refuse(
      "none", [](auto& o) { o.label_noise = 0.2; }, "label_noise");
  refuse(
      "none", [](auto& o) { o.validation_size = 21; }, "validation_size");
  auto model = small::network(true, 1);
  const auto fit = [&](const pv::data::Dataset& set) {
    defend::Trainer(std::make_shared<defend::Standard>(), options).fit(model, set);
  };
  CHECK_THROWS_WITH_AS(fit(small::images(170)), doctest::Contains("initial weights"), pv::IoError);
  auto same = small::network(true);
  const auto other_images = [&] {
    defend::Trainer(std::make_shared<defend::Standard>(), options).fit(same, small::images(170, 2));
  };
  CHECK_THROWS_WITH_AS(other_images(), doctest::Contains("training set"), pv::IoError);
  auto anew = options;
  anew.resume = false;
  anew.seed = 6;
  CHECK(train("none", anew).history.resumed_at == -1);
}

TEST_CASE("checkpoint: every byte counts") {
  const Scratch scratch;
  auto options = base(scratch / "run.checkpoint");
  options.epochs = 1;
  train("none", options);
  const auto good = pv::io::read_file(options.checkpoint);
  REQUIRE(good.size() > 2000);
  const auto refused = [&](const std::vector<std::uint8_t>& bytes) {
    pv::io::write_atomically(options.checkpoint, std::span<const std::uint8_t>(bytes));
    CHECK_THROWS_AS(train("none", options), pv::IoError);
  };
  for (std::size_t i = 0; i < good.size(); i += i < 40 ? 1 : 997) {
    CAPTURE(i);
    auto bad = good;
    bad[i] ^= 0x10;
    refused(bad);
  }
  for (const std::size_t n :
       {std::size_t{0}, std::size_t{7}, std::size_t{23}, std::size_t{24}, good.size() / 2, good.size() - 1}) {
    CAPTURE(n);
    refused({good.begin(), good.begin() + static_cast<std::ptrdiff_t>(n)});
  }
  auto longer = good;
  longer.push_back(0);
  refused(longer);
  pv::io::write_atomically(options.checkpoint, std::span<const std::uint8_t>(good));
  CHECK(train("none", options).history.resumed_at == 7);
}

TEST_CASE("checkpoint: a place that the run does not have is refused, checksum or not") {
  const Scratch scratch;
  const auto options = base(scratch / "run.checkpoint");
  train("fgsm-rs", options);
  const auto good = defend::read_checkpoint(options.checkpoint);
  const auto refuse = [&](std::string_view name, const auto& value, const std::string& words) {
    auto state = good;
    // A value stands behind its name, which stands behind three words: the name's length, the width and the count.
    const std::string head = std::string(1, static_cast<char>(name.size())) + std::string(7, '\0') +
                             std::string(1, static_cast<char>(sizeof value)) + std::string(7, '\0') + '\1' +
                             std::string(7, '\0') + std::string(name);
    const auto at = std::search(state.begin(), state.end(), head.begin(), head.end());
    REQUIRE(at != state.end());
    std::memcpy(&*at + head.size(), &value, sizeof value);
    defend::write_checkpoint(options.checkpoint, state);
    CHECK_THROWS_WITH_AS(train("fgsm-rs", options), doctest::Contains(words.c_str()), pv::IoError);
  };
  refuse("epoch", std::int64_t{-1} << 62, "stands at epoch -4611686018427387904");
  refuse("epoch", std::int64_t{4}, "stands at epoch 4");
  refuse("batch", std::int64_t{1} << 40, "batch 1099511627776");
  refuse("update", std::int64_t{-1}, "update -1");
  refuse("guard level", 63, "the guard's level is 63");
  refuse("guard level", -1, "the guard's level is -1");
}

TEST_CASE("checkpoint: a state reads back, and nothing else does") {
  defend::StateWriter out;
  out.put("number", std::int64_t{-7});
  const float values[] = {1.5f, -2.0f};
  out.put("values", std::span<const float>(values));
  out.put("text", std::string_view("hello"));
  const auto& bytes = out.bytes();
  defend::StateReader in("file", bytes);
  CHECK(in.get<std::int64_t>("number") == -7);
  CHECK(in.get_vector<float>("values") == std::vector<float>{1.5f, -2.0f});
  CHECK(in.text("text") == "hello");
  in.expect_end();
  const auto reader = [&] { return defend::StateReader("file", bytes); };
  CHECK_THROWS_AS(reader().get<std::int64_t>("other"), pv::IoError);
  CHECK_THROWS_AS(reader().get<std::int32_t>("number"), pv::IoError);
  CHECK_THROWS_AS(reader().expect_end(), pv::IoError);
  for (std::size_t n = 0; n < 31; ++n) {
    defend::StateReader cut("file", std::span(bytes).first(n));
    CHECK_THROWS_AS(cut.get<std::int64_t>("number"), pv::IoError);
  }
}
