// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/report/text.hpp"

namespace pavise::report {

enum class Align { left, right };

/// A plain-text table for terminals and logs, with aligned columns:
///
///     model  clean  robust
///     -----  -----  ------
///     Plain   91.2     0.0
///     PGD-7   82.6    63.4
class Table {
 public:
  struct Column {
    std::string title;
    Align align = Align::left;
  };

  /// Throws ValueError where there is no column.
  explicit Table(std::vector<Column> columns) : columns_(std::move(columns)) {
    require(!columns_.empty(), "table: got no columns, expected at least one");
  }

  /// Adds a row of one cell for each column; throws ShapeError for any other number of cells.
  Table& add_row(std::vector<std::string> cells) {
    require<ShapeError>(cells.size() == columns_.size(), "table: row ", rows_.size(), " has ", cells.size(),
                        " cells, expected ", columns_.size());
    rows_.push_back(std::move(cells));
    return *this;
  }

  std::size_t rows() const { return rows_.size(); }

  /// The table as lines, each ended by a newline and without trailing spaces. Line breaks and other control characters
  /// inside a cell are shown as spaces; widths count UTF-8 characters.
  std::string to_string() const {
    std::vector<std::size_t> widths;
    std::vector<std::string> titles;
    std::vector<std::string> rules;
    for (std::size_t i = 0; i < columns_.size(); ++i) {
      std::size_t width = display_width(columns_[i].title);
      for (const auto& row : rows_) {
        width = std::max(width, display_width(row[i]));
      }
      widths.push_back(width);
      titles.push_back(columns_[i].title);
      rules.emplace_back(width, '-');
    }
    std::string out = line(titles, widths) + line(rules, widths);
    for (const auto& row : rows_) {
      out += line(row, widths);
    }
    return out;
  }

 private:
  std::string line(const std::vector<std::string>& cells, const std::vector<std::size_t>& widths) const {
    std::string out;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string gap(widths[i] - display_width(cells[i]), ' ');
      out += i == 0 ? "" : "  ";
      out += columns_[i].align == Align::right ? gap + cells[i] : cells[i] + gap;
    }
    std::replace_if(
        out.begin(), out.end(), [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7F; }, ' ');
    out.erase(out.find_last_not_of(' ') + 1);
    return out + "\n";
  }

  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace pavise::report
