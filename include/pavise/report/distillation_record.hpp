// SPDX-License-Identifier: MIT
// A sweep of defensive distillation over temperatures, as `pavise distill` writes it. Heavy (nlohmann-json): not in the
// umbrella.
#pragma once

#include <cstdint>
#include <vector>

#include "pavise/report/field.hpp"
#include "pavise/report/origin.hpp"

namespace pavise::report {

/// A sweep over temperatures, as `pavise distill` writes it.
struct DistillationRecord : Origin {
  struct Point {
    double temperature = 1;
    Count teacher, student;
    double mean_logit = 0;
    double zero_gradients = 0;
    Count fgsm, jsma, apgd_dlr, carlini_wagner;  ///< images fooled, of those that were right
    double distance = 0;                         ///< mean L2 of carlini_wagner
  };
  double epsilon = 0;
  std::vector<Point> points;
};

namespace detail {

inline DistillationRecord read_distillation(const Field& record) {
  DistillationRecord out;
  read_origin(record, out);
  out.epsilon = record.at("epsilon").number(0);
  const auto fooled = [](const Field& f) {
    const std::int64_t total = f.at("total").integer(0);
    return Count{f.at("fooled").integer(0, total), total};
  };
  for (const auto& f : record.at("points").array()) {
    out.points.push_back({.temperature = f.at("temperature").number(0),
                          .teacher = f.at("teacher").count(),
                          .student = f.at("student").count(),
                          .mean_logit = f.at("mean_logit").number(0),
                          .zero_gradients = f.at("zero_gradients").number(0, 1),
                          .fgsm = fooled(f.at("fgsm")),
                          .jsma = fooled(f.at("jsma")),
                          .apgd_dlr = fooled(f.at("apgd_dlr")),
                          .carlini_wagner = fooled(f.at("carlini_wagner")),
                          .distance = f.at("carlini_wagner_distance").number(0)});
  }
  if (out.points.empty()) {
    record.at("points").fail("expected one temperature or more");
  }
  return out;
}

}  // namespace detail

}  // namespace pavise::report
