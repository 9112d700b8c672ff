// SPDX-License-Identifier: MIT
// Results as one self-contained HTML page: no network, light and dark, by keyboard, without its script, and on paper.
// Heavy (nlohmann-json): not in the umbrella.
//
//     pavise::report::write_report(pavise::report::collect_records("runs"), "robustness-report");
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <system_error>
#include <tuple>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/io/file.hpp"
#include "pavise/report/bounds.hpp"
#include "pavise/report/certification.hpp"
#include "pavise/report/curves.hpp"
#include "pavise/report/detection.hpp"
#include "pavise/report/distillation.hpp"
#include "pavise/report/evaluation.hpp"
#include "pavise/report/families.hpp"
#include "pavise/report/filters.hpp"
#include "pavise/report/gallery.hpp"
#include "pavise/report/page.hpp"
#include "pavise/report/record.hpp"
#include "pavise/report/script.hpp"
#include "pavise/report/style.hpp"
#include "pavise/report/sweep.hpp"

namespace pavise::report {

namespace detail {

/// The distinct values of a member over all records, without empty ones, in order.
inline std::vector<std::string> distinct(const Results& results, std::string Origin::*member) {
  std::vector<std::string> out;
  const auto add = [&](const Origin& r) {
    if (!(r.*member).empty() && std::find(out.begin(), out.end(), r.*member) == out.end()) {
      out.push_back(r.*member);
    }
  };
  std::for_each(results.training.begin(), results.training.end(), add);
  std::for_each(results.attacks.begin(), results.attacks.end(), add);
  std::for_each(results.distillation.begin(), results.distillation.end(), add);
  std::for_each(results.certification.begin(), results.certification.end(), add);
  std::for_each(results.bounds.begin(), results.bounds.end(), add);
  std::for_each(results.detection.begin(), results.detection.end(), add);
  std::for_each(results.filters.begin(), results.filters.end(), add);
  return out;
}

inline std::string summary_section(const std::vector<Model>& models, const Results& results) {
  if (models.empty()) {
    return "";  // sweeps of distillation, tables of filters, detectors or certificates alone
  }
  std::vector<std::string> labels;
  labels.reserve(models.size());
  for (const auto& m : models) {
    labels.push_back(m.label);
  }
  std::string words = plural(models.size(), "model") + " (" + listed(labels) + ") on " +
                      listed(distinct(results, &Origin::data)) + ". ";
  if (results.attacks.empty()) {
    const bool more = !results.detection.empty() || !results.filters.empty() || !results.distillation.empty();
    return concat("<p class=\"lead\">", escape(words),
                  more ? "" : "No attack was run yet: nothing is known of robustness.", "</p>\n");
  }
  const auto all = threats(results);
  const Threat& threat = main_threat(all, models);
  std::string tiles;
  const Model* robust = nullptr;
  const Model* clean = nullptr;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const auto& m = models[i];
    const auto* r = threat.strongest(m);
    if (r == nullptr) {
      continue;
    }
    robust = robust == nullptr || r->robust.share() > threat.strongest(*robust)->robust.share() ? &m : robust;
    clean = clean == nullptr || m.clean()->clean.share() > clean->clean()->clean.share() ? &m : clean;
    const std::string verdict = threat.verdict(m);
    tiles += concat("<div class=\"tile\" style=\"border-color:", colour(i), "\"><b>", escape(m.label),
                    "</b><a class=\"big\" href=\"#", anchor(*r, results), "\">", escape(percent_words(r->robust)),
                    "</a><small>robust, ", escape(interval_words(r->robust)), "</small><small class=\"word ", verdict,
                    "\">", verdict.empty() ? "no verdict" : "verdict: " + verdict, "</small><span>",
                    escape(percent_words(m.clean()->clean)), " <small>clean</small></span></div>\n");
  }
  const auto* best = threat.strongest(*robust);
  words += "Within " + threat.words + ", " + robust->label + " withstands the most: under " +
           attack_name(best->attack) + (settings(*best).empty() ? "" : " (" + settings(*best) + ")") +
           " it still classifies " + full_words(best->robust) + " of the images correctly";
  std::vector<std::string> others;
  for (const auto& m : models) {
    if (const auto* r = threat.strongest(m); r != nullptr && &m != robust) {
      others.push_back(m.label + " " + percent_words(r->robust) + " (" + count_words(r->robust) + ")");
    }
  }
  words += others.empty()
               ? ". "
               : ". Of the others, under the strongest attack on each, this is left: " + listed(others) + ". ";
  words += "Without an attack " + clean->label + " is the most accurate, with " + full_words(clean->clean()->clean);
  if (robust != clean) {
    const Count& kept = robust->clean()->clean;
    words += "; " + robust->label + " has " + percent_words(kept) + " (" + count_words(kept) +
             "): its robustness costs " + fixed(100 * (clean->clean()->clean.share() - kept.share()), 1) +
             " points of clean accuracy";
  }
  return concat("<p class=\"lead\">", escape(words), ".</p>\n<div class=\"tiles\">\n", tiles,
                "</div>\n<p><small>Tiles: ", "robust accuracy under the strongest attack recorded within ",
                escape(threat.words),
                ", with its exact 95 % interval, and the verdict of its evaluation there.</small></p>\n");
}

inline std::string accuracy_cell(const Count& c, const std::string& link) {
  return concat("<a href=\"#", link, "\"><b>", escape(percent_words(c)), "</b></a><small>", interval_words(c),
                "</small><small>", count_words(c), "</small>");
}

inline std::string accuracy_section(const std::vector<Model>& models, const Results& results) {
  if (results.attacks.empty()) {
    return "";
  }
  using Column = std::tuple<std::string, double, std::string, std::string>;  // norm, epsilon, attack, settings
  const auto column = [](const AttackRecord& r) { return Column(r.norm, r.epsilon, r.attack, settings(r)); };
  std::vector<Column> columns;
  std::string heads;
  for (const auto& r : results.attacks) {
    columns.push_back(column(r));
  }
  std::sort(columns.begin(), columns.end());
  columns.erase(std::unique(columns.begin(), columns.end()), columns.end());
  for (const auto& [norm, epsilon, attack, how] : columns) {
    heads += concat("<th class=\"num\">", escape(attack_name(attack)), ", ", escape(norm_name(norm)),
                    " \u03B5 = ", significant(epsilon, 6), "<small>", escape(how), "</small></th>");
  }
  std::string rows;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const auto& m = models[i];
    std::string details = m.attacks.empty() ? m.training.front()->model : m.attacks.front()->model;
    if (!m.training.empty() && m.training.front()->parameters) {
      details += ", " + grouped(*m.training.front()->parameters) + " parameters";
    }
    const auto* clean = m.clean();
    rows += concat("<tr><td>", dot(i), "<b>", escape(m.label), "</b><br><small>", escape(details),
                   "</small></td><td class=\"num\">",
                   clean == nullptr ? std::string("\u2013") : accuracy_cell(clean->clean, anchor(*clean, results)),
                   "</td>");
    for (const auto& c : columns) {
      std::string cells;
      for (const auto* r : m.attacks) {
        cells += column(*r) == c ? accuracy_cell(r->robust, anchor(*r, results)) : "";
      }
      rows += "<td class=\"num\">" + (cells.empty() ? "\u2013" : cells) + "</td>";
    }
    rows += "</tr>\n";
  }
  return concat(
      "<section id=\"accuracy\"><h2>Accuracy</h2>\n<div class=\"scroll\"><table><thead><tr><th>Model</th><th "
      "class=\"num\">Clean",
      "<small>no attack</small></th>", heads, "</tr></thead><tbody>\n", rows,
      "</tbody></table></div>\n<p><small>Images classified correctly, the exact (Clopper-Pearson) 95 % interval, and "
      "the counts. Each number links to the command that made it.</small></p></section>\n");
}

inline std::string training_section(const std::vector<Model>& models) {
  std::vector<Series> loss;
  std::vector<Series> accuracy;
  std::vector<Series> adversarial;
  std::string events;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const auto& m = models[i];
    for (const auto* r : m.training) {
      const std::string name = m.training.size() == 1 ? m.label : m.label + ", " + r->source;
      Series l{name, {}, i};
      Series a{name, {}, i};
      Series b{name, {}, i};
      for (const auto& e : r->history) {
        const auto x = static_cast<double>(e.epoch);
        const std::string what = concat(name, ", epoch ", e.epoch);
        if (e.loss) {
          l.points.push_back({x, *e.loss, {}, {}, what + ": loss " + significant(*e.loss)});
        }
        if (e.accuracy) {
          a.points.push_back(accuracy_point(x, *e.accuracy, what));
        }
        if (e.adversarial_accuracy) {
          b.points.push_back(accuracy_point(x, *e.adversarial_accuracy, what));
        }
        for (const auto& event : e.events) {
          events += concat("<li><b>", escape(name), "</b>, epoch ", e.epoch, ": ", escape(event), "</li>\n");
        }
      }
      for (auto [from, to] : {std::pair(&l, &loss), std::pair(&a, &accuracy), std::pair(&b, &adversarial)}) {
        if (!from->points.empty()) {
          to->push_back(std::move(*from));
        }
      }
    }
  }
  std::string out;
  const auto add = [&](const std::vector<Series>& series, std::string_view title, const Axis& y) {
    if (!series.empty()) {
      Chart chart;
      chart.title = title;
      chart.x = {"epoch", {}, {}, "", true};
      chart.y = y;
      chart.width = 380;
      chart.height = 280;
      out += figure(line_chart(series, chart));
    }
  };
  add(loss, "Loss", {"training loss", 0, {}, ""});
  add(accuracy, "Accuracy", {"accuracy", {}, 100, " %"});
  add(adversarial, "Accuracy under the training attack", {"adversarial accuracy", 0, 100, " %"});
  if (out.empty()) {
    return out;
  }
  return concat("<section id=\"training\"><h2>Training</h2>\n<div class=\"charts three\">", out, "</div>\n",
                "<p><small>As measured while training, epoch by epoch; the losses of different defences are different "
                "functions and compare within a curve only.</small></p>\n",
                events.empty() ? std::string() : "<h3>Events</h3>\n<ul>\n" + events + "</ul>\n", "</section>\n");
}

/// The facts beside a command: seed, build, time, passes, file.
inline std::string facts(const Origin& r, std::vector<std::string> pieces) {
  if (r.seed) {
    pieces.insert(pieces.begin(), concat("seed ", *r.seed));
  }
  if (r.seconds) {
    pieces.push_back(duration(*r.seconds));
  }
  for (const auto* piece : {&r.build, &r.date}) {
    if (!piece->empty()) {
      pieces.push_back(*piece);
    }
  }
  if (!r.model_file.empty()) {
    pieces.push_back("model file " + r.model_file);
  }
  pieces.push_back("from " + r.source);
  return concat("<p class=\"facts\">", escape(join(pieces, " \u00B7 ")), "</p>");
}

inline std::string origins_section(const std::vector<Model>& models, const Results& results) {
  std::string out;
  for (std::size_t i = 0; i < models.size(); ++i) {
    const auto& m = models[i];
    const auto entry = [&](const Origin& r, const std::string& id, const std::string& what,
                           std::vector<std::string> more) {
      out +=
          concat("<div class=\"origin\" id=\"", id, "\"><p>", dot(i), "<b>", escape(m.label), "</b>, ", escape(what),
                 "</p><code class=\"command\">", escape(r.command), "</code>", facts(r, std::move(more)), "</div>\n");
    };
    for (const auto* r : m.training) {
      std::string what = "training";
      what += r->recipe.empty() ? "" : ": " + settings(*r);
      entry(*r, anchor(*r, results), what, {});
    }
    for (const auto* r : m.attacks) {
      std::vector<std::string> more;
      if (r->forward_passes && r->backward_passes) {
        more.push_back(grouped(*r->forward_passes) + " forward and " + grouped(*r->backward_passes) +
                       " backward passes");
      }
      entry(*r, anchor(*r, results),
            attack_name(r->attack) + " within " + ball(*r) + ": robust " + percent_words(r->robust) + " (" +
                count_words(r->robust) + "), clean " + percent_words(r->clean) + " (" + count_words(r->clean) + ")",
            std::move(more));
    }
  }
  return concat(
      "<section id=\"commands\"><h2>The command behind each number</h2>\n<p><small>A click selects a whole command, "
      "ready to "
      "copy. The same command, seed and data give the same numbers.</small></p>\n",
      out, "</section>\n");
}

inline std::string reading_section() {
  return R"(<section id="reading"><h2>How to read this</h2>
<p><b>Clean accuracy</b> is the share of images classified correctly as they are. <b>Robust accuracy</b> is the share still classified correctly after the attack changed them, each by at most &epsilon; in the norm named; an image that was wrong from the start counts as not robust.</p>
<p><b>Robust accuracy under a fixed attack is an upper bound.</b> It says that these attacks failed on these images, not that none can succeed: a stronger attack, more steps and restarts, or one made for this defence can only lower the number. It is not a certificate. Treat a defence with suspicion where a one-step attack does better than one of many steps, or where accuracy does not fall to zero as &epsilon; grows: then its gradients may be masked rather than its predictions robust.</p>
<p>The <b>intervals</b> are exact (Clopper-Pearson): whatever the true rate over all images of this kind, at least 95 % of such intervals hold it. They cover the choice of the images alone, not that of the training seed; for that, train several times. Where models were attacked on the same images, differences between them are more certain than overlapping intervals suggest.</p></section>
)";
}

}  // namespace detail

/// The report's page as text, from records as `collect_records` gives them. Throws ValueError where there is no record
/// or a field is missing or not what it should be (naming record and field).
inline std::string render_report(const std::vector<nlohmann::json>& records) {
  require(!records.empty(), "report: got no records, expected at least one training or attack");
  const Results results = read_records(records);
  const auto models = detail::group_models(results);
  const std::string data = join(detail::distinct(results, &Origin::data));
  const auto dates = detail::distinct(results, &Origin::date);
  const auto versions = detail::distinct(results, &Origin::version);
  const std::string title = "Robustness report: " + data;
  std::string notes;
  for (const auto& note : detail::distinct(results, &Origin::data_note)) {
    notes += "<p class=\"note\">" + escape(note) + "</p>\n";
  }
  std::string footer = detail::plural(records.size(), "record");
  footer += dates.empty() ? "" : ", the last of " + *std::max_element(dates.begin(), dates.end());
  const std::pair<const char*, std::string> sections[] = {
      {"All defences", detail::families_section(results)},
      {"Growing attack", detail::sweep_section(models, results)},
      {"Curves", detail::charts_section(models, results)},
      {"Accuracy", detail::accuracy_section(models, results)},
      {"Verdicts", detail::evaluation_section(models, results)},
      {"Certificates", detail::certification_section(results.certification, results.attacks)},
      {"Bounds", detail::bounds_section(results.bounds)},
      {"Distillation", detail::distillation_section(results.distillation)},
      {"Filters", detail::filter_section(results.filters)},
      {"Detection", detail::detection_section(results.detection)},
      {"Images", detail::gallery_section(models, results)},
      {"Training", detail::training_section(models)},
      {"How to read this", detail::reading_section()},
      {"Commands", detail::origins_section(models, results)}};
  std::string contents;
  std::string body;
  for (const auto& [name, section] : sections) {
    if (!section.empty()) {
      constexpr std::string_view kStart = "<section id=\"";
      const std::string id = section.substr(kStart.size(), section.find('"', kStart.size()) - kStart.size());
      contents += concat("<a href=\"#", id, "\">", name, "</a>\n");
      body += section;
    }
  }
  return concat(
      "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n<meta http-equiv=\"Content-"
      "Security-Policy\" content=\"",
      detail::script_policy(), "\">\n<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n<title>",
      escape(title), "</title>\n<style>\n", chart_style(), detail::page_style(), detail::evaluation_style(),
      detail::filter_style(), "</style>\n</head>\n<body class=\"pv-colours\">\n", notes, "<h1>", escape(title),
      "</h1>\n<nav aria-label=\"Sections\">\n", contents,
      "<button type=\"button\" class=\"theme\" id=\"theme\">Dark colours</button></nav>\n",
      detail::summary_section(models, results), body, "<footer>Pavise", versions.empty() ? "" : " ",
      escape(join(versions)), ", from ", escape(footer), ".</footer>\n<script>", detail::kScript,
      "</script>\n</body>\n</html>\n");
}

/// Writes the report of `records` and returns the path of its page: `path` itself where it ends in ".html", otherwise
/// index.html in the directory `path`, which is made where it is missing. The page is replaced in one step: on failure
/// the old one is as it was. Throws ValueError as `render_report` does, and IoError where the page cannot be written.
inline std::string write_report(const std::vector<nlohmann::json>& records, const std::string& path) {
  namespace fs = std::filesystem;
  const std::string page = render_report(records);
  const fs::path file = fs::path(path).extension() == ".html" ? fs::path(path) : fs::path(path) / "index.html";
  std::error_code error;
  if (file.has_parent_path()) {
    fs::create_directories(file.parent_path(), error);
    require<IoError>(!error, "report: ", file.parent_path().string(), " cannot be made: ", error.message());
  }
  io::write_atomically(file.string(), std::string_view(page));
  return file.string();
}

}  // namespace pavise::report
