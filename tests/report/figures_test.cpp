// SPDX-License-Identifier: MIT
// Text, tables, pictures and charts. Oracles: stb_image reads the PNGs back; a small XML reader checks the charts.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "pavise/report/png.hpp"
#include "pavise/report/svg.hpp"
#include "pavise/report/table.hpp"
#include "pavise/report/text.hpp"
#include "report/xml.hpp"

#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_ONLY_PNG
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#include <stb_image.h>
#pragma GCC diagnostic pop

namespace pv = pavise;
using namespace pavise::report;
using pavise_test::xml_error;

namespace {

const std::string kHostile = "</title><script>alert(\"x\")</script>&'\x01\xFF";

std::vector<Series> sample() {
  std::vector<Series> out;
  for (int i = 0; i < 3; ++i) {
    Series s{i == 0 ? kHostile : "series " + std::to_string(i), {}, {}};
    for (int j = 0; j < 5; ++j) {
      const double y = 20 * i + 5.0 * j;
      s.points.push_back({0.1 * j, y, pv::evaluate::Interval{0.1 * j - 0.01, 0.1 * j + 0.01},
                          pv::evaluate::Interval{y - 3, y + 3}, kHostile});
    }
    out.push_back(s);
  }
  return out;
}

std::size_t occurrences(const std::string& text, const std::string& part) {
  std::size_t n = 0;
  for (auto p = text.find(part); p != std::string::npos; p = text.find(part, p + 1)) {
    ++n;
  }
  return n;
}

}  // namespace

TEST_CASE("text: escaping and numbers as people read them") {
  CHECK(escape("<a b=\"c\" d='e'>&") == "&lt;a b=&quot;c&quot; d=&#39;e&#39;&gt;&amp;");
  CHECK(escape("\u03B5 = \u00BD") == "\u03B5 = \u00BD");
  CHECK(escape(std::string("a\0b\x1B", 4)) == "a\uFFFDb\uFFFD");
  CHECK(escape("\xC0\xAF|\xED\xA0\x80|\xE2\x82") == "\uFFFD\uFFFD|\uFFFD\uFFFD\uFFFD|\uFFFD\uFFFD");
  CHECK(grouped(0) == "0");
  CHECK(grouped(-1234567) == "-1,234,567");
  CHECK(grouped(100000) == "100,000");
  CHECK(percent(634, 1000) == "63.4");
  CHECK(percent(0, 9) == "0.0");
  CHECK(percent(1, 10000) == "<0.1");
  CHECK(percent(9999, 10000) == ">99.9");
  CHECK(percent(10000, 10000) == "100.0");
  CHECK(duration(0.35) == "0.35 s");
  CHECK(duration(245) == "4 min 05 s");
  CHECK(duration(7380) == "2 h 03 min");
  CHECK(shorten("Gr\u00F6\u00DFe der Bilder", 8) == "Gr\u00F6\u00DFe...");
  CHECK(shorten("\u03B5\u03B5\u03B5", 3) == "\u03B5\u03B5\u03B5");
}

TEST_CASE("table: aligned columns, counted in characters") {
  Table table({{"model"}, {"\u03B5", Align::right}, {"robust", Align::right}});
  table.add_row({"Plain", "0.1", "0.2"}).add_row({"line\nbreak", "0.25", "63.4"});
  CHECK(table.to_string() ==
        "model          \u03B5  robust\n"
        "----------  ----  ------\n"
        "Plain        0.1     0.2\n"
        "line break  0.25    63.4\n");
  CHECK_THROWS_WITH_AS(table.add_row({"one"}), "table: row 2 has 1 cells, expected 3", pv::ShapeError);
  CHECK_THROWS_AS(Table({}), pv::ValueError);
}

TEST_CASE("png: stb_image reads the same pixels back") {
  for (const std::int64_t channels : {1, 3}) {
    for (const auto& [width, height] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {28, 28}, {7, 301}, {640, 3}}) {
      Image image{width, height, channels, {}};
      std::uint32_t state = 7;
      for (std::int64_t i = 0; i < width * height * channels; ++i) {
        state = state * 1664525U + 1013904223U;
        image.pixels.push_back(static_cast<std::uint8_t>(state >> 24));
      }
      for (const std::int64_t factor : {1, 3}) {
        const std::string png = encode_png(upscale(image, factor));
        int w = 0;
        int h = 0;
        int c = 0;
        auto* pixels = stbi_load_from_memory(reinterpret_cast<const stbi_uc*>(png.data()), static_cast<int>(png.size()),
                                             &w, &h, &c, 0);
        REQUIRE(pixels != nullptr);
        CHECK(w == width * factor);
        CHECK(h == height * factor);
        CHECK(c == channels);
        bool same = true;
        for (std::int64_t y = 0; y < h; ++y) {
          for (std::int64_t x = 0; x < w; ++x) {
            for (std::int64_t k = 0; k < channels; ++k) {
              same =
                  same && pixels[(y * w + x) * channels + k] ==
                              image.pixels[static_cast<std::size_t>((y / factor * width + x / factor) * channels + k)];
            }
          }
        }
        CHECK(same);
        stbi_image_free(pixels);
      }
    }
  }
}

TEST_CASE("png: base64 as in RFC 4648, and images that do not fit together") {
  CHECK(base64("") == "");
  CHECK(base64("f") == "Zg==");
  CHECK(base64("fo") == "Zm8=");
  CHECK(base64("foo") == "Zm9v");
  CHECK(base64("foobar") == "Zm9vYmFy");
  CHECK(base64("\xFF\xFE\xFD") == "//79");
  CHECK(png_data_uri({1, 1, 1, {9}}).starts_with("data:image/png;base64,iVBORw0KGgo"));
  CHECK_THROWS_WITH_AS(encode_png({2, 2, 3, {1, 2}}), "encode_png: 2 x 2 x 3 is 12 bytes, got 2", pv::ShapeError);
  CHECK_THROWS_AS(encode_png({2, 1, 2, {1, 2, 3, 4}}), pv::ShapeError);
  CHECK_THROWS_AS(encode_png({0, 1, 1, {}}), pv::ShapeError);
  CHECK_THROWS_AS(upscale({1, 1, 1, {1}}, 0), pv::ValueError);
}

TEST_CASE("svg: charts are well-formed, and hostile names stay text") {
  Chart chart;
  chart.title = kHostile;
  chart.x.title = kHostile;
  chart.y = {kHostile, {}, {}, " %"};
  chart.standalone = true;
  std::vector<Series> bars = sample();
  for (const auto& svg : {line_chart(sample(), chart), scatter_chart(sample(), chart),
                          bar_chart({"a", "b", "c", "d", kHostile}, bars, chart)}) {
    CHECK(xml_error(svg) == "");
    CHECK(svg.find("<script") == std::string::npos);
    CHECK(svg.find("&lt;script&gt;") != std::string::npos);
    CHECK(svg.find("nan") == std::string::npos);
    CHECK(svg.find("prefers-color-scheme:dark") != std::string::npos);
  }
}

TEST_CASE("svg: a chart draws every series, point and interval") {
  Chart chart;
  const auto series = sample();
  const auto lines = line_chart(series, chart);
  CHECK(occurrences(lines, "<polyline") == 3);
  CHECK(occurrences(lines, "class=\"pv-band\"") == 3);
  CHECK(occurrences(lines, "<title>") == 15);
  CHECK(occurrences(scatter_chart(series, chart), "class=\"pv-whisker\"") == 15 * 6);
  const auto bars = bar_chart({"a", "b", "c", "d", "e"}, series, chart);
  CHECK(occurrences(bars, "<title>") == 15);
  CHECK(occurrences(bars, "class=\"pv-whisker\"") == 15 * 3);
}

TEST_CASE("svg: points lie where the axes say") {
  Chart chart;
  chart.x = {"x", 0, 10, ""};
  chart.y = {"y", 0, 100, ""};
  const auto svg = line_chart({{"s", {{0, 0, {}, {}, ""}, {5, 50, {}, {}, ""}, {10, 100, {}, {}, ""}}, {}}}, chart);
  const auto at = svg.find("points=\"");
  REQUIRE(at != std::string::npos);
  double x[3];
  double y[3];
  REQUIRE(std::sscanf(svg.c_str() + at, "points=\"%lf,%lf %lf,%lf %lf,%lf", &x[0], &y[0], &x[1], &y[1], &x[2], &y[2]) ==
          6);
  CHECK(x[2] > x[0] + 300);
  CHECK(y[2] < y[0] - 150);
  CHECK(x[1] == doctest::Approx((x[0] + x[2]) / 2));
  CHECK(y[1] == doctest::Approx((y[0] + y[2]) / 2));
}

TEST_CASE("svg: ticks are round numbers, with no negative zero") {
  const auto t = detail::ticks(0, 0.3, 6, false);
  CHECK(t.step == doctest::Approx(0.05));
  CHECK(t.digits == 2);
  CHECK(t.values.size() == 7);
  CHECK(detail::ticks(0, 1, 4, false).digits == 2);  // 0.25
  CHECK(detail::ticks(1, 3, 8, true).step == 1);
  CHECK(detail::ticks(0, 1e6, 5, false).digits == 0);
  Chart chart;
  chart.y = {"y", 0, 100, " %"};
  CHECK(line_chart({{"s", {{0, 0, {}, {}, ""}, {1, 2, {}, {}, ""}}, {}}}, chart).find(">-0") == std::string::npos);
}

TEST_CASE("svg: empty, constant and refused data") {
  Chart chart;
  CHECK(xml_error(line_chart({}, chart)) == "");
  CHECK(xml_error(line_chart({{"empty", {}, {}}}, chart)) == "");
  CHECK(xml_error(scatter_chart({{"one", {{3, 3, {}, {}, ""}}, {}}}, chart)) == "");
  CHECK(xml_error(bar_chart({}, {}, chart)) == "");
  const double nan = std::nan("");
  CHECK_THROWS_WITH_AS(line_chart({{"s", {{0, nan, {}, {}, ""}}, {}}}, chart),
                       "line_chart: a coordinate or bound is nan, expected a finite number", pv::ValueError);
  CHECK_THROWS_AS(bar_chart({"a", "b"}, {{"s", {{0, 1, {}, {}, ""}}, {}}}, chart), pv::ShapeError);
  chart.width = 10;
  CHECK_THROWS_AS(line_chart({}, chart), pv::ValueError);
}
