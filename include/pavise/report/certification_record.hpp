// SPDX-License-Identifier: MIT
// Certificates of randomized smoothing, as `pavise certify` sums them up. Heavy (nlohmann-json): not in the umbrella.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "pavise/report/field.hpp"
#include "pavise/report/origin.hpp"

namespace pavise::report {

struct CertificationRecord : Origin {
  struct Point {
    double radius = 0;
    Count certified;  ///< of the right class, at this radius or a larger one
  };
  /// One image under the noise; pixels (C,H,W), 0 to 255.
  struct Cloud {
    std::int64_t index = 0, label = 0;
    std::int64_t channels = 0, height = 0, width = 0;
    std::vector<std::string> class_names;
    std::vector<double> clean;
    std::vector<std::pair<std::vector<double>, std::int64_t>> samples;  ///< and the class of each; -1: none
    std::vector<std::int64_t> votes;
    double radius = 0;
  };
  std::string noise, method, norm;
  double scale = 0;
  double alpha = 0;
  double average_radius = 0;
  std::int64_t most_samples = 0;  ///< of an image
  std::int64_t abstained = 0;
  std::vector<Point> curve;
  std::vector<std::int64_t> samples;  ///< of each image
  std::optional<Cloud> cloud;
};

namespace detail {

inline CertificationRecord::Cloud read_cloud(const Field& cloud) {
  CertificationRecord::Cloud out;
  out.index = cloud.at("index").integer(0);
  const auto size = read_image_shape(cloud.at("shape"), out.channels, out.height, out.width);
  for (const auto& f : cloud.at("class_names").array()) {
    out.class_names.push_back(f.text());
  }
  for (const auto& f : cloud.at("votes").array()) {
    out.votes.push_back(f.integer(0));
  }
  const auto classes = static_cast<std::int64_t>(out.votes.size());
  if (out.class_names.size() != out.votes.size()) {
    cloud.at("votes").fail("expected a count for each of ", out.class_names.size(), " classes, got ", classes);
  }
  out.label = cloud.at("label").integer(0, classes - 1);
  out.clean = read_pixels(cloud.at("clean"), size);
  for (const auto& f : cloud.at("samples").array()) {
    out.samples.emplace_back(read_pixels(f.at("pixels"), size), f.at("chosen").integer(-1, classes - 1));
  }
  out.radius = cloud.at("radius").number(0);
  return out;
}

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
  if (const Field cloud = record.find("cloud")) {
    out.cloud = read_cloud(cloud);
  }
  if (out.curve.empty() || out.samples.empty()) {
    certified.at("results").fail("expected one image or more");
  }
  return out;
}

}  // namespace detail

}  // namespace pavise::report
