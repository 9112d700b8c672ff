// SPDX-License-Identifier: MIT
// The library's exceptions. Nothing in Pavise prints, exits or aborts: a public function validates what it is given and
// throws one of these, with a message that names the operation, what it got and what it expected.
#pragma once

#include <charconv>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace pavise {

/// The base of every exception that the library throws on purpose.
struct Error : std::runtime_error {
  using std::runtime_error::runtime_error;
};

/// Shapes that do not fit together: `conv2d: weight (16,3,5,5) expects 3 input channels, got (1,28,28)`.
struct ShapeError : Error {
  using Error::Error;
};

/// A value outside its domain: a negative epsilon, an unknown name, a label that is not a class.
struct ValueError : Error {
  using Error::Error;
};

/// A device that is not there or cannot do what was asked.
struct DeviceError : Error {
  using Error::Error;
};

/// A file that is missing, truncated, corrupt or hostile; the message names the file and, where it is known, the byte.
struct IoError : Error {
  using Error::Error;
};

namespace detail {

inline void append(std::string& out, std::string_view text) { out.append(text); }
inline void append(std::string& out, char c) { out.push_back(c); }

/// Shortest decimal form of a number: "0.1" rather than "0.100000".
template <class T>
std::string number(T value) {
  char buffer[32];
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value);
  return std::string(buffer, end.ptr);
}

template <class T>
  requires std::is_arithmetic_v<T>
void append(std::string& out, T value) {
  if constexpr (std::is_same_v<T, bool>) {
    out.append(value ? "true" : "false");
  } else if constexpr (std::is_floating_point_v<T>) {
    out.append(number(value));
  } else {
    out.append(std::to_string(value));
  }
}

template <class T>
  requires requires(const T& t) { t.to_string(); }
void append(std::string& out, const T& value) { out.append(value.to_string()); }

}  // namespace detail

/// The pieces (text, numbers, shapes) joined into one string: how error messages are written.
template <class... Pieces>
std::string concat(const Pieces&... pieces) {
  std::string out;
  (detail::append(out, pieces), ...);
  return out;
}

/// Throws `E` with the joined pieces unless `condition` holds. The pieces are formatted only on failure.
template <class E = ValueError, class... Pieces>
void require(bool condition, const Pieces&... pieces) {
  if (!condition) [[unlikely]] {
    throw E(concat(pieces...));
  }
}

/// Lists `names` for an error message: "fgsm, bim, pgd".
template <class Names>
std::string join(const Names& names, std::string_view separator = ", ") {
  std::string out;
  for (const auto& name : names) {
    if (!out.empty()) {
      out.append(separator);
    }
    detail::append(out, std::string_view(name));
  }
  return out;
}

}  // namespace pavise
