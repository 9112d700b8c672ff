// SPDX-License-Identifier: MIT
// Steps of Auto-PGD, whose images each have a step size, a radius and a sparsity of their own: scalars come one for each
// lane. Arrays are [n][lanes]. Builds on attack_step.inl. Oracle: tests/attack/apgd_test.cpp.

/// A step of length eta along a gradient whose elements times `inverse` have the sum of squares `sum`.
template <class T, int L>
struct ApgdAscent {
  Pack<T, L> inverse, sum, length;
  PAVISE_INLINE ApgdAscent(Pack<T, L> scale, Pack<T, L> squares, Pack<T, L> eta)
      : inverse(scale), sum(squares), length(eta / sqrt(squares)) {}
  /// Without a direction (all zero) only the momentum moves the image.
  PAVISE_INLINE Pack<T, L> operator()(Pack<T, L> at, Pack<T, L> g) const {
    const auto moves = Pack<T, L>::broadcast(std::numeric_limits<T>::infinity()) > sum;
    return select(moves, fma(g * inverse, length, at), at);
  }
};
/// Between the projected point z and the momentum; not yet projected.
template <class T, int L>
PAVISE_INLINE Pack<T, L> apgd_mixed(Pack<T, L> at, Pack<T, L> previous, Pack<T, L> z, Pack<T, L> weight) {
  return fma(at - previous, Pack<T, L>::broadcast(T{1}) - weight, fma(z - at, weight, at));
}

template <class T, int L>
PAVISE_LANES void apgd_linf_lanes(T* x, T* previous, const T* gradient, const T* center, std::int64_t n, Pack<T, L> eta,
                                  Pack<T, L> weight, T epsilon, T low, T high) {
  using P = Pack<T, L>;
  const P eps = P::broadcast(epsilon);
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P c = P::load(center + i);
    const P at = P::load(x + i);
    const P lower = max(c - eps, lo);
    const P upper = min(c + eps, hi);
    const P z = min(max(fma(sign(P::load(gradient + i)), eta, at), lower), upper);
    const P v = apgd_mixed(at, P::load(previous + i), z, weight);
    at.store(previous + i);
    min(max(v, lower), upper).store(x + i);
  }
}

template <class T, int L>
inline void apgd_l2_lanes(T* x, T* previous, const T* gradient, const T* center, std::int64_t n, Pack<T, L> eta,
                          Pack<T, L> weight, T epsilon, T low, T high) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P one = P::broadcast(T{1});
  // Relative to its largest element a gradient of any size has a norm: saturated networks have very small ones.
  P largest = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    largest = max(abs(P::load(gradient + i)), largest);
  }
  const P inverse = one / largest;
  P sum = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    sum = l2_add_square(P::load(gradient + i), inverse, sum);
  }
  const ApgdAscent<T, L> ascend(inverse, sum, eta);
  P distance = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    distance = l2_add_square(ascend(P::load(x + i), P::load(gradient + i)) - P::load(center + i), one, distance);
  }
  const P factor = l2_factor(distance, epsilon);
  distance = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P c = P::load(center + i);
    const P at = P::load(x + i);
    const P z = l2_clipped(ascend(at, P::load(gradient + i)), c, factor, low, high);
    const P v = apgd_mixed(at, P::load(previous + i), z, weight);
    distance = l2_add_square(v - c, one, distance);
    at.store(previous + i);
    v.store(x + i);
  }
  const P again = l2_factor(distance, epsilon);
  for (std::int64_t i = 0; i < n * L; i += L) {
    l2_clipped(P::load(x + i), P::load(center + i), again, low, high).store(x + i);
  }
}

/// One step of Auto-PGD (Croce and Hein 2020, algorithm 1, lines 7 and 8) with P the projection on the ball around
/// center and then the box, and s(g) = sign(g) for norm 0 (Linf), g / ||g||_2 for norm 2:
///   z = P(x + eta s(gradient));  x' = P(x + weight (z - x) + (1 - weight) (x - previous));  previous = x;  x = x'
/// eta (negative: descends) and weight are one for each lane.
template <class T>
void apgd_step(Tag, T* x, T* previous, const T* gradient, const T* center, std::int64_t n, int lanes, int norm,
               const T* eta, const T* weight, T epsilon, T low, T high) {
  using P = Pack<T, 16>;
  using S = Pack<T, 1>;
  if (norm != 0) {
    lanes == 16
        ? apgd_l2_lanes<T, 16>(x, previous, gradient, center, n, P::load(eta), P::load(weight), epsilon, low, high)
        : apgd_l2_lanes<T, 1>(x, previous, gradient, center, n, S::load(eta), S::load(weight), epsilon, low, high);
  } else if (lanes == 16) {
    apgd_linf_lanes<T, 16>(x, previous, gradient, center, n, P::load(eta), P::load(weight), epsilon, low, high);
  } else if (n % 16 == 0) {  // element-wise: sixteen pixels of one image fill the vector as well
    apgd_linf_lanes<T, 16>(x, previous, gradient, center, n / 16, P::broadcast(*eta), P::broadcast(*weight), epsilon,
                           low, high);
  } else {
    apgd_linf_lanes<T, 1>(x, previous, gradient, center, n, S::load(eta), S::load(weight), epsilon, low, high);
  }
}

/// The largest number that at least `count` of a lane's |g| reach. Magnitudes order as their bits do, so that bisection
/// of the bits is exact; lanes at their answer stay there.
template <class T, int L>
PAVISE_LANES Pack<T, L> top_magnitude(const T* g, std::int64_t n, Pack<T, L> count) {
  using P = Pack<T, L>;
  using I = IntegerOf<T>;
  using M = Mask<T, L>;
  const P zero = P::broadcast(T{0});
  const P one = P::broadcast(T{1});
  P largest = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    largest = max(abs(P::load(g + i)), largest);
  }
  M below = M::broadcast(I{0});
  M above = bits<I>(largest) + M::broadcast(I{1});
  for (int round = 0; round < 8 * static_cast<int>(sizeof(T)); ++round) {
    if (all_set(equal(above, below + M::broadcast(I{1})))) {
      break;
    }
    const M middle = below + ((above - below) >> 1);
    const P threshold = bits<T>(middle);
    P reached = zero;
    for (std::int64_t i = 0; i < n * L; i += L) {
      reached = reached + select(abs(P::load(g + i)) < threshold, zero, one);
    }
    const auto enough = (count > reached) ^ M::broadcast(I{-1});
    const auto exact = equal(count, reached);
    below = select(enough, middle, below);
    above = select(exact, middle + M::broadcast(I{1}), select(enough, above, middle));
  }
  return bits<T>(below);
}

template <class T, int L>
PAVISE_LANES void apgd_l1_lanes(T* x, const T* gradient, const T* center, std::int64_t n, Pack<T, L> count,
                                Pack<T, L> eta, Pack<T, L> radius, T low, T high) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P one = P::broadcast(T{1});
  const P threshold = top_magnitude<T, L>(gradient, n, count);
  P chosen = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P g = P::load(gradient + i);
    chosen = chosen + select(abs(g) < threshold, zero, abs(sign(g)));
  }
  const P move = eta / max(chosen, one);
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P g = P::load(gradient + i);
    fma(select(abs(g) < threshold, zero, sign(g)), move, P::load(x + i)).store(x + i);
  }
  l1_project_lanes<T, L>(x, center, n, radius, low, high);
}

/// One step of L1-APGD (Croce and Hein 2021): the `count` coordinates with the largest gradients (all of equal ones)
/// share a step of L1 norm eta, then x is projected on the ball of that radius and the box together. count, eta and
/// radius are one for each lane.
template <class T>
void apgd_l1_step(Tag, T* x, const T* gradient, const T* center, std::int64_t n, int lanes, const T* count,
                  const T* eta, const T* radius, T low, T high) {
  using P = Pack<T, 16>;
  using S = Pack<T, 1>;
  lanes == 16 ? apgd_l1_lanes<T, 16>(x, gradient, center, n, P::load(count), P::load(eta), P::load(radius), low, high)
              : apgd_l1_lanes<T, 1>(x, gradient, center, n, S::load(count), S::load(eta), S::load(radius), low, high);
}

/// x <- the nearest point of the L1 ball of radius[lane] around center and the box together.
template <class T>
void lane_l1_project(Tag, T* x, const T* center, std::int64_t n, int lanes, const T* radius, T low, T high) {
  lanes == 16 ? l1_project_lanes<T, 16>(x, center, n, Pack<T, 16>::load(radius), low, high)
              : l1_project_lanes<T, 1>(x, center, n, Pack<T, 1>::load(radius), low, high);
}

template <class T, int L>
PAVISE_LANES void lane_moved_lanes(const T* x, const T* center, std::int64_t n, T* out) {
  using P = Pack<T, L>;
  P count = P::broadcast(T{0});
  for (std::int64_t i = 0; i < n * L; i += L) {
    const auto same = equal(P::load(x + i), P::load(center + i));
    count = count + select(same, P::broadcast(T{0}), P::broadcast(T{1}));
  }
  count.store(out);
}

/// out[lane] = how many coordinates of x differ from center's.
template <class T>
void lane_moved(Tag, const T* x, const T* center, std::int64_t n, int lanes, T* out) {
  lanes == 16 ? lane_moved_lanes<T, 16>(x, center, n, out) : lane_moved_lanes<T, 1>(x, center, n, out);
}
