// SPDX-License-Identifier: MIT
// Functions of one number, element by element over contiguous memory: sixteen at a time whatever the lanes mean, then
// one at a time. Each function holds its value and its derivative side by side; a program compiles those that it names.
// Oracle: the C library's functions and central differences in tests/autodiff/elementwise_test.cpp.

template <Unary F>
struct UnaryFunction;

// max(0, x)                                   d/dx = [x > 0]; NaN gives 0, as the fused ReLU of convolutions does
template <>
struct UnaryFunction<Unary::relu> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return max(x, P::broadcast(T{0}));
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P, T, T) {
    return select(x > P::broadcast(T{0}), P::broadcast(T{1}), P::broadcast(T{0}));
  }
};
// x > 0 ? x : a x                             d/dx = x > 0 ? 1 : a
template <>
struct UnaryFunction<Unary::leaky_relu> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T a, T) {
    return select(x > P::broadcast(T{0}), x, P::broadcast(a) * x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P, T a, T) {
    return select(x > P::broadcast(T{0}), P::broadcast(T{1}), P::broadcast(a));
  }
};
// x > 0 ? x : a (e^x - 1)                     d/dx = x > 0 ? 1 : a e^x = y + a
template <>
struct UnaryFunction<Unary::elu> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T a, T) {
    return select(x > P::broadcast(T{0}), x, P::broadcast(a) * expm1_negative(x));
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P, T a, T) {
    return select(x > P::broadcast(T{0}), P::broadcast(T{1}), P::broadcast(a) * exp(x));
  }
};
// x P(N <= x), N standard normal              d/dx = P(N <= x) + x density(x)
template <>
struct UnaryFunction<Unary::gelu> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return x * normal_cdf(x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P, T, T) {
    return fma(x, normal_pdf(x), normal_cdf(x));
  }
};
// x s(x), s(x) = 1/(1+e^-x)                   d/dx = s + x s (1-s) = s + x s s(-x)
template <>
struct UnaryFunction<Unary::silu> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return x * sigmoid(x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P, T, T) {
    const P s = sigmoid(x);
    return fma(x * s, sigmoid(-x), s);
  }
};
// s = 1/(1+e^-x)                              d/dx = s s(-x)
template <>
struct UnaryFunction<Unary::sigmoid> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return sigmoid(x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P y, T, T) {
    return y * sigmoid(-x);
  }
};
// tanh x                                      d/dx = 1 - y^2 = (1-y)(1+y)
template <>
struct UnaryFunction<Unary::tanh> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return tanh(x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P, P y, T, T) {
    return fma(-y, y, P::broadcast(T{1}));
  }
};
// log(1 + e^x)                                d/dx = s(x)
template <>
struct UnaryFunction<Unary::softplus> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return softplus(x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P, T, T) {
    return sigmoid(x);
  }
};
// e^x                                         d/dx = y
template <>
struct UnaryFunction<Unary::exp> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return exp(x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P, P y, T, T) {
    return y;
  }
};
// ln x                                        d/dx = 1/x
template <>
struct UnaryFunction<Unary::log> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return log(x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P, T, T) {
    return P::broadcast(T{1}) / x;
  }
};
// square root                                 d/dx = 1/(2y)
template <>
struct UnaryFunction<Unary::sqrt> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return sqrt(x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P, P y, T, T) {
    return P::broadcast(T{0.5}) / y;
  }
};
// |x|                                         d/dx = sign x, 0 at 0
template <>
struct UnaryFunction<Unary::abs> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return abs(x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P, T, T) {
    return sign(x);
  }
};
// x^2                                         d/dx = 2x
template <>
struct UnaryFunction<Unary::square> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return x * x;
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P, T, T) {
    return x + x;
  }
};
// error function                              d/dx = 2/sqrt(pi) e^(-x^2)
template <>
struct UnaryFunction<Unary::erf> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return erf(x);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P, T, T) {
    return exp(-x * x) * P::broadcast(static_cast<T>(1.12837916709551257390));
  }
};
// a/x                                         d/dx = -(a/x)/x
template <>
struct UnaryFunction<Unary::reciprocal> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T a, T) {
    return P::broadcast(a) / x;
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P y, T, T) {
    return -(y / x);
  }
};
// x/a                                         d/dx = 1/a
template <>
struct UnaryFunction<Unary::quotient> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T a, T) {
    return x / P::broadcast(a);
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P, P, T a, T) {
    return P::broadcast(T{1} / a);
  }
};
// min(max(x, a), b), NaN stays NaN            d/dx = [a <= x <= b]
template <>
struct UnaryFunction<Unary::clamp> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T a, T b) {
    return min(P::broadcast(b), max(P::broadcast(a), x));
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P x, P y, T, T) {
    return select(equal(x, y), P::broadcast(T{1}), P::broadcast(T{0}));
  }
};
// x < 0 ? 0 : 1                               d/dx = 0
template <>
struct UnaryFunction<Unary::step> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T, T) {
    return select(P::broadcast(T{0}) > x, P::broadcast(T{0}), P::broadcast(T{1}));
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P, P, T, T) {
    return P::broadcast(T{0});
  }
};
// a x + b                                     d/dx = a
template <>
struct UnaryFunction<Unary::affine> {
  template <class P, class T>
  PAVISE_INLINE static P value(P x, T a, T b) {
    return fma(x, a, P::broadcast(b));
  }
  template <class P, class T>
  PAVISE_INLINE static P slope(P, P, T a, T) {
    return P::broadcast(a);
  }
};

template <Unary F, class T, int L>
PAVISE_INLINE void unary_forward_at(const T* x, T* y, std::int64_t i, T a, T b) {
  UnaryFunction<F>::value(Pack<T, L>::load(x + i), a, b).store(y + i);
}
template <Unary F, class T, int L>
PAVISE_INLINE void unary_backward_at(const T* x, const T* y, const T* dy, T* dx, std::int64_t i, T a, T b,
                                     bool accumulate) {
  using P = Pack<T, L>;
  put_product(P::load(dy + i), UnaryFunction<F>::slope(P::load(x + i), P::load(y + i), a, b), dx + i, accumulate);
}

/// y[i] = f(x[i]) for n numbers; `a` and `b` are the function's parameters.
template <Unary F, class T>
void unary_forward(Tag, const T* x, T* y, std::int64_t n, T a, T b) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    unary_forward_at<F, T, 16>(x, y, i, a, b);
  }
  for (; i < n; ++i) {
    unary_forward_at<F, T, 1>(x, y, i, a, b);
  }
}
/// dx[i] (+)= dy[i] f'(x[i])
template <Unary F, class T>
void unary_backward(Tag, const T* x, const T* y, const T* dy, T* dx, std::int64_t n, T a, T b, bool accumulate) {
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    unary_backward_at<F, T, 16>(x, y, dy, dx, i, a, b, accumulate);
  }
  for (; i < n; ++i) {
    unary_backward_at<F, T, 1>(x, y, dy, dx, i, a, b, accumulate);
  }
}
