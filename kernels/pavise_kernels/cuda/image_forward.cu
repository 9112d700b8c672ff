// SPDX-License-Identifier: MIT
// A convolution of an image of one or three channels: few taps, so that what is worth sharing is the inputs and the
// weights. A warp has sixteen rows of four neighbouring points (of 32 images at a time), loads each pixel that they read
// once, and adds it to all sums that it belongs to, in registers. The kernel and its stride are known when it is compiled.
//
// Sums have the order of the CPU's plan: bias, then channels, and of each the kernel positions in order; pixels outside
// are added as zeros, which changes no bit while weights are finite and no bias is minus zero. Oracle:
// kernels::gather_gemm, tests/cuda/gather_gemm_checks.hpp. On an H200, small-cnn's first layer, 4096 images: the kernel
// for any plan (gather_gemm.cu) took 39 us.
#include "pavise_kernels/cuda/image.cuh"

namespace pavise::kernels::cuda {

namespace {

constexpr int kTileRows = 16;
constexpr int kTilePoints = 4;

struct ImageForwardJob {
  const float* weight;  ///< packed, [tap][padded rows]
  const float* in;
  float* out;
  const float* bias;
  const float* mask;
  std::int64_t in_size, out_size;
  int rows, padded, height, width, out_height, out_width, padding, tiles, tiles_x;
  bool relu, accumulate;
};

template <int Channels, int Kernel, int Stride>
__global__ void __launch_bounds__(kImageWarps * 32, Channels* Kernel > 9 ? 1 : 2)
    image_forward_kernel(ImageForwardJob job) {
  constexpr int kTaps = Channels * Kernel * Kernel;
  constexpr int kColumns = (kTilePoints - 1) * Stride + Kernel;
  float* const weights = dynamic_shared();  // [tap][row]
  const int row0 = static_cast<int>(blockIdx.z) * kTileRows;
  for (int i = static_cast<int>(threadIdx.x); i < kTaps * kTileRows; i += kImageWarps * 32) {
    const int row = row0 + i % kTileRows;
    weights[i] = row < job.padded ? job.weight[i / kTileRows * job.padded + row] : 0.0f;
  }
  __syncthreads();
  const int tile = static_cast<int>(blockIdx.x) * kImageWarps + warp_id();
  if (tile >= job.tiles) {
    return;
  }
  const int oy = tile / job.tiles_x;
  const int ox = tile % job.tiles_x * kTilePoints;
  const std::int64_t group = blockIdx.y;
  const float* const in = job.in + group * job.in_size * 32 + lane_id();
  float sum[kTileRows][kTilePoints];
  PAVISE_UNROLL
  for (int r = 0; r < kTileRows; ++r) {
    const float start = job.bias != nullptr && row0 + r < job.rows ? job.bias[row0 + r] : 0.0f;
    PAVISE_UNROLL
    for (int p = 0; p < kTilePoints; ++p) {
      sum[r][p] = start;
    }
  }
  const int ix0 = ox * Stride - job.padding;
  PAVISE_NO_UNROLL
  for (int c = 0; c < Channels; ++c) {
    PAVISE_UNROLL
    for (int ky = 0; ky < Kernel; ++ky) {
      const int iy = oy * Stride - job.padding + ky;
      const bool row_inside = iy >= 0 && iy < job.height;
      const float* const from = in + ((static_cast<std::int64_t>(c) * job.height + iy) * job.width + ix0) * 32;
      float value[kColumns];
      PAVISE_UNROLL
      for (int f = 0; f < kColumns; ++f) {
        value[f] = row_inside && ix0 + f >= 0 && ix0 + f < job.width ? from[f * 32] : 0.0f;
      }
      PAVISE_UNROLL
      for (int kx = 0; kx < Kernel; ++kx) {
        const float* const w = weights + ((c * Kernel + ky) * Kernel + kx) * kTileRows;
        PAVISE_UNROLL
        for (int r = 0; r < kTileRows; r += 4) {
          const float4 four = *reinterpret_cast<const float4*>(w + r);
          PAVISE_UNROLL
          for (int p = 0; p < kTilePoints; ++p) {
            const float x = value[p * Stride + kx];
            sum[r][p] = fmaf(four.x, x, sum[r][p]);
            sum[r + 1][p] = fmaf(four.y, x, sum[r + 1][p]);
            sum[r + 2][p] = fmaf(four.z, x, sum[r + 2][p]);
            sum[r + 3][p] = fmaf(four.w, x, sum[r + 3][p]);
          }
        }
      }
    }
  }
  PAVISE_UNROLL
  for (int r = 0; r < kTileRows; ++r) {
    PAVISE_UNROLL
    for (int p = 0; p < kTilePoints; ++p) {
      if (row0 + r < job.rows && ox + p < job.out_width) {
        const std::int64_t at =
            group * job.out_size + (static_cast<std::int64_t>(row0 + r) * job.out_height + oy) * job.out_width + ox + p;
        gather::store_sum(job, at * 32 + lane_id(), sum[r][p]);
      }
    }
  }
}

}  // namespace

bool apply_image_forward(Stream stream, const Operator* op, const float* in, float* out, const Epilogue<float>& e,
                         std::int64_t groups) {
  const ConvGeometry& g = op->convolution;
  ImageForwardJob job{.weight = op->packed,
                      .in = in,
                      .out = out,
                      .bias = e.bias,
                      .mask = e.mask,
                      .in_size = op->in_size,
                      .out_size = op->out_size,
                      .rows = static_cast<int>(op->rows),
                      .padded = op->padded,
                      .height = static_cast<int>(g.in_height),
                      .width = static_cast<int>(g.in_width),
                      .out_height = static_cast<int>(g.out_height),
                      .out_width = static_cast<int>(g.out_width),
                      .padding = static_cast<int>(g.padding),
                      .tiles = 0,
                      .tiles_x = static_cast<int>((g.out_width + kTilePoints - 1) / kTilePoints),
                      .relu = e.relu,
                      .accumulate = e.accumulate};
  job.tiles = job.tiles_x * job.out_height;
  const auto take = [&](auto channels, auto kernel, auto stride) {
    if (groups > 65535 || !is_image_kernel(g, channels(), kernel(), stride())) {
      return false;
    }
    launch(stream, "image_forward", image_forward_kernel<channels(), kernel(), stride()>,
           dim3(static_cast<unsigned>((job.tiles + kImageWarps - 1) / kImageWarps), static_cast<unsigned>(groups),
                static_cast<unsigned>((op->rows + kTileRows - 1) / kTileRows)),
           kImageWarps * 32, sizeof(float) * channels() * kernel() * kernel() * kTileRows, job);
    return true;
  };
  return any_image_kernel(take);
}

}  // namespace pavise::kernels::cuda
