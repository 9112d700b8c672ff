// SPDX-License-Identifier: MIT
// Median of windows, lane by lane: exchanges of a smaller and a larger pack, without a branch. 3x3 sorts each column
// once for the three windows that share it; others forget the smallest and the largest of the values that they hold and
// take in another until the median is left, of n values it is enough to hold n/2 + 2: in registers for 5x5, in memory
// for what is larger. Oracle: sorting, in tests/filter/median_test.cpp.

/// a and b become the smaller and the larger of the two.
template <class T, int L>
[[gnu::always_inline]] inline void sort_two(Pack<T, L>& a, Pack<T, L>& b) {
  const auto low = min(a, b);
  b = max(a, b);
  a = low;
}

/// Of the n values in v: the smallest goes to v[0], the largest to v[n-1]. Pairs first, so that halves are left to
/// search.
template <class T, int L>
[[gnu::always_inline]] inline void extremes_to_ends(T* v, std::int64_t n) {
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
[[gnu::always_inline]] inline void extremes_to_ends(P* v) {
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
[[gnu::always_inline]] inline P forgetful_median(P* v, const Next& next) {
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
[[gnu::always_inline]] inline P median_of_three(P a, P b, P c) {
  sort_two(a, b);
  return max(a, min(b, c));
}

/// The second largest of four.
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> upper_median_of_four(Pack<T, L> a, Pack<T, L> b, Pack<T, L> c, Pack<T, L> d) {
  sort_two(a, b);
  sort_two(c, d);
  return max(max(a, c), min(b, d));
}

/// One row of medians of 3x3.
template <class T, int L>
inline void median_row_of_nine(const T* in, T* out, const Windows& w, std::int64_t i) {
  using P = Pack<T, L>;
  struct Column {
    P low, middle, high;
  };
  const auto column = [&](std::int64_t j) __attribute__((always_inline)) {
    const auto at = [&](std::int64_t r) __attribute__((always_inline)) {
      return P::load(in + (w.y[i + r] * w.width + w.x[j]) * L);
    };
    Column c{at(0), at(1), at(2)};
    sort_two(c.low, c.middle);
    sort_two(c.middle, c.high);
    sort_two(c.low, c.middle);
    return c;
  };
  Column a = column(0);
  Column b = column(1);
  for (std::int64_t j = 0; j < w.width; ++j) {
    const Column c = column(j + 2);
    median_of_three(max(max(a.low, b.low), c.low), median_of_three(a.middle, b.middle, c.middle),
                    min(min(a.high, b.high), c.high))
        .store(out + (i * w.width + j) * L);
    a = b;
    b = c;
  }
}

template <class T, int L>
inline void median_lanes(const T* in, T* out, const Windows& w, T* scratch) {
  using P = Pack<T, L>;
  const std::int64_t n = w.rows * w.columns;
  for (std::int64_t i = 0; i < w.height; ++i) {
    if (w.rows == 3 && w.columns == 3) {
      median_row_of_nine<T, L>(in, out, w, i);
      continue;
    }
    for (std::int64_t j = 0; j < w.width; ++j) {
      const auto pixel = [&](std::int64_t k) __attribute__((always_inline)) {
        return P::load(in + (w.y[i + k / w.columns] * w.width + w.x[j + k % w.columns]) * L);
      };
      const auto at = [&](std::int64_t r, std::int64_t c) __attribute__((always_inline)) {
        return P::load(in + (w.y[i + r] * w.width + w.x[j + c]) * L);
      };
      T* to = out + (i * w.width + j) * L;
      if (w.rows == 2 && w.columns == 2) {
        upper_median_of_four(at(0, 0), at(0, 1), at(1, 0), at(1, 1)).store(to);
      } else if (w.rows == 5 && w.columns == 5) {
        P v[14];
        std::int64_t k = 0;
        const auto next = [&]() __attribute__((always_inline)) {
          const P p = at(k / 5, k % 5);
          ++k;
          return p;
        };
#pragma GCC unroll 14
        for (auto& p : v) {
          p = next();
        }
        forgetful_median<14>(v, next).store(to);
      } else if (n <= 2) {
        max(pixel(0), pixel(n - 1)).store(to);
      } else {
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
            P::load(scratch + (held - 2) * L).store(scratch);
            held -= 2;
          }
        }
        P::load(scratch).store(to);
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

template <class T, int L>
inline void median_backward_lanes(const T* in, const T* y, const T* dy, T* dx, const Windows& w) {
  using P = Pack<T, L>;
  const P one = P::broadcast(T{1});
  const P zero = P::broadcast(T{0});
  for (std::int64_t i = 0; i < w.height; ++i) {
    for (std::int64_t j = 0; j < w.width; ++j) {
      const std::int64_t here = (i * w.width + j) * L;
      const auto each = [&](const auto& body) __attribute__((always_inline)) {
        for (std::int64_t r = 0; r < w.rows; ++r) {
          for (std::int64_t c = 0; c < w.columns; ++c) {
            const std::int64_t at = (w.y[i + r] * w.width + w.x[j + c]) * L;
            body(at, equal(P::load(in + at), P::load(y + here)));
          }
        }
      };
      P count = zero;
      each([&](std::int64_t, auto same) __attribute__((always_inline)) { count = count + select(same, one, zero); });
      const P share = P::load(dy + here) / max(count, one);
      each([&](std::int64_t at, auto same)
               __attribute__((always_inline)) { (P::load(dx + at) + select(same, share, zero)).store(dx + at); });
    }
  }
}

/// dx += dy in equal shares for the pixels of the window that have the value y, the window's median.
template <class T>
void median_backward(Tag, const T* in, const T* y, const T* dy, T* dx, const Windows& w, int lanes) {
  lanes == 16 ? median_backward_lanes<T, 16>(in, y, dy, dx, w) : median_backward_lanes<T, 1>(in, y, dy, dx, w);
}
