// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

namespace pavise {

/// A 64-bit hash of bytes (FNV-1a): tells two things apart, and is no protection against intent.
class Hash {
 public:
  Hash& bytes(const void* data, std::size_t n) {
    const auto* p = static_cast<const unsigned char*>(data);
    for (std::size_t i = 0; i < n; ++i) {
      value_ = (value_ ^ p[i]) * 0x100000001B3U;
    }
    return *this;
  }
  template <class T>
  requires std::is_arithmetic_v<T> Hash& number(T v) { return bytes(&v, sizeof v); }
  template <class T>
  Hash& numbers(std::span<const T> v) {
    return number(v.size()).bytes(v.data(), v.size_bytes());
  }
  Hash& text(std::string_view s) { return number(s.size()).bytes(s.data(), s.size()); }
  std::uint64_t value() const { return value_; }

 private:
  std::uint64_t value_ = 0xCBF29CE484222325U;
};

}  // namespace pavise
