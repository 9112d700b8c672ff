// SPDX-License-Identifier: MIT
// Layers for the bf16 mode on the device: tiles, packed weights, and which of the kernels (gather_gemm_bf16.cuh) runs.
#include <array>
#include <cmath>
#include <memory>
#include <vector>

#include "pavise_kernels/cuda/gather_gemm_bf16.cuh"

namespace pavise::kernels::cuda {

namespace {

using namespace bf16;  // NOLINT(google-build-using-namespace)

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
  const DeviceInfo info = table.load()->device_info(table.load()->current_device());
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
