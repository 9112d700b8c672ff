// SPDX-License-Identifier: MIT
// Settings of attacks as text, for programs and configuration files.
#pragma once

#include <charconv>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "pavise/attack/query.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/core/error.hpp"

namespace pavise::attack {

/// A setting's name and its value: {"steps", "50"}. Names are those of the attack's options.
using Settings = std::vector<std::pair<std::string, std::string>>;

/// "0.1", or a fraction such as "8/255". Throws ValueError that calls it `what`.
inline double parse_number(std::string_view what, std::string_view text) {
  const auto number = [&](std::string_view part) {
    double value = 0.0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), value);
    require(error == std::errc() && end == part.data() + part.size() && std::isfinite(value), what, " '", text,
            "': expected a number such as 0.1, or a fraction such as 8/255");
    return value;
  };
  const auto slash = text.find('/');
  if (slash == std::string_view::npos) {
    return number(text);
  }
  const double below = number(text.substr(slash + 1));
  require(below > 0.0, what, " '", text, "': the denominator must be more than 0");
  return number(text.substr(0, slash)) / below;
}

/// The losses that `parse_loss` knows.
inline std::vector<std::string> loss_names() { return {"cross-entropy", "margin", "dlr"}; }

/// The loss of that name; an empty function for cross-entropy, which is every attack's default.
inline Loss parse_loss(std::string_view name) {
  if (name == "margin") {
    return [](Var<float> logits, const std::int32_t* labels) { return margin_loss(logits, labels); };
  }
  if (name == "dlr") {
    return [](Var<float> logits, const std::int32_t* labels) { return dlr_loss(logits, labels); };
  }
  require(name == "cross-entropy", "unknown loss ", name, ", expected one of ", join(loss_names()));
  return {};
}

namespace detail {

/// Visits an attack's options and sets those that are wanted.
class Assign {
 public:
  Assign(std::string_view attack, const Settings& wanted) : attack_(attack), wanted_(wanted) {}

  template <class T>
  void operator()(const char* name, T& value) {
    known_.emplace_back(name);
    for (const auto& [key, text] : wanted_) {
      if (key == name) {
        parse(concat(attack_, ": ", name), text, value);
      }
    }
  }
  /// Throws ValueError for a setting that no option took.
  void finish() const {
    for (const auto& [key, text] : wanted_) {
      bool found = false;
      for (const auto& name : known_) {
        found = found || name == key;
      }
      require(found, "attack ", attack_, " has no setting ", key, " (", text, "), it has ",
              known_.empty() ? "none" : join(known_));
    }
  }

 private:
  static void parse(const std::string& what, const std::string& text, std::int64_t& value) {
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    require(error == std::errc() && end == text.data() + text.size(), what, " '", text, "': expected a whole number");
  }
  static void parse(const std::string& what, const std::string& text, double& value) {
    value = parse_number(what, text);
  }
  static void parse(const std::string& what, const std::string& text, bool& value) {
    require(text == "true" || text == "false", what, " '", text, "': expected true or false");
    value = text == "true";
  }
  static void parse(const std::string&, const std::string& text, Loss& value) { value = parse_loss(text); }

  std::string attack_;
  const Settings& wanted_;
  std::vector<std::string> known_;
};

/// Visits an attack's options and writes down what they are.
class Describe {
 public:
  explicit Describe(const Settings& wanted) : wanted_(wanted) {}

  void operator()(const char* name, std::int64_t value) { settings.emplace_back(name, std::to_string(value)); }
  void operator()(const char* name, double value) { settings.emplace_back(name, concat(value)); }
  void operator()(const char* name, bool value) { settings.emplace_back(name, value ? "true" : "false"); }
  void operator()(const char* name, const Loss&) {  // a function does not know its name
    settings.emplace_back(name, "cross-entropy");
    for (const auto& [key, text] : wanted_) {
      if (key == name) {
        settings.back().second = text;
      }
    }
  }

  Settings settings;

 private:
  const Settings& wanted_;
};

}  // namespace detail

}  // namespace pavise::attack
