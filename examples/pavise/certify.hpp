// SPDX-License-Identifier: MIT
// What `certify` is asked for, whatever its method.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "pavise/certify/certificate_file.hpp"
#include "pavise/certify/smoothing.hpp"
#include "pavise/core/communicator.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/report/progress.hpp"
#include "subject.hpp"

namespace pavise::program {

struct CertifyOptions : Shared {
  std::vector<std::string> model_files;
  std::string noise = "gaussian";
  std::string scale;
  std::string method;
  std::string radii;
  std::int64_t count = 500;
  std::int64_t skip = 1;
  std::string shard;
  std::string out = "certificates.jsonl";
  std::vector<std::string> merge;
  std::string json;
  certify::Options certify;
  std::string norm = "linf";  ///< of bound propagation, with eps and search
  std::string eps = "0.1";
  std::int64_t search = 0;

  /// The images asked for, of so many that there are: every so many of the first `count`, and of these every n-th from
  /// the i-th on for a shard i/n.
  std::vector<std::int64_t> positions(std::int64_t available) const;
  /// What the report calls the model.
  std::string label_of(const io::ModelFile& file) const {
    const auto trained = file.recipe.find("label");
    return !label.empty() || trained == file.recipe.end() ? label : trained->second;
  }
};

/// The certificates of a run on their way into its file: those that are there already, then those that are added. With a
/// team, the first rank's; the others know how many were there.
template <class C>
struct Progress {
  /// `expected`: all of them, without their results.
  Progress(const CertifyOptions& o, const std::vector<C>& expected) {
    if (o.writes()) {
      writer.emplace(o.out, expected);
      all = writer->found();
    }
    before = static_cast<std::int64_t>(all.size());
    if (o.team != nullptr) {
      broadcast(*o.team, std::span(&before, 1), 0);
    }
    if (o.shows_progress()) {
      bar.emplace("certify", static_cast<std::int64_t>(expected.size()));
      bar->advance(before);
    }
  }
  void add(const C& certificate, const std::string& note = "") {
    all.push_back(certificate);
    writer->append(certificate);
    if (bar) {
      bar->note(note);
      bar->advance(1);
    }
  }
  void finish() {
    if (bar) {
      bar->finish();
    }
  }

  std::vector<C> all;
  std::int64_t before = 0;
  std::optional<certify::BasicCertificateWriter<C>> writer;
  std::optional<report::ProgressBar> bar;
};

/// The images [begin, end) of a set.
inline data::Dataset part(const data::Dataset& images, std::int64_t begin, std::int64_t end) {
  std::vector<std::int64_t> positions;
  for (std::int64_t i = begin; i < end; ++i) {
    positions.push_back(i);
  }
  return images.subset(positions);
}

/// `certify --method ibp` and `--method crown`.
void run_propagation(const CertifyOptions& o);

/// `verify` of their certificates; with `model_file`, the bounds of the first `count` (0: all) are computed again.
void verify_propagation(const Shared& o, const std::string& file, const std::vector<std::string>& model_files,
                        std::int64_t count);

/// The certified accuracy of a file of their certificates: on standard output.
void print_propagation(const std::string& file);

}  // namespace pavise::program
