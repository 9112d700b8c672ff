// SPDX-License-Identifier: MIT
// What every CUDA file starts from: the execution model, launches, errors. nvcc compiles the kernels for GPUs; a plain
// C++ compiler compiles the same sources against host_model.cuh, which plays the model, so that their logic is tested on
// machines without a GPU.
#pragma once

#ifdef __CUDACC__
#include <cuda_runtime.h>
#define PAVISE_UNROLL _Pragma("unroll")
#define PAVISE_NO_UNROLL _Pragma("unroll 1")
#define PAVISE_UNROLL_4 _Pragma("unroll 4")
#else
#include "pavise_kernels/cuda/host_model.cuh"
#endif

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise_kernels/cuda/table.hpp"

namespace pavise::kernels::cuda {

#ifdef __CUDACC__
inline cudaStream_t native(Stream s) { return static_cast<cudaStream_t>(s); }

/// Throws DeviceError for anything but success; an error that does not break the device is cleared.
inline void check(cudaError_t status, const char* what) {
  if (status != cudaSuccess) {
    (void)cudaGetLastError();
    throw DeviceError(concat("cuda: ", what, ": ", cudaGetErrorString(status)));
  }
}

/// Queues kernel<<<blocks, threads, shared>>>(arguments...).
template <class... Parameters, class... Arguments>
void launch(Stream stream, const char* name, void (*kernel)(Parameters...), dim3 blocks, unsigned threads,
            std::size_t shared, const Arguments&... arguments) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) {
    return;
  }
  if (shared > std::size_t{48} << 10) {  // more than that has to be asked for: all there is, whatever other threads ask
    int device = 0;
    int most = 0;
    check(cudaGetDevice(&device), name);
    check(cudaDeviceGetAttribute(&most, cudaDevAttrMaxSharedMemoryPerBlockOptin, device), name);
    check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, most), name);
  }
  kernel<<<blocks, threads, shared, native(stream)>>>(static_cast<Parameters>(arguments)...);
  check(cudaGetLastError(), name);
}

/// Copies 16 bytes to shared memory in the background; both addresses are multiples of 16.
__device__ __forceinline__ void copy_async(void* to_shared, const void* from) {
  const auto to = static_cast<unsigned>(__cvta_generic_to_shared(to_shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;\n" ::"r"(to), "l"(from) : "memory");
}
/// Ends a batch of copies.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;\n" ::: "memory"); }
/// Waits until at most `Left` batches are under way.
template <int Left>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;\n" ::"n"(Left) : "memory");
}
/// The block's dynamic shared memory.
__device__ __forceinline__ float* dynamic_shared() {
  extern __shared__ float4 pavise_dynamic_shared[];
  return reinterpret_cast<float*>(pavise_dynamic_shared);
}
#endif

/// Lane and warp of the calling thread.
__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x % 32); }
__device__ __forceinline__ int warp_id() { return static_cast<int>(threadIdx.x / 32); }

/// Number of this thread, and of all threads, along x of the grid.
__device__ __forceinline__ std::int64_t thread_index() {
  return static_cast<std::int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}
__device__ __forceinline__ std::int64_t thread_total() { return static_cast<std::int64_t>(gridDim.x) * blockDim.x; }

/// Threads of a block, for kernels without a reason for another number.
inline constexpr unsigned kThreads = 256;
/// The same where there is one thread for an image: so few that they spread over the multiprocessors.
inline constexpr unsigned kFewThreads = 64;

/// Blocks that give every one of n elements a thread, or enough threads for a loop over them.
inline dim3 blocks_for(std::int64_t n, std::int64_t threads = kThreads) {
  return dim3(static_cast<unsigned>(std::min<std::int64_t>((n + threads - 1) / threads, 1 << 20)));
}

/// A copy of the values on the device, of the default stream; Table::synchronize(nullptr) before it is used elsewhere.
template <class T>
T* to_device(const std::vector<T>& values) {
  const Table& t = *table.load();
  auto* p = static_cast<T*>(t.allocate(values.size() * sizeof(T), nullptr));
  t.copy_to_device(p, values.data(), values.size() * sizeof(T), nullptr);
  return p;
}

// Each file of kernels fills its part of the table.
void fill_runtime(Table&);
void fill_gather_gemm(Table&);
void fill_gather_gemm_fast(Table&);
void fill_gather_gemm_bf16(Table&);
void fill_weight_gradient(Table&);
void fill_optimizer(Table&);
void fill_loss(Table&);
void fill_count(Table&);
void fill_apgd(Table&);
void fill_lane_math(Table&);
void fill_probe(Table&);
void fill_square(Table&);
void fill_attack_step(Table&);
void fill_random(Table&);
void fill_grid_noise(Table&);
void fill_layout(Table&);
void fill_elementwise(Table&);
void fill_reduce(Table&);
void fill_pool(Table&);
void fill_norm(Table&);
void fill_batch_norm(Table&);
void fill_row_norm(Table&);
void fill_winograd(Table&);
void fill_filter_elements(Table&);
void fill_windows(Table&);
void fill_jpeg(Table&);
void fill_nlm(Table&);
void fill_resample(Table&);
void fill_lane_gather(Table&);
void fill_total_variation(Table&);
void fill_measure(Table&);

}  // namespace pavise::kernels::cuda
