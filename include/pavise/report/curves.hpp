// SPDX-License-Identifier: MIT
// The report's section of curves: robust accuracy against the radius of the attack, and its price in clean accuracy.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "pavise/report/page.hpp"
#include "pavise/report/svg.hpp"

namespace pavise::report::detail {

/// The numbers of a chart as a table that opens: without a pointer, without the page's script, and on paper.
inline std::string curve_numbers(const std::vector<const AttackRecord*>& records) {
  std::vector<double> radii;
  std::string head;
  for (const auto* r : records) {
    head += concat("<th class=\"num\">", escape(r->label), "</th>");
    for (const auto& p : r->curve) {
      radii.push_back(p.epsilon);
    }
  }
  std::sort(radii.begin(), radii.end());
  radii.erase(std::unique(radii.begin(), radii.end()), radii.end());
  std::string rows;
  for (const double radius : radii) {
    rows += concat("<tr><td>", significant(radius, 6), "</td>");
    for (const auto* r : records) {
      const auto p = std::find_if(r->curve.begin(), r->curve.end(), [&](const auto& q) { return q.epsilon == radius; });
      rows += p == r->curve.end() ? std::string("<td class=\"num\">\u2013</td>")
                                  : concat("<td class=\"num\">", escape(percent_words(p->count)), " <small>",
                                           interval_words(p->count), "</small></td>");
    }
    rows += "</tr>\n";
  }
  return concat(
      "<details class=\"numbers\"><summary>The numbers</summary><div class=\"scroll\"><table><thead><tr><th>\u03B5"
      "</th>",
      head, "</tr></thead><tbody>\n", rows, "</tbody></table></div></details>\n");
}

/// Robust accuracy against epsilon: a chart for each norm and attack.
inline std::string curves(const std::vector<Model>& models) {
  std::vector<std::pair<std::string, std::string>> kinds;
  for (const auto& m : models) {
    for (const auto* r : m.attacks) {
      const std::pair kind(r->norm, r->attack);
      if (r->curve.size() > 1 && std::find(kinds.begin(), kinds.end(), kind) == kinds.end()) {
        kinds.push_back(kind);
      }
    }
  }
  std::string out;
  for (const auto& [norm, attack] : kinds) {
    std::vector<Series> series;
    std::vector<std::string> how;
    std::vector<const AttackRecord*> shown;
    for (std::size_t i = 0; i < models.size(); ++i) {
      for (const auto* r : models[i].attacks) {
        if (r->curve.size() < 2 || r->norm != norm || r->attack != attack) {
          continue;
        }
        Series s{models[i].label, {}, i};
        for (const auto& p : r->curve) {
          s.points.push_back(
              accuracy_point(p.epsilon, p.count, models[i].label + ", \u03B5 = " + significant(p.epsilon, 6)));
        }
        series.push_back(std::move(s));
        shown.push_back(r);
        if (std::find(how.begin(), how.end(), settings(*r)) == how.end()) {
          how.push_back(settings(*r));
        }
      }
    }
    Chart chart;
    chart.title = "Robust accuracy under " + attack_name(attack) + " within " + norm_name(norm);
    chart.x.title = "\u03B5, pixels from 0 to 1";
    chart.y = {"images still correct", 0, 100, " %"};
    out += figure(line_chart(series, chart),
                  "Bands: exact 95 % intervals. " + (join(how).empty() ? "" : "Attack: " + join(how, "; ") + "."),
                  curve_numbers(shown));
  }
  return out;
}

/// Clean against robust accuracy: a chart for each threat.
inline std::string trade_offs(const std::vector<Model>& models, const Results& results) {
  std::string out;
  for (const auto& threat : threats(results)) {
    std::vector<Series> series;
    for (std::size_t i = 0; i < models.size(); ++i) {
      if (const auto* r = threat.strongest(models[i])) {
        Point p = accuracy_point(100 * r->clean.share(), r->robust,
                                 models[i].label + ", clean " + full_words(r->clean) + ", robust");
        const auto bounds = r->clean.interval();
        p.x_interval = {100 * bounds.low, 100 * bounds.high};
        series.push_back({models[i].label, {p}, i});
      }
    }
    Chart chart;
    chart.title = "Clean against robust accuracy, " + threat.words;
    chart.x = {"clean accuracy", {}, {}, " %"};
    chart.y = {"robust accuracy", 0, {}, " %"};
    out +=
        figure(scatter_chart(series, chart),
               "The strongest attack recorded for each model; bars are 95 % intervals. Better is up and to the right.");
  }
  return out;
}

inline std::string charts_section(const std::vector<Model>& models, const Results& results) {
  const std::string charts = curves(models) + trade_offs(models, results);
  return charts.empty()
             ? charts
             : "<section id=\"charts\"><h2>Robust accuracy against \u03B5, and its price</h2>\n<div class=\"charts\">" +
                   charts + "</div></section>\n";
}

}  // namespace pavise::report::detail
