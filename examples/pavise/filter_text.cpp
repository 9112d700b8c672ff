// SPDX-License-Identifier: MIT
// Filters by text, compiled once.
#include "common.hpp"
#include "pavise/defend/filter/catalog.hpp"

namespace pavise::program {

defend::FilterList<float> make_filters(const std::vector<std::string>& texts) {
  return defend::make_filters<float>(texts);
}

std::string filter_list() {
  std::string out = "Filters: ";
  for (const auto& d : defend::filter_catalog()) {
    out += (out.size() > 9 ? "; " : "") + d.usage;
  }
  return out;
}

void register_filters() { defend::register_filters<float>(); }

}  // namespace pavise::program
