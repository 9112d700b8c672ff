// SPDX-License-Identifier: MIT
// What the subcommands of the `pavise` program share: options, records, progress.
#pragma once

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdint>
#include <ctime>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "pavise/attack/threat.hpp"
#include "pavise/core/communicator.hpp"
#include "pavise/core/device.hpp"
#include "pavise/core/error.hpp"
#include "pavise/core/version.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise/evaluate/interval.hpp"

namespace pavise::program {

/// The command line as it was given, quoted so that a shell reads it back.
std::string command_line(int argc, char** argv);

/// A radius: "0.1", or a fraction such as "8/255". ValueError where it is neither.
double parse_radius(const std::string& text);

/// A list of radii, separated by commas.
std::vector<double> parse_radii(const std::string& text);

/// The fields that every record has: version, command, build, seed, date.
nlohmann::json record(const std::string& kind, const std::string& command, std::uint64_t seed);

/// {"correct": k, "total": n, "percent": p, "interval": [low, high]}, the exact 95 % interval in percent.
nlohmann::json count(std::int64_t correct, std::int64_t total);

/// Pixels in [0,1] as whole numbers from 0 to 255; what lies beyond is cut off.
nlohmann::json bytes_json(std::span<const float> pixels);

/// "95.1 % (951 of 1000; 95 % interval 93.6 to 96.4)"
std::string describe(std::int64_t correct, std::int64_t total);

/// Makes the directory of a file that will be written after long work; refuses at once what cannot be.
void prepare_output(const std::string& path);

/// Writes a record as JSON, in one step; "-" is standard output.
void write_json(const std::string& path, const nlohmann::json& json);

/// The filters of several texts, the first one first; ValueError names what there is.
defend::FilterList<float> make_filters(const std::vector<std::string>& texts);

/// "Filters: bit-depth:BITS; ...": for help.
std::string filter_list();

/// Model files may hold filters from now on.
void register_filters();

class Stopwatch {
 public:
  double seconds() const { return std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count(); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

/// Options that several subcommands have.
struct Shared {
  std::string data = "fashion-mnist";
  std::string data_note;
  std::string label;
  std::uint64_t seed = 0;
  int threads = 0;
  std::string device = "cpu";
  std::string arithmetic = "exact";  ///< of products on a GPU, as records name it
  bool quiet = false;
  std::string command;
  Communicator* team = nullptr;  ///< the processes that share the work; null: this one has all of it

  void add_to(CLI::App& app);
  /// Takes the options into account, before anything else.
  void apply();
  Device chosen_device() const { return chosen_; }
  /// Refuses --device cuda for work that runs on the CPU alone.
  void require_cpu(const char* what) const;
  /// Whether this process writes what comes out: one of a team does.
  bool writes() const { return team == nullptr || team->first(); }
  bool shows_progress() const { return !quiet && writes(); }

 private:
  Device chosen_ = Device::cpu();
};

/// Adds the subcommand; the function that it returns by `run` does the work. Those that take a team share it.
void add_train(CLI::App& app, const std::string& command, Communicator* team);
void add_attack(CLI::App& app, const std::string& command, Communicator* team);
void add_evaluate(CLI::App& app, const std::string& command);
void add_certify(CLI::App& app, const std::string& command, Communicator* team);
void add_verify(CLI::App& app);
void add_distill(CLI::App& app, const std::string& command);
void add_detect(CLI::App& app, const std::string& command);
void add_filters(CLI::App& app, const std::string& command);
void add_report(CLI::App& app);
void add_import(CLI::App& app, const std::string& command);
void add_logits(CLI::App& app);

}  // namespace pavise::program
