// SPDX-License-Identifier: MIT
// Softmax over the first axis: x is [classes][inner][lanes], and sums over classes run in class order.
// Oracle: the plain loops of tests/autodiff/softmax_test.cpp.

/// One position of the inner axes; classes are `step` elements apart.
template <bool Log, class T, int L>
PAVISE_INLINE void softmax_forward_at(const T* x, T* y, std::int64_t classes, std::int64_t step,
                                      T inverse_temperature) {
  using P = Pack<T, L>;
  const P it = P::broadcast(inverse_temperature);
  P m = P::load(x);
  for (std::int64_t i = 1; i < classes; ++i) {
    m = max(P::load(x + i * step), m);
  }
  P sum = P::broadcast(T{0});
  for (std::int64_t i = 0; i < classes; ++i) {
    const P u = P::load(x + i * step) - m;
    const P e = exp(u * it);
    sum = sum + e;
    (Log ? u : e).store(y + i * step);
  }
  const P inverse = P::broadcast(T{1}) / sum;
  const P minus_log = -log(sum);
  for (std::int64_t i = 0; i < classes; ++i) {
    const P u = P::load(y + i * step);
    (Log ? fma(u, it, minus_log) : u * inverse).store(y + i * step);
  }
}

template <bool Log, class T, int L>
PAVISE_LANES void softmax_forward_lanes(const T* x, T* y, std::int64_t classes, std::int64_t inner,
                                        T inverse_temperature) {
  for (std::int64_t at = 0; at < inner * L; at += L) {
    softmax_forward_at<Log, T, L>(x + at, y + at, classes, inner * L, inverse_temperature);
  }
}

template <bool Log, class T, int L>
PAVISE_INLINE void softmax_backward_at(const T* y, const T* dy, T* dx, std::int64_t classes, std::int64_t step,
                                       T inverse_temperature, bool accumulate) {
  using P = Pack<T, L>;
  const P it = P::broadcast(inverse_temperature);
  P sum = P::broadcast(T{0});
  for (std::int64_t i = 0; i < classes; ++i) {
    const P d = P::load(dy + i * step);
    sum = Log ? sum + d : fma(P::load(y + i * step), d, sum);
  }
  for (std::int64_t i = 0; i < classes; ++i) {
    const P v = P::load(y + i * step);
    const P d = P::load(dy + i * step);
    T* to = dx + i * step;
    if constexpr (Log) {
      put_product(fma(exp(v), -sum, d), it, to, accumulate);
    } else {
      put_product(v * it, d - sum, to, accumulate);
    }
  }
}

template <bool Log, class T, int L>
PAVISE_LANES void softmax_backward_lanes(const T* y, const T* dy, T* dx, std::int64_t classes, std::int64_t inner,
                                         T inverse_temperature, bool accumulate) {
  for (std::int64_t at = 0; at < inner * L; at += L) {
    softmax_backward_at<Log, T, L>(y + at, dy + at, dx + at, classes, inner * L, inverse_temperature, accumulate);
  }
}

/// y = softmax(x / temperature) over the first axis, or its logarithm.
template <bool Log, class T>
void softmax_forward(Tag, const T* x, T* y, std::int64_t classes, std::int64_t inner, T inverse_temperature,
                     int lanes) {
  lanes == 16 ? softmax_forward_lanes<Log, T, 16>(x, y, classes, inner, inverse_temperature)
              : softmax_forward_lanes<Log, T, 1>(x, y, classes, inner, inverse_temperature);
}
/// softmax: dx_i (+)= y_i (dy_i - sum_j y_j dy_j) / t. log-softmax: dx_i (+)= (dy_i - e^y_i sum_j dy_j) / t.
template <bool Log, class T>
void softmax_backward(Tag, const T* y, const T* dy, T* dx, std::int64_t classes, std::int64_t inner,
                      T inverse_temperature, bool accumulate, int lanes) {
  lanes == 16 ? softmax_backward_lanes<Log, T, 16>(y, dy, dx, classes, inner, inverse_temperature, accumulate)
              : softmax_backward_lanes<Log, T, 1>(y, dy, dx, classes, inner, inverse_temperature, accumulate);
}
