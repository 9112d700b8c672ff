// SPDX-License-Identifier: MIT
// The squeezers of a detector by name, as programs and detector files write them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "pavise/defend/detector.hpp"
#include "pavise/defend/filter/catalog.hpp"

namespace pavise::defend {

namespace detail {

struct JointSqueezers {
  std::string_view name;
  std::vector<std::string> squeezers;
};

/// The best joint sets of Xu, Evans and Qi (2018).
inline const std::vector<JointSqueezers>& joint_squeezers() {
  static const std::vector<JointSqueezers> sets{{"mnist", {"bit-depth:1", "median:2"}},
                                                {"cifar10", {"bit-depth:5", "median:2", "nlm:13-3-2"}},
                                                {"imagenet", {"bit-depth:5", "median:2", "nlm:11-3-4"}}};
  return sets;
}

}  // namespace detail

/// The names of the published joint sets: "mnist" (1 bit, median 2x2), "cifar10" (5 bits, median 2x2, non-local means
/// 13-3-2) and "imagenet" (the same with non-local means 11-3-4).
inline std::vector<std::string> squeezer_sets() {
  std::vector<std::string> out;
  for (const auto& set : detail::joint_squeezers()) {
    out.emplace_back(set.name);
  }
  return out;
}

/// The squeezers that a text names: a published set, "mnist", or filters: "bit-depth:1, median:2" are two squeezers,
/// "bit-depth:4 | median:2" is one, of two filters one after the other. Throws ValueError for a filter that is not there.
inline std::vector<FilterList<float>> make_squeezers(std::string_view text) {
  for (const auto& set : detail::joint_squeezers()) {
    if (text == set.name) {
      std::vector<FilterList<float>> out;
      for (const auto& one : set.squeezers) {
        out.push_back(make_filters({one}));
      }
      return out;
    }
  }
  // Words between commas and bars, without the blanks around them.
  const auto words = [](std::string_view all, char between) {
    std::vector<std::string> out;
    for (std::size_t begin = 0; begin <= all.size();) {
      const std::size_t end = std::min(all.find(between, begin), all.size());
      std::string_view word = all.substr(begin, end - begin);
      word.remove_prefix(std::min(word.find_first_not_of(' '), word.size()));
      word = word.substr(0, word.find_last_not_of(' ') + 1);
      out.emplace_back(word);
      begin = end + 1;
    }
    return out;
  };
  std::vector<FilterList<float>> out;
  for (const auto& squeezer : words(text, ',')) {
    out.push_back(make_filters(words(squeezer, '|')));
  }
  return out;
}

}  // namespace pavise::defend
