// SPDX-License-Identifier: MIT
// JPEG with a derivative: what stands for it in backward passes.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <numbers>
#include <utility>

#include "pavise/autodiff/resample.hpp"
#include "pavise/autodiff/shape_ops.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::defend {

/// The resolution of the two chrominances.
enum class Chroma {
  full,    ///< 4:4:4
  halved,  ///< 4:2:0: half of it along both axes, as files mostly have it
};

struct JpegOptions {
  std::int64_t quality = 75;  ///< 1 to 100, as in libjpeg
  Chroma chroma = Chroma::halved;
};

namespace detail {

inline void check_jpeg(const JpegOptions& o) {
  require(o.quality >= 1 && o.quality <= 100, "jpeg: quality ", o.quality, ", expected 1 to 100");
}

/// A standard table (ITU-T T.81, annex K.1) at a quality, by libjpeg's rule: the standard table itself at 50.
inline void scale_table(const std::array<std::uint8_t, 64>& standard, std::int64_t quality, std::int32_t (&out)[64]) {
  const std::int64_t percent = quality < 50 ? 5000 / quality : 200 - 2 * quality;
  for (std::size_t k = 0; k < 64; ++k) {
    out[k] = static_cast<std::int32_t>(std::clamp<std::int64_t>((standard[k] * percent + 50) / 100, 1, 255));
  }
}

inline kernels::JpegPlan jpeg_plan(const char* name, const Shape& s, const JpegOptions& o) {
  static constexpr std::array<std::uint8_t, 64> kLuminance{
      16, 11,  10,  16, 24, 40, 51, 61, 12,  12,  14,  19,  26, 58, 60, 55,  14,  13,  16,  24, 40, 57,
      69, 56,  14,  17, 22, 29, 51, 87, 80,  62,  18,  22,  37, 56, 68, 109, 103, 77,  24,  35, 55, 64,
      81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98,  112, 100, 103, 99};
  static constexpr std::array<std::uint8_t, 64> kChrominance{
      17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99,
      99, 99, 47, 66, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99,
      99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99, 99};
  check_jpeg(o);
  require<ShapeError>(s.rank() == 3 && (s[0] == 1 || s[0] == 3), name, ": the input is (1,H,W) or (3,H,W), got ", s);
  kernels::JpegPlan plan{.channels = s[0],
                         .height = s[1],
                         .width = s[2],
                         .halved = s[0] == 3 && o.chroma == Chroma::halved,
                         .luminance = {},
                         .chrominance = {}};
  scale_table(kLuminance, o.quality, plan.luminance);
  scale_table(kChrominance, o.quality, plan.chrominance);
  return plan;
}

/// The orthonormal transform of blocks of 8 along an axis of n (a multiple of 8), or its transpose.
template <class T>
AxisMap<T> dct_map(std::int64_t n, bool inverse) {
  AxisMap<T> map(n, n, 8);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t t = 0; t < 8; ++t) {
      const auto u = static_cast<double>(inverse ? t : i % 8);
      const auto x = static_cast<double>(inverse ? i % 8 : t);
      map.set(i, t, i / 8 * 8 + t,
              (u == 0 ? std::sqrt(0.125) : 0.5) * std::cos((2 * x + 1) * u * std::numbers::pi / 16));
    }
  }
  return map;
}

/// From n pixels to whole blocks: as they are, or the means of two; the last pixel repeated. `repeat_means`: behind the
/// last mean (rows), rather than behind the last pixel (columns), as libjpeg does.
template <class T>
AxisMap<T> to_blocks(std::int64_t n, bool halved, bool repeat_means) {
  const std::int64_t size = halved ? (n + 1) / 2 : n;
  const std::int64_t padded = kernels::JpegPlan::padded(size);
  AxisMap<T> map(n, padded, halved ? 2 : 1);
  for (std::int64_t i = 0; i < padded; ++i) {
    const std::int64_t at = repeat_means || !halved ? std::min(i, size - 1) : i;
    if (halved) {
      map.set(i, 0, std::min(2 * at, n - 1), 0.5);
      map.set(i, 1, std::min(2 * at + 1, n - 1), 0.5);
    } else {
      map.set(i, 0, at, 1.0);
    }
  }
  return map;
}

/// From whole blocks back to n pixels: 3/4 of the nearer sample and 1/4 of the other neighbour where it was halved;
/// `plain`: the nearer one alone.
template <class T>
AxisMap<T> from_blocks(std::int64_t n, bool halved, bool plain) {
  const std::int64_t size = halved ? (n + 1) / 2 : n;
  AxisMap<T> map(kernels::JpegPlan::padded(size), n, halved && !plain ? 2 : 1);
  for (std::int64_t i = 0; i < n; ++i) {
    const std::int64_t at = halved ? i / 2 : i;
    map.set(i, 0, at, map.taps == 2 ? 0.75 : 1.0);
    if (map.taps == 2) {
      map.set(i, 1, std::clamp<std::int64_t>(at + (i % 2 == 0 ? -1 : 1), 0, size - 1), 0.25);
    }
  }
  return map;
}

/// Mixed channels: y = m x + offset at every pixel.
template <class T>
Var<T> mix_channels(Var<T> x, const std::array<double, 9>& m, const std::array<double, 3>& offset) {
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result("mix_channels", x.shape(), {x});
  trace_function(y, {x}, [&] { return traced::MixChannels{m, offset}; });
  const std::int64_t n = x.size() / 3 * tape.lanes();
  struct Matrix {
    T forward[9], transposed[9], offset[3], none[3];
  } k{};
  for (std::size_t i = 0; i < 9; ++i) {
    k.forward[i] = static_cast<T>(m[i]);
    k.transposed[i % 3 * 3 + i / 3] = static_cast<T>(m[i]);
  }
  std::transform(offset.begin(), offset.end(), k.offset, [](double v) { return static_cast<T>(v); });
  tape.each_group([&](std::int64_t g) {
    kernels::run_light(
        [&](auto isa) { mix_channels<T>(isa, std::as_const(x).data(g), y.data(g), n, k.forward, k.offset, false); });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    T* dx = t.add_target(x);
    t.each_group([&](std::int64_t g) {
      kernels::run_light(
          [&](auto isa) { mix_channels<T>(isa, t.gradient(y, g), dx + g * 3 * n, n, k.transposed, k.none, true); });
    });
  });
  return y;
}

/// Coefficients (1,H,W) of 8x8 blocks, softly rounded to multiples of a table.
template <class T>
Var<T> soft_round(Var<T> x, const std::int32_t (&table)[64]) {
  Tape<T>& tape = x.tape();
  const Shape s = x.shape();
  Var<T> y = tape.result("soft_round", s, {x});
  trace_function(y, {x}, [&] {
    traced::SoftRound what{s[1], s[2], {}};
    std::copy_n(table, 64, what.table.begin());
    return what;
  });
  T* q = tape.arena().template allocate<T>(64);
  std::copy_n(table, 64, q);
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      soft_round<T>(isa, std::as_const(x).data(g), nullptr, y.data(g), s[1], s[2], q, tape.lanes());
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    T* dx = t.add_target(x);
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        soft_round<T>(isa, std::as_const(x).data(g), t.gradient(y, g), dx + g * x.size() * t.lanes(), s[1], s[2], q,
                      t.lanes());
      });
    });
  });
  return y;
}

/// One component there and back. x: (1,H,W), centred at 0.
template <class T>
Var<T> soft_component(Var<T> x, const std::int32_t (&table)[64], bool halved) {
  const Shape s = x.shape();
  const bool plain = halved && (s[2] + 1) / 2 <= 2;  // libjpeg's choice for narrow images
  for (const std::size_t axis : {1, 2}) {
    const auto blocks = to_blocks<T>(s[axis], halved, axis == 1);
    x = resample(x, axis, compose(blocks, dct_map<T>(blocks.out, false)));
  }
  x = soft_round(x, table);
  for (const std::size_t axis : {1, 2}) {
    const auto pixels = from_blocks<T>(s[axis], halved, plain);
    x = resample(x, axis, compose(dct_map<T>(pixels.in, true), pixels));
  }
  return x;
}

}  // namespace detail

/// JPEG in real numbers, differentiable: the same transform, tables, padding and resampling as `jpeg`, but coefficients
/// are rounded by k + (t - k)^3, k the integer nearest to t, whose derivative is 3 (t - k)^2 (Shin and Song 2017,
/// "JPEG-resistant adversarial images"), and pixels neither before nor behind. x: (1,H,W) or (3,H,W) in [0,1]. Not
/// clipped. Throws ShapeError for other channels.
template <class T>
Var<T> soft_jpeg(Var<T> x, const JpegOptions& options = {}) {
  const kernels::JpegPlan plan = detail::jpeg_plan("soft_jpeg", x.shape(), options);
  constexpr double kScale = 1.0 / 255.0;
  if (plan.channels == 1) {
    Var<T> y = detail::soft_component(affine(x, T{255}, T{-128}), plan.luminance, false);
    return affine(y, static_cast<T>(kScale), static_cast<T>(128 * kScale));
  }
  // The colours of JFIF: Y = kr R + kg G + kb B (less 128), Cb = (B - Y) / kcb, Cr = (R - Y) / kcr.
  constexpr double kr = 0.299, kg = 0.587, kb = 0.114, kcb = 1.772, kcr = 1.402;
  const std::array<double, 9> to{255 * kr,
                                 255 * kg,
                                 255 * kb,
                                 -255 * kr / kcb,
                                 -255 * kg / kcb,
                                 255 * (1 - kb) / kcb,
                                 255 * (1 - kr) / kcr,
                                 -255 * kg / kcr,
                                 -255 * kb / kcr};
  const std::array<double, 9> from{
      kScale, 0, kScale * kcr, kScale, -kScale * kb * kcb / kg, -kScale * kr * kcr / kg, kScale, kScale * kcb, 0};
  const Var<T> colours = detail::mix_channels(x, to, {-128, 0, 0});
  Var<T> y[3];
  for (int c = 0; c < 3; ++c) {
    y[c] = detail::soft_component(slice(colours, 0, c, c + 1), c == 0 ? plan.luminance : plan.chrominance,
                                  c > 0 && plan.halved);
  }
  const double black = 128 * kScale;
  return detail::mix_channels(concat({y[0], y[1], y[2]}, 0), from, {black, black, black});
}

}  // namespace pavise::defend
