// SPDX-License-Identifier: MIT
// The report's section on certificates: how much is proved at which radius, and what it cost.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

#include "pavise/report/certification_record.hpp"
#include "pavise/report/page.hpp"
#include "pavise/report/svg.hpp"

namespace pavise::report::detail {

inline std::string certification_name(const CertificationRecord& r) {
  return concat(r.label, ", ", r.noise, " ", significant(r.scale, 4), r.method == "fixed" ? ", fixed" : "");
}

/// Certified accuracy against the radius, a line for each record of one norm.
inline std::string certified_chart(const std::vector<const CertificationRecord*>& records) {
  std::vector<Series> series;
  for (const auto* r : records) {
    Series line{certification_name(*r), {}, {}};
    for (const auto& p : r->curve) {
      line.points.push_back(accuracy_point(p.radius, p.certified, concat(line.name, ", ", significant(p.radius, 4))));
    }
    series.push_back(std::move(line));
  }
  Chart chart;
  chart.title = "Certified accuracy by radius, " + records.front()->data;
  chart.x.title = concat(records.front()->norm == "l1" ? "L1" : "L2", " radius");
  chart.y = {"certified", 0, 100, " %"};
  return figure(line_chart(series, chart),
                "Images for which it is proved that the smoothed classifier answers their class everywhere within the "
                "radius. A lower bound: no attack can break one of them.");
}

/// How many samples the images took.
inline std::string samples_chart(const std::vector<const CertificationRecord*>& records) {
  constexpr std::int64_t kSteps[] = {500, 1000, 2000, 5000, 10'000, 20'000, 50'000, 100'000, INT64_MAX};
  std::int64_t most = 0;
  for (const auto* r : records) {
    most = std::max(most, *std::max_element(r->samples.begin(), r->samples.end()));
  }
  std::vector<std::string> categories;
  std::vector<std::int64_t> ends;
  for (const std::int64_t end : kSteps) {
    if (ends.empty() || ends.back() < most) {
      categories.push_back(
          end == INT64_MAX
              ? "more"
              : concat("\u2264 ", end < 1000 ? "0.5" : significant(static_cast<double>(end) / 1000, 3), "k"));
      ends.push_back(end);
    }
  }
  std::vector<Series> series;
  for (const auto* r : records) {
    Series bars{certification_name(*r), {}, {}};
    std::int64_t start = 0;
    for (std::size_t i = 0; i < ends.size(); ++i) {
      const auto n = std::count_if(r->samples.begin(), r->samples.end(),
                                   [&](std::int64_t s) { return s > start && s <= ends[i]; });
      const double share = 100.0 * static_cast<double>(n) / static_cast<double>(r->samples.size());
      bars.points.push_back({static_cast<double>(i), share, {}, {}, concat(bars.name, ": ", n, " images")});
      start = ends[i];
    }
    series.push_back(std::move(bars));
  }
  Chart chart;
  chart.title = "Noisy samples spent on an image, " + records.front()->data;
  chart.x.title = "samples";
  chart.y = {"images", 0, {}, " %"};
  return figure(bar_chart(categories, series, chart), "What the certificates cost.");
}

/// The section on all certifications; empty where there is none.
inline std::string certification_section(const std::vector<CertificationRecord>& records) {
  std::string charts;
  std::string rows;
  std::vector<std::pair<std::string, std::string>> done;
  for (const auto& r : records) {
    const std::pair group(r.data, r.norm);
    if (std::find(done.begin(), done.end(), group) == done.end()) {
      done.push_back(group);
      std::vector<const CertificationRecord*> together;
      for (const auto& other : records) {
        if (std::pair(other.data, other.norm) == group) {
          together.push_back(&other);
        }
      }
      charts += certified_chart(together) + samples_chart(together);
    }
    const auto images = static_cast<double>(r.samples.size());
    const double mean =
        static_cast<double>(std::accumulate(r.samples.begin(), r.samples.end(), std::int64_t{0})) / images;
    rows += concat(
        "<tr><td>", escape(certification_name(r)), r.noise == "gaussian-unsound" ? " <b>(proves nothing)</b>" : "",
        "</td><td>", escape(r.data), "</td><td class=\"num\">", r.samples.size(), "</td><td class=\"num\">",
        escape(percent_words(r.curve.front().certified)), "</td><td class=\"num\">", significant(r.average_radius, 4),
        "</td><td class=\"num\">", r.abstained, "</td><td class=\"num\">", significant(mean, 5), " of ", r.most_samples,
        "</td><td><code class=\"command\">", escape(r.command), "</code></td></tr>\n");
  }
  return rows.empty()
             ? rows
             : concat(
                   "<section id=\"certificates\"><h2>Certificates</h2>\n<div class=\"charts\">", charts,
                   "</div>\n<div class=\"scroll\"><table><thead><tr><th>Model and noise</th><th>Data</th><th "
                   "class=\"num\">Images</th><th class=\"num\">Right, certified at 0</th><th class=\"num\">Average "
                   "radius</th><th class=\"num\">Abstained</th><th class=\"num\">Samples an image</th><th>Command</th>"
                   "</tr></thead><tbody>\n",
                   rows, "</tbody></table></div>\n</section>\n");
}

}  // namespace pavise::report::detail
