// SPDX-License-Identifier: MIT
// Images from one number of lanes to another: what comes from the host in row-major order or in the CPU's groups of
// sixteen goes into groups of 32, and back; a thread moves an element, neighbours write side by side. And boxes of
// values within their groups; a warp moves an element of 32 images. Oracles: the loops of tests/cuda/device_checks.hpp;
// kernels::strided_copy, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

__global__ void __launch_bounds__(kThreads)
    change_lanes_kernel(const std::uint32_t* from, std::int64_t from_lanes, std::uint32_t* to, std::int64_t to_lanes,
                        std::int64_t n, std::int64_t images, std::int64_t total) {
  for (std::int64_t i = thread_index(); i < total; i += thread_total()) {
    const std::int64_t slot = i / (n * to_lanes) * to_lanes + i % to_lanes;
    const std::int64_t e = i / to_lanes % n;
    const std::int64_t image = slot < images ? slot : images - 1;
    to[i] = from[(image / from_lanes * n + e) * from_lanes + image % from_lanes];
  }
}

/// A thread moves an element of row i to or from its lane.
template <bool ToLanes>
__global__ void __launch_bounds__(kThreads)
    rows_kernel(const float* from, const std::int32_t* lanes, std::int64_t count, float* to, std::int64_t n) {
  for (std::int64_t k = thread_index(); k < count * n; k += thread_total()) {
    const std::int64_t lane = lanes[k / n];
    const std::int64_t in_lanes = (lane / 32 * n + k % n) * 32 + lane % 32;
    if (ToLanes) {
      to[in_lanes] = from[k];
    } else {
      to[k] = from[in_lanes];
    }
  }
}

/// One step of the loops. No element of y belongs to two of them.
struct StridedCopy {
  StridedLoop loop;
  const float* x;
  std::int64_t x_step;
  float* y;
  std::int64_t y_step;
  bool add;
  __device__ void operator()(std::int64_t g, std::int64_t i) const {
    using P = Pack<float, 32>;
    std::int64_t at[StridedLoop::kArrays];
    loop.locate(i, at);
    const P v = P::load(x + (g * x_step + at[1]) * 32);
    float* const to = y + (g * y_step + at[0]) * 32;
    (add ? P::load(to) + v : v).store(to);
  }
};

}  // namespace

void fill_layout(Table& t) {
  t.change_lanes = [](Stream stream, const void* from, int from_lanes, void* to, int to_lanes, std::int64_t n,
                      std::int64_t images) {
    const std::int64_t total = (images + to_lanes - 1) / to_lanes * to_lanes * n;
    launch(stream, "change_lanes", change_lanes_kernel, blocks_for(total), kThreads, 0,
           static_cast<const std::uint32_t*>(from), std::int64_t{from_lanes}, static_cast<std::uint32_t*>(to),
           std::int64_t{to_lanes}, n, images, total);
  };
  t.rows_to_lanes = [](Stream stream, const float* rows, const std::int32_t* lanes, std::int64_t count, float* to,
                       std::int64_t n) {
    launch(stream, "rows_to_lanes", rows_kernel<true>, blocks_for(count * n), kThreads, 0, rows, lanes, count, to, n);
  };
  t.lanes_to_rows = [](Stream stream, const float* from, const std::int32_t* lanes, std::int64_t count, float* rows,
                       std::int64_t n) {
    launch(stream, "lanes_to_rows", rows_kernel<false>, blocks_for(count * n), kThreads, 0, from, lanes, count, rows,
           n);
  };
  t.strided_copy = [](Stream stream, const StridedLoop& loop, const float* x, std::int64_t x_step, float* y,
                      std::int64_t y_step, bool add, std::int64_t groups) {
    each_warp(stream, "strided_copy", groups, loop.count(), StridedCopy{loop, x, x_step, y, y_step, add});
  };
}

}  // namespace pavise::kernels::cuda
