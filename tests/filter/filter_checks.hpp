// SPDX-License-Identifier: MIT
// What every filter is asked, beside its own oracle.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "autodiff/op_check.hpp"
#include "autodiff/op_run.hpp"
#include "pavise/defend/filter/catalog.hpp"

namespace filter_checks {

namespace pv = pavise;
namespace defend = pavise::defend;
using op_table::Case;
using op_table::Values;
using pavise::Shape;
using pavise::Var;

/// A row of the table of operations for a filter named by text; the reference gets one image in double and its key.
template <class R>
Case row(const std::string& text, Shape in, R reference, double low = 0, double high = 1) {
  return op_table::make(
      concat(text, " of ", in), {{.shape = in, .low = low, .high = high}}, {},
      [text](auto& o) {
        using T = std::decay_t<decltype(*o.x[0].data())>;
        return defend::make_filter<std::remove_const_t<T>>(text)->apply(o.x[0]);
      },
      [reference, in](const op_table::Operation& o) { return reference(o.x[0], in, o.image); });
}

/// Everything but derivatives, for a filter whose backward pass is a substitute: the reference, lanes, threads and
/// instruction sets.
inline void check_value(const Case& c) {
  INFO(c.name);
  CHECK(op_table::check_forward<float>(c) == "");
  CHECK(op_table::check_forward<double>(c) == "");
  CHECK(op_table::check_lanes<float>(c) == "");
  CHECK(op_table::check_lanes<double>(c) == "");
  CHECK(op_table::check_instruction_sets<float>(c) == "");
  CHECK(op_table::check_instruction_sets<double>(c) == "");
  CHECK(op_table::check_threads<float>(c) == "");
}

/// The gradient passes unchanged: what arrives at the input is the seed, bit for bit.
inline void check_straight_through(const std::string& text, Shape in) {
  const auto filter = defend::make_filter<float>(text);
  INFO(text, " of ", in.to_string());
  CHECK_FALSE(filter->declaration().differentiable);
  for (const int lanes : {16, 1}) {
    pv::Tape<float> tape;
    tape.begin(lanes, lanes);
    Var<float> x = tape.input(in, true);
    std::vector<float> seed;
    for (std::int64_t i = 0; i < in.numel() * lanes; ++i) {
      x.data()[i] = static_cast<float>((i * 7 + 3) % 19) / 19.0f;
      seed.push_back(static_cast<float>(i % 23) - 11.0f);
    }
    Var<float> y = filter->apply(x);
    tape.backward(y, seed.data());
    CHECK(std::memcmp(tape.input_gradient(x), seed.data(), seed.size() * sizeof(float)) == 0);
  }
}

/// One image that is NaN leaves the fifteen beside it as they are.
inline void check_nan_stays(const std::string& text, Shape in) {
  INFO(text, " of ", in.to_string());
  const auto filter = defend::make_filter<float>(text);
  const auto values = [&](bool spoiled) {
    pv::Tape<float> tape;
    tape.begin(16);
    Var<float> x = tape.input(in);
    for (std::int64_t i = 0; i < in.numel() * 16; ++i) {
      const bool nan = spoiled && i % 16 == 5 && (i / 16) % 3 == 0;
      x.data()[i] = nan ? std::numeric_limits<float>::quiet_NaN() : static_cast<float>((i * 11 + 3) % 29) / 29.0f;
    }
    const Var<float> y = filter->apply(x);
    return std::vector<float>(y.data(), y.data() + y.size() * 16);
  };
  const auto good = values(false);
  const auto spoiled = values(true);
  std::int64_t different = 0;
  for (std::size_t i = 0; i < good.size(); ++i) {
    if (i % 16 != 5) {
      different += std::memcmp(&good[i], &spoiled[i], sizeof(float)) != 0 ? 1 : 0;
    }
  }
  CHECK(different == 0);
}

}  // namespace filter_checks
