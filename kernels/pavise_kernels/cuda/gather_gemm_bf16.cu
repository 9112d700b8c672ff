// SPDX-License-Identifier: MIT
// Convolutions and fully connected layers, both ways, on tensor cores in bf16, for the bf16 mode: factors rounded to bf16
// (seven bits behind the point), products added in float in the order of the hardware.
//
// A block computes 64 rows, or twice as many, of a tile of points (patch_plan.hpp) for 32 images each. For sixteen
// channels at a time, or a multiple, it fetches all that the tile reads, once for all taps, rounds it and puts it into
// shared memory as cells (bf16.cuh). Each step multiplies one tap of all points by these channels, while the threads fetch
// and round a share of the next channels' cells: two stages of cells, one barrier for each. Weights are packed as the
// tensor cores read them; each thread copies its own a few steps ahead, through shared memory that it alone uses.
//
// On an H200, 3x3 convolution of 128 channels: 141 TFLOP/s with branches for what lies outside, 239 without any (a step
// was 1,700 cycles, of which the products are 256: instructions of two warps a scheduler, one after another).
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
  const uint4* weight;  ///< [row tile][tap][sixteen channels][warp][lane]
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
  static constexpr int kFetches = Columns == 4 ? 2 : 4;       ///< of a thread, under way at a time
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

/// What the packing reads.
struct PackJob {
  const int* tap_kernel;  ///< [phase][tap]
  int rows, phases, channels, taps, slices;
  std::int64_t weight_row, weight_channel;
};

__global__ void pack_bf16_kernel(const float* weight, uint4* packed, PackJob job, std::int64_t n) {
  for (std::int64_t i = thread_index(); i < n; i += thread_total()) {
    const auto lane = static_cast<int>(i % 32);
    const auto warp = static_cast<int>(i / 32 % 4);
    const auto slice = static_cast<int>(i / 128 % job.slices);
    const std::int64_t tap = i / 128 / job.slices % job.taps;
    const std::int64_t row0 = i / 128 / job.slices / job.taps * kRowTile + warp * 16 + lane / 4;
    const auto two = [&](int low, int from) {
      const std::int64_t row = row0 + low * 8;
      const int channel = slice * kCellChannels + lane % 4 * 2 + from * 8;
      const int kernel = row < job.rows ? job.tap_kernel[row % job.phases * job.taps + tap] : -1;
      float v[2];
      PAVISE_UNROLL
      for (int k = 0; k < 2; ++k) {
        v[k] = kernel >= 0 && channel + k < job.channels
                   ? weight[row / job.phases * job.weight_row + (channel + k) * job.weight_channel + kernel]
                   : 0.0f;
      }
      return to_bf16(v[0], v[1]);
    };
    packed[i] = {two(0, 0), two(1, 0), two(0, 1), two(1, 1)};
  }
}

/// A kernel's shape, and what decides between them.
struct PatchKernel {
  int rows, columns, threads, depth, blocks;
  void (*kernel)(PatchJob);
  std::size_t (*shared)(int cells, int taps, int stages, int phases);
  int stages(std::int64_t channels) const {
    return static_cast<int>((channels + depth * kCellChannels - 1) / (depth * kCellChannels));
  }
};
template <int RowGroups, int ColumnGroups, int Columns, int Depth>
constexpr PatchKernel patch_kernel() {
  using S = PatchShape<RowGroups, ColumnGroups, Columns, Depth>;
  return {S::kRows, S::kColumns, S::kThreads,
          Depth,    S::kBlocks,  gather_gemm_bf16_kernel<RowGroups, ColumnGroups, Columns, Depth>,
          S::shared};
}
constexpr std::array kPatchKernels = {patch_kernel<2, 1, 4, 2>(), patch_kernel<1, 2, 4, 2>(),
                                      patch_kernel<2, 2, 4, 2>(), patch_kernel<2, 1, 2, 4>(),
                                      patch_kernel<1, 1, 8, 1>()};
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
  int* tap_kernel = nullptr;
  std::vector<std::unique_ptr<DeviceTiles>> tiles;  ///< for each of kPatchKernels
  Patches() = default;
  Patches(const Patches&) = delete;
  Patches& operator=(const Patches&) = delete;
  ~Patches() {
    table.load()->release(weight, nullptr);
    table.load()->release(tap_kernel, nullptr);
  }
};

namespace {

std::size_t shared_of(const Patches& p, std::size_t kernel) {
  const DeviceTiles& tiles = *p.tiles[kernel];
  const PatchKernel& k = kPatchKernels[kernel];
  return k.shared(tiles.most_cells, tiles.most_taps, k.stages(p.plan.channels), static_cast<int>(p.plan.phases));
}
bool fits(const Patches& p, std::size_t kernel) { return shared_of(p, kernel) <= p.most_shared; }

/// The kernel with the least time by an estimate, in cycles of a multiprocessor. It decides speed alone. Its constants are
/// fitted to 96 times of an H200 (twelve layers; off by 17 % on average, and never more than 10 % behind the best kernel).
std::size_t best_kernel(const Patches& p, std::int64_t groups) {
  const auto cost = [&](std::size_t i) {
    const PatchKernel& k = kPatchKernels[i];
    const DeviceTiles& tiles = *p.tiles[i];
    const double at_once =
        std::clamp(std::floor(static_cast<double>(p.most_shared) / static_cast<double>(shared_of(p, i) + 1024)), 1.0,
                   1.0 * k.blocks);
    const double blocks = std::ceil(static_cast<double>(p.plan.rows) / k.rows) * tiles.count *
                          std::ceil(static_cast<double>(groups) / k.columns);
    const double taps = tiles.taps_done / std::max(1, tiles.count);  // of a tile
    const double slices = tiles.cells_read / std::max(1, tiles.count) * k.depth;
    const double bursts = std::ceil(slices / (k.threads / kWarpgroup) / 4);
    const double latency = 580 * std::max(taps, bursts) + 550 * bursts;
    const double products = taps * (k.rows / 64) * (k.columns / 2) * k.depth * 66;
    const double memory = (slices * 2048 + taps * k.rows * k.depth * 32) / 40;
    const double stage = std::max(latency, at_once * std::max(products, memory));
    const double ends = 6000 + k.rows * k.columns * 128 / 11.0;
    return std::ceil(blocks / (at_once * p.multiprocessors)) * (k.stages(p.plan.channels) * stage + ends);
  };
  std::size_t best = kPatchKernels.size();
  double least = 0;
  for (std::size_t i = 0; i < kPatchKernels.size(); ++i) {
    const double c = fits(p, i) ? cost(i) : 0;
    if (fits(p, i) && (best == kPatchKernels.size() || c < least)) {
      best = i;
      least = c;
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
  p->weight_count = row_tiles * plan.taps * p->slices * 128;
  p->weight =
      static_cast<uint4*>(table.load()->allocate(static_cast<std::size_t>(p->weight_count) * sizeof(uint4), nullptr));
  p->tap_kernel = to_device(plan.tap_kernel);
  for (const PatchKernel& k : kPatchKernels) {
    p->tiles.push_back(std::make_unique<DeviceTiles>(patch_tiles(plan, k.columns)));
  }
  return best_kernel(*p, 1) < kPatchKernels.size() ? p.release() : nullptr;
}

void pack_patches(Stream stream, Patches* p, const float* weight) {
  const PackJob job{.tap_kernel = p->tap_kernel,
                    .rows = static_cast<int>(p->plan.rows),
                    .phases = static_cast<int>(p->plan.phases),
                    .channels = static_cast<int>(p->plan.channels),
                    .taps = static_cast<int>(p->plan.taps),
                    .slices = p->slices,
                    .weight_row = p->plan.weight_row,
                    .weight_channel = p->plan.weight_channel};
  launch(stream, "pack_patches", pack_bf16_kernel, blocks_for(p->weight_count), kThreads, 0, weight, p->weight, job,
         p->weight_count);
}

void apply_with(Stream stream, const Patches& p, std::size_t kernel, const float* in, float* out,
                const Epilogue<float>& e, std::int64_t groups) {
  const PatchKernel& k = kPatchKernels[kernel];
  const DeviceTiles& tiles = *p.tiles[kernel];
  const std::int64_t row_blocks = (p.plan.rows + k.rows - 1) / k.rows;
  const std::int64_t blocks = row_blocks * tiles.count * ((groups + k.columns - 1) / k.columns);
  require(groups * std::max(p.plan.in_size, p.plan.out_size) < std::int64_t{1} << 31 && blocks < std::int64_t{1} << 31,
          "cuda: ", groups * 32, " images of ", std::max(p.plan.in_size, p.plan.out_size),
          " values, expected fewer than 2^36 values");
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
                     .phases = static_cast<int>(p.plan.phases),
                     .channels = static_cast<int>(p.plan.channels),
                     .taps = static_cast<int>(p.plan.taps),
                     .slices = p.slices,
                     .row_blocks = static_cast<int>(row_blocks),
                     .tile_count = tiles.count,
                     .groups = static_cast<int>(groups),
                     .most_cells = tiles.most_cells,
                     .stages = k.stages(p.plan.channels),
                     .relu = e.relu,
                     .accumulate = e.accumulate,
                     .zero = 0};
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
