// SPDX-License-Identifier: MIT
// Non-negative numbers with 128 bits before the binary point and 256 behind it, in integer arithmetic: what the
// thresholds of the noise and the normal distribution are computed with, far beyond the 96 bits that are drawn.
// Everything here rounds down, and FixedBounds adds what that can have lost.
#pragma once

#include <array>
#include <bit>
#include <cassert>
#include <cmath>
#include <cstdint>

namespace pavise::certify {

__extension__ typedef unsigned __int128 Wide;  // NOLINT(modernize-use-using): only a typedef takes __extension__

class FixedPoint {
 public:
  static constexpr int kLimbs = 6;
  static constexpr int kFraction = 4;  ///< limbs behind the binary point

  constexpr FixedPoint() = default;
  constexpr explicit FixedPoint(std::uint64_t whole) { limbs_[kFraction] = whole; }
  /// Limbs of 64 bits, the least significant first.
  constexpr explicit FixedPoint(std::array<std::uint64_t, kLimbs> limbs) : limbs_(limbs) {}

  /// x itself, or the next number below it where bits of x lie behind the last place; 0 <= x < 2^64.
  static FixedPoint from(double x) {
    assert(x >= 0 && x < 0x1p64);
    FixedPoint out;
    int exponent = 0;
    const double fraction = std::frexp(x, &exponent);
    if (fraction == 0) {
      return out;
    }
    const auto mantissa = static_cast<std::uint64_t>(std::ldexp(fraction, 53));
    const int shift = exponent - 53 + 64 * kFraction;  // of the mantissa, from the last place up
    if (shift <= -64) {
      return out;
    }
    const Wide bits = shift < 0 ? Wide{mantissa} >> -shift : Wide{mantissa} << (shift % 64);
    const int at = shift < 0 ? 0 : shift / 64;
    out.limbs_[static_cast<std::size_t>(at)] = static_cast<std::uint64_t>(bits);
    if (at + 1 < kLimbs) {
      out.limbs_[static_cast<std::size_t>(at) + 1] = static_cast<std::uint64_t>(bits >> 64);
    }
    return out;
  }
  static constexpr FixedPoint last_place() { return FixedPoint(std::array<std::uint64_t, kLimbs>{1}); }

  bool is_zero() const { return *this == FixedPoint(); }
  std::uint64_t limb(int i) const { return limbs_[static_cast<std::size_t>(i)]; }
  /// The first 96 bits behind the binary point, as a whole number: floor(x * 2^96); x < 2^32.
  Wide first_96_bits() const { return (Wide{limbs_[4]} << 96) | (Wide{limbs_[3]} << 32) | (limbs_[2] >> 32); }

  friend bool operator==(const FixedPoint& a, const FixedPoint& b) { return a.limbs_ == b.limbs_; }
  friend bool operator<(const FixedPoint& a, const FixedPoint& b) {
    for (std::size_t i = kLimbs; i-- > 0;) {
      if (a.limbs_[i] != b.limbs_[i]) {
        return a.limbs_[i] < b.limbs_[i];
      }
    }
    return false;
  }
  friend bool operator<=(const FixedPoint& a, const FixedPoint& b) { return !(b < a); }

  friend FixedPoint operator+(FixedPoint a, const FixedPoint& b) {
    Wide carry = 0;
    for (std::size_t i = 0; i < kLimbs; ++i) {
      carry += Wide{a.limbs_[i]} + b.limbs_[i];
      a.limbs_[i] = static_cast<std::uint64_t>(carry);
      carry >>= 64;
    }
    assert(carry == 0);
    return a;
  }
  /// a - b; b <= a.
  friend FixedPoint operator-(FixedPoint a, const FixedPoint& b) {
    assert(b <= a);
    std::uint64_t borrow = 0;
    for (std::size_t i = 0; i < kLimbs; ++i) {
      const Wide difference = Wide{a.limbs_[i]} - b.limbs_[i] - borrow;
      a.limbs_[i] = static_cast<std::uint64_t>(difference);
      borrow = static_cast<std::uint64_t>(difference >> 64) & 1;
    }
    return a;
  }
  friend FixedPoint operator*(const FixedPoint& a, const FixedPoint& b) {
    std::array<std::uint64_t, 2 * std::size_t{kLimbs}> product{};
    for (std::size_t i = 0; i < kLimbs; ++i) {
      Wide carry = 0;
      for (std::size_t j = 0; a.limbs_[i] != 0 && j < kLimbs; ++j) {
        carry += Wide{a.limbs_[i]} * b.limbs_[j] + product[i + j];
        product[i + j] = static_cast<std::uint64_t>(carry);
        carry >>= 64;
      }
      product[i + kLimbs] = static_cast<std::uint64_t>(carry);
    }
    assert(product[kLimbs + kFraction] == 0 && product[kLimbs + kFraction + 1] == 0);
    FixedPoint out;
    for (std::size_t i = 0; i < kLimbs; ++i) {
      out.limbs_[i] = product[i + kFraction];
    }
    return out;
  }
  friend FixedPoint operator/(FixedPoint a, std::uint64_t n) {
    Wide rest = 0;
    for (std::size_t i = kLimbs; i-- > 0;) {
      rest = (rest << 64) | a.limbs_[i];
      a.limbs_[i] = static_cast<std::uint64_t>(rest / n);
      rest %= n;
    }
    return a;
  }
  /// Bit by bit; b > 0, a/b < 2^127 and b < 2^127.
  friend FixedPoint operator/(const FixedPoint& a, const FixedPoint& b) {
    assert(!b.is_zero());
    FixedPoint quotient;
    FixedPoint rest;
    for (int bit = 64 * (kLimbs + kFraction) - 1; bit >= 0; --bit) {
      const int of_a = bit - 64 * kFraction;
      rest = rest + rest;
      rest.limbs_[0] |= of_a >= 0 ? a.limbs_[static_cast<std::size_t>(of_a / 64)] >> (of_a % 64) & 1 : 0;
      if (b <= rest) {
        rest = rest - b;
        assert(bit < 64 * kLimbs);
        quotient.limbs_[static_cast<std::size_t>(bit / 64)] |= std::uint64_t{1} << (bit % 64);
      }
    }
    return quotient;
  }

 private:
  std::array<std::uint64_t, kLimbs> limbs_{};
};

/// A number known to lie in [low, high], none of it negative.
struct FixedBounds {
  FixedPoint low, high;

  static FixedBounds exactly(std::uint64_t whole) { return {FixedPoint(whole), FixedPoint(whole)}; }
  /// x itself: every double from 2^-203 to 2^64 is such a number.
  static FixedBounds exactly(double x) {
    const FixedPoint low = FixedPoint::from(x);
    return {low, x == 0 || x >= 0x1p-203 ? low : low + FixedPoint::last_place()};
  }

  friend FixedBounds operator+(const FixedBounds& a, const FixedBounds& b) { return {a.low + b.low, a.high + b.high}; }
  /// a - b, which is not negative: a lower end below 0 is 0.
  friend FixedBounds operator-(const FixedBounds& a, const FixedBounds& b) {
    return {b.high < a.low ? a.low - b.high : FixedPoint(), a.high - b.low};
  }
  friend FixedBounds operator*(const FixedBounds& a, const FixedBounds& b) {
    return {a.low * b.low, a.high * b.high + FixedPoint::last_place()};
  }
  friend FixedBounds operator/(const FixedBounds& a, std::uint64_t n) {
    return {a.low / n, a.high / n + FixedPoint::last_place()};
  }
  friend FixedBounds operator/(const FixedBounds& a, const FixedBounds& b) {
    return {a.low / b.high, a.high / b.low + FixedPoint::last_place()};
  }
};

}  // namespace pavise::certify
