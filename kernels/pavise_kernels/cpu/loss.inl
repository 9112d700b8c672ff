// SPDX-License-Identifier: MIT
// Losses, one number for each lane, fused with the softmax that they contain; and the argmax. Class indices are
// compared lane by lane, so that images with different labels share every instruction. Sums over classes run in class
// order. Oracle: the plain loops of tests/autodiff/loss_test.cpp.

/// Class indices of the lanes, as integers as wide as T.
template <class T, int L>
PAVISE_INLINE Mask<T, L> load_labels(const std::int32_t* labels) {
  return Mask<T, L>::load_from(labels);
}

template <class T, int L>
PAVISE_INLINE Mask<T, L> class_index(std::int64_t i) {
  return Mask<T, L>::broadcast(static_cast<IntegerOf<T>>(i));
}

template <class T, int L>
PAVISE_INLINE Pack<T, L> max_over(const T* x, std::int64_t n) {
  auto m = Pack<T, L>::load(x);
  for (std::int64_t i = 1; i < n; ++i) {
    m = max(Pack<T, L>::load(x + i * L), m);
  }
  return m;
}

template <class T, int L>
PAVISE_LANES void cross_entropy_forward_lanes(const T* z, const std::int32_t* labels, T* loss, T* saved,
                                              std::int64_t classes, T smoothing, T inverse_temperature) {
  using P = Pack<T, L>;
  const auto label = load_labels<T, L>(labels);
  const P m = max_over<T, L>(z, classes);
  const P zero = P::broadcast(T{0});
  P own = zero;   // exp of the label's logit
  P rest = zero;  // and the sum of the others': 1 - p[label] without cancellation
  P gap = zero;   // m - z[label]
  P gaps = zero;
  for (std::int64_t i = 0; i < classes; ++i) {
    const P below = m - P::load(z + i * L);
    const P e = exp(below * P::broadcast(-inverse_temperature));
    const auto mine = equal(label, class_index<T, L>(i));
    own = select(mine, e, own);
    rest = rest + select(mine, zero, e);
    gap = select(mine, below, gap);
    gaps = gaps + below;
    if (saved != nullptr) {
      e.store(saved + i * L);
    }
  }
  P out = fma(gap, (T{1} - smoothing) * inverse_temperature, log_of_sum(own, rest));
  if (smoothing != T{0}) {
    out = fma(gaps, smoothing * inverse_temperature / static_cast<T>(classes), out);
  }
  out.store(loss);
  if (saved != nullptr) {
    (P::broadcast(T{1}) / (own + rest)).store(saved + classes * L);
    rest.store(saved + (classes + 1) * L);
  }
}

template <class T, int L>
PAVISE_LANES void cross_entropy_backward_lanes(const T* saved, const std::int32_t* labels, const T* dloss, T* dz,
                                               std::int64_t classes, T smoothing, T inverse_temperature,
                                               bool accumulate) {
  using P = Pack<T, L>;
  const auto label = load_labels<T, L>(labels);
  const P g = P::load(dloss) * P::broadcast(inverse_temperature);
  const P inverse = P::load(saved + classes * L);
  const T share = smoothing / static_cast<T>(classes);
  const P at_label = fma(P::load(saved + (classes + 1) * L), -inverse, P::broadcast(smoothing - share));
  for (std::int64_t i = 0; i < classes; ++i) {
    const P elsewhere = fma(P::load(saved + i * L), inverse, P::broadcast(-share));
    put_product(g, select(equal(label, class_index<T, L>(i)), at_label, elsewhere), dz + i * L, accumulate);
  }
}

/// loss = log(sum_i exp(z_i/t)) - sum_i q_i z_i/t with q = (1-smoothing) at the label plus smoothing/classes
/// everywhere. `saved`: (classes+2)*lanes numbers for the backward pass, or null.
template <class T>
void cross_entropy_forward(Tag, const T* z, const std::int32_t* labels, T* loss, T* saved, std::int64_t classes,
                           T smoothing, T inverse_temperature, int lanes) {
  lanes == 16 ? cross_entropy_forward_lanes<T, 16>(z, labels, loss, saved, classes, smoothing, inverse_temperature)
              : cross_entropy_forward_lanes<T, 1>(z, labels, loss, saved, classes, smoothing, inverse_temperature);
}
/// dz_i (+)= dloss * (p_i - q_i) / t
template <class T>
void cross_entropy_backward(Tag, const T* saved, const std::int32_t* labels, const T* dloss, T* dz,
                            std::int64_t classes, T smoothing, T inverse_temperature, bool accumulate, int lanes) {
  lanes == 16 ? cross_entropy_backward_lanes<T, 16>(saved, labels, dloss, dz, classes, smoothing, inverse_temperature,
                                                    accumulate)
              : cross_entropy_backward_lanes<T, 1>(saved, labels, dloss, dz, classes, smoothing, inverse_temperature,
                                                   accumulate);
}

/// m = max z, s = sum of exp((z_i - m)/t)
template <class T, int L>
PAVISE_INLINE void exp_sum(const T* z, std::int64_t classes, Pack<T, L> it, Pack<T, L>& m, Pack<T, L>& s) {
  m = max_over<T, L>(z, classes);
  s = Pack<T, L>::broadcast(T{0});
  for (std::int64_t i = 0; i < classes; ++i) {
    s = s + exp((Pack<T, L>::load(z + i * L) - m) * it);
  }
}

template <class T, int L>
PAVISE_LANES void soft_cross_entropy_forward_lanes(const T* z, const T* q, T* loss, std::int64_t classes,
                                                   T inverse_temperature) {
  using P = Pack<T, L>;
  const P it = P::broadcast(inverse_temperature);
  P m, s;
  exp_sum<T, L>(z, classes, it, m, s);
  const P log_s = log(s);
  P sum = P::broadcast(T{0});
  for (std::int64_t i = 0; i < classes; ++i) {
    const P qi = P::load(q + i * L);
    const P term = fma(m - P::load(z + i * L), it, log_s);
    sum = select(equal(qi, P::broadcast(T{0})), sum, fma(qi, term, sum));  // 0 * infinity is 0 here
  }
  sum.store(loss);
}

template <class T, int L>
PAVISE_LANES void soft_cross_entropy_backward_lanes(const T* z, const T* q, const T* dloss, T* dz, bool dz_accumulate,
                                                    T* dq, bool dq_accumulate, std::int64_t classes,
                                                    T inverse_temperature) {
  using P = Pack<T, L>;
  const P it = P::broadcast(inverse_temperature);
  const P g = P::load(dloss);
  const P gt = g * it;
  P m, s;
  exp_sum<T, L>(z, classes, it, m, s);
  const P log_s = log(s);
  P total = P::broadcast(T{0});
  for (std::int64_t i = 0; i < classes; ++i) {
    total = total + P::load(q + i * L);
  }
  const P share = total / s;
  for (std::int64_t i = 0; i < classes; ++i) {
    const P below = m - P::load(z + i * L);
    if (dz != nullptr) {
      put_product(gt, fma(exp(-(below * it)), share, -P::load(q + i * L)), dz + i * L, dz_accumulate);
    }
    if (dq != nullptr) {
      put_product(g, fma(below, it, log_s), dq + i * L, dq_accumulate);
    }
  }
}

/// loss = -sum_i q_i log softmax(z/t)_i
template <class T>
void soft_cross_entropy_forward(Tag, const T* z, const T* q, T* loss, std::int64_t classes, T inverse_temperature,
                                int lanes) {
  lanes == 16 ? soft_cross_entropy_forward_lanes<T, 16>(z, q, loss, classes, inverse_temperature)
              : soft_cross_entropy_forward_lanes<T, 1>(z, q, loss, classes, inverse_temperature);
}
/// dz_i (+)= dloss (p_i sum_j q_j - q_i) / t, dq_i (+)= -dloss log p_i. Either may be null.
template <class T>
void soft_cross_entropy_backward(Tag, const T* z, const T* q, const T* dloss, T* dz, bool dz_accumulate, T* dq,
                                 bool dq_accumulate, std::int64_t classes, T inverse_temperature, int lanes) {
  lanes == 16 ? soft_cross_entropy_backward_lanes<T, 16>(z, q, dloss, dz, dz_accumulate, dq, dq_accumulate, classes,
                                                         inverse_temperature)
              : soft_cross_entropy_backward_lanes<T, 1>(z, q, dloss, dz, dz_accumulate, dq, dq_accumulate, classes,
                                                        inverse_temperature);
}

template <class T, int L>
PAVISE_LANES void kl_forward_lanes(const T* p, const T* q, T* loss, std::int64_t classes, T inverse_temperature) {
  using P = Pack<T, L>;
  const P it = P::broadcast(inverse_temperature);
  const P zero = P::broadcast(T{0});
  P mp, sp, mq, sq;
  exp_sum<T, L>(p, classes, it, mp, sp);
  exp_sum<T, L>(q, classes, it, mq, sq);
  const P lp = -log(sp);
  const P lq = -log(sq);
  P sum = zero;
  for (std::int64_t i = 0; i < classes; ++i) {
    const P log_p = fma(P::load(p + i * L) - mp, it, lp);
    const P log_q = fma(P::load(q + i * L) - mq, it, lq);
    const P share = exp(log_p);
    sum = select(equal(share, zero), sum, fma(share, log_p - log_q, sum));
  }
  sum.store(loss);
}

template <class T, int L>
PAVISE_LANES void kl_backward_lanes(const T* p, const T* q, const T* loss, const T* dloss, T* dp, bool dp_accumulate,
                                    T* dq, bool dq_accumulate, std::int64_t classes, T inverse_temperature) {
  using P = Pack<T, L>;
  const P it = P::broadcast(inverse_temperature);
  const P zero = P::broadcast(T{0});
  const P g = P::load(dloss) * it;
  const P value = P::load(loss);
  P mp, sp, mq, sq;
  exp_sum<T, L>(p, classes, it, mp, sp);
  exp_sum<T, L>(q, classes, it, mq, sq);
  const P lp = -log(sp);
  const P lq = -log(sq);
  for (std::int64_t i = 0; i < classes; ++i) {
    const P log_p = fma(P::load(p + i * L) - mp, it, lp);
    const P log_q = fma(P::load(q + i * L) - mq, it, lq);
    const P share = exp(log_p);
    if (dp != nullptr) {
      const P excess = select(equal(share, zero), zero, (log_p - log_q) - value);
      put_product(g * share, excess, dp + i * L, dp_accumulate);
    }
    if (dq != nullptr) {
      put_product(g, exp(log_q) - share, dq + i * L, dq_accumulate);
    }
  }
}

/// loss = sum_i P_i (log P_i - log Q_i) with P = softmax(p/t), Q = softmax(q/t)
template <class T>
void kl_forward(Tag, const T* p, const T* q, T* loss, std::int64_t classes, T inverse_temperature, int lanes) {
  lanes == 16 ? kl_forward_lanes<T, 16>(p, q, loss, classes, inverse_temperature)
              : kl_forward_lanes<T, 1>(p, q, loss, classes, inverse_temperature);
}
/// dp_i (+)= dloss P_i (log P_i - log Q_i - loss) / t, dq_i (+)= dloss (Q_i - P_i) / t. Either may be null.
template <class T>
void kl_backward(Tag, const T* p, const T* q, const T* loss, const T* dloss, T* dp, bool dp_accumulate, T* dq,
                 bool dq_accumulate, std::int64_t classes, T inverse_temperature, int lanes) {
  lanes == 16
      ? kl_backward_lanes<T, 16>(p, q, loss, dloss, dp, dp_accumulate, dq, dq_accumulate, classes, inverse_temperature)
      : kl_backward_lanes<T, 1>(p, q, loss, dloss, dp, dp_accumulate, dq, dq_accumulate, classes, inverse_temperature);
}

/// A gradient with few entries: `index` holds kSparse class indices for each lane, `weight` their derivatives. -1:
/// none.
inline constexpr int kSparse = 5;

template <class T, int L>
PAVISE_LANES void sparse_backward_lanes(const IntegerOf<T>* index, const T* weight, const T* dloss, T* dz,
                                        std::int64_t classes, bool accumulate) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P g = P::load(dloss);
  for (std::int64_t i = 0; i < classes; ++i) {
    P sum = zero;
    for (int k = 0; k < kSparse; ++k) {
      const auto here = equal(Mask<T, L>::load(index + k * L), class_index<T, L>(i));
      sum = sum + select(here, P::load(weight + k * L), zero);
    }
    put_product(g, sum, dz + i * L, accumulate);
  }
}
/// dz_i (+)= dloss * (sum of the weights at class i)
template <class T>
void sparse_backward(Tag, const IntegerOf<T>* index, const T* weight, const T* dloss, T* dz, std::int64_t classes,
                     bool accumulate, int lanes) {
  lanes == 16 ? sparse_backward_lanes<T, 16>(index, weight, dloss, dz, classes, accumulate)
              : sparse_backward_lanes<T, 1>(index, weight, dloss, dz, classes, accumulate);
}

template <class T, int L>
PAVISE_LANES void put_sparse(IntegerOf<T>* index, T* weight, int k, Mask<T, L> i, Pack<T, L> w) {
  i.store(index + k * L);
  w.store(weight + k * L);
}

template <class T, int L>
PAVISE_LANES void margin_forward_lanes(const T* z, const std::int32_t* labels, T* loss, IntegerOf<T>* index, T* weight,
                                       std::int64_t classes, T other_factor, T own_factor, T bound) {
  using P = Pack<T, L>;
  const auto label = load_labels<T, L>(labels);
  P own = P::broadcast(T{0});
  P other = P::broadcast(-std::numeric_limits<T>::infinity());
  auto at = class_index<T, L>(-1);
  for (std::int64_t i = 0; i < classes; ++i) {
    const P x = P::load(z + i * L);
    const auto here = class_index<T, L>(i);
    const auto mine = equal(label, here);
    own = select(mine, x, own);
    const auto none = class_index<T, L>(-1);
    const auto taken = (mine ^ none) & ((x > other) | equal(at, none));
    other = select(taken, x, other);
    at = select(taken, here, at);
  }
  P y = own * P::broadcast(own_factor);
  if (other_factor != T{0}) {
    y = fma(other, other_factor, y);
  }
  const P limit = P::broadcast(bound);
  const auto active = limit > y;
  min(limit, y).store(loss);
  if (index != nullptr) {
    const P zero = P::broadcast(T{0});
    put_sparse<T, L>(index, weight, 0, at, select(active, P::broadcast(other_factor), zero));
    put_sparse<T, L>(index, weight, 1, label, select(active, P::broadcast(own_factor), zero));
    for (int k = 2; k < kSparse; ++k) {
      put_sparse<T, L>(index, weight, k, class_index<T, L>(-1), zero);
    }
  }
}

/// loss = min(bound, other_factor * max_{i != label} z_i + own_factor * z_label). `index`, `weight`: kSparse*lanes
/// entries of the gradient, or null.
template <class T>
void margin_forward(Tag, const T* z, const std::int32_t* labels, T* loss, IntegerOf<T>* index, T* weight,
                    std::int64_t classes, T other_factor, T own_factor, T bound, int lanes) {
  lanes == 16 ? margin_forward_lanes<T, 16>(z, labels, loss, index, weight, classes, other_factor, own_factor, bound)
              : margin_forward_lanes<T, 1>(z, labels, loss, index, weight, classes, other_factor, own_factor, bound);
}

template <class T, int L>
PAVISE_LANES void dlr_forward_lanes(const T* z, const std::int32_t* labels, const std::int32_t* targets, T* loss,
                                    IntegerOf<T>* index, T* weight, std::int64_t classes) {
  using P = Pack<T, L>;
  using I = Mask<T, L>;
  const I label = load_labels<T, L>(labels);
  const I target = load_labels<T, L>(targets != nullptr ? targets : labels);
  P top[4];
  I at[4];
  for (int k = 0; k < 4; ++k) {
    top[k] = P::broadcast(-std::numeric_limits<T>::infinity());
    at[k] = class_index<T, L>(-1);
  }
  P own = P::broadcast(T{0});
  P wanted = own;
  for (std::int64_t i = 0; i < classes; ++i) {
    P x = P::load(z + i * L);
    I here = class_index<T, L>(i);
    own = select(equal(label, here), x, own);
    wanted = select(equal(target, here), x, wanted);
    for (int k = 0; k < 4; ++k) {  // into its place among the four largest; the lower index first
      const I before = x > top[k];
      const P out = select(before, top[k], x);
      const I out_at = select(before, at[k], here);
      top[k] = select(before, x, top[k]);
      at[k] = select(before, here, at[k]);
      x = out;
      here = out_at;
    }
  }
  const P one = P::broadcast(T{1});
  const P tiny = P::broadcast(static_cast<T>(1e-12));
  P rival, spread;
  I rival_at;
  if (targets != nullptr) {
    rival = wanted;
    rival_at = target;
    spread = fma(top[2] + top[3], T{-0.5}, top[0]) + tiny;
  } else {
    const I correct = equal(at[0], label);
    rival = select(correct, top[1], top[0]);
    rival_at = select(correct, at[1], at[0]);
    spread = (top[0] - top[2]) + tiny;
  }
  const P y = (rival - own) / spread;
  y.store(loss);
  if (index != nullptr) {
    const P inverse = one / spread;
    const P pull = y / spread;
    put_sparse<T, L>(index, weight, 0, rival_at, inverse);
    put_sparse<T, L>(index, weight, 1, label, -inverse);
    put_sparse<T, L>(index, weight, 2, at[0], -pull);
    const P half = pull * P::broadcast(T{0.5});
    put_sparse<T, L>(index, weight, 3, at[2], targets != nullptr ? half : pull);
    put_sparse<T, L>(index, weight, 4, at[3], targets != nullptr ? half : P::broadcast(T{0}));
  }
}

/// Difference of logits ratio; with `targets` the targeted one. `index`, `weight` as in margin_forward.
template <class T>
void dlr_forward(Tag, const T* z, const std::int32_t* labels, const std::int32_t* targets, T* loss, IntegerOf<T>* index,
                 T* weight, std::int64_t classes, int lanes) {
  lanes == 16 ? dlr_forward_lanes<T, 16>(z, labels, targets, loss, index, weight, classes)
              : dlr_forward_lanes<T, 1>(z, labels, targets, loss, index, weight, classes);
}

template <class T, int L>
PAVISE_LANES void argmax_lanes(const T* z, std::int32_t* out, std::int64_t classes) {
  using P = Pack<T, L>;
  P best = P::load(z);
  auto index = class_index<T, L>(0);
  for (std::int64_t i = 1; i < classes; ++i) {
    const P x = P::load(z + i * L);
    // A number that follows nothing but NaN is larger, too.
    const auto found = (x > best) | (equal(x, x) & (equal(best, best) ^ class_index<T, L>(-1)));
    best = select(found, x, best);
    index = select(found, class_index<T, L>(i), index);
  }
  index.store_to(out);
}

/// out[lane] = index of the largest of z[classes][lanes]; the lowest one of equals; NaN counts below every number.
template <class T>
void argmax(Tag, const T* z, std::int32_t* out, std::int64_t classes, int lanes) {
  lanes == 16 ? argmax_lanes<T, 16>(z, out, classes) : argmax_lanes<T, 1>(z, out, classes);
}

template <class T, int L>
PAVISE_LANES void vote_lanes(const T* z, std::int32_t* out, std::int64_t classes) {
  using P = Pack<T, L>;
  P best = P::load(z);
  auto index = class_index<T, L>(0);
  auto numbers = equal(best, best);
  for (std::int64_t i = 1; i < classes; ++i) {
    const P x = P::load(z + i * L);
    numbers = numbers & equal(x, x);
    const auto found = x > best;
    best = select(found, x, best);
    index = select(found, class_index<T, L>(i), index);
  }
  select(numbers, index, class_index<T, L>(-1)).store_to(out);
}

/// What each lane's logits z[classes][lanes] vote for: the largest, the lowest one of equals; -1 where one is NaN.
template <class T>
void vote(Tag, const T* z, std::int32_t* out, std::int64_t classes, int lanes) {
  lanes == 16 ? vote_lanes<T, 16>(z, out, classes) : vote_lanes<T, 1>(z, out, classes);
}
