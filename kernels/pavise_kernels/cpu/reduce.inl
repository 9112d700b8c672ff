// SPDX-License-Identifier: MIT
// Reductions over axes of one image. `kept` walks over the results (array 0: the input, 1: the output), `reduced` over
// the elements of each (array 0: the input). Sums run in row-major order in four parts (elements 0, 4, 8, ... of the
// innermost loop, 1, 5, ..., and so on), which are added last: fixed, and not one long chain of dependent additions.
// Oracle: the plain loops of tests/autodiff/reduce_test.cpp.

template <class T, int L>
PAVISE_LANES Pack<T, L> sum_elements(const StridedLoop& reduced, const T* x) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  P part[4] = {zero, zero, zero, zero};
  const std::int64_t n = reduced.inner();
  const std::int64_t step = reduced.inner_stride(0) * L;
  each_row(
      reduced, {0, 0, 0}, [&](const std::int64_t(&at)[3]) __attribute__((always_inline)) {
        const T* p = x + at[0] * L;
        std::int64_t i = 0;
        for (; i + 4 <= n; i += 4, p += 4 * step) {
          part[0] = part[0] + P::load(p);
          part[1] = part[1] + P::load(p + step);
          part[2] = part[2] + P::load(p + 2 * step);
          part[3] = part[3] + P::load(p + 3 * step);
        }
        for (int k = 0; i < n; ++i, ++k, p += step) {
          part[k] = part[k] + P::load(p);
        }
      });
  return (part[0] + part[1]) + (part[2] + part[3]);
}

/// Where x displaces m: larger (smaller), or NaN.
template <Reduction R, class T, int L>
PAVISE_INLINE Mask<T, L> displaces(Pack<T, L> x, Pack<T, L> m) {
  return (R == Reduction::max ? x > m : m > x) | (equal(x, x) ^ Mask<T, L>::broadcast(-1));
}

template <Reduction R, class T, int L>
PAVISE_LANES Pack<T, L> extreme_element(const StridedLoop& reduced, const T* x) {
  using P = Pack<T, L>;
  P m = P::load(x);
  each_row(
      reduced, {0, 0, 0}, [&](const std::int64_t(&at)[3]) __attribute__((always_inline)) {
        for (std::int64_t i = 0; i < reduced.inner(); ++i) {
          const P v = P::load(x + (at[0] + i * reduced.inner_stride(0)) * L);
          m = select(displaces<R>(v, m), v, m);
        }
      });
  return m;
}

template <Reduction R, class T, int L>
PAVISE_LANES void reduce_forward_lanes(const StridedLoop& kept, const StridedLoop& reduced, const T* x, T* y, T scale) {
  each_row(kept, {0, 0, 0}, [&](const std::int64_t(&row)[3]) {
    for (std::int64_t i = 0; i < kept.inner(); ++i) {
      const T* from = x + (row[0] + i * kept.inner_stride(0)) * L;
      T* to = y + (row[1] + i * kept.inner_stride(1)) * L;
      if constexpr (R == Reduction::sum) {
        (sum_elements<T, L>(reduced, from) * Pack<T, L>::broadcast(scale)).store(to);
      } else {
        extreme_element<R, T, L>(reduced, from).store(to);
      }
    }
  });
}

template <Reduction R, class T, int L>
PAVISE_LANES void reduce_backward_lanes(const StridedLoop& kept, const StridedLoop& reduced, const T* x, const T* y,
                                        const T* dy, T* dx, T scale, bool accumulate) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  each_row(kept, {0, 0, 0}, [&](const std::int64_t(&row)[3]) {
    for (std::int64_t k = 0; k < kept.inner(); ++k) {
      const std::int64_t from = row[0] + k * kept.inner_stride(0);
      const std::int64_t out = row[1] + k * kept.inner_stride(1);
      const P g = P::load(dy + out * L) * P::broadcast(scale);
      auto waiting = Mask<T, L>::broadcast(-1);
      each_row(reduced, {0, 0, 0}, [&](const std::int64_t(&at)[3]) {
        for (std::int64_t i = 0; i < reduced.inner(); ++i) {
          const std::int64_t e = (from + at[0] + i * reduced.inner_stride(0)) * L;
          P d = P::load(dy + out * L);
          if constexpr (R == Reduction::sum) {
            if (accumulate) {
              fma(d, scale, P::load(dx + e)).store(dx + e);
            } else {
              g.store(dx + e);
            }
          } else {
            const auto first = equal(P::load(x + e), P::load(y + out * L)) & waiting;
            waiting = waiting ^ first;
            d = select(first, d, zero);
            if (accumulate) {
              d = d + P::load(dx + e);
            }
            d.store(dx + e);
          }
        }
      });
    }
  });
}

/// y = scale * sum, or the largest or smallest element (NaN if there is one), for one group.
template <Reduction R, class T>
void reduce_forward(Tag, const StridedLoop& kept, const StridedLoop& reduced, const T* x, T* y, T scale, int lanes) {
  lanes == 16 ? reduce_forward_lanes<R, T, 16>(kept, reduced, x, y, scale)
              : reduce_forward_lanes<R, T, 1>(kept, reduced, x, y, scale);
}
/// dx (+)= scale * dy for sums; dy at the first element that equals the extreme, 0 elsewhere, for the others.
template <Reduction R, class T>
void reduce_backward(Tag, const StridedLoop& kept, const StridedLoop& reduced, const T* x, const T* y, const T* dy,
                     T* dx, T scale, bool accumulate, int lanes) {
  lanes == 16 ? reduce_backward_lanes<R, T, 16>(kept, reduced, x, y, dy, dx, scale, accumulate)
              : reduce_backward_lanes<R, T, 1>(kept, reduced, x, y, dy, dx, scale, accumulate);
}
