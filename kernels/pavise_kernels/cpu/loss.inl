// SPDX-License-Identifier: MIT
// Losses, one number for each lane, fused with the softmax that they contain; and the argmax. Class indices are compared lane by
// lane, so that images with different labels share every instruction. Sums over classes run in class order.
// Oracle: the plain loops of tests/autodiff/loss_test.cpp.

/// Class indices of the lanes, as integers as wide as T.
template <class T, int L>
[[gnu::always_inline]] inline Mask<T, L> load_labels(const std::int32_t* labels) {
  alignas(64) IntegerOf<T> wide[L];
  for (int i = 0; i < L; ++i) {
    wide[i] = labels[i];
  }
  return Mask<T, L>::load(wide);
}

template <class T, int L>
[[gnu::always_inline]] inline Mask<T, L> class_index(std::int64_t i) {
  return Mask<T, L>::broadcast(static_cast<IntegerOf<T>>(i));
}

template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> max_over(const T* x, std::int64_t n) {
  auto m = Pack<T, L>::load(x);
  for (std::int64_t i = 1; i < n; ++i) {
    m = max(Pack<T, L>::load(x + i * L), m);
  }
  return m;
}

template <class T, int L>
inline void cross_entropy_forward_lanes(const T* z, const std::int32_t* labels, T* loss, T* saved, std::int64_t classes,
                                        T smoothing, T inverse_temperature) {
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
inline void cross_entropy_backward_lanes(const T* saved, const std::int32_t* labels, const T* dloss, T* dz,
                                         std::int64_t classes, T smoothing, T inverse_temperature, bool accumulate) {
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

/// loss = log(sum_i exp(z_i/t)) - sum_i q_i z_i/t with q = (1-smoothing) at the label plus smoothing/classes everywhere.
/// `saved`: (classes+2)*lanes numbers for the backward pass, or null.
template <class T>
void cross_entropy_forward(Tag, const T* z, const std::int32_t* labels, T* loss, T* saved, std::int64_t classes,
                           T smoothing, T inverse_temperature, int lanes) {
  lanes == 16 ? cross_entropy_forward_lanes<T, 16>(z, labels, loss, saved, classes, smoothing, inverse_temperature)
              : cross_entropy_forward_lanes<T, 1>(z, labels, loss, saved, classes, smoothing, inverse_temperature);
}
/// dz_i (+)= dloss * (p_i - q_i) / t
template <class T>
void cross_entropy_backward(Tag, const T* saved, const std::int32_t* labels, const T* dloss, T* dz, std::int64_t classes,
                            T smoothing, T inverse_temperature, bool accumulate, int lanes) {
  lanes == 16 ? cross_entropy_backward_lanes<T, 16>(saved, labels, dloss, dz, classes, smoothing, inverse_temperature,
                                                    accumulate)
              : cross_entropy_backward_lanes<T, 1>(saved, labels, dloss, dz, classes, smoothing, inverse_temperature,
                                                   accumulate);
}

template <class T, int L>
inline void argmax_lanes(const T* z, std::int32_t* out, std::int64_t classes) {
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
  for (int i = 0; i < L; ++i) {
    out[i] = static_cast<std::int32_t>(index.get(i));
  }
}

/// out[lane] = index of the largest of z[classes][lanes]; the lowest one of equals; NaN counts below every number.
template <class T>
void argmax(Tag, const T* z, std::int32_t* out, std::int64_t classes, int lanes) {
  lanes == 16 ? argmax_lanes<T, 16>(z, out, classes) : argmax_lanes<T, 1>(z, out, classes);
}
