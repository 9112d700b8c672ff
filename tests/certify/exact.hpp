// SPDX-License-Identifier: MIT
// Numbers of a hundred digits, against which fixed-point numbers are held.
#pragma once

#include <boost/multiprecision/cpp_bin_float.hpp>

#include "pavise/certify/fixed_point.hpp"

namespace pavise_test {

using Exact = boost::multiprecision::number<boost::multiprecision::cpp_bin_float<100>, boost::multiprecision::et_off>;

/// The value of x, which has fewer bits.
inline Exact exact(const pavise::certify::FixedPoint& x) {
  using pavise::certify::FixedPoint;
  Exact out = 0;
  for (int i = 0; i < FixedPoint::kLimbs; ++i) {
    out += ldexp(Exact(x.limb(i)), 64 * (i - FixedPoint::kFraction));
  }
  return out;
}

}  // namespace pavise_test
