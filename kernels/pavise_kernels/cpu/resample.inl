// SPDX-License-Identifier: MIT
// Linear maps along one axis, and their transposes. Four neighbouring packs are summed together. Oracle: naive sums in double, in tests/filter/resample_test.cpp.

/// One element: the sum over taps of their weights times elements `step` apart.
template <class T, int L>
PAVISE_INLINE Pack<T, L> tap_sum(const T* from, std::int64_t step, const std::int64_t* place, const T* weight,
                                 std::int64_t taps) {
  using P = Pack<T, L>;
  P sum = P::broadcast(T{0});
  for (std::int64_t t = 0; t < taps; ++t) {
    sum = fma(P::load(from + place[t] * step * L), weight[t], sum);
  }
  return sum;
}

template <class T, int L>
inline void resample_lanes(const T* in, T* out, const AxisTaps<T>& m) {
  using P = Pack<T, L>;
  for (std::int64_t o = 0; o < m.outer; ++o) {
    std::int64_t first = 0;
    if (m.inner == 1) {  // four elements of the axis itself
      const T* from = in + o * m.in * L;
      for (; first + 4 <= m.out; first += 4) {
        const std::int64_t* place = m.places + first * m.taps;
        const T* weight = m.weights + first * m.taps;
        P sum[4] = {P::broadcast(T{0}), P::broadcast(T{0}), P::broadcast(T{0}), P::broadcast(T{0})};
        for (std::int64_t t = 0; t < m.taps; ++t) {
#pragma GCC unroll 4
          for (int q = 0; q < 4; ++q) {
            sum[q] = fma(P::load(from + place[q * m.taps + t] * L), weight[q * m.taps + t], sum[q]);
          }
        }
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) {
          sum[q].store(out + (o * m.out + first + q) * L);
        }
      }
    }
    for (std::int64_t i = first; i < m.out; ++i) {
      const std::int64_t* place = m.places + i * m.taps;
      const T* weight = m.weights + i * m.taps;
      const T* from = in + o * m.in * m.inner * L;
      T* to = out + (o * m.out + i) * m.inner * L;
      std::int64_t k = 0;
      for (; k + 4 <= m.inner; k += 4) {
        P sum[4] = {P::broadcast(T{0}), P::broadcast(T{0}), P::broadcast(T{0}), P::broadcast(T{0})};
        for (std::int64_t t = 0; t < m.taps; ++t) {
          const T* p = from + (place[t] * m.inner + k) * L;
#pragma GCC unroll 4
          for (int q = 0; q < 4; ++q) {
            sum[q] = fma(P::load(p + q * L), weight[t], sum[q]);
          }
        }
#pragma GCC unroll 4
        for (int q = 0; q < 4; ++q) {
          sum[q].store(to + (k + q) * L);
        }
      }
      for (; k < m.inner; ++k) {
        tap_sum<T, L>(from + k * L, m.inner, place, weight, m.taps).store(to + k * L);
      }
    }
  }
}

/// dx += the transposed map of dy, from the first of `count` elements of the inner axis, for one of the outer one.
template <class T, int L>
PAVISE_INLINE void resample_adjoint_part(const T* dy, T* dx, const AxisTaps<T>& m, std::int64_t count) {
  using P = Pack<T, L>;
  for (std::int64_t i = 0; i < m.out; ++i) {
    for (std::int64_t t = 0; t < m.taps; ++t) {
      const T weight = m.weights[i * m.taps + t];
      const T* from = dy + i * m.inner * L;
      T* to = dx + m.places[i * m.taps + t] * m.inner * L;
      for (std::int64_t k = 0; k < count; ++k) {
        fma(P::load(from + k * L), weight, P::load(to + k * L)).store(to + k * L);
      }
    }
  }
}

template <class T, int L>
inline void resample_adjoint_lanes(const T* dy, T* dx, const AxisTaps<T>& m) {
  for (std::int64_t o = 0; o < m.outer; ++o) {
    resample_adjoint_part<T, L>(dy + o * m.out * m.inner * L, dx + o * m.in * m.inner * L, m, m.inner);
  }
}

/// out = the map of in. in: (outer,in,inner)[lanes], out: (outer,out,inner)[lanes].
template <class T>
void resample_axis(Tag, const T* in, T* out, const AxisTaps<T>& m, int lanes) {
  lanes == 16 ? resample_lanes<T, 16>(in, out, m) : resample_lanes<T, 1>(in, out, m);
}

/// dx += the transposed map of dy.
template <class T>
void resample_axis_adjoint(Tag, const T* dy, T* dx, const AxisTaps<T>& m, int lanes) {
  lanes == 16 ? resample_adjoint_lanes<T, 16>(dy, dx, m) : resample_adjoint_lanes<T, 1>(dy, dx, m);
}
