// SPDX-License-Identifier: MIT
// The matrix micro-kernel on a GPU: out[row][point] = bias[row] + sum over taps of weight[row][tap] * in[base(point) +
// offset(tap)], for 32 images a warp. Convolutions and fully connected layers, both ways, are this (gather_plan.hpp).
//
// A thread has a register tile of Rows x Points sums of one lane. A point of a tile is a place in the image or another
// group of images: eight neighbouring places of one group, four of two groups, or one of eight, so that tiles are full
// whatever the shape, down to a fully connected layer's single point. A block is four warps: up to four tiles of rows,
// which share the same inputs, times images. Inputs (128 bytes a tap and point) and weights of up to sixteen taps at a time are
// copied to shared memory in the background, two steps ahead, so that the loop over taps is loads from shared memory at
// constant addresses and multiply-adds alone. Versions before it: inputs read directly, through the first-level cache,
// a tap at a time (an H200 issued in half of its slots: it waited for loads and computed addresses).
//
// A sum has the order of the CPU's: bias first, then the plan's taps; taps outside the image are left out, not added as
// zeros. So the bits are the CPU's, whatever the tile. Oracle: kernels::gather_gemm, tests/cuda/gather_gemm_checks.hpp.
#include <array>
#include <memory>
#include <vector>

#include "pavise_kernels/cuda/gather_gemm.cuh"

namespace pavise::kernels::cuda {

namespace {

using namespace gather;  // NOLINT(google-build-using-namespace)

/// Rows weights of one tap, from shared memory.
template <int Rows>
__device__ __forceinline__ void load_weights(const float* w, float (&value)[Rows]) {
  if constexpr (Rows % 4 == 0) {
    PAVISE_UNROLL
    for (int r = 0; r < Rows; r += 4) {
      const float4 v = *reinterpret_cast<const float4*>(w + r);
      value[r] = v.x;
      value[r + 1] = v.y;
      value[r + 2] = v.z;
      value[r + 3] = v.w;
    }
  } else {
    PAVISE_UNROLL
    for (int r = 0; r < Rows; ++r) {
      value[r] = w[r];
    }
  }
}

/// sum[r][q] += weight[r] * x[q] for one tap.
template <int Rows, int Points>
__device__ __forceinline__ void add_tap(const float* w, const float* x, float (&sum)[Rows][Points]) {
  float value[Points];
  PAVISE_UNROLL
  for (int q = 0; q < Points; ++q) {
    value[q] = x[q * 32];
  }
  float weight[Rows];
  load_weights<Rows>(w, weight);
  PAVISE_UNROLL
  for (int r = 0; r < Rows; ++r) {
    PAVISE_UNROLL
    for (int q = 0; q < Points; ++q) {
      sum[r][q] = fmaf(weight[r], value[q], sum[r][q]);
    }
  }
}

template <int Rows, int Points, int Slots>
__global__ void __launch_bounds__(kWarps * 32, 4) gather_gemm_kernel(Job job) {
  using S = Shape<Rows, Points, Slots>;
  const int4 tile = job.tiles[blockIdx.x % job.tile_count];
  const int places = tile.w & 0xFF;  // of the image, 1, 2, 4, ...; the tile's other points are other groups
  const int part = tile.w >> 8;
  const int shift = __popc(static_cast<unsigned>(places - 1));
  const int first_item = static_cast<int>(blockIdx.x) / job.tile_count * S::kItems;
  if (first_item * Points + part * (Points >> shift) >= job.groups) {
    return;
  }
  const int slot = warp_id() % Slots;
  const int item = warp_id() / Slots;
  const int block_row = static_cast<int>(blockIdx.y) * Slots * Rows;
  const int row0 = block_row + slot * Rows;
  const int group0 = (first_item + item) * Points + part * (Points >> shift);
  const bool works = row0 < job.rows && group0 < job.groups;
  const auto channels = static_cast<std::int64_t>(blockIdx.z);

  float* const shared = dynamic_shared();
  // Groups behind the last one repeat it; their sums are not stored.
  const Stager<Rows, Points, Slots> stager(job, block_row, [&](int q) {
    const std::int64_t group = std::min(group0 + (q >> shift), job.groups - 1);
    return (group * job.in_size + channels * job.in_group + job.points[tile.z + (q & (places - 1))].x) * 32;
  });
  float sum[Rows][Points];
  PAVISE_UNROLL
  for (int r = 0; r < Rows; ++r) {
    const bool biased = job.bias != nullptr && row0 + r < job.rows;
    const float start = biased ? job.bias[channels * job.rows + row0 + r] : 0.0f;
    PAVISE_UNROLL
    for (int q = 0; q < Points; ++q) {
      sum[r][q] = start;
    }
  }

  const int2* taps = job.taps + tile.x;
  const auto fill = [&](int first, int stage) {
    if (first < tile.y) {
      stager.fill(taps + first, std::min(tile.y - first, 0 + S::kStep), shared + stage * S::kStage);
    }
    commit_copies();
  };
  PAVISE_UNROLL
  for (int stage = 0; stage < kStages - 1; ++stage) {
    fill(stage * S::kStep, stage);
  }
  const float* x = shared + item * S::kStep * Points * 32 + lane_id();
  const float* w = shared + S::kInputs + slot * S::kStep * Rows;
  int stage = 0;
  PAVISE_NO_UNROLL
  for (int first = 0; first < tile.y; first += S::kStep) {
    wait_for_copies<kStages - 2>();
    __syncthreads();  // everybody's copies are there, and the stage that is filled next is no longer read
    fill(first + (kStages - 1) * S::kStep, stage == 0 ? kStages - 1 : stage - 1);
    if (works) {
      const float* xs = x + stage * S::kStage;
      const float* ws = w + stage * S::kStage;
      if (tile.y - first >= S::kStep) {
        PAVISE_UNROLL
        for (int t = 0; t < S::kStep; ++t) {
          add_tap<Rows, Points>(ws + t * Rows, xs + t * Points * 32, sum);
        }
      } else {
        PAVISE_NO_UNROLL
        for (int t = 0; t < tile.y - first; ++t) {
          add_tap<Rows, Points>(ws + t * Rows, xs + t * Points * 32, sum);
        }
      }
    }
    stage = stage + 1 < kStages ? stage + 1 : 0;
  }
  if (!works) {
    return;
  }
  PAVISE_UNROLL
  for (int q = 0; q < Points; ++q) {
    const std::int64_t group = group0 + (q >> shift);
    if (group >= job.groups) {
      break;
    }
    std::int64_t at = group * job.out_size + channels * job.out_group + row0 * job.out_row;
    at = (at + job.points[tile.z + (q & (places - 1))].y) * 32 + lane_id();
    PAVISE_UNROLL
    for (int r = 0; r < Rows; ++r, at += job.out_row * 32) {
      if (row0 + r < job.rows) {
        store_sum(job, at, sum[r][q]);
      }
    }
  }
}

__global__ void pack_kernel(const float* weight, const int* source, float* packed, int rows, int padded, int taps,
                            std::int64_t weight_row, std::int64_t weight_group, std::int64_t n) {
  for (std::int64_t i = thread_index(); i < n; i += thread_total()) {
    const std::int64_t r = i % padded;
    const std::int64_t t = i / padded % taps;
    const std::int64_t group = i / padded / taps;
    packed[i] = r < rows ? weight[group * weight_group + r * weight_row + source[t]] : 0.0f;
  }
}

constexpr int kFewRows = 4;
constexpr int kStrip = 8;       ///< places of a warp
constexpr int kStripWarps = 8;  ///< of a block: neighbouring strips, of all classes, which read the same inputs

/// Few rows (the gradient of an image, at the bottom of a network) leave nothing to share between rows; what a place reads
/// its neighbours read too. So inputs come straight from memory through the first-level cache, and a block's strips lie
/// side by side in the image.
template <int Rows>
__global__ void __launch_bounds__(kStripWarps * 32) few_rows_kernel(Job job) {
  const int index = static_cast<int>(blockIdx.x) * kStripWarps + warp_id();
  if (index >= job.tile_count) {
    return;
  }
  const int4 strip = job.tiles[index];
  const std::int64_t group = blockIdx.y;
  const auto channels = static_cast<std::int64_t>(blockIdx.z);
  const float* const in = job.in + (group * job.in_size + channels * job.in_group) * 32 + lane_id();
  const float* x[kStrip];
  float sum[Rows][kStrip];
  PAVISE_UNROLL
  for (int q = 0; q < kStrip; ++q) {  // places behind the last repeat it; their sums are not stored
    x[q] = in + static_cast<std::int64_t>(job.points[strip.z + std::min(q, strip.w - 1)].x) * 32;
    PAVISE_UNROLL
    for (int r = 0; r < Rows; ++r) {
      sum[r][q] = job.bias != nullptr && r < job.rows ? job.bias[channels * job.rows + r] : 0.0f;
    }
  }
  const float* const weight = job.weight + channels * job.weight_taps * job.padded;
  const int2* const taps = job.taps + strip.x;
  PAVISE_UNROLL_4
  for (int t = 0; t < strip.y; ++t) {
    const int2 tap = taps[t];
    float w[Rows];
    PAVISE_UNROLL
    for (int r = 0; r < Rows; ++r) {
      w[r] = weight[static_cast<std::int64_t>(tap.y) * job.padded + r];
    }
    PAVISE_UNROLL
    for (int q = 0; q < kStrip; ++q) {
      const float v = x[q][static_cast<std::int64_t>(tap.x) * 32];
      PAVISE_UNROLL
      for (int r = 0; r < Rows; ++r) {
        sum[r][q] = fmaf(w[r], v, sum[r][q]);
      }
    }
  }
  PAVISE_UNROLL
  for (int q = 0; q < kStrip; ++q) {
    if (q < strip.w) {
      std::int64_t at = group * job.out_size + channels * job.out_group + job.points[strip.z + q].y;
      PAVISE_UNROLL
      for (int r = 0; r < Rows; ++r) {
        if (r < job.rows) {
          store_sum(job, (at + r * job.out_row) * 32 + lane_id(), sum[r][q]);
        }
      }
    }
  }
}

/// The register tiles that are compiled.
template <int Rows, int Points>
constexpr TileShape tile_shape() {
  return shape_of<Rows, Points>(gather_gemm_kernel<Rows, Points, 1>, gather_gemm_kernel<Rows, Points, 2>,
                                gather_gemm_kernel<Rows, Points, 4>);
}
constexpr std::array kTileShapes = {tile_shape<16, 4>(), tile_shape<16, 2>(), tile_shape<8, 8>(), tile_shape<8, 4>(),
                                    tile_shape<8, 2>(),  tile_shape<4, 8>(),  tile_shape<4, 4>(), tile_shape<1, 8>()};

Operator* make_operator(const GatherPlan& plan) {
  auto op = std::make_unique<Operator>();
  op->rows = plan.rows;
  op->taps = plan.taps;
  op->channel_groups = plan.channel_groups;
  op->in_size = plan.in_size;
  op->out_size = plan.out_size;
  op->in_group = plan.in_group;
  op->out_group = plan.out_group;
  op->out_row = plan.out_row;
  op->weight_row = plan.weight_row;
  op->weight_group = plan.weight_group;
  op->padded = static_cast<int>(plan.rows <= 4 ? 4 : plan.rows <= 8 ? 8 : (plan.rows + 15) / 16 * 16);
  op->multiprocessors = table.load()->device_info(table.load()->current_device()).multiprocessors;

  std::vector<int2> taps;
  std::vector<int> first_tap;
  for (const TapClass& c : plan.classes) {
    first_tap.push_back(static_cast<int>(taps.size()));
    for (const TapSegment& segment : c.segments) {
      for (std::int32_t i = 0; i < segment.count; ++i) {
        taps.push_back({c.offset[static_cast<std::size_t>(segment.begin + i)], segment.weight + i});
      }
    }
  }

  std::vector<std::vector<int2>> class_points(plan.classes.size());
  for (const PointRun& run : plan.runs) {
    for (std::int32_t i = 0; i < run.count; ++i) {
      class_points[static_cast<std::size_t>(run.tap_class)].push_back(
          {static_cast<int>(run.in + i * run.in_step), static_cast<int>(run.out + i * run.out_step)});
    }
  }
  std::vector<int2> points;
  for (const auto& c : class_points) {
    points.insert(points.end(), c.begin(), c.end());
  }

  for (const int tile_points : {1, 2, 4, 8}) {
    std::vector<int4> tiles;
    TileList list{.points = tile_points};
    int first = 0;
    for (std::size_t c = 0; c < class_points.size(); ++c) {
      auto left = static_cast<int>(class_points[c].size());
      const auto count = static_cast<int>(plan.classes[c].offset.size());
      for (int places = tile_points; places > 0; places /= 2) {
        for (; left >= places; left -= places, first += places) {
          for (int part = 0; part < places; ++part) {
            tiles.push_back({first_tap[c], count, first, places | part << 8});
            list.taps += count;
          }
        }
      }
    }
    list.count = static_cast<int>(tiles.size());
    list.device = to_device(tiles);
    op->tiles.push_back(list);
  }
  if (plan.rows <= kFewRows) {
    std::vector<int4> strips;
    int first = 0;
    for (std::size_t c = 0; c < class_points.size(); ++c) {
      const auto count = static_cast<int>(class_points[c].size());
      for (int at = 0; at < count; at += kStrip) {
        strips.push_back(
            {first_tap[c], static_cast<int>(plan.classes[c].offset.size()), first + at, std::min(kStrip, count - at)});
      }
      first += count;
    }
    std::stable_sort(strips.begin(), strips.end(), [&](const int4& a, const int4& b) {
      return points[static_cast<std::size_t>(a.z)].x < points[static_cast<std::size_t>(b.z)].x;
    });
    op->derivative_of = plan.derivative_of;
    if (has_image_gradient(plan)) {
      const std::int64_t kernel = plan.derivative_of.kernel_height * plan.derivative_of.kernel_width;
      std::vector<int> tap_of(plan.tap_source.size());
      for (std::size_t t = 0; t < tap_of.size(); ++t) {
        const std::int64_t channel = plan.tap_source[t] / (plan.rows * kernel);
        tap_of[static_cast<std::size_t>(channel * kernel + plan.tap_source[t] % (plan.rows * kernel))] =
            static_cast<int>(t);
      }
      op->tap_of = to_device(tap_of);
    }
    op->strips = {.points = kStrip, .count = static_cast<int>(strips.size()), .device = to_device(strips)};
  }
  op->class_taps = to_device(taps);
  op->points = to_device(points);
  op->source = to_device(std::vector<int>(plan.tap_source.begin(), plan.tap_source.end()));
  op->packed = static_cast<float*>(table.load()->allocate(
      static_cast<std::size_t>(plan.channel_groups * plan.taps * op->padded) * sizeof(float), nullptr));
  table.load()->synchronize(nullptr);
  return op.release();
}

void pack_operator(Stream stream, Operator* op, const float* weight) {
  const std::int64_t n = op->channel_groups * op->taps * op->padded;
  launch(stream, "pack_operator", pack_kernel, blocks_for(n), kThreads, 0, weight, op->source, op->packed, op->rows,
         op->padded, op->taps, op->weight_row, op->weight_group, n);
}

/// What a warp issues for a tile: a tap's multiply-adds, loads and copies.
double issue_of(const Operator& op, const TileShape& shape) {
  const TileList& list = tiles_of(op, shape.points);
  const double taps = list.taps / std::max(1, list.count);  // of a tile, on average
  const double copies = 2.0 * shape.points / slots_for(op, shape) + shape.rows / 16.0 + 4.0;
  const double issue = shape.rows * shape.points + shape.points + shape.rows / 4.0 + copies;
  // Tiles of 64 sums leave registers for fewer warps (measured: 57 % of the peak beside 60 %).
  return taps * issue * (shape.rows * shape.points > 32 ? 1.1 : 1.0);
}

}  // namespace

bool apply_few_rows(Stream stream, const Operator* op, const float* in, float* out, const Epilogue<float>& e,
                    std::int64_t groups) {
  if (apply_image_gradient(stream, op, in, out, e, groups)) {
    return true;
  }
  if (op->rows < 1 || op->rows > kFewRows || op->strips.count < 2 || groups > 65535) {
    return false;
  }
  const Job job = job_of(*op, op->strips, in, out, e, groups);
  const dim3 blocks(static_cast<unsigned>((op->strips.count + kStripWarps - 1) / kStripWarps),
                    static_cast<unsigned>(groups), static_cast<unsigned>(op->channel_groups));
  const auto kernel = op->rows == 1 ? few_rows_kernel<1> : op->rows <= 2 ? few_rows_kernel<2> : few_rows_kernel<4>;
  launch(stream, "few_rows", kernel, blocks, kStripWarps * 32, 0, job);
  return true;
}

void fill_gather_gemm(Table& t) {
  t.make_operator = make_operator;
  t.destroy_operator = [](Operator* op) { delete op; };
  t.pack_operator = pack_operator;
  t.apply_operator = [](Stream stream, const Operator* op, const float* in, float* out, const Epilogue<float>& e,
                        std::int64_t groups) {
    if (!apply_few_rows(stream, op, in, out, e, groups)) {
      apply_tile(stream, "apply_operator", *op, best_tile(*op, kTileShapes, groups, issue_of), in, out, e, groups);
    }
  };
  t.apply_operator_tiled = [](Stream stream, const Operator* op, const float* in, float* out, const Epilogue<float>& e,
                              std::int64_t groups, int rows, int points) {
    apply_tile(stream, "apply_operator", *op, tile_of(kTileShapes, rows, points), in, out, e, groups);
  };
  t.operator_tiles = [](int i) { return tile_number(kTileShapes, i); };
}

}  // namespace pavise::kernels::cuda
