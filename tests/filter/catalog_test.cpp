// SPDX-License-Identifier: MIT
// Filters by text, and what all tests of filters ask of them.
#include "pavise/defend/filter/catalog.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "filter/filter_checks.hpp"
#include "pavise/defend/filter/within.hpp"
#include "pavise/nn/models.hpp"

namespace filter_checks {

Case row(const std::string& text, Shape in, Oracle oracle, double low, double high) {
  Case c;
  c.name = pv::concat(text, " of ", in);
  c.inputs = {{.shape = in, .low = low, .high = high}};
  c.run_float = [text](op_table::Operands<float>& o) { return defend::make_filter<float>(text)->apply(o.x[0]); };
  c.run_double = [text](op_table::Operands<double>& o) { return defend::make_filter<double>(text)->apply(o.x[0]); };
  c.reference = [oracle = std::move(oracle), in](const std::vector<op_table::Operation>& batch) {
    std::vector<Values> out;
    for (const auto& o : batch) {
      out.push_back(oracle(o.x[0], in, o.image));
    }
    return out;
  };
  return c;
}

defend::FilterList<float> filter_list(const std::vector<std::string>& texts) {
  return defend::make_filters<float>(texts);
}

Values filtered(const std::string& text, Shape in, const Values& x) {
  pv::Tape<double> tape;
  tape.begin(1, 1);
  Var<double> v = tape.input(in);
  std::copy(x.begin(), x.end(), v.data());
  const Var<double> y = defend::make_filter<double>(text)->apply(v);
  return {y.data(), y.data() + y.size()};
}

void check_value(const Case& c) {
  INFO(c.name);
  CHECK(op_table::check_forward<float>(c) == "");
  CHECK(op_table::check_forward<double>(c) == "");
  CHECK(op_table::check_lanes<float>(c) == "");
  CHECK(op_table::check_lanes<double>(c) == "");
  CHECK(op_table::check_instruction_sets<float>(c) == "");
  CHECK(op_table::check_instruction_sets<double>(c) == "");
  CHECK(op_table::check_threads<float>(c) == "");
}

void check_straight_through(const std::string& text, Shape in) {
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

void check_nan_stays(const std::string& text, Shape in) {
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

using namespace filter_checks;

TEST_CASE("filters by text") {
  for (const char* text : {"bit-depth:4", "median:2", "median:3-5", "gaussian-blur:1", "bilateral:5-0.1-2",
                           "nlm:11-3-4", "jpeg:75:420", "jpeg:30:444", "tv:0.03-0.5-100", "gaussian-noise:0.1",
                           "uniform-noise:0.25", "resize-pad:24", "resize-pad:24-28", "thermometer:16"}) {
    CHECK(defend::make_filter(text)->text() == text);
  }
  CHECK(defend::make_filters({"bit-depth:4", "median:2"}).to_string() == "bit-depth:4 | median:2");
  CHECK(defend::make_filters({"bit-depth:4+median:2", "jpeg:50"}).to_string() ==
        "bit-depth:4 | median:2 | jpeg:50:420");
  CHECK_THROWS_WITH_AS(defend::make_filter("sharpen:2"),
                       doctest::Contains("filter 'sharpen:2': there is no filter sharpen, expected one of bit-depth, "),
                       pv::ValueError);
  CHECK_THROWS_WITH_AS(defend::make_filter("median"), "filter 'median': expected median:WINDOW or median:ROWS-COLUMNS",
                       pv::ValueError);
  CHECK_THROWS_WITH_AS(defend::make_filter("bit-depth:4.5"), "filter 'bit-depth:4.5': 4.5, expected a whole number",
                       pv::ValueError);
  CHECK_THROWS_AS(defend::make_filter(""), pv::ValueError);
  CHECK_THROWS_AS(defend::make_filter("median:"), pv::ValueError);
  CHECK_THROWS_AS(defend::make_filter("median:2-"), pv::ValueError);
}

TEST_CASE("random filters: every pass draws anew, and each filter its own numbers") {
  for (const char* text : {"gaussian-noise:0.1", "uniform-noise:0.1", "resize-pad:3"}) {
    INFO(text);
    CHECK(defend::make_filter(text)->declaration().random);
    CHECK(defend::make_filter(text)->declaration().differentiable);
    const auto list = defend::make_filters({text, text});
    const auto values = [&](std::uint32_t iteration, int which) {
      pv::Tape<float> tape;
      tape.begin(16);
      tape.set_key({.seed = 1, .iteration = iteration, .images = nullptr});
      Var<float> x = tape.input({1, 8, 8});
      for (int i = 0; i < 1024; ++i) {
        x.data()[i] = static_cast<float>(i % 61) / 61.0f;
      }
      const Var<float> y = which < 0 ? list(x) : list[static_cast<std::size_t>(which)].apply(x);
      return std::vector<float>(y.data(), y.data() + 1024);
    };
    CHECK(values(0, -1) == values(0, -1));
    CHECK(values(0, -1) != values(1, -1));
    CHECK(values(0, 0) != values(0, 1));
    check_nan_stays(text, {2, 4, 4});
  }
}

TEST_CASE("filters within a model: its weights stay, and a copy made from its spec gives the same bits") {
  defend::register_filters<float>();
  defend::register_filters<float>();  // a second time does nothing
  const auto filters = defend::make_filters<float>({"thermometer:4", "median:2"});
  const auto inner = pv::nn::mlp({.seed = 3, .input = {4, 6, 6}, .classes = 4});
  const auto model = defend::with_filters(filters, inner, Shape{1, 6, 6});
  CHECK(model.input_shape() == Shape{1, 6, 6});
  CHECK_FALSE(model.net().declaration().differentiable);
  const auto copy = pv::nn::clone(model);
  pv::Tape<float> tape;
  tape.begin(1, 1);
  Var<float> x = tape.input({1, 6, 6});
  for (std::int64_t i = 0; i < 36; ++i) {
    x.data()[i] = static_cast<float>(i * 7 % 36) / 36.0f;
  }
  const Var<float> a = model(x);
  const Var<float> b = copy(x);
  const Var<float> c = inner(filters(x));
  for (int k = 0; k < 4; ++k) {
    CHECK(a.data()[k] == b.data()[k]);
    CHECK(a.data()[k] == c.data()[k]);
  }
}
