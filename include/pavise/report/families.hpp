// SPDX-License-Identifier: MIT
// The report's table of all families of defences side by side: preprocessing, adversarial training, noise, distillation,
// assurance, and scrutiny, which is what the columns of attacks and verdicts are about. A number that no record has is
// "not measured".
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/report/certification.hpp"
#include "pavise/report/detection.hpp"
#include "pavise/report/page.hpp"

namespace pavise::report::detail {

enum class Family : std::uint8_t { none, preprocessing, adversarial_training, noise, distillation, assurance };

struct FamilyName {
  Family family;
  const char* name;
  const char* words;
};
inline constexpr std::array<FamilyName, 6> kFamilies{
    {{Family::none, "No defence", "what the others are compared with"},
     {Family::preprocessing, "Preprocessing", "filters of the input, and detectors made of them"},
     {Family::adversarial_training, "Adversarial training", "on images that an attack made"},
     {Family::noise, "Noise", "training with noise, and the majority vote over it"},
     {Family::distillation, "Distillation", "training on another network's answers at a high temperature"},
     {Family::assurance, "Assurance", "training for bounds that are proved"}}};

/// The family of a model trained by `defense`, as records name it.
inline Family family_of(std::string_view defense) {
  const auto is = [&](std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), defense) != names.end();
  };
  return is({"", "none", "unknown"})                                          ? Family::none
         : is({"gaussian", "stability", "macer", "consistency", "smoothadv"}) ? Family::noise
         : is({"ibp", "crown-ibp"})                                           ? Family::assurance
         : defense.find("distill") != std::string_view::npos                  ? Family::distillation
                                                                              : Family::adversarial_training;
}

inline Family family_of(const AttackRecord& r) {
  return !r.filters.empty() || !r.detector.empty() ? Family::preprocessing
         : r.smooth                                ? Family::noise
                                                   : family_of(r.defense);
}

/// Whether an attack was made for what the defence is: a suite that follows what the model declares, or one through the
/// filters, the noise or the detector. An attack off the shelf, made on another model or without the filters, is not.
inline bool adaptive(const AttackRecord& r) {
  if (r.setting("filter_attack") == "unaware" || !r.setting("surrogate").empty()) {
    return false;
  }
  return r.evaluation || !r.filters.empty() || !r.detector.empty() || r.smooth;
}

/// A number of the table, what it was measured with, and the place of the page that tells more.
struct FamilyCell {
  Count count;
  std::string words;
  std::string link;
};

/// One defence within one ball.
struct FamilyRow {
  Family family = Family::none;
  std::string label;
  std::string data;
  std::string norm;
  double epsilon = 0;
  std::optional<double> smooth;  ///< sigma of the noise whose majority vote it is
  std::optional<FamilyCell> clean, naive, adaptive, certified;
  std::string verdict;
  std::string verdict_link;
  std::optional<std::string> attack_cost;
  std::vector<std::string> cost;
};

class FamilyTable {
 public:
  explicit FamilyTable(const Results& results) : results_(results) {
    for (const auto& r : results.attacks) {
      add(r);
    }
    for (const auto& r : results.filters) {
      add(r);
    }
    for (const auto& r : results.detection) {
      add(r);
    }
    for (const auto& r : results.distillation) {
      add(r);
    }
    for (const auto& r : results.bounds) {
      add(r);
    }
    for (const auto& r : results.certification) {
      add(r);
    }
    for (auto& row : rows_) {
      add_costs(row);
    }
  }

  const std::vector<FamilyRow>& rows() const { return rows_; }

 private:
  FamilyRow& row(Family family, const std::string& label, const std::string& data, const std::string& norm,
                 double epsilon) {
    for (auto& r : rows_) {
      if (r.label == label && r.data == data && r.norm == norm && r.epsilon == epsilon) {
        return r;
      }
    }
    FamilyRow& out = rows_.emplace_back();
    out.family = family;
    out.label = label;
    out.data = data;
    out.norm = norm;
    out.epsilon = epsilon;
    return out;
  }

  /// The accuracy over the most images.
  static void set_clean(FamilyRow& to, FamilyCell cell) {
    if (!to.clean || cell.count.total > to.clean->count.total) {
      to.clean = std::move(cell);
    }
  }
  /// The least that any attack left.
  static bool set_robust(std::optional<FamilyCell>& to, FamilyCell cell) {
    const bool less = !to || cell.count.share() < to->count.share();
    if (less) {
      to = std::move(cell);
    }
    return less;
  }

  void add(const AttackRecord& r) {
    FamilyRow& to = row(family_of(r), r.label, r.data, r.norm, r.epsilon);
    const std::string link = anchor(r, results_);
    to.smooth = r.smooth;
    set_clean(to, {r.clean, "", link});
    const bool made_for_it = detail::adaptive(r);
    const bool had_adaptive = to.adaptive.has_value();
    std::string words = attack_name(r.attack);
    words +=
        r.setting("filter_attack") == "unaware" || !r.setting("surrogate").empty() ? ", made on another model" : "";
    const bool less = set_robust(made_for_it ? to.adaptive : to.naive, {r.robust, words, link});
    if (less && r.passes_at_epsilon && (made_for_it || !had_adaptive)) {
      const double each = static_cast<double>(*r.passes_at_epsilon) / static_cast<double>(r.robust.total);
      to.attack_cost = concat("attack ", grouped(std::llround(each)), " passes an image");
    }
    if (r.evaluation && (less || to.verdict.empty())) {
      to.verdict = r.evaluation->verdict;
      to.verdict_link = "evaluation";
    }
  }

  void add(const FilterRecord& r) {
    for (const auto& p : r.points) {
      const std::string label = p.filters.empty() ? r.label : concat(r.label, ", behind ", p.filters);
      FamilyRow& to =
          row(p.filters.empty() ? family_of(r.defense) : Family::preprocessing, label, r.data, r.norm, r.epsilon);
      set_clean(to, {p.clean, "", "filters"});
      set_robust(to.naive, {p.unaware, "APGD, unaware", "filters"});
      set_robust(to.adaptive, {p.adaptive, "APGD and Square", "filters"});
    }
  }

  void add(const DetectionRecord& r) {
    FamilyRow& to = row(Family::preprocessing, concat(r.label, ", feature squeezing"), r.data, r.norm, r.epsilon);
    set_clean(to, {r.clean_served, "correct and not flagged", "detection"});
    for (const auto& attack : r.rows) {
      if (!attack.adaptive && attack.within_threat && attack.tried > 0) {
        set_robust(to.naive, {{attack.tried - attack.evaded, attack.tried},
                              concat(attack_name(attack.name), ", of the images attacked"),
                              "detection"});
      }
    }
    const bool knew = std::any_of(r.rows.begin(), r.rows.end(), [](const auto& a) { return a.adaptive; });
    if (knew) {
      set_robust(to.adaptive, {r.robust_served, "correct, not flagged", "detection"});
    }
    to.verdict = detection_verdict(r).word;
    to.verdict_link = "detection";
  }

  /// The highest temperature of the sweep.
  void add(const DistillationRecord& r) {
    const auto& p = *std::max_element(r.points.begin(), r.points.end(),
                                      [](const auto& a, const auto& b) { return a.temperature < b.temperature; });
    FamilyRow& to =
        row(Family::distillation, concat(r.label, ", T = ", significant(p.temperature, 4)), r.data, "linf", r.epsilon);
    set_clean(to, {p.student, "", "distillation"});
    const auto left = [&](const Count& fooled, const char* words) {
      const bool all = fooled.total == p.student.correct;  // all images that were right were attacked
      return FamilyCell{{fooled.total - fooled.correct, all ? p.student.total : fooled.total},
                        concat(words, all ? "" : ", of the images attacked"),
                        "distillation"};
    };
    if (p.fgsm.total > 0) {
      set_robust(to.naive, left(p.fgsm, "FGSM"));
    }
    if (p.apgd_dlr.total > 0) {
      set_robust(to.adaptive, left(p.apgd_dlr, "APGD on logits"));
    }
    to.verdict = "unreliable";
    to.verdict_link = "distillation";
  }

  void add(const BoundsRecord& r) {
    const auto* training = training_of(r.label);
    FamilyRow& to =
        row(training == nullptr ? Family::assurance : family_of(training->defense), r.label, r.data, r.norm, r.epsilon);
    set_clean(to, {r.clean, "", "bounds"});
    if (!to.certified || r.certified.share() > to.certified->count.share()) {
      to.certified = FamilyCell{r.certified, concat("by bounds, ", r.method), "bounds"};
      if (r.seconds) {
        to.cost.push_back(
            concat("certificate ", significant(*r.seconds / static_cast<double>(r.clean.total), 2), " s an image"));
      }
    }
  }

  /// Into the rows of the smoothed model whose radius the record has; where there are none, a row of its own at the
  /// middle one of its radii.
  void add(const CertificationRecord& r) {
    if (r.noise == "gaussian-unsound") {
      return;  // proves nothing
    }
    const double mean = static_cast<double>(std::accumulate(r.samples.begin(), r.samples.end(), std::int64_t{0})) /
                        static_cast<double>(r.samples.size());
    const auto fill = [&](FamilyRow& to, const Count& certified) {
      if (to.certified && to.certified->count.share() >= certified.share()) {
        return;
      }
      to.certified = FamilyCell{certified, concat("by noise, alpha ", significant(r.alpha, 2)), "certificates"};
      to.cost.push_back(concat("certificate ", grouped(std::llround(mean)), " samples an image"));
    };
    bool found = false;
    for (auto& to : rows_) {
      const bool same = to.smooth == r.scale && to.label.starts_with(r.label + ", smoothed ") && to.data == r.data;
      for (const auto& p : r.curve) {
        if (same && to.norm == r.norm && p.radius == to.epsilon) {
          fill(to, p.certified);
          found = true;
        }
      }
    }
    if (!found) {
      const auto& p = r.curve[r.curve.size() / 2];
      FamilyRow& to = row(Family::noise, certification_name(r), r.data, r.norm, p.radius);
      fill(to, p.certified);
    }
  }

  /// The training of the model with this label, which may go on with what is in front of the model.
  const TrainingRecord* training_of(const std::string& label) const {
    const TrainingRecord* out = nullptr;
    for (const auto& r : results_.training) {
      const bool same = label == r.label || label.starts_with(r.label + ", ");
      out = same && (out == nullptr || r.label.size() >= out->label.size()) ? &r : out;
    }
    return out;
  }

  void add_costs(FamilyRow& to) const {
    if (to.attack_cost) {
      to.cost.insert(to.cost.begin(), *to.attack_cost);
    }
    const auto* training = training_of(to.label);
    if (training != nullptr && training->seconds) {
      to.cost.insert(to.cost.begin(), concat("training ", duration(*training->seconds)));
    }
  }

  const Results& results_;
  std::vector<FamilyRow> rows_;
};

inline std::string family_cell(const std::optional<FamilyCell>& cell) {
  if (!cell) {
    return "<td class=\"num none\">not measured</td>";
  }
  return concat("<td class=\"num\"><a href=\"#", cell->link, "\"><b>", escape(percent_words(cell->count)),
                "</b></a><small>", interval_words(cell->count), "</small><small>", count_words(cell->count),
                cell->words.empty() ? std::string() : concat("</small><small>", escape(cell->words)), "</small></td>");
}

inline std::string family_row(const FamilyRow& r) {
  std::string costs;
  for (const auto& cost : r.cost) {
    costs += concat("<small>", escape(cost), "</small>");
  }
  return concat("<tr><td><b>", escape(r.label), "</b><small>", escape(r.data), "</small></td><td>",
                escape(norm_name(r.norm)), " ", significant(r.epsilon, 6), "</td>", family_cell(r.clean),
                family_cell(r.naive), family_cell(r.adaptive),
                r.verdict.empty() ? std::string("<td class=\"none\">not measured</td>")
                                  : concat("<td><a class=\"word ", escape(r.verdict), "\" href=\"#", r.verdict_link,
                                           "\">", escape(r.verdict), "</a></td>"),
                family_cell(r.certified),
                costs.empty() ? "<td class=\"none\">not measured</td>" : "<td>" + costs + "</td>", "</tr>\n");
}

/// What is known of the attacks above, for the last family.
inline std::string scrutiny_words(const std::vector<FamilyRow>& rows) {
  const auto count = [&](auto holds) {
    return static_cast<std::int64_t>(std::count_if(rows.begin(), rows.end(), holds));
  };
  std::vector<std::string> verdicts;
  for (const char* word : {"reliable", "unreliable", "undecided", "broken"}) {
    if (const auto n = count([&](const FamilyRow& r) { return r.verdict == word; }); n > 0) {
      verdicts.push_back(concat(n, " ", word));
    }
  }
  return concat("breaking one's own defence: of ", plural(rows.size(), "row"), " ",
                count([](const FamilyRow& r) { return r.adaptive.has_value(); }),
                " met an attack made for the defence; verdicts: ", verdicts.empty() ? "none" : listed(verdicts));
}

/// The table's section; empty where nothing but training is recorded.
inline std::string families_section(const Results& results) {
  const FamilyTable table(results);
  if (table.rows().empty()) {
    return "";
  }
  std::string body;
  const auto head = [](std::string_view name, std::string_view words, bool initial = true) {
    return concat("<tr><th colspan=\"8\" scope=\"rowgroup\">",
                  initial ? concat("<b>", name.substr(0, 1), "</b>", name.substr(1)) : std::string(name), " <small>",
                  words, "</small></th></tr>\n");
  };
  for (const auto& f : kFamilies) {
    std::string rows;
    for (const auto& r : table.rows()) {
      rows += r.family == f.family ? family_row(r) : "";
    }
    body += head(f.name, rows.empty() ? concat(f.words, ": not measured") : std::string(f.words),
                 f.family != Family::none) +
            rows;
  }
  body += head("Scrutiny", escape(scrutiny_words(table.rows())));
  return concat(
      "<section id=\"families\"><h2>All defences side by side</h2>\n<div class=\"scroll\" tabindex=\"0\" "
      "role=\"region\" aria-label=\"All defences side by side\"><table class=\"families\"><thead><tr><th>Defence</th>"
      "<th>Within</th><th class=\"num\">Clean<small>no attack</small></th><th class=\"num\">Naive attack<small>off the "
      "shelf</small></th><th class=\"num\">Adaptive attack<small>made for the defence</small></th><th>Verdict</th><th "
      "class=\"num\">Certified<small>proved</small></th><th>Cost</th></tr></thead><tbody>\n",
      body,
      "</tbody></table></div>\n<p><small>Images classified correctly, the exact (Clopper-Pearson) 95 % interval, and "
      "what was run. A naive attack does not know the defence, or follows the gradient as it is; an adaptive one is "
      "made for it: through the filter, over the noise, against the detector, or a suite that follows what the model "
      "declares. Of several attacks the one that left least counts. Accuracy under an attack is an upper bound, what "
      "is certified a lower one. \u201CNot measured\u201D: no record here says it.</small></p></section>\n");
}

}  // namespace pavise::report::detail
