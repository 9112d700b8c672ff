// SPDX-License-Identifier: MIT
// Filters over windows: a warp takes one pixel of 32 images. Derivatives gather where the CPU's scatter: an input pixel
// takes its shares in the order in which the CPU's loops come by. Shapes: [group][channel][pixel][32]. Oracles:
// kernels::median_filter, bilateral_forward and their derivatives, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

struct Place {
  std::int64_t i, j;
};
__device__ __forceinline__ Place place_of(std::int64_t pixel, std::int64_t width) {
  const auto i = static_cast<std::uint32_t>(pixel) / static_cast<std::uint32_t>(width);
  return {i, pixel - i * width};
}

/// body(i, j) for every pixel of whose window (p.i, p.j) may be part, in row-major order. Windows begin half their
/// extent before their pixel, and a mirrored place is no farther from it than the place behind the border.
template <class Body>
__device__ __forceinline__ void each_centre(const Windows& w, Place p, const Body& body) {
  const std::int64_t up = w.rows / 2;
  const std::int64_t left = w.columns / 2;
  const std::int64_t i_end = std::min(p.i + up + 1, w.height);
  const std::int64_t j_end = std::min(p.j + left + 1, w.width);
  for (std::int64_t i = std::max<std::int64_t>(p.i - up, 0); i < i_end; ++i) {
    for (std::int64_t j = std::max<std::int64_t>(p.j - left, 0); j < j_end; ++j) {
      body(i, j);
    }
  }
}

/// One plane in, one out.
struct PlaneOf {
  Windows w;
  const float* x;
  float* y;
};

/// The medians of windows that fit in registers: find(in, windows, i, j).
template <class Find>
struct Median {
  PlaneOf of;
  __device__ void operator()(std::int64_t plane, std::int64_t pixel) const {
    const std::int64_t first = plane * of.w.height * of.w.width * 32;
    const Place p = place_of(pixel, of.w.width);
    Find::find(of.x + first, of.w, p.i, p.j).store(of.y + first + pixel * 32);
  }
};

/// Pixels of the window of (i, j).
struct Window {
  const float* in;
  const Windows& w;
  std::int64_t i, j;
  __device__ __forceinline__ Pack<float, 32> operator()(std::int64_t r, std::int64_t c) const {
    return Pack<float, 32>::load(in + (w.y[i + r] * w.width + w.x[j + c]) * 32);
  }
  __device__ __forceinline__ Pack<float, 32> operator()(std::int64_t k) const {
    const auto columns = static_cast<std::uint32_t>(w.columns);
    return (*this)(static_cast<std::uint32_t>(k) / columns, static_cast<std::uint32_t>(k) % columns);
  }
};

struct OfTwo {
  __device__ static Pack<float, 32> find(const float* in, const Windows& w, std::int64_t i, std::int64_t j) {
    const Window pixel{in, w, i, j};
    return max(pixel(0), pixel(w.rows * w.columns - 1));
  }
};
struct OfFour {
  __device__ static Pack<float, 32> find(const float* in, const Windows& w, std::int64_t i, std::int64_t j) {
    const Window at{in, w, i, j};
    return upper_median_of_four(at(0, 0), at(0, 1), at(1, 0), at(1, 1));
  }
};
struct OfNine {
  __device__ static Pack<float, 32> find(const float* in, const Windows& w, std::int64_t i, std::int64_t j) {
    return median_of_nine(sorted_column<float, 32>(in, w, i, j), sorted_column<float, 32>(in, w, i, j + 1),
                          sorted_column<float, 32>(in, w, i, j + 2));
  }
};
struct Of25 {
  __device__ static Pack<float, 32> find(const float* in, const Windows& w, std::int64_t i, std::int64_t j) {
    return median_of_25<float, 32>(Window{in, w, i, j});
  }
};

/// Those of other windows, in memory that each running warp has for itself.
struct MedianInMemory {
  PlaneOf of;
  std::int64_t held;  ///< elements of the scratch of a warp
  float* scratch;
  __device__ void operator()(std::int64_t plane, std::int64_t pixel) const {
    const std::int64_t first = plane * of.w.height * of.w.width * 32;
    const Place p = place_of(pixel, of.w.width);
    median_in_memory<float, 32>(of.w.rows * of.w.columns, Window{of.x + first, of.w, p.i, p.j},
                                scratch + thread_index() / 32 * held)
        .store(of.y + first + pixel * 32);
  }
};

bool is_window(const Windows& w, std::int64_t extent) { return w.rows == extent && w.columns == extent; }
bool median_in_registers(const Windows& w) {
  return w.rows * w.columns <= 2 || is_window(w, 2) || is_window(w, 3) || is_window(w, 5);
}
std::int64_t held_by_warp(const Windows& w) { return (w.rows * w.columns / 2 + 2) * 32; }
/// Blocks that find medians in memory: enough to fill a device, unless windows are so large that their scratch is.
std::int64_t memory_blocks(const Windows& w) {
  constexpr std::int64_t kScratch = std::int64_t{1} << 24;
  return std::clamp<std::int64_t>(kScratch / (held_by_warp(w) * (kThreads / 32)), 16, 512);
}

void median(Stream stream, const Windows& w, std::int64_t channels, const float* x, float* y, float* scratch,
            std::int64_t groups) {
  const PlaneOf of{w, x, y};
  const std::int64_t planes = groups * channels;
  const std::int64_t pixels = w.height * w.width;
  if (w.rows * w.columns <= 2) {
    each_warp(stream, "median", planes, pixels, Median<OfTwo>{of});
  } else if (is_window(w, 2)) {
    each_warp(stream, "median_2x2", planes, pixels, Median<OfFour>{of});
  } else if (is_window(w, 3)) {
    each_warp(stream, "median_3x3", planes, pixels, Median<OfNine>{of});
  } else if (is_window(w, 5)) {
    each_warp(stream, "median_5x5", planes, pixels, Median<Of25>{of});
  } else {
    const std::int64_t blocks = std::min<std::int64_t>(memory_blocks(w), blocks_for(planes * pixels * 32).x);
    launch(stream, "median_in_memory", warps_kernel<MedianInMemory>, dim3(static_cast<unsigned>(blocks)), kThreads, 0,
           planes, pixels, MedianInMemory{of, held_by_warp(w), scratch});
  }
}

struct MedianShares {
  Windows w;
  const float* x;
  const float* y;
  const float* dy;
  float* shares;
  __device__ void operator()(std::int64_t plane, std::int64_t pixel) const {
    const std::int64_t first = plane * w.height * w.width * 32;
    const Place p = place_of(pixel, w.width);
    median_share<float, 32>(x + first, y + first, dy + first, w, p.i, p.j).store(shares + first + pixel * 32);
  }
};

struct MedianGather {
  Windows w;
  const float* x;
  const float* y;
  const float* shares;
  float* dx;
  __device__ void operator()(std::int64_t plane, std::int64_t pixel) const {
    using P = Pack<float, 32>;
    const std::int64_t first = plane * w.height * w.width * 32;
    const Place p = place_of(pixel, w.width);
    const P value = P::load(x + first + pixel * 32);
    P sum = P::load(dx + first + pixel * 32);
    each_centre(w, p, [&](std::int64_t i, std::int64_t j) {
      const std::int64_t centre = first + (i * w.width + j) * 32;
      const P median = P::load(y + centre);
      const P share = P::load(shares + centre);
      for (std::int64_t r = 0; r < w.rows; ++r) {
        if (w.y[i + r] != p.i) {
          continue;
        }
        for (std::int64_t c = 0; c < w.columns; ++c) {
          if (w.x[j + c] == p.j) {
            sum = add_median_share(sum, value, median, share);
          }
        }
      }
    });
    sum.store(dx + first + pixel * 32);
  }
};

/// Arguments of a bilateral filter.
struct BilateralOf {
  Windows w;
  const float* space;
  float slope;
  const float* x;
};

template <int C>
struct Bilateral {
  BilateralOf of;
  float* y;
  __device__ void operator()(std::int64_t group, std::int64_t pixel) const {
    const std::int64_t pixels = of.w.height * of.w.width;
    const std::int64_t first = group * C * pixels * 32;
    const Place at = place_of(pixel, of.w.width);
    const auto p = bilateral_pixel<float, 32, C>(of.x + first, of.w, of.space, of.slope, at.i, at.j);
    PAVISE_UNROLL
    for (int k = 0; k < C; ++k) {
      (p.sum[k] / p.total).store(y + first + (k * pixels + pixel) * 32);
    }
  }
};

template <int C>
struct BilateralShares {
  BilateralOf of;
  const float* dy;
  float* shares;
  __device__ void operator()(std::int64_t group, std::int64_t pixel) const {
    const std::int64_t pixels = of.w.height * of.w.width;
    const std::int64_t first = group * C * pixels * 32;
    const Place at = place_of(pixel, of.w.width);
    const auto p = bilateral_pixel<float, 32, C>(of.x + first, of.w, of.space, of.slope, at.i, at.j);
    PAVISE_UNROLL
    for (int k = 0; k < C; ++k) {
      const std::int64_t here = first + (k * pixels + pixel) * 32;
      (Pack<float, 32>::load(dy + here) / p.total).store(shares + here);
    }
  }
};

/// One pixel of C channels.
template <int C>
struct Colour {
  Pack<float, 32> v[C];
  __device__ __forceinline__ static Colour load(const float* p, std::int64_t pixels) {
    Colour out;
    PAVISE_UNROLL
    for (int k = 0; k < C; ++k) {
      out.v[k] = Pack<float, 32>::load(p + k * pixels * 32);
    }
    return out;
  }
};

template <int C>
struct BilateralGather {
  BilateralOf of;
  const float* y;
  const float* shares;
  float* dx;
  __device__ void operator()(std::int64_t group, std::int64_t pixel) const {
    using P = Pack<float, 32>;
    const Windows& w = of.w;
    const std::int64_t pixels = w.height * w.width;
    const std::int64_t first = group * C * pixels * 32;
    const float* const in = of.x + first;
    const Place p = place_of(pixel, w.width);
    auto sum = Colour<C>::load(dx + first + pixel * 32, pixels);
    each_centre(w, p, [&](std::int64_t i, std::int64_t j) {
      const std::int64_t here = i * w.width + j;
      const auto centre = Colour<C>::load(in + here * 32, pixels);
      const auto mean = Colour<C>::load(y + first + here * 32, pixels);
      const auto share = Colour<C>::load(shares + first + here * 32, pixels);
      // The pixel's own window adds to it for every neighbour, the others where they come by it.
      const bool own = here == pixel;
      for (std::int64_t r = 0; r < w.rows; ++r) {
        if (!own && w.y[i + r] != p.i) {
          continue;
        }
        for (std::int64_t c = 0; c < w.columns; ++c) {
          const float space = of.space[r * w.columns + c];
          const std::int64_t at = w.y[i + r] * w.width + w.x[j + c];
          if (space == 0.0f || (!own && at != pixel)) {
            continue;
          }
          const P distance = bilateral_distance<float, 32, C>(in, pixels, at, centre.v);
          const P weight = bilateral_weight(distance, of.slope, space);
          const P by_distance =
              bilateral_by_distance<float, 32, C>(in, pixels, at, mean.v, share.v, weight, distance, of.slope);
          PAVISE_UNROLL
          for (int k = 0; k < C; ++k) {
            const P turn = by_distance * sign(P::load(in + (k * pixels + at) * 32) - centre.v[k]);
            sum.v[k] = at == pixel ? fma(share.v[k], weight, sum.v[k]) + turn : sum.v[k];
            sum.v[k] = own ? sum.v[k] - turn : sum.v[k];
          }
        }
      }
    });
    PAVISE_UNROLL
    for (int k = 0; k < C; ++k) {
      sum.v[k].store(dx + first + (k * pixels + pixel) * 32);
    }
  }
};

template <int C>
void gather_bilateral(Stream stream, const BilateralOf& of, const float* y, const float* dy, float* dx, float* shares,
                      std::int64_t groups) {
  const std::int64_t pixels = of.w.height * of.w.width;
  each_warp(stream, "bilateral_shares", groups, pixels, BilateralShares<C>{of, dy, shares});
  each_warp(stream, "bilateral_backward", groups, pixels, BilateralGather<C>{of, y, shares, dx});
}

}  // namespace

void fill_windows(Table& t) {
  t.median_scratch = [](const Windows& w) {
    return median_in_registers(w) ? 0 : memory_blocks(w) * (kThreads / 32) * held_by_warp(w);
  };
  t.median = median;
  t.median_backward = [](Stream stream, const Windows& w, std::int64_t channels, const float* x, const float* y,
                         const float* dy, float* dx, float* shares, std::int64_t groups) {
    const std::int64_t pixels = w.height * w.width;
    each_warp(stream, "median_shares", groups * channels, pixels, MedianShares{w, x, y, dy, shares});
    each_warp(stream, "median_backward", groups * channels, pixels, MedianGather{w, x, y, shares, dx});
  };
  t.bilateral = [](Stream stream, const Windows& w, const float* space, std::int64_t channels, float slope,
                   const float* x, float* y, std::int64_t groups) {
    const BilateralOf of{w, space, slope, x};
    const std::int64_t pixels = w.height * w.width;
    if (channels == 3) {
      each_warp(stream, "bilateral", groups, pixels, Bilateral<3>{of, y});
    } else {
      each_warp(stream, "bilateral", groups, pixels, Bilateral<1>{of, y});
    }
  };
  t.bilateral_backward = [](Stream stream, const Windows& w, const float* space, std::int64_t channels, float slope,
                            const float* x, const float* y, const float* dy, float* dx, float* shares,
                            std::int64_t groups) {
    const auto run = channels == 3 ? gather_bilateral<3> : gather_bilateral<1>;
    run(stream, {w, space, slope, x}, y, dy, dx, shares, groups);
  };
}

}  // namespace pavise::kernels::cuda
