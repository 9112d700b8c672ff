// SPDX-License-Identifier: MIT
// The pieces of the report's page: its style, and how models, attacks and numbers are named and ordered in it.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <iterator>
#include <string>
#include <string_view>
#include <tuple>
#include <utility>
#include <vector>

#include "pavise/report/record.hpp"
#include "pavise/report/svg.hpp"
#include "pavise/report/text.hpp"

namespace pavise::report::detail {

inline std::string page_style() {
  return R"(:root{color-scheme:light dark;--ink:#1f2328;--soft:#59636e;--line:#d8dde3;--paper:#fff;--card:#f6f8fa;--link:#0b5cad;--note:#fff4d6;--edge:#d9a400}
@media (prefers-color-scheme:dark){@media screen{:root{--ink:#e6e8eb;--soft:#9ba4ae;--line:#343b43;--paper:#16191d;--card:#1e2329;--link:#6cb2f5;--note:#3a2f10;--edge:#d9a400}}}
*{box-sizing:border-box}
body{margin:0 auto;padding:20px clamp(12px,3vw,32px) 40px;max-width:1180px;background:var(--paper);color:var(--ink);font:15px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif}
h1{font-size:1.7rem;line-height:1.2;margin:.4em 0 .1em}h2{font-size:1.2rem;margin:2em 0 .5em;padding-bottom:.25em;border-bottom:1px solid var(--line)}h3{font-size:1rem;margin:1.2em 0 .4em}
p{margin:.5em 0;max-width:80ch}a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}small,.soft{color:var(--soft);font-size:.85rem}
.note{background:var(--note);border-left:4px solid var(--edge);padding:.6em .9em;margin:0 0 1em;border-radius:4px;font-weight:600;max-width:none}
.lead{font-size:1.05rem}
.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(190px,1fr));gap:12px;margin:1em 0}
.tile{background:var(--card);border-radius:8px;border-top:4px solid;padding:.7em .9em}.tile b{display:block}.tile .big{display:block;font-size:1.75rem;font-weight:650;line-height:1.25;font-variant-numeric:tabular-nums}.tile span{display:block}
.scroll{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}th,td{padding:.45em .8em .45em 0;text-align:left;vertical-align:top;border-bottom:1px solid var(--line)}
th{font-weight:600;font-size:.9rem}th small{font-weight:400;display:block}td.num,th.num{text-align:right;white-space:nowrap;padding-right:1.2em}th.num{white-space:normal}td:first-child{min-width:8.5em}td.num b{font-size:1.05rem}td.num small{display:block}
.dot{display:inline-block;width:.7em;height:.7em;border-radius:50%;margin-right:.45em}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,460px),1fr));gap:18px}
.charts.three{grid-template-columns:repeat(auto-fit,minmax(min(100%,320px),1fr))}figure{margin:0;min-width:0}figure.chart{overflow-x:auto}figure.chart svg{display:block;width:100%;min-width:400px;max-width:600px}.charts.three figure.chart svg{min-width:300px;max-width:480px}figcaption{color:var(--soft);font-size:.85rem}
.gallery{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,310px),1fr));gap:14px}
.shot{background:var(--card);border-radius:8px;padding:10px;break-inside:avoid}.shot .three{display:grid;grid-template-columns:repeat(3,1fr);gap:6px}.shot img{display:block;width:100%;max-width:112px;aspect-ratio:auto;image-rendering:pixelated;border-radius:3px}
.shot .three span{font-size:.75rem;color:var(--soft);line-height:1.3;overflow-wrap:anywhere}.shot .three b{display:block;color:var(--ink);font-weight:600}.shot figcaption{margin-bottom:5px}
code{font:.82rem/1.45 ui-monospace,"SF Mono",Consolas,"DejaVu Sans Mono",monospace}
.command{display:block;background:var(--card);border:1px solid var(--line);border-radius:6px;padding:.5em .7em;white-space:pre-wrap;overflow-wrap:anywhere;user-select:all;-webkit-user-select:all}
.origin{margin:0 0 14px;padding:0 0 2px;break-inside:avoid}.origin p{margin:.1em 0 .3em;max-width:none}.origin:target .command{border-color:var(--link);box-shadow:0 0 0 1px var(--link)}
.facts{color:var(--soft);font-size:.85rem}footer{margin-top:3em;color:var(--soft);font-size:.85rem}
@media (max-width:560px){body{font-size:14px}h1{font-size:1.4rem}.tiles{grid-template-columns:1fr 1fr}}
@media print{body{max-width:none;padding:0;font-size:10.5pt}.charts{grid-template-columns:1fr 1fr}figure.chart svg{min-width:0}h2{break-after:avoid}figure,tr{break-inside:avoid}.tile,.shot,.command{border:1px solid var(--line)}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
)";
}

inline std::string norm_name(const std::string& norm) {
  return norm == "linf" ? "L\u221E" : norm == "l2" ? "L\u2082" : norm == "l1" ? "L\u2081" : norm;
}

inline std::string attack_name(const std::string& attack) {
  for (const auto& [name, shown] : {std::pair("fgsm", "FGSM"), std::pair("bim", "BIM"), std::pair("pgd", "PGD")}) {
    if (attack == name) {
      return shown;
    }
  }
  return attack;
}

/// "L∞ ε = 0.1"
inline std::string ball(const AttackRecord& r) { return norm_name(r.norm) + " \u03B5 = " + significant(r.epsilon, 6); }

/// Settings in words: "steps 50, restarts 10". JSON objects are unordered; what matters most comes first.
inline std::string settings(const Origin& r) {
  static constexpr std::string_view kFirst[] = {"epochs", "steps", "restarts", "step_size", "epsilon"};
  const auto rank = [](const auto& entry) {
    return std::find(std::begin(kFirst), std::end(kFirst), entry.first) - std::begin(kFirst);
  };
  auto recipe = r.recipe;
  std::stable_sort(recipe.begin(), recipe.end(), [&](const auto& a, const auto& b) { return rank(a) < rank(b); });
  std::vector<std::string> pieces;
  for (const auto& [key, value] : recipe) {
    std::string name = key;
    std::replace(name.begin(), name.end(), '_', ' ');
    pieces.push_back(concat(name, " ", value));
  }
  return join(pieces);
}

/// "60.3 to 66.4 %"
inline std::string interval_words(const Count& c) {
  const auto i = c.interval();
  return fixed(100 * i.low, 1) + " to " + fixed(100 * i.high, 1) + " %";
}

/// "634 of 1,000"
inline std::string count_words(const Count& c) { return grouped(c.correct) + " of " + grouped(c.total); }

inline std::string percent_words(const Count& c) { return percent(c.correct, c.total) + " %"; }

/// "63.4 % (634 of 1,000; 95 % interval 60.3 to 66.4 %)"
inline std::string full_words(const Count& c) {
  return percent_words(c) + " (" + count_words(c) + "; 95 % interval " + interval_words(c) + ")";
}

/// "Plain, FGSM-RS and PGD-7"
inline std::string listed(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size(); ++i) {
    out += i == 0 ? "" : i + 1 == names.size() ? " and " : ", ";
    out += names[i];
  }
  return out;
}

/// "1 model", "3 models"
inline std::string plural(std::size_t n, std::string_view what) {
  return concat(grouped(static_cast<std::int64_t>(n)), " ", what, n == 1 ? "" : "s");
}

/// The page's elements with the same colours as the charts'.
inline std::string dot(std::size_t index) {
  return concat("<span class=\"dot\" style=\"background:", colour(index), "\"></span>");
}

/// A record's place on the page where its command stands.
inline std::string anchor(const TrainingRecord& r, const Results& all) {
  return concat("training-", static_cast<std::size_t>(&r - all.training.data()) + 1);
}
inline std::string anchor(const AttackRecord& r, const Results& all) {
  return concat("attack-", static_cast<std::size_t>(&r - all.attacks.data()) + 1);
}

/// All records of one label.
struct Model {
  std::string label;
  std::vector<const TrainingRecord*> training;
  std::vector<const AttackRecord*> attacks;

  /// The clean accuracy over the most images.
  const AttackRecord* clean() const {
    const AttackRecord* best = nullptr;
    for (const auto* r : attacks) {
      best = best == nullptr || r->clean.total > best->clean.total ? r : best;
    }
    return best;
  }
};

/// The models in the order of their training, then those without a training record in the order of their attacks.
inline std::vector<Model> group_models(const Results& results) {
  std::vector<Model> out;
  const auto model = [&](const std::string& label) -> Model& {
    for (auto& m : out) {
      if (m.label == label) {
        return m;
      }
    }
    out.push_back({label, {}, {}});
    return out.back();
  };
  // Dates are ISO 8601: their order as text is their order in time. Records without one keep their place behind.
  const auto by_date = [](const Origin* a, const Origin* b) {
    return std::tuple(a->date.empty(), a->date) < std::tuple(b->date.empty(), b->date);
  };
  std::vector<const TrainingRecord*> training;
  std::vector<const AttackRecord*> attacks;
  for (const auto& r : results.training) {
    training.push_back(&r);
  }
  for (const auto& r : results.attacks) {
    attacks.push_back(&r);
  }
  std::stable_sort(training.begin(), training.end(), by_date);
  std::stable_sort(attacks.begin(), attacks.end(), by_date);
  for (const auto* r : training) {
    model(r->label).training.push_back(r);
  }
  for (const auto* r : attacks) {
    model(r->label).attacks.push_back(r);
  }
  return out;
}

/// Attacks within the same ball: comparable numbers.
struct Threat {
  std::string norm;
  double epsilon = 0;
  std::string words;

  bool holds(const AttackRecord& r) const { return r.norm == norm && r.epsilon == epsilon; }

  /// The attack within this ball that left the fewest images correct; null where the model was not attacked within it.
  const AttackRecord* strongest(const Model& model) const {
    const AttackRecord* worst = nullptr;
    for (const auto* r : model.attacks) {
      if (holds(*r) && (worst == nullptr || r->robust.share() < worst->robust.share())) {
        worst = r;
      }
    }
    return worst;
  }
};

inline std::vector<Threat> threats(const Results& results) {
  std::vector<Threat> out;
  for (const auto& r : results.attacks) {
    if (std::none_of(out.begin(), out.end(), [&](const Threat& t) { return t.holds(r); })) {
      out.push_back({r.norm, r.epsilon, ball(r)});
    }
  }
  std::sort(out.begin(), out.end(), [](const Threat& a, const Threat& b) {
    return std::tuple(a.norm, a.epsilon) < std::tuple(b.norm, b.epsilon);
  });
  return out;
}

/// The threat that most models were attacked with: the one that the summary speaks of; of several the one with most
/// records, then the largest epsilon.
inline const Threat& main_threat(const std::vector<Threat>& all, const std::vector<Model>& models) {
  const auto weight = [&](const Threat& t) {
    std::size_t attacked = 0;
    std::size_t records = 0;
    for (const auto& m : models) {
      attacked += t.strongest(m) != nullptr ? 1 : 0;
      records += static_cast<std::size_t>(
          std::count_if(m.attacks.begin(), m.attacks.end(), [&](const auto* r) { return t.holds(*r); }));
    }
    return std::tuple(attacked, records, t.epsilon);
  };
  return *std::max_element(all.begin(), all.end(),
                           [&](const Threat& a, const Threat& b) { return weight(a) < weight(b); });
}

inline Point accuracy_point(double x, const Count& c, std::string_view what) {
  const auto i = c.interval();
  return {x, 100 * c.share(), {}, evaluate::Interval{100 * i.low, 100 * i.high}, concat(what, ": ", full_words(c))};
}

inline std::string figure(const std::string& svg, std::string_view caption = "") {
  return concat("<figure class=\"chart\">", svg,
                caption.empty() ? std::string() : concat("<figcaption>", escape(caption), "</figcaption>"),
                "</figure>\n");
}

}  // namespace pavise::report::detail
