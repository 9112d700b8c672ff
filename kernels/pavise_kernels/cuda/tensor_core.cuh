// SPDX-License-Identifier: MIT
// Products of small matrices on tensor cores, in TF32: for the fast mode. On the host model a warp does the same by
// shuffles.
#pragma once

#include <bit>
#include <cmath>

#include "pavise_kernels/cuda/runtime.cuh"

namespace pavise::kernels::cuda {

#ifdef __CUDACC__
/// To the nearest number of TF32, ties away from zero.
__device__ __forceinline__ float to_tf32(float v) {
  unsigned r;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(r) : "f"(v));
  return __uint_as_float(r);
}
/// d += a b for a (16,8) and b (8,8) spread over the warp.
__device__ __forceinline__ void multiply(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(__float_as_uint(a[0])), "r"(__float_as_uint(a[1])), "r"(__float_as_uint(a[2])), "r"(__float_as_uint(a[3])),
        "r"(__float_as_uint(b[0])), "r"(__float_as_uint(b[1])));
}
#else
inline float to_tf32(float v) {
  const auto bits = std::bit_cast<std::uint32_t>(v);
  return std::isfinite(v) ? std::bit_cast<float>((bits + 0x1000u) & ~0x1FFFu) : v;
}
/// The instruction's layout: lane 4g+t holds rows g and g+8 of taps t and t+4 of a, and column g of b.
inline void multiply(float (&d)[4], const float (&a)[4], const float (&b)[2]) {
  const int g = lane_id() / 4;
  const int t = lane_id() % 4;
  for (int k = 0; k < 8; ++k) {
    const float upper = __shfl_sync(0xFFFFFFFFu, a[k / 4 * 2], g * 4 + k % 4);
    const float lower = __shfl_sync(0xFFFFFFFFu, a[k / 4 * 2 + 1], g * 4 + k % 4);
    const float left = __shfl_sync(0xFFFFFFFFu, b[k / 4], 2 * t * 4 + k % 4);
    const float right = __shfl_sync(0xFFFFFFFFu, b[k / 4], (2 * t + 1) * 4 + k % 4);
    d[0] += upper * left;
    d[1] += upper * right;
    d[2] += lower * left;
    d[3] += lower * right;
  }
}
#endif

}  // namespace pavise::kernels::cuda
