// SPDX-License-Identifier: MIT
// What the lessons share: the command line, the images, numbers as a table shows them, pictures, and claims that are
// checked as they are made. Nothing of what a lesson teaches is here.
#pragma once

#include <getopt.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/data/idx.hpp"
#include "pavise/data/synthetic.hpp"
#include "pavise/evaluate/interval.hpp"
#include "pavise/io/file.hpp"
#include "pavise/report/png.hpp"
#include "pavise/report/svg.hpp"
#include "pavise/report/table.hpp"
#include "pavise/report/text.hpp"

namespace pavise::lesson {

/// One lesson on its way: what it was asked for, and what it has shown.
class Lesson {
 public:
  std::uint64_t seed = 0;
  data::Dataset train, test;

  /// Reads the command line, and the first images of the training and of the test set. Ends the program for --help and
  /// for what it does not know.
  Lesson(int argc, char** argv, const std::string& title, std::int64_t train_count, std::int64_t test_count) {
    const bool digits = read_options(argc, argv, title);
    std::printf("%s\n\n", title.c_str());
    data::Split split;
    try {
      split = digits ? data::drawn_digits() : data::fashion_mnist();
    } catch (const IoError& e) {
      std::printf("No Fashion-MNIST here, so digits drawn by the program take its place.\n(%s)\n", e.what());
      split = data::drawn_digits();
    }
    train = split.train.first(train_count);
    test = split.test.first(test_count);
    std::printf("%s: %s images to train on, %s to test.\n", train.name().c_str(), report::grouped(train.size()).c_str(),
                report::grouped(test.size()).c_str());
    std::fflush(stdout);
  }

  /// What class `k` is called.
  const std::string& name(std::int32_t k) const { return test.class_names()[static_cast<std::size_t>(k)]; }

  /// Writes a picture into the folder.
  void picture(const std::string& file, const std::string& bytes) const {
    std::filesystem::create_directories(out_);
    io::write_atomically(out_ + "/" + file, bytes);
    std::printf("picture: %s\n", file.c_str());  // without the folder: the output is the same wherever it goes
  }

  /// States what the lesson has just shown. A claim about Fashion-MNIST that the numbers do not bear out makes the
  /// program fail; drawn digits are easier, and no claim is about them.
  void claim(bool holds, const std::string& what) {
    std::printf("%s: %s\n", holds ? "holds" : "DOES NOT HOLD", what.c_str());
    all_hold_ = all_hold_ && (holds || test.name() != "Fashion-MNIST");
  }

  /// The program's exit status.
  int end() const { return all_hold_ ? 0 : 1; }

 private:
  /// Whether --digits is among the options.
  bool read_options(int argc, char** argv, const std::string& title) {
    const option options[] = {{"help", no_argument, nullptr, 'h'},
                              {"seed", required_argument, nullptr, 's'},
                              {"out", required_argument, nullptr, 'o'},
                              {"digits", no_argument, nullptr, 'd'},
                              {}};
    bool digits = false;
    for (int o = 0; (o = getopt_long(argc, argv, "h", options, nullptr)) != -1;) {
      if (o == 's') {
        char* end = nullptr;
        seed = std::strtoull(optarg, &end, 10);
        if (*optarg < '0' || *optarg > '9' || *end != '\0') {
          std::fprintf(stderr, "--seed %s, expected a whole number\n", optarg);
          std::exit(2);
        }
      } else if (o == 'o') {
        out_ = optarg;
      } else if (o == 'd') {
        digits = true;
      } else {
        std::printf(
            "%s\n\n  --seed N    seed of every random number (default: 0)\n"
            "  --out DIR   folder for the pictures (default: lesson-output)\n"
            "  --digits    digits drawn by the program, even where Fashion-MNIST is there\n",
            title.c_str());
        std::exit(o == 'h' ? 0 : 2);
      }
    }
    return digits;
  }

  std::string out_ = "lesson-output";
  bool all_hold_ = true;
};

/// k of n in percent with its exact 95 % interval: "63.4 % (60.3 to 66.4)".
inline std::string share(std::int64_t k, std::int64_t n) {
  const auto interval = evaluate::clopper_pearson(k, n);
  return concat(report::percent(k, n), " % (", report::fixed(100 * interval.low, 1), " to ",
                report::fixed(100 * interval.high, 1), ")");
}

/// k of n in percent at `x`, with its exact 95 % interval, for a chart.
inline report::Point point(double x, std::int64_t k, std::int64_t n) {
  const auto interval = evaluate::clopper_pearson(k, n);
  return {.x = x,
          .y = 100 * static_cast<double>(k) / static_cast<double>(n),
          .x_interval = {},
          .y_interval = evaluate::Interval{100 * interval.low, 100 * interval.high},
          .tooltip = share(k, n)};
}

/// A chart of shares, as a file of its own.
inline report::Chart percent_chart(const std::string& title, const std::string& x_title) {
  return {.title = title,
          .x = {.title = x_title, .low = {}, .high = {}, .unit = ""},
          .y = {.title = "images", .low = 0, .high = 100, .unit = " %"},
          .width = 640,
          .height = 360,
          .standalone = true};
}

/// An image under a caption; "|" breaks a caption into two lines.
struct Shot {
  std::vector<float> pixels;  ///< 28x28, from 0 (black) to 1 (white)
  std::string caption;
};

/// Images side by side, behind the name of their row.
struct Row {
  std::string name;
  std::vector<Shot> shots;
};

/// Of numbers around 0 a picture: mid-grey is 0, white the largest magnitude, black its negative.
inline std::vector<float> around_grey(std::span<const float> values) {
  float largest = 0;
  for (const float v : values) {
    largest = std::max(largest, std::abs(v));
  }
  std::vector<float> out;
  for (const float v : values) {
    out.push_back(largest > 0 ? 0.5f + 0.5f * v / largest : 0.5f);
  }
  return out;
}

/// Rows of images as SVG.
inline std::string gallery(const std::string& title, const std::vector<Row>& rows) {
  constexpr int kSide = 28;
  constexpr int kSize = 3 * kSide;
  constexpr int kWidth = kSize + 18;  // of a column
  constexpr int kHeight = kSize + 40;
  constexpr int kNames = 130;  // room for the rows' names
  const auto lines = [](int x, int y, const std::string& words, const char* anchor, const char* kind) {
    const auto bar = words.find('|');
    std::string out = report::detail::text(x, y, words.substr(0, bar), anchor, kind);
    return bar == std::string::npos ? out : out + report::detail::text(x, y + 14, words.substr(bar + 1), anchor, kind);
  };
  std::size_t columns = 0;
  for (const auto& row : rows) {
    columns = std::max(columns, row.shots.size());
  }
  const int width = kNames + kWidth * static_cast<int>(columns);
  const int height = 40 + kHeight * static_cast<int>(rows.size());
  std::string out = concat("<svg class=\"pv-chart\" xmlns=\"http://www.w3.org/2000/svg\" width=\"", width,
                           "\" height=\"", height, "\" viewBox=\"0 0 ", width, " ", height,
                           "\" role=\"img\" aria-label=\"", report::escape(title), "\"><style>", report::chart_style(),
                           ".pv-chart .pv-tick{font-size:11px}image{image-rendering:pixelated}</style>",
                           "<rect width=\"100%\" height=\"100%\" style=\"fill:var(--pv-paper)\"/>",
                           report::detail::text(16, 20, title, "start", "pv-title"));
  int y = 36;
  for (const auto& row : rows) {
    out += lines(16, y + kSize / 2, row.name, "start", "");
    int x = kNames;
    for (const auto& shot : row.shots) {
      require<ShapeError>(shot.pixels.size() == kSide * kSide, "gallery: an image of ", shot.pixels.size(),
                          " pixels, expected 28x28");
      report::Image image{kSide, kSide, 1, {}};
      for (const float v : shot.pixels) {
        image.pixels.push_back(static_cast<std::uint8_t>(std::lround(std::clamp(v, 0.0f, 1.0f) * 255)));
      }
      out += concat("<image x=\"", x, "\" y=\"", y, "\" width=\"", kSize, "\" height=\"", kSize, "\" href=\"",
                    report::png_data_uri(image), "\"/>",
                    lines(x + kSize / 2, y + kSize + 13, shot.caption, "middle", "pv-tick"), "\n");
      x += kWidth;
    }
    y += kHeight;
  }
  return out + "</svg>\n";
}

/// The pixels of image `i` of a stack.
inline std::vector<float> image_of(const Tensor<float>& images, std::int64_t i) {
  const auto row = images.row(i);
  return {row.begin(), row.end()};
}

}  // namespace pavise::lesson
