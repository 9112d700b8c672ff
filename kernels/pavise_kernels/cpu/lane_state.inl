// SPDX-License-Identifier: MIT
// Vector arithmetic of attacks whose lanes are each at a step of their own: scalars come one for each lane. Arrays are
// [n][lanes]; the order of each lane's sums is that of the elements. Oracle: tests/attack/lane_state_test.cpp.

template <class T, int L>
PAVISE_LANES void lane_combine_lanes(T* out, std::int64_t n, const T* a, const T* sa, const T* b, const T* sb,
                                     const T* c, const T* sc) {
  using P = Pack<T, L>;
  const P ka = P::load(sa);
  const P kb = P::load(sb);
  const P kc = c != nullptr ? P::load(sc) : ka;
  for (std::int64_t i = 0; i < n * L; i += L) {
    P v = fma(P::load(b + i), kb, P::load(a + i) * ka);
    if (c != nullptr) {
      v = fma(P::load(c + i), kc, v);
    }
    v.store(out + i);
  }
}

/// out = sa a + sb b (+ sc c), where the factors are one for each lane; c may be null. out may be one of the others.
template <class T>
void lane_combine(Tag, T* out, std::int64_t n, int lanes, const T* a, const T* sa, const T* b, const T* sb, const T* c,
                  const T* sc) {
  lanes == 16 ? lane_combine_lanes<T, 16>(out, n, a, sa, b, sb, c, sc)
              : lane_combine_lanes<T, 1>(out, n, a, sa, b, sb, c, sc);
}

template <class T, int L>
PAVISE_LANES void lane_select_lanes(T* out, const T* in, std::int64_t n, const T* chosen) {
  using P = Pack<T, L>;
  const auto take = P::load(chosen) > P::broadcast(T{0});
  for (std::int64_t i = 0; i < n * L; i += L) {
    select(take, P::load(in + i), P::load(out + i)).store(out + i);
  }
}

/// out = in in the lanes whose `chosen` is positive; the others keep what they hold.
template <class T>
void lane_select(Tag, T* out, const T* in, std::int64_t n, int lanes, const T* chosen) {
  lanes == 16 ? lane_select_lanes<T, 16>(out, in, n, chosen) : lane_select_lanes<T, 1>(out, in, n, chosen);
}

template <class T, int L>
PAVISE_LANES void lane_finite_lanes(T* out, const T* in, std::int64_t n) {
  const auto infinity = Pack<T, L>::broadcast(std::numeric_limits<T>::infinity());
  const auto zero = Pack<T, L>::broadcast(T{0});
  for (std::int64_t i = 0; i < n * L; i += L) {
    const auto v = Pack<T, L>::load(in + i);
    select(abs(v) < infinity, v, zero).store(out + i);
  }
}

/// out = in, with 0 for what is not a finite number. out may be in.
template <class T>
void lane_finite(Tag, T* out, const T* in, std::int64_t n, int lanes) {
  lanes == 16 ? lane_finite_lanes<T, 16>(out, in, n) : lane_finite_lanes<T, 1>(out, in, n);
}

template <class T, int L>
PAVISE_LANES void lane_dot_lanes(const T* a, const T* b, std::int64_t n, T* out) {
  using P = Pack<T, L>;
  P sum = P::broadcast(T{0});
  for (std::int64_t i = 0; i < n * L; i += L) {
    sum = fma(P::load(a + i), P::load(b + i), sum);
  }
  sum.store(out);
}

/// out[lane] = sum_i a_i b_i.
template <class T>
void lane_dot(Tag, const T* a, const T* b, std::int64_t n, int lanes, T* out) {
  lanes == 16 ? lane_dot_lanes<T, 16>(a, b, n, out) : lane_dot_lanes<T, 1>(a, b, n, out);
}

template <class T, int L>
PAVISE_LANES void lane_norm_lanes(const T* a, std::int64_t n, int norm, T* out) {
  using P = Pack<T, L>;
  P sum = P::broadcast(T{0});
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P v = abs(P::load(a + i));
    sum = norm == 0 ? max(v, sum) : norm == 1 ? sum + v : fma(v, v, sum);
  }
  (norm == 2 ? sqrt(sum) : sum).store(out);
}

/// out[lane] = the norm of a: 0 is Linf, 1 is L1, 2 is L2.
template <class T>
void lane_norm(Tag, const T* a, std::int64_t n, int lanes, int norm, T* out) {
  lanes == 16 ? lane_norm_lanes<T, 16>(a, n, norm, out) : lane_norm_lanes<T, 1>(a, n, norm, out);
}

/// g / ||g||, where g times `inverse` has the norm 1 / scale and the sum (of squares, or of sizes) `sum`; 0 without a
/// direction (all zero, infinite, NaN).
template <class T, int L>
PAVISE_INLINE Pack<T, L> lane_normalised(Pack<T, L> g, Pack<T, L> inverse, Pack<T, L> scale, Pack<T, L> sum) {
  const auto moves = Pack<T, L>::broadcast(std::numeric_limits<T>::infinity()) > sum;
  return select(moves, g * inverse * scale, Pack<T, L>::broadcast(T{0}));
}

template <class T, int L>
PAVISE_LANES void lane_direction_lanes(T* d, const T* g, std::int64_t n, int norm) {
  using P = Pack<T, L>;
  if (norm == 0) {
    for (std::int64_t i = 0; i < n * L; i += L) {
      sign(P::load(g + i)).store(d + i);
    }
    return;
  }
  // Relative to its largest element a gradient of any size has a norm: saturated networks have very small ones.
  const P zero = P::broadcast(T{0});
  P largest = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    largest = max(abs(P::load(g + i)), largest);
  }
  const P inverse = P::broadcast(T{1}) / largest;
  P sum = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P v = P::load(g + i) * inverse;
    sum = norm == 1 ? sum + abs(v) : fma(v, v, sum);
  }
  const P scale = P::broadcast(T{1}) / (norm == 1 ? sum : sqrt(sum));
  for (std::int64_t i = 0; i < n * L; i += L) {
    lane_normalised(P::load(g + i), inverse, scale, sum).store(d + i);
  }
}

/// d = sign(g) for norm 0, g / ||g||_1 for norm 1, g / ||g||_2 for norm 2; 0 where g has no direction. d may be g.
template <class T>
void lane_direction(Tag, T* d, const T* g, std::int64_t n, int lanes, int norm) {
  lanes == 16 ? lane_direction_lanes<T, 16>(d, g, n, norm) : lane_direction_lanes<T, 1>(d, g, n, norm);
}

template <class T, int L>
PAVISE_LANES void lane_project_lanes(T* x, const T* center, std::int64_t n, int norm, const T* radius, T low, T high) {
  using P = Pack<T, L>;
  const P eps = P::load(radius);
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  if (norm == 0) {
    for (std::int64_t i = 0; i < n * L; i += L) {
      const P c = P::load(center + i);
      min(max(P::load(x + i), max(c - eps, lo)), min(c + eps, hi)).store(x + i);
    }
    return;
  }
  P sum = P::broadcast(T{0});
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P d = P::load(x + i) - P::load(center + i);
    sum = fma(d, d, sum);
  }
  const P length = sqrt(sum);
  const P factor = select(length > eps, eps / length, P::broadcast(T{1}));
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P c = P::load(center + i);
    min(max(fma(P::load(x + i) - c, factor, c), lo), hi).store(x + i);
  }
}

/// Shrinks x to the ball of radius[lane] around center (norm 0 is Linf, 2 is L2), then clips to the box.
template <class T>
void lane_project(Tag, T* x, const T* center, std::int64_t n, int lanes, int norm, const T* radius, T low, T high) {
  lanes == 16 ? lane_project_lanes<T, 16>(x, center, n, norm, radius, low, high)
              : lane_project_lanes<T, 1>(x, center, n, norm, radius, low, high);
}
