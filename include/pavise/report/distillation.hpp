// SPDX-License-Identifier: MIT
// The report's section on defensive distillation: what vanishes with the temperature, and what does not.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "pavise/report/distillation_record.hpp"
#include "pavise/report/page.hpp"
#include "pavise/report/svg.hpp"

namespace pavise::report::detail {

inline std::string distillation_chart(const DistillationRecord& r) {
  std::vector<Series> series{{"gradients exactly zero", {}, 6},
                             {"FGSM", {}, 1},
                             {"JSMA on probabilities", {}, 4},
                             {"APGD on logits", {}, 0},
                             {"Carlini-Wagner on logits", {}, 2}};
  for (const auto& p : r.points) {
    const std::string at = ", T = " + significant(p.temperature, 4);
    series[0].points.push_back({p.temperature, 100 * p.zero_gradients, {}, {}, "gradients exactly zero" + at});
    const Count* counts[] = {&p.fgsm, &p.jsma, &p.apgd_dlr, &p.carlini_wagner};
    for (std::size_t k = 0; k < 4; ++k) {
      if (counts[k]->total > 0) {
        series[k + 1].points.push_back(accuracy_point(p.temperature, *counts[k], series[k + 1].name + at));
      }
    }
  }
  Chart chart;
  chart.title = "Success of attacks by the temperature of the training, " + r.data;
  chart.x.title = "temperature T";
  chart.y = {"images fooled", 0, 100, " %"};
  return figure(
      line_chart(series, chart),
      concat("With T the gradients of cross-entropy vanish in float, and the attacks that follow them fail. The "
             "attacks on the logits of the same networks do not notice. FGSM and APGD within L\u221E \u03B5 = ",
             significant(r.epsilon, 6), ", JSMA with 14.5 % of the pixels, Carlini-Wagner at any distance."));
}

inline std::string distillation_table(const DistillationRecord& r) {
  std::string rows;
  for (const auto& p : r.points) {
    rows += concat("<tr><td class=\"num\">", significant(p.temperature, 4), "</td>");
    for (const Count* c : {&p.teacher, &p.student}) {
      rows += concat("<td class=\"num\">", escape(percent_words(*c)), "</td>");
    }
    rows += concat("<td class=\"num\">", significant(p.mean_logit, 3), "</td><td class=\"num\">",
                   significant(100 * p.zero_gradients, 3), " %</td>");
    for (const Count* c : {&p.fgsm, &p.jsma, &p.apgd_dlr, &p.carlini_wagner}) {
      rows += concat("<td class=\"num\">", c->total == 0 ? "\u2013" : escape(percent_words(*c)), "</td>");
    }
    rows += concat("<td class=\"num\">", significant(p.distance, 3), "</td></tr>\n");
  }
  return concat(
      "<div class=\"scroll\"><table><thead><tr><th class=\"num\">T</th><th class=\"num\">Teacher</th><th "
      "class=\"num\">Student</th><th class=\"num\">Mean |logit|</th><th class=\"num\">Gradients zero</th><th "
      "class=\"num\">FGSM</th><th class=\"num\">JSMA</th><th class=\"num\">APGD-DLR</th><th "
      "class=\"num\">C&amp;W</th><th "
      "class=\"num\">C&amp;W, mean L2</th></tr></thead><tbody>\n",
      rows, "</tbody></table></div>\n");
}

/// The section on all sweeps; empty where there is none.
inline std::string distillation_section(const std::vector<DistillationRecord>& records) {
  std::string out;
  for (const auto& r : records) {
    out += concat(
        "<h3>", escape(r.label), " <small>", escape(r.model), " on ", escape(r.data),
        "</small></h3>\n<p class=\"verdict unreliable\"><b>unreliable</b>: defensive distillation hides gradients "
        "and holds nothing. Its success against FGSM and JSMA is no robustness.</p>\n<div class=\"charts\">",
        distillation_chart(r), "</div>\n", distillation_table(r), "<code class=\"command\">", escape(r.command),
        "</code>\n");
  }
  return out.empty() ? out : "<section id=\"distillation\"><h2>Defensive distillation</h2>\n" + out + "</section>\n";
}

}  // namespace pavise::report::detail
