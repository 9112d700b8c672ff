// SPDX-License-Identifier: MIT
// Certificates of bound propagation, as `pavise certify --method ibp|crown` sums them up. Heavy (nlohmann-json): not in
// the umbrella.
#pragma once

#include <cstdint>
#include <string>

#include "pavise/report/field.hpp"
#include "pavise/report/origin.hpp"

namespace pavise::report {

struct BoundsRecord : Origin {
  std::string method, norm;
  double epsilon = 0;
  std::int64_t search = 0;  ///< steps of the search for each image's radius; 0: none
  double average_radius = 0;
  Count clean, certified;  ///< of the right class; certified at epsilon
};

namespace detail {

inline BoundsRecord read_bounds(const Field& record) {
  BoundsRecord out;
  read_origin(record, out);
  out.method = record.at("method").text();
  out.norm = record.at("norm").text();
  out.epsilon = record.at("epsilon").number(0);
  out.search = record.at("search").integer(0);
  out.average_radius = record.at("average_radius").number(0);
  out.clean = record.at("clean").count();
  out.certified = record.at("certified").count();
  return out;
}

}  // namespace detail

}  // namespace pavise::report
