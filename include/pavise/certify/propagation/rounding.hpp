// SPDX-License-Identifier: MIT
// How far a sum computed in floating point may be from the exact one, whatever the order of its terms and whether
// products are fused with sums or not (Higham, "Accuracy and stability of numerical algorithms", 2nd edition, chapter 3):
// with n roundings on the way of any term
//
//   |computed - exact| <= gamma_n * sum of |terms|,   gamma_n = n u / (1 - n u),   u = 2^-24 in float, 2^-53 in double,
//
// and what underflows adds at most the smallest normal number each time, whether denormal numbers are kept or flushed.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <vector>

#include "pavise/certify/enclosure.hpp"
#include "pavise/core/error.hpp"

namespace pavise::certify::detail {

inline double relative_error(std::int64_t roundings, double unit) {
  const double nu = static_cast<double>(roundings) * unit;  // exact: a power of two
  require(nu < 0.25, "bounds: a sum of ", roundings, " terms is too long to be bounded");
  return next_above(nu / (1 - nu));
}
inline double gamma_float(std::int64_t roundings) { return relative_error(roundings, 0x1p-24); }
inline double gamma_double(std::int64_t roundings) { return relative_error(roundings, 0x1p-53); }

/// What `roundings` results of float that underflow may add up to.
inline double float_underflow(std::int64_t roundings) { return static_cast<double>(roundings) * 0x1p-126; }

/// Winograd's algorithm F(4x4,3x3) is linear in kernel and tile and has at most channels + 12 roundings on the way of
/// any term (4 of the input's transform, 1 of the kernel's, which is made in double, `channels` of the products' sum, 6
/// of the output's transform, 1 of the bias), so that the same bound holds with the terms of the algorithm, which are
/// larger than those of the convolution:
///   |computed - exact| <= gamma_(channels+16) (sum over channels c of (|A^T| ((|G||g||G|^T) * (|B^T||d||B|)) |A|)_c + |b|).
/// With d at most D_c in all of channel c, |B^T||d||B| is at most D_c v v^T with the row sums v of |B^T|. Returns the
/// largest of the 16 elements at D_c = 1, for a kernel g of 3x3.
inline double winograd_growth(const double* g) {
  // Rows of |G|, and of |A^T|, as kernels/pavise_kernels/cpu/winograd_plan.hpp and winograd_transform.inl have them.
  constexpr double kG[6][3] = {{1. / 4, 0, 0},
                               {1. / 6, 1. / 6, 1. / 6},
                               {1. / 6, 1. / 6, 1. / 6},
                               {1. / 24, 1. / 12, 1. / 6},
                               {1. / 24, 1. / 12, 1. / 6},
                               {0, 0, 1}};
  constexpr double kV[6] = {10, 10, 10, 6, 6, 10};
  constexpr double kA[4][6] = {{1, 1, 1, 1, 1, 0}, {0, 1, 1, 2, 2, 0}, {0, 1, 1, 4, 4, 0}, {0, 1, 1, 8, 8, 1}};
  double u[6][6];
  for (int y = 0; y < 6; ++y) {
    for (int x = 0; x < 6; ++x) {
      double sum = 0;
      for (int i = 0; i < 3; ++i) {
        for (int j = 0; j < 3; ++j) {
          sum += kG[y][i] * kG[x][j] * std::abs(g[i * 3 + j]);
        }
      }
      u[y][x] = sum * kV[y] * kV[x];
    }
  }
  double most = 0;
  for (const auto& ay : kA) {
    for (const auto& ax : kA) {
      double sum = 0;
      for (int y = 0; y < 6; ++y) {
        for (int x = 0; x < 6; ++x) {
          sum += ay[y] * ax[x] * u[y][x];
        }
      }
      most = std::max(most, sum);
    }
  }
  return most * (1 + 0x1p-40);  // fewer than 200 roundings of positive terms
}

}  // namespace pavise::certify::detail
