// SPDX-License-Identifier: MIT
// The pieces of the report's page: how models, attacks and numbers are named and ordered in it.
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

inline std::string norm_name(const std::string& norm) {
  return norm == "linf" ? "L\u221E" : norm == "l2" ? "L\u2082" : norm == "l1" ? "L\u2081" : norm;
}

inline std::string attack_name(const std::string& attack) {
  for (const auto& [name, shown] : {std::pair("fgsm", "FGSM"), std::pair("bim", "BIM"), std::pair("pgd", "PGD"),
                                    std::pair("auto", "AutoAttack"), std::pair("quick", "the quick suite")}) {
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

  /// What the model's evaluation within this ball says of its own number; empty where there is none.
  std::string verdict(const Model& model) const {
    std::string out;
    for (const auto* r : model.attacks) {
      out = holds(*r) && r->evaluation ? r->evaluation->verdict : out;
    }
    return out;
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

inline std::string figure(const std::string& svg, std::string_view caption = "", const std::string& more = "") {
  return concat("<figure class=\"chart\">", svg,
                caption.empty() ? std::string() : concat("<figcaption>", escape(caption), "</figcaption>"), more,
                "</figure>\n");
}

}  // namespace pavise::report::detail
