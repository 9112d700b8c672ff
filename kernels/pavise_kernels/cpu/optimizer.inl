// SPDX-License-Identifier: MIT
// Updates of all of a model's weights as one loop over contiguous arrays. The sixteen lanes of a pack are sixteen
// neighbouring weights here: every length is a multiple of 16, as ParameterStore pads it. Rates are the host's, rounded
// to T once. Oracle: the scalar loops and PyTorch's numbers in tests/optim/optimizer_test.cpp.

template <class T, int L>
PAVISE_LANES void sgd_update_lanes(T* value, const T* gradient, T* velocity, std::int64_t n, T rate, T momentum,
                                   T decay, T scale, bool nesterov) {
  using P = Pack<T, L>;
  for (std::int64_t i = 0; i < n; i += L) {
    const P w = P::load(value + i);
    P g = fma(w, decay, P::load(gradient + i) * P::broadcast(scale));
    if (velocity != nullptr) {
      const P v = fma(P::load(velocity + i), momentum, g);
      v.store(velocity + i);
      g = nesterov ? fma(v, momentum, g) : v;
    }
    fma(g, -rate, w).store(value + i);
  }
}

/// One step of stochastic gradient descent, as torch.optim.SGD:
///   g = scale*gradient + decay*value;  v = momentum*v + g;  value -= rate * (g + momentum*v if nesterov, else v)
/// Without `velocity` the momentum is 0 and v is g.
template <class T>
void sgd_update(Tag, T* value, const T* gradient, T* velocity, std::int64_t n, T rate, T momentum, T decay, T scale,
                bool nesterov) {
  sgd_update_lanes<T, 16>(value, gradient, velocity, n, rate, momentum, decay, scale, nesterov);
}

template <class T, int L>
PAVISE_LANES void adam_update_lanes(T* value, const T* gradient, T* first, T* second, std::int64_t n, T rate, T root,
                                    T share1, T share2, T epsilon, T decay, T keep, T scale) {
  using P = Pack<T, L>;
  const P eps = P::broadcast(epsilon);
  for (std::int64_t i = 0; i < n; i += L) {
    const P w = P::load(value + i) * P::broadcast(keep);
    const P g = fma(w, decay, P::load(gradient + i) * P::broadcast(scale));
    const P m0 = P::load(first + i);
    const P m = fma(g - m0, share1, m0);
    const P v0 = P::load(second + i);
    const P v = fma(fma(g, g, -v0), share2, v0);
    m.store(first + i);
    v.store(second + i);
    fma(m / fma(sqrt(v), root, eps), -rate, w).store(value + i);
  }
}

/// One step of Adam, as torch.optim.Adam and AdamW:
///   w = keep*value;  g = scale*gradient + decay*w;  m += share1*(g - m);  v = (1 - share2)*v + share2*g^2
///   value = w - rate * m / (sqrt(v)*root + epsilon)
/// Adam has keep = 1; AdamW has decay = 0. `rate` and `root` hold the corrections of the bias: rate is that of the
/// schedule divided by 1 - beta1^t, root is 1/sqrt(1 - beta2^t).
template <class T>
void adam_update(Tag, T* value, const T* gradient, T* first, T* second, std::int64_t n, T rate, T root, T share1,
                 T share2, T epsilon, T decay, T keep, T scale) {
  adam_update_lanes<T, 16>(value, gradient, first, second, n, rate, root, share1, share2, epsilon, decay, keep, scale);
}

/// average += share * (value - average)
template <class T>
void average_update(Tag, T* average, const T* value, std::int64_t n, T share) {
  using P = Pack<T, 16>;
  for (std::int64_t i = 0; i < n; i += 16) {
    const P a = P::load(average + i);
    fma(P::load(value + i) - a, share, a).store(average + i);
  }
}

/// x *= factor
template <class T>
void scale_values(Tag, T* x, std::int64_t n, T factor) {
  using P = Pack<T, 16>;
  for (std::int64_t i = 0; i < n; i += 16) {
    (P::load(x + i) * P::broadcast(factor)).store(x + i);
  }
}

/// x clipped to [-limit, limit]; NaN stays NaN.
template <class T>
void clip_values(Tag, T* x, std::int64_t n, T limit) {
  using P = Pack<T, 16>;
  const P high = P::broadcast(limit);
  for (std::int64_t i = 0; i < n; i += 16) {
    max(-high, min(high, P::load(x + i))).store(x + i);
  }
}

/// The sum of x^2, in double: sixteen sums side by side, added in order.
template <class T>
double sum_of_squares(Tag, const T* x, std::int64_t n) {
  double sums[16] = {};
  for (std::int64_t i = 0; i < n; i += 16) {
    for (int k = 0; k < 16; ++k) {
      const auto v = static_cast<double>(x[i + k]);
      sums[k] = __builtin_fma(v, v, sums[k]);
    }
  }
  double total = 0;
  for (const double s : sums) {
    total += s;
  }
  return total;
}
