// SPDX-License-Identifier: MIT
// What `certify` and `verify` say about a set of certificates.
#pragma once

#include <nlohmann/json.hpp>
#include <vector>

#include "pavise/certify/certificate.hpp"

namespace pavise::program {

/// Certified accuracy (right class, radius at least r) for r from 0 on, average radius (0 for a wrong class or where it
/// abstains), abstentions, and samples spent: a table on standard output.
void print_certified(const std::vector<certify::Certificate>& all);

/// The same as JSON, with the samples of each image.
nlohmann::json certified_json(const std::vector<certify::Certificate>& all);

}  // namespace pavise::program
