// SPDX-License-Identifier: MIT
// Functions of two numbers with NumPy's broadcasting, between values with lanes and shared ones. In a StridedLoop array
// 0 is the result, 1 and 2 are the operands. Where an operand is broadcast its gradient is a sum: over positions in
// row-major order, then (if it is shared) over groups, then over lanes.
// Oracle: the loops of tests/autodiff/elementwise_test.cpp.

/// Calls row(at) once for each run of the innermost loop, with the arrays' offsets at its start plus `start`.
template <class Row>
PAVISE_INLINE void each_row(const StridedLoop& loop, const std::int64_t (&start)[3], const Row& row) {
  if (loop.count() == 0) {
    return;
  }
  std::int64_t index[StridedLoop::kMaxRank] = {};
  std::int64_t at[3] = {start[0], start[1], start[2]};
  for (;;) {
    row(at);
    int d = loop.rank - 2;
    for (; d >= 0; --d) {
      for (int k = 0; k < 3; ++k) {
        at[k] += loop.stride[k][d];
      }
      if (++index[d] < loop.extent[d]) {
        break;
      }
      for (int k = 0; k < 3; ++k) {
        at[k] -= loop.stride[k][d] * loop.extent[d];
      }
      index[d] = 0;
    }
    if (d < 0) {
      return;
    }
  }
}

template <Binary F>
struct BinaryFunction;

// a + b                                       d/da = 1, d/db = 1
template <>
struct BinaryFunction<Binary::add> {
  template <class P>
  PAVISE_INLINE static P value(P a, P b) {
    return a + b;
  }
  template <int Operand, class T, class P>
  PAVISE_INLINE static P slope(P, P) {
    return P::broadcast(T{1});
  }
};
// a - b                                       d/da = 1, d/db = -1
template <>
struct BinaryFunction<Binary::sub> {
  template <class P>
  PAVISE_INLINE static P value(P a, P b) {
    return a - b;
  }
  template <int Operand, class T, class P>
  PAVISE_INLINE static P slope(P, P) {
    return P::broadcast(Operand == 1 ? T{1} : T{-1});
  }
};
// a b                                         d/da = b, d/db = a
template <>
struct BinaryFunction<Binary::mul> {
  template <class P>
  PAVISE_INLINE static P value(P a, P b) {
    return a * b;
  }
  template <int Operand, class T, class P>
  PAVISE_INLINE static P slope(P a, P b) {
    return Operand == 1 ? b : a;
  }
};
// a / b                                       d/da = 1/b, d/db = -(a/b)/b
template <>
struct BinaryFunction<Binary::div> {
  template <class P>
  PAVISE_INLINE static P value(P a, P b) {
    return a / b;
  }
  template <int Operand, class T, class P>
  PAVISE_INLINE static P slope(P a, P b) {
    return Operand == 1 ? P::broadcast(T{1}) / b : -(a / b / b);
  }
};
// the larger                                  all of the gradient goes to it; to a where they are equal
template <>
struct BinaryFunction<Binary::maximum> {
  template <class P>
  PAVISE_INLINE static P value(P a, P b) {
    return select(b > a, b, a);
  }
  template <int Operand, class T, class P>
  PAVISE_INLINE static P slope(P a, P b) {
    const P one = P::broadcast(T{1});
    const P zero = P::broadcast(T{0});
    return Operand == 1 ? select(b > a, zero, one) : select(b > a, one, zero);
  }
};
// the smaller                                 all of the gradient goes to it; to a where they are equal
template <>
struct BinaryFunction<Binary::minimum> {
  template <class P>
  PAVISE_INLINE static P value(P a, P b) {
    return select(a > b, b, a);
  }
  template <int Operand, class T, class P>
  PAVISE_INLINE static P slope(P a, P b) {
    const P one = P::broadcast(T{1});
    const P zero = P::broadcast(T{0});
    return Operand == 1 ? select(a > b, zero, one) : select(a > b, one, zero);
  }
};

/// Element `at` of a value with lanes, or of a shared one.
template <class T, int L>
PAVISE_INLINE Pack<T, L> load_element(const T* p, std::int64_t at, bool shared) {
  return shared ? Pack<T, L>::broadcast(p[at]) : Pack<T, L>::load(p + at * L);
}

template <Binary F, class T, int L>
PAVISE_LANES void binary_forward_lanes(const StridedLoop& loop, const T* a, bool a_shared, const T* b, bool b_shared,
                                       T* y) {
  const std::int64_t n = loop.inner();
  const std::int64_t sy = loop.inner_stride(0);
  const std::int64_t sa = loop.inner_stride(1);
  const std::int64_t sb = loop.inner_stride(2);
  each_row(
      loop, {0, 0, 0}, [&](const std::int64_t(&at)[3]) __attribute__((always_inline)) {
        for (std::int64_t i = 0; i < n; ++i) {
          BinaryFunction<F>::value(load_element<T, L>(a, at[1] + i * sa, a_shared),
                                   load_element<T, L>(b, at[2] + i * sb, b_shared))
              .store(y + (at[0] + i * sy) * L);
        }
      });
}

/// y = f(a, b) for one group. `y` is contiguous.
template <Binary F, class T>
void binary_forward(Tag, const StridedLoop& loop, const T* a, bool a_shared, const T* b, bool b_shared, T* y,
                    int lanes) {
  lanes == 16 ? binary_forward_lanes<F, T, 16>(loop, a, a_shared, b, b_shared, y)
              : binary_forward_lanes<F, T, 1>(loop, a, a_shared, b, b_shared, y);
}

/// The same for n contiguous numbers each: operands of one shape, both with lanes.
template <Binary F, class T>
void binary_forward_contiguous(Tag, const T* a, const T* b, T* y, std::int64_t n) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    BinaryFunction<F>::value(Pack<T, 16>::load(a + i), Pack<T, 16>::load(b + i)).store(y + i);
  }
  for (; i < n; ++i) {
    BinaryFunction<F>::value(Pack<T, 1>::load(a + i), Pack<T, 1>::load(b + i)).store(y + i);
  }
}
template <Binary F, int Operand, class T>
void binary_backward_contiguous(Tag, const T* a, const T* b, const T* dy, T* d, std::int64_t n, bool accumulate) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    using P = Pack<T, 16>;
    put_product(P::load(dy + i), BinaryFunction<F>::template slope<Operand, T>(P::load(a + i), P::load(b + i)), d + i,
                accumulate);
  }
  for (; i < n; ++i) {
    using P = Pack<T, 1>;
    put_product(P::load(dy + i), BinaryFunction<F>::template slope<Operand, T>(P::load(a + i), P::load(b + i)), d + i,
                accumulate);
  }
}

/// Values of one operand or result: where group 0 begins, and how far it is to the next one (0: shared).
template <class T>
struct GroupedArray {
  const T* data;
  std::int64_t group_step;
};

/// `sum` plus that of dy * slope over the steps of `summed`, from the offsets `start`, over `groups` groups.
template <Binary F, int Operand, class T, int L>
PAVISE_LANES Pack<T, L> binary_gradient_sum(const StridedLoop& summed, const std::int64_t (&start)[3],
                                            GroupedArray<T> a, GroupedArray<T> b, const T* dy, std::int64_t dy_step,
                                            std::int64_t groups, Pack<T, L> sum) {
  using P = Pack<T, L>;
  const std::int64_t n = summed.inner();
  for (std::int64_t g = 0; g < groups; ++g) {
    const T* pa = a.data + g * a.group_step;
    const T* pb = b.data + g * b.group_step;
    const T* pd = dy + g * dy_step;
    each_row(
        summed, start, [&](const std::int64_t(&at)[3]) __attribute__((always_inline)) {
          for (std::int64_t i = 0; i < n; ++i) {
            const P va = load_element<T, L>(pa, at[1] + i * summed.inner_stride(1), a.group_step == 0);
            const P vb = load_element<T, L>(pb, at[2] + i * summed.inner_stride(2), b.group_step == 0);
            sum = fma(P::load(pd + (at[0] + i * summed.inner_stride(0)) * L),
                      BinaryFunction<F>::template slope<Operand, T>(va, vb), sum);
          }
        });
  }
  return sum;
}

template <Binary F, int Operand, class T, int L>
PAVISE_LANES void binary_backward_lanes(const StridedLoop& kept, const StridedLoop& summed, GroupedArray<T> a,
                                        GroupedArray<T> b, const T* dy, T* d, bool accumulate) {
  using P = Pack<T, L>;
  const std::int64_t n = kept.inner();
  each_row(kept, {0, 0, 0}, [&](const std::int64_t(&row)[3]) {
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t start[3] = {row[0] + i * kept.inner_stride(0), row[1] + i * kept.inner_stride(1),
                                     row[2] + i * kept.inner_stride(2)};
      P sum = binary_gradient_sum<F, Operand, T, L>(summed, start, a, b, dy, 0, 1, P::broadcast(T{0}));
      T* to = d + start[Operand] * L;
      if (accumulate) {
        sum = sum + P::load(to);
      }
      sum.store(to);
    }
  });
}

/// d (+)= sum of dy * df/d(operand 1 or 2) for one group of a value with lanes. `kept`: the axes along which the
/// operand has elements of its own; `summed`: those over which it is broadcast. A group step of 0 marks a shared
/// operand.
template <Binary F, int Operand, class T>
void binary_backward(Tag, const StridedLoop& kept, const StridedLoop& summed, GroupedArray<T> a, GroupedArray<T> b,
                     const T* dy, T* d, bool accumulate, int lanes) {
  lanes == 16 ? binary_backward_lanes<F, Operand, T, 16>(kept, summed, a, b, dy, d, accumulate)
              : binary_backward_lanes<F, Operand, T, 1>(kept, summed, a, b, dy, d, accumulate);
}

/// d[element] += the same, summed over groups and lanes too, for elements [begin, end) of a shared operand. 16 lanes.
template <Binary F, int Operand, class T>
void binary_backward_shared(Tag, const StridedLoop& kept, const StridedLoop& summed, GroupedArray<T> a,
                            GroupedArray<T> b, const T* dy, std::int64_t dy_step, std::int64_t groups, T* d,
                            std::int64_t begin, std::int64_t end, const RunningSums<T>& running) {
  for (std::int64_t e = begin; e < end; ++e) {
    std::int64_t start[3];
    kept.locate(e, start);
    const Pack<T, 16> sum =
        binary_gradient_sum<F, Operand, T, 16>(summed, start, a, b, dy, dy_step, groups, begin_sum(running, e));
    end_sum(running, e, sum, d[start[Operand]]);
  }
}

template <class T, int L>
PAVISE_LANES void spread_lanes(const T* x, T* y, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    Pack<T, L>::broadcast(x[i]).store(y + i * L);
  }
}
/// y[i][lane] = x[i]
template <class T>
void spread_forward(Tag, const T* x, T* y, std::int64_t n, int lanes) {
  lanes == 16 ? spread_lanes<T, 16>(x, y, n) : spread_lanes<T, 1>(x, y, n);
}
/// dx[i] += sum over groups and lanes of dy[i], for i in [begin, end). 16 lanes.
template <class T>
void spread_backward(Tag, const T* dy, std::int64_t n, std::int64_t groups, T* dx, std::int64_t begin, std::int64_t end,
                     const RunningSums<T>& running) {
  using P = Pack<T, 16>;
  for (std::int64_t i = begin; i < end; ++i) {
    P sum = begin_sum(running, i);
    for (std::int64_t g = 0; g < groups; ++g) {
      sum = sum + P::load(dy + (g * n + i) * 16);
    }
    end_sum(running, i, sum, dx[i]);
  }
}

/// to (+)= from, along the loops of array 0 (to) and array 1 (from), for one group.
template <class T>
void strided_copy(Tag, const StridedLoop& loop, const T* from, T* to, bool accumulate, int lanes) {
  const std::int64_t n = loop.inner();
  const std::int64_t st = loop.inner_stride(0);
  const std::int64_t sf = loop.inner_stride(1);
  each_row(loop, {0, 0, 0}, [&](const std::int64_t(&at)[3]) {
    T* t = to + at[0] * lanes;
    const T* f = from + at[1] * lanes;
    if (!accumulate && st == 1 && sf == 1) {
      std::memcpy(t, f, static_cast<std::size_t>(n * lanes) * sizeof(T));
      return;
    }
    for (std::int64_t i = 0; i < n; ++i) {
      for (int lane = 0; lane < lanes; ++lane) {
        const T v = f[i * sf * lanes + lane];
        T& out = t[i * st * lanes + lane];
        out = accumulate ? out + v : v;
      }
    }
  });
}
