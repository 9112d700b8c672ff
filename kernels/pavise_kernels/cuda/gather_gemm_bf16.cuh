// SPDX-License-Identifier: MIT
// Convolutions and fully connected layers, both ways, on tensor cores in bf16, for the bf16 mode: factors rounded to bf16
// (seven bits behind the point), products added in float in the order of the hardware.
//
// A block computes 64 rows, or twice as many, of a tile of points (patch_plan.hpp) for 32 images each. For sixteen
// channels at a time, or a multiple, it fetches all that the tile reads, once for all taps, rounds it and puts it into
// shared memory as cells (bf16.cuh). Each step multiplies one tap of all points by these channels, while the threads fetch
// and round a share of the next channels' cells: two stages of cells, one barrier for each. Weights, packed as the tensor
// cores read them, come straight into registers, a step ahead.
//
// On an H200, a 3x3 convolution of 128 channels on 16x16, 1024 images (77 GFLOP): 0.50 ms with branches for what lies
// outside (a step took 1,700 cycles, of which the products are 256: the instructions of two warps a scheduler, one after
// another), 0.27 ms without any, 0.24 ms with sources and pairs of cells from tables. What it waits for now is the
// second-level cache (6 TB/s). Weights three steps ahead, through a ring in shared memory: 0.32 ms; two steps ahead, in
// registers: 0.25 ms.
//
// Oracle: the same sums in double of factors rounded to bf16; tests/cuda/bf16_checks.hpp.
#pragma once

#include <algorithm>

#include "pavise_kernels/cuda/bf16.cuh"
#include "pavise_kernels/cuda/patch_plan.hpp"

namespace pavise::kernels::cuda::bf16 {

inline constexpr int kWarpgroup = 128;  ///< threads
inline constexpr int kRowTile = 64;     ///< rows of a warpgroup

/// What a launch reads.
struct PatchJob {
  const uint4* weight;  ///< [row tile][tap][sixteen channels][warp][lane]
  const float* in;
  float* out;
  const float* bias;
  const float* mask;
  const int4* tiles;  ///< two for each, in the order of PatchTiles::Tile
  const int* cell;
  const int* tap;
  const int* point;
  const int* index;
  std::int64_t in_size, out_size, in_plane, out_plane;
  int rows, phases, channels, taps, slices;  ///< slices: of sixteen channels, in the packed weights
  int row_blocks, tile_count, groups, most_cells, stages;
  bool relu, accumulate;
  unsigned zero;  ///< see copy_of
};

/// What a block does: RowGroups x ColumnGroups warpgroups of 64 rows x Columns points, `Depth` times sixteen channels in
/// a stage.
template <int RowGroups, int ColumnGroups, int Columns, int Depth>
struct PatchShape {
  static constexpr int kThreads = RowGroups * ColumnGroups * kWarpgroup;
  static constexpr int kRows = RowGroups * kRowTile;
  static constexpr int kColumns = ColumnGroups * Columns;
  static constexpr int kCell = Depth * kCellBytes;
  static constexpr int kFetches = 4;                          ///< of a thread, under way at a time
  static constexpr int kFirstFetches = Columns < 8 ? 8 : 16;  ///< the same at the start, where sums need no registers
  static constexpr int kBlocks = std::max(1, (Columns == 8 ? 2 : 4) * kWarpgroup / kThreads);  ///< of a multiprocessor
  /// Behind the alignment to a cell: two stages, or one that is all; the pairs of cells of each tap, and its weights; the
  /// sources of each cell; where each column's sums go.
  static std::size_t shared(int cells, int taps, int stages, int phases) {
    return kCellBytes + static_cast<std::size_t>(std::min(stages, 2)) * static_cast<std::size_t>(cells + 2) * kCell +
           sizeof(int) * static_cast<std::size_t>(taps * (1 + kColumns / 2) + cells + kColumns * phases);
  }
};

/// Fetches the cells of a stage, sixteen bytes of a row at a time: a warpgroup takes sixteen channels of a cell at once,
/// each thread the same piece of them. Nothing here branches: behind the last cell it comes again, and so does the last
/// channel (the weights are zero there).
template <class S, int Depth>
class Fetcher {
 public:
  static constexpr int kGroups = S::kThreads / kWarpgroup;
  static constexpr int kRounds = Depth > kGroups ? Depth / kGroups : 1;  ///< for all channels of a cell
  static constexpr int kCells = kGroups > Depth ? kGroups / Depth : 1;   ///< at a time
  static_assert(S::kFetches % kRounds == 0 && S::kFirstFetches % kRounds == 0);

  __device__ __forceinline__ Fetcher(const PatchJob& job, const int* source, int cells)
      : in_(job.in + lane_id() % 8 * 4),
        plane_(static_cast<int>(job.in_plane)),
        last_channel_(job.channels - 1),
        last_cell_(cells - 1),
        source_(source) {
    const auto thread = static_cast<int>(threadIdx.x);
    const int group = thread / kWarpgroup;
    const int row = thread / 8 % kCellChannels;
    cell_ = group / Depth;
    channel_ = group % Depth * kCellChannels + row;
    to_ = group % Depth * kCellBytes + cell_piece(row, thread % 8 / 2) + thread % 2 * 8;
  }

  /// Fetches of one thread for a stage, a multiple of kRounds.
  __device__ __forceinline__ int count() const { return (last_cell_ / kCells + 1) * kRounds; }
  /// Fetch number first + i, `first` a multiple of kRounds.
  __device__ __forceinline__ float4 fetch(int first, int i, int stage) const {
    const int channel =
        std::min(stage * (Depth * kCellChannels) + channel_ + i % kRounds * kGroups * kCellChannels, last_channel_);
    const int at = source_[cell(first, i)] + channel * plane_;
    return *reinterpret_cast<const float4*>(in_ + std::int64_t{at} * 32);
  }
  __device__ __forceinline__ void put(int first, int i, char* stage, const float4& v) const {
    char* const to = stage + (cell(first, i) * S::kCell + to_) + (S::kCell + i % kRounds * kGroups * kCellBytes);
    *reinterpret_cast<uint2*>(to) = {to_bf16(v.x, v.y), to_bf16(v.z, v.w)};
  }

 private:
  __device__ __forceinline__ int cell(int first, int i) const {
    return std::min((first / kRounds + i / kRounds) * kCells + cell_, last_cell_);
  }

  const float* in_;
  int plane_, last_channel_, last_cell_, cell_, channel_, to_;
  const int* source_;
};

/// The epilogue of two sums, of neighbouring images: `mask` and `before` as it reads them.
__device__ __forceinline__ float2 finish_sums(const PatchJob& job, float2 y, float2 mask, float2 before) {
  if (job.relu) {
    y.x = 0.0f > y.x ? 0.0f : y.x;  // keeps NaN
    y.y = 0.0f > y.y ? 0.0f : y.y;
  }
  if (job.mask != nullptr) {
    y.x = mask.x > 0.0f ? y.x : 0.0f;
    y.y = mask.y > 0.0f ? y.y : 0.0f;
  }
  if (job.accumulate) {
    y.x = y.x + before.x;
    y.y = y.y + before.y;
  }
  return y;
}

template <int RowGroups, int ColumnGroups, int Columns, int Depth>
__global__ void __launch_bounds__(PatchShape<RowGroups, ColumnGroups, Columns, Depth>::kThreads,
                                  PatchShape<RowGroups, ColumnGroups, Columns, Depth>::kBlocks)
    gather_gemm_bf16_kernel(PatchJob job) {
  using S = PatchShape<RowGroups, ColumnGroups, Columns, Depth>;
  const int row_block = static_cast<int>(blockIdx.x) % job.row_blocks;
  const int rest = static_cast<int>(blockIdx.x) / job.row_blocks;
  const int4 a_tile = job.tiles[rest % job.tile_count * 2];
  const int4 b_tile = job.tiles[rest % job.tile_count * 2 + 1];
  const int cells = a_tile.y;  // of each group
  const int taps = a_tile.w;
  const int places = b_tile.y;
  const int shift = __popc(static_cast<unsigned>(places - 1));
  const int tile_groups = S::kColumns >> shift;
  const int group0 = rest / job.tile_count * S::kColumns + b_tile.w * tile_groups;
  if (group0 >= job.groups) {
    return;
  }

  char* const shared = first_cell(dynamic_shared());
  const int stage_bytes = (job.most_cells + 2) * S::kCell;  // cells, between two of zeros
  const int stage_places = std::min(job.stages, 2);
  auto* const pair =
      reinterpret_cast<unsigned*>(shared + stage_places * stage_bytes);  // [tap][two columns], first stage
  int* const tap_weight = reinterpret_cast<int*>(pair + taps * (S::kColumns / 2));
  int* const source = tap_weight + taps;
  int* const to = source + cells * tile_groups;  // [column][phase], elements / 32, -1: nowhere
  const auto thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < cells * tile_groups; i += S::kThreads) {  // groups behind the last one repeat it
    source[i] =
        static_cast<int>(std::min(group0 + i / cells, job.groups - 1) * job.in_size) + job.cell[a_tile.x + i % cells];
  }
  const unsigned first_place = shared_place(shared);
  for (int i = thread; i < taps * (S::kColumns / 2); i += S::kThreads) {
    const auto place = [&](int column) {
      const int own = job.index[b_tile.z + (i / (S::kColumns / 2) << shift) + (column & (places - 1))];
      const int number = own == PatchTiles::kZerosBefore   ? 0
                         : own == PatchTiles::kZerosBehind ? cells * tile_groups + 1
                                                           : (column >> shift) * cells + own + 1;
      return first_place + static_cast<unsigned>(number) * (S::kCell / 16);
    };
    const int column = i % (S::kColumns / 2) * 2;
    pair[i] = pair_of_cells(place(column), place(column + 1));
  }
  for (int i = thread; i < taps; i += S::kThreads) {
    tap_weight[i] = job.tap[a_tile.z + i] * job.slices * kWarpgroup;
  }
  for (int i = thread; i < stage_places * 2 * (S::kCell / 16); i += S::kThreads) {
    const int cell = i / (S::kCell / 16);
    char* const zeros = shared + cell / 2 * stage_bytes + cell % 2 * (cells * tile_groups + 1) * S::kCell;
    reinterpret_cast<float4*>(zeros)[i % (S::kCell / 16)] = {};
  }
  for (int i = thread; i < S::kColumns * job.phases; i += S::kThreads) {
    const int column = i / job.phases;
    const int group = group0 + (column >> shift);
    const int point = job.point[(b_tile.x + (column & (places - 1))) * job.phases + i % job.phases];
    to[i] = group >= job.groups || point < 0 ? -1 : static_cast<int>(group * job.out_size + point);
  }
  __syncthreads();

  const int warpgroup = thread / kWarpgroup;
  const int row_group = RowGroups == 1 ? 0 : warpgroup % RowGroups;
  const int first_column = ColumnGroups == 1 ? 0 : warpgroup / RowGroups * Columns;
  const int warp = thread / 32 % 4;
  const int row_tile = row_block * RowGroups + row_group;
  float sum[Columns / 2][32];
  if (taps > 0) {
    const Fetcher<S, Depth> fetcher(job, source, cells * tile_groups);
    {
      float4 fetched[S::kFirstFetches];
      for (int first = 0; first < fetcher.count(); first += S::kFirstFetches) {
        PAVISE_UNROLL
        for (int i = 0; i < S::kFirstFetches; ++i) {
          fetched[i] = fetcher.fetch(first, i, 0);
        }
        PAVISE_UNROLL
        for (int i = 0; i < S::kFirstFetches; ++i) {
          fetcher.put(first, i, shared, fetched[i]);
        }
      }
    }
    PAVISE_UNROLL
    for (int p = 0; p < Columns / 2; ++p) {
      PAVISE_UNROLL
      for (int i = 0; i < 32; ++i) {
        sum[p][i] = 0.0f;
      }
    }
    const int bursts = (fetcher.count() + S::kFetches - 1) / S::kFetches;  // of fetches, one in a step
    const int steps = std::max(taps, bursts);
    float4 fetched[S::kFetches];
    const auto fetch = [&](int burst, int stage) {
      PAVISE_UNROLL
      for (int i = 0; i < S::kFetches; ++i) {
        fetched[i] = fetcher.fetch(burst * S::kFetches, i, stage);
      }
    };
    const uint4* const weight =
        job.weight + (static_cast<std::int64_t>(row_tile) * job.taps * job.slices * 4 + warp) * 32 + lane_id();
    const auto load_weights = [&](uint4(&w)[Depth], int tap, int stage) {
      const uint4* const from = weight + (tap_weight[tap] + stage * (Depth * kWarpgroup));
      PAVISE_UNROLL
      for (int k = 0; k < Depth; ++k) {
        w[k] = from[k * kWarpgroup];
      }
    };
    uint4 a[Depth];
    uint4 next[Depth];
    load_weights(a, 0, 0);
    if (job.stages > 1) {
      fetch(0, 1);
    }
    publish_cells();
    __syncthreads();
    PAVISE_NO_UNROLL
    for (int stage = 0; stage < job.stages; ++stage) {
      const bool second = stage % 2 != 0;
      char* const other = shared + (second ? 0 : stage_bytes);
      const unsigned moved = second ? static_cast<unsigned>(stage_bytes) / 16 : 0;
      // What was fetched a step ago is put down for the next stage, and the next burst is fetched.
      const auto prepare = [&](int step) {
        if (stage + 1 < job.stages && step < bursts) {
          PAVISE_UNROLL
          for (int i = 0; i < S::kFetches; ++i) {
            fetcher.put(step * S::kFetches, i, other, fetched[i]);
          }
        }
        const bool within = step + 1 < bursts;
        if (within ? stage + 1 < job.stages : step + 1 == steps && stage + 2 < job.stages) {
          fetch(within ? step + 1 : 0, within ? stage + 1 : stage + 2);
        }
      };
      PAVISE_NO_UNROLL
      for (int step = 0; step < taps; ++step) {
        begin_products();
        const unsigned* const here = pair + (step * S::kColumns + first_column) / 2;
        PAVISE_UNROLL
        for (int p = 0; p < Columns / 2; ++p) {
          const unsigned cells_here = here[p] + moved;
          PAVISE_UNROLL
          for (int k = 0; k < Depth; ++k) {
            multiply_cells(sum[p], a[k], cells_here + static_cast<unsigned>(k * kCellBytes) / 16);
          }
        }
        commit_products();
        const bool last = step + 1 == taps;
        load_weights(next, last ? 0 : step + 1, last ? std::min(stage + 1, job.stages - 1) : stage);
        prepare(step);
        finish_products();
        PAVISE_UNROLL
        for (int k = 0; k < Depth; ++k) {
          a[k] = copy_of(next[k], job.zero);
        }
      }
      for (int step = taps; step < steps; ++step) {
        prepare(step);
      }
      publish_cells();
      __syncthreads();
    }
  } else {
    PAVISE_UNROLL
    for (int p = 0; p < Columns / 2; ++p) {
      PAVISE_UNROLL
      for (int i = 0; i < 32; ++i) {
        sum[p][i] = 0.0f;
      }
    }
  }

  const int g = lane_id() / 4;
  const int t = lane_id() % 4;
  PAVISE_UNROLL
  for (int half = 0; half < 2; ++half) {
    const int row = row_tile * kRowTile + warp * 16 + half * 8 + g;
    if (row >= job.rows) {
      continue;
    }
    const int layer_row = row / job.phases;
    const float bias = job.bias != nullptr ? job.bias[layer_row] : 0.0f;
    const int* const mine = to + first_column * job.phases + row % job.phases;
    PAVISE_UNROLL
    for (int p = 0; p < Columns / 2; ++p) {  // all that it reads first: nothing here waits for a store
      std::int64_t at[2];
      float2 mask[8] = {};
      float2 before[8] = {};
      PAVISE_UNROLL
      for (int c = 0; c < 2; ++c) {
        const int point = mine[(p * 2 + c) * job.phases];
        at[c] = point < 0 ? -1 : (point + layer_row * job.out_plane) * 32 + t * 2;
      }
      const auto each = [&](const auto& body) {
        PAVISE_UNROLL
        for (int n = 0; n < 8; ++n) {
          if (at[n / 4] >= 0) {
            body(n, at[n / 4] + n % 4 * 8);
          }
        }
      };
      if (job.mask != nullptr) {
        each([&](int n, std::int64_t i) { mask[n] = *reinterpret_cast<const float2*>(job.mask + i); });
      }
      if (job.accumulate) {
        each([&](int n, std::int64_t i) { before[n] = *reinterpret_cast<const float2*>(job.out + i); });
      }
      each([&](int n, std::int64_t i) {
        const float* const s = sum[p] + n * 4 + half * 2;
        *reinterpret_cast<float2*>(job.out + i) = finish_sums(job, {bias + s[0], bias + s[1]}, mask[n], before[n]);
      });
    }
  }
}

}  // namespace pavise::kernels::cuda::bf16
