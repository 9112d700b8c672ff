// SPDX-License-Identifier: MIT
// What JPEG makes of an image: libjpeg's integer arithmetic (accurate integer DCT of Loeffler, Ligtenberg and Moschytz
// 1989, 13-bit constants; 16-bit constants for colours; triangular "fancy" up-sampling), lane by lane, without the
// entropy coder, which loses nothing. Integers make it exact, and the same on every instruction set. Oracle: the pixels
// that libjpeg-turbo itself decodes, in tests/filter/jpeg_test.cpp.

template <int L>
using Words = Pack<std::int32_t, L>;

/// (x + 2^(n-1)) >> n
template <int L>
PAVISE_INLINE Words<L> descale(Words<L> x, int n) {
  return (x + Words<L>::broadcast(1 << (n - 1))) >> n;
}
template <int L>
PAVISE_INLINE Words<L> times(Words<L> x, std::int32_t factor) {
  return x * Words<L>::broadcast(factor);
}

// Constants of the transform, times 2^13.
inline constexpr int kDctBits = 13;
inline constexpr int kDctPassBits = 2;
inline constexpr std::int32_t kDct0298 = 2446, kDct0390 = 3196, kDct0541 = 4433, kDct0765 = 6270, kDct0899 = 7373,
                              kDct1175 = 9633, kDct1501 = 12299, kDct1847 = 15137, kDct1961 = 16069, kDct2053 = 16819,
                              kDct2562 = 20995, kDct3072 = 25172;

/// The odd part that both directions share: from the four inputs in order to what belongs to them.
template <int L>
PAVISE_INLINE void dct_odd(Words<L> (&t)[4]) {
  const auto z5 = times(t[0] + t[2] + t[1] + t[3], kDct1175);
  const auto z1 = times(t[0] + t[3], -kDct0899);
  const auto z2 = times(t[1] + t[2], -kDct2562);
  const auto z3 = times(t[0] + t[2], -kDct1961) + z5;
  const auto z4 = times(t[1] + t[3], -kDct0390) + z5;
  t[0] = times(t[0], kDct0298) + z1 + z3;
  t[1] = times(t[1], kDct2053) + z2 + z4;
  t[2] = times(t[2], kDct3072) + z2 + z3;
  t[3] = times(t[3], kDct1501) + z1 + z4;
}

/// One line of the forward transform, from v[0..7] at a stride of packs; `first`: of the rows, whose results keep
/// kDctPassBits more bits.
template <int L>
PAVISE_INLINE void dct_line(std::int32_t* v, std::int64_t stride, bool first) {
  using I = Words<L>;
  I d[8];
#pragma GCC unroll 8
  for (int i = 0; i < 8; ++i) {
    d[i] = I::load(v + i * stride * L);
  }
  const I even[4] = {d[0] + d[7], d[1] + d[6], d[2] + d[5], d[3] + d[4]};
  I odd[4] = {d[3] - d[4], d[2] - d[5], d[1] - d[6], d[0] - d[7]};
  const I a = even[0] + even[3];
  const I b = even[1] + even[2];
  const I e = even[0] - even[3];
  const I f = even[1] - even[2];
  const I z = times(e + f, kDct0541);
  dct_odd<L>(odd);
  const int shift = first ? kDctBits - kDctPassBits : kDctBits + kDctPassBits;
  const auto put = [&](int i, I x) __attribute__((always_inline)) { x.store(v + i * stride * L); };
  put(0, first ? (a + b) << kDctPassBits : descale<L>(a + b, kDctPassBits));
  put(4, first ? (a - b) << kDctPassBits : descale<L>(a - b, kDctPassBits));
  put(2, descale<L>(z + times(e, kDct0765), shift));
  put(6, descale<L>(z + times(f, -kDct1847), shift));
  put(7, descale<L>(odd[0], shift));
  put(5, descale<L>(odd[1], shift));
  put(3, descale<L>(odd[2], shift));
  put(1, descale<L>(odd[3], shift));
}

/// One line of the inverse transform; `first`: of the columns.
template <int L>
PAVISE_INLINE void inverse_dct_line(std::int32_t* v, std::int64_t stride, bool first) {
  using I = Words<L>;
  const auto in = [&](int i) __attribute__((always_inline)) { return I::load(v + i * stride * L); };
  const I z = times(in(2) + in(6), kDct0541);
  const I c = z + times(in(6), -kDct1847);
  const I d = z + times(in(2), kDct0765);
  const I a = (in(0) + in(4)) << kDctBits;
  const I b = (in(0) - in(4)) << kDctBits;
  const I even[4] = {a + d, b + c, b - c, a - d};
  I odd[4] = {in(7), in(5), in(3), in(1)};
  dct_odd<L>(odd);
  const int shift = first ? kDctBits - kDctPassBits : kDctBits + kDctPassBits + 3;
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i) {
    descale<L>(even[i] + odd[3 - i], shift).store(v + i * stride * L);
    descale<L>(even[i] - odd[3 - i], shift).store(v + (7 - i) * stride * L);
  }
}

/// One block of samples load(i, j), 0 to 255, becomes what is decoded from its quantised coefficients, which goes to
/// store(i, j, sample). block: 64 packs.
template <int L, class Load, class Store>
PAVISE_INLINE void jpeg_block(const std::int32_t* table, std::int32_t* block, const Load& load, const Store& store) {
  using I = Words<L>;
  using F = Pack<float, L>;
  const I centre = I::broadcast(128);
  for (std::int64_t i = 0; i < 8; ++i) {
    for (std::int64_t j = 0; j < 8; ++j) {
      (load(i, j) - centre).store(block + (i * 8 + j) * L);
    }
    dct_line<L>(block + i * 8 * L, 1, true);
  }
  for (std::int64_t j = 0; j < 8; ++j) {
    dct_line<L>(block + j * L, 8, false);
  }
  for (std::int64_t k = 0; k < 64; ++k) {
    // Nearest, halves away from zero; the coefficient is 8 times too large. Both numbers are below 2^17, so that the
    // rounded quotient of floats has the right integer part.
    const std::int32_t step = table[k] << 3;
    const I c = I::load(block + k * L);
    const I sign = c >> 31;
    const I size = (c ^ sign) - sign;
    const I level =
        convert<std::int32_t>(convert<float>(size + I::broadcast(step >> 1)) / F::broadcast(static_cast<float>(step)));
    (((level ^ sign) - sign) * I::broadcast(table[k])).store(block + k * L);
  }
  for (std::int64_t j = 0; j < 8; ++j) {
    inverse_dct_line<L>(block + j * L, 8, true);
  }
  const I zero = I::broadcast(0);
  const I top = I::broadcast(255);
  for (std::int64_t i = 0; i < 8; ++i) {
    inverse_dct_line<L>(block + i * 8 * L, 1, false);
    for (std::int64_t j = 0; j < 8; ++j) {
      store(i, j, min(max(I::load(block + (i * 8 + j) * L) + centre, zero), top));
    }
  }
}

/// Repeats the last column and row of (height,width) up to whole blocks, and takes every block there and back.
template <int L>
PAVISE_LANES void jpeg_plane(std::int32_t* plane, std::int64_t height, std::int64_t width, std::int64_t stride,
                             const std::int32_t* table, std::int32_t* block) {
  using I = Words<L>;
  const std::int64_t rows = JpegPlan::padded(height);
  for (std::int64_t i = 0; i < height; ++i) {
    for (std::int64_t j = width; j < stride; ++j) {
      I::load(plane + (i * stride + width - 1) * L).store(plane + (i * stride + j) * L);
    }
  }
  for (std::int64_t i = height; i < rows; ++i) {
    for (std::int64_t j = 0; j < stride; ++j) {
      I::load(plane + ((height - 1) * stride + j) * L).store(plane + (i * stride + j) * L);
    }
  }
  for (std::int64_t i = 0; i < rows; i += 8) {
    for (std::int64_t j = 0; j < stride; j += 8) {
      const auto at = [&](std::int64_t r, std::int64_t c) __attribute__((always_inline)) {
        return plane + ((i + r) * stride + j + c) * L;
      };
      jpeg_block<L>(
          table,
          block, [&](std::int64_t r, std::int64_t c) __attribute__((always_inline)) { return I::load(at(r, c)); },
          [&](std::int64_t r, std::int64_t c, I sample) __attribute__((always_inline)) { sample.store(at(r, c)); });
    }
  }
}

/// The nearest byte of a pixel in [0,1], ties to even; 0 for NaN.
template <class T, int L>
PAVISE_INLINE Words<L> load_byte(const T* in) {
  using F = Pack<float, L>;
  F x;
  if constexpr (std::is_same_v<T, float>) {
    x = F::load(in);
  } else {
    alignas(64) float v[L];
    for (int l = 0; l < L; ++l) {
      v[l] = static_cast<float>(in[l]);
    }
    x = F::load(v);
  }
  const F clipped = min(max(x, F::broadcast(0.0f)), F::broadcast(1.0f));
  return convert<std::int32_t>(round_product(clipped, 255.0f));
}

/// byte / 255
template <class T, int L>
PAVISE_INLINE void store_byte(Words<L> byte, T* out) {
  const auto x = convert<float>(byte);
  if constexpr (std::is_same_v<T, float>) {
    (x / Pack<float, L>::broadcast(255.0f)).store(out);
  } else {
    x.store_to(out);
    for (int l = 0; l < L; ++l) {
      out[l] /= T{255};
    }
  }
}

/// Place j of a plane of half the resolution, of the rows of full resolution that it lies in: the mean of 2x2, rounded
/// up and down in turns. Columns behind the last one repeat it.
template <int L>
PAVISE_INLINE Words<L> halved_sample(const std::int32_t* row, const std::int32_t* below, std::int64_t width,
                                     std::int64_t j) {
  using I = Words<L>;
  const std::int64_t l = std::min(2 * j, width - 1) * L;
  const std::int64_t r = std::min(2 * j + 1, width - 1) * L;
  const I sum = I::load(row + l) + I::load(row + r) + I::load(below + l) + I::load(below + r);
  return (sum + I::broadcast(j % 2 == 0 ? 1 : 2)) >> 2;
}

/// The row below place i of a plane of half the resolution.
PAVISE_INLINE std::int64_t row_below(const JpegPlan& p, std::int64_t i) { return std::min(2 * i + 1, p.height - 1); }

/// (height,width) of full resolution to a plane of half of it.
template <int L>
PAVISE_LANES void halve_plane(const std::int32_t* in, const JpegPlan& p, std::int32_t* out, std::int64_t stride) {
  for (std::int64_t i = 0; i < p.chroma_height(); ++i) {
    const std::int32_t* row = in + 2 * i * p.width * L;
    const std::int32_t* below = in + row_below(p, i) * p.width * L;
    for (std::int64_t j = 0; j < stride; ++j) {
      halved_sample<L>(row, below, p.width, j).store(out + (i * stride + j) * L);
    }
  }
}

/// The second nearest of n places of half the resolution to place i of the full one; the nearest is i / 2.
PAVISE_INLINE std::int64_t farther_place(std::int64_t i, std::int64_t n) {
  return std::clamp<std::int64_t>(i / 2 + (i % 2 == 0 ? -1 : 1), 0, n - 1);
}

/// Place j in full resolution of n columns of half of it: 3/4 of the nearer row and 1/4 of the farther one, and the
/// same along them (weights of 16). Planes of at most two columns are repeated as they are instead.
template <int L>
PAVISE_INLINE Words<L> doubled_sample(const std::int32_t* near, const std::int32_t* far, std::int64_t n,
                                      std::int64_t j) {
  using I = Words<L>;
  const auto sum = [&](std::int64_t at) __attribute__((always_inline)) {
    return times(I::load(near + at * L), 3) + I::load(far + at * L);
  };
  return (times(sum(j / 2), 3) + sum(farther_place(j, n)) + I::broadcast(j % 2 == 0 ? 8 : 7)) >> 4;
}

/// Row i of a plane of half the resolution in full.
template <int L>
PAVISE_LANES void double_row(const std::int32_t* in, const JpegPlan& p, std::int64_t stride, std::int64_t i,
                             std::int32_t* out) {
  const std::int64_t w = p.chroma_width();
  const std::int32_t* near = in + i / 2 * stride * L;
  if (w <= 2) {
    for (std::int64_t j = 0; j < p.width; ++j) {
      Words<L>::load(near + j / 2 * L).store(out + j * L);
    }
    return;
  }
  const std::int32_t* far = in + farther_place(i, p.chroma_height()) * stride * L;
  for (std::int64_t j = 0; j < p.width; ++j) {
    doubled_sample<L>(near, far, w, j).store(out + j * L);
  }
}

/// One pixel's bytes in the colours of JFIF. in: channels of `pixels` packs.
template <class T, int L>
PAVISE_INLINE void split_colours(const T* in, std::int64_t pixels, std::int32_t* luma, std::int32_t* blue,
                                 std::int32_t* red) {
  using I = Words<L>;
  constexpr std::int32_t kHalf = 1 << 15;
  constexpr std::int32_t kCentre = (128 << 16) + kHalf - 1;
  const I r = load_byte<T, L>(in);
  const I g = load_byte<T, L>(in + pixels * L);
  const I b = load_byte<T, L>(in + 2 * pixels * L);
  ((times(r, 19595) + times(g, 38470) + times(b, 7471) + I::broadcast(kHalf)) >> 16).store(luma);
  ((times(r, -11059) + times(g, -21709) + times(b, 32768) + I::broadcast(kCentre)) >> 16).store(blue);
  ((times(r, 32768) + times(g, -27439) + times(b, -5329) + I::broadcast(kCentre)) >> 16).store(red);
}

/// And back.
template <class T, int L>
PAVISE_INLINE void join_colours(Words<L> y, Words<L> blue, Words<L> red, T* out, std::int64_t pixels) {
  using I = Words<L>;
  const I zero = I::broadcast(0);
  const I top = I::broadcast(255);
  const I centre = I::broadcast(128);
  const I cb = blue - centre;
  const I cr = red - centre;
  const I r = y + descale<L>(times(cr, 91881), 16);
  const I g = y + ((times(cb, -22554) + times(cr, -46802) + I::broadcast(1 << 15)) >> 16);
  const I b = y + descale<L>(times(cb, 116130), 16);
  store_byte<T, L>(min(max(r, zero), top), out);
  store_byte<T, L>(min(max(g, zero), top), out + pixels * L);
  store_byte<T, L>(min(max(b, zero), top), out + 2 * pixels * L);
}

/// The planes of the scratch: of the luminance and the chrominances in whole blocks, and of chrominances before they
/// are halved.
struct JpegPlanes {
  std::int32_t* luma;
  std::int32_t* chroma[2];
  std::int32_t* full[2];
  std::int64_t stride, chroma_stride;
};
template <int L>
PAVISE_INLINE JpegPlanes jpeg_planes(const JpegPlan& p, std::int32_t* scratch) {
  const std::int64_t stride = JpegPlan::padded(p.width);
  const std::int64_t chroma_stride = JpegPlan::padded(p.chroma_width());
  std::int32_t* blue = scratch + JpegPlan::padded(p.height) * stride * L;
  std::int32_t* red = blue + JpegPlan::padded(p.chroma_height()) * chroma_stride * L;
  std::int32_t* full = red + (red - blue);
  return {scratch, {blue, red}, {full, full + p.height * p.width * L}, stride, chroma_stride};
}

template <class T, int L>
PAVISE_LANES void jpeg_grey_lanes(const T* in, T* out, const JpegPlan& p, std::int32_t* scratch) {
  const std::int64_t stride = JpegPlan::padded(p.width);
  std::int32_t* block = scratch + JpegPlan::padded(p.height) * stride * L;
  for (std::int64_t i = 0; i < p.height; ++i) {
    for (std::int64_t j = 0; j < p.width; ++j) {
      load_byte<T, L>(in + (i * p.width + j) * L).store(scratch + (i * stride + j) * L);
    }
  }
  jpeg_plane<L>(scratch, p.height, p.width, stride, p.luminance, block);
  for (std::int64_t i = 0; i < p.height; ++i) {
    for (std::int64_t j = 0; j < p.width; ++j) {
      store_byte<T, L>(Words<L>::load(scratch + (i * stride + j) * L), out + (i * p.width + j) * L);
    }
  }
}

template <class T, int L>
PAVISE_LANES void jpeg_colour_lanes(const T* in, T* out, const JpegPlan& p, std::int32_t* scratch) {
  using I = Words<L>;
  const JpegPlanes planes = jpeg_planes<L>(p, scratch);
  const std::int64_t stride = planes.stride;
  const std::int64_t chroma_stride = planes.chroma_stride;
  const std::int64_t pixels = p.height * p.width;
  std::int32_t* block = planes.full[1] + pixels * L;
  for (std::int64_t i = 0; i < p.height; ++i) {
    std::int32_t* blue = p.halved ? planes.full[0] + i * p.width * L : planes.chroma[0] + i * chroma_stride * L;
    std::int32_t* red = p.halved ? planes.full[1] + i * p.width * L : planes.chroma[1] + i * chroma_stride * L;
    for (std::int64_t j = 0; j < p.width; ++j) {
      split_colours<T, L>(in + (i * p.width + j) * L, pixels, planes.luma + (i * stride + j) * L, blue + j * L,
                          red + j * L);
    }
  }
  jpeg_plane<L>(planes.luma, p.height, p.width, stride, p.luminance, block);
  for (int c = 0; c < 2; ++c) {
    if (p.halved) {
      halve_plane<L>(planes.full[c], p, planes.chroma[c], chroma_stride);
    }
    jpeg_plane<L>(planes.chroma[c], p.chroma_height(), p.halved ? chroma_stride : p.width, chroma_stride, p.chrominance,
                  block);
  }
  for (std::int64_t i = 0; i < p.height; ++i) {
    std::int32_t* row[2] = {planes.chroma[0] + i * chroma_stride * L, planes.chroma[1] + i * chroma_stride * L};
    if (p.halved) {
      for (int c = 0; c < 2; ++c) {
        row[c] = planes.full[c] + i * p.width * L;
        double_row<L>(planes.chroma[c], p, chroma_stride, i, row[c]);
      }
    }
    for (std::int64_t j = 0; j < p.width; ++j) {
      join_colours<T, L>(I::load(planes.luma + (i * stride + j) * L), I::load(row[0] + j * L), I::load(row[1] + j * L),
                         out + (i * p.width + j) * L, pixels);
    }
  }
}

/// Pixels in [0,1] to the bytes that are decoded from their JPEG, over 255. in, out: (1 or 3,height,width)[lanes];
/// scratch: p.scratch() * lanes integers.
template <class T>
void jpeg_round_trip(Tag, const T* in, T* out, const JpegPlan& p, std::int32_t* scratch, int lanes) {
  if (p.channels == 3) {
    lanes == 16 ? jpeg_colour_lanes<T, 16>(in, out, p, scratch) : jpeg_colour_lanes<T, 1>(in, out, p, scratch);
  } else {
    lanes == 16 ? jpeg_grey_lanes<T, 16>(in, out, p, scratch) : jpeg_grey_lanes<T, 1>(in, out, p, scratch);
  }
}
