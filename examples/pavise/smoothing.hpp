// SPDX-License-Identifier: MIT
// What `certify` and `verify` share: the base classifier, and what they say about a set of certificates.
#pragma once

#include <list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "pavise/certify/base.hpp"
#include "pavise/certify/certificate.hpp"
#include "subject.hpp"

namespace pavise::program {

/// A base classifier: a model, or several whose logits are summed.
struct Base {
  std::list<io::ModelFile> files;
  std::vector<attack::Classifier> members;
  std::string hash;  ///< what certificates call it

  /// Loads the models; they must suit the images.
  Base(const std::vector<std::string>& paths, const data::Dataset& images);
  attack::Classifier classifier() const { return members.size() == 1 ? members.front() : certify::ensemble(members); }
};

/// Certified accuracy (right class, radius at least r) for r from 0 on, average radius (0 for a wrong class or where it
/// abstains), abstentions, and samples spent: a table on standard output.
void print_certified(const std::vector<certify::Certificate>& all);

/// The same as JSON, with the samples of each image.
nlohmann::json certified_json(const std::vector<certify::Certificate>& all);

}  // namespace pavise::program
