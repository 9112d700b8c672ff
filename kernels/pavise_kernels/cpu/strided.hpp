// SPDX-License-Identifier: MIT
// What the element-wise kernels are asked for: names of functions, chosen at compile time, and loops over several
// arrays with strides of their own.
#pragma once

#include <cstddef>
#include <cstdint>

namespace pavise::kernels {

/// Functions of one number, with up to two parameters a and b.
enum class Unary {
  relu,
  leaky_relu,
  elu,
  gelu,
  silu,
  sigmoid,
  tanh,
  softplus,
  exp,
  log,
  sqrt,
  abs,
  square,
  erf,
  reciprocal,
  quotient,
  clamp,
  step,
  affine
};

/// Whether the derivative is 0 wherever there is one.
constexpr bool is_constant(Unary f) { return f == Unary::step; }

/// Functions of two numbers.
enum class Binary { add, sub, mul, div, maximum, minimum };

/// What is left of the elements of an axis.
enum class Reduction { sum, max, min };

/// A nest of at most six loops, outermost first, over up to three arrays: strides in elements of one image, 0 along
/// axes that an array is broadcast over.
struct StridedLoop {
  static constexpr int kArrays = 3;
  static constexpr int kMaxRank = 6;
  int rank = 0;
  std::int64_t extent[kMaxRank] = {};
  std::int64_t stride[kArrays][kMaxRank] = {};

  void push(std::int64_t n, std::int64_t s0, std::int64_t s1 = 0, std::int64_t s2 = 0) {
    extent[rank] = n;
    stride[0][rank] = s0;
    stride[1][rank] = s1;
    stride[2][rank] = s2;
    ++rank;
  }
  constexpr std::int64_t count() const {
    std::int64_t n = 1;
    for (int d = 0; d < rank; ++d) {
      n *= extent[d];
    }
    return n;
  }
  /// The same loops, with neighbours joined where every array allows it and loops of one step left out. Never without a
  /// loop.
  StridedLoop collapsed() const {
    StridedLoop out;
    for (int d = 0; d < rank; ++d) {
      if (extent[d] == 1) {
        continue;
      }
      bool joins = out.rank > 0;
      for (int k = 0; k < kArrays && joins; ++k) {
        joins = out.stride[k][out.rank - 1] == stride[k][d] * extent[d];
      }
      if (joins) {
        out.extent[out.rank - 1] *= extent[d];
        for (int k = 0; k < kArrays; ++k) {
          out.stride[k][out.rank - 1] = stride[k][d];
        }
      } else {
        out.push(extent[d], stride[0][d], stride[1][d], stride[2][d]);
      }
    }
    if (out.rank == 0) {
      out.push(1, 0);
    }
    return out;
  }
  /// Offsets of the three arrays at step `i` of the loops (outer loops slowest).
  constexpr void locate(std::int64_t i, std::int64_t (&at)[kArrays]) const {
    at[0] = at[1] = at[2] = 0;
    for (int d = rank - 1; d >= 0; --d) {
      const std::int64_t step = i % extent[d];
      i /= extent[d];
      for (int k = 0; k < kArrays; ++k) {
        at[k] += step * stride[k][d];
      }
    }
  }
  constexpr std::int64_t inner() const { return extent[rank - 1]; }
  constexpr std::int64_t inner_stride(int array) const { return stride[array][rank - 1]; }
};

}  // namespace pavise::kernels
