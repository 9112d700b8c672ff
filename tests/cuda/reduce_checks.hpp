// SPDX-License-Identifier: MIT
#pragma once

#include <vector>

#include "cuda/lane_checks.hpp"

namespace cuda_checks {

/// Sums over the last axes, the first, one in the middle, and over all, some of them long; of numbers and of special ones.
inline void check_sums(Report& report, const Table& t) {
  struct Sum {
    kernels::StridedLoop kept, reduced;
    std::int64_t size;
  };
  const auto loop = [](std::vector<std::array<std::int64_t, 3>> axes) {  // extents and strides, outermost first
    kernels::StridedLoop out;
    for (const auto& [extent, in, to] : axes) {
      out.push(extent, in, to);
    }
    return out.collapsed();
  };
  for (const Sum& s : {Sum{loop({{5, 7, 1}}), loop({{7, 1, 0}}), 35}, Sum{loop({{7, 1, 1}}), loop({{5, 7, 0}}), 35},
                       Sum{loop({{3, 20, 5}, {5, 1, 1}}), loop({{4, 5, 0}}), 60},
                       Sum{loop({{4, 5, 1}}), loop({{3, 20, 0}, {5, 1, 0}}), 60}, Sum{loop({}), loop({{1, 1, 0}}), 1},
                       Sum{loop({}), loop({{203, 1, 0}}), 203}}) {
    const std::int64_t out = s.kept.count();
    for (const bool special : {false, true}) {
      compare_lanes(
          report, t, pavise::concat("sums of ", s.reduced.count(), " of ", s.size), kImages,
          {{special ? special_numbers(kImages * s.size, 1, -9.0f, 9.0f) : numbers(kImages * s.size, 1), s.size},
           {numbers(kImages * out, 2), out}},
          [&](const std::vector<float*>& a, std::int64_t) {
            kernels::run_light([&](auto isa) {
              reduce_forward<kernels::Reduction::sum, float>(isa, s.kept, s.reduced, a[0], a[1], 1.0f, 16);
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            t.sum_elements(nullptr, s.kept, s.reduced, a[0], s.size, a[1], out, groups);
          });
    }
  }
}

}  // namespace cuda_checks
