// SPDX-License-Identifier: MIT
// The Square attack in Linf on the device: verdicts and draws by a thread for each attempt, windows by all. Oracle:
// attack::Square, bit for bit.
#include "pavise/core/philox.hpp"
#include "pavise_kernels/cpu/square_draws.hpp"
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

__global__ void __launch_bounds__(kFewThreads)
    square_begin_kernel(SquareLanes a, const std::int32_t* lanes, std::int64_t count) {
  if (const std::int64_t i = thread_index(); i < count) {
    const std::int32_t lane = lanes[i];
    a.active[lane] = 1;
    a.passes[lane] = a.accepted[lane] = 0;
    a.loss[lane] = std::numeric_limits<float>::infinity();
  }
}

struct SquareJudge {
  SquareLanes a;
  std::int64_t queries;
  const float* logits;
  std::int64_t classes;
  const std::int32_t* predictions;
  const std::int32_t* labels;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const std::int64_t at = g * 32 + lane_id();
    a.accepted[at] = 0;
    if (a.active[at] == 0) {
      return;
    }
    a.passes[at] += 1;
    const std::int32_t label = labels[at];
    const float* z = logits + g * classes * 32 + lane_id();
    bool finite = true;
    float other = -std::numeric_limits<float>::infinity();
    for (std::int64_t k = 0; k < classes; ++k) {
      const float v = z[k * 32];
      finite = finite && v - v == 0.0f;
      other = k != label && v > other ? v : other;
    }
    const float margin = finite ? z[std::int64_t{label} * 32] - other : std::numeric_limits<float>::infinity();
    const bool success = finite && predictions[at] != label;
    if (success || margin < a.loss[at]) {
      a.loss[at] = margin;
      a.accepted[at] = 1;
    }
    if (success || a.passes[at] >= queries) {
      a.active[at] = 0;
    }
  }
};

/// A pixel that has moved by epsilon in one direction.
__device__ __forceinline__ float moved(const SquareRule& rule, float clean, bool positive) {
  const auto v = static_cast<float>(static_cast<double>(clean) + (positive ? rule.epsilon : -rule.epsilon));
  const float least = v < rule.low ? rule.low : v;
  return rule.high < least ? rule.high : least;
}

struct SquareDraw {
  SquareLanes a;
  SquareRule rule;
  const float* x;
  const float* best;
  const float* clean;
  __device__ void operator()(std::int64_t g, std::int64_t) const {
    const std::int64_t at = g * 32 + lane_id();
    a.side[at] = 0;
    if (a.active[at] == 0) {
      return;
    }
    const std::int32_t number = a.passes[at] - 1;
    RandomSequence random(
        {rule.seed, Purpose::attack_step, a.image[at], a.restart[at], static_cast<std::uint32_t>(number)});
    const SquareWindow window = draw_square_window(random, rule.height, rule.width, rule.sides[number]);
    const std::int64_t first = g * rule.channels * rule.height * rule.width * 32 + lane_id();
    const float* before = (a.accepted[at] != 0 ? x : best) + first;
    std::uint32_t signs = 0;
    draw_square_signs(random, rule.channels, [&](std::int64_t c, bool positive) {
      signs = (signs & ~(1u << c)) | (positive ? 1u << c : 0u);
      for (std::int64_t r = window.row; r < window.row + window.side; ++r) {
        for (std::int64_t k = window.column; k < window.column + window.side; ++k) {
          const std::int64_t i = ((c * rule.height + r) * rule.width + k) * 32;
          if (moved(rule, clean[first + i], positive) != before[i]) {
            return true;
          }
        }
      }
      return false;
    });
    a.row[at] = static_cast<std::int32_t>(window.row);
    a.column[at] = static_cast<std::int32_t>(window.column);
    a.side[at] = static_cast<std::int32_t>(window.side);
    a.signs[at] = signs;
  }
};

/// The best image so far for element e, and the next one to try.
struct SquareMove {
  SquareLanes a;
  SquareRule rule;
  float* x;
  float* best;
  const float* clean;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t at = g * 32 + lane_id();
    const std::int64_t i = (g * rule.channels * rule.height * rule.width + e) * 32 + lane_id();
    const float kept = a.accepted[at] != 0 ? x[i] : best[i];
    best[i] = kept;
    const auto element = static_cast<std::uint32_t>(e);  // divisions of 64 bits take long
    const auto width = static_cast<std::uint32_t>(rule.width);
    const std::uint32_t plane = static_cast<std::uint32_t>(rule.height) * width;
    const std::uint32_t pixel = element % plane;
    const SquareWindow window{a.row[at], a.column[at], a.side[at]};
    x[i] = window.contains(pixel / width, pixel % width)
               ? moved(rule, clean[i], (a.signs[at] >> element / plane & 1u) != 0)
               : kept;
  }
};

}  // namespace

void fill_square(Table& t) {
  t.square_begin = [](Stream stream, const SquareLanes& a, const std::int32_t* lanes, std::int64_t count) {
    launch(stream, "square_begin", square_begin_kernel, blocks_for(count, kFewThreads), kFewThreads, 0, a, lanes,
           count);
  };
  t.square_judge = [](Stream stream, const SquareLanes& a, const SquareRule& rule, const float* logits,
                      std::int64_t classes, const std::int32_t* predictions, const std::int32_t* labels,
                      std::int64_t groups) {
    each_warp(stream, "square_judge", groups, 1, SquareJudge{a, rule.queries, logits, classes, predictions, labels},
              kFewThreads);
  };
  t.square_step = [](Stream stream, const SquareLanes& a, const SquareRule& rule, float* x, float* best,
                     const float* clean, std::int64_t groups) {
    require(rule.channels <= 32, "cuda: square_step: ", rule.channels, " channels, expected at most 32");
    each_warp(stream, "square_draw", groups, 1, SquareDraw{a, rule, x, best, clean}, kFewThreads);
    each_warp(stream, "square_move", groups, rule.channels * rule.height * rule.width,
              SquareMove{a, rule, x, best, clean});
  };
}

}  // namespace pavise::kernels::cuda
