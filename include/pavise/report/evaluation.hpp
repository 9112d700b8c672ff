// SPDX-License-Identifier: MIT
// The report's section on an evaluation: the verdict with its evidence, the attacks one after another, and what each
// did to every image as a picture.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>
#include <vector>

#include "pavise/report/page.hpp"
#include "pavise/report/png.hpp"

namespace pavise::report::detail {

using Rgb = std::array<std::uint8_t, 3>;

/// What a cell of the matrix shows.
struct CellColour {
  char outcome;
  Rgb rgb;
  const char* css;
  const char* words;
};
inline constexpr std::array<CellColour, 4> kCellColours{{{'o', {58, 125, 180}, "#3a7db4", "stood"},
                                                         {'x', {214, 96, 60}, "#d6603c", "broken"},
                                                         {'.', {205, 209, 214}, "#cdd1d6", "already broken, not tried"},
                                                         {'-', {120, 126, 134}, "#787e86", "wrong from the start"}}};

/// The images as the matrix shows them: those that stand first, then by the attack that broke them, the last one first,
/// and those that were wrong from the start at the end.
inline std::vector<std::size_t> matrix_order(const EvaluationRecord& e) {
  std::vector<std::size_t> order(e.broken_by.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  const auto rank = [&](std::size_t i) {
    const std::int64_t by = e.broken_by[i];
    const auto attacks = static_cast<std::int64_t>(e.attacks.size());
    return by == -1 ? 0 : by == -2 ? attacks + 1 : attacks - by;
  };
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return rank(a) < rank(b); });
  return order;
}

/// One attack's row of the matrix: a strip of at most some 1,000 pixels, in which a column is one image or, of more
/// images, every second, third, ... of them.
inline Image matrix_strip(const EvaluationRecord& e, const EvaluationRow& row, const std::vector<std::size_t>& order) {
  constexpr std::size_t kWidest = 1000;
  constexpr std::int64_t kHeight = 14;
  const std::size_t stride = (order.size() + kWidest - 1) / kWidest;
  std::vector<std::uint8_t> line;
  for (std::size_t i = 0; i < order.size(); i += stride) {
    const char outcome = e.broken_by[order[i]] == -2 ? '-' : row.outcomes[order[i]];
    for (const auto& colour : kCellColours) {
      if (colour.outcome == outcome) {
        line.insert(line.end(), colour.rgb.begin(), colour.rgb.end());
      }
    }
  }
  Image out{static_cast<std::int64_t>(line.size() / 3), kHeight, 3, {}};
  for (std::int64_t y = 0; y < kHeight; ++y) {
    out.pixels.insert(out.pixels.end(), line.begin(), line.end());
  }
  return out;
}

inline std::string evaluation_attacks(const EvaluationRecord& e) {
  const auto order = matrix_order(e);
  std::string rows;
  for (const auto& row : e.attacks) {
    const auto each = [&](std::int64_t passes) {
      return row.tried == 0 ? std::string("\u2013")
                            : grouped(static_cast<std::int64_t>(
                                  static_cast<double>(passes) / static_cast<double>(row.tried) + 0.5));
    };
    rows += concat("<tr><td><b>", escape(row.name), "</b><br><small>", escape(row.settings), "</small></td><td>",
                   escape(row.access), "</td><td class=\"num\">", grouped(row.tried), "</td><td class=\"num\">",
                   grouped(row.broken), "</td><td class=\"num\"><b>", escape(percent_words(row.standing)),
                   "</b><small>", interval_words(row.standing), "</small></td><td class=\"num\">", each(row.forward),
                   "<small>", each(row.backward), " backward</small></td><td class=\"num\">",
                   escape(duration(row.seconds)), "</td></tr>\n<tr class=\"strip\"><td colspan=\"7\"><img alt=\"",
                   escape(row.name), ": ", row.broken, " of ", row.tried, " images broken\" src=\"",
                   png_data_uri(matrix_strip(e, row, order)), "\"></td></tr>\n");
  }
  std::string legend;
  for (const auto& colour : kCellColours) {
    legend += concat("<span><i style=\"background:", colour.css, "\"></i>", colour.words, "</span>");
  }
  return concat(
      "<div class=\"scroll\"><table class=\"suite\"><thead><tr><th>Attack</th><th>Needs</th><th "
      "class=\"num\">Tried</th>"
      "<th class=\"num\">Broken</th><th class=\"num\">Accuracy left<small>after it and all before</small></th>"
      "<th class=\"num\">Passes<small>forward, an image</small></th><th class=\"num\">Time</th></tr></thead><tbody>\n",
      rows, "</tbody></table></div>\n<p class=\"legend\">", legend,
      "</p>\n<p><small>Under each attack a strip in which every image has its column, in the same order throughout: "
      "those that stand on the left, then by the attack that broke them. The robust accuracy is the worst case over "
      "all attacks and restarts, image by image.</small></p>\n");
}

inline std::string evaluation_evidence(const EvaluationRecord& e) {
  std::string rows;
  const auto row = [&](const std::string& state, const std::string& name, const std::string& value,
                       const std::string& words) {
    const bool bad = state == "failed";
    rows += concat("<tr><td class=\"state ",
                   bad                 ? "bad"
                   : state == "passed" ? "good"
                                       : "",
                   "\">",
                   bad                 ? "\u2717 "
                   : state == "passed" ? "\u2713 "
                                       : "",
                   escape(state), "</td><td><b>", escape(name), "</b></td><td class=\"num\">", escape(value),
                   "</td><td>", escape(words), "</td></tr>\n");
  };
  for (const auto& check : e.checks) {
    row(check.passed ? "passed" : "failed", check.name, "", check.detail);
  }
  for (const auto& sign : e.signs) {
    const bool counts = sign.state != "not applicable";
    row(sign.state, sign.name,
        counts ? concat(significant(sign.value, 3), sign.at_most ? ", at most " : ", at least ",
                        significant(sign.threshold, 3))
               : "",
        sign.sentence);
  }
  return concat(
      "<div class=\"scroll\"><table class=\"evidence\"><thead><tr><th>State</th><th>Sign</th><th class=\"num\">Value "
      "and "
      "threshold</th><th>What it means</th></tr></thead><tbody>\n",
      rows, "</tbody></table></div>\n");
}

inline std::string evaluation_curve(const EvaluationRecord& e, const std::string& label, std::size_t colour,
                                    const std::string& norm) {
  if (e.curve.size() < 2) {
    return "";
  }
  Series series{label, {}, colour};
  for (const auto& p : e.curve) {
    series.points.push_back(accuracy_point(p.epsilon, p.count, label + ", \u03B5 = " + significant(p.epsilon, 6)));
  }
  Chart chart;
  chart.title = "Security curve: accuracy under PGD by radius, " + norm_name(norm);
  chart.x.title = "\u03B5, pixels from 0 to 1";
  chart.y = {"images still correct", 0, 100, " %"};
  return "<div class=\"charts\">" +
         figure(line_chart({series}, chart), concat("On ", e.curve.front().count.total,
                                                    " images; the band is the exact 95 % interval. A curve that does "
                                                    "not fall to zero is a sign of masked gradients.")) +
         "</div>\n";
}

inline std::string evaluation_style() {
  return R"(.verdict{background:var(--card);border-left:6px solid var(--soft);border-radius:6px;padding:.6em .9em;margin:.6em 0;max-width:none}.verdict.reliable{border-color:#2e8b57}.verdict.unreliable{border-color:#c8452d}.verdict.undecided{border-color:#d9a400}.verdict b{text-transform:uppercase;letter-spacing:.04em}
.suite .strip td{padding:0 0 .6em;border-bottom:1px solid var(--line)}.suite tr:not(.strip) td{border-bottom:0}.suite .strip img{display:block;width:100%;height:14px;image-rendering:pixelated;border-radius:2px}
.legend span{margin-right:1.2em;font-size:.85rem;color:var(--soft);white-space:nowrap}.legend i{display:inline-block;width:1em;height:.8em;border-radius:2px;margin-right:.4em}
.evidence td:first-child,.evidence td:nth-child(2){min-width:0}details{margin-top:.8em}.state{white-space:nowrap}.state.bad{color:#c8452d;font-weight:600}.state.good{color:#2e8b57}
)";
}

/// The evaluations' section; empty where no record is one.
inline std::string evaluation_section(const std::vector<Model>& models, const Results& results) {
  std::string out;
  for (std::size_t i = 0; i < models.size(); ++i) {
    for (const auto* r : models[i].attacks) {
      if (!r->evaluation) {
        continue;
      }
      const EvaluationRecord& e = *r->evaluation;
      std::string notes;
      for (const auto& note : e.notes) {
        notes += "<li>" + escape(note) + "</li>\n";
      }
      out +=
          concat("<h3>", dot(i), escape(models[i].label), " <small>under <a href=\"#", anchor(*r, results), "\">",
                 escape(attack_name(r->attack)), ", ", escape(ball(*r)), "</a></small></h3>\n<p class=\"verdict ",
                 e.verdict, "\"><b>", e.verdict, "</b>: robust accuracy ", escape(full_words(r->robust)), ". ",
                 escape(e.reason), "</p>\n", notes.empty() ? "" : "<ul>\n" + notes + "</ul>\n", evaluation_attacks(e),
                 evaluation_curve(e, models[i].label, i, r->norm), "<details", e.verdict == "reliable" ? "" : " open",
                 "><summary>The evidence: ", plural(e.checks.size(), "check"), " and ", plural(e.signs.size(), "sign"),
                 "</summary>\n", evaluation_evidence(e), "</details>\n");
    }
  }
  return out.empty() ? out
                     : "<section id=\"evaluation\"><h2>Evaluation by a suite of attacks, and what it is worth</h2>\n" +
                           out + "</section>\n";
}

}  // namespace pavise::report::detail
