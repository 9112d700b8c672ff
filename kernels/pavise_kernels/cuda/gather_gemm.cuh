// SPDX-License-Identifier: MIT
// What the matrix micro-kernels share (gather_gemm.cu, in single precision; gather_gemm_fast.cu, on tensor cores): the
// device's form of a plan, what a launch reads, and the copies of inputs and weights to shared memory.
#pragma once

#include <algorithm>
#include <cmath>
#include <vector>

#include "pavise_kernels/cuda/runtime.cuh"

namespace pavise::kernels::cuda {

/// The tiles of a number of points: together they cover every place of `points` groups.
struct TileList {
  int points = 0;
  int count = 0;
  int4* device = nullptr;
  double taps = 0;  ///< of all tiles
};

struct Operator {
  std::int64_t rows = 0, taps = 0, channel_groups = 0;
  std::int64_t in_size = 0, out_size = 0, in_group = 0, out_group = 0, out_row = 0;
  std::int64_t weight_row = 0, weight_group = 0;
  int padded = 0;
  int multiprocessors = 1;
  int* source = nullptr;
  int2* class_taps = nullptr;
  int2* points = nullptr;
  float* packed = nullptr;
  std::vector<TileList> tiles;
  ConvGeometry derivative_of{};
  int* tap_of = nullptr;  ///< [channel][kernel position], where the image's gradient has its own kernel
  TileList strips;        ///< of up to eight neighbouring places, in the order of what they read: for few rows

  ~Operator() {
    const Table& t = *table.load();
    for (void* p : {static_cast<void*>(source), static_cast<void*>(class_taps), static_cast<void*>(points),
                    static_cast<void*>(packed), static_cast<void*>(tap_of)}) {
      t.release(p, nullptr);
    }
    for (const TileList& list : tiles) {
      t.release(list.device, nullptr);
    }
    t.release(strips.device, nullptr);
  }
};

/// apply_operator for an operator of few rows, whose tiles share no inputs; false: it has too many.
bool apply_few_rows(Stream, const Operator*, const float* in, float* out, const Epilogue<float>&, std::int64_t groups);

/// The same for the derivative of a convolution with respect to an image of few channels, without bias
/// (image_gradient.cu); false: of another kernel or stride than are compiled. Only where `has_image_gradient`.
bool apply_image_gradient(Stream, const Operator*, const float* in, float* out, const Epilogue<float>&,
                          std::int64_t groups);
bool has_image_gradient(const GatherPlan&);

namespace gather {

constexpr int kWarps = 4;   ///< of a block
constexpr int kStages = 3;  ///< of shared memory: one is used while the others are filled

/// What a launch reads.
struct Job {
  const float* weight;  ///< [channel group][packed tap][padded rows]
  const float* in;
  float* out;
  const float* bias;
  const float* mask;
  const int2* taps;    ///< offset of the input, packed tap; class after class
  const int2* points;  ///< of the input and the output, class after class
  const int4* tiles;   ///< first tap, taps, first point, places | part << 8
  std::int64_t in_size, out_size, in_group, out_group, out_row;
  int rows, padded, weight_taps, tile_count;
  int groups;
  bool relu, accumulate;
};

inline const TileList& tiles_of(const Operator& op, int points) {
  return *std::find_if(op.tiles.begin(), op.tiles.end(), [&](const TileList& l) { return l.points == points; });
}

inline Job job_of(const Operator& op, const TileList& list, const float* in, float* out, const Epilogue<float>& e,
                  std::int64_t groups) {
  return {.weight = op.packed,
          .in = in,
          .out = out,
          .bias = e.bias,
          .mask = e.mask,
          .taps = op.class_taps,
          .points = op.points,
          .tiles = list.device,
          .in_size = op.in_size,
          .out_size = op.out_size,
          .in_group = op.in_group,
          .out_group = op.out_group,
          .out_row = op.out_row,
          .rows = static_cast<int>(op.rows),
          .padded = op.padded,
          .weight_taps = static_cast<int>(op.taps),
          .tile_count = list.count,
          .groups = static_cast<int>(groups),
          .relu = e.relu,
          .accumulate = e.accumulate};
}

/// The epilogue of one sum.
template <class AnyJob>
__device__ __forceinline__ void store_sum(const AnyJob& job, std::int64_t at, float y) {
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

/// The work of a block: Slots tiles of Rows rows, times Items tiles of Points points, for kStep taps at a time.
template <int Rows, int Points, int Slots>
struct Shape {
  static constexpr int kItems = kWarps / Slots;
  static constexpr int kStep = std::min(16, 128 / (kItems * Points));  // 16 KiB of inputs in a stage
  static constexpr int kInputs = kItems * kStep * Points * 32;         // [item][tap][point][32]
  static constexpr int kStage = kInputs + Slots * kStep * Rows;        // and weights [slot][tap][row]
  static constexpr std::size_t kShared = sizeof(float) * kStages * kStage;
};

/// Where row `row` of a tap's weights lies among them, where they are rotated.
template <int Rows>
__device__ __forceinline__ int rotated_row(int row, int tap) {
  return Rows % 32 == 0 ? (row + 8 * (tap & 3)) % Rows : row ^ (8 * ((tap >> 1) & 1));
}

/// Copies stages of inputs and weights. `Rotated`: columns and rows are moved by a multiple of eight that depends on the
/// tap, so that lanes that read four taps at a time find them in different banks. A warp copies four rows of 128 bytes of its own item's inputs at a time, 16 bytes
/// a lane; rows are points, tap after tap, so a lane stays with one point, or with two.
template <int Rows, int Points, int Slots, bool Rotated = false>
class Stager {
 public:
  using S = Shape<Rows, Points, Slots>;
  static constexpr int kPass = 4 * Slots;                           ///< rows that an item's warps copy at a time
  static constexpr int kOwn = Points > kPass ? Points / kPass : 1;  ///< points of a lane
  static constexpr int kTapsPerPass = Points > kPass ? 1 : kPass / Points;

  /// place(q): where point q of the warp's item lies in the input.
  template <class Place>
  __device__ __forceinline__ Stager(const Job& job, int row0, const Place& place) : job_(job) {
    const int row = warp_id() % Slots * 4 + lane_id() / 8;
    tap_ = row / Points % kTapsPerPass;
    PAVISE_UNROLL
    for (int k = 0; k < kOwn; ++k) {
      from_[k] = job.in + place(row % Points + k * kPass) + lane_id() % 8 * 4;
    }
    to_ = (warp_id() / Slots * S::kStep * Points + row) * 32 + (Rotated ? 0 : lane_id() % 8 * 4);
    const int piece = static_cast<int>(threadIdx.x) % kPieces;
    const int slot = static_cast<int>(threadIdx.x) / kPieces % Slots;
    weight_tap_ = static_cast<int>(threadIdx.x) / (kPieces * Slots);
    weight_row_ = row0 + slot * Rows + piece * kWidth;
    weight_to_ = S::kInputs + (slot * S::kStep + weight_tap_) * Rows + (Rotated ? 0 : piece * kWidth);
    piece_ = piece;
  }

  /// Starts the copies of `count` taps.
  __device__ __forceinline__ void fill(const int2* taps, int count, float* stage) const {
    PAVISE_UNROLL
    for (int t = 0; t < S::kStep; t += kTapsPerPass) {
      if (t + tap_ < count) {
        const std::int64_t offset = static_cast<std::int64_t>(taps[t + tap_].x) * 32;
        PAVISE_UNROLL
        for (int k = 0; k < kOwn; ++k) {
          copy_async(stage + to_ + column(t + tap_) + (t * Points + k * kPass) * 32, from_[k] + offset);
        }
      }
    }
    if (weight_row_ >= job_.padded) {
      return;
    }
    const float* weight =
        job_.weight + static_cast<std::int64_t>(blockIdx.z) * job_.weight_taps * job_.padded + weight_row_;
    PAVISE_UNROLL
    for (int t = 0; t < S::kStep; t += kWeightTapsPerPass) {
      if (t + weight_tap_ < count) {
        const float* from = weight + static_cast<std::int64_t>(taps[t + weight_tap_].y) * job_.padded;
        float* const to = stage + weight_to_ + row_piece(t + weight_tap_) + t * Rows;
        if constexpr (kWidth == 4) {
          copy_async(to, from);
        } else {
          *to = *from;
        }
      }
    }
  }

  /// Zeros in place of the taps from `count` to the next multiple of eight.
  __device__ __forceinline__ void clear_behind(int count, float* stage) const {
    const int end = (count + 7) / 8 * 8;
    const float4 zero{};
    PAVISE_UNROLL
    for (int t = 0; t < S::kStep; t += kTapsPerPass) {
      if (t + tap_ >= count && t + tap_ < end) {
        PAVISE_UNROLL
        for (int k = 0; k < kOwn; ++k) {
          *reinterpret_cast<float4*>(stage + to_ + column(t + tap_) + (t * Points + k * kPass) * 32) = zero;
        }
      }
    }
    PAVISE_UNROLL
    for (int t = 0; t < S::kStep; t += kWeightTapsPerPass) {
      if (t + weight_tap_ >= count && t + weight_tap_ < end) {
        *reinterpret_cast<float4*>(stage + weight_to_ + row_piece(t + weight_tap_) + t * Rows) = zero;
      }
    }
  }

 private:
  static constexpr int kPieces = Rows >= 4 ? Rows / 4 : Rows;  ///< of a tile's weights: 16 bytes each, or single ones
  static constexpr int kWidth = Rows / kPieces;
  static constexpr int kWeightTapsPerPass = kWarps * 32 / (kPieces * Slots);

  /// Where this lane's 16 bytes of a row of inputs go.
  __device__ __forceinline__ static int column(int tap) {
    return Rotated ? (lane_id() % 8 + 2 * (tap & 3)) % 8 * 4 : 0;
  }
  /// Where this thread's piece of a tap's weights goes.
  __device__ __forceinline__ int row_piece(int tap) const { return Rotated ? rotated_row<Rows>(piece_ * 4, tap) : 0; }

  const Job& job_;
  const float* from_[kOwn];
  int to_, tap_;
  int weight_to_, weight_tap_, weight_row_, piece_;
};

/// A kernel's register tile, compiled for 1, 2 and 4 tiles of rows in a block.
struct TileShape {
  int rows, points;
  void (*kernel[3])(Job);
  std::size_t shared[3];
};
template <int Rows, int Points>
constexpr TileShape shape_of(void (*one)(Job), void (*two)(Job), void (*four)(Job)) {
  return {Rows,
          Points,
          {one, two, four},
          {Shape<Rows, Points, 1>::kShared, Shape<Rows, Points, 2>::kShared, Shape<Rows, Points, 4>::kShared}};
}

/// Tiles of rows in a block.
inline int slots_for(const Operator& op, const TileShape& shape) {
  const std::int64_t row_tiles = (op.rows + shape.rows - 1) / shape.rows;
  return row_tiles >= 3 ? 4 : row_tiles == 2 ? 2 : 1;
}

/// The tile of `shapes` with the least time by an estimate, in instructions of one scheduler: what a warp issues for a
/// tile (`issue_of`), and how evenly the warps fill the machine, which holds four a scheduler. It decides speed alone.
template <class Shapes, class IssueOf>
const TileShape& best_tile(const Operator& op, const Shapes& shapes, std::int64_t groups, const IssueOf& issue_of) {
  const auto cost = [&](const TileShape& shape) {
    const auto slots = static_cast<double>(slots_for(op, shape));
    const double row_tiles = std::ceil(std::ceil(static_cast<double>(op.rows) / shape.rows) / slots) * slots;
    const double chunks = std::ceil(static_cast<double>(groups) / shape.points);
    const double warps = std::max(1.0, tiles_of(op, shape.points).count * chunks * row_tiles);
    const double schedulers = 4.0 * op.multiprocessors;
    // Few warps wait for memory; many run in rounds of as many as there is room for.
    const double each = std::ceil(warps / schedulers);
    return issue_of(op, shape) * (each < 4 ? each * (2.0 - 0.25 * each) : 4 * std::ceil(warps / (4 * schedulers)));
  };
  const TileShape* best = nullptr;
  double least = 0;
  for (const TileShape& shape : shapes) {
    const double c = cost(shape);
    if (best == nullptr || c < least) {
      best = &shape;
      least = c;
    }
  }
  return *best;
}

/// The tile of that size; ValueError where it is not compiled.
template <class Shapes>
const TileShape& tile_of(const Shapes& shapes, int rows, int points) {
  const auto found = std::find_if(shapes.begin(), shapes.end(),
                                  [&](const TileShape& s) { return s.rows == rows && s.points == points; });
  require(found != shapes.end(), "cuda: no register tile of ", rows, "x", points);
  return *found;
}

/// Tile number i as rows * 100 + points; 0 behind the last.
template <class Shapes>
int tile_number(const Shapes& shapes, int i) {
  const auto n = static_cast<std::size_t>(i);
  return n < shapes.size() ? shapes[n].rows * 100 + shapes[n].points : 0;
}

inline void apply_tile(Stream stream, const char* name, const Operator& op, const TileShape& shape, const float* in,
                       float* out, const Epilogue<float>& e, std::int64_t groups) {
  const TileList& list = tiles_of(op, shape.points);
  if (op.rows == 0 || groups == 0 || list.count == 0) {
    return;
  }
  const int slots = slots_for(op, shape);
  const std::int64_t items = kWarps / slots * shape.points;
  const std::int64_t row_tiles = (op.rows + shape.rows - 1) / shape.rows;
  const dim3 blocks(static_cast<unsigned>((groups + items - 1) / items * list.count),
                    static_cast<unsigned>((row_tiles + slots - 1) / slots), static_cast<unsigned>(op.channel_groups));
  const auto variant = static_cast<std::size_t>(slots / 2);
  launch(stream, name, shape.kernel[variant], blocks, kWarps * 32, shape.shared[variant],
         job_of(op, list, in, out, e, groups));
}

}  // namespace gather

}  // namespace pavise::kernels::cuda
