// SPDX-License-Identifier: MIT
// The sum at the end of a residual block, and the ReLU behind it, in one pass over memory. Element-wise, so that one
// image's elements fill the vector as well as sixteen images do. Oracle: the gradient checks of
// tests/nn/layers_test.cpp.

template <class T, int L>
PAVISE_LANES void add_values_lanes(const T* a, const T* b, T* y, std::int64_t n, bool relu) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  for (std::int64_t i = 0; i + L <= n; i += L) {
    const P v = P::load(a + i) + P::load(b + i);
    (relu ? select(zero > v, zero, v) : v).store(y + i);
  }
}

/// y = a + b, or max(0, a + b), for n values; NaN stays NaN.
template <class T>
void add_values(Tag, const T* a, const T* b, T* y, std::int64_t n, bool relu) {
  const std::int64_t whole = n / 16 * 16;
  add_values_lanes<T, 16>(a, b, y, whole, relu);
  add_values_lanes<T, 1>(a + whole, b + whole, y + whole, n - whole, relu);
}

template <class T, int L>
PAVISE_LANES void pass_gradient_lanes(const T* dy, T* dx, std::int64_t n, bool accumulate, const T* mask) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  for (std::int64_t i = 0; i + L <= n; i += L) {
    P v = P::load(dy + i);
    v = accumulate ? v + P::load(dx + i) : v;
    (mask != nullptr ? select(P::load(mask + i) > zero, v, zero) : v).store(dx + i);
  }
}

/// dx = dy, or dx += dy; 0 where `mask` is not positive.
template <class T>
void pass_gradient(Tag, const T* dy, T* dx, std::int64_t n, bool accumulate, const T* mask) {
  const std::int64_t whole = n / 16 * 16;
  pass_gradient_lanes<T, 16>(dy, dx, whole, accumulate, mask);
  pass_gradient_lanes<T, 1>(dy + whole, dx + whole, n - whole, accumulate, mask != nullptr ? mask + whole : nullptr);
}
