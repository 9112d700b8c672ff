// SPDX-License-Identifier: MIT
#include "common.hpp"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "pavise/attack/settings.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/data/catalog.hpp"
#include "pavise/io/file.hpp"
#include "team.hpp"

namespace pavise::program {

std::string command_line(int argc, char** argv) {
  std::string out = "pavise";
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    const bool plain = !word.empty() && word.find_first_not_of(
                                            "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                            "0123456789-_=+./:,@%") == std::string::npos;
    out += ' ';
    if (plain) {
      out += word;
      continue;
    }
    out += '\'';
    for (const char c : word) {
      out += c == '\'' ? std::string("'\\''") : std::string(1, c);
    }
    out += '\'';
  }
  return out;
}

double parse_radius(const std::string& text) { return attack::parse_number("radius", text); }

std::vector<double> parse_radii(const std::string& text) {
  std::vector<double> radii;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    radii.push_back(parse_radius(text.substr(begin, end - begin)));
    begin = end + 1;
  }
  return radii;
}

nlohmann::json record(const std::string& kind, const std::string& command, std::uint64_t seed) {
  const Build b = build();
  const std::time_t now = std::time(nullptr);
  char date[32];
  std::tm utc{};
  gmtime_r(&now, &utc);
  std::strftime(date, sizeof date, "%Y-%m-%dT%H:%M:%SZ", &utc);
  return {{"kind", kind},
          {"version", std::string(kVersion)},
          {"command", command},
          {"build", {{"compiler", b.compiler}, {"isa", b.isa}, {"threads", b.threads}, {"openmp", b.openmp}}},
          {"seed", seed},
          {"date", date}};
}

nlohmann::json count(std::int64_t correct, std::int64_t total) {
  const auto interval = evaluate::clopper_pearson(correct, total);
  return {{"correct", correct},
          {"total", total},
          {"percent", 100.0 * static_cast<double>(correct) / static_cast<double>(total)},
          {"interval", {100.0 * interval.low, 100.0 * interval.high}}};
}

nlohmann::json bytes_json(std::span<const float> pixels) {
  nlohmann::json out = nlohmann::json::array();
  for (const float v : pixels) {
    out.push_back(std::lround(std::clamp(v, 0.0f, 1.0f) * 255.0f));
  }
  return out;
}

std::string describe(std::int64_t correct, std::int64_t total) {
  const auto interval = evaluate::clopper_pearson(correct, total);
  char text[128];
  std::snprintf(text, sizeof text, "%5.1f %% (%lld of %lld; 95 %% interval %.1f to %.1f)",
                100.0 * static_cast<double>(correct) / static_cast<double>(total), static_cast<long long>(correct),
                static_cast<long long>(total), 100.0 * interval.low, 100.0 * interval.high);
  return text;
}

void prepare_output(const std::string& path) {
  const auto parent = std::filesystem::path(path).parent_path();
  std::error_code error;
  if (path != "-" && !parent.empty()) {
    std::filesystem::create_directories(parent, error);
  }
  require<IoError>(!error, path, ": the directory cannot be made: ", error.message());
  require<IoError>(!std::filesystem::is_directory(path), path, ": is a directory, expected a file's name");
}

void write_json(const std::string& path, const nlohmann::json& json) {
  const std::string text = json.dump(1) + "\n";
  if (path == "-") {
    std::cout << text;
    return;
  }
  io::write_atomically(path, text);
}

void Shared::add_to(CLI::App& app) {
  app.add_option("--data", data, "Data set: " + join(data::catalog()))->capture_default_str();
  app.add_option("--data-note", data_note, "A remark on the data that the report shows in its first line");
  app.add_option("--label", label, "What the report calls this model (default: its defence)");
  app.add_option("--seed", seed, "Seed of every random number")->capture_default_str();
  app.add_option("--threads", threads,
                 "Threads (default: as many as there are processors); results do not depend on it")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--device", device,
                 "cpu, or cuda (cuda:N for another GPU than the first; several processes take the GPUs in turn)")
      ->capture_default_str();
  CLI::Option* kind =
      app.add_option(
             "--arithmetic", arithmetic,
             "Of convolutions and products on a GPU: exact, with the CPU's bits; or on tensor cores, with factors "
             "rounded to TF32 (fast) or to bf16 (bf16)")
          ->check(CLI::IsMember({"exact", "fast", "bf16"}))
          ->capture_default_str();
  app.add_flag_callback(
         "--fast", [this] { arithmetic = "fast"; }, "The same as --arithmetic fast")
      ->excludes(kind);
  app.add_flag("--quiet", quiet, "No progress bar");
}

void Shared::apply() {
  chosen_ = device_of(device, team);
  if (threads > 0) {
    set_thread_count(threads);
  }
  require(chosen_device().is_cuda() || arithmetic == "exact", "--arithmetic ", arithmetic, " goes with --device cuda");
}

void Shared::require_cpu(const char* what) const {
  require(!chosen_device().is_cuda(), "--device ", device, ": ", what, " runs on the CPU alone");
}

}  // namespace pavise::program
