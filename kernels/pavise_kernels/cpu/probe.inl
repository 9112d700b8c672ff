// SPDX-License-Identifier: MIT
// Random points near an image, from which attacks estimate a direction without gradients. Every lane is at a number of
// its own (keys.iteration is not read, `iteration` has one for each lane), so that lanes need not keep step. Arrays are
// [n][lanes], factors one for each lane, T is float. Oracle: tests/attack/probe_test.cpp.

template <int L>
struct ProbeCounter {
  using U = Pack<std::uint32_t, L>;
  U image, iteration, tag;
  std::uint64_t seed;
  PAVISE_INLINE ProbeCounter(const LaneKeys& keys, const std::uint32_t* iterations)
      : image(U::load(keys.image)),
        iteration(U::load(iterations)),
        tag((U::load(keys.restart) << 16) ^ U::broadcast(keys.purpose)),
        seed(keys.seed) {}
  PAVISE_INLINE void block(std::uint32_t number, U (&c)[4]) const {
    c[0] = U::broadcast(number);
    c[1] = image;
    c[2] = iteration;
    c[3] = tag;
    philox<L>(c, seed);
  }
};

/// body(i, v) for elements [first, n), of which `first` is a multiple of 128: v is +size or -size, by one random bit (the
/// highest of a word first).
template <int L, class Body>
PAVISE_INLINE void for_signs(std::int64_t first, std::int64_t n, const ProbeCounter<L>& counter, Pack<float, L> size,
                             const Body& body) {
  using U = Pack<std::uint32_t, L>;
  const U top = U::broadcast(0x80000000u);
  const U magnitude = bits<std::uint32_t>(size);
  for (std::int64_t e = first; e < n;) {
    U c[4];
    counter.block(static_cast<std::uint32_t>(e / 128), c);
    for (int word = 0; word < 4; ++word) {
      U w = c[word];
      for (int bit = 0; bit < 32 && e < n; ++bit, ++e) {
        body(e * L, bits<float>(magnitude ^ (w & top)));
        w = w << 1;
      }
    }
  }
}

template <int L>
PAVISE_LANES void sign_probe_lanes(float* out, const float* x, std::int64_t first, std::int64_t n, const LaneKeys& keys,
                                   const std::uint32_t* iteration, const float* size, float low, float high) {
  using P = Pack<float, L>;
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  for_signs<L>(
      first, n, ProbeCounter<L>(keys, iteration),
      P::load(size), [&](std::int64_t i, P v) __attribute__((always_inline)) {
        min(max(P::load(x + i) + v, lo), hi).store(out + i);
      });
}

/// out = clip(x + size s) to the box, where s is +1 or -1 for every element.
template <class T>
void sign_probe(Tag, T* out, const T* x, std::int64_t n, int lanes, const LaneKeys& keys,
                const std::uint32_t* iteration, const T* size, T low, T high) {
  lanes == 16 ? sign_probe_lanes<16>(out, x, 0, n, keys, iteration, size, low, high)
              : sign_probe_lanes<1>(out, x, 0, n, keys, iteration, size, low, high);
}

template <int L>
PAVISE_LANES void sign_slope_lanes(float* slope, const float* x, std::int64_t first, std::int64_t n,
                                   const LaneKeys& keys, const std::uint32_t* iteration, const float* size,
                                   const float* factor, float low, float high) {
  using P = Pack<float, L>;
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  const P f = P::load(factor);
  for_signs<L>(
      first, n, ProbeCounter<L>(keys, iteration),
      P::load(size), [&](std::int64_t i, P v) __attribute__((always_inline)) {
        const P at = P::load(x + i);
        const P apart = min(max(at + v, lo), hi) - min(max(at - v, lo), hi);
        fma(apart, f, P::load(slope + i)).store(slope + i);
      });
}

/// slope += factor (clip(x + size s) - clip(x - size s)), with the s that sign_probe had.
template <class T>
void sign_slope(Tag, T* slope, const T* x, std::int64_t n, int lanes, const LaneKeys& keys,
                const std::uint32_t* iteration, const T* size, const T* factor, T low, T high) {
  lanes == 16 ? sign_slope_lanes<16>(slope, x, 0, n, keys, iteration, size, factor, low, high)
              : sign_slope_lanes<1>(slope, x, 0, n, keys, iteration, size, factor, low, high);
}

template <int L>
PAVISE_LANES void slope_adam_lanes(float* x, float* slope, float* first, float* second, std::int64_t n, float scale,
                                   const float* rate, const float* root) {
  using P = Pack<float, L>;
  const P step = P::load(rate);
  const P correction = P::load(root);
  const P zero = P::broadcast(0.0f);
  const auto due = step > zero;
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P s = P::load(slope + i);
    const P g = s * P::broadcast(scale);
    const P x0 = P::load(x + i);
    const P m0 = P::load(first + i);
    const P v0 = P::load(second + i);
    const P m = fma(g - m0, 0.1f, m0);
    const P v = fma(fma(g, g, -v0), 0.001f, v0);
    select(due, zero, s).store(slope + i);
    select(due, m, m0).store(first + i);
    select(due, v, v0).store(second + i);
    select(due, fma(m / fma(sqrt(v), correction, P::broadcast(1e-9f)), -step, x0), x0).store(x + i);
  }
}

/// One step of Adam (0.9, 0.999, 1e-9) down the gradient scale * slope, and slope = 0, in the lanes whose rate is
/// positive; `rate` and `root` as for adam_update.
template <class T>
void slope_adam(Tag, T* x, T* slope, T* first, T* second, std::int64_t n, int lanes, T scale, const T* rate,
                const T* root) {
  lanes == 16 ? slope_adam_lanes<16>(x, slope, first, second, n, scale, rate, root)
              : slope_adam_lanes<1>(x, slope, first, second, n, scale, rate, root);
}

template <int L, Distribution D>
PAVISE_LANES void sphere_probe_lanes(float* out, const float* x, std::int64_t n, const LaneKeys& keys,
                                     const std::uint32_t* iteration, const float* size, float low, float high) {
  using P = Pack<float, L>;
  using U = Pack<std::uint32_t, L>;
  const ProbeCounter<L> counter(keys, iteration);
  P sum = P::broadcast(0.0f);
  for (std::int64_t e = 0; e < n; e += 4) {
    U c[4];
    counter.block(static_cast<std::uint32_t>(e / 4), c);
    P value[4];
    if constexpr (D == Distribution::uniform) {
      for (int i = 0; i < 4; ++i) {
        value[i] = fma(unit_interval<L>(c[i]), 2.0f, P::broadcast(-1.0f));
      }
    } else {
      box_muller<L>(c[0], c[1], value[0], value[1]);
      box_muller<L>(c[2], c[3], value[2], value[3]);
    }
    for (int i = 0; i < 4 && e + i < n; ++i) {
      value[i].store(out + (e + i) * L);
      sum = fma(value[i], value[i], sum);
    }
  }
  const P scale = P::load(size) / sqrt(sum);
  const P lo = P::broadcast(low);
  const P hi = P::broadcast(high);
  for (std::int64_t i = 0; i < n * L; i += L) {
    min(max(fma(P::load(out + i), scale, P::load(x + i)), lo), hi).store(out + i);
  }
}

/// out = clip(x + size u / ||u||_2) to the box; the elements of u are standard normals, or uniform in (-1,1).
template <class T>
void sphere_probe(Tag, T* out, const T* x, std::int64_t n, int lanes, Distribution distribution, const LaneKeys& keys,
                  const std::uint32_t* iteration, const T* size, T low, T high) {
  if (distribution == Distribution::normal) {
    lanes == 16 ? sphere_probe_lanes<16, Distribution::normal>(out, x, n, keys, iteration, size, low, high)
                : sphere_probe_lanes<1, Distribution::normal>(out, x, n, keys, iteration, size, low, high);
  } else {
    lanes == 16 ? sphere_probe_lanes<16, Distribution::uniform>(out, x, n, keys, iteration, size, low, high)
                : sphere_probe_lanes<1, Distribution::uniform>(out, x, n, keys, iteration, size, low, high);
  }
}

template <int L>
PAVISE_LANES void probe_sums_lanes(float* sum, float* weighted, const float* probe, const float* x, std::int64_t n,
                                   const float* take, const float* weight) {
  using P = Pack<float, L>;
  const P a = P::load(take);
  const P b = P::load(weight);
  for (std::int64_t i = 0; i < n * L; i += L) {
    const P d = P::load(probe + i) - P::load(x + i);
    fma(d, a, P::load(sum + i)).store(sum + i);
    fma(d, b, P::load(weighted + i)).store(weighted + i);
  }
}

/// sum += take (probe - x), weighted += weight (probe - x).
template <class T>
void probe_sums(Tag, T* sum, T* weighted, const T* probe, const T* x, std::int64_t n, int lanes, const T* take,
                const T* weight) {
  lanes == 16 ? probe_sums_lanes<16>(sum, weighted, probe, x, n, take, weight)
              : probe_sums_lanes<1>(sum, weighted, probe, x, n, take, weight);
}
