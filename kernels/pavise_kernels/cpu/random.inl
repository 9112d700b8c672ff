// SPDX-License-Identifier: MIT
// Random numbers for the lanes of a group: Philox4x32-10 and Box-Muller, sixteen at a time. Element e of an image is
// word e mod 4 of block floor(e/4) of the image's own sequence (core/philox.hpp), whichever lane the image is in.

template <int L>
PAVISE_INLINE void multiply_wide(Pack<std::uint32_t, L> a, std::uint32_t b, Pack<std::uint32_t, L>& high,
                                 Pack<std::uint32_t, L>& low) {
  if constexpr (kOneElement<L>) {
    const std::uint64_t p = std::uint64_t{a.v} * b;
    high.v = static_cast<std::uint32_t>(p >> 32);
    low.v = static_cast<std::uint32_t>(p);
  } else {
#pragma GCC unroll 8
    for (int i = 0; i < Pack<std::uint32_t, L>::kCount; ++i) {
      register_multiply_wide(a.r[i], b, high.r[i], low.r[i]);
    }
  }
}

/// Ten rounds of Philox4x32 on the counters c, in place.
template <int L>
PAVISE_INLINE void philox(Pack<std::uint32_t, L> (&c)[4], std::uint64_t seed) {
  using U = Pack<std::uint32_t, L>;
  std::uint32_t k0 = static_cast<std::uint32_t>(seed);
  std::uint32_t k1 = static_cast<std::uint32_t>(seed >> 32);
  for (int round = 0; round < 10; ++round) {
    U h0, l0, h1, l1;
    multiply_wide<L>(c[0], 0xD2511F53u, h0, l0);
    multiply_wide<L>(c[2], 0xCD9E8D57u, h1, l1);
    c[0] = h1 ^ c[1] ^ U::broadcast(k0);
    c[1] = l1;
    c[2] = h0 ^ c[3] ^ U::broadcast(k1);
    c[3] = l0;
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
}

/// Uniform in (0,1): the centre of one of 2^23 cells, so that a float holds it exactly and neither end occurs.
template <int L>
PAVISE_INLINE Pack<float, L> unit_interval(Pack<std::uint32_t, L> word) {
  const auto cell = convert<float>(bits<std::int32_t>(word >> 9));
  return fma(cell, 0x1p-23f, Pack<float, L>::broadcast(0x1p-24f));
}

/// Two independent standard normals from two words (Box and Muller, 1958).
template <int L>
PAVISE_INLINE void box_muller(Pack<std::uint32_t, L> a, Pack<std::uint32_t, L> b, Pack<float, L>& n0,
                              Pack<float, L>& n1) {
  const auto radius = sqrt(Pack<float, L>::broadcast(-2.0f) * log(unit_interval<L>(a)));
  Pack<float, L> c, s;
  cos_sin_turn<L>(b, c, s);
  n0 = radius * c;
  n1 = radius * s;
}

/// Numbers e to e + 3 of each lane's sequence; e is a multiple of 4.
template <int L, Distribution D>
PAVISE_INLINE void draw_block(std::int64_t e, const LaneKeys& keys, Pack<float, L> (&value)[4]) {
  using U = Pack<std::uint32_t, L>;
  const U tag = (U::load(keys.restart) << 16) ^ U::broadcast(keys.purpose);
  U c[4] = {U::broadcast(static_cast<std::uint32_t>(e / 4)), U::load(keys.image), U::broadcast(keys.iteration), tag};
  philox<L>(c, keys.seed);
  if constexpr (D == Distribution::uniform) {
    for (int i = 0; i < 4; ++i) {
      value[i] = unit_interval<L>(c[i]);
    }
  } else {
    box_muller<L>(c[0], c[1], value[0], value[1]);
    box_muller<L>(c[2], c[3], value[2], value[3]);
  }
}

/// Elements [first, n) of out[n][L]; `first` is a multiple of 4.
template <class T, int L, Distribution D>
PAVISE_LANES void random_lanes(T* out, std::int64_t first, std::int64_t n, const LaneKeys& keys) {
  for (std::int64_t e = first; e < n; e += 4) {
    Pack<float, L> value[4];
    draw_block<L, D>(e, keys, value);
    for (int i = 0; i < 4 && e + i < n; ++i) {
      value[i].store_to(out + (e + i) * L);
    }
  }
}

/// out[n][lanes]: uniform in (0,1), or standard normal.
template <class T>
void random_uniform(Tag, T* out, std::int64_t n, int lanes, const LaneKeys& keys) {
  lanes == 16 ? random_lanes<T, 16, Distribution::uniform>(out, 0, n, keys)
              : random_lanes<T, 1, Distribution::uniform>(out, 0, n, keys);
}
template <class T>
void random_normal(Tag, T* out, std::int64_t n, int lanes, const LaneKeys& keys) {
  lanes == 16 ? random_lanes<T, 16, Distribution::normal>(out, 0, n, keys)
              : random_lanes<T, 1, Distribution::normal>(out, 0, n, keys);
}

/// out = x + (factor * r + offset) for elements [first, n); `first` is a multiple of 4.
template <class T, int L, Distribution D>
PAVISE_LANES void add_random_lanes(const T* x, T* out, std::int64_t first, std::int64_t n, T factor, T offset,
                                   const LaneKeys& keys) {
  using P = Pack<T, L>;
  for (std::int64_t e = first; e < n; e += 4) {
    Pack<float, L> value[4];
    draw_block<L, D>(e, keys, value);
    for (int i = 0; i < 4 && e + i < n; ++i) {
      P v;
      if constexpr (std::is_same_v<T, float>) {
        v = value[i];
      } else {
        alignas(64) T wide[L];
        value[i].store_to(wide);
        v = P::load(wide);
      }
      const std::int64_t at = (e + i) * L;
      (P::load(x + at) + fma(v, factor, P::broadcast(offset))).store(out + at);
    }
  }
}

/// out = x + (factor * r + offset), r uniform in (0,1) or standard normal: the numbers of random_uniform and
/// random_normal. x, out: (n)[lanes].
template <class T>
void add_uniform(Tag, const T* x, T* out, std::int64_t n, T factor, T offset, int lanes, const LaneKeys& keys) {
  lanes == 16 ? add_random_lanes<T, 16, Distribution::uniform>(x, out, 0, n, factor, offset, keys)
              : add_random_lanes<T, 1, Distribution::uniform>(x, out, 0, n, factor, offset, keys);
}
template <class T>
void add_normal(Tag, const T* x, T* out, std::int64_t n, T factor, T offset, int lanes, const LaneKeys& keys) {
  lanes == 16 ? add_random_lanes<T, 16, Distribution::normal>(x, out, 0, n, factor, offset, keys)
              : add_random_lanes<T, 1, Distribution::normal>(x, out, 0, n, factor, offset, keys);
}
