// SPDX-License-Identifier: MIT
// Median of windows, lane by lane: exchanges of a smaller and a larger pack, without a branch. Windows of up to 3x3 are
// a fixed network of exchanges in registers; larger ones forget the smallest and the largest of the values that they
// hold, and take in another, until the median is left: of n values it is enough to hold n/2 + 2. Oracle: sorting, in
// tests/filter/median_test.cpp.

/// a and b become the smaller and the larger of the two.
template <class T, int L>
[[gnu::always_inline]] inline void sort_two(Pack<T, L>& a, Pack<T, L>& b) {
  const auto low = min(a, b);
  b = max(a, b);
  a = low;
}

/// Of the n values in v: the smallest goes to v[0], the largest to v[n-1].
template <class T, int L>
[[gnu::always_inline]] inline void extremes_to_ends(T* v, std::int64_t n) {
  using P = Pack<T, L>;
  P low = P::load(v);
  P high = P::load(v + (n - 1) * L);
  sort_two(low, high);
  for (std::int64_t i = 1; i + 1 < n; ++i) {
    P p = P::load(v + i * L);
    sort_two(low, p);
    sort_two(p, high);
    p.store(v + i * L);
  }
  low.store(v);
  high.store(v + (n - 1) * L);
}

/// Median of nine (19 exchanges; Smith 1996, "Implementing median filters in XC4000E FPGAs").
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> median_of_nine(Pack<T, L> (&p)[9]) {
  constexpr int kExchanges[19][2] = {{1, 2}, {4, 5}, {7, 8}, {0, 1}, {3, 4}, {6, 7}, {1, 2}, {4, 5}, {7, 8}, {0, 3},
                                     {5, 8}, {4, 7}, {3, 6}, {1, 4}, {2, 5}, {4, 7}, {4, 2}, {6, 4}, {4, 2}};
#pragma GCC unroll 19
  for (const auto& e : kExchanges) {
    sort_two(p[e[0]], p[e[1]]);
  }
  return p[4];
}

/// The second largest of four.
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> upper_median_of_four(Pack<T, L> a, Pack<T, L> b, Pack<T, L> c, Pack<T, L> d) {
  sort_two(a, b);
  sort_two(c, d);
  return max(max(a, c), min(b, d));
}

template <class T, int L>
inline void median_lanes(const T* in, T* out, const Windows& w, T* scratch) {
  using P = Pack<T, L>;
  const std::int64_t n = w.rows * w.columns;
  for (std::int64_t i = 0; i < w.height; ++i) {
    for (std::int64_t j = 0; j < w.width; ++j) {
      const auto pixel = [&](std::int64_t k) __attribute__((always_inline)) {
        return P::load(in + (w.y[i + k / w.columns] * w.width + w.x[j + k % w.columns]) * L);
      };
      const auto at = [&](std::int64_t r, std::int64_t c) __attribute__((always_inline)) {
        return P::load(in + (w.y[i + r] * w.width + w.x[j + c]) * L);
      };
      T* to = out + (i * w.width + j) * L;
      if (w.rows == 3 && w.columns == 3) {
        P p[9] = {at(0, 0), at(0, 1), at(0, 2), at(1, 0), at(1, 1), at(1, 2), at(2, 0), at(2, 1), at(2, 2)};
        median_of_nine(p).store(to);
      } else if (w.rows == 2 && w.columns == 2) {
        upper_median_of_four(at(0, 0), at(0, 1), at(1, 0), at(1, 1)).store(to);
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
