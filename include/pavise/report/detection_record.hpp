// SPDX-License-Identifier: MIT
// A detector under attack, as `pavise detect` writes it. Heavy (nlohmann-json): not in the umbrella.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pavise/report/field.hpp"
#include "pavise/report/origin.hpp"

namespace pavise::report {

/// A detector in front of a model, under attacks that know of it and attacks that do not.
struct DetectionRecord : Origin {
  struct Flagged {
    double rate = 0;  ///< false-positive rate that the threshold was fitted for
    std::int64_t flagged = 0;
    std::int64_t total = 0;
  };
  struct Row {
    std::string name;
    std::string settings;
    bool adaptive = false;
    std::string norm;
    double epsilon = 0;
    bool within_threat = true;
    std::int64_t tried = 0;
    std::int64_t fooled = 0;
    std::int64_t evaded = 0;
    double distance = 0;
    double area = 0;
    std::vector<Flagged> detected;
    std::vector<std::pair<double, double>> roc;  ///< false- and true-positive rate
  };
  std::string norm;
  double epsilon = 0;
  std::vector<std::string> squeezers;
  double threshold = 0;
  double false_positive_rate = 0;
  std::int64_t fit_images = 0;
  Count clean, clean_served, robust, robust_served, undetected_robust;
  std::vector<Flagged> false_alarms;
  std::vector<Row> rows;
};

namespace detail {

inline std::vector<DetectionRecord::Flagged> read_flagged(const Field& field) {
  std::vector<DetectionRecord::Flagged> out;
  for (const auto& f : field.array()) {
    const std::int64_t total = f.at("total").integer(0);
    out.push_back({f.at("rate").number(0, 1), f.at("flagged").integer(0, total), total});
  }
  return out;
}

inline DetectionRecord::Row read_detection_row(const Field& field, std::size_t rates) {
  DetectionRecord::Row row;
  row.name = field.at("name").text();
  row.settings = text_or_empty(field, "settings");
  row.adaptive = field.at("adaptive").words() == "true";
  row.norm = field.at("norm").text();
  row.epsilon = field.at("epsilon").number(0);
  row.within_threat = field.at("within_threat").words() == "true";
  row.tried = field.at("tried").integer(0);
  row.fooled = field.at("fooled").integer(0, row.tried);
  row.evaded = field.at("evaded").integer(0, row.fooled);
  row.distance = field.at("distance").number(0);
  row.area = field.at("area").number(0, 1);
  row.detected = read_flagged(field.at("detected"));
  if (row.detected.size() != rates) {
    field.at("detected").fail("got ", row.detected.size(), " rates, expected ", rates, " as in false_alarms");
  }
  for (const auto& point : field.at("roc").array()) {
    const auto both = point.array();
    if (both.size() != 2) {
      point.fail("expected two rates, got ", both.size());
    }
    row.roc.emplace_back(both[0].number(0, 1), both[1].number(0, 1));
  }
  return row;
}

inline DetectionRecord read_detection(const Field& record) {
  DetectionRecord out;
  read_origin(record, out);
  out.norm = record.at("norm").text();
  out.epsilon = record.at("epsilon").number(0);
  for (const auto& s : record.at("squeezers").array()) {
    out.squeezers.push_back(s.text());
  }
  out.threshold = record.at("threshold").number(0, 2);
  out.false_positive_rate = record.at("false_positive_rate").number(0, 1);
  out.fit_images = record.at("fit_images").integer(1);
  out.clean = record.at("clean").count();
  out.clean_served = record.at("clean_served").count();
  out.robust = record.at("robust").count();
  out.robust_served = record.at("robust_served").count();
  out.undetected_robust = record.at("undetected_robust").count();
  out.false_alarms = read_flagged(record.at("false_alarms"));
  for (const auto& f : record.at("attacks").array()) {
    out.rows.push_back(read_detection_row(f, out.false_alarms.size()));
  }
  if (out.rows.empty()) {
    record.at("attacks").fail("expected one attack or more");
  }
  return out;
}

}  // namespace detail

}  // namespace pavise::report
