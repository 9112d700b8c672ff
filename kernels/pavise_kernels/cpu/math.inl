// SPDX-License-Identifier: MIT
// exp, log and sine/cosine of packs. Float: own polynomials, so that every instruction set gives the same bits (errors
// are those of the tests: below 2 units in the last place for exp and log). Double: the C library, lane by lane.

/// 2^k for integers k in [-126, 127].
template <int L>
PAVISE_INLINE Pack<float, L> power_of_two(Pack<std::int32_t, L> k) {
  return bits<float>((k + Pack<std::int32_t, L>::broadcast(127)) << 23);
}

/// e^x. Below -87.3 the result is 0 where e^x would be denormal; above 88.7 it is infinity; NaN stays NaN.
template <class T, int L>
PAVISE_INLINE Pack<T, L> exp(Pack<T, L> x) {
  if constexpr (std::is_same_v<T, double>) {
    return lane_by_lane([](double v) { return std::exp(v); }, x);
  } else {
    using P = Pack<float, L>;
    const P low = P::broadcast(-87.33654f);
    const P high = P::broadcast(88.72283f);
    const P clamped = min(max(x, low), high);
    // x = k ln 2 + r, |r| <= ln 2 / 2; k is rounded by adding and subtracting 1.5 * 2^23.
    const P magic = P::broadcast(12582912.0f);
    const P k = fma(clamped, 1.44269504088896341f, magic) - magic;
    P r = fma(k, -0.693359375f, clamped);
    r = fma(k, 2.12194440e-4f, r);
    P p = P::broadcast(1.9875691500e-4f);
    p = fma(p, r, P::broadcast(1.3981999507e-3f));
    p = fma(p, r, P::broadcast(8.3334519073e-3f));
    p = fma(p, r, P::broadcast(4.1665795894e-2f));
    p = fma(p, r, P::broadcast(1.6666665459e-1f));
    p = fma(p, r, P::broadcast(5.0000001201e-1f));
    p = fma(p, r * r, r + P::broadcast(1.0f));
    // Two factors, since 2^128 does not fit: k = 128 is halved.
    const auto ki = convert<std::int32_t>(k);
    const auto half = ki >> 1;
    P y = p * power_of_two<L>(half) * power_of_two<L>(ki - half);
    y = select(x < low, P::broadcast(0.0f), y);
    y = select(x > high, P::broadcast(std::numeric_limits<float>::infinity()), y);
    return select(equal(x, x), y, x);
  }
}

/// ln x for x > 0; -infinity at 0, NaN below; denormal arguments count as 0.
template <class T, int L>
PAVISE_INLINE Pack<T, L> log(Pack<T, L> x) {
  if constexpr (std::is_same_v<T, double>) {
    return lane_by_lane([](double v) { return std::log(v); }, x);
  } else {
    using P = Pack<float, L>;
    using I = Pack<std::int32_t, L>;
    const I i = bits<std::int32_t>(x);
    P e = convert<float>((i >> 23) - I::broadcast(126));
    P m = bits<float>((i & I::broadcast(0x7fffff)) | I::broadcast(0x3f000000));  // in [0.5, 1)
    const P one = P::broadcast(1.0f);
    const auto small = m < P::broadcast(0.707106781f);
    e = select(small, e - one, e);
    m = select(small, m + m, m) - one;
    P p = P::broadcast(7.0376836292e-2f);
    p = fma(p, m, P::broadcast(-1.1514610310e-1f));
    p = fma(p, m, P::broadcast(1.1676998740e-1f));
    p = fma(p, m, P::broadcast(-1.2420140846e-1f));
    p = fma(p, m, P::broadcast(1.4249322787e-1f));
    p = fma(p, m, P::broadcast(-1.6668057665e-1f));
    p = fma(p, m, P::broadcast(2.0000714765e-1f));
    p = fma(p, m, P::broadcast(-2.4999993993e-1f));
    p = fma(p, m, P::broadcast(3.3333331174e-1f));
    const P z = m * m;
    p = p * m * z;
    p = fma(e, -2.12194440e-4f, p);
    p = fma(z, -0.5f, p);
    P y = fma(e, 0.693359375f, m + p);
    const P tiny = P::broadcast(1.17549435e-38f);
    const P infinity = P::broadcast(std::numeric_limits<float>::infinity());
    y = select(x < tiny,
               select(x < P::broadcast(0.0f), P::broadcast(std::numeric_limits<float>::quiet_NaN()), -infinity), y);
    y = select(equal(x, infinity), infinity, y);
    return select(equal(x, x), y, x);
  }
}

/// cos and sin of the angle 2 pi word / 2^32.
template <int L>
PAVISE_INLINE void cos_sin_turn(Pack<std::uint32_t, L> word, Pack<float, L>& cosine, Pack<float, L>& sine) {
  using P = Pack<float, L>;
  using U = Pack<std::uint32_t, L>;
  // The nearest multiple of a quarter turn, and the rest as a signed integer: exact.
  const U quadrant = (word + U::broadcast(0x20000000u)) >> 30;
  const P x = convert<float>(bits<std::int32_t>(word - (quadrant << 30))) * P::broadcast(1.46291807926715968e-9f);
  const P z = x * x;
  P s = fma(P::broadcast(-1.9515295891e-4f), z, P::broadcast(8.3321608736e-3f));
  s = fma(s, z, P::broadcast(-1.6666654611e-1f));
  s = fma(s * z, x, x);
  P c = fma(P::broadcast(2.443315711809948e-5f), z, P::broadcast(-1.388731625493765e-3f));
  c = fma(c, z, P::broadcast(4.166664568298827e-2f));
  c = fma(c * z, z, fma(z, -0.5f, P::broadcast(1.0f)));
  const auto swap = bits<std::int32_t>(quadrant << 31) >> 31;  // all ones for odd quadrants
  const P sine_part = select(swap, c, s);
  const P cosine_part = select(swap, s, c);
  const U sine_sign = (quadrant >> 1) << 31;
  const U cosine_sign = (quadrant ^ (quadrant >> 1)) << 31;
  sine = bits<float>(bits<std::uint32_t>(sine_part) ^ sine_sign);
  cosine = bits<float>(bits<std::uint32_t>(cosine_part) ^ cosine_sign);
}

/// log(a + b) for a, b >= 0, with what the rounding of the sum lost: log(1 + tiny) is tiny and not 0.
template <class T, int L>
PAVISE_INLINE Pack<T, L> log_of_sum(Pack<T, L> a, Pack<T, L> b) {
  const auto sum = a + b;
  const auto bb = sum - a;
  const auto lost = (a - (sum - bb)) + (b - bb);
  return log(sum) + lost / sum;
}

/// 1 / (1 + e^-x), within 4 units in the last place; 0 below -87.3 in float.
template <class T, int L>
PAVISE_INLINE Pack<T, L> sigmoid(Pack<T, L> x) {
  using P = Pack<T, L>;
  const P e = exp(-abs(x));
  const P s = P::broadcast(T{1}) / (P::broadcast(T{1}) + e);
  return select(x < P::broadcast(T{0}), e * s, s);
}

/// log(1 + e^x), within 4 units in the last place; 0 below -87.3 in float. NaN stays NaN.
template <class T, int L>
PAVISE_INLINE Pack<T, L> softplus(Pack<T, L> x) {
  using P = Pack<T, L>;
  const P zero = P::broadcast(T{0});
  return max(zero, x) + log_of_sum(P::broadcast(T{1}), exp(-abs(x)));
}

/// tanh x, within 3 units in the last place.
template <class T, int L>
PAVISE_INLINE Pack<T, L> tanh(Pack<T, L> x) {
  if constexpr (std::is_same_v<T, double>) {
    return lane_by_lane([](double v) { return std::tanh(v); }, x);
  } else {
    // |x| < 0.625: x + x z p(z) with z = x^2; p fitted for relative error (5e-9). Beyond: 1 - 2 / (e^2|x| + 1).
    using P = Pack<float, L>;
    const P z = x * x;
    P p = P::broadcast(-0.005660786293447018f);
    p = fma(p, z, P::broadcast(0.02060200460255146f));
    p = fma(p, z, P::broadcast(-0.05372922867536545f));
    p = fma(p, z, P::broadcast(0.13331328332424164f));
    p = fma(p, z, P::broadcast(-0.33333277702331543f));
    const P small = fma(p * z, x, x);
    const P a = abs(x);
    const P one = P::broadcast(1.0f);
    const P large = one - P::broadcast(2.0f) / (exp(a + a) + one);
    return select(a < P::broadcast(0.625f), small, select(x < P::broadcast(0.0f), -large, large));
  }
}

/// e^x - 1 for x <= 0, within 4 units in the last place.
template <class T, int L>
PAVISE_INLINE Pack<T, L> expm1_negative(Pack<T, L> x) {
  if constexpr (std::is_same_v<T, double>) {
    return lane_by_lane([](double v) { return std::expm1(v); }, x);
  } else {
    // x > -0.36: x + x^2 p(x), p fitted (2e-8). Beyond, nothing cancels.
    using P = Pack<float, L>;
    P p = P::broadcast(0.0013950994471088052f);
    p = fma(p, x, P::broadcast(0.008369208313524723f));
    p = fma(p, x, P::broadcast(0.041666217148303986f));
    p = fma(p, x, P::broadcast(0.1666652262210846f));
    p = fma(p, x, P::broadcast(0.5f));
    return select(x > P::broadcast(-0.36f), fma(p * x, x, x), exp(x) - P::broadcast(1.0f));
  }
}

/// P(N > a) of a standard normal N, for a >= 0; within 8 units in the last place, 0 above 13.2 in float. NaN stays NaN.
template <class T, int L>
PAVISE_INLINE Pack<T, L> normal_tail(Pack<T, L> a) {
  if constexpr (std::is_same_v<T, double>) {
    return lane_by_lane([](double v) { return 0.5 * std::erfc(v * 0.70710678118654752440); }, a);
  } else {
    // e^(-a^2/2) p(t) / (a + 1), t = (a-4)/(a+4); p fitted on [0, 13.4] for relative error (2e-9). The exponent is
    // formed with its rounding error, which e^ would magnify.
    using P = Pack<float, L>;
    const P four = P::broadcast(4.0f);
    const P t = (a - four) / (a + four);
    P p = P::broadcast(-7.054070010781288e-05f);
    p = fma(p, t, P::broadcast(-5.763211811427027e-05f));
    p = fma(p, t, P::broadcast(0.0006949438829906285f));
    p = fma(p, t, P::broadcast(-0.0003044892509933561f));
    p = fma(p, t, P::broadcast(-0.005005638115108013f));
    p = fma(p, t, P::broadcast(0.017940063029527664f));
    p = fma(p, t, P::broadcast(-0.03219706565141678f));
    p = fma(p, t, P::broadcast(0.028600020334124565f));
    p = fma(p, t, P::broadcast(0.01399958599358797f));
    p = fma(p, t, P::broadcast(-0.09670346975326538f));
    p = fma(p, t, P::broadcast(0.472053200006485f));
    const P half = a * P::broadcast(0.5f);
    const P square = half * a;
    const P lost = fma(half, a, -square);
    const P e = exp(-square);
    const P tail = fma(e, -lost, e) * p / (a + P::broadcast(1.0f));
    return select(a > P::broadcast(13.2f), P::broadcast(0.0f), tail);
  }
}

/// P(N <= x) of a standard normal N.
template <class T, int L>
PAVISE_INLINE Pack<T, L> normal_cdf(Pack<T, L> x) {
  using P = Pack<T, L>;
  const P tail = normal_tail(abs(x));
  return select(x > P::broadcast(T{0}), P::broadcast(T{1}) - tail, tail);
}

/// Density of a standard normal at x.
template <class T, int L>
PAVISE_INLINE Pack<T, L> normal_pdf(Pack<T, L> x) {
  return exp(x * Pack<T, L>::broadcast(T{-0.5}) * x) * Pack<T, L>::broadcast(static_cast<T>(0.39894228040143267794));
}

/// erf x, within 3 units in the last place.
template <class T, int L>
PAVISE_INLINE Pack<T, L> erf(Pack<T, L> x) {
  if constexpr (std::is_same_v<T, double>) {
    return lane_by_lane([](double v) { return std::erf(v); }, x);
  } else {
    // |x| < 1: x + x p(x^2), p fitted (1e-9). Beyond: 1 - 2 P(N > sqrt(2) |x|).
    using P = Pack<float, L>;
    const P z = x * x;
    P p = P::broadcast(7.853861461626366e-05f);
    p = fma(p, z, P::broadcast(-0.0008010193705558777f));
    p = fma(p, z, P::broadcast(0.005188327748328447f));
    p = fma(p, z, P::broadcast(-0.026853812858462334f));
    p = fma(p, z, P::broadcast(0.1128358542919159f));
    p = fma(p, z, P::broadcast(-0.3761262595653534f));
    p = fma(p, z, P::broadcast(0.12837916709551256f));
    const P a = abs(x);
    const P large = fma(normal_tail(a * P::broadcast(1.41421356237309505f)), -2.0f, P::broadcast(1.0f));
    return select(a < P::broadcast(1.0f), fma(p, x, x), select(x < P::broadcast(0.0f), -large, large));
  }
}

/// to = a*b, or to += a*b rounded once.
template <class T, int L>
PAVISE_INLINE void put_product(Pack<T, L> a, Pack<T, L> b, T* to, bool accumulate) {
  if (accumulate) {
    fma(a, b, Pack<T, L>::load(to)).store(to);
  } else {
    (a * b).store(to);
  }
}
