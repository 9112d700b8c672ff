// SPDX-License-Identifier: MIT
// The thermometer code and the derivative of the smooth code that stands for it. Oracle:
// tests/filter/thermometer_test.cpp.

/// 1 where x is more than the bound, 0 elsewhere and for NaN.
template <class T, int L>
PAVISE_INLINE Pack<T, L> exceeds(Pack<T, L> x, Pack<T, L> bound) {
  return select(x > bound, Pack<T, L>::broadcast(T{1}), Pack<T, L>::broadcast(T{0}));
}
/// What a value exceeds to reach level k.
template <class T, int L>
PAVISE_INLINE Pack<T, L> level_bound(std::int64_t k, std::int64_t levels) {
  return Pack<T, L>::broadcast(static_cast<T>(k) / static_cast<T>(levels));
}

template <class T, int L>
inline void thermometer_lanes(const T* x, T* y, std::int64_t channels, std::int64_t pixels, std::int64_t levels) {
  using P = Pack<T, L>;
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t k = 0; k < levels; ++k) {
      const P bound = level_bound<T, L>(k, levels);
      for (std::int64_t i = 0; i < pixels; ++i) {
        exceeds(P::load(x + (c * pixels + i) * L), bound).store(y + ((c * levels + k) * pixels + i) * L);
      }
    }
  }
}

/// One element's derivative; that of the next level is `pixels` elements of dy further on.
template <class T, int L>
PAVISE_INLINE void thermometer_backward_at(const T* x, const T* dy, T* dx, std::int64_t pixels, std::int64_t levels,
                                           bool accumulate) {
  using P = Pack<T, L>;
  const P steps = P::broadcast(static_cast<T>(levels));
  const P at = P::load(x) * steps;
  P sum = P::broadcast(T{0});
  for (std::int64_t k = 0; k < levels; ++k) {
    const P s = sigmoid(at - P::broadcast(static_cast<T>(k)));
    sum = fma(s * (P::broadcast(T{1}) - s), P::load(dy + k * pixels * L), sum);
  }
  put_product(sum, steps, dx, accumulate);
}

template <class T, int L>
inline void thermometer_backward_lanes(const T* x, const T* dy, T* dx, std::int64_t channels, std::int64_t pixels,
                                       std::int64_t levels, bool accumulate) {
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t i = 0; i < pixels; ++i) {
      const std::int64_t at = (c * pixels + i) * L;
      thermometer_backward_at<T, L>(x + at, dy + (c * levels * pixels + i) * L, dx + at, pixels, levels, accumulate);
    }
  }
}

/// x: (channels,pixels)[lanes], y: (channels,levels,pixels)[lanes]: 1 where x > k/levels.
template <class T>
void thermometer_forward(Tag, const T* x, T* y, std::int64_t channels, std::int64_t pixels, std::int64_t levels,
                         int lanes) {
  lanes == 16 ? thermometer_lanes<T, 16>(x, y, channels, pixels, levels)
              : thermometer_lanes<T, 1>(x, y, channels, pixels, levels);
}

/// dx = sum_k levels s (1 - s) dy_k with s = 1 / (1 + e^-(levels x - k)); stored or added.
template <class T>
void thermometer_backward(Tag, const T* x, const T* dy, T* dx, std::int64_t channels, std::int64_t pixels,
                          std::int64_t levels, bool accumulate, int lanes) {
  lanes == 16 ? thermometer_backward_lanes<T, 16>(x, dy, dx, channels, pixels, levels, accumulate)
              : thermometer_backward_lanes<T, 1>(x, dy, dx, channels, pixels, levels, accumulate);
}
