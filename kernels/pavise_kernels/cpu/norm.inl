// SPDX-License-Identifier: MIT
// Normalisation: y = (x - mean) * inverse deviation * gamma + beta. Batch normalisation takes its statistics of a
// channel over all images of the pass (or has them given); group and layer normalisation take them within an image,
// lane by lane. Means and variances are found in two passes, in short chains of additions, so that a large mean costs
// no accuracy. Every sum has one order: chunks of an image in turn, groups in turn, lanes last. Oracle: the naive loops
// of tests/autodiff/op_table.hpp.

/// The sum over i in [0, n) of what `term(i, sum)` adds to its second argument: four sums side by side (to hide the
/// latency of the addition), drained every 1024 elements (so that rounding does not grow with n).
template <class P, class Term>
PAVISE_INLINE P sum_of(std::int64_t n, P zero, const Term& term) {
  P total = zero;
  for (std::int64_t begin = 0; begin < n; begin += 1024) {
    const std::int64_t end = std::min<std::int64_t>(n, begin + 1024);
    P s[4] = {zero, zero, zero, zero};
    std::int64_t i = begin;
    for (; i + 4 <= end; i += 4) {
#pragma GCC unroll 4
      for (int k = 0; k < 4; ++k) {
        s[k] = term(i + k, s[k]);
      }
    }
    for (; i < end; ++i) {
      s[0] = term(i, s[0]);
    }
    total = total + ((s[0] + s[1]) + (s[2] + s[3]));
  }
  return total;
}

/// Adds the first `valid` lanes of a group's sum to `total`, in double.
template <class T>
PAVISE_LANES void add_lanes(double& total, Pack<T, 16> sum, std::int64_t valid) {
  alignas(64) T v[16];
  sum.store(v);
  for (std::int64_t lane = 0; lane < std::min<std::int64_t>(valid, 16); ++lane) {
    total += static_cast<double>(v[lane]);
  }
}
template <class T>
PAVISE_LANES void add_lanes(double& total, Pack<T, 1> sum, std::int64_t) {
  total += static_cast<double>(sum.v);
}

/// All bits set in the lanes that hold an image.
template <class T, int L>
PAVISE_LANES Mask<T, L> valid_lanes(std::int64_t valid) {
  alignas(64) IntegerOf<T> v[L];
  for (int lane = 0; lane < L; ++lane) {
    v[lane] = lane < valid ? -1 : 0;
  }
  return Mask<T, L>::load(v);
}

template <class T, int L>
PAVISE_LANES void channel_sum_lanes(const ChannelView& view, const T* x, double& sum) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  for (std::int64_t g = 0; g < view.groups; ++g) {
    const T* p = x + g * view.step;
    const P s = sum_of(
        view.positions,
        zero, [&](std::int64_t i, P a) __attribute__((always_inline)) { return a + P::load(p + i * L); });
    add_lanes(sum, s, view.images - g * L);
  }
}

template <class T, int L>
PAVISE_LANES void channel_squares_lanes(const ChannelView& view, const T* x, T mean, double& squares) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P m = P::broadcast(mean);
  for (std::int64_t g = 0; g < view.groups; ++g) {
    const T* p = x + g * view.step;
    const P s = sum_of(
        view.positions, zero, [&](std::int64_t i, P a) __attribute__((always_inline)) {
          const P d = P::load(p + i * L) - m;
          return fma(d, d, a);
        });
    add_lanes(squares, s, view.images - g * L);
  }
}

/// sum += the sum of a channel's elements over the images of a pass: x of group g at x + g*step, (positions)[lanes].
template <class T>
void channel_sum(Tag, const ChannelView& view, const T* x, int lanes, double& sum) {
  lanes == 16 ? channel_sum_lanes<T, 16>(view, x, sum) : channel_sum_lanes<T, 1>(view, x, sum);
}

/// squares += the sum of (x - mean)^2 over the same elements.
template <class T>
void channel_squares(Tag, const ChannelView& view, const T* x, T mean, int lanes, double& squares) {
  lanes == 16 ? channel_squares_lanes<T, 16>(view, x, mean, squares)
              : channel_squares_lanes<T, 1>(view, x, mean, squares);
}

/// Adds the sums over a channel of dy, and of dy * (x - mean).
template <class T>
void channel_gradient_sums(Tag, const ChannelView& view, const T* x, const T* dy, T mean, int lanes, double& sum_dy,
                           double& sum_dy_x) {
  const auto sums = [&](auto width) {
    constexpr int L = width();
    using P = Pack<T, L>;
    const P zero = P::broadcast(T{0});
    const P m = P::broadcast(mean);
    for (std::int64_t g = 0; g < view.groups; ++g) {
      const T* p = x + g * view.step;
      const T* d = dy + g * view.step;
      add_lanes(sum_dy,
                sum_of(
                    view.positions,
                    zero, [&](std::int64_t i, P a) __attribute__((always_inline)) { return a + P::load(d + i * L); }),
                view.images - g * L);
      add_lanes(sum_dy_x,
                sum_of(
                    view.positions, zero,
                    [&](std::int64_t i, P a)
                        __attribute__((always_inline)) { return fma(P::load(d + i * L), P::load(p + i * L) - m, a); }),
                view.images - g * L);
    }
  };
  lanes == 16 ? sums(std::integral_constant<int, 16>{}) : sums(std::integral_constant<int, 1>{});
}

template <class T, int L>
PAVISE_LANES void affine_lanes(const T* x, T* y, std::int64_t n, T mean, T scale, T shift, bool relu) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P m = P::broadcast(mean);
  const P a = P::broadcast(scale);
  const P b = P::broadcast(shift);
  for (std::int64_t i = 0; i < n; ++i) {
    const P v = fma(P::load(x + i * L) - m, a, b);
    (relu ? max(zero, v) : v).store(y + i * L);
  }
}

/// y = (x - mean) * scale + shift for one channel of one group, and max(0, .) of it where asked for.
template <class T>
void channel_affine(Tag, const T* x, T* y, std::int64_t positions, T mean, T scale, T shift, bool relu, int lanes) {
  // Every lane has the same factors: one image's positions can be the vector.
  if (lanes == 16) {
    affine_lanes<T, 16>(x, y, positions, mean, scale, shift, relu);
    return;
  }
  affine_lanes<T, 16>(x, y, positions / 16, mean, scale, shift, relu);
  affine_lanes<T, 1>(x + positions / 16 * 16, y + positions / 16 * 16, positions % 16, mean, scale, shift, relu);
}

template <class T, int L>
PAVISE_LANES void channel_backward_lanes(const T* x, const T* dy, T* dx, std::int64_t n, T mean, T a, T b, T c,
                                         bool accumulate, const T* mask, std::int64_t valid) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const P m = P::broadcast(mean);
  const P pa = P::broadcast(a);
  const P pb = P::broadcast(b);
  const P pc = P::broadcast(c);
  const auto lanes = valid_lanes<T, L>(valid);
  for (std::int64_t i = 0; i < n; ++i) {
    const P rest = x != nullptr ? fma(pb, P::load(x + i * L) - m, pc) : pc;
    P d = select(lanes, fma(pa, P::load(dy + i * L), rest), zero);
    if (mask != nullptr) {
      d = select(P::load(mask + i * L) > zero, d, zero);
    }
    if (accumulate) {
      d = d + P::load(dx + i * L);
    }
    d.store(dx + i * L);
  }
}
/// dx = a*dy + b*(x - mean) + c for one channel of one group, stored or added; 0 in lanes from `valid` on and where
/// `mask` (as dx, or null) is not positive. Without `x` the middle term is left out.
template <class T>
void channel_backward(Tag, const T* x, const T* dy, T* dx, std::int64_t positions, T mean, T a, T b, T c,
                      bool accumulate, const T* mask, std::int64_t valid, int lanes) {
  if (lanes == 16) {
    channel_backward_lanes<T, 16>(x, dy, dx, positions, mean, a, b, c, accumulate, mask, valid);
    return;
  }
  const std::int64_t at = positions / 16 * 16;
  channel_backward_lanes<T, 16>(x, dy, dx, at / 16, mean, a, b, c, accumulate, mask, 16);
  channel_backward_lanes<T, 1>(x != nullptr ? x + at : nullptr, dy + at, dx + at, positions - at, mean, a, b, c,
                               accumulate, mask != nullptr ? mask + at : nullptr, 1);
}

/// 1 / sqrt(variance + epsilon)
PAVISE_LANES double inverse_deviation(Tag, double variance, double epsilon) {
  return 1.0 / __builtin_sqrt(variance + epsilon);
}

/// inverse * gamma: what a channel is scaled by.
template <class T>
PAVISE_LANES T channel_scale(Tag, double inverse, T gamma) {
  return static_cast<T>(inverse * static_cast<double>(gamma));
}

/// dgamma += sum_dy_x * inverse and dbeta += sum_dy of one channel; either may be null.
template <class T>
PAVISE_LANES void add_channel_gradients(Tag, double sum_dy, double sum_dy_x, double inverse, T* dgamma, T* dbeta) {
  if (dgamma != nullptr) {
    *dgamma = static_cast<T>(__builtin_fma(sum_dy_x, inverse, static_cast<double>(*dgamma)));
  }
  if (dbeta != nullptr) {
    *dbeta += static_cast<T>(sum_dy);
  }
}

/// The factors of a batch normalisation's derivative with respect to x, from the sums of channel_gradient_sums over
/// `count` elements: dx = a*dy + b*(x - mean) + c.
template <class T>
PAVISE_LANES void batch_norm_factors(Tag, double sum_dy, double sum_dy_x, double count, double inverse, double gamma,
                                     T& a, T& b, T& c) {
  const double scale = gamma * inverse;
  a = static_cast<T>(scale);
  b = static_cast<T>(-(scale * inverse * inverse * (sum_dy_x / count)));
  c = static_cast<T>(-(scale * (sum_dy / count)));
}

/// running + momentum * (value - running): the exponential mean of PyTorch's batch normalisation.
template <class T>
PAVISE_LANES T running_value(Tag, T running, double value, double momentum) {
  return static_cast<T>(__builtin_fma(momentum, value - static_cast<double>(running), static_cast<double>(running)));
}

template <class T, int L>
PAVISE_LANES void row_norm_lanes(const RowNorm& n, const T* x, T* y, const T* gamma, const T* beta, T epsilon,
                                 bool relu, T* mean, T* inverse) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const std::int64_t size = n.blocks * n.positions;
  const P count = P::broadcast(static_cast<T>(size));
  for (std::int64_t r = 0; r < n.rows; ++r, x += size * L, y += size * L) {
    const P m =
        sum_of(
            size, zero, [&](std::int64_t i, P a) __attribute__((always_inline)) { return a + P::load(x + i * L); }) /
        count;
    const P variance = sum_of(
                           size, zero,
                           [&](std::int64_t i, P a) __attribute__((always_inline)) {
                             const P d = P::load(x + i * L) - m;
                             return fma(d, d, a);
                           }) /
                       count;
    const P inv = P::broadcast(T{1}) / sqrt(variance + P::broadcast(epsilon));
    m.store(mean + r * L);
    inv.store(inverse + r * L);
    for (std::int64_t b = 0; b < n.blocks; ++b) {
      const std::int64_t k = r * n.row_parameters + b;
      const P scale = gamma != nullptr ? inv * P::broadcast(gamma[k]) : inv;
      const P shift = beta != nullptr ? P::broadcast(beta[k]) : zero;
      for (std::int64_t i = b * n.positions; i < (b + 1) * n.positions; ++i) {
        const P v = fma(P::load(x + i * L) - m, scale, shift);
        (relu ? max(zero, v) : v).store(y + i * L);
      }
    }
  }
}

/// y = (x - mean) / sqrt(variance + epsilon) * gamma + beta with each row's own mean and variance, for one group. Null
/// gamma is 1, null beta 0. mean, inverse: (rows)[lanes], for backward.
template <class T>
void row_norm(Tag, const RowNorm& n, const T* x, T* y, const T* gamma, const T* beta, T epsilon, bool relu, T* mean,
              T* inverse, int lanes) {
  lanes == 16 ? row_norm_lanes<T, 16>(n, x, y, gamma, beta, epsilon, relu, mean, inverse)
              : row_norm_lanes<T, 1>(n, x, y, gamma, beta, epsilon, relu, mean, inverse);
}

template <class T, int L>
PAVISE_LANES void row_norm_backward_lanes(const RowNorm& n, const T* x, const T* dy, const T* gamma, const T* mean,
                                          const T* inverse, T* dx, bool accumulate, const T* mask) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  const std::int64_t size = n.blocks * n.positions;
  const P count = P::broadcast(static_cast<T>(size));
  for (std::int64_t r = 0; r < n.rows; ++r) {
    const P m = P::load(mean + r * L);
    const P inv = P::load(inverse + r * L);
    P s1 = zero;  // sums of dy*gamma and dy*gamma*(x - mean)
    P s2 = zero;
    for (std::int64_t b = 0; b < n.blocks; ++b) {
      const P g = P::broadcast(gamma != nullptr ? gamma[r * n.row_parameters + b] : T{1});
      P t1 = zero;
      P t2 = zero;
      for (std::int64_t i = b * n.positions; i < (b + 1) * n.positions; ++i) {
        const P d = P::load(dy + i * L);
        t1 = t1 + d;
        t2 = fma(d, P::load(x + i * L) - m, t2);
      }
      s1 = fma(g, t1, s1);
      s2 = fma(g, t2, s2);
    }
    const P shift = -(inv * (s1 / count));
    const P slope = -(inv * inv * inv * (s2 / count));
    for (std::int64_t b = 0; b < n.blocks; ++b) {
      const P scale = gamma != nullptr ? inv * P::broadcast(gamma[r * n.row_parameters + b]) : inv;
      for (std::int64_t i = b * n.positions; i < (b + 1) * n.positions; ++i) {
        P d = fma(scale, P::load(dy + i * L), fma(slope, P::load(x + i * L) - m, shift));
        if (mask != nullptr) {
          d = select(P::load(mask + i * L) > zero, d, zero);
        }
        if (accumulate) {
          d = d + P::load(dx + i * L);
        }
        d.store(dx + i * L);
      }
    }
    x += size * L;
    dy += size * L;
    dx += size * L;
    mask = mask != nullptr ? mask + size * L : nullptr;
  }
}

/// The derivative of row_norm with respect to x, for one group.
template <class T>
void row_norm_backward(Tag, const RowNorm& n, const T* x, const T* dy, const T* gamma, const T* mean, const T* inverse,
                       T* dx, bool accumulate, const T* mask, int lanes) {
  lanes == 16 ? row_norm_backward_lanes<T, 16>(n, x, dy, gamma, mean, inverse, dx, accumulate, mask)
              : row_norm_backward_lanes<T, 1>(n, x, dy, gamma, mean, inverse, dx, accumulate, mask);
}

/// Adds the sums of dy*(x - mean)*inverse and of dy over all images and the elements that parameter k scales. x, dy:
/// [group][size][16].
template <class T>
void row_norm_parameters(Tag, const RowNorm& n, const T* x, const T* dy, const T* mean, const T* inverse,
                         std::int64_t groups, std::int64_t images, std::int64_t k, double& sum_gamma,
                         double& sum_beta) {
  using P = Pack<T, 16>;
  const P zero = P::broadcast(T{0});
  const std::int64_t first = n.row_parameters > 0 ? k / n.row_parameters : 0;
  const std::int64_t last = n.row_parameters > 0 ? first + 1 : n.rows;
  const std::int64_t block = n.row_parameters > 0 ? k % n.row_parameters : k;
  const std::int64_t size = n.blocks * n.positions;
  for (std::int64_t g = 0; g < groups; ++g) {
    P s1 = zero;
    P s2 = zero;
    for (std::int64_t r = first; r < last; ++r) {
      const P m = P::load(mean + (g * n.rows + r) * 16);
      const P inv = P::load(inverse + (g * n.rows + r) * 16);
      P t = zero;
      const std::int64_t at = (g * n.rows + r) * size + block * n.positions;
      for (std::int64_t i = at; i < at + n.positions; ++i) {
        const P d = P::load(dy + i * 16);
        s1 = s1 + d;
        t = fma(d, P::load(x + i * 16) - m, t);
      }
      s2 = fma(t, inv, s2);
    }
    add_lanes(sum_beta, s1, images - g * 16);
    add_lanes(sum_gamma, s2, images - g * 16);
  }
}
