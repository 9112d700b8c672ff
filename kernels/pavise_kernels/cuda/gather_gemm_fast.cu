// SPDX-License-Identifier: MIT
// The matrix micro-kernel of gather_gemm.cu on tensor cores, for the fast mode: inputs and weights are rounded to TF32 (ten
// bits behind the point), products are added in float in the order of the hardware. 32 images lie side by side, so a tap
// of a point is four columns blocks of eight for mma.m16n8k8, whatever the shape of the convolution: a warp has
// Rows x (Points x 32) sums, and takes eight taps of all of them at a time from shared memory.
//
// Oracle: the same sums in double, within the rounding of TF32; tests/cuda/gather_gemm_checks.hpp.
#include <array>
#include <cmath>

#include "pavise_kernels/cuda/gather_gemm.cuh"
#include "pavise_kernels/cuda/tensor_core.cuh"

namespace pavise::kernels::cuda {

namespace {

using namespace gather;  // NOLINT(google-build-using-namespace)

template <int Rows, int Points, int Slots>
__global__ void __launch_bounds__(kWarps * 32, 4) gather_gemm_fast_kernel(Job job) {
  using S = Shape<Rows, Points, Slots>;
  static_assert(Rows % 16 == 0 && S::kStep % 8 == 0);
  constexpr int kRowBlocks = Rows / 16;
  const int4 tile = job.tiles[blockIdx.x % job.tile_count];
  const int places = tile.w & 0xFF;
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
  const int g = lane_id() / 4;
  const int t = lane_id() % 4;

  float* const shared = dynamic_shared();
  const Stager<Rows, Points, Slots, true> stager(job, block_row, [&](int q) {
    const std::int64_t group = std::min(group0 + (q >> shift), job.groups - 1);
    return (group * job.in_size + channels * job.in_group + job.points[tile.z + (q & (places - 1))].x) * 32;
  });
  float sum[kRowBlocks][Points * 4][4];
  PAVISE_UNROLL
  for (int m = 0; m < kRowBlocks; ++m) {
    PAVISE_UNROLL
    for (int half = 0; half < 2; ++half) {
      const int row = row0 + m * 16 + half * 8 + g;
      const float start = job.bias != nullptr && row < job.rows ? job.bias[channels * job.rows + row] : 0.0f;
      PAVISE_UNROLL
      for (int n = 0; n < Points * 4; ++n) {
        sum[m][n][half * 2] = sum[m][n][half * 2 + 1] = start;
      }
    }
  }

  const int2* taps = job.taps + tile.x;
  const auto fill = [&](int first, int stage) {
    if (first < tile.y) {
      const int count = std::min(tile.y - first, 0 + S::kStep);
      stager.fill(taps + first, count, shared + stage * S::kStage);
      if (count % 8 != 0) {
        stager.clear_behind(count, shared + stage * S::kStage);
      }
    }
    commit_copies();
  };
  PAVISE_UNROLL
  for (int stage = 0; stage < kStages - 1; ++stage) {
    fill(stage * S::kStep, stage);
  }
  const float* x = shared + item * S::kStep * Points * 32;
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
      PAVISE_UNROLL
      for (int k = 0; k < S::kStep; k += 8) {
        if (first + k < tile.y) {
          float a[kRowBlocks][4];
          PAVISE_UNROLL
          for (int m = 0; m < kRowBlocks; ++m) {
            PAVISE_UNROLL
            for (int i = 0; i < 4; ++i) {
              const int tap = k + t + i / 2 * 4;
              a[m][i] = to_tf32(ws[tap * Rows + rotated_row<Rows>(m * 16 + i % 2 * 8, tap) + g]);
            }
          }
          PAVISE_UNROLL
          for (int n = 0; n < Points * 4; ++n) {
            const int column = (n % 4 + t) % 4 * 8 + g;  // as the copies rotate them
            const float b[2] = {to_tf32(xs[((k + t) * Points + n / 4) * 32 + column]),
                                to_tf32(xs[((k + t + 4) * Points + n / 4) * 32 + column])};
            PAVISE_UNROLL
            for (int m = 0; m < kRowBlocks; ++m) {
              multiply(sum[m][n], a[m], b);
            }
          }
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
    const std::int64_t point =
        group * job.out_size + channels * job.out_group + job.points[tile.z + (q & (places - 1))].y;
    PAVISE_UNROLL
    for (int part_of = 0; part_of < kRowBlocks * 2; ++part_of) {
      const int row = row0 + part_of * 8 + g;
      if (row >= job.rows) {
        continue;
      }
      PAVISE_UNROLL
      for (int n = 0; n < 4; ++n) {
        const std::int64_t at = (point + row * job.out_row) * 32 + n * 8 + t * 2;
        PAVISE_UNROLL
        for (int i = 0; i < 2; ++i) {
          store_sum(job, at + i, sum[part_of / 2][q * 4 + n][part_of % 2 * 2 + i]);
        }
      }
    }
  }
}

template <int Rows, int Points>
constexpr TileShape fast_shape() {
  return shape_of<Rows, Points>(gather_gemm_fast_kernel<Rows, Points, 1>, gather_gemm_fast_kernel<Rows, Points, 2>,
                                gather_gemm_fast_kernel<Rows, Points, 4>);
}
constexpr std::array kFastShapes = {fast_shape<32, 2>(), fast_shape<16, 4>(), fast_shape<16, 2>(), fast_shape<16, 1>()};

/// What a warp issues for a tile, eight taps at a time.
double fast_issue_of(const Operator& op, const TileShape& shape) {
  const TileList& list = tiles_of(op, shape.points);
  const double taps = std::ceil(list.taps / std::max(1, list.count) / 8);
  const double products = shape.rows / 16.0 * shape.points * 4;
  return taps * (2 * products + 8.0 * shape.points * 4 + shape.rows + 16.0 * shape.points / slots_for(op, shape) + 24);
}

}  // namespace

void fill_gather_gemm_fast(Table& t) {
  t.apply_operator_fast = [](Stream stream, const Operator* op, const float* in, float* out, const Epilogue<float>& e,
                             std::int64_t groups) {
    if (!apply_few_rows(stream, op, in, out, e, groups)) {  // those live by memory
      apply_tile(stream, "apply_operator_fast", *op, best_tile(*op, kFastShapes, groups, fast_issue_of), in, out, e,
                 groups);
    }
  };
  t.apply_operator_fast_tiled = [](Stream stream, const Operator* op, const float* in, float* out,
                                   const Epilogue<float>& e, std::int64_t groups, int rows, int points) {
    apply_tile(stream, "apply_operator_fast", *op, tile_of(kFastShapes, rows, points), in, out, e, groups);
  };
  t.fast_operator_tiles = [](int i) { return tile_number(kFastShapes, i); };
}

}  // namespace pavise::kernels::cuda
