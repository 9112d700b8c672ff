// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>

#include "pavise/autodiff/substitute.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::defend {

/// x rounded to the nearest of 2^bits levels in [0,1], k / (2^bits - 1), ties to even k (Xu, Evans and Qi 2018, "Feature
/// squeezing", section III.A). The derivative is that of x itself. x: any shape; bits: 1 to 16. Throws ValueError for
/// others.
template <class T>
Var<T> bit_depth(Var<T> x, std::int64_t bits) {
  require(bits >= 1 && bits <= 16, "bit-depth: ", bits, " bits, expected 1 to 16");
  const T steps = static_cast<T>((std::int64_t{1} << bits) - 1);
  const std::int64_t n = x.size() * x.tape().lanes();
  const Var<T> y = straight_through("bit_depth", x, [&](std::int64_t, const T* in, T* out) {
    kernels::run_light([&](auto isa) { quantise<T>(isa, in, out, n, steps); });
  });
  trace_function(y, {x}, [&] { return traced::Quantise{static_cast<double>(steps)}; });
  return y;
}

/// See bit_depth.
template <class T>
class BitDepth : public Filter<T> {
 public:
  explicit BitDepth(std::int64_t bits) : bits_(bits) {
    require(bits >= 1 && bits <= 16, "bit-depth: ", bits, " bits, expected 1 to 16");
  }
  std::string text() const override { return concat("bit-depth:", bits_); }
  Var<T> apply(Var<T> x) const override { return bit_depth(x, bits_); }
  nn::Declaration declaration() const override { return detail::substituted(); }

 private:
  std::int64_t bits_;
};

}  // namespace pavise::defend
