// SPDX-License-Identifier: MIT
// Convolutions and fully connected layers, both ways, on tensor cores in bf16, for the bf16 mode: factors rounded to bf16
// (seven bits behind the point), products added in float in the order of the hardware.
//
// A block computes 64 rows, or twice as many, of a tile of points (patch_plan.hpp) for 32 images each. For sixteen
// channels at a time (a multiple in flat tiles) it fetches all that the tile reads, once for all kernel positions, rounds
// it and puts it into shared memory as cells (bf16.cuh); the weights, packed as the tensor cores read them, come straight
// from memory into registers. Each step multiplies one kernel position of all points by the sixteen channels, while the
// threads fetch and round a share of the next channels' cells: two stages of cells, one barrier for each.
//
// Oracle: the same sums in double of factors rounded to bf16; tests/cuda/bf16_checks.hpp.
#include <array>
#include <memory>
#include <vector>

#include "pavise_kernels/cuda/bf16.cuh"
#include "pavise_kernels/cuda/patch_plan.hpp"

namespace pavise::kernels::cuda {

namespace {

constexpr int kWarpgroup = 128;  ///< threads
constexpr int kRowTile = 64;     ///< rows of a warpgroup

/// A tile as the device reads it: two int4, in the order of PatchTiles::Tile.
struct PatchJob {
  const uint4* weight;  ///< [row tile][kernel position][sixteen channels][warp][lane]
  const float* in;
  float* out;
  const float* bias;
  const float* mask;
  const int4* tiles;
  const int* cell;
  const int* tap;
  const int* point;
  const int* index;
  std::int64_t in_size, out_size, in_plane, out_plane;
  int rows, channels, kernel, slices;  ///< slices: of sixteen channels, in the packed weights
  int row_blocks, tile_count, groups, most_cells;
  bool relu, accumulate;
};

/// What a block does: RowGroups x ColumnGroups warpgroups of 64 rows x Columns points, `Depth` times sixteen channels in
/// a stage.
template <int RowGroups, int ColumnGroups, int Columns, int Depth>
struct PatchShape {
  static constexpr int kThreads = RowGroups * ColumnGroups * kWarpgroup;
  static constexpr int kRows = RowGroups * kRowTile;
  static constexpr int kColumns = ColumnGroups * Columns;
  static constexpr int kCell = Depth * kCellBytes;
  static constexpr int kFetches = kThreads > kWarpgroup ? 4 : 8;  ///< of a thread, 16 bytes each, under way at a time
  /// Behind the alignment to a cell: two stages, the place of each cell, each tap's kernel position and cells.
  static std::size_t shared(int cells, int taps) {
    return kCellBytes + std::size_t{2} * static_cast<std::size_t>(cells) * kCell +
           sizeof(int) * static_cast<std::size_t>(cells + taps * (1 + kColumns));
  }
};

/// Sixteen-byte pieces of the cells of a stage, dealt out to the threads.
template <class S, int Depth>
struct Fetcher {
  const float* in;
  const int* source;  ///< of each cell: its first element / 32, -1: zeros
  std::int64_t plane;
  int channels, cells;

  __device__ __forceinline__ int pieces() const {
    return (cells * Depth * kCellChannels * 8 + S::kThreads - 1) / S::kThreads;
  }
  __device__ __forceinline__ float4 fetch(int piece, int stage) const {
    const int i = piece * S::kThreads + static_cast<int>(threadIdx.x);
    const int cell = i / (Depth * kCellChannels * 8);
    const int row = i / 8 % (Depth * kCellChannels);
    const int channel = stage * Depth * kCellChannels + row;
    float4 v{};
    if (cell < cells && channel < channels && source[cell] >= 0) {
      v = *reinterpret_cast<const float4*>(in + (source[cell] + channel * plane) * 32 + i % 8 * 4);
    }
    return v;
  }
  __device__ __forceinline__ void put(int piece, char* stage, const float4& v) const {
    const int i = piece * S::kThreads + static_cast<int>(threadIdx.x);
    const int cell = i / (Depth * kCellChannels * 8);
    if (cell < cells) {
      const int row = i / 8 % (Depth * kCellChannels);
      char* const to = stage + cell * S::kCell + row / kCellChannels * kCellBytes +
                       cell_piece(row % kCellChannels, i % 8 / 2) + i % 2 * 8;
      *reinterpret_cast<uint2*>(to) = {to_bf16(v.x, v.y), to_bf16(v.z, v.w)};
    }
  }
};

/// The epilogue of two sums, of neighbouring images.
__device__ __forceinline__ void store_sums(const PatchJob& job, std::int64_t at, float2 y) {
  if (job.relu) {
    y.x = 0.0f > y.x ? 0.0f : y.x;  // keeps NaN
    y.y = 0.0f > y.y ? 0.0f : y.y;
  }
  if (job.mask != nullptr) {
    const float2 m = *reinterpret_cast<const float2*>(job.mask + at);
    y.x = m.x > 0.0f ? y.x : 0.0f;
    y.y = m.y > 0.0f ? y.y : 0.0f;
  }
  if (job.accumulate) {
    const float2 before = *reinterpret_cast<const float2*>(job.out + at);
    y.x = y.x + before.x;
    y.y = y.y + before.y;
  }
  *reinterpret_cast<float2*>(job.out + at) = y;
}

template <int RowGroups, int ColumnGroups, int Columns, int Depth>
__global__ void __launch_bounds__(RowGroups* ColumnGroups* kWarpgroup, 3 - RowGroups * ColumnGroups)
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
  const int stage_bytes = job.most_cells * S::kCell;
  int* const source = reinterpret_cast<int*>(shared + 2 * stage_bytes);
  int* const kernel_position = source + job.most_cells;
  int* const index = kernel_position + taps;  // [tap][column], in bytes of a stage
  const auto thread = static_cast<int>(threadIdx.x);
  for (int i = thread; i < cells * tile_groups; i += S::kThreads) {  // groups behind the last one repeat it
    const int group = std::min(group0 + i / cells, job.groups - 1);
    const int place = job.cell[a_tile.x + i % cells];
    source[i] = place < 0 ? -1 : static_cast<int>(group * job.in_size + place);
  }
  for (int i = thread; i < taps * S::kColumns; i += S::kThreads) {
    const int column = i % S::kColumns;
    const int own = job.index[b_tile.z + (i / S::kColumns << shift) + (column & (places - 1))];
    index[i] = ((column >> shift) * cells + own) * S::kCell;
  }
  for (int i = thread; i < taps; i += S::kThreads) {
    kernel_position[i] = job.tap[a_tile.z + i];
  }
  __syncthreads();

  const int warpgroup = thread / kWarpgroup;
  const int row_group = RowGroups == 1 ? 0 : warpgroup % RowGroups;
  const int first_column = ColumnGroups == 1 ? 0 : warpgroup / RowGroups * Columns;
  const int warp = thread / 32 % 4;
  const int row_tile = row_block * RowGroups + row_group;
  const uint4* const weight =
      job.weight + (static_cast<std::int64_t>(row_tile) * job.kernel * job.slices * 4 + warp) * 32 + lane_id();
  const auto load_weights = [&](uint4(&to)[Depth], int position, int stage) {
    PAVISE_UNROLL
    for (int k = 0; k < Depth; ++k) {
      to[k] = weight[(static_cast<std::int64_t>(position) * job.slices + stage * Depth + k) * 128];
    }
  };
  float sum[Columns / 2][32];
  PAVISE_UNROLL
  for (int p = 0; p < Columns / 2; ++p) {
    PAVISE_UNROLL
    for (int i = 0; i < 32; ++i) {
      sum[p][i] = 0.0f;
    }
  }

  if (taps > 0) {
    const Fetcher<S, Depth> fetcher{job.in, source, job.in_plane, job.channels, cells * tile_groups};
    const int stage_count = (job.channels + Depth * kCellChannels - 1) / (Depth * kCellChannels);
    const int pieces = fetcher.pieces();
    const int steps = std::max(taps, (pieces + S::kFetches - 1) / S::kFetches);  // of a stage
    const int share = (pieces + steps - 1) / steps;                              // of a step
    float4 fetched[S::kFetches];
    const auto fetch = [&](int step, int stage) {
      PAVISE_UNROLL
      for (int i = 0; i < S::kFetches; ++i) {
        if (i < share) {
          fetched[i] = fetcher.fetch(step * share + i, stage);
        }
      }
    };
    const auto put = [&](int step, int stage) {
      PAVISE_UNROLL
      for (int i = 0; i < S::kFetches; ++i) {
        if (i < share) {
          fetcher.put(step * share + i, shared + stage % 2 * stage_bytes, fetched[i]);
        }
      }
    };
    for (int step = 0; step < steps; ++step) {
      fetch(step, 0);
      put(step, 0);
    }
    uint4 a[Depth];
    uint4 next[Depth];
    load_weights(a, kernel_position[0], 0);
    if (stage_count > 1) {
      fetch(0, 1);
    }
    publish_cells();
    __syncthreads();
    PAVISE_NO_UNROLL
    for (int stage = 0; stage < stage_count; ++stage) {
      const char* const cell = shared + stage % 2 * stage_bytes;
      // What was fetched a step ago is put down for the next stage, and the next share is fetched.
      const auto prepare = [&](int step) {
        if (stage + 1 < stage_count) {
          put(step, stage + 1);
          if (step + 1 < steps) {
            fetch(step + 1, stage + 1);
          } else if (stage + 2 < stage_count) {
            fetch(0, stage + 2);
          }
        }
      };
      PAVISE_NO_UNROLL
      for (int step = 0; step < taps; ++step) {
        begin_products();
        const int* const at = index + step * S::kColumns + first_column;
        PAVISE_UNROLL
        for (int p = 0; p < Columns / 2; ++p) {
          const int first = at[p * 2];
          const int to_second = at[p * 2 + 1] - first;
          PAVISE_UNROLL
          for (int k = 0; k < Depth; ++k) {
            multiply_cells(sum[p], a[k], cell + first + k * kCellBytes, to_second);
          }
        }
        commit_products();
        prepare(step);
        const bool last = step + 1 == taps;
        load_weights(next, kernel_position[last ? 0 : step + 1], std::min(stage + (last ? 1 : 0), stage_count - 1));
        finish_products();
        PAVISE_UNROLL
        for (int k = 0; k < Depth; ++k) {
          a[k] = copy_of(next[k]);
        }
      }
      for (int step = taps; step < steps; ++step) {
        prepare(step);
      }
      publish_cells();
      __syncthreads();
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
    const float bias = job.bias != nullptr ? job.bias[row] : 0.0f;
    PAVISE_UNROLL
    for (int column = 0; column < Columns; ++column) {
      const int q = first_column + column;
      const int group = group0 + (q >> shift);
      const int point = job.point[b_tile.x + (q & (places - 1))];
      if (group >= job.groups || point < 0) {
        continue;
      }
      const std::int64_t at = (group * job.out_size + row * job.out_plane + point) * 32 + t * 2;
      PAVISE_UNROLL
      for (int n = 0; n < 4; ++n) {
        const float* const s = sum[column / 2] + (column % 2 * 4 + n) * 4 + half * 2;
        store_sums(job, at + n * 8, {bias + s[0], bias + s[1]});
      }
    }
  }
}

__global__ void pack_bf16_kernel(const float* weight, uint4* packed, int rows, int channels, int kernel, int slices,
                                 std::int64_t weight_row, std::int64_t weight_channel, std::int64_t n) {
  for (std::int64_t i = thread_index(); i < n; i += thread_total()) {
    const auto lane = static_cast<int>(i % 32);
    const auto warp = static_cast<int>(i / 32 % 4);
    const auto slice = static_cast<int>(i / 128 % slices);
    const std::int64_t position = i / 128 / slices % kernel;
    const std::int64_t row0 = i / 128 / slices / kernel * kRowTile + warp * 16 + lane / 4;
    const auto two = [&](int low, int from) {
      const std::int64_t row = row0 + low * 8;
      const int channel = slice * kCellChannels + lane % 4 * 2 + from * 8;
      float v[2];
      PAVISE_UNROLL
      for (int k = 0; k < 2; ++k) {
        v[k] = row < rows && channel + k < channels
                   ? weight[row * weight_row + (channel + k) * weight_channel + position]
                   : 0.0f;
      }
      return to_bf16(v[0], v[1]);
    };
    packed[i] = {two(0, 0), two(1, 0), two(0, 1), two(1, 1)};
  }
}

/// A kernel's shape, and what decides between them.
struct PatchKernel {
  int rows, columns, threads, depth;
  void (*kernel)(PatchJob);
  std::size_t (*shared)(int cells, int taps);
};
template <int RowGroups, int ColumnGroups, int Columns, int Depth>
constexpr PatchKernel patch_kernel() {
  using S = PatchShape<RowGroups, ColumnGroups, Columns, Depth>;
  return {S::kRows, S::kColumns, S::kThreads, Depth, gather_gemm_bf16_kernel<RowGroups, ColumnGroups, Columns, Depth>,
          S::shared};
}
constexpr std::array kPatchKernels = {patch_kernel<1, 1, 8, 1>(), patch_kernel<2, 1, 8, 1>(),
                                      patch_kernel<1, 2, 8, 1>(), patch_kernel<1, 1, 4, 2>(),
                                      patch_kernel<1, 1, 2, 4>(), patch_kernel<2, 1, 2, 4>()};
constexpr int kSliceMultiple = 4;  ///< the largest depth

template <class T>
T* to_device(const std::vector<T>& values) {
  const Table& t = *table.load();
  auto* p = static_cast<T*>(t.allocate(values.size() * sizeof(T), nullptr));
  t.copy_to_device(p, values.data(), values.size() * sizeof(T), nullptr);
  return p;
}

}  // namespace

/// The tiles for one number of columns, on the device.
struct DeviceTiles {
  explicit DeviceTiles(const PatchTiles& from)
      : count(static_cast<int>(from.tiles.size())),
        most_cells(from.most_cells),
        most_taps(from.most_taps),
        cells_read(from.cells_read),
        taps_done(from.taps_done),
        cell(to_device(from.cell)),
        tap(to_device(from.tap)),
        point(to_device(from.point)),
        index(to_device(from.index)) {
    std::vector<int4> words;
    for (const PatchTiles::Tile& t : from.tiles) {
      words.push_back({t.first_cell, t.cells, t.first_tap, t.taps});
      words.push_back({t.first_point, t.places, t.first_index, t.part});
    }
    tiles = to_device(words);
    table.load()->synchronize(nullptr);
  }
  DeviceTiles(const DeviceTiles&) = delete;
  DeviceTiles& operator=(const DeviceTiles&) = delete;
  ~DeviceTiles() {
    for (void* p : {static_cast<void*>(tiles), static_cast<void*>(cell), static_cast<void*>(tap),
                    static_cast<void*>(point), static_cast<void*>(index)}) {
      table.load()->release(p, nullptr);
    }
  }
  int count, most_cells, most_taps;
  double cells_read, taps_done;
  int *cell, *tap, *point, *index;
  int4* tiles = nullptr;
};

struct Patches {
  PatchPlan plan;
  int slices = 0;
  int multiprocessors = 1;
  std::size_t most_shared = 0;  ///< bytes of a block
  uint4* weight = nullptr;
  std::int64_t weight_count = 0;
  std::vector<std::unique_ptr<DeviceTiles>> tiles;  ///< for each of kPatchKernels
  Patches() = default;
  Patches(const Patches&) = delete;
  Patches& operator=(const Patches&) = delete;
  ~Patches() { table.load()->release(weight, nullptr); }
};

namespace {

std::size_t shared_of(const Patches& p, std::size_t kernel) {
  const DeviceTiles& tiles = *p.tiles[kernel];
  return kPatchKernels[kernel].shared(tiles.most_cells, tiles.most_taps);
}
bool fits(const Patches& p, std::size_t kernel) { return shared_of(p, kernel) <= p.most_shared; }

/// The kernel with the least time by an estimate, in cycles of a multiprocessor. It decides speed alone.
std::size_t best_kernel(const Patches& p, std::int64_t groups) {
  const auto cost = [&](std::size_t i) {
    const PatchKernel& k = kPatchKernels[i];
    const DeviceTiles& tiles = *p.tiles[i];
    const double tile_count = std::max(1, tiles.count);
    const double blocks = std::ceil(static_cast<double>(p.plan.rows) / k.rows) * tile_count *
                          std::ceil(static_cast<double>(groups) / k.columns);
    const double taps = tiles.taps_done / k.columns / tile_count * k.columns;
    const double stages = std::ceil(static_cast<double>(p.plan.channels) / (kCellChannels * k.depth));
    const double cells = tiles.cells_read / tile_count;
    const double products = stages * taps * k.rows / kRowTile * k.columns / 2 * k.depth * 32;
    const double fetches = stages * cells * k.depth * kCellChannels * 128 / 32;
    const double ends = 2000 + k.rows * k.columns * 128 / 24.0;
    const double waits = stages * taps * 150;
    const double at_once =
        std::clamp(std::floor(static_cast<double>(p.most_shared) / static_cast<double>(shared_of(p, i))), 1.0,
                   k.threads > kWarpgroup ? 1.0 : 2.0);
    const double rounds = std::ceil(blocks / (at_once * p.multiprocessors));
    return rounds * (std::max({products, fetches, waits / at_once}) * at_once + ends);
  };
  std::size_t best = kPatchKernels.size();
  double least = 0;
  for (std::size_t i = 0; i < kPatchKernels.size(); ++i) {
    if (fits(p, i) && (best == kPatchKernels.size() || cost(i) < least)) {
      best = i;
      least = cost(i);
    }
  }
  return best;
}

Patches* make_patches(const PatchPlan& plan) {
  auto p = std::make_unique<Patches>();
  p->plan = plan;
  const std::int64_t slices = (plan.channels + kCellChannels - 1) / kCellChannels;
  p->slices = static_cast<int>((slices + kSliceMultiple - 1) / kSliceMultiple * kSliceMultiple);
  const DeviceInfo info = table.load()->device_info(0);
  p->multiprocessors = info.multiprocessors;
  p->most_shared = info.shared;
  const std::int64_t row_tiles = (plan.rows + 2 * kRowTile - 1) / (2 * kRowTile) * 2;
  p->weight_count = row_tiles * plan.kernel * p->slices * 128;
  p->weight =
      static_cast<uint4*>(table.load()->allocate(static_cast<std::size_t>(p->weight_count) * sizeof(uint4), nullptr));
  for (const PatchKernel& k : kPatchKernels) {
    p->tiles.push_back(std::make_unique<DeviceTiles>(patch_tiles(plan, k.columns)));
  }
  return best_kernel(*p, 1) < kPatchKernels.size() ? p.release() : nullptr;
}

void pack_patches(Stream stream, Patches* p, const float* weight) {
  launch(stream, "pack_patches", pack_bf16_kernel, blocks_for(p->weight_count), kThreads, 0, weight, p->weight,
         p->plan.rows, p->plan.channels, p->plan.kernel, p->slices, p->plan.weight_row, p->plan.weight_channel,
         p->weight_count);
}

void apply_with(Stream stream, const Patches& p, std::size_t kernel, const float* in, float* out,
                const Epilogue<float>& e, std::int64_t groups) {
  const PatchKernel& k = kPatchKernels[kernel];
  const DeviceTiles& tiles = *p.tiles[kernel];
  const std::int64_t row_blocks = (p.plan.rows + k.rows - 1) / k.rows;
  const std::int64_t blocks = row_blocks * tiles.count * ((groups + k.columns - 1) / k.columns);
  require(groups * p.plan.in_size < std::int64_t{1} << 31 && blocks < std::int64_t{1} << 31, "cuda: ", groups * 32,
          " images of ", p.plan.in_size, " values, expected fewer than 2^36 values");
  const PatchJob job{.weight = p.weight,
                     .in = in,
                     .out = out,
                     .bias = e.bias,
                     .mask = e.mask,
                     .tiles = tiles.tiles,
                     .cell = tiles.cell,
                     .tap = tiles.tap,
                     .point = tiles.point,
                     .index = tiles.index,
                     .in_size = p.plan.in_size,
                     .out_size = p.plan.out_size,
                     .in_plane = p.plan.in_plane,
                     .out_plane = p.plan.out_plane,
                     .rows = static_cast<int>(p.plan.rows),
                     .channels = static_cast<int>(p.plan.channels),
                     .kernel = static_cast<int>(p.plan.kernel),
                     .slices = p.slices,
                     .row_blocks = static_cast<int>(row_blocks),
                     .tile_count = tiles.count,
                     .groups = static_cast<int>(groups),
                     .most_cells = tiles.most_cells,
                     .relu = e.relu,
                     .accumulate = e.accumulate};
  launch(stream, "gather_gemm_bf16", k.kernel, dim3(static_cast<unsigned>(blocks)), static_cast<unsigned>(k.threads),
         shared_of(p, kernel), job);
}

}  // namespace

void fill_gather_gemm_bf16(Table& t) {
  t.make_patches = make_patches;
  t.destroy_patches = [](Patches* p) { delete p; };
  t.pack_patches = pack_patches;
  t.apply_patches = [](Stream stream, const Patches* p, const float* in, float* out, const Epilogue<float>& e,
                       std::int64_t groups) { apply_with(stream, *p, best_kernel(*p, groups), in, out, e, groups); };
  t.apply_patches_by = [](Stream stream, const Patches* p, const float* in, float* out, const Epilogue<float>& e,
                          std::int64_t groups,
                          int kernel) { apply_with(stream, *p, static_cast<std::size_t>(kernel), in, out, e, groups); };
  t.patch_kernels = [](const Patches* p, int i) {
    const auto n = static_cast<std::size_t>(i);
    if (n >= kPatchKernels.size()) {
      return 0;
    }
    return fits(*p, n) ? kPatchKernels[n].rows * 100 + kPatchKernels[n].columns : -1;
  };
}

}  // namespace pavise::kernels::cuda
