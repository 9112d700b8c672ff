// SPDX-License-Identifier: MIT
// The backward substitution of CROWN (Zhang et al. 2018), for one image: sixteen linear functions sum_i a[i] x[i] of the
// values of a layer, one in each lane, arrays are [n][16]. The products with weights are convolutions (gather_gemm.inl);
// here is what lies between them; T is double. Errors are added up beside the values, so that the caller can round outwards once.
// Oracle: tests/certify/propagation_test.cpp, by points and by hand.

/// The functions of y, of channels of `positions` elements, leave their constant: a.y = a.(y - bias) + a.bias, where
/// y[i] is off by at most error[i].
template <class T>
void rows_bias(Tag, const T* a, std::int64_t n, std::int64_t positions, const double* bias, const double* error,
               RowBounds& r) {
  using P = Pack<T, 16>;
  P constant = P::load(r.constant);
  P magnitude = P::load(r.magnitude);
  P off = P::load(r.error);
  for (std::int64_t i = 0; i < n; ++i) {
    const P v = P::load(a + i * 16);
    const P b = P::broadcast(bias[i / positions]);
    constant = fma(v, b, constant);
    magnitude = fma(abs(v), abs(b), magnitude);
    off = fma(abs(v), P::broadcast(error[i]), off);
  }
  constant.store(r.constant);
  magnitude.store(r.magnitude);
  off.store(r.error);
}

/// From below, in place: y = max(0, x) with lower[i] x <= y <= upper[i] x + intercept[i] makes functions of y functions
/// of x. Their coefficients are rounded: error[i] is what that costs at a coefficient of 1.
template <class T>
void rows_relu(Tag, T* a, std::int64_t n, const double* lower, const double* upper, const double* intercept,
               const double* error, RowBounds& r) {
  using P = Pack<T, 16>;
  const P zero = P::broadcast(0.0);
  P constant = P::load(r.constant);
  P magnitude = P::load(r.magnitude);
  P off = P::load(r.error);
  for (std::int64_t i = 0; i < n; ++i) {
    const P v = P::load(a + i * 16);
    const P negative = min(v, zero);
    const P t = P::broadcast(intercept[i]);
    constant = fma(negative, t, constant);
    magnitude = fma(abs(negative), t, magnitude);
    off = fma(abs(v), P::broadcast(error[i]), off);
    (v * select(v > zero, P::broadcast(lower[i]), P::broadcast(upper[i]))).store(a + i * 16);
  }
  constant.store(r.constant);
  magnitude.store(r.magnitude);
  off.store(r.error);
}

/// From below: y[i], a maximum, is at least x[winner[i]] and at most top[i], or equal to the former where exact[i] is
/// not 0. Adds to a_in, the functions of x.
template <class T>
void rows_max_pool(Tag, const T* a, std::int64_t n, const std::int64_t* winner, const double* exact, const double* top,
                   const double* error, T* a_in, RowBounds& r) {
  using P = Pack<T, 16>;
  const P zero = P::broadcast(0.0);
  P constant = P::load(r.constant);
  P magnitude = P::load(r.magnitude);
  P off = P::load(r.error);
  for (std::int64_t i = 0; i < n; ++i) {
    const P v = P::load(a + i * 16);
    const P rest = exact[i] != 0.0 ? zero : min(v, zero);
    const P t = P::broadcast(top[i]);
    constant = fma(rest, t, constant);
    magnitude = fma(abs(rest), abs(t), magnitude);
    off = fma(abs(v), P::broadcast(error[i]), off);
    double* to = a_in + winner[i] * 16;
    (P::load(to) + (v - rest)).store(to);
  }
  constant.store(r.constant);
  magnitude.store(r.magnitude);
  off.store(r.error);
}

/// Adds the least value of the functions on the box [low, high].
template <class T>
void rows_box(Tag, const T* a, std::int64_t n, const double* low, const double* high, RowBounds& r) {
  using P = Pack<T, 16>;
  const P zero = P::broadcast(0.0);
  P constant = P::load(r.constant);
  P magnitude = P::load(r.magnitude);
  for (std::int64_t i = 0; i < n; ++i) {
    const P v = P::load(a + i * 16);
    const P corner = select(v > zero, P::broadcast(low[i]), P::broadcast(high[i]));
    constant = fma(v, corner, constant);
    magnitude = fma(abs(v), abs(corner), magnitude);
  }
  constant.store(r.constant);
  magnitude.store(r.magnitude);
}

/// squares[lane] = sum of a^2, largest[lane] = the largest |a|.
template <class T>
void rows_norms(Tag, const T* a, std::int64_t n, double* squares, double* largest) {
  using P = Pack<T, 16>;
  P sum = P::broadcast(0.0);
  P most = sum;
  for (std::int64_t i = 0; i < n; ++i) {
    const P v = P::load(a + i * 16);
    sum = fma(v, v, sum);
    most = max(abs(v), most);
  }
  sum.store(squares);
  most.store(largest);
}
