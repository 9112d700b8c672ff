// SPDX-License-Identifier: MIT
// Derivatives with respect to weights: the sums that cross the batch. A warp owns a tile of 8 rows x 8 taps of the
// result and a slice of the batch; each thread sums over its image, then the tile's 64 sums are added over the lanes by
// halves (62 shuffles for all of them), and a second kernel adds the slices in order.
//
// The order of a sum depends on the layer's shape and the number of groups alone, never on the device: for each lane the
// groups of a slice in turn and in each the positions in row-major order (what falls outside the image counts as 0);
// lanes l and l+16, then l+8, +4, +2, +1; slices in turn; and last what is there already. A slice has 1, 2, 4 or 8
// groups, so that devices that share a batch by whole blocks of kBlockImages and go on with each other's sums come to the
// same bits as one. It is not the CPU's order, which gives each lane all groups in one chain. Oracle: the same order in
// plain loops and the CPU's result within rounding, tests/cuda/weight_gradient_checks.hpp.
#include "pavise_kernels/cuda/slices.cuh"
#include "pavise_kernels/cuda/tensor_core.cuh"

namespace pavise::kernels::cuda {

namespace {

constexpr int kRows = 8;
constexpr int kTaps = 8;
constexpr int kWarps = 4;

struct WeightJob {
  const float* x;
  const float* dy;
  float* partial;               ///< [slice][channel group][rows][taps]
  int channels, height, width;  ///< of the input, in a group of channels
  int kernel_width, kernel;     ///< kernel: elements of it
  int stride, padding, dilation;
  int out_height, out_width;
  int rows, taps;  ///< of a group of channels
  int channel_groups, groups, slice;
};

/// Adds 64 sums over the lanes: afterwards v[0] and v[1] of a lane are the totals of sums 2*lane and 2*lane + 1.
__device__ __forceinline__ void add_over_lanes(float (&v)[64]) {
  PAVISE_UNROLL
  for (int half = 32, distance = 16; half >= 2; half /= 2, distance /= 2) {
    const bool upper = (lane_id() & distance) != 0;
    PAVISE_UNROLL
    for (int i = 0; i < 32; ++i) {
      if (i < half) {
        const float mine = upper ? v[i + half] : v[i];
        const float given = upper ? v[i] : v[i + half];
        v[i] = mine + __shfl_xor_sync(0xFFFFFFFFu, given, distance);
      }
    }
  }
}

/// What a tile reads, relative to the position's own corner.
struct TileReads {
  int tap[kTaps];  ///< element, times 32
  short y[kTaps];
  short x[kTaps];
  int row[kRows];  ///< element, times 32
  int least_x, most_x, least_y, most_y;
};

/// One position of the output of one group.
struct Position {
  const float* x;   ///< the corner that it reads from, in this lane
  const float* dy;  ///< row 0, in this lane
  int group, y, column;
};

/// What a tile reads at one position, in registers.
struct Operands {
  float d[kRows];
  float x[kTaps];
};

__device__ __forceinline__ void load_operands(const WeightJob& job, const TileReads& reads, const Position& p,
                                              Operands& o) {
  PAVISE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    o.d[r] = p.dy[reads.row[r]];
  }
  if (p.y + reads.least_y >= 0 && p.y + reads.most_y < job.height && p.column + reads.least_x >= 0 &&
      p.column + reads.most_x < job.width) {
    PAVISE_UNROLL
    for (int t = 0; t < kTaps; ++t) {
      o.x[t] = p.x[reads.tap[t]];
    }
  } else {
    PAVISE_UNROLL
    for (int t = 0; t < kTaps; ++t) {
      const bool inside = static_cast<unsigned>(p.y + reads.y[t]) < static_cast<unsigned>(job.height) &&
                          static_cast<unsigned>(p.column + reads.x[t]) < static_cast<unsigned>(job.width);
      o.x[t] = inside ? p.x[reads.tap[t]] : 0.0f;
    }
  }
}

__device__ __forceinline__ void add_products(const Operands& o, float (&sum)[kRows * kTaps]) {
  PAVISE_UNROLL
  for (int t = 0; t < kTaps; ++t) {
    PAVISE_UNROLL
    for (int r = 0; r < kRows; ++r) {
      sum[r * kTaps + t] = fmaf(o.d[r], o.x[t], sum[r * kTaps + t]);
    }
  }
}

/// The next position in row-major order, then of the next group.
__device__ __forceinline__ void advance(const WeightJob& job, std::int64_t x_size, std::int64_t dy_size, Position& p) {
  p.column += job.stride;
  p.x += job.stride * 32;
  p.dy += 32;
  if (p.column == job.out_width * job.stride) {
    p.column = 0;
    p.x += (job.width - job.out_width) * job.stride * 32;
    p.y += job.stride;
    if (p.y == job.out_height * job.stride) {
      p.y = 0;
      ++p.group;
      p.x = job.x + p.group * x_size * 32 + lane_id();
      p.dy = job.dy + p.group * dy_size * 32 + lane_id();
    }
  }
}

__global__ void __launch_bounds__(kWarps * 32, 3) weight_gradient_kernel(WeightJob job, std::int64_t warps) {
  std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp_id();
  if (index >= warps) {
    return;
  }
  const int tap_tiles = (job.taps + kTaps - 1) / kTaps;
  const int row_tiles = (job.rows + kRows - 1) / kRows;
  const int tap0 = static_cast<int>(index % tap_tiles) * kTaps;
  index /= tap_tiles;
  const int row0 = static_cast<int>(index % row_tiles) * kRows;
  index /= row_tiles;
  const int channel_group = static_cast<int>(index % job.channel_groups);
  const int slice = static_cast<int>(index / job.channel_groups);

  const int plane = job.height * job.width;
  const int out_plane = job.out_height * job.out_width;
  const std::int64_t x_size = static_cast<std::int64_t>(plane) * job.channels * job.channel_groups;
  const std::int64_t dy_size = static_cast<std::int64_t>(out_plane) * job.rows * job.channel_groups;
  // Taps and rows behind the last repeat it; their sums are not stored.
  TileReads reads;
  PAVISE_UNROLL
  for (int t = 0; t < kTaps; ++t) {
    const int tap = std::min(tap0 + t, job.taps - 1);
    const int ky = tap % job.kernel / job.kernel_width * job.dilation - job.padding;
    const int kx = tap % job.kernel % job.kernel_width * job.dilation - job.padding;
    reads.tap[t] = ((channel_group * job.channels + tap / job.kernel) * plane + ky * job.width + kx) * 32;
    reads.y[t] = static_cast<short>(ky);
    reads.x[t] = static_cast<short>(kx);
    reads.least_x = t == 0 ? kx : std::min(reads.least_x, kx);
    reads.most_x = t == 0 ? kx : std::max(reads.most_x, kx);
    reads.least_y = t == 0 ? ky : std::min(reads.least_y, ky);
    reads.most_y = t == 0 ? ky : std::max(reads.most_y, ky);
  }
  PAVISE_UNROLL
  for (int r = 0; r < kRows; ++r) {
    reads.row[r] = (channel_group * job.rows + std::min(row0 + r, job.rows - 1)) * out_plane * 32;
  }
  float sum[kRows * kTaps];
  PAVISE_UNROLL
  for (int i = 0; i < kRows * kTaps; ++i) {
    sum[i] = 0.0f;
  }
  // Two sets of operands: one is loaded while the other is used.
  Position p{.x = job.x + slice * job.slice * x_size * 32 + lane_id(),
             .dy = job.dy + slice * job.slice * dy_size * 32 + lane_id(),
             .group = slice * job.slice,
             .y = 0,
             .column = 0};
  int left = (std::min(job.groups, (slice + 1) * job.slice) - p.group) * out_plane;
  Operands even;
  Operands odd;
  load_operands(job, reads, p, even);
  PAVISE_NO_UNROLL
  for (; left >= 2; left -= 2) {
    advance(job, x_size, dy_size, p);
    load_operands(job, reads, p, odd);
    add_products(even, sum);
    if (left > 2) {
      advance(job, x_size, dy_size, p);
      load_operands(job, reads, p, even);
    }
    add_products(odd, sum);
  }
  if (left == 1) {
    add_products(even, sum);
  }
  add_over_lanes(sum);
  float* to =
      job.partial + (static_cast<std::int64_t>(slice) * job.channel_groups + channel_group) * job.rows * job.taps;
  PAVISE_UNROLL
  for (int k = 0; k < 2; ++k) {
    const int i = 2 * lane_id() + k;
    const int row = row0 + i / kTaps;
    const int tap = tap0 + i % kTaps;
    if (row < job.rows && tap < job.taps) {
      to[static_cast<std::int64_t>(row) * job.taps + tap] = sum[k];
    }
  }
}

// --- the fast mode: the same sums on tensor cores, in TF32

constexpr int kFastRows = 32;                ///< of a warp's tile: two blocks of 16
constexpr int kFastTaps = 64;                ///< eight blocks of 8
constexpr std::int64_t kFastPositions = 32;  ///< kSlicePositions of this mode

/// Images of lane 4g+t for products of eight: 4t to 4t+3 and 16+4t to 16+4t+3, one of each at a time.
struct Eight {
  float4 low, high;
  __device__ __forceinline__ static Eight load(const float* row) {
    const int t = lane_id() % 4;
    return {*reinterpret_cast<const float4*>(row + 4 * t), *reinterpret_cast<const float4*>(row + 16 + 4 * t)};
  }
  __device__ __forceinline__ static float at(const float4& v, int k) {
    return to_tf32(k == 0 ? v.x : k == 1 ? v.y : k == 2 ? v.z : v.w);
  }
};

/// A warp owns 32 rows x 64 taps and a slice of the batch; the images are what the products sum over.
__global__ void __launch_bounds__(kWarps * 32) weight_gradient_fast_kernel(WeightJob job, std::int64_t warps) {
  std::int64_t index = static_cast<std::int64_t>(blockIdx.x) * kWarps + warp_id();
  if (index >= warps) {
    return;
  }
  const int tap_tiles = (job.taps + kFastTaps - 1) / kFastTaps;
  const int row_tiles = (job.rows + kFastRows - 1) / kFastRows;
  const int tap0 = static_cast<int>(index % tap_tiles) * kFastTaps;
  index /= tap_tiles;
  const int row0 = static_cast<int>(index % row_tiles) * kFastRows;
  index /= row_tiles;
  const int channel_group = static_cast<int>(index % job.channel_groups);
  const int slice = static_cast<int>(index / job.channel_groups);
  const int g = lane_id() / 4;
  const int t = lane_id() % 4;

  const int plane = job.height * job.width;
  const int out_plane = job.out_height * job.out_width;
  const std::int64_t x_size = static_cast<std::int64_t>(plane) * job.channels * job.channel_groups;
  const std::int64_t dy_size = static_cast<std::int64_t>(out_plane) * job.rows * job.channel_groups;
  // Taps and rows behind the last repeat it; their sums are not stored.
  int tap_at[8];
  int tap_y[8];
  int tap_x[8];
  PAVISE_UNROLL
  for (int n = 0; n < 8; ++n) {
    const int tap = std::min(tap0 + n * 8 + g, job.taps - 1);
    tap_y[n] = tap % job.kernel / job.kernel_width * job.dilation - job.padding;
    tap_x[n] = tap % job.kernel % job.kernel_width * job.dilation - job.padding;
    tap_at[n] = (channel_group * job.channels + tap / job.kernel) * plane + tap_y[n] * job.width + tap_x[n];
  }
  int row_at[4];
  PAVISE_UNROLL
  for (int m = 0; m < 4; ++m) {
    row_at[m] = (channel_group * job.rows + std::min(row0 + m * 8 + g, job.rows - 1)) * out_plane;
  }
  float sum[2][8][4] = {};
  const int first = slice * job.slice;
  const int last = std::min(job.groups, first + job.slice);
  for (int group = first; group < last; ++group) {
    const float* const x = job.x + group * x_size * 32;
    const float* const dy = job.dy + group * dy_size * 32;
    for (int p = 0; p < out_plane; ++p) {
      const int y = p / job.out_width * job.stride;
      const int column = p % job.out_width * job.stride;
      Eight rows[4];
      PAVISE_UNROLL
      for (int m = 0; m < 4; ++m) {
        rows[m] = Eight::load(dy + static_cast<std::int64_t>(row_at[m] + p) * 32);
      }
      PAVISE_UNROLL
      for (int n = 0; n < 8; ++n) {
        const bool inside = static_cast<unsigned>(y + tap_y[n]) < static_cast<unsigned>(job.height) &&
                            static_cast<unsigned>(column + tap_x[n]) < static_cast<unsigned>(job.width);
        Eight in{};
        if (inside) {
          in = Eight::load(x + static_cast<std::int64_t>(tap_at[n] + y * job.width + column) * 32);
        }
        PAVISE_UNROLL
        for (int k = 0; k < 4; ++k) {
          const float b[2] = {Eight::at(in.low, k), Eight::at(in.high, k)};
          PAVISE_UNROLL
          for (int m = 0; m < 2; ++m) {
            const float a[4] = {Eight::at(rows[2 * m].low, k), Eight::at(rows[2 * m + 1].low, k),
                                Eight::at(rows[2 * m].high, k), Eight::at(rows[2 * m + 1].high, k)};
            multiply(sum[m][n], a, b);
          }
        }
      }
    }
  }
  float* to =
      job.partial + (static_cast<std::int64_t>(slice) * job.channel_groups + channel_group) * job.rows * job.taps;
  PAVISE_UNROLL
  for (int m = 0; m < 2; ++m) {
    PAVISE_UNROLL
    for (int n = 0; n < 8; ++n) {
      PAVISE_UNROLL
      for (int i = 0; i < 4; ++i) {
        const int row = row0 + m * 16 + i / 2 * 8 + g;
        const int tap = tap0 + n * 8 + t * 2 + i % 2;
        if (row < job.rows && tap < job.taps) {
          to[static_cast<std::int64_t>(row) * job.taps + tap] = sum[m][n][i];
        }
      }
    }
  }
}

/// The slices' sums, in order, behind what came before them.
__global__ void __launch_bounds__(kThreads)
    add_slices_kernel(const float* partial, std::int64_t n, std::int64_t slices, SliceSum to) {
  for (std::int64_t i = thread_index(); i < n; i += thread_total()) {
    float sum = to.before != nullptr ? to.before[i] : partial[i];
    for (std::int64_t s = to.before != nullptr ? 0 : 1; s < slices; ++s) {
      sum = sum + partial[s * n + i];
    }
    to.out[i] = to.add ? to.out[i] + sum : sum;
  }
}

ConvGeometry matrix_geometry(std::int64_t rows, std::int64_t columns) {
  return {.in_channels = columns,
          .in_height = 1,
          .in_width = 1,
          .out_channels = rows,
          .kernel_height = 1,
          .kernel_width = 1,
          .out_height = 1,
          .out_width = 1};
}

std::int64_t conv_scratch(const ConvGeometry& g, std::int64_t groups) {
  const std::int64_t positions = g.out_height * g.out_width;
  return slices_of(positions, groups, std::min(kSlicePositions, kFastPositions)) * g.out_channels *
         (g.in_channels / g.groups) * g.kernel_height * g.kernel_width;
}

std::int64_t conv_weight_gradient(Stream stream, const ConvGeometry& g, const float* x, const float* dy, float* partial,
                                  std::int64_t groups, bool tensor_cores) {
  const std::int64_t positions = g.out_height * g.out_width;
  // Fewer rows or taps than a tile has would leave most of it empty.
  const bool fast = tensor_cores && g.out_channels / g.groups >= 16 &&
                    g.in_channels / g.groups * g.kernel_height * g.kernel_width >= 48;
  const std::int64_t enough = fast ? kFastPositions : kSlicePositions;
  const std::int64_t slices = slices_of(positions, groups, enough);
  const WeightJob job{.x = x,
                      .dy = dy,
                      .partial = partial,
                      .channels = static_cast<int>(g.in_channels / g.groups),
                      .height = static_cast<int>(g.in_height),
                      .width = static_cast<int>(g.in_width),
                      .kernel_width = static_cast<int>(g.kernel_width),
                      .kernel = static_cast<int>(g.kernel_height * g.kernel_width),
                      .stride = static_cast<int>(g.stride),
                      .padding = static_cast<int>(g.padding),
                      .dilation = static_cast<int>(g.dilation),
                      .out_height = static_cast<int>(g.out_height),
                      .out_width = static_cast<int>(g.out_width),
                      .rows = static_cast<int>(g.out_channels / g.groups),
                      .taps = static_cast<int>(g.in_channels / g.groups * g.kernel_height * g.kernel_width),
                      .channel_groups = static_cast<int>(g.groups),
                      .groups = static_cast<int>(groups),
                      .slice = static_cast<int>(slice_groups(positions, enough))};
  constexpr std::int64_t kLimit = std::int64_t{1} << 26;
  require<DeviceError>(g.in_channels * g.in_height * g.in_width < kLimit && g.out_channels * positions < kLimit,
                       "cuda: weight gradient of an image of ", g.in_channels * g.in_height * g.in_width,
                       " elements, expected less than 2^26");
  if (g.out_channels * job.taps == 0 || slices == 0 || positions == 0) {
    return 0;
  }
  const int rows = fast ? kFastRows : kRows;
  const int taps = fast ? kFastTaps : kTaps;
  const std::int64_t warps = slices * g.groups * ((job.rows + rows - 1) / rows) * ((job.taps + taps - 1) / taps);
  launch(stream, "weight_gradient", fast ? weight_gradient_fast_kernel : weight_gradient_kernel,
         dim3(static_cast<unsigned>((warps + kWarps - 1) / kWarps)), kWarps * 32, 0, job, warps);
  return slices;
}

}  // namespace

void fill_weight_gradient(Table& t) {
  t.conv_weight_gradient_scratch = conv_scratch;
  t.linear_weight_gradient_scratch = [](std::int64_t rows, std::int64_t columns, std::int64_t groups) {
    return conv_scratch(matrix_geometry(rows, columns), groups);
  };
  t.bias_gradient_scratch = [](std::int64_t channels, std::int64_t positions, std::int64_t groups) {
    return slices_of(positions, groups) * channels;
  };
  t.conv_weight_gradient = [](Stream stream, const ConvGeometry& g, const float* x, const float* dy, float* partial,
                              std::int64_t groups) {
    return conv_weight_gradient(stream, g, x, dy, partial, groups, false);
  };
  t.conv_weight_gradient_fast = [](Stream stream, const ConvGeometry& g, const float* x, const float* dy,
                                   float* partial, std::int64_t groups) {
    return conv_weight_gradient(stream, g, x, dy, partial, groups, true);
  };
  t.linear_weight_gradient = [](Stream stream, std::int64_t rows, std::int64_t columns, const float* x, const float* dy,
                                float* partial, std::int64_t groups) {
    return conv_weight_gradient(stream, matrix_geometry(rows, columns), x, dy, partial, groups, false);
  };
  t.linear_weight_gradient_fast = [](Stream stream, std::int64_t rows, std::int64_t columns, const float* x,
                                     const float* dy, float* partial, std::int64_t groups) {
    return conv_weight_gradient(stream, matrix_geometry(rows, columns), x, dy, partial, groups, true);
  };
  t.bias_gradient = [](Stream stream, std::int64_t channels, std::int64_t positions, const float* dy, float* partial,
                       std::int64_t groups) {
    const ChannelSlices s(channels, positions, groups);
    return each_channel_of_slices(stream, "bias_gradient", s, ChannelSum{s, dy, partial});
  };
  t.add_slices = [](Stream stream, const float* partial, std::int64_t n, std::int64_t slices, const SliceSum& to) {
    if (n > 0 && slices > 0) {
      launch(stream, "add_slices", add_slices_kernel, blocks_for(n), kThreads, 0, partial, n, slices, to);
    }
  };
}

}  // namespace pavise::kernels::cuda
