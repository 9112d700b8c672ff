// SPDX-License-Identifier: MIT
// What filters in front of a model are worth, as `pavise filters` writes it. Heavy (nlohmann-json): not in the umbrella.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pavise/report/field.hpp"
#include "pavise/report/origin.hpp"

namespace pavise::report {

struct FilterRecord : Origin {
  struct Point {
    std::string filters;  ///< empty: the model alone
    bool random = false;
    bool differentiable = true;
    Count clean, unaware, adaptive;
  };
  /// An image and what the filters make of it, (C,H,W), 0 to 255; no values where a filter changes the shape.
  struct Item {
    std::int64_t index = 0;
    std::vector<double> clean;
    std::vector<std::vector<double>> filtered;  ///< one for each point that has filters
  };
  std::string norm;
  double epsilon = 0;
  std::vector<Point> points;
  std::int64_t channels = 0, height = 0, width = 0;
  std::vector<Item> items;
};

namespace detail {

inline FilterRecord read_filters(const Field& record) {
  FilterRecord out;
  read_origin(record, out);
  out.norm = record.at("norm").text();
  out.epsilon = record.at("epsilon").number(0);
  std::size_t filters = 0;
  for (const auto& f : record.at("points").array()) {
    out.points.push_back({.filters = f.at("filters").text(),
                          .random = f.at("random").truth(),
                          .differentiable = f.at("differentiable").truth(),
                          .clean = f.at("clean").count(),
                          .unaware = f.at("unaware").count(),
                          .adaptive = f.at("adaptive").count()});
    filters += out.points.back().filters.empty() ? 0 : 1;
  }
  if (out.points.empty()) {
    record.at("points").fail("expected one filter or more");
  }
  const Field gallery = record.find("gallery");
  if (!gallery) {
    return out;
  }
  const auto size = read_image_shape(gallery.at("shape"), out.channels, out.height, out.width);
  for (const auto& f : gallery.at("items").array()) {
    FilterRecord::Item item{
        .index = f.at("index").integer(0), .clean = read_pixels(f.at("clean"), size), .filtered = {}};
    const Field all = f.at("filtered");
    for (const auto& one : all.array()) {
      item.filtered.push_back(one.is_null() ? std::vector<double>() : read_pixels(one, size));
    }
    if (item.filtered.size() != filters) {
      all.fail("expected an image for each of ", filters, " filters, got ", item.filtered.size());
    }
    out.items.push_back(std::move(item));
  }
  return out;
}

}  // namespace detail

}  // namespace pavise::report
