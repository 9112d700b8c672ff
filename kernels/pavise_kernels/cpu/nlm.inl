// SPDX-License-Identifier: MIT
// Non-local means of one group, an offset of the search window after another: squared differences to the shifted image,
// summed along rows and then over a patch's rows, give the weights of one neighbour of every pixel. And the colours in
// which OpenCV compares. Oracle: brute force over pixels, neighbours and patches, in tests/filter/nlm_test.cpp.

/// sum + (a - b)^2
template <class T, int L>
PAVISE_INLINE Pack<T, L> add_squared_difference(Pack<T, L> a, Pack<T, L> b, Pack<T, L> sum) {
  const auto d = a - b;
  return fma(d, d, sum);
}
/// The weight of a neighbour whose patch is at this distance.
template <class T, int L>
PAVISE_INLINE Pack<T, L> nlm_weight(Pack<T, L> distance, T slope) {
  using P = Pack<T, L>;
  const P e = exp(distance * P::broadcast(slope));
  return select(e < P::broadcast(static_cast<T>(0.001)), P::broadcast(T{0}), e);
}

template <class T, int L>
inline void nlm_lanes(const T* in, T* out, const NlmPlan& p, T* scratch) {
  using P = Pack<T, L>;
  const std::int64_t pixels = p.height * p.width;
  const std::int64_t stride = p.wide_width();
  const std::int64_t plane = p.wide_height() * stride;
  const std::int64_t side = 2 * p.patch + 1;
  T* wide = scratch;
  T* total = wide + p.channels * plane * L;
  T* difference = total + pixels * L;
  T* sums = difference + (p.width + 2 * p.patch) * L;
  const T slope = static_cast<T>(p.slope);
  const P zero = P::broadcast(T{0});
  for (std::int64_t c = 0; c < p.channels; ++c) {
    for (std::int64_t i = 0; i < p.wide_height(); ++i) {
      for (std::int64_t j = 0; j < stride; ++j) {
        P::load(in + (c * pixels + p.y[i] * p.width + p.x[j]) * L).store(wide + (c * plane + i * stride + j) * L);
      }
    }
  }
  std::memset(total, 0, static_cast<std::size_t>(pixels * L) * sizeof(T));
  std::memset(out, 0, static_cast<std::size_t>(p.channels * pixels * L) * sizeof(T));
  const T* centre = wide + (p.border() * stride + p.border()) * L;  // pixel (0,0) of the image
  for (std::int64_t oy = -p.search; oy <= p.search; ++oy) {
    for (std::int64_t ox = -p.search; ox <= p.search; ++ox) {
      const std::int64_t shift = (oy * stride + ox) * L;
      for (std::int64_t r = -p.patch; r < p.height + p.patch; ++r) {
        const T* row = centre + (r * stride - p.patch) * L;
        for (std::int64_t j = 0; j < p.width + 2 * p.patch; ++j) {
          P square = zero;
          for (std::int64_t c = 0; c < p.channels; ++c) {
            const T* at = row + (c * plane + j) * L;
            square = add_squared_difference(P::load(at), P::load(at + shift), square);
          }
          square.store(difference + j * L);
        }
        T* sum = sums + (r + p.patch) % side * p.width * L;
        for (std::int64_t j = 0; j < p.width; ++j) {
          P s = P::load(difference + j * L);
          for (std::int64_t v = 1; v < side; ++v) {
            s = s + P::load(difference + (j + v) * L);
          }
          s.store(sum + j * L);
        }
        const std::int64_t i = r - p.patch;
        if (i < 0) {
          continue;
        }
        const T* shifted = centre + i * stride * L + shift;
        for (std::int64_t j = 0; j < p.width; ++j) {
          P s = P::load(sums + (i % side * p.width + j) * L);
          for (std::int64_t u = 1; u < side; ++u) {
            s = s + P::load(sums + ((i + u) % side * p.width + j) * L);
          }
          const P weight = nlm_weight(s, slope);
          const std::int64_t at = (i * p.width + j) * L;
          (P::load(total + at) + weight).store(total + at);
          for (std::int64_t c = 0; c < p.channels; ++c) {
            T* to = out + c * pixels * L + at;
            fma(weight, P::load(shifted + (c * plane + j) * L), P::load(to)).store(to);
          }
        }
      }
    }
  }
  for (std::int64_t c = 0; c < p.channels; ++c) {
    for (std::int64_t k = 0; k < pixels; ++k) {
      T* to = out + (c * pixels + k) * L;
      (P::load(to) / P::load(total + k * L)).store(to);
    }
  }
}

/// The mean of each pixel's neighbours in the search window, weighed by how alike the patches around them are; weights
/// below 0.001 are 0. in, out: (channels,height,width)[lanes]; scratch: p.scratch() * lanes values.
template <class T>
void non_local_means(Tag, const T* in, T* out, const NlmPlan& p, T* scratch, int lanes) {
  lanes == 16 ? nlm_lanes<T, 16>(in, out, p, scratch) : nlm_lanes<T, 1>(in, out, p, scratch);
}

// Linear RGB in [0,1] and CIE L*a*b* as OpenCV scales it for bytes, over 255: (L 2.55, a, b) / 255; with OpenCV's
// constants.

/// Pixel i of lab_from_rgb.
template <class T, int L>
PAVISE_INLINE void lab_from_rgb_at(const T* in, T* out, std::int64_t pixels, std::int64_t i) {
  using P = Pack<T, L>;
  const auto number = [](double v) __attribute__((always_inline)) { return P::broadcast(static_cast<T>(v)); };
  const P bound = number(0.008856);
  const auto root = [&](P t) __attribute__((always_inline)) {  // cube root, or a line near 0
    const P curve = exp(log(t) * number(1.0 / 3.0));
    return select(t > bound, curve, fma(t, static_cast<T>(7.787), number(16.0 / 116.0)));
  };
  const P r = P::load(in + i * L);
  const P g = P::load(in + (pixels + i) * L);
  const P b = P::load(in + (2 * pixels + i) * L);
  const auto mix = [&](double x, double y, double z, double white) __attribute__((always_inline)) {
    return fma(r, static_cast<T>(x / white),
               fma(g, static_cast<T>(y / white), b * P::broadcast(static_cast<T>(z / white))));
  };
  const P y = mix(0.212671, 0.715160, 0.072169, 1.0);
  const P fx = root(mix(0.412453, 0.357580, 0.180423, 0.950456));
  const P fy = root(y);
  const P fz = root(mix(0.019334, 0.119193, 0.950227, 1.088754));
  const P light = select(y > bound, fma(fy, static_cast<T>(1.16), number(-0.16)), y * number(9.033));
  light.store(out + i * L);
  ((fx - fy) * number(500.0 / 255.0)).store(out + (pixels + i) * L);
  ((fy - fz) * number(200.0 / 255.0)).store(out + (2 * pixels + i) * L);
}

template <class T, int L>
inline void lab_from_rgb_lanes(const T* in, T* out, std::int64_t pixels) {
  for (std::int64_t i = 0; i < pixels; ++i) {
    lab_from_rgb_at<T, L>(in, out, pixels, i);
  }
}

/// Pixel i of rgb_from_lab.
template <class T, int L>
PAVISE_INLINE void rgb_from_lab_at(const T* in, T* out, std::int64_t pixels, std::int64_t i) {
  using P = Pack<T, L>;
  const auto number = [](double v) __attribute__((always_inline)) { return P::broadcast(static_cast<T>(v)); };
  const auto cube = [&](P f) __attribute__((always_inline)) {
    return select(f > number(6.0 / 29.0), f * f * f, (f - number(16.0 / 116.0)) * number(1.0 / 7.787));
  };
  const P light = P::load(in + i * L);
  const P line = light * number(1.0 / 9.033);
  const P curve = (light + number(0.16)) * number(1.0 / 1.16);
  const auto dark = number(0.08) > light;
  const P fy = select(dark, fma(line, static_cast<T>(7.787), number(16.0 / 116.0)), curve);
  const P y = select(dark, line, curve * curve * curve);
  const P x = cube(fma(P::load(in + (pixels + i) * L), static_cast<T>(255.0 / 500.0), fy));
  const P z = cube(fma(P::load(in + (2 * pixels + i) * L), static_cast<T>(-255.0 / 200.0), fy));
  const double m[3][3] = {
      {3.240479, -1.53715, -0.498535}, {-0.969256, 1.875991, 0.041556}, {0.055648, -0.204043, 1.057311}};
#pragma GCC unroll 3
  for (int c = 0; c < 3; ++c) {
    const P v =
        fma(x, static_cast<T>(m[c][0] * 0.950456), fma(y, static_cast<T>(m[c][1]), z * number(m[c][2] * 1.088754)));
    const P clipped = min(max(v, number(0.0)), number(1.0));
    select(equal(v, v), clipped, v).store(out + (c * pixels + i) * L);
  }
}

template <class T, int L>
inline void rgb_from_lab_lanes(const T* in, T* out, std::int64_t pixels) {
  for (std::int64_t i = 0; i < pixels; ++i) {
    rgb_from_lab_at<T, L>(in, out, pixels, i);
  }
}

/// in: red, green and blue, out: L, a and b; or back, clipped to [0,1]. (3,pixels)[lanes].
template <class T>
void lab_from_rgb(Tag, const T* in, T* out, std::int64_t pixels, int lanes) {
  lanes == 16 ? lab_from_rgb_lanes<T, 16>(in, out, pixels) : lab_from_rgb_lanes<T, 1>(in, out, pixels);
}
template <class T>
void rgb_from_lab(Tag, const T* in, T* out, std::int64_t pixels, int lanes) {
  lanes == 16 ? rgb_from_lab_lanes<T, 16>(in, out, pixels) : rgb_from_lab_lanes<T, 1>(in, out, pixels);
}
