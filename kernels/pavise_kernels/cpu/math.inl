// SPDX-License-Identifier: MIT
// exp, log and sine/cosine of packs. Float: own polynomials, so that every instruction set gives the same bits (errors are
// those of the tests: below 2 units in the last place for exp and log). Double: the C library, lane by lane.

/// 2^k for integers k in [-126, 127].
template <int L>
[[gnu::always_inline]] inline Pack<float, L> power_of_two(Pack<std::int32_t, L> k) {
  return bits<float>((k + Pack<std::int32_t, L>::broadcast(127)) << 23);
}

/// e^x. Below -87.3 the result is 0 where e^x would be denormal; above 88.7 it is infinity; NaN stays NaN.
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> exp(Pack<T, L> x) {
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
[[gnu::always_inline]] inline Pack<T, L> log(Pack<T, L> x) {
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
    y = select(x < tiny, select(x < P::broadcast(0.0f), P::broadcast(std::numeric_limits<float>::quiet_NaN()), -infinity),
               y);
    y = select(equal(x, infinity), infinity, y);
    return select(equal(x, x), y, x);
  }
}

/// cos and sin of the angle 2 pi word / 2^32.
template <int L>
[[gnu::always_inline]] inline void cos_sin_turn(Pack<std::uint32_t, L> word, Pack<float, L>& cosine,
                                                Pack<float, L>& sine) {
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
