// SPDX-License-Identifier: MIT
// The library's exceptions. Nothing in Pavise prints, exits or aborts: a public function validates what it is given and
// throws one of these, with a message that names the operation, what it got and what it expected.
#pragma once

#include <charconv>
#include <cstddef>
#include <initializer_list>
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

/// One piece of a message, by reference and without its type, so that all messages are written by the same code.
class Piece {
 public:
  template <class T>
  Piece(const T& value) {
    if constexpr (std::is_same_v<T, bool>) {
      kind_ = Kind::truth, value_.integer = value ? 1 : 0;
    } else if constexpr (std::is_same_v<T, char>) {
      kind_ = Kind::character, value_.integer = value;
    } else if constexpr (std::is_same_v<T, float>) {
      kind_ = Kind::single, value_.single = value;
    } else if constexpr (std::is_floating_point_v<T>) {
      kind_ = Kind::real, value_.real = static_cast<double>(value);
    } else if constexpr (std::is_signed_v<T>) {
      kind_ = Kind::integer, value_.integer = value;
    } else if constexpr (std::is_unsigned_v<T>) {
      kind_ = Kind::natural, value_.natural = value;
    } else if constexpr (std::is_convertible_v<const T&, const char*>) {
      kind_ = Kind::c_string, value_.text = value;
    } else if constexpr (std::is_convertible_v<const T&, std::string_view>) {
      const std::string_view text = value;
      kind_ = Kind::text, value_.text = text.data(), size_ = text.size();
    } else {
      kind_ = Kind::object, value_.object = &value;
      write_ = [](std::string& out, const void* object) { out.append(static_cast<const T*>(object)->to_string()); };
    }
  }

  void append_to(std::string& out) const {
    switch (kind_) {
      case Kind::truth:
        return void(out.append(value_.integer != 0 ? "true" : "false"));
      case Kind::character:
        return out.push_back(static_cast<char>(value_.integer));
      case Kind::integer:
        return append_number(out, value_.integer);
      case Kind::natural:
        return append_number(out, value_.natural);
      case Kind::single:
        return append_number(out, value_.single);
      case Kind::real:
        return append_number(out, value_.real);
      case Kind::c_string:
        return void(out.append(value_.text));
      case Kind::text:
        return void(out.append(value_.text, size_));
      case Kind::object:
        return write_(out, value_.object);
    }
  }

 private:
  enum class Kind { truth, character, integer, natural, single, real, c_string, text, object };

  /// In the shortest decimal form: "0.1" rather than "0.100000".
  template <class T>
  static void append_number(std::string& out, T value) {
    char buffer[32];
    out.append(buffer, std::to_chars(buffer, buffer + sizeof buffer, value).ptr);
  }

  Kind kind_;
  union {
    long long integer;
    unsigned long long natural;
    float single;
    double real;
    const char* text;
    const void* object;
  } value_;
  union {
    std::size_t size_ = 0;
    void (*write_)(std::string&, const void*);
  };
};

[[gnu::noinline]] inline std::string concat_pieces(std::initializer_list<Piece> pieces) {
  std::string out;
  for (const Piece& piece : pieces) {
    piece.append_to(out);
  }
  return out;
}

template <class E>
[[noreturn, gnu::noinline, gnu::cold]] void fail(std::initializer_list<Piece> pieces) {
  throw E(concat_pieces(pieces));
}

}  // namespace detail

/// The pieces (text, numbers, shapes: whatever has to_string()) joined into one string: how error messages are written.
template <class... Pieces>
std::string concat(const Pieces&... pieces) {
  return detail::concat_pieces({detail::Piece(pieces)...});
}

/// Throws `E` with the joined pieces unless `condition` holds. The pieces are formatted only on failure.
template <class E = ValueError, class... Pieces>
void require(bool condition, const Pieces&... pieces) {
  if (!condition) [[unlikely]] {
    detail::fail<E>({detail::Piece(pieces)...});
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
    out.append(std::string_view(name));
  }
  return out;
}

}  // namespace pavise
