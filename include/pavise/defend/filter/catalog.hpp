// SPDX-License-Identifier: MIT
// Filters by name, as programs and model files write them: "jpeg:75", "median:2", "nlm:11-3-4".
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/attack/settings.hpp"
#include "pavise/defend/filter/bilateral.hpp"
#include "pavise/defend/filter/bit_depth.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise/defend/filter/gaussian_blur.hpp"
#include "pavise/defend/filter/jpeg.hpp"
#include "pavise/defend/filter/median.hpp"
#include "pavise/defend/filter/nlm.hpp"
#include "pavise/defend/filter/noise.hpp"
#include "pavise/defend/filter/resize_pad.hpp"
#include "pavise/defend/filter/thermometer.hpp"
#include "pavise/defend/filter/total_variation.hpp"
#include "pavise/nn/registry.hpp"

namespace pavise::defend {

namespace detail {

/// The numbers of a filter's text: "nlm:11-3-4" has 11, 3 and 4.
class FilterArguments {
 public:
  explicit FilterArguments(std::string_view text) : text_(text) {
    std::size_t begin = text.find(':');
    name_ = text.substr(0, begin);
    while (begin < text.size()) {
      ++begin;
      std::size_t end = begin;
      while (end < text.size() && text[end] != ':' && (text[end] != '-' || text[end - 1] == 'e')) {
        ++end;
      }
      numbers_.push_back(text.substr(begin, end - begin));
      begin = end;
    }
  }

  std::string_view name() const { return name_; }
  /// Throws ValueError unless there are `least` to `most` numbers.
  void expect(std::size_t least, std::size_t most, std::string_view usage) const {
    require(numbers_.size() >= least && numbers_.size() <= most, "filter '", text_, "': expected ", usage);
  }
  bool has(std::size_t i) const { return i < numbers_.size(); }
  double number(std::size_t i) const { return attack::parse_number(concat("filter '", text_, "':"), numbers_[i]); }
  std::int64_t integer(std::size_t i) const {
    const double value = number(i);
    require(value == std::floor(value) && std::abs(value) < 1e9, "filter '", text_, "': ", numbers_[i],
            ", expected a whole number");
    return static_cast<std::int64_t>(value);
  }

 private:
  std::string_view text_;
  std::string_view name_;
  std::vector<std::string_view> numbers_;
};

inline JpegOptions jpeg_options(const FilterArguments& a) {
  const std::int64_t chroma = a.has(1) ? a.integer(1) : 420;
  require(chroma == 444 || chroma == 420, "jpeg: chroma ", chroma, ", expected 444 or 420");
  return {.quality = a.integer(0), .chroma = chroma == 444 ? Chroma::full : Chroma::halved};
}

template <class T>
struct FilterEntry {
  const char* name;
  std::size_t least, most;  ///< of its numbers
  const char* usage;        ///< "median:WINDOW or median:ROWS-COLUMNS"
  const char* summary;
  std::unique_ptr<Filter<T>> (*make)(const FilterArguments& a);
};

template <class T>
const std::vector<FilterEntry<T>>& filter_entries() {
  using A = const FilterArguments&;
  using Made = std::unique_ptr<Filter<T>>;
  static const std::vector<FilterEntry<T>> entries{
      {"bit-depth", 1, 1, "bit-depth:BITS", "rounds pixels to 2^BITS levels",
       [](A a) -> Made { return std::make_unique<BitDepth<T>>(a.integer(0)); }},
      {"median", 1, 2, "median:WINDOW or median:ROWS-COLUMNS", "the median of each window, as SciPy's",
       [](A a) -> Made { return std::make_unique<Median<T>>(a.integer(0), a.integer(a.has(1) ? 1 : 0)); }},
      {"jpeg", 1, 2, "jpeg:QUALITY or jpeg:QUALITY:444 (default: 420)", "goes through JPEG, as libjpeg does",
       [](A a) -> Made { return std::make_unique<Jpeg<T>>(jpeg_options(a)); }},
      {"gaussian-blur", 1, 1, "gaussian-blur:SIGMA", "convolves with a Gaussian of SIGMA pixels",
       [](A a) -> Made { return std::make_unique<GaussianBlur<T>>(a.number(0)); }},
      {"bilateral", 3, 3, "bilateral:DIAMETER-SIGMA_COLOR-SIGMA_SPACE", "the bilateral filter, as OpenCV's",
       [](A a) -> Made {
         return std::make_unique<Bilateral<T>>(BilateralOptions{a.integer(0), a.number(1), a.number(2)});
       }},
      {"nlm", 3, 3, "nlm:SEARCH-PATCH-STRENGTH", "non-local means, as OpenCV's",
       [](A a) -> Made {
         return std::make_unique<NonLocalMeans<T>>(NlmOptions{a.integer(0), a.integer(1), a.number(2)});
       }},
      {"tv", 1, 3, "tv:WEIGHT or tv:WEIGHT-DROP-STEPS (default: 0.5-100)",
       "forgets a random share of the pixels and minimises the total variation",
       [](A a) -> Made {
         TotalVariationOptions o;
         o.weight = a.number(0);
         o.drop = a.has(1) ? a.number(1) : o.drop;
         o.steps = a.has(2) ? a.integer(2) : o.steps;
         return std::make_unique<TotalVariation<T>>(o);
       }},
      {"gaussian-noise", 1, 1, "gaussian-noise:SIGMA", "adds N(0, SIGMA^2), drawn for every query",
       [](A a) -> Made { return std::make_unique<GaussianNoise<T>>(a.number(0)); }},
      {"uniform-noise", 1, 1, "uniform-noise:A", "adds U(-A, A), drawn for every query",
       [](A a) -> Made { return std::make_unique<UniformNoise<T>>(a.number(0)); }},
      {"resize-pad", 1, 2, "resize-pad:SMALLEST or resize-pad:SMALLEST-OUT",
       "resizes to a random height of SMALLEST rows or more, and pads to OUT rows at random",
       [](A a) -> Made { return std::make_unique<ResizePad<T>>(a.integer(0), a.has(1) ? a.integer(1) : 0); }},
      {"thermometer", 1, 1, "thermometer:LEVELS", "codes every pixel in LEVELS channels, for a model trained with it",
       [](A a) -> Made { return std::make_unique<Thermometer<T>>(a.integer(0)); }},
  };
  return entries;
}

}  // namespace detail

/// What a filter is called, how it is written, and what it does.
struct FilterDescription {
  std::string name;
  std::string usage;
  std::string summary;
};

/// All filters that make_filter knows.
inline std::vector<FilterDescription> filter_catalog() {
  std::vector<FilterDescription> out;
  for (const auto& e : detail::filter_entries<float>()) {
    out.push_back({e.name, e.usage, e.summary});
  }
  return out;
}

/// Their names.
inline std::vector<std::string> filter_names() {
  std::vector<std::string> out;
  for (const auto& d : filter_catalog()) {
    out.push_back(d.name);
  }
  return out;
}

/// The filter that a text names: its name, then its numbers, with ':' before and ':' or '-' between them. Throws
/// ValueError that lists the names, or says how the filter is written.
template <class T = float>
std::unique_ptr<Filter<T>> make_filter(std::string_view text) {
  const detail::FilterArguments arguments(text);
  for (const auto& e : detail::filter_entries<T>()) {
    if (arguments.name() == e.name) {
      arguments.expect(e.least, e.most, e.usage);
      return e.make(arguments);
    }
  }
  throw ValueError(
      concat("filter '", text, "': there is no filter ", arguments.name(), ", expected one of ", join(filter_names())));
}

/// The filters of several texts, the first one first; a text may name several with '+' between them.
template <class T = float>
FilterList<T> make_filters(const std::vector<std::string>& texts) {
  FilterList<T> out;
  for (const std::string_view text : texts) {
    for (std::size_t begin = 0; begin <= text.size();) {
      const std::size_t end = std::min(text.find('+', begin), text.size());
      out.add(make_filter<T>(text.substr(begin, end - begin)));
      begin = end + 1;
    }
  }
  return out;
}

/// Adds the layer type "filter", as in filter(is=jpeg:75), to the registry that models are made from, if it is not there:
/// from then on specs, copies and model files can hold every filter. Call it once, where a program begins.
template <class T = float>
void register_filters() {
  [[maybe_unused]] static const bool done = [] {
    nn::layer_registry<T>().add("filter",
                                [](nn::SpecReader& o, const nn::LayerRegistry<T>&) -> std::unique_ptr<nn::Layer<T>> {
                                  return make_filter<T>(o.text("is"));
                                });
    return true;
  }();
}

}  // namespace pavise::defend
