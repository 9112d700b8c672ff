// SPDX-License-Identifier: MIT
// The report's section on filters of the input: what they do to images, and what they are worth.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "pavise/report/filter_record.hpp"
#include "pavise/report/gallery.hpp"
#include "pavise/report/page.hpp"

namespace pavise::report::detail {

inline std::string filter_table(const FilterRecord& r) {
  std::string rows;
  for (const auto& p : r.points) {
    rows += concat("<tr><td><b>", p.filters.empty() ? std::string("none") : escape(p.filters), "</b></td><td>",
                   p.random ? "random" : "fixed", p.differentiable ? "" : ", not differentiable", "</td>");
    for (const Count* c : {&p.clean, &p.unaware, &p.adaptive}) {
      rows += concat("<td class=\"num\"><b>", escape(percent_words(*c)), "</b><small>", interval_words(*c),
                     "</small></td>");
    }
    rows += "</tr>\n";
  }
  return concat(
      "<div class=\"scroll\"><table><thead><tr><th>Filter</th><th>Declares</th><th class=\"num\">Clean</th><th "
      "class=\"num\">Unaware attack<small>made on the model alone</small></th><th class=\"num\">Adaptive "
      "attack<small>made for the filter</small></th></tr></thead><tbody>\n",
      rows, "</tbody></table></div>\n<p><small>Images classified correctly, with the exact 95 % interval, within ",
      escape(norm_name(r.norm)), " \u03B5 = ", significant(r.epsilon, 6),
      ". Both attacks are APGD on cross-entropy and on logits; the adaptive one has expectation over the draws of a "
      "random filter, a substitute in the backward pass of one that is not differentiable, and Square.</small></p>\n");
}

/// Images before and after each filter.
inline std::string filter_images(const FilterRecord& r) {
  std::string out;
  const auto same = [](double v, std::size_t) { return v; };
  for (const auto& item : r.items) {
    out += concat("<figure class=\"shot\"><figcaption>Image ", item.index, "</figcaption><div class=\"filtered\">",
                  thumbnail(picture(r, item.clean, same), concat("Image ", item.index), "", "as it is", ""));
    std::size_t k = 0;
    for (const auto& p : r.points) {
      if (p.filters.empty()) {
        continue;
      }
      const auto& pixels = item.filtered[k++];
      if (!pixels.empty()) {
        out +=
            thumbnail(picture(r, pixels, same), concat("Image ", item.index, " behind ", p.filters), "", p.filters, "");
      }
    }
    out += "</div></figure>\n";
  }
  return out;
}

/// The section on all tables of filters; empty where there is none.
inline std::string filter_section(const std::vector<FilterRecord>& records) {
  std::string out;
  for (const auto& r : records) {
    out += concat("<h3>", escape(r.label), " <small>", escape(r.model), " on ", escape(r.data), "</small></h3>\n",
                  filter_table(r), filter_images(r), "<code class=\"command\">", escape(r.command), "</code>\n");
  }
  return out.empty() ? out
                     : "<section id=\"filters\"><h2>Filters of the input</h2>\n<p class=\"verdict unreliable\">What "
                       "counts is the last column. A filter that withstands an attack that does not know it, and falls "
                       "to the one that does, hides gradients and holds nothing.</p>\n" +
                           out + "</section>\n";
}

/// The style of the section.
inline std::string filter_style() {
  return ".filtered{display:grid;grid-template-columns:repeat(auto-fill,minmax(112px,1fr));gap:8px}.filtered "
         "img{display:block;max-width:112px;image-rendering:pixelated;border-radius:3px}.filtered "
         "span{display:block;font-size:.75rem;line-height:1.3;color:var(--soft)}.filtered "
         "b{display:block;color:var(--ink);font-size:.75rem;font-weight:600;overflow-wrap:anywhere}\n";
}

}  // namespace pavise::report::detail
