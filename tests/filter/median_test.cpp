// SPDX-License-Identifier: MIT
#include "pavise/defend/filter/median.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <vector>

#include "filter/filter_checks.hpp"

using namespace filter_checks;

namespace {

/// scipy.ndimage.median_filter(x, (1, rows, columns), mode='reflect') by sorting.
auto sorted_median(std::int64_t rows, std::int64_t columns) {
  return [=](const Values& x, Shape s, std::uint32_t) {
    // d c b a | a b c d | d c b a, by walking
    const auto reflect = [](std::int64_t i, std::int64_t n) {
      while (i < 0 || i >= n) {
        i = i < 0 ? -1 - i : 2 * n - 1 - i;
      }
      return i;
    };
    Values out;
    for (std::int64_t c = 0; c < s[0]; ++c) {
      for (std::int64_t i = 0; i < s[1]; ++i) {
        for (std::int64_t j = 0; j < s[2]; ++j) {
          Values window;
          for (std::int64_t r = i - rows / 2; r < i - rows / 2 + rows; ++r) {
            for (std::int64_t k = j - columns / 2; k < j - columns / 2 + columns; ++k) {
              window.push_back(x[static_cast<std::size_t>((c * s[1] + reflect(r, s[1])) * s[2] + reflect(k, s[2]))]);
            }
          }
          std::sort(window.begin(), window.end());
          out.push_back(window[window.size() / 2]);
        }
      }
    }
    return out;
  };
}

}  // namespace

TEST_CASE("median: sorting, by SciPy's rules") {
  for (const auto& [rows, columns] :
       {std::pair{1, 1}, {1, 2}, {2, 1}, {2, 2}, {3, 3}, {2, 3}, {3, 1}, {4, 4}, {5, 5}, {3, 6}, {7, 7}, {1, 12}}) {
    check_value(row(pv::concat("median:", rows, "-", columns), {2, 5, 7}, sorted_median(rows, columns)).within(0));
  }
  check_value(row("median:3", {3, 9, 4}, sorted_median(3, 3)).within(0));
}

TEST_CASE("median: windows larger than the image, and a single pixel") {
  check_value(row("median:9", {1, 3, 2}, sorted_median(9, 9)).within(0));
  check_value(row("median:8", {1, 2, 3}, sorted_median(8, 8)).within(0));
  check_value(row("median:2", {1, 1, 1}, sorted_median(2, 2)).within(0));
  check_value(row("median:3", {3, 1, 1}, sorted_median(3, 3)).within(0));
  check_value(row("median:21", {1, 1, 2}, sorted_median(21, 21)).within(0));
}

TEST_CASE("median: what scipy.ndimage.median_filter gave") {
  // numpy.arange(12).reshape(3, 4) * 7 % 12, sizes 2, 3 and (4, 3), mode 'reflect'
  const Values x{0, 7, 2, 9, 4, 11, 6, 1, 8, 3, 10, 5};
  const auto of = [&](const char* text) { return filtered(text, {1, 3, 4}, x); };
  CHECK(of("median:2") == Values{0, 7, 7, 9, 4, 7, 7, 6, 8, 8, 10, 6});
  CHECK(of("median:3") == Values{4, 4, 7, 6, 4, 6, 6, 5, 8, 8, 5, 5});
  CHECK(of("median:4-3") == Values{4, 6, 7, 6, 4, 6, 7, 6, 7, 7, 6, 5});
}

TEST_CASE("median: derivatives where all values differ") {
  for (const auto& [rows, columns] : {std::pair{1, 1}, {2, 2}, {3, 3}, {2, 5}, {5, 5}}) {
    Case c = row(pv::concat("median:", rows, "-", columns), {2, 6, 5}, sorted_median(rows, columns)).within(2e-6);
    c.inputs[0].distinct = true;
    INFO(c.name);
    CHECK(op_table::check_all(c) == "");
  }
}

TEST_CASE("median: of equal pixels each gets its share; NaN stays in its image") {
  pv::Tape<double> tape;
  tape.begin(1, 1);
  Var<double> x = tape.input({1, 1, 4}, true);
  const double in[] = {1, 0, 0, 0};
  std::copy_n(in, 4, x.data());
  Var<double> y = defend::median(x, 1, 3);  // windows 1 1 0, 1 0 0, 0 0 0 and 0 0 0
  const double seed[] = {1, 2, 3, 4};
  tape.backward(y, seed);
  const double* g = tape.input_gradient(x);
  CHECK(g[0] == 1.0);        // twice in its own window, half each time
  CHECK(g[1] == 1.0 + 1.0);  // half of 2, a third of 3
  CHECK(g[2] == doctest::Approx(1.0 + 1.0 + 4.0 / 3));
  CHECK(g[3] == doctest::Approx(1.0 + 8.0 / 3));
  CHECK_FALSE(defend::Median<float>(3).declaration().differentiable);
  for (const char* text : {"median:2", "median:3", "median:4", "median:5"}) {
    check_nan_stays(text, {2, 4, 5});
  }
}

TEST_CASE("median: refuses what is no window") {
  CHECK_THROWS_WITH_AS(defend::Median<float>(0), "median: a window of 0 x 0, expected 1 to 127", pv::ValueError);
  CHECK_THROWS_WITH_AS(defend::Median<float>(3, 200), "median: a window of 3 x 200, expected 1 to 127", pv::ValueError);
}
