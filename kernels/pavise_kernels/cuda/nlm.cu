// SPDX-License-Identifier: MIT
// Non-local means of [group](channels,height,width)[32], and the colours that it compares in. A warp takes a few pixels
// of a column, one below another, of 32 images: they share the sums along the rows of their patches. Oracles:
// kernels::non_local_means, lab_from_rgb and rgb_from_lab, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

/// Pixels that a warp takes.
constexpr int kRowsOfWarp = 4;

/// C: channels, whose sums stay in registers; 0: any number of them, and their sums are in y.
template <int C>
struct NonLocalMeans {
  using P = Pack<float, 32>;
  NlmPlan p;
  const float* x;
  std::int64_t x_step;
  float* y;
  std::int64_t y_step;

  __device__ std::int64_t channels() const { return C > 0 ? C : p.channels; }
  __device__ int side() const { return static_cast<int>(2 * p.patch + 1); }

  /// The sum along a patch's row around column j: of squared differences between two rows of the image, the second at
  /// columns `shift` further on.
  __device__ P row_distance(const float* row, const float* shifted_row, std::int64_t j, std::int64_t shift) const {
    const std::int64_t pixels = p.height * p.width;
    const std::int64_t* columns = p.x + j + p.search;
    P sum = P::broadcast(0.0f);
    for (int v = 0; v < side(); ++v) {
      const float* a = row + columns[v] * 32;
      const float* b = shifted_row + columns[v + shift] * 32;
      P square = P::broadcast(0.0f);
      PAVISE_UNROLL
      for (std::int64_t c = 0; c < channels(); ++c) {
        square = add_squared_difference(P::load(a + c * pixels * 32), P::load(b + c * pixels * 32), square);
      }
      sum = v == 0 ? square : sum + square;
    }
    return sum;
  }

  __device__ void operator()(std::int64_t g, std::int64_t part) const {
    const float* const in = x + g * x_step * 32;
    const std::int64_t pixels = p.height * p.width;
    const std::int64_t first = part / p.width * kRowsOfWarp;
    const std::int64_t j = part % p.width;
    const std::int64_t* const rows = p.y + p.patch + p.search;
    float* const out = y + (g * y_step + first * p.width + j) * 32;
    P total[kRowsOfWarp];
    P mean[kRowsOfWarp][C > 0 ? C : 1];
    PAVISE_UNROLL
    for (int k = 0; k < kRowsOfWarp; ++k) {
      total[k] = P::broadcast(0.0f);
      for (std::int64_t c = 0; c < channels(); ++c) {
        if constexpr (C > 0) {
          mean[k][c] = P::broadcast(0.0f);
        } else if (first + k < p.height) {
          P::broadcast(0.0f).store(out + (c * pixels + k * p.width) * 32);
        }
      }
    }
    for (std::int64_t oy = -p.search; oy <= p.search; ++oy) {
      for (std::int64_t ox = -p.search; ox <= p.search; ++ox) {
        P distance[kRowsOfWarp];
        for (int r = 0; r < kRowsOfWarp - 1 + side() && first + r < p.height + 2 * p.patch; ++r) {
          const std::int64_t i = first + r - p.patch;
          const P d = row_distance(in + rows[i] * p.width * 32, in + rows[i + oy] * p.width * 32, j, ox);
          PAVISE_UNROLL
          for (int k = 0; k < kRowsOfWarp; ++k) {
            if (r == k) {
              distance[k] = d;
            } else if (r > k && r < k + side()) {
              distance[k] = distance[k] + d;
            }
          }
        }
        const std::int64_t column = p.x[j + p.patch + p.search + ox];
        PAVISE_UNROLL
        for (int k = 0; k < kRowsOfWarp; ++k) {
          if (first + k >= p.height) {
            continue;
          }
          const P weight = nlm_weight(distance[k], static_cast<float>(p.slope));
          const float* const neighbour = in + (rows[first + k + oy] * p.width + column) * 32;
          total[k] = total[k] + weight;
          PAVISE_UNROLL
          for (std::int64_t c = 0; c < channels(); ++c) {
            const P v = P::load(neighbour + c * pixels * 32);
            if constexpr (C > 0) {
              mean[k][c] = fma(weight, v, mean[k][c]);
            } else {
              float* const to = out + (c * pixels + k * p.width) * 32;
              fma(weight, v, P::load(to)).store(to);
            }
          }
        }
      }
    }
    PAVISE_UNROLL
    for (int k = 0; k < kRowsOfWarp; ++k) {
      for (std::int64_t c = 0; c < channels() && first + k < p.height; ++c) {
        float* const to = out + (c * pixels + k * p.width) * 32;
        if constexpr (C > 0) {
          (mean[k][c] / total[k]).store(to);
        } else {
          (P::load(to) / total[k]).store(to);
        }
      }
    }
  }
};

struct LabFromRgb {
  const float* x;
  float* y;
  std::int64_t pixels;
  __device__ void operator()(std::int64_t g, std::int64_t i) const {
    lab_from_rgb_at<float, 32>(x + g * 3 * pixels * 32, y + g * 3 * pixels * 32, pixels, i);
  }
};

struct RgbFromLab {
  const float* x;
  float* y;
  std::int64_t pixels;
  __device__ void operator()(std::int64_t g, std::int64_t i) const {
    rgb_from_lab_at<float, 32>(x + g * 3 * pixels * 32, y + g * 3 * pixels * 32, pixels, i);
  }
};

}  // namespace

void fill_nlm(Table& t) {
  t.non_local_means = [](Stream stream, const NlmPlan& p, std::int64_t x_step, const float* x, std::int64_t y_step,
                         float* y, std::int64_t groups) {
    const auto queue = [&](auto channels) {
      each_warp(stream, "non_local_means", groups, (p.height + kRowsOfWarp - 1) / kRowsOfWarp * p.width,
                NonLocalMeans<channels()>{p, x, x_step, y, y_step});
    };
    switch (p.channels) {
      case 1:
        return queue(std::integral_constant<int, 1>{});
      case 2:
        return queue(std::integral_constant<int, 2>{});
      case 3:
        return queue(std::integral_constant<int, 3>{});
      default:
        return queue(std::integral_constant<int, 0>{});
    }
  };
  t.lab_from_rgb = [](Stream stream, const float* x, float* y, std::int64_t pixels, std::int64_t groups) {
    each_warp(stream, "lab_from_rgb", groups, pixels, LabFromRgb{x, y, pixels});
  };
  t.rgb_from_lab = [](Stream stream, const float* x, float* y, std::int64_t pixels, std::int64_t groups) {
    each_warp(stream, "rgb_from_lab", groups, pixels, RgbFromLab{x, y, pixels});
  };
}

}  // namespace pavise::kernels::cuda
