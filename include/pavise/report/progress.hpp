// SPDX-License-Identifier: MIT
#pragma once

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>

#include "pavise/report/text.hpp"

namespace pavise::report {

/// Seconds since some fixed moment, never running backwards.
inline double steady_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

struct ProgressOptions {
  std::FILE* sink = stderr;                                                ///< where the bar is written; null: nowhere
  enum class Style { automatic, redraw, lines } style = Style::automatic;  ///< automatic: redraw on a terminal
  int width = 0;                ///< columns of the terminal; 0: ask it, else $COLUMNS, else 80
  double redraw_seconds = 0.1;  ///< on a terminal, time between two drawings
  double line_seconds = 5;      ///< elsewhere, time between two lines
  std::string unit = "images";
  double (*clock)() = steady_seconds;
};

/// A progress bar with the rate and the time left, for whoever asks for one: the library itself never prints.
///
///     ProgressBar bar("PGD-7 epoch 3/5", 60000);
///     bar.advance(128);       // from any thread
///     bar.note("loss 0.31");
///     bar.finish();
///
///     PGD-7 epoch 3/5 [=========>          ]  47 %  19,203 images/s  0:02 left  loss 0.31
///
/// On a terminal one line is redrawn in place, at most ten times a second; elsewhere (a file, a pipe) a plain line is
/// written every five seconds. `finish` leaves a line with the totals. A narrow terminal loses the bar first, then the
/// note, the time left and the rate. `advance` and `note` may be called from several threads at a time.
class ProgressBar {
 public:
  /// `total`: how much there is to do, in units; 0 or less where it is not known.
  explicit ProgressBar(std::string_view label, std::int64_t total, ProgressOptions options = {})
      : options_(std::move(options)), label_(clean(label)), total_(std::max<std::int64_t>(total, 0)) {
    redraw_ = options_.style == ProgressOptions::Style::redraw ||
              (options_.style == ProgressOptions::Style::automatic && is_terminal());
    start_ = options_.clock();
    next_.store(redraw_ ? start_ : start_ + options_.line_seconds, std::memory_order_relaxed);
  }

  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;

  /// A bar that was not finished (an exception passes by) ends its line, so that what is printed next starts on a new
  /// one.
  ~ProgressBar() {
    if (!finished_ && shown_ > 0 && options_.sink != nullptr) {
      std::fputc('\n', options_.sink);
      std::fflush(options_.sink);
    }
  }

  /// `count` more units are done. Cheap: two atomic operations and a look at the clock, unless it is time to draw.
  void advance(std::int64_t count = 1) {
    done_.fetch_add(count, std::memory_order_relaxed);
    draw_if_due();
  }

  /// Replaces the words at the end of the line ("loss 0.31").
  void note(std::string_view text) {
    {
      const std::lock_guard lock(mutex_);
      note_ = clean(text);
    }
    draw_if_due();
  }

  std::int64_t done() const { return done_.load(std::memory_order_relaxed); }

  /// Writes the last line: what was done, in which time, at which rate. A second call does nothing.
  void finish() {
    const std::lock_guard lock(mutex_);
    if (finished_) {
      return;
    }
    finished_ = true;
    next_.store(kNever, std::memory_order_relaxed);
    const double seconds = options_.clock() - start_;
    std::string line = label_ + ": " + grouped(done()) + " " + options_.unit + " in " + duration(seconds);
    if (const auto rate = rate_text(seconds); !rate.empty()) {
      line += ", " + rate;
    }
    if (!note_.empty()) {
      line += "  " + note_;
    }
    // The last line stays: on a terminal it may wrap, but loses nothing.
    write(line, true);
  }

 private:
  static constexpr double kNever = 1e300;

  /// Line breaks and other control characters would tear the line: spaces in their place.
  static std::string clean(std::string_view text) {
    std::string out(text);
    std::replace_if(
        out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, ' ');
    return out;
  }

  bool is_terminal() const {
    const char* term = std::getenv("TERM");
    return options_.sink != nullptr && isatty(fileno(options_.sink)) == 1 &&
           !(term != nullptr && std::string_view(term) == "dumb");
  }

  /// Columns of the terminal now (it may have been resized).
  int columns() const {
    int width = options_.width;
    winsize size{};
    if (width <= 0 && isatty(fileno(options_.sink)) == 1 && ioctl(fileno(options_.sink), TIOCGWINSZ, &size) == 0) {
      width = size.ws_col;
    }
    if (const char* text = std::getenv("COLUMNS"); width <= 0 && text != nullptr) {
      width = std::atoi(text);
    }
    return width > 0 ? std::clamp(width, 8, 1000) : 80;
  }

  void draw_if_due() {
    const double now = options_.clock();
    if (options_.sink == nullptr || now < next_.load(std::memory_order_relaxed)) {
      return;
    }
    // Another thread that is drawing already shows this progress as well as this one could.
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (!lock.owns_lock() || finished_ || now < next_.load(std::memory_order_relaxed)) {
      return;
    }
    next_.store(now + (redraw_ ? options_.redraw_seconds : options_.line_seconds), std::memory_order_relaxed);
    write(line(now - start_), !redraw_);
  }

  std::string rate_text(double seconds) const {
    const double rate = seconds > 0 ? static_cast<double>(done()) / seconds : 0;
    if (!(rate > 0 && rate < 1e15)) {
      return "";
    }
    return (rate < 99.5 ? significant(rate, 2) : grouped(std::llround(rate))) + " " + options_.unit + "/s";
  }

  /// "0:07", "12:40", "3:05:00".
  static std::string clock_text(double seconds) {
    const auto whole = static_cast<std::int64_t>(std::llround(std::min(seconds, 1e9)));
    const auto two = [](std::int64_t v) { return (v < 10 ? "0" : "") + std::to_string(v); };
    return whole < 3600 ? std::to_string(whole / 60) + ":" + two(whole % 60)
                        : std::to_string(whole / 3600) + ":" + two(whole % 3600 / 60) + ":" + two(whole % 60);
  }

  /// The line after `seconds`, as wide as it may be: pieces are left out, least important first, until it fits.
  std::string line(double seconds) const {
    const std::int64_t done = this->done();
    const double share = total_ > 0 ? std::clamp(static_cast<double>(done) / static_cast<double>(total_), 0.0, 1.0) : 0;
    const auto whole = std::to_string(static_cast<int>(share * 100));
    const std::string amount = total_ > 0 ? std::string(3 - whole.size(), ' ') + whole + " %" : grouped(done);
    const std::string rate = rate_text(seconds);
    const std::string left =
        share > 0 && seconds > 0 ? clock_text(seconds / share * (1 - share)) + " left" : std::string();

    // One column stays free: a full line makes some terminals wrap. A log's lines have no such bound.
    const std::size_t width = redraw_ ? static_cast<std::size_t>(columns() - 1) : 100000;
    std::string tail = " " + amount;
    const auto add = [&](const std::string& piece) {
      if (!piece.empty() && display_width(label_) + display_width(tail) + 2 + display_width(piece) <= width) {
        tail += "  " + piece;
      }
    };
    add(rate);
    add(left);
    add(note_);
    const std::size_t used = display_width(label_) + display_width(tail);
    if (redraw_ && total_ > 0 && used + 13 <= width) {
      const std::size_t cells = std::min<std::size_t>(width - used - 3, 30);
      const auto full = static_cast<std::size_t>(share * static_cast<double>(cells));
      std::string bar(full, '=');
      bar += full < cells ? ">" + std::string(cells - full - 1, ' ') : "";
      tail = " [" + bar + "]" + tail;
    }
    const std::size_t room = width > display_width(tail) ? width - display_width(tail) : 0;
    return shorten(label_, room) + tail;
  }

  /// Shows `text`: over the line before on a terminal, as a line of its own elsewhere. One call, so that lines of other
  /// threads do not come in between.
  void write(const std::string& text, bool end) {
    if (options_.sink == nullptr) {
      return;
    }
    const std::size_t width = display_width(text);
    std::string out = redraw_ ? "\r" + text : text;
    if (width < shown_) {
      out.append(shown_ - width, ' ');  // blanks over the rest of the longer line that stood there
    }
    out += end ? "\n" : "";
    shown_ = end ? 0 : width;
    std::fwrite(out.data(), 1, out.size(), options_.sink);
    std::fflush(options_.sink);
  }

  ProgressOptions options_;
  std::string label_;
  std::int64_t total_ = 0;
  bool redraw_ = false;
  double start_ = 0;
  std::atomic<std::int64_t> done_{0};
  std::atomic<double> next_{0};
  std::mutex mutex_;  // guards what follows, and the sink
  std::string note_;
  std::size_t shown_ = 0;
  bool finished_ = false;
};

}  // namespace pavise::report
