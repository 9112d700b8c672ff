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
#include "pavise/report/gallery.hpp"
#include "pavise/report/page.hpp"
#include "pavise/report/svg.hpp"

namespace pavise::report::detail {

inline std::string certification_name(const CertificationRecord& r) {
  return concat(r.label, ", ", r.noise, " ", significant(r.scale, 4), r.method == "fixed" ? ", fixed" : "");
}

/// Certified accuracy against the radius, a line for each record of one norm; and with each, where it was attacked in that
/// norm, the accuracy that the attack left.
inline std::string certified_chart(const std::vector<const CertificationRecord*>& records,
                                   const std::vector<AttackRecord>& attacks) {
  std::vector<Series> series;
  for (const auto* r : records) {
    Series line{certification_name(*r), {}, {}};
    for (const auto& p : r->curve) {
      line.points.push_back(accuracy_point(p.radius, p.certified, concat(line.name, ", ", significant(p.radius, 4))));
    }
    series.push_back(std::move(line));
    Series attacked{concat(r->label, ", under attack"), {}, {}};
    for (const auto& a : attacks) {
      // What is certified is the smoothed model, whose attacks say so in their label.
      const bool same = a.label == r->label || a.label.starts_with(r->label + ", smoothed");
      if (same && a.norm == r->norm && a.data == r->data) {
        for (const auto& p : a.curve) {
          attacked.points.push_back(
              accuracy_point(p.epsilon, p.count, concat(attacked.name, ", ", significant(p.epsilon, 4))));
        }
        if (a.curve.empty()) {
          attacked.points.push_back(
              accuracy_point(a.epsilon, a.robust, concat(attacked.name, ", ", significant(a.epsilon, 4))));
        }
      }
    }
    if (!attacked.points.empty()) {
      std::sort(attacked.points.begin(), attacked.points.end(),
                [](const Point& a, const Point& b) { return a.x < b.x; });
      series.push_back(std::move(attacked));
    }
  }
  Chart chart;
  chart.title = "Certified accuracy by radius, " + records.front()->data;
  chart.x.title = concat(records.front()->norm == "l1" ? "L1" : "L2", " radius");
  chart.y = {"certified", 0, 100, " %"};
  return figure(
      line_chart(series, chart),
      "Images for which it is proved that the smoothed classifier answers their class everywhere within the "
      "radius. A lower bound: no attack can break one of them. What an attack leaves, where one was made, is an "
      "upper bound: the truth lies between.");
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

/// One image under the noise, and how its votes fell.
inline std::string cloud_figure(const CertificationRecord& r) {
  const auto& cloud = *r.cloud;
  const auto same = [](double v, std::size_t) { return v; };
  const auto name = [&](std::int64_t k) {
    return k < 0 ? std::string("none") : cloud.class_names[static_cast<std::size_t>(k)];
  };
  std::string out =
      concat("<h3>One image under the noise <small>", escape(certification_name(r)),
             "</small></h3>\n<figure class=\"shot\">", "<figcaption>Image ", cloud.index, ", ",
             escape(name(cloud.label)), ": certified within ", significant(cloud.radius, 4),
             ". Of the images that are certified it is the one on which the network is most of two "
             "minds. Pixels beyond black and white are cut off here, not for the network.</figcaption><div "
             "class=\"filtered\">",
             thumbnail(picture(cloud, cloud.clean, same), concat("Image ", cloud.index), "", "as it is", ""));
  for (const auto& [pixels, chosen] : cloud.samples) {
    out += thumbnail(picture(cloud, pixels, same), concat("Noisy image, taken for ", name(chosen)), "taken for ",
                     name(chosen), "");
  }
  Series votes{"votes", {}, {}};
  std::vector<std::string> classes;  // those that have votes
  for (std::size_t k = 0; k < cloud.votes.size(); ++k) {
    if (cloud.votes[k] > 0) {
      votes.points.push_back({static_cast<double>(classes.size()),
                              static_cast<double>(cloud.votes[k]),
                              {},
                              {},
                              concat(cloud.class_names[k], ": ", grouped(cloud.votes[k]), " votes")});
      classes.push_back(cloud.class_names[k]);
    }
  }
  Chart chart;
  chart.title = concat("Votes on image ", cloud.index);
  chart.y = {"noisy samples", 0, {}, ""};
  return concat(out, "</div></figure>\n<div class=\"charts\">",
                figure(bar_chart(classes, {votes}, chart), "The class of each noisy sample."), "</div>\n");
}

/// The section on all certifications; empty where there is none.
inline std::string certification_section(const std::vector<CertificationRecord>& records,
                                         const std::vector<AttackRecord>& attacks) {
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
      charts += certified_chart(together, attacks) + samples_chart(together);
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
  std::string clouds;
  for (const auto& r : records) {
    clouds += r.cloud ? cloud_figure(r) : std::string();
  }
  return rows.empty()
             ? rows
             : concat(
                   "<section id=\"certificates\"><h2>Certificates</h2>\n<div class=\"charts\">", charts,
                   "</div>\n<div class=\"scroll\"><table><thead><tr><th>Model and noise</th><th>Data</th><th "
                   "class=\"num\">Images</th><th class=\"num\">Right, certified at 0</th><th class=\"num\">Average "
                   "radius</th><th class=\"num\">Abstained</th><th class=\"num\">Samples an image</th><th>Command</th>"
                   "</tr></thead><tbody>\n",
                   rows, "</tbody></table></div>\n", clouds, "</section>\n");
}

}  // namespace pavise::report::detail
