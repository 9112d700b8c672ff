// SPDX-License-Identifier: MIT
// Included inside each instruction set's namespace, after its kernels: every operator of a pack against the scalar one.
// `wrong(name, lane)` is called for each lane whose bits differ.

template <class T, int L, class Wrong>
inline void test_pack(const T* a, const T* b, const T* c, const Wrong& wrong) {
  using P = Pack<T, L>;
  using I = IntegerOf<T>;
  const auto same = [&](const char* name, Pack<T, L> got, auto scalar) {
    T v[L];
    got.store(v);
    for (int i = 0; i < L; ++i) {
      const T expected = scalar(i);
      if (std::memcmp(&v[i], &expected, sizeof(T)) != 0) {
        wrong(name, i);
      }
    }
  };
  const auto mask = [&](const char* name, Pack<I, L> got, auto scalar) {
    I v[L];
    got.store(v);
    for (int i = 0; i < L; ++i) {
      if (v[i] != (scalar(i) ? I{-1} : I{0})) {
        wrong(name, i);
      }
    }
  };
  const P x = P::load(a);
  const P y = P::load(b);
  const P z = P::load(c);
  same("load", x, [&](int i) { return a[i]; });
  same("broadcast", P::broadcast(a[0]), [&](int) { return a[0]; });
  same("+", x + y, [&](int i) { return a[i] + b[i]; });
  same("-", x - y, [&](int i) { return a[i] - b[i]; });
  same("*", x * y, [&](int i) { return a[i] * b[i]; });
  same("/", x / y, [&](int i) { return a[i] / b[i]; });
  same("negation", -x, [&](int i) { return -a[i]; });
  same("fma", fma(x, y, z), [&](int i) { return static_cast<T>(std::fma(a[i], b[i], c[i])); });
  same("fma with a scalar", fma(x, b[0], z), [&](int i) { return static_cast<T>(std::fma(a[i], b[0], c[i])); });
  same("sqrt", sqrt(abs(x)), [&](int i) { return static_cast<T>(std::sqrt(std::abs(a[i]))); });
  same("abs", abs(x), [&](int i) { return static_cast<T>(std::abs(a[i])); });
  same("max", max(x, y), [&](int i) { return a[i] > b[i] ? a[i] : b[i]; });
  same("min", min(x, y), [&](int i) { return a[i] < b[i] ? a[i] : b[i]; });
  same("sign", sign(x), [&](int i) { return a[i] > 0 ? T{1} : a[i] < 0 ? T{-1} : T{0}; });
  same("select", select(x > y, x, z), [&](int i) { return a[i] > b[i] ? a[i] : c[i]; });
  same("get", x, [&](int i) { return x.get(i); });
  mask(">", x > y, [&](int i) { return a[i] > b[i]; });
  mask("<", x < y, [&](int i) { return a[i] < b[i]; });
  mask("equal", equal(x, y), [&](int i) { return a[i] == b[i]; });
  mask("&", (x > y) & (y > z), [&](int i) { return a[i] > b[i] && b[i] > c[i]; });
  mask("|", (x > y) | (y > z), [&](int i) { return a[i] > b[i] || b[i] > c[i]; });
  mask("^", (x > y) ^ (y > z), [&](int i) { return (a[i] > b[i]) != (b[i] > c[i]); });
  same("bits", bits<T>(bits<I>(x)), [&](int i) { return a[i]; });
  same("lane_by_lane", lane_by_lane([](T v) { return v + 1; }, x), [&](int i) { return a[i] + 1; });
  const auto integers = convert<I>(Pack<T, L>::broadcast(T{-7}) * P::broadcast(T{0.5}));
  I v[L];
  integers.store(v);
  for (int i = 0; i < L; ++i) {
    if (v[i] != -3) {
      wrong("convert to integer", i);
    }
  }
  same("convert to floating point", convert<T>(integers), [&](int) { return T{-3}; });
  (integers << 3).store(v);
  for (int i = 0; i < L; ++i) {
    if (v[i] != -24) {
      wrong("<<", i);
    }
  }
  (integers >> 1).store(v);
  for (int i = 0; i < L; ++i) {
    if (v[i] != -2) {
      wrong(">>", i);
    }
  }
}

/// As many values of f as there are in x; the function by its number.
template <int L>
inline void evaluate_math(int function, const float* x, float* y) {
  using P = Pack<float, L>;
  const P v = P::load(x);
  (function == 0 ? exp(v) : log(v)).store(y);
}
template <int L>
inline void evaluate_turn(const std::uint32_t* word, float* c, float* s) {
  Pack<float, L> cosine, sine;
  cos_sin_turn<L>(Pack<std::uint32_t, L>::load(word), cosine, sine);
  cosine.store(c);
  sine.store(s);
}
template <int L>
inline void evaluate_philox(std::uint32_t (&counter)[4], std::uint64_t seed) {
  using U = Pack<std::uint32_t, L>;
  U c[4];
  for (int i = 0; i < 4; ++i) {
    c[i] = U::broadcast(counter[i]);
  }
  philox<L>(c, seed);
  for (int i = 0; i < 4; ++i) {
    counter[i] = c[i].get(L - 1);
  }
}

template <class Wrong>
void test_packs(Tag, const float* f, const double* d, const Wrong& wrong) {
  test_pack<float, 16>(f, f + 16, f + 32, wrong);
  test_pack<float, 1>(f, f + 16, f + 32, wrong);
  test_pack<double, 16>(d, d + 16, d + 32, wrong);
  test_pack<double, 1>(d, d + 16, d + 32, wrong);
}
inline void test_math(Tag, int function, int lanes, const float* x, float* y) {
  lanes == 16 ? evaluate_math<16>(function, x, y) : evaluate_math<1>(function, x, y);
}
inline void test_turn(Tag, int lanes, const std::uint32_t* word, float* c, float* s) {
  lanes == 16 ? evaluate_turn<16>(word, c, s) : evaluate_turn<1>(word, c, s);
}
inline void test_philox(Tag, int lanes, std::uint32_t (&counter)[4], std::uint64_t seed) {
  lanes == 16 ? evaluate_philox<16>(counter, seed) : evaluate_philox<1>(counter, seed);
}
inline float test_sum(Tag, const float* x) { return sum_lanes(Pack<float, 16>::load(x)); }
