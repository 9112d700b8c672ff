// SPDX-License-Identifier: MIT
// The derivative of a convolution with respect to an image of one or three channels: few rows, so that what is worth
// sharing is the inputs. A warp has a tile of two rows of the image (of 32 images at a time), loads each element of the
// gradient that the tile reads once, and adds it to all sums that it belongs to, in registers. The kernel and its stride
// are known when it is compiled.
//
// Sums have the order of the CPU's plan: channels, and of each the kernel positions in order; elements outside are added
// as zeros, which changes no bit of a sum that begins with zero while weights are finite. Oracle: kernels::gather_gemm,
// tests/cuda/gather_gemm_checks.hpp. On an H200, small-cnn's first layer, 4096 images: the kernel for few rows
// (gather_gemm.cu), which loads an element for each kernel position that reads it, took 87 us; this one takes 40 or less.
#include <type_traits>

#include "pavise_kernels/cuda/gather_gemm.cuh"

namespace pavise::kernels::cuda {

namespace {

constexpr int kTileWarps = 8;  ///< of a block

struct ImageJob {
  const float* weight;  ///< packed, [tap][padded rows]
  const int* tap_of;    ///< [channel][kernel position]
  const float* in;
  float* out;
  const float* mask;
  std::int64_t in_size, out_size;
  int channels, height, width, in_height, in_width;  ///< of the image, and of the gradient that is read
  int padding, padded, tiles, tiles_x;
  bool relu, accumulate;
};

template <int Rows, int Kernel, int Stride>
struct ImageTile {
  static constexpr int kHeight = 2;
  static constexpr int kWidth = 8;
  static constexpr int kBefore = (Kernel - 1) / Stride;  ///< elements read before the tile's first
  static constexpr int kInRows = (kHeight - 1) / Stride + kBefore + 1;
  static constexpr int kInColumns = (kWidth - 1) / Stride + kBefore + 1;
  static constexpr int kWeights = (Kernel * Kernel * Rows + 3) / 4 * 4;  ///< of a channel, in shared memory
};

template <int Rows, int Kernel, int Stride>
__global__ void __launch_bounds__(kTileWarps * 32, Rows* Kernel > 12 ? 1 : 2) image_gradient_kernel(ImageJob job) {
  using T = ImageTile<Rows, Kernel, Stride>;
  static_assert(T::kHeight % Stride == 0 && T::kWidth % Stride == 0);
  float* const weights = dynamic_shared();  // [channel][kernel position][row]
  for (int i = static_cast<int>(threadIdx.x); i < job.channels * Kernel * Kernel; i += kTileWarps * 32) {
    PAVISE_UNROLL
    for (int r = 0; r < Rows; ++r) {
      weights[i / (Kernel * Kernel) * T::kWeights + i % (Kernel * Kernel) * Rows + r] =
          job.weight[static_cast<std::int64_t>(job.tap_of[i]) * job.padded + r];
    }
  }
  __syncthreads();
  const int tile = static_cast<int>(blockIdx.x) * kTileWarps + warp_id();
  if (tile >= job.tiles) {
    return;
  }
  // Tiles begin where kernel position 0 meets an element: that of place + padding, divided by the stride.
  const int first_y = job.padding / Stride + tile / job.tiles_x * (T::kHeight / Stride);
  const int first_x = job.padding / Stride + tile % job.tiles_x * (T::kWidth / Stride);
  const int y0 = first_y * Stride - job.padding;
  const int x0 = first_x * Stride - job.padding;
  const std::int64_t group = blockIdx.y;
  const float* const in = job.in + group * job.in_size * 32 + lane_id();

  float sum[Rows][T::kHeight][T::kWidth];
  PAVISE_UNROLL
  for (int r = 0; r < Rows; ++r) {
    PAVISE_UNROLL
    for (int y = 0; y < T::kHeight; ++y) {
      PAVISE_UNROLL
      for (int x = 0; x < T::kWidth; ++x) {
        sum[r][y][x] = 0.0f;
      }
    }
  }
  PAVISE_NO_UNROLL
  for (int c = 0; c < job.channels; ++c) {
    float w[T::kWeights];
    PAVISE_UNROLL
    for (int i = 0; i < T::kWeights; i += 4) {
      const float4 v = *reinterpret_cast<const float4*>(weights + c * T::kWeights + i);
      w[i] = v.x;
      w[i + 1] = v.y;
      w[i + 2] = v.z;
      w[i + 3] = v.w;
    }
    // Rows of the gradient from below, so that the kernel's rows come in order.
    PAVISE_UNROLL
    for (int e = T::kInRows - 1 - T::kBefore; e >= -T::kBefore; --e) {
      const int iy = first_y + e;
      const bool row_inside = iy >= 0 && iy < job.in_height;
      const float* const from =
          in + ((static_cast<std::int64_t>(c) * job.in_height + iy) * job.in_width + first_x - T::kBefore) * 32;
      float value[T::kInColumns];
      PAVISE_UNROLL
      for (int f = 0; f < T::kInColumns; ++f) {
        const int ix = first_x - T::kBefore + f;
        value[f] = row_inside && ix >= 0 && ix < job.in_width ? from[f * 32] : 0.0f;
      }
      PAVISE_UNROLL
      for (int y = 0; y < T::kHeight; ++y) {
        const int ky = y - Stride * e;
        if (ky < 0 || ky >= Kernel) {
          continue;
        }
        PAVISE_UNROLL
        for (int kx = 0; kx < Kernel; ++kx) {
          PAVISE_UNROLL
          for (int x = kx % Stride; x < T::kWidth; x += Stride) {
            PAVISE_UNROLL
            for (int r = 0; r < Rows; ++r) {
              sum[r][y][x] =
                  fmaf(w[(ky * Kernel + kx) * Rows + r], value[(x - kx) / Stride + T::kBefore], sum[r][y][x]);
            }
          }
        }
      }
    }
  }
  PAVISE_UNROLL
  for (int r = 0; r < Rows; ++r) {
    PAVISE_UNROLL
    for (int y = 0; y < T::kHeight; ++y) {
      PAVISE_UNROLL
      for (int x = 0; x < T::kWidth; ++x) {
        if (y0 + y >= 0 && y0 + y < job.height && x0 + x >= 0 && x0 + x < job.width) {
          const std::int64_t at =
              group * job.out_size + (static_cast<std::int64_t>(r) * job.height + y0 + y) * job.width + x0 + x;
          gather::store_sum(job, at * 32 + lane_id(), sum[r][y][x]);
        }
      }
    }
  }
}

template <int Rows, int Kernel, int Stride>
void apply_tiles(Stream stream, const ConvGeometry& g, ImageJob job, std::int64_t groups) {
  using T = ImageTile<Rows, Kernel, Stride>;
  const auto tiles = [&](std::int64_t extent, int tile) {  // from the first place, up to stride - 1 before the image
    return static_cast<int>((extent + g.padding % Stride + tile - 1) / tile);
  };
  job.tiles_x = tiles(g.in_width, T::kWidth);
  job.tiles = job.tiles_x * tiles(g.in_height, T::kHeight);
  launch(stream, "image_gradient", image_gradient_kernel<Rows, Kernel, Stride>,
         dim3(static_cast<unsigned>((job.tiles + kTileWarps - 1) / kTileWarps), static_cast<unsigned>(groups)),
         kTileWarps * 32, sizeof(float) * static_cast<std::size_t>(job.channels * T::kWeights), job);
}

}  // namespace

bool apply_image_gradient(Stream stream, const Operator* op, const float* in, float* out, const Epilogue<float>& e,
                          std::int64_t groups) {
  const ConvGeometry& g = op->derivative_of;
  const bool known = op->tap_of != nullptr && e.bias == nullptr && groups <= 65535;
  const ImageJob job{.weight = op->packed,
                     .tap_of = op->tap_of,
                     .in = in,
                     .out = out,
                     .mask = e.mask,
                     .in_size = op->in_size,
                     .out_size = op->out_size,
                     .channels = static_cast<int>(g.out_channels),
                     .height = static_cast<int>(g.in_height),
                     .width = static_cast<int>(g.in_width),
                     .in_height = static_cast<int>(g.out_height),
                     .in_width = static_cast<int>(g.out_width),
                     .padding = static_cast<int>(g.padding),
                     .padded = op->padded,
                     .tiles = 0,
                     .tiles_x = 0,
                     .relu = e.relu,
                     .accumulate = e.accumulate};
  const auto is = [&](std::int64_t rows, std::int64_t kernel, std::int64_t stride) {
    return known && g.in_channels == rows && g.kernel_height == kernel && g.stride == stride;
  };
  const auto take = [&](auto rows, auto kernel, auto stride) {
    if (!is(rows(), kernel(), stride())) {
      return false;
    }
    apply_tiles<rows(), kernel(), stride()>(stream, g, job, groups);
    return true;
  };
  constexpr std::integral_constant<int, 1> k1{};
  constexpr std::integral_constant<int, 2> k2{};
  constexpr std::integral_constant<int, 3> k3{};
  constexpr std::integral_constant<int, 4> k4{};
  constexpr std::integral_constant<int, 5> k5{};
  return take(k1, k3, k1) || take(k1, k4, k2) || take(k1, k5, k1) || take(k3, k3, k1) || take(k3, k4, k2) ||
         take(k3, k5, k1);
}

bool has_image_gradient(const GatherPlan& plan) {
  const ConvGeometry& g = plan.derivative_of;
  return g.in_channels > 0 && plan.channel_groups == 1 && g.dilation == 1 && g.kernel_height == g.kernel_width &&
         sizeof(float) *
                 static_cast<std::size_t>(g.out_channels * (g.kernel_height * g.kernel_width * plan.rows + 3)) <=
             std::size_t{48} << 10;
}

}  // namespace pavise::kernels::cuda
