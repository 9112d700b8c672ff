// SPDX-License-Identifier: MIT
// The CPU kernels: each .inl file beside this one holds an operation, written once over packs of lanes, and is compiled
// here for each instruction set. `run` calls a kernel for the one in use:
//
//   kernels::run([&](auto isa) { softmax_forward(isa, x, y, classes, lanes); });
//
// A kernel's first argument is its instruction set's tag, through which the compiler finds the right version. Kernels
// are templates, so a program compiles only those that it uses. They know pointers and extents; shapes are checked
// above.
//
// Two rules keep the bits the same everywhere: a product that meets a sum is written as fma(), so that there is nothing
// left for the compiler to contract; and a sum over lanes or positions has an order that does not depend on the
// register width.
#pragma once

// Every standard header comes before the first target pragma: a template of the standard library that is instantiated
// under it would leak its instructions into other translation units.
#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>
#include <utility>
#include <vector>

#include "pavise_kernels/cpu/axis_taps.hpp"
#include "pavise_kernels/cpu/channel_view.hpp"
#include "pavise_kernels/cpu/gather_plan.hpp"
#include "pavise_kernels/cpu/grid_noise.hpp"
#include "pavise_kernels/cpu/isa.hpp"
#include "pavise_kernels/cpu/jpeg_plan.hpp"
#include "pavise_kernels/cpu/lane_gather.hpp"
#include "pavise_kernels/cpu/lane_keys.hpp"
#include "pavise_kernels/cpu/nlm_plan.hpp"
#include "pavise_kernels/cpu/packed_weights.hpp"
#include "pavise_kernels/cpu/row_bounds.hpp"
#include "pavise_kernels/cpu/row_norm.hpp"
#include "pavise_kernels/cpu/running_sums.hpp"
#include "pavise_kernels/cpu/strided.hpp"
#include "pavise_kernels/cpu/window.hpp"
#include "pavise_kernels/cpu/winograd_plan.hpp"

namespace pavise::kernels {

/// Lanes of a group: sixteen images, one in each.
inline constexpr int kLanes = 16;

}  // namespace pavise::kernels

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi"  // vectors are passed between inlined functions only
#endif

// In front of the functions of the .inl files, which the CUDA kernels share: they call them from a GPU's threads.
#define PAVISE_INLINE [[gnu::always_inline]] inline
#define PAVISE_LANES inline

#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC push_options
#pragma GCC optimize("Os")  // only processors from before 2013 run these: they should not cost every compilation
#endif
namespace pavise::kernels::portable {
#include "pavise_kernels/cpu/registers_portable.inl"
//
#include "pavise_kernels/cpu/all.inl"
}  // namespace pavise::kernels::portable
#if defined(__x86_64__) && !defined(__clang__)
#pragma GCC pop_options
#endif

#if defined(__x86_64__)

#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace pavise::kernels::avx2 {
#include "pavise_kernels/cpu/registers_avx2.inl"
//
#include "pavise_kernels/cpu/all.inl"
}  // namespace pavise::kernels::avx2
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

#ifndef PAVISE_NO_AVX512
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")
#endif
namespace pavise::kernels::avx512 {
#include "pavise_kernels/cpu/registers_avx512.inl"
//
#include "pavise_kernels/cpu/all.inl"
}  // namespace pavise::kernels::avx512
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif  // PAVISE_NO_AVX512

#endif

#undef PAVISE_INLINE
#undef PAVISE_LANES

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif

namespace pavise::kernels {

/// Calls `body(tag)` with the tag of the instruction set in use: for kernels that live by arithmetic.
template <class Body>
decltype(auto) run(const Body& body) {
#if defined(__x86_64__)
  switch (isa()) {
#ifndef PAVISE_NO_AVX512
    case Isa::avx512:
      return body(avx512::Tag{});
#endif
    case Isa::avx2:
      return body(avx2::Tag{});
    default:
      break;
  }
#endif
  return body(portable::Tag{});
}

/// The same for kernels that live by memory: AVX2 serves them as well as AVX-512 does, and a program compiles one less.
template <class Body>
decltype(auto) run_light(const Body& body) {
#if defined(__x86_64__)
  if (isa() != Isa::portable) {
    return body(avx2::Tag{});
  }
#endif
  return body(portable::Tag{});
}

}  // namespace pavise::kernels
