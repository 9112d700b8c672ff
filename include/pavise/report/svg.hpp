// SPDX-License-Identifier: MIT
// Charts as SVG text: lines with interval bands, labelled points with error bars, bars with whiskers. Every text is
// escaped. Colours are Okabe and Ito's, which colour-blind readers tell apart; markers and dashes say the same again
// for print. `chart_style` holds the colours as CSS variables for light and dark; a page includes it once, a chart that
// stands alone carries it.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/evaluate/interval.hpp"
#include "pavise/report/text.hpp"

namespace pavise::report {

/// A point of a chart: its place, the intervals of its coordinates where they are known, and words for its tooltip.
struct Point {
  double x = 0;
  double y = 0;
  std::optional<evaluate::Interval> x_interval = {};
  std::optional<evaluate::Interval> y_interval = {};
  std::string tooltip = {};
};

struct Series {
  std::string name;
  std::vector<Point> points = {};
  std::optional<std::size_t> colour =
      {};             ///< index in the palette, taken modulo 8; the series' own index where it is absent
  bool marks = true;  ///< whether a line shows its points, with their tooltips
};

struct Axis {
  std::string title;
  std::optional<double> low = {};   ///< where the axis begins; from the data where it is absent
  std::optional<double> high = {};  ///< where it ends
  std::string unit = {};            ///< written after each tick: "%"
  bool whole = false;               ///< ticks at whole numbers only (epochs)
};

struct Chart {
  std::string title;  ///< read aloud by screen readers, and drawn above the plot
  Axis x = {};
  Axis y = {};
  int width = 520;
  int height = 340;
  bool standalone = false;  ///< a file of its own: carries its style
};

/// The style sheet that charts need, light and dark: as the reader's system has it, or as the page's attribute data-theme
/// says.
inline std::string chart_style() {
  constexpr const char* kDark = R"({--pv-ink:#e6e8eb;--pv-soft:#9ba4ae;--pv-grid:#32383f;--pv-paper:#16191d;
--pv-c0:#4aa8e0;--pv-c1:#ff8a3d;--pv-c2:#2fc79a;--pv-c3:#e08fc0;--pv-c4:#f0b429;--pv-c5:#8fd0ff;--pv-c6:#b0b0b0;--pv-c7:#d6b656})";
  return concat(R"(.pv-chart,.pv-colours{--pv-ink:#1f2328;--pv-soft:#59636e;--pv-grid:#e4e7eb;--pv-paper:#fff;
--pv-c0:#0072b2;--pv-c1:#d55e00;--pv-c2:#009e73;--pv-c3:#b8588f;--pv-c4:#c98500;--pv-c5:#3a9bd9;--pv-c6:#6b6b6b;--pv-c7:#7a5c00}
.pv-chart{font:13px system-ui,-apple-system,"Segoe UI",Roboto,"DejaVu Sans",sans-serif;max-width:100%;height:auto}
@media (prefers-color-scheme:dark){@media screen{.pv-chart:not([data-theme=light] *),.pv-colours:not([data-theme=light] *))",
                kDark, R"(}}
@media screen{[data-theme=dark] .pv-chart,[data-theme=dark] .pv-colours)",
                kDark, R"(}
.pv-chart text{fill:var(--pv-ink)}.pv-chart .pv-title{font-weight:600;font-size:14px}.pv-chart .pv-tick{fill:var(--pv-soft);font-size:12px}
.pv-chart .pv-grid{stroke:var(--pv-grid);stroke-width:1}.pv-chart .pv-axis{stroke:var(--pv-soft);stroke-width:1}
.pv-chart .pv-line{fill:none;stroke-width:2;stroke-linejoin:round}.pv-chart .pv-band{stroke:none;opacity:.16}
.pv-chart .pv-whisker{stroke-width:1.5;fill:none}.pv-chart .pv-mark{stroke:var(--pv-paper);stroke-width:1.2}.pv-chart .pv-on{stroke:var(--pv-ink);stroke-width:2.5}
)");
}

namespace detail {

/// A coordinate in pixels: two decimals, never in exponent form.
inline std::string pixel(double value) { return significant(std::round(value * 100) / 100, 7); }

/// Round numbers that cover [low, high] in about `count` steps: multiples of 1, 2, 2.5 or 5 times a power of ten.
struct Ticks {
  double step = 1;
  int digits = 0;  // after the point
  std::vector<double> values;
};

inline Ticks ticks(double low, double high, int count, bool whole) {
  const double raw = (high - low) / count;
  double power = std::pow(10.0, std::floor(std::log10(raw)));
  double best = 10;
  for (const double m : {1.0, 2.0, 2.5, 5.0}) {
    if (m * power >= raw * (1 - 1e-9)) {
      best = m;
      break;
    }
  }
  Ticks out;
  out.step = best * power;
  if (whole) {
    out.step = std::max(1.0, std::ceil(out.step - 1e-9));
  }
  const double places = -std::floor(std::log10(out.step) + 1e-9) + (best == 2.5 ? 1 : 0);
  out.digits = whole ? 0 : static_cast<int>(std::clamp(places, 0.0, 9.0));
  for (double i = std::ceil(low / out.step - 1e-9) + 0.0; i <= high / out.step + 1e-9 && out.values.size() < 100; ++i) {
    out.values.push_back(i * out.step + 0.0);  // + 0.0: no "-0"
  }
  return out;
}

/// One axis: data to pixels.
struct Scale {
  double low = 0;
  double high = 1;
  double from = 0;
  double to = 1;
  double operator()(double v) const { return from + (std::clamp(v, low, high) - low) / (high - low) * (to - from); }
};

/// The range of an axis: what is given, else the data's, widened to whole ticks.
inline Scale range(const Axis& axis, const std::vector<double>& values, int count) {
  double low = std::numeric_limits<double>::infinity();
  double high = -low;
  for (const double v : values) {
    low = std::min(low, v);
    high = std::max(high, v);
  }
  if (values.empty()) {
    low = 0;
    high = 1;
  }
  low = axis.low.value_or(low);
  high = axis.high.value_or(high);
  if (!(high - low > 1e-12 * std::max(std::abs(low), std::abs(high)))) {  // one value: some room around it
    const double room = axis.whole ? 1 : std::max(std::abs(low) * 0.1, 1e-6);
    low -= axis.low ? 0 : room;
    high += axis.high && !axis.low ? 0 : room;
  }
  if (axis.whole) {  // epochs: the plot begins and ends with the data
    return {low, high, 0, 1};
  }
  const double step = ticks(low, high, count, axis.whole).step;
  return {axis.low ? low : std::floor(low / step + 1e-9) * step,
          axis.high ? high : std::ceil(high / step - 1e-9) * step, 0, 1};
}

inline std::string colour(std::size_t index) { return "var(--pv-c" + std::to_string(index % 8) + ")"; }

inline std::string text(double x, double y, std::string_view words, std::string_view anchor = "start",
                        std::string_view kind = "", std::string_view more = "") {
  return concat("<text x=\"", pixel(x), "\" y=\"", pixel(y), "\" text-anchor=\"", anchor, "\"",
                kind.empty() ? std::string() : concat(" class=\"", kind, "\""), more, ">", escape(words), "</text>");
}

inline std::string line(std::string_view kind, double x1, double y1, double x2, double y2,
                        std::string_view stroke = "") {
  return concat("<line class=\"", kind, "\" x1=\"", pixel(x1), "\" y1=\"", pixel(y1), "\" x2=\"", pixel(x2), "\" y2=\"",
                pixel(y2), "\"", stroke.empty() ? std::string() : concat(" style=\"stroke:", stroke, "\""), "/>");
}

/// The marker of a series: circle, square, diamond or triangle.
inline std::string marker(std::size_t index, double x, double y, double r, std::string_view tooltip) {
  const std::string fill = concat(" class=\"pv-mark\" style=\"fill:", colour(index), "\">",
                                  tooltip.empty() ? std::string() : concat("<title>", escape(tooltip), "</title>"));
  const auto path = [&](std::string_view d) {
    return concat("<path transform=\"translate(", pixel(x), " ", pixel(y), ")\" d=\"", d, "\"", fill, "</path>");
  };
  const std::string s = pixel(r);
  switch (index % 4) {
    case 1:
      return concat("<rect x=\"", pixel(x - r), "\" y=\"", pixel(y - r), "\" width=\"", pixel(2 * r), "\" height=\"",
                    pixel(2 * r), "\"", fill, "</rect>");
    case 2:
      return path(
          concat("M0-", pixel(r * 1.35), "L", pixel(r * 1.35), " 0 0 ", pixel(r * 1.35), "-", pixel(r * 1.35), " 0z"));
    case 3:
      return path(concat("M0-", pixel(r * 1.2), "L", pixel(r * 1.2), " ", s, "H-", pixel(r * 1.2), "z"));
    default:
      return concat("<circle cx=\"", pixel(x), "\" cy=\"", pixel(y), "\" r=\"", s, "\"", fill, "</circle>");
  }
}

inline double text_width(std::string_view words, double size = 13) {
  return 0.58 * size * static_cast<double>(display_width(words));
}

/// Everything around the data: title, grid, ticks, axis titles, legend. `x` and `y` come out as scales to pixels.
class Frame {
  static constexpr std::size_t kLongestName = 40;

 public:
  Scale x;
  Scale y;

  Frame(const Chart& chart, std::string_view operation, const std::vector<std::string>& legend,
        const std::vector<std::size_t>& colours, const std::vector<double>& xs, const std::vector<double>& ys,
        bool x_ticks = true) {
    require(chart.width >= 160 && chart.width <= 10000 && chart.height >= 120 && chart.height <= 10000, operation, ": ",
            chart.width, " x ", chart.height, " pixels, expected 160 x 120 to 10000 x 10000");
    for (const auto* axis : {&chart.x, &chart.y}) {
      require(std::isfinite(axis->low.value_or(0)) && std::isfinite(axis->high.value_or(0)) &&
                  (!axis->low || !axis->high || *axis->low < *axis->high),
              operation, ": an axis from ", axis->low.value_or(0), " to ", axis->high.value_or(0),
              ", expected finite numbers in ascending order");
    }
    for (const auto* values : {&xs, &ys}) {
      for (const double v : *values) {
        require(std::isfinite(v), operation, ": a coordinate or bound is ", v, ", expected a finite number");
      }
    }
    const double width = chart.width;
    const int y_count = std::max(2, chart.height / 60);
    y = range(chart.y, ys, y_count);
    const Ticks y_ticks = ticks(y.low, y.high, y_count, chart.y.whole);
    double label_width = 0;
    for (const double v : y_ticks.values) {
      label_width = std::max(label_width, text_width(fixed(v, y_ticks.digits) + chart.y.unit, 12));
    }
    left = 30 + label_width;
    right = width - 16;
    top = chart.title.empty() ? 14 : 36;

    // The legend stands below the plot, in as many rows as it needs.
    std::vector<std::pair<double, int>> places;  // x and row of each entry
    double at = left;
    int rows = legend.empty() ? 0 : 1;
    for (const auto& name : legend) {
      const double entry = 48 + text_width(shorten(name, kLongestName));
      if (at > left && at + entry > width) {
        at = left;
        ++rows;
      }
      places.emplace_back(at, rows - 1);
      at += entry;
    }
    bottom = chart.height - 8.0 - 20 * rows - (chart.x.title.empty() ? 0 : 22) - 22;
    require(bottom - top >= 30 && right - left >= 30, operation, ": ", chart.width, " x ", chart.height,
            " pixels leave no room for the data beside ", legend.size(), " names");
    y.from = bottom;
    y.to = top;
    const int x_count = std::clamp(static_cast<int>((right - left) / (chart.x.whole ? 40 : 75)), 2, 12);
    x = range(chart.x, xs, x_count);
    x.from = left;
    x.to = right;

    out = concat("<svg class=\"pv-chart\" xmlns=\"http://www.w3.org/2000/svg\" width=\"", chart.width, "\" height=\"",
                 chart.height, "\" viewBox=\"0 0 ", chart.width, " ", chart.height, "\" role=\"img\" aria-label=\"",
                 escape(chart.title), "\">");
    if (chart.standalone) {
      out += concat("<style>", chart_style(),
                    "</style><rect width=\"100%\" height=\"100%\" style=\"fill:var(--pv-paper)\"/>");
    }
    if (!chart.title.empty()) {
      out += text(16, 20, chart.title, "start", "pv-title");
    }
    for (const double v : y_ticks.values) {
      out += line("pv-grid", left, y(v), right, y(v));
      out += text(left - 7, y(v) + 4, fixed(v, y_ticks.digits) + chart.y.unit, "end", "pv-tick");
    }
    if (x_ticks) {
      const Ticks marks = ticks(x.low, x.high, x_count, chart.x.whole);
      for (const double v : marks.values) {
        out += line("pv-grid", x(v), top, x(v), bottom);
        out += text(x(v), bottom + 17, fixed(v, marks.digits) + chart.x.unit, "middle", "pv-tick");
      }
    }
    out += line("pv-axis", left, bottom, right, bottom);
    if (!chart.x.title.empty()) {
      out += text((left + right) / 2, bottom + 37, chart.x.title, "middle");
    }
    if (!chart.y.title.empty()) {
      const double middle = (top + bottom) / 2;
      out += text(14, middle, chart.y.title, "middle", "", concat(" transform=\"rotate(-90 14 ", pixel(middle), ")\""));
    }
    for (std::size_t i = 0; i < legend.size(); ++i) {
      const double base = chart.height - 10.0 - 20 * (rows - 1 - places[i].second);
      out += line("pv-line", places[i].first, base - 4, places[i].first + 22, base - 4, colour(colours[i]));
      out += marker(colours[i], places[i].first + 11, base - 4, 4, "");
      out += text(places[i].first + 28, base, shorten(legend[i], kLongestName));
    }
    out += "\n";
  }

  /// A line over an interval with a short bar at both ends, vertical or horizontal.
  std::string whisker(double at, const evaluate::Interval& interval, bool vertical, std::string_view stroke) const {
    const double a = vertical ? y(interval.low) : x(interval.low);
    const double b = vertical ? y(interval.high) : x(interval.high);
    const auto draw = [&](double x1, double y1, double x2, double y2) {
      return vertical ? line("pv-whisker", x1, y1, x2, y2, stroke) : line("pv-whisker", y1, x1, y2, x2, stroke);
    };
    return draw(at, a, at, b) + draw(at - 4, a, at + 4, a) + draw(at - 4, b, at + 4, b);
  }

  std::string out;
  double left = 0;
  double right = 0;
  double top = 0;
  double bottom = 0;
};

inline std::size_t colour_index(const std::vector<Series>& series, std::size_t i) {
  return series[i].colour.value_or(i) % 8;
}

/// Frames all points of `series` with their intervals.
inline Frame frame(const std::vector<Series>& series, const Chart& chart, std::string_view operation, bool legend) {
  std::vector<std::string> names;
  std::vector<std::size_t> colours;
  std::vector<double> xs;
  std::vector<double> ys;
  for (std::size_t i = 0; i < series.size(); ++i) {
    if (legend) {
      names.push_back(series[i].name);
      colours.push_back(colour_index(series, i));
    }
    for (const auto& p : series[i].points) {
      xs.push_back(p.x);
      ys.push_back(p.y);
      for (auto [bounds, values] : {std::pair(&p.x_interval, &xs), std::pair(&p.y_interval, &ys)}) {
        if (*bounds) {
          values->push_back((*bounds)->low);
          values->push_back((*bounds)->high);
        }
      }
    }
  }
  return Frame(chart, operation, names, colours, xs, ys);
}

}  // namespace detail

/// A line for each series, with a band over the points' `y_interval`s, a marker and a tooltip at each point (where the
/// series has marks), and a legend. Points are joined in the order given. Throws ValueError for a coordinate that is not
/// finite or a chart without room.
inline std::string line_chart(const std::vector<Series>& series, const Chart& chart) {
  detail::Frame frame = detail::frame(series, chart, "line_chart", true);
  const auto at = [&](double x, double y) { return detail::pixel(frame.x(x)) + "," + detail::pixel(frame.y(y)) + " "; };
  std::string bands;
  std::string lines;
  for (std::size_t i = 0; i < series.size(); ++i) {
    const auto& points = series[i].points;
    const std::size_t colour = detail::colour_index(series, i);
    std::string upper;
    std::string lower;
    std::string path;
    for (std::size_t j = 0; j < points.size(); ++j) {
      path += at(points[j].x, points[j].y);
      const auto& back = points[points.size() - 1 - j];
      upper += points[j].y_interval ? at(points[j].x, points[j].y_interval->high) : "";
      lower += back.y_interval ? at(back.x, back.y_interval->low) : "";
    }
    if (!upper.empty()) {
      bands += concat("<polygon class=\"pv-band\" style=\"fill:", detail::colour(colour), "\" points=\"", upper, lower,
                      "\"/>");
    }
    constexpr const char* kDashes[] = {"none", "7 3", "2 3", "9 3 2 3"};
    lines += concat("<polyline class=\"pv-line\" style=\"stroke:", detail::colour(colour),
                    ";stroke-dasharray:", kDashes[colour % 4], "\" points=\"", path, "\"/>");
    const double r = points.size() > 30 ? 2.2 : 3.6;
    for (const auto& p : points) {
      lines += series[i].marks ? detail::marker(colour, frame.x(p.x), frame.y(p.y), r, p.tooltip) : "";
    }
  }
  return frame.out + bands + lines + "</svg>\n";
}

/// A labelled point for each point of each series (its label is the series' name), with error bars over the points'
/// intervals. Throws as `line_chart` does.
inline std::string scatter_chart(const std::vector<Series>& series, const Chart& chart) {
  detail::Frame frame = detail::frame(series, chart, "scatter_chart", false);
  std::string marks;
  std::string labels;
  struct Box {
    double x0, y0, x1, y1;
  };
  std::vector<Box> taken;
  for (std::size_t i = 0; i < series.size(); ++i) {
    for (const auto& p : series[i].points) {
      const double x = frame.x(p.x);
      const double y = frame.y(p.y);
      taken.push_back({x - 6, y - 6, x + 6, y + 6});
      if (p.x_interval) {
        taken.push_back({frame.x(p.x_interval->low) - 2, y - 5, frame.x(p.x_interval->high) + 2, y + 5});
      }
      if (p.y_interval) {
        taken.push_back({x - 5, frame.y(p.y_interval->high) - 2, x + 5, frame.y(p.y_interval->low) + 2});
      }
    }
  }
  for (std::size_t i = 0; i < series.size(); ++i) {
    const std::size_t colour = detail::colour_index(series, i);
    for (const auto& p : series[i].points) {
      const double x = frame.x(p.x);
      const double y = frame.y(p.y);
      marks += p.y_interval ? frame.whisker(x, *p.y_interval, true, detail::colour(colour)) : "";
      marks += p.x_interval ? frame.whisker(y, *p.x_interval, false, detail::colour(colour)) : "";
      marks += detail::marker(colour, x, y, 5, p.tooltip);
      // The label goes to the first of these places that is inside the plot and free.
      const std::string name = shorten(series[i].name, 28);
      const double width = detail::text_width(name);
      const auto place = [&](double dx, double dy) { return Box{x + dx, y + dy - 12, x + dx + width, y + dy + 3}; };
      Box box = place(10, -8);
      for (const auto& candidate : {place(10, -8), place(-10 - width, -8), place(10, 18), place(-10 - width, 18),
                                    place(10, -24), place(-10 - width, -24), place(10, 34), place(-10 - width, 34)}) {
        const bool inside = candidate.x0 >= frame.left && candidate.x1 <= frame.right && candidate.y0 >= frame.top &&
                            candidate.y1 <= frame.bottom;
        const bool free = std::none_of(taken.begin(), taken.end(), [&](const Box& b) {
          return candidate.x0 < b.x1 && b.x0 < candidate.x1 && candidate.y0 < b.y1 && b.y0 < candidate.y1;
        });
        if (inside && free) {
          box = candidate;
          break;
        }
      }
      taken.push_back(box);
      labels += detail::text(box.x0, box.y1 - 3, name);
    }
  }
  return frame.out + marks + labels + "</svg>\n";
}

/// A group of bars for each category, a bar in it for each series: point j of a series belongs to category j, and only
/// its `y`, `y_interval` (a whisker) and tooltip count. Throws ShapeError where a series has not one point for each
/// category, and as `line_chart` does.
inline std::string bar_chart(const std::vector<std::string>& categories, const std::vector<Series>& series,
                             const Chart& chart) {
  std::vector<std::string> names;
  std::vector<std::size_t> colours;
  std::vector<double> ys = {0};
  for (std::size_t i = 0; i < series.size(); ++i) {
    require<ShapeError>(series[i].points.size() == categories.size(), "bar_chart: series ", series[i].name, " has ",
                        series[i].points.size(), " points, expected one for each of ", categories.size(),
                        " categories");
    names.push_back(series[i].name);
    colours.push_back(detail::colour_index(series, i));
    for (const auto& p : series[i].points) {
      ys.push_back(p.y);
      if (p.y_interval) {
        ys.push_back(p.y_interval->low);
        ys.push_back(p.y_interval->high);
      }
    }
  }
  Chart framed = chart;
  framed.x.low = 0;
  framed.x.high = std::max<double>(1, static_cast<double>(categories.size()));
  detail::Frame frame(framed, "bar_chart", names, colours, {}, ys, false);
  const double group = (frame.right - frame.left) / *framed.x.high;
  const double bar = std::min(48.0, group * 0.8 / static_cast<double>(std::max<std::size_t>(series.size(), 1)));
  std::string out = frame.out;
  for (std::size_t j = 0; j < categories.size(); ++j) {
    const double middle = frame.left + (static_cast<double>(j) + 0.5) * group;
    for (std::size_t i = 0; i < series.size(); ++i) {
      const auto& p = series[i].points[j];
      const double x = middle + (static_cast<double>(i) - static_cast<double>(series.size()) / 2) * bar;
      const double zero = frame.y(std::clamp(0.0, frame.y.low, frame.y.high));
      out += concat("<rect x=\"", detail::pixel(x + 1), "\" y=\"", detail::pixel(std::min(zero, frame.y(p.y))),
                    "\" width=\"", detail::pixel(bar - 2), "\" height=\"", detail::pixel(std::abs(zero - frame.y(p.y))),
                    "\" style=\"fill:", detail::colour(colours[i]), "\"><title>",
                    escape(p.tooltip.empty() ? series[i].name : p.tooltip), "</title></rect>");
      out += p.y_interval ? frame.whisker(x + bar / 2, *p.y_interval, true, "var(--pv-ink)") : "";
    }
    const auto room = static_cast<std::size_t>(std::max(1.0, group / (0.56 * 12)));
    out += detail::text(middle, frame.bottom + 17, shorten(categories[j], room), "middle", "pv-tick");
  }
  return out + "</svg>\n";
}

}  // namespace pavise::report
