// SPDX-License-Identifier: MIT
// Pooling of one group: in (C,H,W)[lanes], out (C,OH,OW)[lanes]; a ConvGeometry with as many output as input channels
// says where the windows lie. Windows are clipped at the border; where one is whole and 2x2 or 3x3, its loops are
// unrolled. The derivative of the maximum finds the winner again by comparing (no indices are stored and nothing is
// gathered); where windows do not overlap it writes each element of dx once, instead of zeroing and adding. Oracle: the
// naive loops of tests/autodiff/op_table.hpp; ties and NaN: tests/autodiff/pool_test.cpp.

/// Where a derivative goes: as Tape::Target.
template <class T>
struct PoolTarget {
  T* data;
  bool accumulate;
  const T* mask;
};

/// Window positions [first, last) along one axis of output position o that lie inside the input.
struct PoolRange {
  std::int64_t first, last;
};
PAVISE_LANES PoolRange pool_range(std::int64_t start, std::int64_t in, std::int64_t kernel, std::int64_t dilation) {
  const std::int64_t first = start < 0 ? (-start + dilation - 1) / dilation : 0;
  const std::int64_t last = start < in ? std::min(kernel, (in - start + dilation - 1) / dilation) : 0;
  return {first, std::max(first, last)};
}

/// Calls body(K, y range, x range, place of the window's origin, place of the output) for each window of one channel,
/// where K is the unrolled extent of a whole window, or 0. Places are in elements and relative to the channel.
template <class Body>
PAVISE_INLINE void each_window(const ConvGeometry& g, std::int64_t oy, const Body& body) {
  const std::int64_t y0 = oy * g.stride - g.padding;
  const PoolRange y = pool_range(y0, g.in_height, g.kernel_height, g.dilation);
  const bool square = g.kernel_height == g.kernel_width && y.last - y.first == g.kernel_height;
  for (std::int64_t ox = 0; ox < g.out_width; ++ox) {
    const std::int64_t x0 = ox * g.stride - g.padding;
    const PoolRange x = pool_range(x0, g.in_width, g.kernel_width, g.dilation);
    const bool whole = square && x.last - x.first == g.kernel_width;
    const std::int64_t in = y0 * g.in_width + x0;
    const std::int64_t out = oy * g.out_width + ox;
    if (whole && g.kernel_width == 2) {
      body(std::integral_constant<int, 2>{}, PoolRange{0, 2}, PoolRange{0, 2}, in, out);
    } else if (whole && g.kernel_width == 3) {
      body(std::integral_constant<int, 3>{}, PoolRange{0, 3}, PoolRange{0, 3}, in, out);
    } else {
      body(std::integral_constant<int, 0>{}, y, x, in, out);
    }
  }
}

/// Calls f(element relative to the window's origin) for each position of a window, in row-major order.
template <int K, class F>
PAVISE_INLINE void each_position(const ConvGeometry& g, PoolRange y, PoolRange x, const F& f) {
  const std::int64_t row = g.dilation * g.in_width;
  if constexpr (K > 0) {
#pragma GCC unroll 3
    for (int ky = 0; ky < K; ++ky) {
#pragma GCC unroll 3
      for (int kx = 0; kx < K; ++kx) {
        f(ky * row + kx * g.dilation);
      }
    }
  } else {
    for (std::int64_t ky = y.first; ky < y.last; ++ky) {
      for (std::int64_t kx = x.first; kx < x.last; ++kx) {
        f(ky * row + kx * g.dilation);
      }
    }
  }
}

template <class T, int L>
PAVISE_INLINE Mask<T, L> is_nan(Pack<T, L> a) {
  return equal(a, a) ^ Mask<T, L>::broadcast(-1);
}

template <class T, int L>
PAVISE_LANES void max_pool_lanes(const ConvGeometry& g, const T* in, T* out) {
  using P = Pack<T, L>;
  const std::int64_t in_channel = g.in_height * g.in_width * L;
  const std::int64_t out_channel = g.out_height * g.out_width * L;
  for (std::int64_t c = 0; c < g.in_channels; ++c, in += in_channel, out += out_channel) {
    for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
      each_window(
          g,
          oy, [&](auto k, PoolRange y, PoolRange x, std::int64_t from, std::int64_t to) __attribute__((always_inline)) {
            P best = P::broadcast(-std::numeric_limits<T>::infinity());
            each_position<k()>(
                g, y, x, [&](std::int64_t at) __attribute__((always_inline)) {
                  const P v = P::load(in + (from + at) * L);
                  best = select((v > best) | is_nan(v), v, best);
                });
            best.store(out + to * L);
          });
    }
  }
}

/// Whether no element of the input is in two windows.
PAVISE_LANES bool windows_are_apart(const ConvGeometry& g) {
  return (g.stride > g.dilation * (g.kernel_height - 1) || g.out_height == 1) &&
         (g.stride > g.dilation * (g.kernel_width - 1) || g.out_width == 1);
}
/// Whether, besides, every element is in one.
PAVISE_LANES bool windows_cover(const ConvGeometry& g) {
  const auto covers = [&](std::int64_t in, std::int64_t kernel, std::int64_t out) {
    return (g.dilation == 1 || kernel == 1) &&
           (out == 1 ? kernel - g.padding >= in : kernel == g.stride && out * g.stride - g.padding >= in);
  };
  return covers(g.in_height, g.kernel_height, g.out_height) && covers(g.in_width, g.kernel_width, g.out_width);
}

template <class T, int L>
PAVISE_LANES void fill_zeros(T* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; i += L) {
    Pack<T, L>::broadcast(T{0}).store(x + i);
  }
}

/// Rows where a window's maximum is NaN: the derivative goes to the window's last NaN (as in PyTorch).
template <class T, int L>
PAVISE_LANES void max_pool_backward_nan(const ConvGeometry& g, std::int64_t oy, const T* in, const T* out, const T* dy,
                                        T* dx) {
  for (std::int64_t ox = 0; ox < g.out_width; ++ox) {
    const std::int64_t y0 = oy * g.stride - g.padding;
    const std::int64_t x0 = ox * g.stride - g.padding;
    const PoolRange y = pool_range(y0, g.in_height, g.kernel_height, g.dilation);
    const PoolRange x = pool_range(x0, g.in_width, g.kernel_width, g.dilation);
    for (int lane = first_lane<L>(); lane < end_lane<L>(); ++lane) {
      const std::int64_t to = (oy * g.out_width + ox) * L + lane;
      if (out[to] == out[to]) {
        continue;
      }
      std::int64_t winner = -1;
      for (std::int64_t ky = y.first; ky < y.last; ++ky) {
        for (std::int64_t kx = x.first; kx < x.last; ++kx) {
          const std::int64_t at = ((y0 + ky * g.dilation) * g.in_width + x0 + kx * g.dilation) * L + lane;
          winner = in[at] == in[at] ? winner : at;
        }
      }
      dx[winner] += dy[to];
    }
  }
}

template <class T, int L>
PAVISE_LANES void max_pool_backward_lanes(const ConvGeometry& g, const T* in, const T* out, const T* dy,
                                          const PoolTarget<T>& target) {
  using P = Pack<T, L>;
  using M = Mask<T, L>;
  const P zero = P::broadcast(T{0});
  const std::int64_t in_channel = g.in_height * g.in_width * L;
  const std::int64_t out_channel = g.out_height * g.out_width * L;
  const bool write = !target.accumulate && windows_are_apart(g);
  const bool clear = !target.accumulate && !(write && windows_cover(g));
  T* dx = target.data;
  for (std::int64_t c = 0; c < g.in_channels;
       ++c, in += in_channel, dx += in_channel, out += out_channel, dy += out_channel) {
    if (clear) {
      fill_zeros<T, L>(dx, in_channel);
    }
    for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
      M nan = M::broadcast(0);
      each_window(
          g,
          oy, [&](auto k, PoolRange y, PoolRange x, std::int64_t from, std::int64_t to) __attribute__((always_inline)) {
            const P best = P::load(out + to * L);
            P d = P::load(dy + to * L);
            // The mask is the input of the pooling itself, and the winner is positive exactly where the maximum is.
            d = target.mask != nullptr ? select(best > zero, d, zero) : d;
            nan = nan | is_nan(best);
            M open = M::broadcast(-1);
            each_position<k()>(
                g, y, x, [&](std::int64_t at) __attribute__((always_inline)) {
                  const M hit = equal(P::load(in + (from + at) * L), best) & open;
                  open = open ^ hit;
                  T* p = dx + (from + at) * L;
                  const P share = select(hit, d, zero);
                  (write ? share : P::load(p) + share).store(p);
                });
          });
      if (target.mask == nullptr && any_lane(nan)) {
        max_pool_backward_nan<T, L>(g, oy, in, out, dy, dx);
      }
    }
  }
}

/// Elements that the mean of a window is taken over.
PAVISE_LANES std::int64_t pool_count(const ConvGeometry& g, PoolRange y, PoolRange x, bool include_padding) {
  return include_padding ? g.kernel_height * g.kernel_width
                         : std::max<std::int64_t>(1, (y.last - y.first) * (x.last - x.first));
}

template <class T, int L>
PAVISE_LANES void avg_pool_lanes(const ConvGeometry& g, bool include_padding, const T* in, T* out) {
  using P = Pack<T, L>;
  const std::int64_t in_channel = g.in_height * g.in_width * L;
  const std::int64_t out_channel = g.out_height * g.out_width * L;
  for (std::int64_t c = 0; c < g.in_channels; ++c, in += in_channel, out += out_channel) {
    for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
      each_window(
          g,
          oy, [&](auto k, PoolRange y, PoolRange x, std::int64_t from, std::int64_t to) __attribute__((always_inline)) {
            P sum = P::broadcast(T{0});
            each_position<k()>(
                g, y,
                x, [&](std::int64_t at) __attribute__((always_inline)) { sum = sum + P::load(in + (from + at) * L); });
            (sum / P::broadcast(static_cast<T>(pool_count(g, y, x, include_padding)))).store(out + to * L);
          });
    }
  }
}

template <class T, int L>
PAVISE_LANES void avg_pool_backward_lanes(const ConvGeometry& g, bool include_padding, const T* dy,
                                          const PoolTarget<T>& target) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const std::int64_t in_channel = g.in_height * g.in_width * L;
  const std::int64_t out_channel = g.out_height * g.out_width * L;
  const bool write = !target.accumulate && windows_are_apart(g);
  const bool clear = !target.accumulate && !(write && windows_cover(g));
  T* dx = target.data;
  const T* mask = target.mask;
  for (std::int64_t c = 0; c < g.in_channels; ++c, dx += in_channel, dy += out_channel) {
    if (clear) {
      fill_zeros<T, L>(dx, in_channel);
    }
    for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
      each_window(
          g,
          oy, [&](auto k, PoolRange y, PoolRange x, std::int64_t from, std::int64_t to) __attribute__((always_inline)) {
            const P d = P::load(dy + to * L) / P::broadcast(static_cast<T>(pool_count(g, y, x, include_padding)));
            each_position<k()>(
                g, y, x, [&](std::int64_t at) __attribute__((always_inline)) {
                  T* p = dx + (from + at) * L;
                  const P share = mask != nullptr ? select(P::load(mask + (from + at) * L) > zero, d, zero) : d;
                  (write ? share : P::load(p) + share).store(p);
                });
          });
    }
    mask = mask != nullptr ? mask + in_channel : nullptr;
  }
}

/// out = the maximum of each window; NaN where the window holds one.
template <class T>
void max_pool(Tag, const ConvGeometry& g, const T* in, T* out, int lanes) {
  lanes == 16 ? max_pool_lanes<T, 16>(g, in, out) : max_pool_lanes<T, 1>(g, in, out);
}
/// dx gets each window's dy where its (first) maximum is. A mask, where given, is `in` itself.
template <class T>
void max_pool_backward(Tag, const ConvGeometry& g, const T* in, const T* out, const T* dy, T* dx, bool accumulate,
                       const T* mask, int lanes) {
  const PoolTarget<T> target{dx, accumulate, mask};
  lanes == 16 ? max_pool_backward_lanes<T, 16>(g, in, out, dy, target)
              : max_pool_backward_lanes<T, 1>(g, in, out, dy, target);
}
/// out = the mean of each window.
template <class T>
void avg_pool(Tag, const ConvGeometry& g, bool include_padding, const T* in, T* out, int lanes) {
  lanes == 16 ? avg_pool_lanes<T, 16>(g, include_padding, in, out) : avg_pool_lanes<T, 1>(g, include_padding, in, out);
}
/// dx gets an equal share of dy from each window, 0 where `mask` (as dx, or null) is not positive.
template <class T>
void avg_pool_backward(Tag, const ConvGeometry& g, bool include_padding, const T* dy, T* dx, bool accumulate,
                       const T* mask, int lanes) {
  const PoolTarget<T> target{dx, accumulate, mask};
  lanes == 16 ? avg_pool_backward_lanes<T, 16>(g, include_padding, dy, target)
              : avg_pool_backward_lanes<T, 1>(g, include_padding, dy, target);
}
