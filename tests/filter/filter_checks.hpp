// SPDX-License-Identifier: MIT
// What every filter is asked, beside its own oracle. The filters by text are compiled once, in catalog_test.cpp.
#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "autodiff/op_check.hpp"
#include "pavise/core/shape.hpp"
#include "pavise/defend/filter/filter.hpp"

namespace filter_checks {

namespace pv = pavise;
namespace defend = pavise::defend;
using op_table::Case;
using op_table::Values;
using pavise::Shape;
using pavise::Var;

/// What a filter should make of one image, in double; the image's number keys what is drawn.
using Oracle = std::function<Values(const Values& x, Shape shape, std::uint32_t image)>;

/// Index i of n elements, mirrored at the ends (and not repeating them).
inline std::int64_t mirror(std::int64_t i, std::int64_t n) {
  while (n > 1 && (i < 0 || i >= n)) {
    i = i < 0 ? -i : 2 * (n - 1) - i;
  }
  return n == 1 ? 0 : i;
}

/// A row of the table of operations for a filter named by text.
Case row(const std::string& text, Shape in, Oracle oracle, double low = 0, double high = 1);

/// The filters of these texts.
defend::FilterList<float> filter_list(const std::vector<std::string>& texts);

/// The values of one image, row-major, behind a filter named by text.
Values filtered(const std::string& text, Shape in, const Values& x);

/// Everything but derivatives, for a filter whose backward pass is a substitute: the reference, lanes, threads and
/// instruction sets.
void check_value(const Case& c);

/// The gradient passes unchanged: what arrives at the input is the seed, bit for bit.
void check_straight_through(const std::string& text, Shape in);

/// One image that is NaN leaves the fifteen beside it as they are.
void check_nan_stays(const std::string& text, Shape in);

}  // namespace filter_checks
