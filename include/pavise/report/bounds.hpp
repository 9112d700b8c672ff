// SPDX-License-Identifier: MIT
// The report's section on certificates by bounds of the network's values: what is proved, without any doubt left.
#pragma once

#include <string>
#include <vector>

#include "pavise/report/bounds_record.hpp"
#include "pavise/report/page.hpp"

namespace pavise::report::detail {

/// The section on all of them; empty where there is none.
inline std::string bounds_section(const std::vector<BoundsRecord>& records) {
  std::string rows;
  for (const auto& r : records) {
    rows += concat("<tr><td>", escape(r.label), "</td><td>", escape(r.data), "</td><td>", escape(r.method), ", ",
                   escape(r.norm), " ", significant(r.epsilon, 4), "</td><td class=\"num\">", r.clean.total,
                   "</td><td class=\"num\">", escape(percent_words(r.clean)), "</td><td class=\"num\">",
                   escape(percent_words(r.certified)), "</td><td class=\"num\">",
                   r.search > 0 ? significant(r.average_radius, 4) : std::string("&ndash;"),
                   "</td><td><code class=\"command\">", escape(r.command), "</code></td></tr>\n");
  }
  return rows.empty()
             ? rows
             : concat(
                   "<section id=\"bounds\"><h2>Certificates by bounds</h2>\n<p>Images for which bounds of every value, "
                   "rounding included, prove that the model answers their class everywhere within the "
                   "radius.</p>\n<div "
                   "class=\"scroll\"><table><thead><tr><th>Model</th><th>Data</th><th>Method and radius</th><th "
                   "class=\"num\">Images</th><th class=\"num\">Clean</th><th class=\"num\">Certified</th><th "
                   "class=\"num\">Average radius</th><th>Command</th></tr></thead><tbody>\n",
                   rows, "</tbody></table></div>\n</section>\n");
}

}  // namespace pavise::report::detail
