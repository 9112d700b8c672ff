// SPDX-License-Identifier: MIT
// What `certify` is asked for, whatever its method.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pavise/certify/smoothing.hpp"
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

/// `certify --method ibp` and `--method crown`.
void run_propagation(const CertifyOptions& o);

/// `verify` of their certificates; with `model_file`, the bounds of the first `count` (0: all) are computed again.
void verify_propagation(const Shared& o, const std::string& file, const std::vector<std::string>& model_files,
                        std::int64_t count);

/// The certified accuracy of a file of their certificates: on standard output.
void print_propagation(const std::string& file);

}  // namespace pavise::program
