// SPDX-License-Identifier: MIT
// Packs of lanes: `Pack<T, 16>` is one value of each image of a group, held in as many registers as it takes; `Pack<T,
// 1>` is the value of a single image. What is done with packs stands in pack_functions.inl, which the CUDA kernels
// share: there a pack of 32 lanes is one register of a warp.

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

  /// From and to numbers of another type, lane by lane.
  template <class U>
  [[gnu::always_inline]] static Pack load_from(const U* p) {
    alignas(64) T v[L];
    for (int i = 0; i < L; ++i) {
      v[i] = static_cast<T>(p[i]);
    }
    return load(v);
  }
  template <class U>
  [[gnu::always_inline]] void store_to(U* p) const {
    if constexpr (std::is_same_v<T, U>) {
      store(p);
    } else {
      alignas(64) T v[L];
      store(v);
      for (int i = 0; i < L; ++i) {
        p[i] = static_cast<U>(v[i]);
      }
    }
  }
};

template <class T>
struct Pack<T, 1> {
  T v;
  [[gnu::always_inline]] static Pack load(const T* p) { return {*p}; }
  [[gnu::always_inline]] static Pack broadcast(T value) { return {value}; }
  [[gnu::always_inline]] void store(T* p) const { *p = v; }
  [[gnu::always_inline]] T get(int) const { return v; }
  template <class U>
  [[gnu::always_inline]] static Pack load_from(const U* p) {
    return {static_cast<T>(*p)};
  }
  template <class U>
  [[gnu::always_inline]] void store_to(U* p) const {
    *p = static_cast<U>(v);
  }
};

/// Whether a pack of L lanes is one element `v`, and not registers.
template <int L>
inline constexpr bool kOneElement = L == 1;

[[gnu::always_inline]] inline float element_fma(float a, float b, float c) { return __builtin_fmaf(a, b, c); }
[[gnu::always_inline]] inline double element_fma(double a, double b, double c) { return __builtin_fma(a, b, c); }
template <class T>
[[gnu::always_inline]] inline T element_sqrt(T a) {
  return static_cast<T>(__builtin_sqrt(static_cast<double>(a)));  // double then float rounds as sqrtf does
}

/// The lanes that the caller goes through where it takes them one by one: [first_lane, end_lane).
template <int L>
constexpr int first_lane() {
  return 0;
}
template <int L>
constexpr int end_lane() {
  return L;
}

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

/// Whether all lanes of a mask are set.
template <class I, int L>
[[gnu::always_inline]] inline bool all_set(Pack<I, L> mask) {
  alignas(64) I v[L];
  mask.store(v);
  I all = -1;
  for (int i = 0; i < L; ++i) {
    all &= v[i];
  }
  return all != 0;
}
/// Whether any lane of a mask is set.
template <class I, int L>
inline bool any_lane(Pack<I, L> mask) {
  alignas(64) I v[L];
  mask.store(v);
  I all = 0;
  for (int i = 0; i < L; ++i) {
    all |= v[i];
  }
  return all != 0;
}
