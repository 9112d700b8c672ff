// SPDX-License-Identifier: MIT
// The updates of attacks that look for the closest adversarial image, each one sweep over the group. Arrays are
// [n][lanes]; factors come one for each lane, since every image is at an iteration of its own. `gradient` is that of a
// margin which the attack raises. Oracle: the scalar loops of tests/attack/carlini_wagner_test.cpp, ead_test.cpp and
// ddn_test.cpp, and the exact distances of linear models.

/// Where w lies: x = low + share span for w < 0, x = high - share span for w > 0. The share of the nearer wall keeps its
/// digits where tanh w is 1 in T, so that a pixel at the wall can come back.
template <class T, int L>
PAVISE_INLINE Pack<T, L> wall_share(Pack<T, L> w) {
  const Pack<T, L> a = abs(w);
  const Pack<T, L> e = exp(-(a + a));
  return e / (Pack<T, L>::broadcast(T{1}) + e);
}

template <class T, int L, bool Square>
PAVISE_LANES void tanh_adam_lanes(T* w, T* first, T* second, T* x, const T* gradient, const T* clean, std::int64_t n,
                                  const T* constant, const T* rate, const T* root, const T* tau, T low, T high,
                                  T* distance, T* penalty) {
  using P = Pack<T, L>;
  const P c = -P::load(constant);
  const P step = -P::load(rate);
  const P correction = P::load(root);
  const P allowed = P::load(tau);
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  const P span = hi - lo;
  const P zero = P::broadcast(T{0});
  const P largest = P::broadcast(T(1e18));  // its square is a finite number
  P far = zero;
  P sum = zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P w0 = P::load(w + i);
    const P center = P::load(clean + i);
    const P q = wall_share(w0);
    const P slope = fma(q, -q, q) * (span + span);  // dx/dw
    const P d0 = P::load(x + i) - center;
    const P pull = Square ? d0 + d0 : select(abs(d0) > allowed, sign(d0), zero);
    P g = slope * fma(P::load(gradient + i), c, pull);
    g = select(abs(g) < largest, g, zero);
    const P m = fma(g, T(0.1), P::load(first + i) * P::broadcast(T(0.9)));
    const P v = fma(g * P::broadcast(T(0.001)), g, P::load(second + i) * P::broadcast(T(0.999)));
    m.store(first + i);
    v.store(second + i);
    const P w1 = fma(m / fma(sqrt(v), correction, P::broadcast(T(1e-8))), step, w0);
    w1.store(w + i);
    const P share = wall_share(w1);
    const P moved = select(w1 > zero, fma(share, -span, hi), fma(share, span, lo));
    moved.store(x + i);
    const P d = abs(moved - center);
    if constexpr (Square) {
      sum = fma(d, d, sum);
    } else {
      far = max(d, far);
      sum = sum + max(d - allowed, zero);
    }
  }
  (Square ? sqrt(sum) : far).store(distance);
  sum.store(penalty);
}

/// One step of Adam (0.9, 0.999, 1e-8) in the space where x = low + (high - low) (tanh w + 1) / 2 for
///   penalty - constant * margin,  penalty = ||x - clean||_2^2 (square), or sum_i max(|x_i - clean_i| - tau, 0),
/// with `rate` and `root` as for adam_update. Afterwards: x of the new w, penalty, and distance = ||x - clean||_2, or
/// ||x - clean||_inf.
template <class T>
void tanh_adam(Tag, bool square, T* w, T* first, T* second, T* x, const T* gradient, const T* clean, std::int64_t n,
               int lanes, const T* constant, const T* rate, const T* root, const T* tau, T low, T high, T* distance,
               T* penalty) {
  if (lanes == 16) {
    square ? tanh_adam_lanes<T, 16, true>(w, first, second, x, gradient, clean, n, constant, rate, root, tau, low, high,
                                          distance, penalty)
           : tanh_adam_lanes<T, 16, false>(w, first, second, x, gradient, clean, n, constant, rate, root, tau, low,
                                           high, distance, penalty);
  } else {
    square ? tanh_adam_lanes<T, 1, true>(w, first, second, x, gradient, clean, n, constant, rate, root, tau, low, high,
                                         distance, penalty)
           : tanh_adam_lanes<T, 1, false>(w, first, second, x, gradient, clean, n, constant, rate, root, tau, low, high,
                                          distance, penalty);
  }
}

template <class T, int L>
PAVISE_LANES void elastic_net_lanes(T* x, T* y, const T* gradient, const T* clean, std::int64_t n, const T* constant,
                                    const T* rate, const T* momentum, T beta, T low, T high, T* absolute, T* square) {
  using P = Pack<T, L>;
  const P c = -P::load(constant);
  const P step = -P::load(rate);
  const P more = P::load(momentum);
  const P b = P::broadcast(beta);
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  P sum = P::broadcast(T{0});
  P squares = sum;
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P center = P::load(clean + i);
    const P y0 = P::load(y + i);
    const P d0 = y0 - center;
    const P z = fma(fma(P::load(gradient + i), c, d0 + d0), step, y0);
    const P d = z - center;
    const P moved = select(d > b, min(z - b, hi), select(d < -b, max(z + b, lo), center));
    fma(moved - P::load(x + i), more, moved).store(y + i);
    moved.store(x + i);
    const P change = moved - center;
    sum = sum + abs(change);
    squares = fma(change, change, squares);
  }
  sum.store(absolute);
  squares.store(square);
}

/// One step of FISTA for ||x - clean||_2^2 + beta ||x - clean||_1 - constant * margin in the box:
///   z = y - rate (2 (y - clean) - constant gradient);  x' = clean where |z - clean| <= beta, else z moved by beta
///   towards it and clipped;  y = x' + momentum (x' - x);  x = x'
/// Afterwards: absolute = ||x - clean||_1, square = ||x - clean||_2^2.
template <class T>
void elastic_net(Tag, T* x, T* y, const T* gradient, const T* clean, std::int64_t n, int lanes, const T* constant,
                 const T* rate, const T* momentum, T beta, T low, T high, T* absolute, T* square) {
  lanes == 16
      ? elastic_net_lanes<T, 16>(x, y, gradient, clean, n, constant, rate, momentum, beta, low, high, absolute, square)
      : elastic_net_lanes<T, 1>(x, y, gradient, clean, n, constant, rate, momentum, beta, low, high, absolute, square);
}

template <class T, int L>
PAVISE_LANES void lane_rescale_lanes(T* x, const T* center, std::int64_t n, const T* factor, T low, T high) {
  using P = Pack<T, L>;
  const P k = P::load(factor);
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P c = P::load(center + i);
    min(max(fma(P::load(x + i) - c, k, c), P::broadcast(low)), P::broadcast(high)).store(x + i);
  }
}

/// x <- center + factor (x - center), clipped to the box; one factor for each lane.
template <class T>
void lane_rescale(Tag, T* x, const T* center, std::int64_t n, int lanes, const T* factor, T low, T high) {
  lanes == 16 ? lane_rescale_lanes<T, 16>(x, center, n, factor, low, high)
              : lane_rescale_lanes<T, 1>(x, center, n, factor, low, high);
}
