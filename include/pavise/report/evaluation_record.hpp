// SPDX-License-Identifier: MIT
// An evaluation by a whole suite of attacks, as evaluate/json.hpp writes it. Heavy (nlohmann-json): not in the umbrella.
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pavise/report/field.hpp"

namespace pavise::report {

/// One attack of the suite.
struct EvaluationRow {
  std::string name;
  std::string settings;
  std::string access;
  std::int64_t tried = 0;
  std::int64_t broken = 0;
  Count standing;  ///< after it and all before it
  std::int64_t forward = 0;
  std::int64_t backward = 0;
  double seconds = 0;
  std::string outcomes;  ///< a character for each image: '.' not tried, 'o' stood, 'x' broken
};

struct EvaluationCheck {
  std::string name;
  bool passed = false;
  std::string detail;
};

struct EvaluationSign {
  std::string name;
  double value = 0;
  double threshold = 0;
  bool at_most = true;
  std::int64_t images = 0;
  std::string state;  ///< passed, failed, unclear or not applicable
  std::string sentence;
};

struct EvaluationPoint {
  double epsilon = 0;
  Count count;
};

struct EvaluationRecord {
  std::string suite;
  std::string verdict;  ///< reliable, unreliable or undecided
  std::string reason;
  std::vector<std::string> notes;
  std::vector<EvaluationRow> attacks;
  std::vector<std::int64_t> broken_by;  ///< of each image: index in attacks; -1 stands, -2 wrong from the start
  std::vector<EvaluationCheck> checks;
  std::vector<EvaluationSign> signs;
  std::vector<EvaluationPoint> curve;  ///< accuracy under PGD by radius, on the images of the signs
};

namespace detail {

inline EvaluationRow read_evaluation_row(const Field& field, std::int64_t total) {
  EvaluationRow row;
  row.name = field.at("name").text();
  row.settings = text_or_empty(field, "settings");
  row.access = text_or_empty(field, "access");
  row.tried = field.at("tried").integer(0, total);
  row.broken = field.at("broken").integer(0, row.tried);
  row.standing = {field.at("standing").integer(0, total), total};
  row.forward = field.at("forward").integer(0);
  row.backward = field.at("backward").integer(0);
  row.seconds = field.at("seconds").number(0);
  return row;
}

inline EvaluationRecord read_evaluation(const Field& record) {
  EvaluationRecord out;
  out.suite = record.at("suite").text();
  out.verdict = record.at("verdict").text();
  const bool known = out.verdict == "reliable" || out.verdict == "unreliable" || out.verdict == "undecided";
  if (!known) {
    record.at("verdict").fail("got \"", out.verdict, "\", expected reliable, unreliable or undecided");
  }
  out.reason = text_or_empty(record, "reason");
  const std::int64_t total = record.at("total").integer(1);
  for (const auto& field : record.at("notes").array()) {
    out.notes.push_back(field.text());
  }
  for (const auto& field : record.at("attacks").array()) {
    out.attacks.push_back(read_evaluation_row(field, total));
  }
  const auto rows = record.at("matrix").array();
  if (rows.size() != out.attacks.size()) {
    record.at("matrix").fail("got ", rows.size(), " rows, expected one for each of ", out.attacks.size(), " attacks");
  }
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::string outcomes = rows[i].text();
    if (static_cast<std::int64_t>(outcomes.size()) != total || outcomes.find_first_not_of(".ox") != std::string::npos) {
      rows[i].fail("expected ", total, " of the characters . o x, got ", outcomes.size());
    }
    out.attacks[i].outcomes = std::move(outcomes);
  }
  for (const auto& field : record.at("images").array()) {
    out.broken_by.push_back(field.at("broken_by").integer(-2, static_cast<std::int64_t>(rows.size()) - 1));
  }
  if (static_cast<std::int64_t>(out.broken_by.size()) != total) {
    record.at("images").fail("got ", out.broken_by.size(), " images, expected ", total);
  }
  for (const auto& field : record.at("checks").array()) {
    out.checks.push_back(
        {field.at("name").text(), field.at("passed").words() == "true", text_or_empty(field, "detail")});
  }
  for (const auto& field : record.at("signs").array()) {
    EvaluationSign sign;
    sign.name = field.at("name").text();
    sign.value = number_or_none(field, "value", -1e300).value_or(0);
    sign.threshold = number_or_none(field, "threshold", -1e300).value_or(0);
    sign.at_most = field.at("at_most").words() == "true";
    sign.images = field.at("images").integer(0);
    sign.state = field.at("state").text();
    sign.sentence = text_or_empty(field, "sentence");
    out.signs.push_back(std::move(sign));
  }
  if (const Field curve = record.find("curve")) {
    for (const auto& field : curve.array()) {
      out.curve.push_back({field.at("epsilon").number(0), field.count()});
    }
  }
  return out;
}

}  // namespace detail

}  // namespace pavise::report
