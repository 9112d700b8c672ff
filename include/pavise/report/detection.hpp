// SPDX-License-Identifier: MIT
// The report's section on detectors: how many adversarial images are flagged, by attacks that do not know of the
// detector and by attacks that do.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "pavise/report/detection_record.hpp"
#include "pavise/report/page.hpp"
#include "pavise/report/svg.hpp"

namespace pavise::report::detail {

inline std::string detection_name(const DetectionRecord::Row& row) {
  return attack_name(row.name) + (row.adaptive ? ", adaptive" : "");
}

/// "at any distance", or the attack's ball where that is not the evaluation's.
inline std::string detection_ball(const DetectionRecord::Row& row) {
  return row.within_threat ? norm_name(row.norm) + " \u03B5 = " + significant(row.epsilon, 6)
                           : norm_name(row.norm) + ", at any distance";
}

/// The curves of attacks that do not know of the detector, or of those that do.
inline std::string roc_chart(const DetectionRecord& r, bool adaptive) {
  std::vector<Series> series;
  for (std::size_t i = 0; i < r.rows.size(); ++i) {
    const auto& row = r.rows[i];
    if (row.adaptive != adaptive || row.roc.empty()) {
      continue;
    }
    Series one{concat(attack_name(row.name), ", AUC ", fixed(row.area, 3)), {}, series.size(), false};
    for (const auto& [x, y] : row.roc) {
      one.points.push_back({100 * x, 100 * y, {}, {}, ""});
    }
    series.push_back(std::move(one));
  }
  if (series.empty()) {
    return "";
  }
  series.push_back({"chance", {{0, 0, {}, {}, ""}, {100, 100, {}, {}, ""}}, 6, false});
  Chart chart;
  chart.title = adaptive ? "Attacks that know of the detector" : "Attacks that do not know of the detector";
  chart.x = {"clean images flagged, %", 0, 100, ""};
  chart.y = {"adversarial images flagged", 0, 100, " %"};
  chart.height = 380;
  return figure(line_chart(series, chart),
                adaptive ? "Of the images that fool the model; these were made to stay below the threshold."
                         : "Of the images that fool the model. Each point of a curve is a threshold.");
}

inline std::string detection_table(const DetectionRecord& r) {
  std::string head;
  for (const auto& f : r.false_alarms) {
    head +=
        concat("<th class=\"num\">Detected<small>at ", significant(100 * f.rate, 3), " % false positives</small></th>");
  }
  std::string rows;
  for (const auto& row : r.rows) {
    const Count evaded{row.evaded, std::max<std::int64_t>(row.tried, 1)};
    rows += concat("<tr><td><b>", escape(detection_name(row)), "</b><br><small>", escape(detection_ball(row)),
                   row.settings.empty() ? "" : ", " + escape(row.settings), "</small></td><td class=\"num\">",
                   grouped(row.fooled), "<small>of ", grouped(row.tried), "</small></td>");
    for (const auto& f : row.detected) {
      rows += f.total == 0 ? std::string("<td class=\"num\">\u2013</td>")
                           : concat("<td class=\"num\">", escape(percent_words({f.flagged, f.total})), "<small>",
                                    interval_words({f.flagged, f.total}), "</small></td>");
    }
    rows += concat("<td class=\"num\">", row.roc.empty() ? "\u2013" : fixed(row.area, 3), "</td><td class=\"num\"><b>",
                   escape(percent_words(evaded)), "</b><small>",
                   row.evaded > 0 ? "mean " + norm_name(row.norm) + " " + significant(row.distance, 3) : "",
                   "</small></td></tr>\n");
  }
  std::string alarms = "<tr><td>clean images<br><small>flagged: false positives</small></td><td></td>";
  for (const auto& f : r.false_alarms) {
    alarms += f.total == 0 ? std::string("<td></td>")
                           : concat("<td class=\"num\">", escape(percent_words({f.flagged, f.total})), "<small>",
                                    interval_words({f.flagged, f.total}), "</small></td>");
  }
  return concat(
      "<div class=\"scroll\"><table class=\"detection\"><thead><tr><th>Attack</th><th class=\"num\">Fooled the "
      "model</th>",
      head,
      "<th class=\"num\">AUC</th><th class=\"num\">Fooled and not flagged<small>at the detector's "
      "threshold</small></th></tr></thead><tbody>\n",
      rows, alarms, "<td></td><td></td></tr>\n</tbody></table></div>\n");
}

inline std::string detection_tiles(const DetectionRecord& r) {
  const auto tile = [](std::string_view name, const Count& c, std::string_view words, std::size_t index) {
    return concat("<div class=\"tile\" style=\"border-color:", colour(index), "\"><b>", name,
                  "</b><span class=\"big\">", escape(percent_words(c)), "</span><span>", escape(count_words(c)), ", ",
                  interval_words(c), "</span><small>", words, "</small></div>");
  };
  return concat(
      "<div class=\"tiles\">", tile("Clean accuracy", r.clean, "flagged or not", 0),
      tile("Clean, served", r.clean_served, "correct and not flagged", 5),
      tile("Robust without the detector", r.undetected_robust, "correct under all attacks within the ball", 6),
      tile("Detector-aware robust accuracy", r.robust_served,
           "correct and not flagged, and never misclassified without being flagged", 1),
      tile("Never misclassified unflagged", r.robust, "the same where a flagged clean image counts as no harm", 4),
      "</div>\n");
}

/// What the attacks say of a detector, in a word and in a sentence.
struct DetectionVerdict {
  std::string word;
  std::string words;
};

inline DetectionVerdict detection_verdict(const DetectionRecord& r) {
  const auto worst = std::max_element(r.rows.begin(), r.rows.end(), [](const auto& a, const auto& b) {
    return std::pair(a.adaptive, a.evaded) < std::pair(b.adaptive, b.evaded);
  });
  if (!worst->adaptive || worst->tried == 0) {
    return {"undecided", "no attack here knew of the detector."};
  }
  return {2 * worst->evaded > worst->tried ? "broken" : "undecided",
          concat(detection_name(*worst), " (", detection_ball(*worst), ") fools the model and stays unflagged with ",
                 percent_words(Count{worst->evaded, worst->tried}),
                 " of the images. What the detector flags of attacks that do not know of it is no robustness.")};
}

/// The section on all detectors; empty where there is none.
inline std::string detection_section(const std::vector<DetectionRecord>& records) {
  std::string out;
  for (const auto& r : records) {
    const auto [word, words] = detection_verdict(r);
    const std::string verdict =
        concat("<p class=\"verdict ", word == "broken" ? "unreliable" : word, "\"><b>", word, "</b>: ", escape(words));
    out += concat("<h3>", escape(r.label), " <small>", escape(r.model), " on ", escape(r.data), ", squeezers ",
                  escape(listed(r.squeezers)), "</small></h3>\n", verdict, "</p>\n<p>Threshold ",
                  significant(r.threshold, 4), ", fitted for ", significant(100 * r.false_positive_rate, 3),
                  " % false positives on ", grouped(r.fit_images), " clean images; attacks within ",
                  escape(norm_name(r.norm)), " \u03B5 = ", significant(r.epsilon, 6), ".</p>\n", detection_tiles(r),
                  "<div class=\"charts\">", roc_chart(r, false), roc_chart(r, true), "</div>\n", detection_table(r),
                  "<code class=\"command\">", escape(r.command), "</code>\n");
  }
  return out.empty() ? out
                     : "<section id=\"detection\"><h2>Detection by feature squeezing</h2>\n" + out + "</section>\n";
}

}  // namespace pavise::report::detail
