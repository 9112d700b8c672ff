// SPDX-License-Identifier: MIT
// The matrix micro-kernel on a GPU: out[row][point] = bias[row] + sum over taps of weight[row][tap] * in[base(point) +
// offset(tap)], for 32 images a warp. Convolutions and fully connected layers, both ways, are this (gather_plan.hpp).
//
// A thread has a register tile of Rows x Points sums of its one image; every tap loads one input a point (128 bytes a
// warp, coalesced) and broadcasts the rows' weights from shared memory (16 bytes a load). A block is four warps: up to
// four tiles of rows, which read the same inputs, times images. Weights come in chunks of 64 taps, the next one copied
// in the background while the present one is used. Taps are walked in spans (neighbouring weights, evenly spaced
// inputs), so that offsets inside a span are constants of the instruction. Where an operator has a single point (fully
// connected layers) the points of a tile are groups of images.
//
// A sum has the order of the CPU's: bias first, then the plan's taps; taps outside the image are left out, not added as
// zeros. So the bits are the CPU's, whatever the tile. Oracle: kernels::gather_gemm, tests/cuda/gather_gemm_checks.cpp.
#include <array>
#include <memory>
#include <vector>

#include "pavise_kernels/cuda/runtime.cuh"

namespace pavise::kernels::cuda {

namespace {

constexpr int kWarps = 4;   ///< of a block
constexpr int kChunk = 64;  ///< taps that are staged together

/// What a launch reads.
struct Job {
  const float* weight;  ///< [channel group][tap][padded rows]
  const float* in;
  float* out;
  const float* bias;
  const float* mask;
  const int4* spans;       ///< offset, weight within its chunk, count, step of the offset
  const int* class_spans;  ///< [class][chunk]: the first span; one more at the end
  const int2* points;      ///< of the input and the output, class after class
  const int4* tiles;       ///< class, first point, points, chunks (first | last << 16)
  std::int64_t in_size, out_size, in_group, out_group, out_row;
  int rows, padded, taps, chunks, tile_count;
  int groups, slots;              ///< slots: tiles of rows in a block, 1, 2 or 4
  bool relu, accumulate, across;  ///< across: the points of a tile are groups
};

/// Starts the copy of the weights of one chunk for the block's tiles of rows: to[slot][tap][Rows]. A warp copies taps
/// of one slot, so that little has to be computed and kept for it.
template <int Rows>
__device__ __forceinline__ void stage_weights(const Job& job, int chunk, float* to) {
  const int first = chunk * kChunk;
  const int taps = job.taps - first < kChunk ? job.taps - first : kChunk;
  constexpr int kPieces = Rows >= 4 ? Rows / 4 : Rows;  // of 16 bytes, or single weights
  constexpr int kWidth = Rows / kPieces;
  const int slot = warp_id() & (job.slots - 1);
  const int piece = lane_id() % kPieces;
  const int row = (static_cast<int>(blockIdx.y) * job.slots + slot) * Rows + piece * kWidth;
  const int helpers = kWarps / job.slots * (32 / kPieces);  // that copy a tap each
  int tap = warp_id() / job.slots * (32 / kPieces) + lane_id() / kPieces;
  const float* from = job.weight + (static_cast<std::int64_t>(blockIdx.z) * job.taps + first + tap) * job.padded + row;
  to += (slot * kChunk + tap) * Rows + piece * kWidth;
  if (row < job.padded) {
    PAVISE_NO_UNROLL
    for (; tap < taps; tap += helpers, from += helpers * job.padded, to += helpers * Rows) {
      if constexpr (kWidth == 4) {
        copy_async(to, from);
      } else {
        *to = *from;
      }
    }
  }
  commit_copies();
}

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

/// sum[r][q] += weight[r] * x[point[q]] for `Taps` taps with neighbouring inputs.
template <int Rows, int Points, int Taps>
__device__ __forceinline__ void add_taps(const float* w, const float* x, const int (&point)[Points],
                                         float (&sum)[Rows][Points]) {
  PAVISE_UNROLL
  for (int t = 0; t < Taps; ++t) {
    float value[Points];
    PAVISE_UNROLL
    for (int q = 0; q < Points; ++q) {
      value[q] = x[point[q] + t * 32];
    }
    float weight[Rows];
    load_weights<Rows>(w + t * Rows, weight);
    PAVISE_UNROLL
    for (int r = 0; r < Rows; ++r) {
      PAVISE_UNROLL
      for (int q = 0; q < Points; ++q) {
        sum[r][q] = fmaf(weight[r], value[q], sum[r][q]);
      }
    }
    asm volatile("" ::: "memory");  // a tap's loads stay behind the one before: registers are for sums
  }
}

/// All taps of one span.
template <int Rows, int Points>
__device__ __forceinline__ void add_span(const int4 span, const float* weights, const float* x,
                                         const int (&point)[Points], float (&sum)[Rows][Points]) {
  const float* w = weights + span.y * Rows;
  const float* from = x + static_cast<std::int64_t>(span.x) * 32;
  int t = 0;
  if (span.w == 1) {  // a row of a kernel, or a fully connected layer: the offsets are constants
    if (span.z == 3) {
      add_taps<Rows, Points, 3>(w, from, point, sum);
      return;
    }
    for (; t + 4 <= span.z; t += 4, w += 4 * Rows, from += 4 * 32) {
      add_taps<Rows, Points, 4>(w, from, point, sum);
    }
  }
  const std::int64_t step = static_cast<std::int64_t>(span.w) * 32;
  for (; t < span.z; ++t, w += Rows, from += step) {
    add_taps<Rows, Points, 1>(w, from, point, sum);
  }
}

/// One warp's tile, while the block stages weights together.
template <int Rows, int Points>
__device__ __forceinline__ void run_tile(const Job& job, const int4 tile, int block) {
  const int slot = warp_id() & (job.slots - 1);
  const int items = kWarps / job.slots;
  const int item = warp_id() / job.slots;
  const int row0 = (static_cast<int>(blockIdx.y) * job.slots + slot) * Rows;
  const int group0 = (block * items + item) * (job.across ? Points : 1);
  const bool works = row0 < job.rows && group0 < job.groups;
  const auto channels = static_cast<std::int64_t>(blockIdx.z);

  // Places behind the last point or group repeat it; their sums are not stored.
  const std::int64_t first_group = std::min(group0, job.groups - 1);
  const float* x = job.in + (first_group * job.in_size + channels * job.in_group) * 32 + lane_id();
  int point[Points];
  PAVISE_UNROLL
  for (int q = 0; q < Points; ++q) {
    const int groups_on = static_cast<int>(std::min(group0 + q, job.groups - 1) - first_group);
    point[q] = job.across ? groups_on * static_cast<int>(job.in_size) * 32
                          : job.points[tile.y + std::min(q, tile.z - 1)].x * 32;
  }
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

  float* const shared = dynamic_shared();
  const int stage = job.slots * kChunk * Rows;
  const int first = tile.w & 0xFFFF;
  const int last = tile.w >> 16;
  const int* spans = job.class_spans + static_cast<std::int64_t>(tile.x) * job.chunks;
  if (first < last) {
    stage_weights<Rows>(job, first, shared);
  }
  for (int chunk = first; chunk < last; ++chunk) {
    const int now = (chunk - first) % 2;
    if (chunk + 1 < last) {
      stage_weights<Rows>(job, chunk + 1, shared + (1 - now) * stage);
      wait_for_copies<1>();
    } else {
      wait_for_copies<0>();
    }
    __syncthreads();
    if (works) {
      const float* weights = shared + now * stage + slot * kChunk * Rows;
      const int end = spans[chunk + 1];
      for (int s = spans[chunk]; s < end; ++s) {
        add_span<Rows, Points>(__ldg(job.spans + s), weights, x, point, sum);
      }
    }
    __syncthreads();
  }
  if (!works) {
    return;
  }
  PAVISE_UNROLL
  for (int q = 0; q < Points; ++q) {
    if (job.across ? group0 + q >= job.groups : q >= tile.z) {
      break;
    }
    const std::int64_t group = group0 + (job.across ? q : 0);
    std::int64_t at = group * job.out_size + channels * job.out_group + row0 * job.out_row;
    at = (at + job.points[tile.y + (job.across ? 0 : q)].y) * 32 + lane_id();
    PAVISE_UNROLL
    for (int r = 0; r < Rows; ++r, at += job.out_row * 32) {
      if (row0 + r < job.rows) {
        float y = sum[r][q];
        if (job.relu) {
          y = 0.0f > y ? 0.0f : y;  // keeps NaN
        }
        if (job.mask != nullptr) {
          y = job.mask[at] > 0.0f ? y : 0.0f;
        }
        if (job.accumulate) {
          y = y + job.out[at];
        }
        job.out[at] = y;
      }
    }
  }
}

template <int Rows, int Points>
__global__ void __launch_bounds__(kWarps * 32, Rows* Points > 64 ? 2 : 3) gather_gemm_kernel(Job job) {
  const int4 tile = job.tiles[blockIdx.x % job.tile_count];
  const int block = static_cast<int>(blockIdx.x) / job.tile_count;
  if (Points > 1 && tile.z == 1 && !job.across) {
    run_tile<Rows, 1>(job, tile, block);
  } else {
    run_tile<Rows, Points>(job, tile, block);
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

/// The register tiles that are compiled.
struct TileShape {
  int rows, points;
  void (*kernel)(Job);
};
template <int Rows, int Points>
constexpr TileShape tile_shape() {
  return {Rows, Points, gather_gemm_kernel<Rows, Points>};
}
constexpr std::array kTileShapes = {tile_shape<16, 8>(), tile_shape<16, 7>(), tile_shape<16, 5>(), tile_shape<16, 4>(),
                                    tile_shape<16, 2>(), tile_shape<8, 8>(),  tile_shape<8, 4>(),  tile_shape<8, 2>(),
                                    tile_shape<4, 8>(),  tile_shape<4, 4>(),  tile_shape<1, 8>()};

template <class T>
T* upload(const std::vector<T>& values) {
  const Table& t = *table.load();
  auto* p = static_cast<T*>(t.allocate(values.size() * sizeof(T), nullptr));
  t.copy_to_device(p, values.data(), values.size() * sizeof(T), nullptr);
  return p;
}

}  // namespace

/// The tiles of one tile shape's number of points.
struct TileList {
  int points = 0;
  std::vector<int4> host;
  int4* device = nullptr;
  double taps = 0;  ///< sum over tiles of points computed times taps
};

struct Operator {
  std::int64_t rows = 0, taps = 0, channel_groups = 0;
  std::int64_t in_size = 0, out_size = 0, in_group = 0, out_group = 0, out_row = 0;
  std::int64_t weight_row = 0, weight_group = 0;
  int padded = 0, chunks = 0;
  bool across = false;
  int multiprocessors = 1;
  int* source = nullptr;
  int4* spans = nullptr;
  int* class_spans = nullptr;
  int2* points = nullptr;
  float* packed = nullptr;
  std::vector<TileList> tiles;

  ~Operator() {
    const Table& t = *table.load();
    for (void* p : {static_cast<void*>(source), static_cast<void*>(spans), static_cast<void*>(class_spans),
                    static_cast<void*>(points), static_cast<void*>(packed)}) {
      t.release(p, nullptr);
    }
    for (const TileList& list : tiles) {
      t.release(list.device, nullptr);
    }
  }
};

namespace {

/// The spans of one class, cut where a chunk of weights ends. Appends the first span of each chunk to `begin`.
void append_spans(const TapClass& taps, int chunks, std::vector<int4>& spans, std::vector<int>& begin) {
  const auto first = static_cast<int>(begin.size());
  std::vector<int> weight;
  for (const TapSegment& s : taps.segments) {
    for (std::int32_t i = 0; i < s.count; ++i) {
      weight.push_back(s.weight + i);
    }
  }
  for (std::size_t t = 0; t < weight.size();) {
    while (static_cast<int>(begin.size()) - first <= weight[t] / kChunk) {
      begin.push_back(static_cast<int>(spans.size()));
    }
    std::size_t n = 1;
    int step = 1;
    while (t + n < weight.size() && weight[t + n] == weight[t] + static_cast<int>(n) &&
           weight[t + n] / kChunk == weight[t] / kChunk) {
      const int next = taps.offset[t + n] - taps.offset[t + n - 1];
      step = n == 1 ? next : step;
      if (next != step) {
        break;
      }
      ++n;
    }
    spans.push_back({taps.offset[t], weight[t] % kChunk, static_cast<int>(n), n == 1 ? 1 : step});
    t += n;
  }
  while (static_cast<int>(begin.size()) - first < chunks) {
    begin.push_back(static_cast<int>(spans.size()));
  }
}

/// How much a point of its own costs where a full tile would be mostly empty.
bool prefers_single_points(int left, int points) { return 3 * left <= points; }

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
  op->chunks = static_cast<int>((plan.taps + kChunk - 1) / kChunk);
  require(op->chunks < 65536, "cuda: an operator of ", plan.taps, " taps, expected at most ", 65535 * kChunk);
  // Places inside an image are 32-bit numbers, also where they count eight groups.
  constexpr std::int64_t kLimit = std::int64_t{1} << 26;
  require<DeviceError>(std::max(plan.in_size, plan.out_size) < kLimit, "cuda: an image of ",
                       std::max(plan.in_size, plan.out_size), " elements, expected less than 2^26");
  op->multiprocessors = table.load()->device_info(0).multiprocessors;

  std::vector<int4> spans;
  std::vector<int> class_spans;
  std::vector<int2> chunk_range;
  for (const TapClass& c : plan.classes) {
    append_spans(c, op->chunks, spans, class_spans);
    int2 range{0, 0};
    if (!c.segments.empty()) {
      range.x = c.segments.front().weight / kChunk;
      range.y = (c.segments.back().weight + c.segments.back().count - 1) / kChunk + 1;
    }
    chunk_range.push_back(range);
  }
  class_spans.push_back(static_cast<int>(spans.size()));

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
  op->across = points.size() == 1 && plan.classes.size() == 1 && points[0].x == 0 && plan.in_size < kLimit / 8;

  for (const TileShape& shape : kTileShapes) {
    if (std::any_of(op->tiles.begin(), op->tiles.end(), [&](const TileList& l) { return l.points == shape.points; })) {
      continue;
    }
    TileList list;
    list.points = shape.points;
    int first = 0;
    for (std::size_t c = 0; c < class_points.size(); ++c) {
      const auto count = static_cast<int>(class_points[c].size());
      const int range = chunk_range[c].x | chunk_range[c].y << 16;
      const auto taps = static_cast<double>(plan.classes[c].offset.size());
      for (int i = 0; i < count;) {
        const int left = count - i;
        const int n = left >= shape.points ? shape.points : prefers_single_points(left, shape.points) ? 1 : left;
        list.host.push_back({static_cast<int>(c), first + i, n, range});
        list.taps += taps * (n == 1 ? 1.0 : shape.points);
        i += n;
      }
      first += count;
    }
    list.device = upload(list.host);
    op->tiles.push_back(std::move(list));
  }
  op->spans = upload(spans);
  op->class_spans = upload(class_spans);
  op->points = upload(points);
  op->source = upload(std::vector<int>(plan.tap_source.begin(), plan.tap_source.end()));
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

const TileList& tiles_of(const Operator& op, int points) {
  return *std::find_if(op.tiles.begin(), op.tiles.end(), [&](const TileList& l) { return l.points == points; });
}

int slots_for(const Operator& op, const TileShape& shape) {
  const std::int64_t row_tiles = (op.rows + shape.rows - 1) / shape.rows;
  return row_tiles >= 3 ? 4 : row_tiles == 2 ? 2 : 1;
}

/// An estimate of the time, in issue slots of one scheduler: what a tile's instructions take, and how evenly the tiles
/// fill the machine. It decides speed alone.
double cost(const Operator& op, const TileShape& shape, std::int64_t groups) {
  const auto slots = static_cast<double>(slots_for(op, shape));
  const double row_tiles = std::ceil(std::ceil(static_cast<double>(op.rows) / shape.rows) / slots) * slots;
  const TileList& list = tiles_of(op, shape.points);
  const double per_tap = shape.rows * shape.points + 3.0 * shape.points + shape.rows / 4.0 + 3.0;
  const double warps = op.across ? std::ceil(static_cast<double>(groups) / shape.points) * row_tiles
                                 : static_cast<double>(list.host.size()) * static_cast<double>(groups) * row_tiles;
  const double work = op.across ? warps * static_cast<double>(op.taps) * per_tap
                                : list.taps / shape.points * static_cast<double>(groups) * row_tiles * per_tap;
  const double schedulers = 4.0 * op.multiprocessors;
  // A scheduler with one warp waits for memory half of the time; with two or more hardly.
  const double waves = std::ceil(warps / schedulers);
  const double even = work / warps * waves;
  return even * (waves < 2 ? 1.5 : 1.0);
}

void apply_with(Stream stream, const Operator* op, const TileShape& shape, const float* in, float* out,
                const Epilogue<float>& e, std::int64_t groups) {
  if (op->rows == 0 || groups == 0 || tiles_of(*op, shape.points).host.empty()) {
    return;
  }
  const TileList& list = tiles_of(*op, shape.points);
  const int slots = slots_for(*op, shape);
  const int items = kWarps / slots * (op->across ? shape.points : 1);
  const Job job{.weight = op->packed,
                .in = in,
                .out = out,
                .bias = e.bias,
                .mask = e.mask,
                .spans = op->spans,
                .class_spans = op->class_spans,
                .points = op->points,
                .tiles = list.device,
                .in_size = op->in_size,
                .out_size = op->out_size,
                .in_group = op->in_group,
                .out_group = op->out_group,
                .out_row = op->out_row,
                .rows = static_cast<int>(op->rows),
                .padded = op->padded,
                .taps = static_cast<int>(op->taps),
                .chunks = op->chunks,
                .tile_count = static_cast<int>(list.host.size()),
                .groups = static_cast<int>(groups),
                .slots = slots,
                .relu = e.relu,
                .accumulate = e.accumulate,
                .across = op->across};
  const std::int64_t row_tiles = (op->rows + shape.rows - 1) / shape.rows;
  const dim3 blocks(static_cast<unsigned>((groups + items - 1) / items * job.tile_count),
                    static_cast<unsigned>((row_tiles + slots - 1) / slots), static_cast<unsigned>(op->channel_groups));
  const std::size_t shared = sizeof(float) * 2 * static_cast<std::size_t>(slots * kChunk * shape.rows);
  launch(stream, "apply_operator", shape.kernel, blocks, kWarps * 32, shared, job);
}

void apply_operator(Stream stream, const Operator* op, const float* in, float* out, const Epilogue<float>& e,
                    std::int64_t groups) {
  const TileShape* best = nullptr;
  double least = 0;
  for (const TileShape& shape : kTileShapes) {
    const double c = cost(*op, shape, groups);
    if (best == nullptr || c < least) {
      best = &shape;
      least = c;
    }
  }
  apply_with(stream, op, *best, in, out, e, groups);
}

}  // namespace

void fill_gather_gemm(Table& t) {
  t.make_operator = make_operator;
  t.destroy_operator = [](Operator* op) { delete op; };
  t.pack_operator = pack_operator;
  t.apply_operator = apply_operator;
  t.apply_operator_tiled = [](Stream stream, const Operator* op, const float* in, float* out, const Epilogue<float>& e,
                              std::int64_t groups, int rows, int points) {
    for (const TileShape& shape : kTileShapes) {
      if (shape.rows == rows && shape.points == points) {
        apply_with(stream, op, shape, in, out, e, groups);
        return;
      }
    }
    throw ValueError(concat("cuda: no register tile of ", rows, "x", points));
  };
  t.operator_tiles = [](int i) {
    const auto n = static_cast<std::size_t>(i);
    return n < kTileShapes.size() ? kTileShapes[n].rows * 100 + kTileShapes[n].points : 0;
  };
}

}  // namespace pavise::kernels::cuda
