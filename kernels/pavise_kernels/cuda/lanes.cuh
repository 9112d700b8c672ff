// SPDX-License-Identifier: MIT
// The lane functions of the CPU kernels, compiled for a GPU's threads. A warp is an instruction set like the others: its
// register holds 32 lanes, one in each thread, and Pack<T, 32> is one such register. A thread sees its own lane alone,
// and every function of packs works on that, so an image's bits are those of the CPU by construction: the same source,
// rounded the same way (nvcc contracts nothing here: -fmad=false), in the same order.
//
// A call x_lanes<float, 32>(...) is made by all lanes of a warp, each for its image, with pointers to the group.
#pragma once

#include "pavise_kernels/cpu/channel_view.hpp"
#include "pavise_kernels/cpu/running_sums.hpp"
#include "pavise_kernels/cuda/runtime.cuh"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

namespace pavise::kernels::cuda {

struct Tag {};

template <class T, int L>
struct Pack;

template <class T>
using IntegerOf = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

template <class T>
struct VectorOf {
  using type = T;
};

/// One register of a warp: this thread's lane of it.
template <class T>
struct Pack<T, 32> {
  static constexpr int kCount = 1;
  T v;
  __device__ __forceinline__ static Pack load(const T* p) { return {p[lane_id()]}; }
  __device__ __forceinline__ static Pack broadcast(T value) { return {value}; }
  __device__ __forceinline__ void store(T* p) const { p[lane_id()] = v; }
  template <class U>
  __device__ __forceinline__ static Pack load_from(const U* p) {
    return {static_cast<T>(p[lane_id()])};
  }
  template <class U>
  __device__ __forceinline__ void store_to(U* p) const {
    p[lane_id()] = static_cast<U>(v);
  }
};

/// One element of the thread's own.
template <class T>
struct Pack<T, 1> {
  static constexpr int kCount = 1;
  T v;
  __device__ __forceinline__ static Pack load(const T* p) { return {*p}; }
  __device__ __forceinline__ static Pack broadcast(T value) { return {value}; }
  __device__ __forceinline__ void store(T* p) const { *p = v; }
};

template <int L>
inline constexpr bool kOneElement = true;

__device__ __forceinline__ float element_fma(float a, float b, float c) { return fmaf(a, b, c); }
__device__ __forceinline__ float element_sqrt(float a) { return sqrtf(a); }
template <int L>
__device__ __forceinline__ int first_lane() {
  return lane_id();
}
template <int L>
__device__ __forceinline__ int end_lane() {
  return lane_id() + 1;
}
template <class I, int L>
__device__ __forceinline__ bool all_set(Pack<I, L> mask) {
  return mask.v != 0;
}
template <class I, int L>
__device__ __forceinline__ bool any_lane(Pack<I, L> mask) {
  return mask.v != 0;
}

// Named by code for several registers, which is not compiled here.
template <class R, class F, class P, class... Rest>
R map_registers(const F&, const P&, const Rest&...);
template <class T, class V>
V register_fma(V, V, V);
template <class T, class V>
V register_sqrt(V);
template <class U>
void register_multiply_wide(U, std::uint32_t, U&, U&);
template <class F, class P>
P lane_by_lane(const F&, P);

#define PAVISE_INLINE __device__ __forceinline__
#define PAVISE_LANES __device__ inline

#include "pavise_kernels/cpu/pack_functions.inl"
//
#include "pavise_kernels/cpu/math.inl"
#include "pavise_kernels/cpu/random.inl"
//
#include "pavise_kernels/cpu/attack_step.inl"
//
#include "pavise_kernels/cpu/apgd.inl"
#include "pavise_kernels/cpu/bilateral.inl"
#include "pavise_kernels/cpu/broadcast.inl"
#include "pavise_kernels/cpu/dropout.inl"
#include "pavise_kernels/cpu/elementwise.inl"
#include "pavise_kernels/cpu/hyperplane.inl"
#include "pavise_kernels/cpu/jpeg.inl"
#include "pavise_kernels/cpu/lane_state.inl"
#include "pavise_kernels/cpu/loss.inl"
#include "pavise_kernels/cpu/median.inl"
#include "pavise_kernels/cpu/minimum_norm.inl"
#include "pavise_kernels/cpu/nlm.inl"
#include "pavise_kernels/cpu/norm.inl"
#include "pavise_kernels/cpu/optimizer.inl"
#include "pavise_kernels/cpu/pool.inl"
#include "pavise_kernels/cpu/probe.inl"
#include "pavise_kernels/cpu/quantise.inl"
#include "pavise_kernels/cpu/reduce.inl"
#include "pavise_kernels/cpu/resample.inl"
#include "pavise_kernels/cpu/residual.inl"
#include "pavise_kernels/cpu/soft_jpeg.inl"
#include "pavise_kernels/cpu/softmax.inl"
#include "pavise_kernels/cpu/thermometer.inl"
#include "pavise_kernels/cpu/total_variation.inl"
#include "pavise_kernels/cpu/winograd_transform.inl"

#undef PAVISE_INLINE
#undef PAVISE_LANES

}  // namespace pavise::kernels::cuda
