// SPDX-License-Identifier: MIT
// Kernels over n numbers wherever they are: a thread takes four neighbours (16 bytes a load), which are Pack<T, 1> to the
// lane functions: elements of the thread's own.
#pragma once

#include "pavise_kernels/cuda/lanes.cuh"

namespace pavise::kernels::cuda {

/// Four numbers in registers, and how many of them there are.
struct Quad {
  float v[4];
};

__device__ __forceinline__ Quad load_quad(const float* p, std::int64_t i, int count) {
  Quad q{};
  if (count == 4 && reinterpret_cast<std::uintptr_t>(p) % 16 == 0) {
    const float4 v = *reinterpret_cast<const float4*>(p + i);
    q.v[0] = v.x;
    q.v[1] = v.y;
    q.v[2] = v.z;
    q.v[3] = v.w;
    return q;
  }
  PAVISE_UNROLL
  for (int k = 0; k < 4; ++k) {
    if (k < count) {
      q.v[k] = p[i + k];
    }
  }
  return q;
}

/// The same of an array that may be null: zeros then.
__device__ __forceinline__ Quad load_quad_if_any(const float* p, std::int64_t i, int count) {
  return p != nullptr ? load_quad(p, i, count) : Quad{};
}

__device__ __forceinline__ void store_quad(const Quad& q, float* p, std::int64_t i, int count) {
  if (count == 4 && reinterpret_cast<std::uintptr_t>(p) % 16 == 0) {
    *reinterpret_cast<float4*>(p + i) = float4{q.v[0], q.v[1], q.v[2], q.v[3]};
    return;
  }
  PAVISE_UNROLL
  for (int k = 0; k < 4; ++k) {
    if (k < count) {
      p[i + k] = q.v[k];
    }
  }
}

/// body(i, count) for every four of n numbers.
template <class Body>
__global__ void __launch_bounds__(kThreads) quads_kernel(std::int64_t n, Body body) {
  for (std::int64_t i = thread_index() * 4; i < n; i += thread_total() * 4) {
    body(i, static_cast<int>(n - i < 4 ? n - i : 4));
  }
}

template <class Body>
void each_quad(Stream stream, const char* name, std::int64_t n, const Body& body) {
  launch(stream, name, quads_kernel<Body>, blocks_for((n + 3) / 4), kThreads, 0, n, body);
}

/// body(group, index) by all lanes of a warp, for every index in [0, n) of every group.
template <class Body>
__global__ void __launch_bounds__(kThreads) warps_kernel(std::int64_t groups, std::int64_t n, Body body) {
  for (std::int64_t i = thread_index() / 32; i < groups * n; i += thread_total() / 32) {
    body(i / n, i % n);
  }
}

template <class Body>
void each_warp(Stream stream, const char* name, std::int64_t groups, std::int64_t n, const Body& body,
               unsigned threads = kThreads) {
  launch(stream, name, warps_kernel<Body>, blocks_for(groups * n * 32, threads), threads, 0, groups, n, body);
}

}  // namespace pavise::kernels::cuda
