// SPDX-License-Identifier: MIT
// Spec <-> text, the form in which a model file keeps an architecture:
//
//   sequential{conv1:conv2d(in=1,out=16,kernel=4,stride=2,padding=1);relu1:relu;fc1:linear(in=1568,out=10)}
//
//   spec    = [name ":"] type ["(" option {"," option} ")"] ["{" [spec {";" spec}] "}"]
//   option  = key "=" value
// Names, types and keys are of letters, digits, '_', '-' and '.'; values may also have '+', '/' and ':'. White space
// between these is skipped. And the registry that makes layers from specs.
#pragma once

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <string_view>
#include <system_error>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/nn/layer.hpp"

namespace pavise::nn {

/// What the parser refuses to go beyond: text comes from files that others wrote.
struct SpecLimits {
  static constexpr std::size_t kLength = 1 << 20;  ///< characters
  static constexpr int kDepth = 32;                ///< layers within layers
  static constexpr std::size_t kLayers = 2000;     ///< in all
  static constexpr std::size_t kOptions = 64;      ///< of one layer
  static constexpr std::size_t kWord = 1024;       ///< characters of a name, type, key or value
};

namespace detail {

inline bool is_word(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}
inline bool is_value(char c) { return is_word(c) || c == '+' || c == '/' || c == ':'; }

template <class Accepts>
void append_checked(std::string& out, const std::string& text, const Accepts& accepts, const char* what) {
  bool good = !text.empty() && text.size() <= SpecLimits::kWord;
  for (const char c : text) {
    good = good && accepts(c);
  }
  require(good, "spec: the ", what, " '", text,
          "' cannot be written: it is empty, too long, or has other characters than ",
          "letters, digits, '_', '-' and '.'");
  out += text;
}

inline void write_spec(std::string& out, const Spec& spec, int depth) {
  require(depth < SpecLimits::kDepth, "spec: more than ", SpecLimits::kDepth, " layers within each other");
  if (!spec.name.empty()) {
    append_checked(out, spec.name, is_word, "name");
    out += ':';
  }
  append_checked(out, spec.type, is_word, "type");
  if (!spec.options.empty()) {
    require(spec.options.size() <= SpecLimits::kOptions, "spec: ", spec.type, " has ", spec.options.size(),
            " options, at most ", SpecLimits::kOptions, " are supported");
    char before = '(';
    for (const auto& [key, value] : spec.options) {
      out += before;
      append_checked(out, key, is_word, "option");
      out += '=';
      append_checked(out, value, is_value, "value");
      before = ',';
    }
    out += ')';
  }
  if (!spec.children.empty()) {
    char before = '{';
    for (const auto& child : spec.children) {
      out += before;
      write_spec(out, child, depth + 1);
      before = ';';
    }
    out += '}';
  }
}

class SpecParser {
 public:
  explicit SpecParser(std::string_view text) : text_(text) {}

  Spec parse() {
    if (text_.size() > SpecLimits::kLength) {
      throw ValueError(concat("spec: ", text_.size(), " characters, at most ", SpecLimits::kLength, " are supported"));
    }
    Spec out = spec(0);
    skip();
    check(at_ == text_.size(), "expected the end");
    return out;
  }

 private:
  template <class... Pieces>
  void check(bool good, const Pieces&... expected) const {
    if (!good) {
      const std::string got = at_ >= text_.size()                           ? "the end"
                              : is_value(text_[at_]) || is_mark(text_[at_]) ? concat("'", text_[at_], "'")
                                                                            : "another character";
      throw ValueError(concat("spec: character ", at_, ": ", expected..., ", got ", got));
    }
  }
  static bool is_mark(char c) { return std::string_view("(){}=,;").find(c) != std::string_view::npos; }

  void skip() {
    while (at_ < text_.size() &&
           (text_[at_] == ' ' || text_[at_] == '\n' || text_[at_] == '\t' || text_[at_] == '\r')) {
      ++at_;
    }
  }
  bool take(char c) {
    skip();
    if (at_ < text_.size() && text_[at_] == c) {
      ++at_;
      return true;
    }
    return false;
  }
  template <class Accepts>
  std::string word(const Accepts& accepts, const char* what) {
    skip();
    const std::size_t begin = at_;
    while (at_ < text_.size() && accepts(text_[at_])) {
      ++at_;
    }
    check(at_ > begin, "expected ", what);
    check(at_ - begin <= SpecLimits::kWord, "expected ", what, " of at most ", SpecLimits::kWord, " characters");
    return std::string(text_.substr(begin, at_ - begin));
  }

  Spec spec(int depth) {
    check(depth < SpecLimits::kDepth, "expected at most ", SpecLimits::kDepth, " layers within each other");
    check(++layers_ <= SpecLimits::kLayers, "expected at most ", SpecLimits::kLayers, " layers");
    Spec out;
    out.type = word(is_word, "a layer's name or type");
    if (take(':')) {
      out.name = std::move(out.type);
      out.type = word(is_word, "a layer's type");
    }
    if (take('(')) {
      do {
        check(out.options.size() < SpecLimits::kOptions, "expected at most ", SpecLimits::kOptions, " options");
        std::string key = word(is_word, "an option");
        check(take('='), "expected '='");
        out.options.emplace_back(std::move(key), word(is_value, "a value"));
      } while (take(','));
      check(take(')'), "expected ',' or ')'");
    }
    if (take('{') && !take('}')) {
      do {
        out.children.push_back(spec(depth + 1));
      } while (take(';'));
      check(take('}'), "expected ';' or '}'");
    }
    return out;
  }

  std::string_view text_;
  std::size_t at_ = 0;
  std::size_t layers_ = 0;
};

}  // namespace detail

/// A spec as one line of text. Throws ValueError where a name, type, option or value has characters that the grammar
/// lacks.
inline std::string to_text(const Spec& spec) {
  std::string out;
  detail::write_spec(out, spec, 0);
  return out;
}

/// The spec that a text describes. Throws ValueError, naming the character, where the text does not follow the grammar
/// or is too long, too deep or has too many layers; memory and time are bounded by the text's length.
inline Spec parse_spec(std::string_view text) { return detail::SpecParser(text).parse(); }

inline bool operator==(const Spec& a, const Spec& b) {
  return a.name == b.name && a.type == b.type && a.options == b.options && a.children == b.children;
}

/// Reads a spec's options for a factory. `done` refuses those that nobody asked for. Throws ValueError naming layer and
/// option.
class SpecReader {
 public:
  explicit SpecReader(const Spec& spec) : spec_(spec) {
    std::set<std::string_view> seen;
    for (const auto& [key, unused] : spec.options) {
      require(seen.insert(key).second, where(), ": option ", key, " occurs twice");
    }
  }

  const Spec& spec() const { return spec_; }

  /// A whole number of at most 2^31 in size.
  std::int64_t integer(std::string_view key) { return to_integer(key, text(key)); }
  std::int64_t integer(std::string_view key, std::int64_t fallback) {
    const std::string* v = find(key);
    return v != nullptr ? to_integer(key, *v) : fallback;
  }
  /// A finite number.
  double number(std::string_view key) { return to_number(key, text(key)); }
  double number(std::string_view key, double fallback) {
    const std::string* v = find(key);
    return v != nullptr ? to_number(key, *v) : fallback;
  }
  /// 0 or 1.
  bool flag(std::string_view key, bool fallback) {
    const std::string* v = find(key);
    require(v == nullptr || *v == "0" || *v == "1", where(), ": option ", key, " is '", v != nullptr ? *v : "",
            "', expected 0 or 1");
    return v != nullptr ? *v == "1" : fallback;
  }
  std::string text(std::string_view key) {
    const std::string* v = find(key);
    require(v != nullptr, where(), ": option ", key, " is missing");
    return *v;
  }
  std::string text(std::string_view key, std::string fallback) {
    const std::string* v = find(key);
    return v != nullptr ? *v : fallback;
  }
  /// Numbers with '/' between them: "0.49/0.48/0.45".
  std::vector<double> numbers(std::string_view key) {
    std::vector<double> out;
    const std::string all = text(key);
    std::size_t begin = 0;
    while (begin <= all.size()) {
      const std::size_t end = std::min(all.find('/', begin), all.size());
      out.push_back(to_number(key, all.substr(begin, end - begin)));
      begin = end + 1;
    }
    return out;
  }

  /// The layers inside, for a layer that has some.
  const std::vector<Spec>& children() {
    children_ = true;
    return spec_.children;
  }

  /// Refuses options and inner layers that nobody asked for.
  void done() const {
    for (const auto& [key, unused] : spec_.options) {
      require(asked_.contains(key), where(), ": there is no option ", key, ", expected ",
              asked_.empty() ? std::string("none") : join(asked_));
    }
    require(children_ || spec_.children.empty(), where(), ": has layers inside, expected none");
  }

 private:
  std::string where() const {
    return concat("layer ", spec_.name, spec_.name.empty() ? "" : " ", "(", spec_.type, ")");
  }
  const std::string* find(std::string_view key) {
    asked_.insert(std::string(key));
    for (const auto& [k, v] : spec_.options) {
      if (k == key) {
        return &v;
      }
    }
    return nullptr;
  }
  std::int64_t to_integer(std::string_view key, const std::string& v) const {
    constexpr std::int64_t kLimit = std::int64_t{1} << 31;
    std::int64_t out = 0;
    const auto [end, error] = std::from_chars(v.data(), v.data() + v.size(), out);
    require(error == std::errc() && end == v.data() + v.size() && out >= -kLimit && out <= kLimit, where(), ": option ",
            key, " is '", v, "', expected a whole number of at most ", kLimit);
    return out;
  }
  double to_number(std::string_view key, const std::string& v) const {
    double out = 0;
    const auto [end, error] = std::from_chars(v.data(), v.data() + v.size(), out);
    require(error == std::errc() && end == v.data() + v.size() && std::isfinite(out), where(), ": option ", key,
            " is '", v, "', expected a number");
    return out;
  }

  const Spec& spec_;
  std::set<std::string> asked_;
  bool children_ = false;
};

/// Makes layers from specs, by type. Copyable: a program may add its own layers to a copy of `layer_registry` and pass
/// that to whatever makes models, or add them to the global one once, for all. Thread-safe; a type is never replaced.
template <class T>
class LayerRegistry {
 public:
  /// Makes the layer that a spec describes; inner layers come from the registry.
  using Factory = std::function<std::unique_ptr<Layer<T>>(SpecReader& options, const LayerRegistry& registry)>;

  LayerRegistry() = default;
  LayerRegistry(const LayerRegistry& other) : factories_(other.copy()) {}
  LayerRegistry& operator=(const LayerRegistry&) = delete;

  /// Adds a type; ValueError where there is one of this name.
  void add(const std::string& type, Factory factory) {
    const std::lock_guard lock(mutex_);
    require(factories_.emplace(type, std::move(factory)).second, "layer registry: there is a type ", type, " already");
  }

  /// The layer of a spec; ValueError lists the types there are, or says which option does not fit.
  std::unique_ptr<Layer<T>> make(const Spec& spec) const {
    Factory factory;
    {
      const std::lock_guard lock(mutex_);
      const auto found = factories_.find(spec.type);
      if (found != factories_.end()) {
        factory = found->second;
      }
    }
    require(static_cast<bool>(factory), "layer ", spec.name, ": there is no type '", spec.type, "', expected one of ",
            join(types()));
    SpecReader reader(spec);
    auto layer = factory(reader, *this);
    reader.done();
    return layer;
  }

  std::vector<std::string> types() const {
    const std::lock_guard lock(mutex_);
    std::vector<std::string> out;
    for (const auto& [type, unused] : factories_) {
      out.push_back(type);
    }
    return out;
  }

 private:
  std::map<std::string, Factory> copy() const {
    const std::lock_guard lock(mutex_);
    return factories_;
  }

  mutable std::mutex mutex_;
  std::map<std::string, Factory> factories_;
};

}  // namespace pavise::nn
