// SPDX-License-Identifier: MIT
// Bilateral filter of one group, and its derivative. Weights of a window are found again in the backward pass: nothing is
// stored. Oracle: the naive sums of tests/filter/bilateral_test.cpp, and central differences.

template <class T, int L, int C>
struct BilateralPixel {
  Pack<T, L> centre[C];
  Pack<T, L> sum[C];
  Pack<T, L> total;
};

/// The sum over channels of the differences' sizes between the pixel at `at` and the centre.
template <class T, int L, int C>
PAVISE_INLINE Pack<T, L> bilateral_distance(const T* in, std::int64_t pixels, std::int64_t at,
                                            const Pack<T, L> (&centre)[C]) {
  using P = Pack<T, L>;
  P distance = P::broadcast(T{0});
#pragma GCC unroll 4
  for (int k = 0; k < C; ++k) {
    distance = distance + abs(P::load(in + (k * pixels + at) * L) - centre[k]);
  }
  return distance;
}

template <class T, int L>
PAVISE_INLINE Pack<T, L> bilateral_weight(Pack<T, L> distance, T slope, T space) {
  using P = Pack<T, L>;
  return exp(distance * distance * P::broadcast(slope)) * P::broadcast(space);
}

/// Calls body(place of the neighbour, its weight, its distance in colour) for every neighbour within the disc.
template <class T, int L, int C, class Body>
PAVISE_INLINE void each_bilateral(const T* in, const Windows& w, const T* space, T slope, std::int64_t i,
                                  std::int64_t j, const Pack<T, L> (&centre)[C], const Body& body) {
  const std::int64_t pixels = w.height * w.width;
  for (std::int64_t r = 0; r < w.rows; ++r) {
    for (std::int64_t c = 0; c < w.columns; ++c) {
      const T s = space[r * w.columns + c];
      if (s == T{0}) {
        continue;
      }
      const std::int64_t at = w.y[i + r] * w.width + w.x[j + c];
      const Pack<T, L> distance = bilateral_distance<T, L, C>(in, pixels, at, centre);
      body(at, bilateral_weight(distance, slope, s), distance);
    }
  }
}

template <class T, int L, int C>
PAVISE_INLINE BilateralPixel<T, L, C> bilateral_pixel(const T* in, const Windows& w, const T* space, T slope,
                                                      std::int64_t i, std::int64_t j) {
  using P = Pack<T, L>;
  const std::int64_t pixels = w.height * w.width;
  BilateralPixel<T, L, C> p;
  p.total = P::broadcast(T{0});
#pragma GCC unroll 4
  for (int k = 0; k < C; ++k) {
    p.centre[k] = P::load(in + (k * pixels + i * w.width + j) * L);
    p.sum[k] = P::broadcast(T{0});
  }
  each_bilateral<T, L, C>(
      in, w, space, slope, i, j, p.centre, [&](std::int64_t at, P weight, P) __attribute__((always_inline)) {
        p.total = p.total + weight;
#pragma GCC unroll 4
        for (int k = 0; k < C; ++k) {
          p.sum[k] = fma(weight, P::load(in + (k * pixels + at) * L), p.sum[k]);
        }
      });
  return p;
}

template <class T, int L, int C>
PAVISE_LANES void bilateral_lanes(const T* in, T* out, const Windows& w, const T* space, T slope) {
  for (std::int64_t i = 0; i < w.height; ++i) {
    for (std::int64_t j = 0; j < w.width; ++j) {
      const auto p = bilateral_pixel<T, L, C>(in, w, space, slope, i, j);
#pragma GCC unroll 4
      for (int k = 0; k < C; ++k) {
        (p.sum[k] / p.total).store(out + ((k * w.height + i) * w.width + j) * L);
      }
    }
  }
}

// y = N / W, N = sum_q w_q x_q, W = sum_q w_q, w_q = s_q e^(slope D_q^2), D_q = sum_k |x_qk - x_pk|. So
//   dL/dw_q = sum_k dy_k (x_qk - y_k) / W   and   dw_q/dD_q = 2 slope D_q w_q.

/// dL/dD of the neighbour at `at`. share: dy / W.
template <class T, int L, int C>
PAVISE_INLINE Pack<T, L> bilateral_by_distance(const T* in, std::int64_t pixels, std::int64_t at,
                                               const Pack<T, L> (&y)[C], const Pack<T, L> (&share)[C],
                                               Pack<T, L> weight, Pack<T, L> distance, T slope) {
  using P = Pack<T, L>;
  P by_weight = P::broadcast(T{0});
#pragma GCC unroll 4
  for (int k = 0; k < C; ++k) {
    by_weight = fma(share[k], P::load(in + (k * pixels + at) * L) - y[k], by_weight);
  }
  return by_weight * weight * distance * P::broadcast(2 * slope);
}

template <class T, int L, int C>
PAVISE_LANES void bilateral_backward_lanes(const T* in, const T* dy, T* dx, const Windows& w, const T* space, T slope) {
  using P = Pack<T, L>;
  const std::int64_t pixels = w.height * w.width;
  for (std::int64_t i = 0; i < w.height; ++i) {
    for (std::int64_t j = 0; j < w.width; ++j) {
      const auto p = bilateral_pixel<T, L, C>(in, w, space, slope, i, j);
      const std::int64_t here = i * w.width + j;
      P y[C];
      P share[C];
#pragma GCC unroll 4
      for (int k = 0; k < C; ++k) {
        y[k] = p.sum[k] / p.total;
        share[k] = P::load(dy + (k * pixels + here) * L) / p.total;
      }
      each_bilateral<T, L, C>(
          in, w, space, slope, i, j,
          p.centre, [&](std::int64_t at, P weight, P distance) __attribute__((always_inline)) {
            const P by_distance = bilateral_by_distance<T, L, C>(in, pixels, at, y, share, weight, distance, slope);
#pragma GCC unroll 4
            for (int k = 0; k < C; ++k) {
              const P turn = by_distance * sign(P::load(in + (k * pixels + at) * L) - p.centre[k]);
              T* there = dx + (k * pixels + at) * L;
              (fma(share[k], weight, P::load(there)) + turn).store(there);
              T* own = dx + (k * pixels + here) * L;
              (P::load(own) - turn).store(own);
            }
          });
    }
  }
}

/// y_p = sum_q w_q x_q / sum_q w_q over the window, w_q = space_q e^(slope D^2), D the sum over channels of the
/// differences' sizes; neighbours with space 0 take no part. in, out: (1 or 3,height,width)[lanes].
template <class T>
void bilateral_forward(Tag, const T* in, T* out, const Windows& w, const T* space, std::int64_t channels, T slope,
                       int lanes) {
  if (channels == 3) {
    lanes == 16 ? bilateral_lanes<T, 16, 3>(in, out, w, space, slope)
                : bilateral_lanes<T, 1, 3>(in, out, w, space, slope);
  } else {
    lanes == 16 ? bilateral_lanes<T, 16, 1>(in, out, w, space, slope)
                : bilateral_lanes<T, 1, 1>(in, out, w, space, slope);
  }
}

/// dx += its derivative times dy.
template <class T>
void bilateral_backward(Tag, const T* in, const T* dy, T* dx, const Windows& w, const T* space, std::int64_t channels,
                        T slope, int lanes) {
  if (channels == 3) {
    lanes == 16 ? bilateral_backward_lanes<T, 16, 3>(in, dy, dx, w, space, slope)
                : bilateral_backward_lanes<T, 1, 3>(in, dy, dx, w, space, slope);
  } else {
    lanes == 16 ? bilateral_backward_lanes<T, 16, 1>(in, dy, dx, w, space, slope)
                : bilateral_backward_lanes<T, 1, 1>(in, dy, dx, w, space, slope);
  }
}
