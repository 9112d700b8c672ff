// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/nn/model.hpp"

namespace pavise::nn {

namespace detail {

using SummaryRow = std::array<std::string, 4>;

/// "1234567" as "1,234,567".
inline std::string with_commas(std::int64_t n) {
  std::string s = std::to_string(n);
  for (std::size_t i = s.size(); i > 3; i -= 3) {
    s.insert(i - 3, 1, ',');
  }
  return s;
}

/// One row for each layer; a Sequential's layers in its place.
template <class T>
void add_summary_rows(std::vector<SummaryRow>& rows, const Sequential<T>& net, const ParameterStore<T>& store,
                      const std::string& prefix) {
  for (std::size_t i = 0; i < net.layers().size(); ++i) {
    const auto& [name, layer] = net.layers()[i];
    const std::string full = child_name(prefix, name);
    if (const auto* inner = dynamic_cast<const Sequential<T>*>(layer.get())) {
      add_summary_rows(rows, *inner, store, full);
      continue;
    }
    std::int64_t count = 0;
    for (const auto& p : store.parameters()) {
      count += p.trainable() && p.name().starts_with(full + ".") ? p.size() : 0;
    }
    rows.push_back({full, layer->spec().type, net.shapes()[i].to_string(), with_commas(count)});
  }
}

}  // namespace detail

/// A model as a table: each layer's name, type, shape of its output for one image, and number of trained parameters;
/// and the total. Lines end with a newline:
///
///   small-cnn: images (1,28,28), 10 classes
///   layer  type    output      parameters
///   conv1  conv2d  (16,14,14)         272
///   ...
///   total                         166,406
template <class T>
std::string summary(const BasicModel<T>& model) {
  std::vector<detail::SummaryRow> rows{{"layer", "type", "output", "parameters"}};
  detail::add_summary_rows(rows, model.net(), std::as_const(model.parameters()), "");
  rows.push_back({"total", "", "", detail::with_commas(model.parameters().count())});
  std::array<std::size_t, 4> width{};
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      width[i] = std::max(width[i], row[i].size());
    }
  }
  std::string out = concat(model.name(), ": images ", model.input_shape(), ", ", model.classes(), " classes\n");
  for (const auto& row : rows) {
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string gap(width[i] - row[i].size(), ' ');
      out += i == 0 ? row[i] + gap : i + 1 < row.size() ? "  " + row[i] + gap : "  " + gap + row[i];
    }
    out += '\n';
  }
  return out;
}

}  // namespace pavise::nn
