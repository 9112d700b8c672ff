// SPDX-License-Identifier: MIT
// Packs of lanes: `Pack<T, 16>` is one value of each image of a group, held in as many registers as it takes; `Pack<T,
// 1>` is the value of a single image. Arithmetic is lane by lane and the same in every lane. A comparison gives a Pack
// of integers (all bits set or none) for `select`.

template <class T, int L>
struct Pack;

template <class T>
using IntegerOf = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

template <class T>
struct VectorOf {
  typedef T type __attribute__((vector_size(kRegisterBytes)));
  typedef T unaligned __attribute__((vector_size(kRegisterBytes), aligned(alignof(T)), may_alias));
};

/// A pack in registers. `kCount` registers of `kWidth` lanes.
template <class T, int L>
struct Pack {
  using V = typename VectorOf<T>::type;
  static constexpr int kWidth = kRegisterBytes / static_cast<int>(sizeof(T));
  static constexpr int kCount = L / kWidth;
  static_assert(L % kWidth == 0);
  V r[kCount];

  using Unaligned = typename VectorOf<T>::unaligned;
  [[gnu::always_inline]] static V load_register(const T* p) { return *reinterpret_cast<const Unaligned*>(p); }
  [[gnu::always_inline]] static void store_register(T* p, V v) { *reinterpret_cast<Unaligned*>(p) = v; }

  [[gnu::always_inline]] static Pack load(const T* p) {
    if constexpr (kCount == 1) {
      return {{load_register(p)}};
    } else if constexpr (kCount == 2) {
      return {{load_register(p), load_register(p + kWidth)}};
    } else {
      Pack out;
      for (int i = 0; i < kCount; ++i) {
        out.r[i] = load_register(p + i * kWidth);
      }
      return out;
    }
  }
  [[gnu::always_inline]] static Pack broadcast(T value) {
    const V v = value - V{};
    if constexpr (kCount == 1) {
      return {{v}};
    } else if constexpr (kCount == 2) {
      return {{v, v}};
    } else {
      Pack out;
      for (int i = 0; i < kCount; ++i) {
        out.r[i] = v;
      }
      return out;
    }
  }
  [[gnu::always_inline]] void store(T* p) const {
    if constexpr (kCount == 1) {
      store_register(p, r[0]);
    } else if constexpr (kCount == 2) {
      store_register(p, r[0]);
      store_register(p + kWidth, r[1]);
    } else {
      for (int i = 0; i < kCount; ++i) {
        store_register(p + i * kWidth, r[i]);
      }
    }
  }
  [[gnu::always_inline]] T get(int lane) const { return r[lane / kWidth][lane % kWidth]; }
};

template <class T>
struct Pack<T, 1> {
  T v;
  [[gnu::always_inline]] static Pack load(const T* p) { return {*p}; }
  [[gnu::always_inline]] static Pack broadcast(T value) { return {value}; }
  [[gnu::always_inline]] void store(T* p) const { *p = v; }
  [[gnu::always_inline]] T get(int) const { return v; }
};

/// Applies f to each register of the packs. Written out for the usual counts: loops that only the optimiser unrolls make
/// every program compile slowly.
template <class R, class F, class T, int L, class... Rest>
PAVISE_REGISTERS_INLINE inline R map_registers(const F& f, const Pack<T, L>& a, const Rest&... rest) {
  if constexpr (Pack<T, L>::kCount == 1) {
    return R{{f(a.r[0], rest.r[0]...)}};
  } else if constexpr (Pack<T, L>::kCount == 2) {
    return R{{f(a.r[0], rest.r[0]...), f(a.r[1], rest.r[1]...)}};
  } else {
    R out;
    for (int i = 0; i < Pack<T, L>::kCount; ++i) {
      out.r[i] = f(a.r[i], rest.r[i]...);
    }
    return out;
  }
}
#undef PAVISE_REGISTERS_INLINE

/// Applies f to each register, or to the one scalar, of the packs.
template <class R, class F, class T, int L, class... Rest>
[[gnu::always_inline]] inline R map_pack(const F& f, const Pack<T, L>& a, const Rest&... rest) {
  if constexpr (L == 1) {
    return R{f(a.v, rest.v...)};
  } else {
    return map_registers<R>(f, a, rest...);
  }
}

template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> operator+(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x + y; }, a, b);
}
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> operator-(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x - y; }, a, b);
}
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> operator*(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x * y; }, a, b);
}
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> operator/(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x / y; }, a, b);
}
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> operator-(Pack<T, L> a) {
  return map_pack<Pack<T, L>>(
      [](auto x) __attribute__((always_inline)) { return -x; }, a);
}
/// a*b + c, rounded once.
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> fma(Pack<T, L> a, Pack<T, L> b, Pack<T, L> c) {
  if constexpr (L == 1) {
    if constexpr (std::is_same_v<T, float>) {
      return {__builtin_fmaf(a.v, b.v, c.v)};
    } else {
      return {__builtin_fma(a.v, b.v, c.v)};
    }
  } else {
    return map_pack<Pack<T, L>>(
        [](auto x, auto y, auto z) __attribute__((always_inline)) { return register_fma<T>(x, y, z); }, a, b, c);
  }
}
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> fma(Pack<T, L> a, T b, Pack<T, L> c) {
  return fma(a, Pack<T, L>::broadcast(b), c);
}
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> sqrt(Pack<T, L> a) {
  if constexpr (L == 1) {
    return {static_cast<T>(__builtin_sqrt(static_cast<double>(a.v)))};
  } else {
    return map_pack<Pack<T, L>>(
        [](auto x) __attribute__((always_inline)) { return register_sqrt<T>(x); }, a);
  }
}
/// The larger of the two; b where either is NaN.
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> max(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x > y ? x : y; }, a, b);
}
/// The smaller of the two; b where either is NaN.
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> min(Pack<T, L> a, Pack<T, L> b) {
  return map_pack<Pack<T, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x < y ? x : y; }, a, b);
}

/// All bits of a lane set where the comparison holds, none elsewhere.
template <class T, int L>
using Mask = Pack<IntegerOf<T>, L>;

template <class T, int L>
[[gnu::always_inline]] inline Mask<T, L> operator>(Pack<T, L> a, Pack<T, L> b) {
  if constexpr (L == 1) {
    return {a.v > b.v ? IntegerOf<T>{-1} : IntegerOf<T>{0}};
  } else {
    return map_pack<Mask<T, L>>(
        [](auto x, auto y) __attribute__((always_inline)) { return x > y; }, a, b);
  }
}
template <class T, int L>
[[gnu::always_inline]] inline Mask<T, L> operator<(Pack<T, L> a, Pack<T, L> b) {
  return b > a;
}
template <class T, int L>
[[gnu::always_inline]] inline Mask<T, L> equal(Pack<T, L> a, Pack<T, L> b) {
  if constexpr (L == 1) {
    return {a.v == b.v ? IntegerOf<T>{-1} : IntegerOf<T>{0}};
  } else {
    return map_pack<Mask<T, L>>(
        [](auto x, auto y) __attribute__((always_inline)) { return x == y; }, a, b);
  }
}
/// a where the mask is set, b elsewhere.
template <class I, class T, int L>
[[gnu::always_inline]] inline Pack<T, L> select(Pack<I, L> mask, Pack<T, L> a, Pack<T, L> b) {
  static_assert(sizeof(I) == sizeof(T));
  return map_pack<Pack<T, L>>(
      [](auto m, auto x, auto y) __attribute__((always_inline)) { return m ? x : y; }, mask, a, b);
}
/// The same bits as another type of the same size.
template <class U, class T, int L>
[[gnu::always_inline]] inline Pack<U, L> bits(Pack<T, L> a) {
  static_assert(sizeof(U) == sizeof(T));
  if constexpr (L == 1) {
    return {std::bit_cast<U>(a.v)};
  } else {
    return map_pack<Pack<U, L>>(
        [](auto x) __attribute__((always_inline)) { return (typename VectorOf<U>::type)x; }, a);
  }
}
/// The values converted to another type of the same size; float to integer truncates.
template <class U, class T, int L>
[[gnu::always_inline]] inline Pack<U, L> convert(Pack<T, L> a) {
  static_assert(sizeof(U) == sizeof(T));
  if constexpr (L == 1) {
    return {static_cast<U>(a.v)};
  } else {
    return map_pack<Pack<U, L>>(
        [](auto x) __attribute__((always_inline)) { return __builtin_convertvector(x, typename VectorOf<U>::type); },
        a);
  }
}
template <class I, int L>
[[gnu::always_inline]] inline Pack<I, L> operator&(Pack<I, L> a, Pack<I, L> b) {
  return map_pack<Pack<I, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x & y; }, a, b);
}
template <class I, int L>
[[gnu::always_inline]] inline Pack<I, L> operator|(Pack<I, L> a, Pack<I, L> b) {
  return map_pack<Pack<I, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x | y; }, a, b);
}
template <class I, int L>
[[gnu::always_inline]] inline Pack<I, L> operator^(Pack<I, L> a, Pack<I, L> b) {
  return map_pack<Pack<I, L>>(
      [](auto x, auto y) __attribute__((always_inline)) { return x ^ y; }, a, b);
}
template <class I, int L>
[[gnu::always_inline]] inline Pack<I, L> operator<<(Pack<I, L> a, int n) {
  return map_pack<Pack<I, L>>(
      [n](auto x) __attribute__((always_inline)) { return x << n; }, a);
}
template <class I, int L>
[[gnu::always_inline]] inline Pack<I, L> operator>>(Pack<I, L> a, int n) {
  return map_pack<Pack<I, L>>(
      [n](auto x) __attribute__((always_inline)) { return x >> n; }, a);
}

/// |a|
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> abs(Pack<T, L> a) {
  using I = IntegerOf<T>;
  return bits<T>(bits<I>(a) & Pack<I, L>::broadcast(std::numeric_limits<I>::max()));
}
/// +1, -1, or 0 where a is 0 or NaN.
template <class T, int L>
[[gnu::always_inline]] inline Pack<T, L> sign(Pack<T, L> a) {
  const auto zero = Pack<T, L>::broadcast(T{0});
  const auto one = Pack<T, L>::broadcast(T{1});
  return select(a > zero, one, select(zero > a, -one, zero));
}
/// Sum over the lanes, in an order that no register width changes: halves are added until one lane is left.
template <class T, int L>
[[gnu::always_inline]] inline T sum_lanes(Pack<T, L> a) {
  if constexpr (L == 1) {
    return a.v;
  } else {
    alignas(64) T v[L];
    a.store(v);
    for (int half = L / 2; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) {
        v[i] += v[i + half];
      }
    }
    return v[0];
  }
}
/// The same function of every lane, by scalar calls: for double, where exactness matters and speed does not.
template <class F, class T, int L>
[[gnu::always_inline]] inline Pack<T, L> lane_by_lane(const F& f, Pack<T, L> a) {
  alignas(64) T v[L];
  a.store(v);
  for (int i = 0; i < L; ++i) {
    v[i] = f(v[i]);
  }
  return Pack<T, L>::load(v);
}
