// SPDX-License-Identifier: MIT
// Steps and projections of gradient attacks, lane by lane: every image has its own gradient norm and its own ball.
// Arrays are [n][lanes]; the order of each lane's sums is that of the elements. Oracle:
// tests/attack/projection_test.cpp.

template <class T, int L>
PAVISE_LANES void linf_step_lanes(T* x, const T* gradient, const T* center, std::int64_t n, T alpha, T epsilon, T low,
                                  T high) {
  using P = Pack<T, L>;
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  const P eps = P::broadcast(epsilon);
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P c = P::load(center + i);
    P v = P::load(x + i);
    if (gradient != nullptr) {
      v = fma(sign(P::load(gradient + i)), alpha, v);
    }
    v = min(max(v, max(c - eps, lo)), min(c + eps, hi));
    v.store(x + i);
  }
}

/// x <- clip(x + alpha sign(gradient)) to the ball and the box; without a gradient only the projection.
template <class T>
void linf_step(Tag, T* x, const T* gradient, const T* center, std::int64_t n, int lanes, T alpha, T epsilon, T low,
               T high) {
  // Element-wise: one image is as good as sixteen once its elements fill the vector.
  if (lanes == 16 || n % 16 == 0) {
    linf_step_lanes<T, 16>(x, gradient, center, n * lanes / 16, alpha, epsilon, low, high);
  } else {
    linf_step_lanes<T, 1>(x, gradient, center, n, alpha, epsilon, low, high);
  }
}

template <class T, int L>
PAVISE_LANES void linf_start_lanes(T* x, const T* center, std::int64_t n, T epsilon, T low, T high) {
  using P = Pack<T, L>;
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P u = P::load(x + i);
    const P v = fma((u + u) - P::broadcast(T{1}), epsilon, P::load(center + i));
    min(max(v, P::broadcast(low)), P::broadcast(high)).store(x + i);
  }
}

/// x <- center + epsilon * (2 u - 1), clipped to the box, where x holds u uniform in (0,1).
template <class T>
void linf_start(Tag, T* x, const T* center, std::int64_t n, int lanes, T epsilon, T low, T high) {
  lanes == 16 ? linf_start_lanes<T, 16>(x, center, n, epsilon, low, high)
              : linf_start_lanes<T, 1>(x, center, n, epsilon, low, high);
}

template <class T, int L>
PAVISE_LANES Pack<T, L> norm2(const T* a, std::int64_t n) {
  using P = Pack<T, L>;
  P sum = P::broadcast(T{0});
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P v = P::load(a + i);
    sum = fma(v, v, sum);
  }
  return sqrt(sum);
}

// The parts of a step in L2, element by element; whoever sums over elements does it in their order.

/// sum + (g * inverse)^2
template <class T, int L>
PAVISE_INLINE Pack<T, L> l2_add_square(Pack<T, L> g, Pack<T, L> inverse, Pack<T, L> sum) {
  const auto v = g * inverse;
  return fma(v, v, sum);
}
/// x moved by alpha along g, whose elements times `inverse` have this sum of squares. Without a direction (all zero,
/// infinite, NaN) the image stays.
template <class T, int L>
PAVISE_INLINE Pack<T, L> l2_moved(Pack<T, L> x, Pack<T, L> g, Pack<T, L> inverse, Pack<T, L> sum, T alpha) {
  const auto moves = Pack<T, L>::broadcast(std::numeric_limits<T>::infinity()) > sum;
  return select(moves, fma(g * inverse, Pack<T, L>::broadcast(alpha) / sqrt(sum), x), x);
}
/// By how much an image whose distance has this sum of squares shrinks towards the ball.
template <class T, int L>
PAVISE_INLINE Pack<T, L> l2_factor(Pack<T, L> sum, T epsilon) {
  const auto norm = sqrt(sum);
  const auto eps = Pack<T, L>::broadcast(epsilon);
  return select(norm > eps, eps / norm, Pack<T, L>::broadcast(T{1}));
}
template <class T, int L>
PAVISE_INLINE Pack<T, L> l2_clipped(Pack<T, L> x, Pack<T, L> c, Pack<T, L> factor, T low, T high) {
  using P = Pack<T, L>;
  return min(max(fma(x - c, factor, c), P::broadcast(low)), P::broadcast(high));
}

/// Shrinks x - center to the L2 ball, then clips to the box (which only shrinks it further).
template <class T, int L>
PAVISE_LANES void l2_project_lanes(T* x, const T* center, std::int64_t n, T epsilon, T low, T high) {
  using P = Pack<T, L>;
  const P one = P::broadcast(T{1});
  P sum = P::broadcast(T{0});
  for (std::int64_t i = 0; i < n * L; i += L) {
    sum = l2_add_square(P::load(x + i) - P::load(center + i), one, sum);
  }
  const P factor = l2_factor(sum, epsilon);
  for (std::int64_t i = 0; i < n * L; i += L) {
    l2_clipped(P::load(x + i), P::load(center + i), factor, low, high).store(x + i);
  }
}

template <class T, int L>
PAVISE_LANES void l2_step_lanes(T* x, const T* gradient, const T* center, std::int64_t n, T alpha, T epsilon, T low,
                                T high) {
  using P = Pack<T, L>;
  if (gradient != nullptr) {
    // Relative to its largest element a gradient of any size has a norm: saturated networks have very small ones.
    P largest = P::broadcast(T{0});
    for (std::int64_t i = 0; i < n * L; i += L) {
      largest = max(abs(P::load(gradient + i)), largest);
    }
    const P inverse = P::broadcast(T{1}) / largest;
    P sum = P::broadcast(T{0});
    for (std::int64_t i = 0; i < n * L; i += L) {
      sum = l2_add_square(P::load(gradient + i), inverse, sum);
    }
    for (std::int64_t i = 0; i < n * L; i += L) {
      l2_moved(P::load(x + i), P::load(gradient + i), inverse, sum, alpha).store(x + i);
    }
  }
  l2_project_lanes<T, L>(x, center, n, epsilon, low, high);
}

/// x <- clip(x + alpha gradient / ||gradient||_2) to the ball and the box; without a gradient only the projection.
template <class T>
void l2_step(Tag, T* x, const T* gradient, const T* center, std::int64_t n, int lanes, T alpha, T epsilon, T low,
             T high) {
  lanes == 16 ? l2_step_lanes<T, 16>(x, gradient, center, n, alpha, epsilon, low, high)
              : l2_step_lanes<T, 1>(x, gradient, center, n, alpha, epsilon, low, high);
}

template <class T, int L>
PAVISE_LANES void l2_start_lanes(T* x, const T* center, std::int64_t n, T epsilon, T low, T high) {
  using P = Pack<T, L>;
  const P scale = P::broadcast(epsilon) / norm2<T, L>(x, n + 2);
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P v = fma(P::load(x + i), scale, P::load(center + i));
    min(max(v, lo), hi).store(x + i);
  }
}

/// x <- a uniform point of the L2 ball around center, clipped to the box; x holds n + 2 standard normals a lane: the
/// first n coordinates of a uniform point on the sphere in n + 2 dimensions (Voelker et al. 2017).
template <class T>
void l2_start(Tag, T* x, const T* center, std::int64_t n, int lanes, T epsilon, T low, T high) {
  lanes == 16 ? l2_start_lanes<T, 16>(x, center, n, epsilon, low, high)
              : l2_start_lanes<T, 1>(x, center, n, epsilon, low, high);
}

/// By how much coordinate d, with that much room to the wall, moves under the threshold; 0 for NaN.
template <class T, int L>
PAVISE_INLINE Pack<T, L> l1_move(Pack<T, L> d, Pack<T, L> room, Pack<T, L> threshold) {
  return max(min(room, abs(d) - threshold), Pack<T, L>::broadcast(T{0}));
}

/// sum = the L1 norm of what the threshold leaves within the box, count = the coordinates of it that another threshold
/// would change. Summed in blocks, whose rounding adds up more slowly.
template <class T, int L>
PAVISE_LANES void l1_moves(const T* x, const T* center, std::int64_t n, Pack<T, L> threshold, T low, T high,
                           Pack<T, L>& sum, Pack<T, L>& count) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P one = P::broadcast(T{1});
  sum = zero;
  count = zero;
  for (std::int64_t block = 0; block < n * L; block += 16 * L) {
    P part = zero;
    for (std::int64_t i = block; i < std::min(n * L, block + 16 * L); i += L) {
      const P c = P::load(center + i);
      const P d = P::load(x + i) - c;
      const P room = select(d > zero, P::broadcast(high) - c, c - P::broadcast(low));
      const P move = l1_move(d, room, threshold);
      part = part + move;
      count = count + select(move > zero, select(room > move, one, zero), zero);
    }
    sum = sum + part;
  }
}

/// x <- the nearest point (in L2) of the L1 ball and the box together. With d = x - center and r_i the room to the wall
/// in the direction of d_i it is center + sign(d_i) min(r_i, max(|d_i| - t, 0)), where t >= 0 is the least threshold
/// that leaves no more than epsilon (Croce and Hein 2021, "Mind the box", proposition 2.1). That sum is piecewise linear
/// in t: Newton's method between bounds ends on the root's own piece, within a few units of the last place of epsilon.
template <class T, int L>
PAVISE_LANES void l1_project_lanes(T* x, const T* center, std::int64_t n, Pack<T, L> epsilon, T low, T high) {
  using P = Pack<T, L>;
  using M = Mask<T, L>;
  const P zero = P::broadcast(T{0});
  const M all = M::broadcast(-1);
  P sum, count;
  l1_moves<T, L>(x, center, n, zero, low, high, sum, count);
  const M outside = sum > epsilon;
  M done = outside ^ all;
  P threshold = zero;
  if (!all_set(done)) {
    P largest = zero;
    for (std::int64_t i = 0; i < n * L; i += L) {
      largest = max(abs(P::load(x + i) - P::load(center + i)), largest);
    }
    P below = zero;  // the threshold lies in (below, above]
    P above = largest;
    done = done | (equal(epsilon, zero));
    const T unit = std::numeric_limits<T>::epsilon();
    for (int round = 1; round <= 4 * std::numeric_limits<T>::digits && !all_set(done); ++round) {
      // Aims a little inside the ball, by what rounding of the sum and of the threshold may come to.
      const P slack = fma(epsilon, T{4} * unit, count * threshold * P::broadcast(unit));
      const P newton = threshold + (sum - (epsilon - slack)) / count;
      const P middle = (below + above) * P::broadcast(T(0.5));
      const M between = (newton > below) & (above > newton);
      const P next = round % 4 == 0 ? middle : select(between, newton, middle);
      threshold = select(done, threshold, next);
      l1_moves<T, L>(x, center, n, threshold, low, high, sum, count);
      const M too_low = sum > epsilon;
      below = select(done, below, select(too_low, threshold, below));
      above = select(done, above, select(too_low, above, threshold));
      const P within = epsilon - fma(epsilon, T{8} * unit, count * threshold * P::broadcast(unit + unit));
      const M close = (too_low ^ all) & ((within > sum) ^ all);
      const P rest = (below + above) * P::broadcast(T(0.5));
      const M open = (rest > below) & (above > rest);  // two neighbouring numbers have none in between
      done = done | close | (open ^ all);
    }
    threshold = select(outside, above, zero);
  }
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P c = P::load(center + i);
    const P v = P::load(x + i);
    const P d = v - c;
    const P room = select(d > zero, hi - c, c - lo);
    const P move = l1_move(d, room, threshold);
    const P projected = select(d > zero, c + move, c - move);
    min(max(select(outside, projected, v), lo), hi).store(x + i);
  }
}

/// The gradient where a step along it stays in the box, 0 where the pixel is at the wall: it does not compete.
template <class T, int L>
PAVISE_INLINE Pack<T, L> movable(Pack<T, L> x, Pack<T, L> g, T low, T high) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  return select(g > zero, select(P::broadcast(high) > x, g, zero), select(x > P::broadcast(low), g, zero));
}

/// A magnitude that at most about `keep` of a lane's movable gradients reach: their largest at least (by bisection).
template <class T, int L>
PAVISE_LANES Pack<T, L> magnitude_threshold(const T* x, const T* gradient, std::int64_t n, T keep, T low, T high) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P one = P::broadcast(T{1});
  P above = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    above = max(abs(movable(P::load(x + i), P::load(gradient + i), low, high)), above);
  }
  const P largest = above;
  P below = zero;
  for (int round = 0; keep > T{1} && round < (sizeof(T) == 4 ? 30 : 60); ++round) {
    const P middle = (below + above) * P::broadcast(T(0.5));
    P count = zero;
    for (std::int64_t i = 0; i < n * L; i += L) {
      const P g = abs(movable(P::load(x + i), P::load(gradient + i), low, high));
      count = count + select(g < middle, zero, one);
    }
    const auto too_many = count > P::broadcast(keep);
    below = select(too_many, middle, below);
    above = select(too_many, above, middle);
  }
  return min(above, largest);
}

template <class T, int L>
PAVISE_LANES void l1_step_lanes(T* x, const T* gradient, const T* center, std::int64_t n, T alpha, T sparsity,
                                T epsilon, T low, T high) {
  using P = Pack<T, L>;
  if (gradient != nullptr) {
    const P zero = P::broadcast(T{0});
    const P one = P::broadcast(T{1});
    const T keep = std::max(T{1}, std::floor(sparsity * static_cast<T>(n)));
    const P threshold = magnitude_threshold<T, L>(x, gradient, n, keep, low, high);
    P count = zero;
    for (std::int64_t i = 0; i < n * L; i += L) {
      const P g = movable(P::load(x + i), P::load(gradient + i), low, high);
      count = count + select(abs(g) < threshold, zero, select(equal(g, zero), zero, one));
    }
    const P step = P::broadcast(alpha) / max(count, one);
    for (std::int64_t i = 0; i < n * L; i += L) {
      const P v = P::load(x + i);
      const P g = movable(v, P::load(gradient + i), low, high);
      const P s = select(abs(g) < threshold, zero, sign(g));
      fma(s, step, v).store(x + i);
    }
  }
  l1_project_lanes<T, L>(x, center, n, P::broadcast(epsilon), low, high);
}

/// Moves the `sparsity` share of coordinates with the largest gradients that can still move by alpha / count each
/// (Tramer and Boneh 2019), then projects on the ball and the box together. Without a gradient only the projection.
template <class T>
void l1_step(Tag, T* x, const T* gradient, const T* center, std::int64_t n, int lanes, T alpha, T sparsity, T epsilon,
             T low, T high) {
  lanes == 16 ? l1_step_lanes<T, 16>(x, gradient, center, n, alpha, sparsity, epsilon, low, high)
              : l1_step_lanes<T, 1>(x, gradient, center, n, alpha, sparsity, epsilon, low, high);
}

template <class T, int L>
PAVISE_LANES void l1_start_lanes(T* x, const T* center, std::int64_t n, T epsilon, T low, T high) {
  using P = Pack<T, L>;
  const P half = P::broadcast(T(0.5));
  const P two = P::broadcast(T{2});
  const P tiny = P::broadcast(T(1e-12));
  // u -> a sign and an exponential from its two halves.
  const auto exponential = [&](P u) {
    const P v = select(u < half, u + u, fma(u, two, P::broadcast(T{-1})));
    return -log(max(v, tiny));
  };
  P sum = exponential(P::load(x + n * L));
  for (std::int64_t i = 0; i < n * L; i += L) {
    sum = sum + exponential(P::load(x + i));
  }
  const P scale = P::broadcast(epsilon) / sum;
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P u = P::load(x + i);
    const P e = exponential(u) * scale;
    const P c = P::load(center + i);
    const P v = c + select(u < half, e, -e);
    min(max(v, P::broadcast(low)), P::broadcast(high)).store(x + i);
  }
}

/// x <- a uniform point of the L1 ball around center, clipped to the box; x holds n + 1 uniform numbers a lane: n + 1
/// exponentials, divided by their sum, are uniform on the simplex, and the last is left out.
template <class T>
void l1_start(Tag, T* x, const T* center, std::int64_t n, int lanes, T epsilon, T low, T high) {
  lanes == 16 ? l1_start_lanes<T, 16>(x, center, n, epsilon, low, high)
              : l1_start_lanes<T, 1>(x, center, n, epsilon, low, high);
}

template <class T, int L>
PAVISE_LANES void distance_lanes(const T* x, const T* center, std::int64_t n, int norm, T* out) {
  using P = Pack<T, L>;
  P sum = P::broadcast(T{0});
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P d = P::load(x + i) - P::load(center + i);
    sum = norm == 0 ? max(abs(d), sum) : norm == 1 ? sum + abs(d) : fma(d, d, sum);
  }
  (norm == 2 ? sqrt(sum) : sum).store(out);
}

/// Distance of each lane from its center: norm 0 is Linf, 1 is L1, 2 is L2.
template <class T>
void distance(Tag, const T* x, const T* center, std::int64_t n, int lanes, int norm, T* out) {
  lanes == 16 ? distance_lanes<T, 16>(x, center, n, norm, out) : distance_lanes<T, 1>(x, center, n, norm, out);
}
