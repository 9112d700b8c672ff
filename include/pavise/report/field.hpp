// SPDX-License-Identifier: MIT
// JSON read with every field checked: a message names the file and the field. Heavy (nlohmann-json): not in the umbrella.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/evaluate/interval.hpp"

namespace pavise::report {

/// `correct` of `total` images.
struct Count {
  std::int64_t correct = 0;
  std::int64_t total = 1;
  double share() const { return static_cast<double>(correct) / static_cast<double>(total); }
  evaluate::Interval interval() const { return evaluate::clopper_pearson(correct, total); }
};

namespace detail {

using Json = nlohmann::json;

/// A JSON value that knows its file and its path in it, for messages: `runs/a.json: field robust.total: ...`.
class Field {
 public:
  Field(const Json* value, std::string source, std::string name)
      : value_(value), source_(std::move(source)), name_(std::move(name)) {}

  const std::string& source() const { return source_; }

  template <class... Pieces>
  [[noreturn]] void fail(const Pieces&... pieces) const {
    throw ValueError(
        concat(source_, ": ", name_.empty() ? std::string("the record") : "field " + name_, ": ", pieces...));
  }

  /// The member `key`; throws where it is missing.
  Field at(const std::string& key) const {
    Field field = find(key);
    if (field.value_ == nullptr) {
      field.fail("missing");
    }
    return field;
  }

  /// The member `key`, which may be missing or null: then the result is false.
  Field find(const std::string& key) const {
    const std::string name = name_.empty() ? key : name_ + "." + key;
    const auto member = object().find(key);
    return {member == value_->end() || member->is_null() ? nullptr : &*member, source_, name};
  }

  explicit operator bool() const { return value_ != nullptr; }

  const Json& object() const { return expect(value_->is_object(), "an object"); }

  std::vector<Field> array() const {
    expect(value_->is_array(), "an array");
    std::vector<Field> out;
    for (std::size_t i = 0; i < value_->size(); ++i) {
      out.emplace_back(&(*value_)[i], source_, concat(name_, "[", i, "]"));
    }
    return out;
  }

  std::string text() const { return expect(value_->is_string(), "a string").get<std::string>(); }

  double number(double low = -1e300, double high = 1e300) const {
    const double v = expect(value_->is_number(), "a number").get<double>();
    if (!(v >= low && v <= high)) {
      fail("got ", v, ", expected ", low, " to ", high);
    }
    return v;
  }

  std::int64_t integer(std::int64_t low, std::int64_t high = std::int64_t{1} << 53) const {
    expect(value_->is_number_integer(), "an integer");
    const bool huge = value_->is_number_unsigned() && value_->get<std::uint64_t>() > static_cast<std::uint64_t>(high);
    const auto v = huge ? high : value_->get<std::int64_t>();
    if (huge || v < low || v > high) {
      fail("got ", value_->dump(), ", expected ", low, " to ", high);
    }
    return v;
  }

  bool is_null() const { return value_->is_null(); }

  bool truth() const { return expect(value_->is_boolean(), "true or false").get<bool>(); }

  Count count() const {
    Count out;
    out.total = at("total").integer(1);
    out.correct = at("correct").integer(0, out.total);
    return out;
  }

  /// Any flat value in words: for settings that are shown as they are.
  std::string words() const {
    return value_->is_string()         ? value_->get<std::string>()
           : value_->is_number_float() ? concat(value_->get<double>())
                                       : value_->dump(-1, ' ', false, Json::error_handler_t::replace);
  }

 private:
  const Json& expect(bool holds, std::string_view what) const {
    if (!holds) {
      fail("expected ", what, ", got ",
           value_->is_null() ? "null" : std::string("a value of type ") + value_->type_name());
    }
    return *value_;
  }

  const Json* value_;
  std::string source_;
  std::string name_;
};

/// The extents of pictures, (C,H,W) of 1 or 3 channels; returns the number of values.
inline std::size_t read_image_shape(const Field& shape, std::int64_t& channels, std::int64_t& height,
                                    std::int64_t& width) {
  const auto extents = shape.array();
  if (extents.size() != 3) {
    shape.fail("expected (C,H,W), got ", extents.size(), " numbers");
  }
  channels = extents[0].integer(1, 3);
  height = extents[1].integer(1, 4096);
  width = extents[2].integer(1, 4096);
  if (channels == 2) {
    extents[0].fail("got 2, expected 1 (grey) or 3 (RGB)");
  }
  return static_cast<std::size_t>(channels * height * width);
}

/// The values of a picture, 0 to 255.
inline std::vector<double> read_pixels(const Field& field, std::size_t size) {
  std::vector<double> values;
  const auto entries = field.array();
  if (entries.size() != size) {
    field.fail("expected ", size, " pixels, got ", entries.size());
  }
  values.reserve(size);
  for (const auto& entry : entries) {
    values.push_back(std::clamp(entry.number(-0.01, 255.01), 0.0, 255.0));  // float rounding may step past the box
  }
  return values;
}

inline std::string text_or_empty(const Field& record, const std::string& key) {
  const Field field = record.find(key);
  return field ? field.text() : "";
}

inline std::optional<double> number_or_none(const Field& record, const std::string& key, double low,
                                            double high = 1e300) {
  const Field field = record.find(key);
  return field ? std::optional(field.number(low, high)) : std::nullopt;
}

inline std::optional<std::int64_t> integer_or_none(const Field& record, const std::string& key, std::int64_t low) {
  const Field field = record.find(key);
  return field ? std::optional(field.integer(low)) : std::nullopt;
}

inline std::optional<Count> count_or_none(const Field& record, const std::string& key) {
  const Field field = record.find(key);
  return field ? std::optional(field.count()) : std::nullopt;
}

}  // namespace detail

}  // namespace pavise::report
