// SPDX-License-Identifier: MIT
// The report's gallery: for each model some images, clean and attacked, and what was added to them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "pavise/report/page.hpp"
#include "pavise/report/png.hpp"

namespace pavise::report::detail {

inline constexpr std::size_t kGalleryImages = 6;

/// (C,H,W) values to a picture, of the record's extents; `f` maps a value to 0..255 before it is rounded.
template <class Record, class F>
Image plain_picture(const Record& r, const std::vector<double>& values, F f) {
  Image out{r.width, r.height, r.channels, {}};
  out.pixels.reserve(values.size());
  for (std::int64_t i = 0; i < r.height * r.width; ++i) {
    for (std::int64_t c = 0; c < r.channels; ++c) {
      const auto at = static_cast<std::size_t>(c * r.height * r.width + i);
      out.pixels.push_back(static_cast<std::uint8_t>(std::lround(std::clamp(f(values[at], at), 0.0, 255.0))));
    }
  }
  return out;
}
template <class Record>
Image plain_picture(const Record& r, const std::vector<double>& values) {
  return plain_picture(r, values, [](double v, std::size_t) { return v; });
}

/// The same, by whole factors up to some 112 pixels: sharp also where a browser would smooth.
template <class Record, class F>
Image picture(const Record& r, const std::vector<double>& values, F f) {
  return upscale(plain_picture(r, values, f), std::max<std::int64_t>(1, 112 / std::max(r.width, r.height)));
}

/// The attack whose images are shown for a model: the strongest one with a gallery.
inline const AttackRecord* gallery_record(const Model& model) {
  const AttackRecord* out = nullptr;
  for (const auto* r : model.attacks) {
    if (!r->gallery.empty() && (out == nullptr || r->robust.share() < out->robust.share())) {
      out = r;
    }
  }
  return out;
}

/// One factor for all differences, so that they can be compared: the largest round number that keeps them in range.
inline double difference_factor(const std::vector<Model>& models) {
  double largest = 0;
  for (const auto& model : models) {
    if (const auto* r = gallery_record(model)) {
      for (std::size_t k = 0; k < std::min(r->gallery.size(), kGalleryImages); ++k) {
        const auto& item = r->gallery[k];
        for (std::size_t i = 0; i < item.clean.size(); ++i) {
          largest = std::max(largest, std::abs(item.adversarial[i] - item.clean[i]));
        }
      }
    }
  }
  double factor = 1;
  for (const double f : {2.0, 3.0, 4.0, 5.0, 8.0, 10.0, 15.0, 20.0, 30.0, 50.0, 100.0}) {
    factor = f * largest <= 128 ? f : factor;
  }
  return largest == 0 ? 1 : factor;
}

inline std::string class_words(const AttackRecord& r, std::int64_t label) {
  return label < static_cast<std::int64_t>(r.class_names.size()) ? r.class_names[static_cast<std::size_t>(label)]
                                                                 : concat("class ", label);
}

inline std::string thumbnail(const Image& image, const std::string& alt, std::string_view what, const std::string& name,
                             const std::string& more) {
  return concat("<div><img alt=\"", escape(alt), "\" src=\"", png_data_uri(image), "\"><span>", what, "<b>",
                escape(name), "</b>", more, "</span></div>");
}

inline std::string shot(const AttackRecord& r, const GalleryItem& item, double factor) {
  const auto same = [](double v, std::size_t) { return v; };
  const auto difference = [&](double v, std::size_t at) { return 128 + factor * (v - item.clean[at]); };
  double largest = 0;
  for (std::size_t i = 0; i < item.clean.size(); ++i) {
    largest = std::max(largest, std::abs(item.adversarial[i] - item.clean[i]));
  }
  const auto confidence = [](const std::optional<double>& c) { return c ? fixed(100 * *c, 0) + " %" : std::string(); };
  const std::string truth = class_words(r, item.label);
  const std::string clean = class_words(r, item.clean_prediction);
  const std::string adversarial = class_words(r, item.adversarial_prediction);
  const bool held = item.adversarial_prediction == item.label;
  return concat("<figure class=\"shot\"><figcaption>Image ", item.index, ", ", escape(truth), ": ",
                item.clean_prediction != item.label ? "wrong from the start"
                : held                              ? "withstood"
                                                    : "fooled",
                "</figcaption><div class=\"three\">",
                thumbnail(picture(r, item.clean, same), "Clean image: " + truth, "clean", clean,
                          confidence(item.clean_confidence)),
                thumbnail(picture(r, item.adversarial, same), "Attacked image, predicted " + adversarial, "attacked",
                          adversarial, confidence(item.adversarial_confidence)),
                thumbnail(picture(r, item.adversarial, difference), "What the attack added", "difference",
                          concat("\u00D7 ", factor), "max " + significant(largest / 255, 2)),
                "</div></figure>\n");
}

/// The gallery's section; empty where no record has images.
inline std::string gallery_section(const std::vector<Model>& models, const Results& results) {
  std::string out;
  const double factor = difference_factor(models);
  for (std::size_t i = 0; i < models.size(); ++i) {
    const auto* r = gallery_record(models[i]);
    if (r == nullptr) {
      continue;
    }
    out += concat("<h3>", dot(i), escape(models[i].label), " <small>under <a href=\"#", anchor(*r, results), "\">",
                  escape(attack_name(r->attack)), ", ", escape(ball(*r)), "</a>");
    const std::size_t shown = std::min(r->gallery.size(), kGalleryImages);
    out += shown < r->gallery.size() ? concat(", ", shown, " of ", r->gallery.size(), " images shown") : std::string();
    out += "</small></h3>\n<div class=\"gallery\">\n";
    for (std::size_t k = 0; k < shown; ++k) {
      out += shot(*r, r->gallery[k], factor);
    }
    out += "</div>\n";
  }
  if (out.empty()) {
    return out;
  }
  return concat(
      "<section id=\"gallery\"><h2>Images</h2>\n<p>Left the clean image, in the middle the attacked one, on the "
      "right what the attack added, magnified ",
      factor,
      " times: mid-grey is no change, brighter is more, darker is less. Under each: the model's prediction and "
      "its confidence, or the largest change of a pixel, where pixels run from 0 to 1.</p>\n",
      out, "</section>\n");
}

}  // namespace pavise::report::detail
