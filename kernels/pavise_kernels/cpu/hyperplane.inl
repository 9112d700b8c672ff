// SPDX-License-Identifier: MIT
// The closest point of a hyperplane within the pixel box, lane by lane: what FAB (Croce and Hein 2020) solves twice a
// step. Arrays are [n][lanes]; the order of each lane's sums is that of the elements. No sort: in Linf and L2 Newton's
// method on a concave, piecewise linear function is exact after finitely many passes (a handful in practice), in L1 a
// bisection over the slopes that jumps to slopes that occur. Oracle, by sorting, in double:
// tests/attack/hyperplane_test.cpp.

/// The problem as seen from one element: it gains `slope` >= 0 for each unit it moves, and may move by `room` >= 0.
template <class T, int L>
struct HyperplaneElements {
  using P = Pack<T, L>;
  const T* x;
  const T* w;
  P way;    // +1 or -1: whether w.x has to grow
  P scale;  // slopes relative to the largest: those of saturated networks would underflow when squared
  P low, high;

  PAVISE_INLINE P slope(std::int64_t i) const { return abs(P::load(w + i)) * scale; }
  PAVISE_INLINE P side(std::int64_t i) const { return sign(P::load(w + i)) * way; }
  PAVISE_INLINE P room(std::int64_t i) const {
    const P zero = P::broadcast(T{0});
    const P v = P::load(x + i);
    const P s = side(i);
    return max(select(s > zero, high - v, select(zero > s, v - low, zero)), zero);
  }
};

/// The largest move m such that element e moves by min(m, room) in Linf, by min(m slope, room) in L2; infinite where
/// even the corner of the box falls short of `wanted`. Starts at 0 from below; each pass solves the problem as if no
/// further element met its wall.
template <class T, int L>
PAVISE_LANES Pack<T, L> hyperplane_multiplier(const HyperplaneElements<T, L>& e, std::int64_t n, Pack<T, L> wanted,
                                              int norm) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P one = P::broadcast(T{1});
  P multiplier = zero;
  for (;;) {
    P at_wall = zero;
    P growth = zero;
    for (std::int64_t i = 0; i < n * L; i += L) {
      const P a = e.slope(i);
      const P room = e.room(i);
      const P unit = norm == 2 ? a : one;  // what it moves for a multiplier of 1
      const auto free = room > unit * multiplier;
      growth = fma(select(free, a, zero), unit, growth);
      at_wall = fma(select(free, zero, a), room, at_wall);
    }
    const P next = (wanted - at_wall) / growth;
    const auto grows = next > multiplier;
    if (!any_lane(grows)) {
      return multiplier;
    }
    multiplier = select(grows, next, multiplier);
  }
}

/// The steepest elements move to their walls, the last of them in part: the slope at which that happens. 0 where even
/// the corner falls short.
template <class T, int L>
PAVISE_LANES Pack<T, L> hyperplane_threshold(const HyperplaneElements<T, L>& e, std::int64_t n, Pack<T, L> wanted) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P infinite = P::broadcast(std::numeric_limits<T>::infinity());
  // The elements from `below` on reach what is wanted, those from `above` on do not.
  P below = zero;
  P above = P::broadcast(T{2});
  P open = select(wanted > zero, P::broadcast(T{1}), zero);
  below = select(open > zero, below, infinite);
  while (any_lane(open > zero)) {
    const P middle = (below + above) * P::broadcast(T(0.5));
    P sum = zero;
    P next = infinite;  // the smallest slope from `middle` on, the largest under it
    P previous = zero;
    for (std::int64_t i = 0; i < n * L; i += L) {
      const P a = e.slope(i);
      const auto under = middle > a;
      sum = fma(select(under, zero, a), e.room(i), sum);
      next = min(select(under, infinite, a), next);
      previous = max(select(under, a, zero), previous);
    }
    const auto falls_short = wanted > sum;
    const P was = below;
    const P still = select(middle > was, open, zero);  // else no number lies between
    below = select(still > zero, select(falls_short, was, next), was);
    above = select(still > zero, select(falls_short, middle, above), above);
    open = select(falls_short, select(previous > was, still, zero), still);
  }
  return below;
}

template <class T, int L>
PAVISE_LANES void hyperplane_move_lanes(T* d, const T* x, const T* w, std::int64_t n, const T* gain, int norm, T low,
                                        T high) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P one = P::broadcast(T{1});
  P largest = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    largest = max(abs(P::load(w + i)), largest);
  }
  const P c = P::load(gain);
  // Without a direction (all zero, or too small to divide by) the image stays.
  const auto moves = largest > P::broadcast(std::numeric_limits<T>::min() * T{4});
  const P scale = one / select(moves, largest, one);
  const P wanted = select(moves, abs(c) * scale, zero);
  const HyperplaneElements<T, L> e{x, w, sign(c), scale, P::broadcast(low), P::broadcast(high)};
  if (norm != 1) {
    const P multiplier = hyperplane_multiplier<T, L>(e, n, wanted, norm);
    for (std::int64_t i = 0; i < n * L; i += L) {
      const P m = norm == 2 ? e.slope(i) * multiplier : multiplier;
      (min(m, e.room(i)) * e.side(i)).store(d + i);
    }
    return;
  }
  const P threshold = hyperplane_threshold<T, L>(e, n, wanted);
  P steeper = zero;
  P equals = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P a = e.slope(i);
    const P room = e.room(i);
    steeper = fma(select(a > threshold, a, zero), room, steeper);
    equals = fma(select(equal(a, threshold), a, zero), room, equals);
  }
  const P share = min(max((wanted - steeper) / equals, zero), one);  // equals share what is left
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P a = e.slope(i);
    const P used = select(a > threshold, one, select(equal(a, threshold), share, zero));
    (used * e.room(i) * e.side(i)).store(d + i);
  }
}

/// d = the shortest move (norm 0 is Linf, 1 is L1, 2 is L2) with w.d = gain[lane] and low <= x + d <= high; where the
/// box has none, the move to its corner that comes closest; 0 where w is 0.
template <class T>
void hyperplane_move(Tag, T* d, const T* x, const T* w, std::int64_t n, int lanes, const T* gain, int norm, T low,
                     T high) {
  lanes == 16 ? hyperplane_move_lanes<T, 16>(d, x, w, n, gain, norm, low, high)
              : hyperplane_move_lanes<T, 1>(d, x, w, n, gain, norm, low, high);
}

template <class T, int L>
PAVISE_LANES void lane_blend_lanes(T* out, std::int64_t n, const T* const* terms, const T* factors, std::int64_t stride,
                                   int count, T low, T high) {
  using P = Pack<T, L>;
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  for (std::int64_t i = 0; i < n * L; i += L) {
    P v = P::load(terms[0] + i) * P::load(factors);
    for (int t = 1; t < count; ++t) {
      v = fma(P::load(terms[t] + i), P::load(factors + t * stride), v);
    }
    min(max(v, lo), hi).store(out + i);
  }
}

/// out = sum_t factor[t][lane] term_t, clipped to the box; factors is [count][16]. out may be one of the terms.
template <class T>
void lane_blend(Tag, T* out, std::int64_t n, int lanes, const T* const* terms, const T* factors, int count, T low,
                T high) {
  lanes == 16 ? lane_blend_lanes<T, 16>(out, n, terms, factors, 16, count, low, high)
              : lane_blend_lanes<T, 1>(out, n, terms, factors, 16, count, low, high);
}
