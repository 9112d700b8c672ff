// SPDX-License-Identifier: MIT
// A run's state as bytes: numbers and arrays one after another, each under a name that the reader checks.
#pragma once

#include <bit>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"

namespace pavise::defend {

static_assert(std::endian::native == std::endian::little, "checkpoints are little-endian");

/// Appends named values to a buffer.
class StateWriter {
 public:
  template <class T>
    requires std::is_arithmetic_v<T>
  void put(std::string_view name, T value) {
    head(name, sizeof(T), 1);
    append(&value, sizeof value);
  }
  template <class T>
    requires std::is_arithmetic_v<T>
  void put(std::string_view name, std::span<const T> values) {
    head(name, sizeof(T), values.size());
    append(values.data(), values.size_bytes());
  }
  void put(std::string_view name, std::string_view text) { put(name, std::span<const char>(text.data(), text.size())); }

  const std::vector<std::uint8_t>& bytes() const { return bytes_; }

 private:
  void head(std::string_view name, std::uint64_t width, std::uint64_t count) {
    const std::uint64_t words[] = {name.size(), width, count};
    append(words, sizeof words);
    append(name.data(), name.size());
  }
  void append(const void* from, std::size_t n) {
    const auto old = bytes_.size();
    bytes_.resize(old + n);
    if (n > 0) {
      std::memcpy(bytes_.data() + old, from, n);
    }
  }

  std::vector<std::uint8_t> bytes_;
};

/// Reads what a StateWriter wrote, in the same order. Throws IoError, naming `source` and the byte, where a value is
/// missing, of another name or size, or longer than what is left.
class StateReader {
 public:
  StateReader(std::string source, std::span<const std::uint8_t> bytes) : source_(std::move(source)), bytes_(bytes) {}

  template <class T>
    requires std::is_arithmetic_v<T> T get(std::string_view name) {
      T value{};
      read(name, std::span<T>(&value, 1));
      return value;
    }
  /// Exactly as many values as `out` holds.
  template <class T>
  void read(std::string_view name, std::span<T> out) {
    const std::uint64_t count = head(name, sizeof(T));
    check(count == out.size(), name, " has ", count, " values, expected ", out.size());
    take(out.data(), out.size_bytes());
  }
  template <class T>
  std::vector<T> get_vector(std::string_view name) {
    const std::uint64_t count = head(name, sizeof(T));
    std::vector<T> out(static_cast<std::size_t>(count));
    take(out.data(), out.size() * sizeof(T));
    return out;
  }
  std::string text(std::string_view name) {
    const auto characters = get_vector<char>(name);
    return {characters.begin(), characters.end()};
  }
  void expect_end() const { check(at_ == bytes_.size(), "expected the end, got ", bytes_.size() - at_, " more bytes"); }
  const std::string& source() const { return source_; }

 private:
  template <class... Pieces>
  void check(bool condition, const Pieces&... pieces) const {
    require<IoError>(condition, source_, ": byte ", at_, " of the state: ", pieces...);
  }
  std::uint64_t head(std::string_view name, std::uint64_t width) {
    std::uint64_t words[3];
    take(words, sizeof words);
    check(words[0] <= bytes_.size() - at_, "expected ", name, ", got a name of ", words[0], " bytes");
    std::string got(static_cast<std::size_t>(words[0]), '\0');
    take(got.data(), got.size());
    check(got == name, "expected ", name, ", got ", got);
    check(words[1] == width && words[2] <= (bytes_.size() - at_) / width, name, " has ", words[2], " values of ",
          words[1], " bytes, expected values of ", width, " bytes within the ", bytes_.size() - at_, " bytes left");
    return words[2];
  }
  void take(void* out, std::size_t n) {
    check(n <= bytes_.size() - at_, "the state ends: ", n, " bytes expected, ", bytes_.size() - at_, " left");
    if (n > 0) {
      std::memcpy(out, bytes_.data() + at_, n);
    }
    at_ += n;
  }

  std::string source_;
  std::span<const std::uint8_t> bytes_;
  std::size_t at_ = 0;
};

}  // namespace pavise::defend
