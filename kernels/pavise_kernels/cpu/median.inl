// SPDX-License-Identifier: MIT
// Median of windows, lane by lane: exchanges of a smaller and a larger pack, without a branch. 3x3 sorts each column
// once for the three windows that share it; others forget the smallest and the largest of the values that they hold and
// take in another until the median is left, of n values it is enough to hold n/2 + 2: in registers for 5x5, in memory
// for what is larger. Oracle: sorting, in tests/filter/median_test.cpp.

/// a and b become the smaller and the larger of the two.
template <class T, int L>
PAVISE_INLINE void sort_two(Pack<T, L>& a, Pack<T, L>& b) {
  const auto low = min(a, b);
  b = max(a, b);
  a = low;
}

/// Of the n values in v: the smallest goes to v[0], the largest to v[n-1]. Pairs first, so that halves are left to
/// search.
template <class T, int L>
PAVISE_INLINE void extremes_to_ends(T* v, std::int64_t n) {
  using P = Pack<T, L>;
  P low = P::load(v);
  P high = P::load(v + (n - 1) * L);
  sort_two(low, high);
  for (std::int64_t i = 1; i < n / 2; ++i) {
    T* below = v + i * L;
    T* above = v + (n - 1 - i) * L;
    P a = P::load(below);
    P b = P::load(above);
    sort_two(a, b);
    sort_two(low, a);
    sort_two(b, high);
    a.store(below);
    b.store(above);
  }
  if (n % 2 == 1) {
    T* middle = v + n / 2 * L;
    P p = P::load(middle);
    sort_two(low, p);
    sort_two(p, high);
    p.store(middle);
  }
  low.store(v);
  high.store(v + (n - 1) * L);
}

/// The same in registers.
template <int N, class P>
PAVISE_INLINE void extremes_to_ends(P* v) {
#pragma GCC unroll 8
  for (int i = 0; i < N / 2; ++i) {
    sort_two(v[i], v[N - 1 - i]);
  }
#pragma GCC unroll 8
  for (int i = 1; i < (N + 1) / 2; ++i) {
    sort_two(v[0], v[i]);
  }
#pragma GCC unroll 8
  for (int i = N / 2; i < N - 1; ++i) {
    sort_two(v[i], v[N - 1]);
  }
}

/// The median of the N values in v and of N - 3 others: next(0), next(1), ...
template <int N, class P, class Next>
PAVISE_INLINE P forgetful_median(P* v, const Next& next) {
  extremes_to_ends<N>(v);
  if constexpr (N == 3) {
    return v[1];
  } else {
    v[0] = next();
    return forgetful_median<N - 1>(v, next);
  }
}

/// The middle one of three.
template <class P>
PAVISE_INLINE P median_of_three(P a, P b, P c) {
  sort_two(a, b);
  return max(a, min(b, c));
}

/// The second largest of four.
template <class T, int L>
PAVISE_INLINE Pack<T, L> upper_median_of_four(Pack<T, L> a, Pack<T, L> b, Pack<T, L> c, Pack<T, L> d) {
  sort_two(a, b);
  sort_two(c, d);
  return max(max(a, c), min(b, d));
}

/// A column of three, sorted.
template <class T, int L>
struct SortedColumn {
  Pack<T, L> low, middle, high;
};

/// Column j of the windows of 3x3 of row i.
template <class T, int L>
PAVISE_INLINE SortedColumn<T, L> sorted_column(const T* in, const Windows& w, std::int64_t i, std::int64_t j) {
  const auto at = [&](std::int64_t r) __attribute__((always_inline)) {
    return Pack<T, L>::load(in + (w.y[i + r] * w.width + w.x[j]) * L);
  };
  SortedColumn<T, L> c{at(0), at(1), at(2)};
  sort_two(c.low, c.middle);
  sort_two(c.middle, c.high);
  sort_two(c.low, c.middle);
  return c;
}

template <class T, int L>
PAVISE_INLINE Pack<T, L> median_of_nine(const SortedColumn<T, L>& a, const SortedColumn<T, L>& b,
                                        const SortedColumn<T, L>& c) {
  return median_of_three(max(max(a.low, b.low), c.low), median_of_three(a.middle, b.middle, c.middle),
                         min(min(a.high, b.high), c.high));
}

/// The median of 5x5 pixels at(r, c).
template <class T, int L, class At>
PAVISE_INLINE Pack<T, L> median_of_25(const At& at) {
  Pack<T, L> v[14];
  std::int64_t k = 0;
  const auto next = [&]() __attribute__((always_inline)) {
    const Pack<T, L> p = at(k / 5, k % 5);
    ++k;
    return p;
  };
#pragma GCC unroll 14
  for (auto& p : v) {
    p = next();
  }
  return forgetful_median<14>(v, next);
}

/// The upper median of n pixels, at least three. scratch: n/2 + 2 packs.
template <class T, int L, class Pixel>
PAVISE_INLINE Pack<T, L> median_in_memory(std::int64_t n, const Pixel& pixel, T* scratch) {
  std::int64_t held = n % 2 == 0 ? n / 2 + 1 : n / 2 + 2;
  std::int64_t next = 0;
  for (; next < held; ++next) {
    pixel(next).store(scratch + next * L);
  }
  if (n % 2 == 0) {  // the smallest of n/2 + 1 lies below the upper median; of the others that is the median
    extremes_to_ends<T, L>(scratch, held);
    pixel(next++).store(scratch);
  }
  while (held > 1) {
    extremes_to_ends<T, L>(scratch, held);
    // The ends go; the last of the others takes the first one's place, and the next pixel the last one's.
    if (next < n) {
      pixel(next++).store(scratch);
      --held;
    } else {
      Pack<T, L>::load(scratch + (held - 2) * L).store(scratch);
      held -= 2;
    }
  }
  return Pack<T, L>::load(scratch);
}

/// One row of medians of 3x3.
template <class T, int L>
PAVISE_LANES void median_row_of_nine(const T* in, T* out, const Windows& w, std::int64_t i) {
  SortedColumn<T, L> a = sorted_column<T, L>(in, w, i, 0);
  SortedColumn<T, L> b = sorted_column<T, L>(in, w, i, 1);
  for (std::int64_t j = 0; j < w.width; ++j) {
    const SortedColumn<T, L> c = sorted_column<T, L>(in, w, i, j + 2);
    median_of_nine(a, b, c).store(out + (i * w.width + j) * L);
    a = b;
    b = c;
  }
}

template <class T, int L>
PAVISE_LANES void median_lanes(const T* in, T* out, const Windows& w, T* scratch) {
  using P = Pack<T, L>;
  const std::int64_t n = w.rows * w.columns;
  for (std::int64_t i = 0; i < w.height; ++i) {
    if (w.rows == 3 && w.columns == 3) {
      median_row_of_nine<T, L>(in, out, w, i);
      continue;
    }
    for (std::int64_t j = 0; j < w.width; ++j) {
      const auto at = [&](std::int64_t r, std::int64_t c) __attribute__((always_inline)) {
        return P::load(in + (w.y[i + r] * w.width + w.x[j + c]) * L);
      };
      const auto pixel = [&](std::int64_t k) __attribute__((always_inline)) {
        return at(k / w.columns, k % w.columns);
      };
      T* to = out + (i * w.width + j) * L;
      if (w.rows == 2 && w.columns == 2) {
        upper_median_of_four(at(0, 0), at(0, 1), at(1, 0), at(1, 1)).store(to);
      } else if (w.rows == 5 && w.columns == 5) {
        median_of_25<T, L>(at).store(to);
      } else if (n <= 2) {
        max(pixel(0), pixel(n - 1)).store(to);
      } else {
        median_in_memory<T, L>(n, pixel, scratch).store(to);
      }
    }
  }
}

/// The median of each window of one channel, the upper one of an even number of values. in, out: (height,width)[lanes];
/// scratch: rows * columns / 2 + 2 packs.
template <class T>
void median_filter(Tag, const T* in, T* out, const Windows& w, T* scratch, int lanes) {
  lanes == 16 ? median_lanes<T, 16>(in, out, w, scratch) : median_lanes<T, 1>(in, out, w, scratch);
}

/// What each pixel of window (i, j) that has the value y gets: dy over their number.
template <class T, int L>
PAVISE_INLINE Pack<T, L> median_share(const T* in, const T* y, const T* dy, const Windows& w, std::int64_t i,
                                      std::int64_t j) {
  using P = Pack<T, L>;
  const P one = P::broadcast(T{1});
  const P zero = P::broadcast(T{0});
  const std::int64_t here = (i * w.width + j) * L;
  P count = zero;
  for (std::int64_t r = 0; r < w.rows; ++r) {
    for (std::int64_t c = 0; c < w.columns; ++c) {
      const P p = P::load(in + (w.y[i + r] * w.width + w.x[j + c]) * L);
      count = count + select(equal(p, P::load(y + here)), one, zero);
    }
  }
  return P::load(dy + here) / max(count, one);
}

/// dx + share where the pixel has the value y.
template <class T, int L>
PAVISE_INLINE Pack<T, L> add_median_share(Pack<T, L> dx, Pack<T, L> pixel, Pack<T, L> y, Pack<T, L> share) {
  return dx + select(equal(pixel, y), share, Pack<T, L>::broadcast(T{0}));
}

template <class T, int L>
PAVISE_LANES void median_backward_lanes(const T* in, const T* y, const T* dy, T* dx, const Windows& w) {
  using P = Pack<T, L>;
  for (std::int64_t i = 0; i < w.height; ++i) {
    for (std::int64_t j = 0; j < w.width; ++j) {
      const P share = median_share<T, L>(in, y, dy, w, i, j);
      const P value = P::load(y + (i * w.width + j) * L);
      for (std::int64_t r = 0; r < w.rows; ++r) {
        for (std::int64_t c = 0; c < w.columns; ++c) {
          const std::int64_t at = (w.y[i + r] * w.width + w.x[j + c]) * L;
          add_median_share(P::load(dx + at), P::load(in + at), value, share).store(dx + at);
        }
      }
    }
  }
}

/// dx += dy in equal shares for the pixels of the window that have the value y, the window's median.
template <class T>
void median_backward(Tag, const T* in, const T* y, const T* dy, T* dx, const Windows& w, int lanes) {
  lanes == 16 ? median_backward_lanes<T, 16>(in, y, dy, dx, w) : median_backward_lanes<T, 1>(in, y, dy, dx, w);
}
