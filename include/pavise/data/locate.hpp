// SPDX-License-Identifier: MIT
#pragma once

#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/io/file.hpp"

namespace pavise::data {

/// The directories in which data sets are looked for: $PAVISE_DATA where it is set, then ../shared/data, ./data.
inline std::vector<std::string> data_directories() {
  std::vector<std::string> out;
  if (const char* set = std::getenv("PAVISE_DATA"); set != nullptr && *set != '\0') {
    out.emplace_back(set);
  }
  out.emplace_back("../shared/data");
  out.emplace_back("data");
  return out;
}

/// The first of the data directories' files or folders called `name` ("mnist", "cifar10/cifar10-jpeg.tar.gz"), or "".
inline std::string locate_or_empty(std::string_view name) {
  for (const auto& directory : data_directories()) {
    if (auto path = concat(directory, "/", name); io::is_file(path) || io::is_directory(path)) {
      return path;
    }
  }
  return {};
}

/// As locate_or_empty, but throws IoError that lists where it was looked for where it is nowhere.
inline std::string locate(std::string_view name) {
  auto path = locate_or_empty(name);
  require<IoError>(!path.empty(), name, ": not found in ", join(data_directories()),
                   " (the environment variable PAVISE_DATA names a directory of data sets)");
  return path;
}

}  // namespace pavise::data
