// SPDX-License-Identifier: MIT
// Images from one number of lanes to another: what comes from the host in row-major order or in the CPU's groups of
// sixteen goes into groups of 32, and back. A thread moves an element; neighbours write side by side. Oracle: the loops
// of tests/cuda/lane_checks.hpp.
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

}  // namespace

void fill_layout(Table& t) {
  t.change_lanes = [](Stream stream, const void* from, int from_lanes, void* to, int to_lanes, std::int64_t n,
                      std::int64_t images) {
    const std::int64_t total = (images + to_lanes - 1) / to_lanes * to_lanes * n;
    launch(stream, "change_lanes", change_lanes_kernel, blocks_for(total), kThreads, 0,
           static_cast<const std::uint32_t*>(from), std::int64_t{from_lanes}, static_cast<std::uint32_t*>(to),
           std::int64_t{to_lanes}, n, images, total);
  };
}

}  // namespace pavise::kernels::cuda
