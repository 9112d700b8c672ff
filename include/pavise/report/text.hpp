// SPDX-License-Identifier: MIT
// Small pieces of text that figures, tables and the report share: escaping, widths, and numbers as people read them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <string>
#include <string_view>

#include "pavise/core/error.hpp"

namespace pavise::report {

/// `text` for use inside XML or HTML, as content or as a quoted attribute: & < > " ' are replaced by their entities,
/// and control characters, which XML forbids, by U+FFFD. Bytes that are not UTF-8 become U+FFFD as well.
inline std::string escape(std::string_view text) {
  constexpr std::string_view kReplacement = "\xEF\xBF\xBD";
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (std::size_t i = 0; i < text.size();) {
    const auto c = static_cast<unsigned char>(text[i]);
    if (c < 0x80) {
      switch (c) {
        case '&':
          out += "&amp;";
          break;
        case '<':
          out += "&lt;";
          break;
        case '>':
          out += "&gt;";
          break;
        case '"':
          out += "&quot;";
          break;
        case '\'':
          out += "&#39;";
          break;
        default:
          if ((c < 0x20 && c != '\t' && c != '\n' && c != '\r') || c == 0x7F) {
            out += kReplacement;
          } else {
            out += static_cast<char>(c);
          }
      }
      ++i;
      continue;
    }
    const std::size_t length = c >= 0xF0 && c <= 0xF4 ? 4 : c >= 0xE0 && c < 0xF0 ? 3 : c >= 0xC2 && c < 0xE0 ? 2 : 0;
    bool valid = length != 0 && i + length <= text.size();
    std::uint32_t point = length == 4 ? c & 0x07U : length == 3 ? c & 0x0FU : c & 0x1FU;
    for (std::size_t j = 1; valid && j < length; ++j) {
      const auto next = static_cast<unsigned char>(text[i + j]);
      valid = (next & 0xC0) == 0x80;
      point = point << 6 | (next & 0x3FU);
    }
    // Overlong forms, surrogates, what lies past U+10FFFF, and the two non-characters that XML forbids.
    valid = valid && !(length == 3 && point < 0x800) && !(length == 4 && (point < 0x10000 || point > 0x10FFFF)) &&
            !(point >= 0xD800 && point <= 0xDFFF) && point != 0xFFFE && point != 0xFFFF;
    out += valid ? text.substr(i, length) : kReplacement;
    i += valid ? length : 1;
  }
  return out;
}

/// The number of characters (Unicode code points) in UTF-8 text: its width in a terminal, for most scripts.
inline std::size_t display_width(std::string_view text) {
  std::size_t width = 0;
  for (const char c : text) {
    width += (static_cast<unsigned char>(c) & 0xC0) != 0x80 ? 1 : 0;
  }
  return width;
}

/// The first `width` characters of UTF-8 text; where it is longer, the last of them are "..." (if there is room).
inline std::string shorten(std::string_view text, std::size_t width) {
  if (display_width(text) <= width) {
    return std::string(text);
  }
  const std::string_view dots = width > 6 ? "..." : "";
  std::size_t left = width - dots.size();
  std::size_t end = 0;
  for (; end < text.size(); ++end) {
    if ((static_cast<unsigned char>(text[end]) & 0xC0) != 0x80 && left-- == 0) {
      break;
    }
  }
  return std::string(text.substr(0, end)).append(dots);
}

/// A number with `digits` digits after the point.
inline std::string fixed(double value, int digits) {
  char buffer[64];
  const int length = std::snprintf(buffer, sizeof buffer, "%.*f", digits, value);
  return length > 0 && length < static_cast<int>(sizeof buffer) ? std::string(buffer) : concat(value);
}

/// A number with `digits` significant digits, without trailing zeros: "0.1", "12.5", "1e-07".
inline std::string significant(double value, int digits = 4) {
  char buffer[64];
  std::snprintf(buffer, sizeof buffer, "%.*g", digits, value);
  return buffer;
}

/// A whole number with its thousands apart: "1,234,567".
inline std::string grouped(std::int64_t value) {
  std::string digits = std::to_string(value);
  const std::size_t first = value < 0 ? 1 : 0;
  for (std::size_t i = digits.size(); i > first + 3;) {
    i -= 3;
    digits.insert(i, 1, ',');
  }
  return digits;
}

/// k of n in percent with one decimal: "63.4". What is not quite none or all never reads "0.0" or "100.0".
inline std::string percent(std::int64_t k, std::int64_t n) {
  const std::string text = fixed(100.0 * static_cast<double>(k) / static_cast<double>(n), 1);
  if (k > 0 && text == "0.0") {
    return "<0.1";
  }
  return k < n && text == "100.0" ? ">99.9" : text;
}

/// A time span: "0.35 s", "31.0 s", "4 min 05 s", "2 h 03 min".
inline std::string duration(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) {
    return "?";
  }
  if (seconds < 59.95) {
    return fixed(seconds, seconds < 9.995 ? 2 : 1) + " s";
  }
  const auto whole = static_cast<std::int64_t>(std::llround(std::min(seconds, 1e15)));
  const auto two = [](std::int64_t v) { return (v < 10 ? "0" : "") + std::to_string(v); };
  if (whole < 3600) {
    return std::to_string(whole / 60) + " min " + two(whole % 60) + " s";
  }
  return grouped(whole / 3600) + " h " + two(whole % 3600 / 60) + " min";
}

}  // namespace pavise::report
