// SPDX-License-Identifier: MIT
// The report's section with the slider: the same images of every model as the radius of the attack grows. Without the
// page's script, and on paper, all radii stand side by side.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <vector>

#include "pavise/report/gallery.hpp"
#include "pavise/report/page.hpp"

namespace pavise::report::detail {

inline constexpr std::size_t kSweepImages = 8;

/// A model's attack in the section.
struct SweepShown {
  const AttackRecord* record;
  std::size_t colour;
};

/// Whether one slider can show both: the same images under the same radii of one norm.
inline bool same_sweep(const AttackRecord& a, const AttackRecord& b) {
  const auto& x = *a.sweep;
  const auto& y = *b.sweep;
  return a.data == b.data && a.norm == b.norm && x.images == y.images &&
         std::equal(x.steps.begin(), x.steps.end(), y.steps.begin(), y.steps.end(),
                    [](const auto& s, const auto& t) { return s.epsilon == t.epsilon; });
}

inline std::string radius_words(double epsilon) { return "\u03B5 = " + significant(epsilon, 6); }

/// What is left of the accuracy at each radius.
inline std::string sweep_head(const AttackRecord& r) {
  std::string out;
  for (std::size_t k = 0; k < r.sweep->steps.size(); ++k) {
    const double epsilon = r.sweep->steps[k].epsilon;
    const auto found =
        std::find_if(r.curve.begin(), r.curve.end(), [&](const auto& p) { return p.epsilon == epsilon; });
    out += concat("<div class=\"frame\" data-step=\"", k, "\"><b class=\"radius\">", radius_words(epsilon), "</b> ",
                  found == r.curve.end() ? std::string()
                                         : concat("<span>", escape(percent_words(found->count)), " stand <small>",
                                                  interval_words(found->count), "</small></span>"),
                  "</div>");
  }
  return concat("<div class=\"frames head\">", out, "</div>\n");
}

/// One image at each radius.
inline std::string sweep_image(const AttackRecord& r, std::size_t index) {
  const SweepRecord& sweep = *r.sweep;
  const auto& image = sweep.images[index];
  std::string out;
  for (std::size_t k = 0; k < sweep.steps.size(); ++k) {
    const auto& shown = sweep.steps[k].images[index];
    const std::string taken = shown.prediction < 0 ? "none" : class_words(r, shown.prediction);
    const std::string confidence = shown.confidence ? " " + fixed(100 * *shown.confidence, 0) + " %" : "";
    out += concat("<div class=\"frame", shown.fooled ? " fooled" : "", "\" data-step=\"", k, "\"><img alt=\"Image ",
                  image.index, " at ", radius_words(sweep.steps[k].epsilon), "\" src=\"",
                  png_data_uri(plain_picture(sweep, shown.pixels)), "\"><span><b>",
                  shown.fooled ? "\u2717 " : "\u2713 ", escape(taken), "</b>", confidence, "</span></div>");
  }
  return concat("<div class=\"image\"><p>", escape(class_words(r, image.label)), " <small>image ", image.index,
                "</small></p><div class=\"frames\">", out, "</div></div>\n");
}

/// The models that one slider moves.
inline std::string sweep_block(const std::vector<SweepShown>& group, std::size_t number, const Results& results) {
  const AttackRecord& first = *group.front().record;
  const auto& steps = first.sweep->steps;
  std::size_t start = steps.size() - 1;  // the radius that the attack is quoted for, where it is among them
  for (std::size_t k = 0; k < steps.size(); ++k) {
    start = steps[k].epsilon == first.epsilon ? k : start;
  }
  std::string out =
      concat("<div class=\"sweep\" style=\"--steps:", steps.size(), "\">\n<div class=\"slider\"><label for=\"sweep-",
             number, "\">Radius of the attack in ", escape(norm_name(first.norm)), ", ", escape(first.data),
             "</label><input type=\"range\" id=\"sweep-", number, "\" min=\"0\" max=\"", steps.size() - 1,
             "\" step=\"1\" value=\"", start, "\" autocomplete=\"off\"><output for=\"sweep-", number, "\">",
             radius_words(steps[start].epsilon), "</output></div>\n");
  for (const auto& [record, colour] : group) {
    out += concat("<h3>", dot(colour), escape(record->label), " <small>under <a href=\"#", anchor(*record, results),
                  "\">", escape(attack_name(record->attack)), "</a></small></h3>\n", sweep_head(*record),
                  "<div class=\"images\">\n");
    for (std::size_t i = 0; i < std::min(record->sweep->images.size(), kSweepImages); ++i) {
      out += sweep_image(*record, i);
    }
    out += "</div>\n";
  }
  return out + "</div>\n";
}

/// The section; empty where no record has images at several radii.
inline std::string sweep_section(const std::vector<Model>& models, const Results& results) {
  std::vector<std::vector<SweepShown>> groups;
  for (std::size_t i = 0; i < models.size(); ++i) {
    for (const auto* r : models[i].attacks) {
      if (!r->sweep) {
        continue;
      }
      const auto group =
          std::find_if(groups.begin(), groups.end(), [&](const auto& g) { return same_sweep(*g.front().record, *r); });
      if (group == groups.end()) {
        groups.push_back({{r, i}});
      } else {
        group->push_back({r, i});
      }
    }
  }
  std::string out;
  for (std::size_t g = 0; g < groups.size(); ++g) {
    out += sweep_block(groups[g], g + 1, results);
  }
  return out.empty()
             ? out
             : concat(
                   "<section id=\"sweep\"><h2>The same images as the attack grows</h2>\n<p>The first images of the "
                   "test set, not chosen. Under each the model's prediction and its confidence, with \u2713 where "
                   "it is right and \u2717 where it is not; an image that was wrong from the start is left as it "
                   "is. Every radius is an attack of its own.</p>\n",
                   out, "</section>\n");
}

}  // namespace pavise::report::detail
