// SPDX-License-Identifier: MIT
// Certificates of randomized smoothing, as `pavise certify` sums them up. Heavy (nlohmann-json): not in the umbrella.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "pavise/report/field.hpp"
#include "pavise/report/origin.hpp"

namespace pavise::report {

struct CertificationRecord : Origin {
  struct Point {
    double radius = 0;
    Count certified;  ///< of the right class, at this radius or a larger one
  };
  std::string noise, method, norm;
  double scale = 0;
  double alpha = 0;
  double average_radius = 0;
  std::int64_t most_samples = 0;  ///< of an image
  std::int64_t abstained = 0;
  std::vector<Point> curve;
  std::vector<std::int64_t> samples;  ///< of each image
};

namespace detail {

inline CertificationRecord read_certification(const Field& record) {
  CertificationRecord out;
  read_origin(record, out);
  out.noise = record.at("noise").text();
  out.method = record.at("method").text();
  out.norm = record.at("norm").text();
  out.scale = record.at("scale").number(0);
  out.alpha = record.at("alpha").number(0, 1);
  out.most_samples = record.at("n0").integer(1) + record.at("n").integer(1);
  const Field certified = record.at("certified");
  out.average_radius = certified.at("average_radius").number(0);
  out.abstained = certified.at("abstained").integer(0);
  for (const auto& f : certified.at("curve").array()) {
    out.curve.push_back({.radius = f.at("radius").number(0), .certified = f.count()});
  }
  for (const auto& f : certified.at("results").array()) {
    out.samples.push_back(f.at("samples").integer(1));
  }
  if (out.curve.empty() || out.samples.empty()) {
    certified.at("results").fail("expected one image or more");
  }
  return out;
}

}  // namespace detail

}  // namespace pavise::report
