// SPDX-License-Identifier: MIT
// Noise on the grid of pixel values, drawn straight into a group: lane by lane another sample of a certificate. Word
// e mod 4 of block floor(e/4) of the sample's sequence decides about element e by a table with a place for each value
// of its upper 16 bits; where a place holds one threshold the lower 16 bits are compared with it. Some 1 in 10,000
// words needs more (several thresholds in one place, or all 32 bits equal to a threshold's) and is looked up one by one.
// Oracle: grid_noise_exact for every element, in tests/certify/noise_test.cpp.
//
// An entry holds k (16 bits, signed) and t: the noise is k where the lower bits are below t, k+1 where they are above.

template <int L>
[[gnu::always_inline]] inline void grid_noise_lanes(const std::int32_t* pixels, float* out, std::int64_t n,
                                                    std::int32_t least, std::int32_t most, const GridTable& table,
                                                    const SampleKeys& keys) {
  using U = Pack<std::uint32_t, L>;
  using I = Pack<std::int32_t, L>;
  const U image = U::load(keys.image);
  const U sample = U::load(keys.sample);
  const U tag = (U::load(keys.stage) << 16) ^ U::broadcast(keys.purpose);
  const U lower = U::broadcast(0xFFFF);
  const I many = I::broadcast(kManyThresholds);
  const auto step = Pack<float, L>::broadcast(255.0f);
  for (std::int64_t e = 0; e < n; e += 4) {
    U c[4] = {U::broadcast(static_cast<std::uint32_t>(e / 4)), image, sample, tag};
    philox<L>(c, keys.seed);
    for (int i = 0; i < 4 && e + i < n; ++i) {
      alignas(64) std::uint32_t word[L];
      alignas(64) std::uint32_t entry[L];
      c[i].store(word);
      for (int lane = 0; lane < L; ++lane) {
        entry[lane] = table.buckets[word[lane] >> 16];
      }
      const U found = U::load(entry);
      const I bits_below = bits<std::int32_t>(c[i] & lower);
      const I threshold = bits<std::int32_t>(found & lower);
      const I base = bits<std::int32_t>(found) >> 16;
      I noise = base - (bits_below > threshold);  // a mask is -1
      const I open = equal(base, many) | equal(bits_below, threshold);
      alignas(64) std::int32_t is_open[L];
      open.store(is_open);
      std::int32_t any = 0;
      for (int lane = 0; lane < L; ++lane) {
        any |= is_open[lane];
      }
      if (any != 0) [[unlikely]] {
        alignas(64) std::int32_t value[L];
        noise.store(value);
        for (int lane = 0; lane < L; ++lane) {
          if (is_open[lane] != 0) {
            value[lane] = grid_noise_exact(table, word[lane], keys.seed, keys.purpose, keys.image[lane],
                                           keys.stage[lane], keys.sample[lane], static_cast<std::uint32_t>(e + i));
          }
        }
        noise = I::load(value);
      }
      const I v = max(min(I::load(pixels + (e + i) * L) + noise, I::broadcast(most)), I::broadcast(least));
      (convert<float>(v) / step).store(out + (e + i) * L);
    }
  }
}

/// out = min(max(pixels + noise, least), most) / 255, correctly rounded. pixels, in units of 1/255, and out: (n)[lanes].
template <class T>
void grid_noise(Tag, const std::int32_t* pixels, T* out, std::int64_t n, int lanes, std::int32_t least,
                std::int32_t most, const GridTable& table, const SampleKeys& keys) {
  static_assert(std::is_same_v<T, float>);
  lanes == 16 ? grid_noise_lanes<16>(pixels, out, n, least, most, table, keys)
              : grid_noise_lanes<1>(pixels, out, n, least, most, table, keys);
}

template <int L>
[[gnu::always_inline]] inline void float_noise_lanes(const std::int32_t* pixels, float* out, std::int64_t n,
                                                     float sigma, const SampleKeys& keys) {
  using U = Pack<std::uint32_t, L>;
  using F = Pack<float, L>;
  const U image = U::load(keys.image);
  const U sample = U::load(keys.sample);
  const U tag = (U::load(keys.stage) << 16) ^ U::broadcast(keys.purpose);
  for (std::int64_t e = 0; e < n; e += 4) {
    U c[4] = {U::broadcast(static_cast<std::uint32_t>(e / 4)), image, sample, tag};
    philox<L>(c, keys.seed);
    F value[4];
    box_muller<L>(c[0], c[1], value[0], value[1]);
    box_muller<L>(c[2], c[3], value[2], value[3]);
    for (int i = 0; i < 4 && e + i < n; ++i) {
      (value[i] * F::broadcast(sigma)).store(out + (e + i) * L);
    }
  }
  // A loop of its own: the product is rounded before the sum, as in everybody's recipe.
  for (std::int64_t e = 0; e < n; ++e) {
    const F pixel = convert<float>(Pack<std::int32_t, L>::load(pixels + e * L)) / F::broadcast(255.0f);
    (pixel + F::load(out + e * L)).store(out + e * L);
  }
}

/// out = pixels / 255 + sigma N(0,1) in floats, as everybody draws it; which values can come out depends on the image.
template <class T>
void float_noise(Tag, const std::int32_t* pixels, T* out, std::int64_t n, int lanes, float sigma,
                 const SampleKeys& keys) {
  static_assert(std::is_same_v<T, float>);
  lanes == 16 ? float_noise_lanes<16>(pixels, out, n, sigma, keys) : float_noise_lanes<1>(pixels, out, n, sigma, keys);
}
