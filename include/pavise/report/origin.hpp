// SPDX-License-Identifier: MIT
// Where a record's numbers come from. Heavy (nlohmann-json): not in the umbrella.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/report/field.hpp"

namespace pavise::report {

/// What all records share.
struct Origin {
  std::string source;  ///< the file, or "record 3"
  std::string command;
  std::string version;
  std::string build;  ///< "g++ 12.2, avx2, 2 threads, OpenMP"
  std::string data;
  std::string data_note;
  std::string model;
  std::string model_file;
  std::string defense;
  std::string label;
  std::string date;
  std::optional<std::int64_t> seed;
  std::optional<double> seconds;
  std::vector<std::pair<std::string, std::string>> recipe;
};

namespace detail {

inline std::string read_build(const Field& build) {
  std::vector<std::string> pieces;
  for (const char* key : {"compiler", "isa"}) {
    if (const Field field = build.find(key)) {
      pieces.push_back(field.text());
    }
  }
  if (const Field field = build.find("threads")) {
    const auto n = field.integer(1);
    pieces.push_back(concat(n, n == 1 ? " thread" : " threads"));
  }
  if (const Field field = build.find("openmp")) {
    pieces.emplace_back(field.words() == "true" ? "OpenMP" : "no OpenMP");
  }
  return join(pieces);
}

inline void read_origin(const Field& record, Origin& out) {
  out.source = record.source();
  out.command = record.at("command").text();
  out.label = record.at("label").text();
  out.data = record.at("data").text();
  for (auto [key, member] :
       {std::pair("version", &out.version), std::pair("data_note", &out.data_note), std::pair("model", &out.model),
        std::pair("model_file", &out.model_file), std::pair("defense", &out.defense), std::pair("date", &out.date)}) {
    *member = text_or_empty(record, key);
  }
  if (const Field build = record.find("build")) {
    out.build = read_build(build);
  }
  if (const Field seed = record.find("seed")) {
    out.seed = seed.integer(INT64_MIN, INT64_MAX);
  }
  out.seconds = number_or_none(record, "seconds", 0);
  if (const Field recipe = record.find("recipe")) {
    for (const auto& item : recipe.object().items()) {
      if (const Field field = recipe.find(item.key())) {
        out.recipe.emplace_back(item.key(), field.words());
      }
    }
  }
}

}  // namespace detail

}  // namespace pavise::report
