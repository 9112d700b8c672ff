// SPDX-License-Identifier: MIT
// Data sets made in code, for machines without files and for tests. Image i is a function of (seed, i) alone. The
// drawing uses +, -, *, / and sqrt only: no sine whose last bit depends on the C library.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/data/dataset.hpp"

namespace pavise::data {

/// How many digits to draw, and from which numbers.
struct DrawnDigits {
  std::int64_t train = 20000;
  std::int64_t test = 4000;
  std::uint64_t seed = 0;
};

namespace detail {

struct Point {
  double x, y;
};

/// The strokes of a digit, each a control polygon in a box of 20 wide, 28 high, y downwards; drawn as smooth curves
/// (quadratic B-splines that start and end at the ends of the polygon). A stroke of two points is a straight line.
inline std::span<const std::span<const Point>> digit_strokes(int digit) {
  static constexpr Point kZero[] = {{10, 1}, {0, 1}, {0, 27}, {20, 27}, {20, 1}, {10, 1}};
  static constexpr Point kOneTop[] = {{4, 7}, {11, 1}};
  static constexpr Point kOneStem[] = {{11, 1}, {11, 27}};
  static constexpr Point kTwo[] = {{2, 8}, {3, 0}, {11, 0}, {19, 1}, {18, 9}, {16, 14}, {8, 20}, {2, 26}, {2, 26}};
  static constexpr Point kTwoBase[] = {{2, 26}, {18, 26}};
  static constexpr Point kThreeTop[] = {{3, 3}, {10, -1}, {18, 2}, {18, 9}, {14, 13}, {8, 13}};
  static constexpr Point kThreeLow[] = {{8, 13}, {16, 13}, {20, 18}, {18, 26}, {10, 29}, {2, 25}};
  static constexpr Point kFourBar[] = {{13, 1}, {2, 18}, {2, 18}, {19, 18}};
  static constexpr Point kFourStem[] = {{14, 9}, {14, 27}};
  static constexpr Point kFiveTop[] = {{17, 2}, {5, 2}};
  static constexpr Point kFiveLow[] = {{5, 2}, {4, 12}, {4, 12}, {10, 9}, {19, 11}, {20, 22}, {12, 29}, {2, 25}};
  static constexpr Point kSix[] = {{15, 1}, {7, 4}, {2, 14}, {1, 24}, {9, 29}, {18, 26}, {18, 17}, {10, 12}, {3, 18}};
  static constexpr Point kSevenTop[] = {{2, 2}, {18, 2}};
  static constexpr Point kSevenStem[] = {{18, 2}, {13, 10}, {9, 18}, {7, 27}};
  static constexpr Point kEight[] = {{10, 13}, {2, 10}, {3, 1},   {10, 0},  {17, 1},  {18, 10}, {10, 13},
                                     {1, 17},  {1, 27}, {10, 28}, {19, 27}, {19, 17}, {10, 13}};
  static constexpr Point kNine[] = {{17, 10}, {10, 16}, {2, 12},  {2, 3},  {10, -1},
                                    {17, 2},  {18, 10}, {17, 20}, {12, 27}};
  static constexpr std::span<const Point> kAll[] = {kZero,     kOneTop,    kOneStem,  kTwo,     kTwoBase, kThreeTop,
                                                    kThreeLow, kFourBar,   kFourStem, kFiveTop, kFiveLow, kSix,
                                                    kSevenTop, kSevenStem, kEight,    kNine};
  static constexpr std::array<std::size_t, 11> kFirst = {0, 1, 3, 5, 7, 9, 11, 12, 14, 15, 16};
  const auto d = static_cast<std::size_t>(digit);
  return std::span(kAll).subspan(kFirst[d], kFirst[d + 1] - kFirst[d]);
}

/// Square of the distance from `p` to the segment from `a` to `b`.
inline double squared_distance(Point p, Point a, Point b) {
  const double dx = b.x - a.x;
  const double dy = b.y - a.y;
  const double length = dx * dx + dy * dy;
  const double t = length > 0 ? std::clamp(((p.x - a.x) * dx + (p.y - a.y) * dy) / length, 0.0, 1.0) : 0.0;
  const double ex = p.x - a.x - t * dx;
  const double ey = p.y - a.y - t * dy;
  return ex * ex + ey * ey;
}

/// Appends the segments of the smooth curve of `polygon` to `segments`.
inline void append_curve(std::span<const Point> polygon, std::vector<std::pair<Point, Point>>& segments) {
  constexpr int kSteps = 4;
  const auto middle = [](Point a, Point b) { return Point{(a.x + b.x) / 2, (a.y + b.y) / 2}; };
  Point last = polygon.front();
  for (std::size_t k = 1; k + 1 < polygon.size(); ++k) {
    const Point start = last;
    const Point control = polygon[k];
    const Point end = k + 2 == polygon.size() ? polygon[k + 1] : middle(control, polygon[k + 1]);
    for (int s = 1; s <= kSteps; ++s) {
      const double t = static_cast<double>(s) / kSteps;
      const double u = 1 - t;
      const Point next{u * u * start.x + 2 * u * t * control.x + t * t * end.x,
                       u * u * start.y + 2 * u * t * control.y + t * t * end.y};
      segments.emplace_back(last, next);
      last = next;
    }
  }
  if (polygon.size() == 2) {
    segments.emplace_back(polygon[0], polygon[1]);
  }
}

/// Draws image (seed, index) to `out` (28x28) and returns its digit.
inline std::int32_t draw_digit(std::uint64_t seed, std::uint32_t index, std::uint8_t* out) {
  constexpr int kSide = 28;
  RandomSequence random({.seed = seed, .purpose = Purpose::synthetic_data, .image = index});
  const auto digit = static_cast<std::int32_t>(random.below(10));
  // x' = A (x - centre) + middle: a rotation by the rational parametrisation of the circle, a slant, a size, a place.
  const double half = random.uniform(-0.18, 0.18);
  const double cosine = (1 - half * half) / (1 + half * half);
  const double sine = 2 * half / (1 + half * half);
  const double slant = random.uniform(-0.35, 0.35);
  const double size_x = random.uniform(0.5, 0.85);
  const double size_y = random.uniform(0.5, 0.75);
  const Point middle{13.5 + random.uniform(-2.6, 2.6), 13.5 + random.uniform(-2.6, 2.6)};
  const double radius = random.uniform(0.6, 1.6);
  const double ink = random.uniform(0.65, 1.0);
  const double paper = random.uniform(0.0, 0.12);
  const double grain = random.uniform(0.02, 0.12);

  std::vector<std::pair<Point, Point>> segments;
  std::vector<Point> polygon;
  Point wobble{};
  for (const auto& stroke : digit_strokes(digit)) {
    polygon.clear();
    for (const Point p : stroke) {
      // A hand does not repeat itself: control points wander, neighbours together.
      wobble = {0.5 * wobble.x + random.uniform(-1.4, 1.4), 0.5 * wobble.y + random.uniform(-1.4, 1.4)};
      const double y = (p.y + wobble.y - 14) * size_y;
      const double x = (p.x + wobble.x - 10) * size_x - slant * y;
      polygon.push_back({cosine * x - sine * y + middle.x, sine * x + cosine * y + middle.y});
    }
    append_curve(polygon, segments);
  }
  std::array<double, kSide * kSide> nearest{};  // squared distance to the line, where it is near
  nearest.fill(1e9);
  const double reach = radius + 1;
  const auto pixel = [](double v) { return static_cast<int>(std::clamp(v, 0.0, kSide - 1.0)); };
  for (const auto& [a, b] : segments) {
    const int right = pixel(std::max(a.x, b.x) + reach);
    const int bottom = pixel(std::max(a.y, b.y) + reach);
    for (int y = pixel(std::min(a.y, b.y) - reach); y <= bottom; ++y) {
      for (int x = pixel(std::min(a.x, b.x) - reach); x <= right; ++x) {
        auto& value = nearest[static_cast<std::size_t>(y * kSide + x)];
        value = std::min(value, squared_distance({static_cast<double>(x), static_cast<double>(y)}, a, b));
      }
    }
  }
  for (std::size_t k = 0; k < nearest.size(); ++k) {
    const double cover = std::clamp(radius + 0.5 - std::sqrt(nearest[k]), 0.0, 1.0);  // anti-aliased over one pixel
    const double noise = 2 * grain * (random.uniform() + random.uniform() + random.uniform() - 1.5);
    const double value = paper + (ink - paper) * cover + noise;
    out[k] = static_cast<std::uint8_t>(std::clamp(value, 0.0, 1.0) * 255 + 0.5);
  }
  return digit;
}

}  // namespace detail

/// Drawn digits: images (1,28,28) of ten classes with random shape, slant, size, place, thickness and grain. Image i of
/// the test set is image `i` counted down from 2^32 - 1, so that it is the same however many there are for training.
/// About thirty microseconds an image and thread. Throws ValueError for a negative number, or more than 2^31.
inline Split drawn_digits(const DrawnDigits& options = {}) {
  const auto part = [&](std::int64_t n, bool test) {
    require(n >= 0 && n <= std::int64_t{1} << 31, "drawn_digits: ", n, test ? " test" : " training",
            " images, expected 0 to 2^31");
    std::vector<std::uint8_t> pixels(static_cast<std::size_t>(n) * 784);
    std::vector<std::int32_t> labels(static_cast<std::size_t>(n));
    parallel_chunks(n, 64, [&](std::int64_t begin, std::int64_t end) {
      for (auto i = begin; i < end; ++i) {
        const auto index = static_cast<std::uint32_t>(test ? 0xFFFFFFFF - i : i);
        labels[static_cast<std::size_t>(i)] = detail::draw_digit(options.seed, index, pixels.data() + i * 784);
      }
    });
    return Dataset("drawn digits", Shape{1, 28, 28}, std::move(pixels), std::move(labels),
                   {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"});
  };
  return {part(options.train, false), part(options.test, true)};
}

/// A toy problem with a known answer: two classes of `n` images (1,1,d) whose pixels are normal around 1/2 - distance/2
/// and 1/2 + distance/2 with standard deviation `deviation`, clipped to [0,1] and rounded to bytes. Classes alternate.
/// Throws ValueError for n or d below 1, or a negative distance or deviation.
inline Dataset two_gaussians(std::int64_t n, std::int64_t d, double distance, double deviation, std::uint64_t seed) {
  require(n >= 1 && d >= 1 && distance >= 0 && deviation >= 0, "two_gaussians: n ", n, ", d ", d, ", distance ",
          distance, ", deviation ", deviation, ", expected n and d of 1 or more and no negative number");
  std::vector<std::uint8_t> pixels;
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < n; ++i) {
    RandomSequence random({.seed = seed, .purpose = Purpose::synthetic_data, .image = static_cast<std::uint32_t>(i)});
    const auto label = static_cast<std::int32_t>(i % 2);
    for (std::int64_t k = 0; k < d; ++k) {
      const double value = 0.5 + distance * (label - 0.5) + deviation * random.normal();
      pixels.push_back(static_cast<std::uint8_t>(std::clamp(value, 0.0, 1.0) * 255 + 0.5));
    }
    labels.push_back(label);
  }
  return {"two gaussians", Shape{1, 1, d}, std::move(pixels), std::move(labels), {"low", "high"}};
}

}  // namespace pavise::data
