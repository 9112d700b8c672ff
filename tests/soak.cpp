// SPDX-License-Identifier: MIT
// Trains, attacks, certifies, writes and reads in one process for so many minutes, and watches its memory: after the
// first tenth of the time it may grow by so many MiB at most. tests/soak.sh builds and runs it.
//   pavise_soak MINUTES [MIB]
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <utility>

#include "pavise/attack/carlini_wagner.hpp"
#include "pavise/attack/square.hpp"
#include "pavise/certify/certificate_file.hpp"
#include "pavise/core/hash.hpp"
#include "pavise/io/model_file.hpp"
#include "pavise/pavise.hpp"

namespace {

namespace pv = pavise;

/// Memory of this process that is there, in MiB.
double resident() {
  std::ifstream file("/proc/self/statm");
  double all = 0;
  double pages = 0;
  file >> all >> pages;
  return pages * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1 << 20);
}

/// One round: returns a number that depends on all its results, so that rounds can be compared.
std::uint64_t work(const pv::data::Split& digits, const std::filesystem::path& folder) {
  const auto threat = pv::attack::linf(0.05);
  const auto file = (folder / "model.safetensors").string();
  const auto checkpoint = (folder / "run.checkpoint").string();
  const auto lines = (folder / "lines.jsonl").string();

  auto model = pv::nn::small_cnn({.seed = 1});
  const pv::attack::Pgd pgd(threat, {.steps = 3});
  pv::defend::TrainOptions options{.epochs = 1, .checkpoint = checkpoint, .checkpoint_interval = 2};
  pv::defend::Trainer(std::make_shared<pv::defend::Adversarial>(pgd), options).fit(model, digits.train);
  pv::io::save_model(file, model);
  const auto loaded = pv::io::load_model(file);

  pv::Hash hash;
  hash.numbers(std::as_const(loaded.model.parameters()).state());
  const auto set = digits.test.first(32);
  const auto count = [&](const pv::attack::Attack& attack) {
    hash.text(pv::concat(pv::attack::run(attack, loaded.model, set).robust_correct));
  };
  count(pv::attack::Pgd(threat, {.steps = 10}));
  count(pv::attack::Square(threat, {.queries = 100}));
  count(pv::attack::CarliniWagner(pv::attack::l2(1.0), {.iterations = 20, .search_steps = 2}));

  const pv::certify::Options noise{
      .noise = {pv::certify::NoiseKind::gaussian, 0.25}, .n0 = 16, .n = 500, .radii = {0.1}};
  const pv::certify::Sampler sampler(noise.noise);
  const pv::attack::Classifier base(loaded.model);
  const auto plan = pv::certify::make_plan(noise, base, sampler);
  {
    pv::certify::CertificateWriter writer(lines, {});
    pv::certify::certify(base, sampler, set.first(8), plan, [&](std::int64_t i, const pv::certify::Result& r) {
      writer.append(pv::certify::make_certificate(std::string(64, '0'), set, i, sampler, plan, r));
    });
  }
  for (const auto& line : pv::certify::read_certificates(lines)) {
    hash.text(line.text);
  }
  for (const auto& name : {file, checkpoint, lines}) {
    std::filesystem::remove(name);
  }
  return hash.value();
}

double seconds_since(std::chrono::steady_clock::time_point begin) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

int soak(double minutes, double allowed) {
  const auto begin = std::chrono::steady_clock::now();
  const auto folder = std::filesystem::temp_directory_path() / ("pavise-soak-" + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  const auto digits = pv::data::drawn_digits({.train = 640, .test = 32});
  const std::uint64_t first = work(digits, folder);
  double settled = resident();  // the most in the first tenth of the time
  double most = 0;              // and after it
  double shown = -1e9;
  std::int64_t rounds = 1;
  for (double at = 0; at < 60 * minutes; at = seconds_since(begin)) {
    if (work(digits, folder) != first) {
      std::printf("FAILED: round %lld has other results than the first\n", static_cast<long long>(rounds));
      return 1;
    }
    ++rounds;
    double& largest = seconds_since(begin) < 6 * minutes || rounds < 4 ? settled : most;
    largest = std::max(largest, resident());
    if (seconds_since(begin) - shown >= 3 * minutes) {
      shown = seconds_since(begin);
      std::printf("%8.1f min  %6lld rounds  %8.2f MiB\n", shown / 60, static_cast<long long>(rounds), resident());
      std::fflush(stdout);
    }
  }
  std::filesystem::remove_all(folder);
  std::printf(
      "%s: %lld rounds with the same results; at most %.2f MiB in the first tenth, %.2f MiB after it (%.0f more are "
      "allowed)\n",
      most <= settled + allowed ? "passed" : "FAILED", static_cast<long long>(rounds), settled, most, allowed);
  return most <= settled + allowed ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  const double minutes = argc > 1 ? std::atof(argv[1]) : 0;
  if (minutes <= 0) {
    std::fprintf(stderr, "usage: %s MINUTES [MIB]\n", argv[0]);
    return 2;
  }
  try {
    return soak(minutes, argc > 2 ? std::atof(argv[2]) : 8);
  } catch (const std::exception& e) {
    std::fprintf(stderr, "soak: %s\n", e.what());
    return 1;
  }
}
