// SPDX-License-Identifier: MIT
// Functions of packs, lane by lane and the same in every lane. A comparison gives a Pack of integers (all bits set or
// none) for `select`. Shared by the instruction sets of the CPU and by the CUDA kernels, whose packs and elementary
// operations come before it.

/// Applies f to each register, or to the one scalar, of the packs.
template <class R, class F, class T, int L, class... Rest>
PAVISE_INLINE R map_pack(const F& f, const Pack<T, L>& a, const Rest&... rest) {
  if constexpr (kOneElement<L>) {
    return R{f(a.v, rest.v...)};
  } else {
    return map_registers<R>(f, a, rest...);
  }
}

template <class T, int L>
PAVISE_INLINE Pack<T, L> operator+(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x + y; }, a, b);
}
template <class T, int L>
PAVISE_INLINE Pack<T, L> operator-(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x - y; }, a, b);
}
template <class T, int L>
PAVISE_INLINE Pack<T, L> operator*(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x * y; }, a, b);
}
template <class T, int L>
PAVISE_INLINE Pack<T, L> operator/(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x / y; }, a, b);
}
template <class T, int L>
PAVISE_INLINE Pack<T, L> operator-(Pack<T, L> a) {
  return map_pack<Pack<T, L>>(
      [](auto x) __attribute__((always_inline)) { return -x; }, a);
}
/// a*b + c, rounded once.
template <class T, int L>
PAVISE_INLINE Pack<T, L> fma(Pack<T, L> a, Pack<T, L> b, Pack<T, L> c) {
  if constexpr (kOneElement<L>) {
    return {element_fma(a.v, b.v, c.v)};
  } else {
    return map_pack<Pack<T, L>>(
        [](auto x, auto y, auto z) __attribute__((always_inline)) { return register_fma<T>(x, y, z); }, a, b, c);
  }
}
template <class T, int L>
PAVISE_INLINE Pack<T, L> fma(Pack<T, L> a, T b, Pack<T, L> c) {
  return fma(a, Pack<T, L>::broadcast(b), c);
}
template <class T, int L>
PAVISE_INLINE Pack<T, L> sqrt(Pack<T, L> a) {
  if constexpr (kOneElement<L>) {
    return {element_sqrt(a.v)};
  } else {
    return map_pack<Pack<T, L>>(
        [](auto x) __attribute__((always_inline)) { return register_sqrt<T>(x); }, a);
  }
}
/// The larger of the two; b where either is NaN.
template <class T, int L>
PAVISE_INLINE Pack<T, L> max(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x > y ? x : y; }, a, b);
}
/// The smaller of the two; b where either is NaN.
template <class T, int L>
PAVISE_INLINE Pack<T, L> min(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x < y ? x : y; }, a, b);
}

/// All bits of a lane set where the comparison holds, none elsewhere.
template <class T, int L>
using Mask = Pack<IntegerOf<T>, L>;

template <class T, int L>
PAVISE_INLINE Mask<T, L> operator>(Pack<T, L> a, Pack<T, L> b) {
  if constexpr (kOneElement<L>) {
    return {a.v > b.v ? IntegerOf<T>{-1} : IntegerOf<T>{0}};
  } else {
    return map_pack<Mask<T, L>>(
        [](auto x, auto y) __attribute__((always_inline)) { return x > y; }, a, b);
  }
}
template <class T, int L>
PAVISE_INLINE Mask<T, L> operator<(Pack<T, L> a, Pack<T, L> b) {
  return b > a;
}
template <class T, int L>
PAVISE_INLINE Mask<T, L> equal(Pack<T, L> a, Pack<T, L> b) {
  if constexpr (kOneElement<L>) {
    return {a.v == b.v ? IntegerOf<T>{-1} : IntegerOf<T>{0}};
  } else {
    return map_pack<Mask<T, L>>(
        [](auto x, auto y) __attribute__((always_inline)) { return x == y; }, a, b);
  }
}
/// a where the mask is set, b elsewhere.
template <class I, class T, int L>
PAVISE_INLINE Pack<T, L> select(Pack<I, L> mask, Pack<T, L> a, Pack<T, L> b) {
  static_assert(sizeof(I) == sizeof(T));
  return map_pack<Pack<T, L>>(
      [](auto m, auto x, auto y) __attribute__((always_inline)) { return m ? x : y; }, mask, a, b);
}
/// The same bits as another type of the same size.
template <class U, class T, int L>
PAVISE_INLINE Pack<U, L> bits(Pack<T, L> a) {
  static_assert(sizeof(U) == sizeof(T));
  if constexpr (kOneElement<L>) {
    return {std::bit_cast<U>(a.v)};
  } else {
    return map_pack<Pack<U, L>>(
        [](auto x) __attribute__((always_inline)) { return (typename VectorOf<U>::type)x; }, a);
  }
}
/// The values converted to another type of the same size; float to integer truncates.
template <class U, class T, int L>
PAVISE_INLINE Pack<U, L> convert(Pack<T, L> a) {
  static_assert(sizeof(U) == sizeof(T));
  if constexpr (kOneElement<L>) {
    return {static_cast<U>(a.v)};
  } else {
    return map_pack<Pack<U, L>>(
        [](auto x) __attribute__((always_inline)) { return __builtin_convertvector(x, typename VectorOf<U>::type); },
        a);
  }
}
template <class I, int L>
PAVISE_INLINE Pack<I, L> operator&(Pack<I, L> a, Pack<I, L> b) {
  return map_pack<Pack<I, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x & y; }, a, b);
}
template <class I, int L>
PAVISE_INLINE Pack<I, L> operator|(Pack<I, L> a, Pack<I, L> b) {
  return map_pack<Pack<I, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x | y; }, a, b);
}
template <class I, int L>
PAVISE_INLINE Pack<I, L> operator^(Pack<I, L> a, Pack<I, L> b) {
  return map_pack<Pack<I, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x ^ y; }, a, b);
}
template <class I, int L>
PAVISE_INLINE Pack<I, L> operator<<(Pack<I, L> a, int n) {
  return map_pack<Pack<I, L>>(
      [n](auto x) __attribute__((always_inline)) { return x << n; }, a);
}
template <class I, int L>
PAVISE_INLINE Pack<I, L> operator>>(Pack<I, L> a, int n) {
  return map_pack<Pack<I, L>>(
      [n](auto x) __attribute__((always_inline)) { return x >> n; }, a);
}

/// |a|
template <class T, int L>
PAVISE_INLINE Pack<T, L> abs(Pack<T, L> a) {
  using I = IntegerOf<T>;
  return bits<T>(bits<I>(a) & Pack<I, L>::broadcast(std::numeric_limits<I>::max()));
}
/// +1, -1, or 0 where a is 0 or NaN.
template <class T, int L>
PAVISE_INLINE Pack<T, L> sign(Pack<T, L> a) {
  const auto zero = Pack<T, L>::broadcast(T{0});
  const auto one = Pack<T, L>::broadcast(T{1});
  return select(a > zero, one, select(zero > a, -one, zero));
}
