// SPDX-License-Identifier: MIT
// The bar writes to a temporary file, and a clock of the test's own says what time it is.
#include "pavise/report/progress.hpp"

#include <doctest/doctest.h>

#include <atomic>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

using pavise::report::display_width;
using pavise::report::ProgressBar;
using pavise::report::ProgressOptions;

namespace {

std::atomic<double> now{0};

/// A file that is read back and removed.
struct Sink {
  std::FILE* file = std::tmpfile();
  ~Sink() { std::fclose(file); }
  std::string text() const {
    std::fflush(file);
    std::rewind(file);
    std::string out;
    for (int c = std::fgetc(file); c != EOF; c = std::fgetc(file)) {
      out += static_cast<char>(c);
    }
    return out;
  }
};

ProgressOptions options(const Sink& sink, ProgressOptions::Style style, int width = 80) {
  now = 0;
  ProgressOptions out;
  out.sink = sink.file;
  out.style = style;
  out.width = width;
  out.clock = [] { return now.load(); };
  return out;
}

/// What a terminal would show: each drawing begins with a carriage return.
std::vector<std::string> drawings(const std::string& text) {
  std::vector<std::string> out;
  for (const char c : text) {
    if (c == '\r') {
      out.emplace_back();
    } else if (!out.empty()) {
      out.back() += c;
    }
  }
  return out;
}

}  // namespace

TEST_CASE("progress: plain lines at intervals where the sink is a file") {
  const Sink sink;
  ProgressBar bar("PGD-7 epoch 3/5", 60000, options(sink, ProgressOptions::Style::automatic));
  for (int i = 1; i <= 12; ++i) {
    now = i;
    bar.note("loss 0.31");
    bar.advance(5000);
  }
  bar.finish();
  bar.finish();
  CHECK(sink.text() ==
        "PGD-7 epoch 3/5  33 %  4,000 images/s  0:10 left  loss 0.31\n"
        "PGD-7 epoch 3/5  75 %  4,500 images/s  0:03 left  loss 0.31\n"
        "PGD-7 epoch 3/5: 60,000 images in 12.0 s, 5,000 images/s  loss 0.31\n");
}

TEST_CASE("progress: one line, redrawn at most ten times a second, on a terminal") {
  const Sink sink;
  ProgressBar bar("train", 1000, options(sink, ProgressOptions::Style::redraw));
  for (int i = 1; i <= 1000; ++i) {
    now = i * 0.002;
    bar.advance();
  }
  bar.finish();
  const auto shown = drawings(sink.text());
  CHECK(shown.size() >= 20);
  CHECK(shown.size() <= 23);
  for (const auto& line : shown) {
    CHECK(display_width(line) <= 80);
  }
  CHECK(shown[shown.size() / 2].find("images/s") != std::string::npos);
  CHECK(shown[shown.size() / 2].find("[=====") != std::string::npos);
  CHECK(shown[shown.size() / 2].find(" left") != std::string::npos);
  CHECK(shown.back().find("1,000 images in 2.00 s, 500 images/s") != std::string::npos);
  CHECK(shown.back().ends_with("\n"));
}

TEST_CASE("progress: every width is kept to; the bar goes first, the share last") {
  for (const int width : {8, 12, 20, 30, 40, 60, 80, 200}) {
    const Sink sink;
    CAPTURE(width);
    ProgressBar bar("Gr\u00F6\u00DFe epoch 3/5", 1000, options(sink, ProgressOptions::Style::redraw, width));
    now = 1;
    bar.advance(500);
    now = 2;
    bar.note("loss 0.31");
    const auto shown = drawings(sink.text());
    REQUIRE(shown.size() == 2);
    for (const auto& line : shown) {
      CHECK(display_width(line) < static_cast<std::size_t>(width));
      CHECK(line.find("50 %") != std::string::npos);
    }
    CHECK((shown[1].find('[') != std::string::npos) == (width >= 80));
    CHECK((shown[1].find("loss 0.31") != std::string::npos) == (width >= 60));
  }
}

TEST_CASE("progress: a shorter line leaves nothing of the longer one") {
  const Sink sink;
  ProgressBar bar("a", 100, options(sink, ProgressOptions::Style::redraw));
  now = 1;
  bar.note("a long note");
  now = 2;
  bar.note("");
  const auto shown = drawings(sink.text());
  REQUIRE(shown.size() == 2);
  CHECK(display_width(shown[1]) == display_width(shown[0]));
  CHECK(shown[1].find("note") == std::string::npos);
}

TEST_CASE("progress: line breaks in words, an unknown total, no sink, a bar that is never finished") {
  const Sink sink;
  {
    ProgressOptions o = options(sink, ProgressOptions::Style::redraw);
    o.unit = "samples";
    ProgressBar bar("two\nlines\x1B[2J", 0, o);
    now = 1;
    bar.advance(1234);
  }
  CHECK(sink.text() == "\rtwo lines [2J 1,234  1,234 samples/s\n");
  ProgressOptions quiet;
  quiet.sink = nullptr;
  ProgressBar bar("quiet", 10, quiet);
  bar.advance(10);
  bar.finish();
  CHECK(bar.done() == 10);
}

TEST_CASE("progress: threads may advance together") {
  const Sink sink;
  ProgressOptions o = options(sink, ProgressOptions::Style::redraw);
  o.clock = pavise::report::steady_seconds;
  o.redraw_seconds = 0;
  ProgressBar bar("threads", 40000, o);
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&bar] {
      for (int i = 0; i < 10000; ++i) {
        bar.advance();
        if (i % 1000 == 0) {
          bar.note("i = " + std::to_string(i));
        }
      }
    });
  }
  for (auto& thread : threads) {
    thread.join();
  }
  bar.finish();
  CHECK(bar.done() == 40000);
  CHECK(drawings(sink.text()).back().find("40,000 images in ") != std::string::npos);
}
