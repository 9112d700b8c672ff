// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace pavise::kernels {

/// A linear map along the middle axis of (outer, in, inner) to (outer, out, inner): element i of it is the sum over t <
/// taps of weights[i*taps + t] times the element at places[i*taps + t].
template <class T>
struct AxisTaps {
  std::int64_t outer, in, out, inner;
  std::int64_t taps;
  const std::int64_t* places;
  const T* weights;
};

}  // namespace pavise::kernels
