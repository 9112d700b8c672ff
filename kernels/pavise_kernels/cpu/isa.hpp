// SPDX-License-Identifier: MIT
// Which instruction set the kernels use. Every kernel is compiled for each of them in the same translation unit
// (cpu.hpp), in a namespace of its own, and one check at run time picks; the user's compiler flags play no part.
// -DPAVISE_NO_AVX512, the same in all units of a program, leaves AVX-512 out: a fifth less to compile, for machines
// without it.
#pragma once

#include <atomic>
#include <cstdlib>
#include <string_view>

namespace pavise::kernels {

/// Instruction sets with kernels of their own, weakest first. All of them give the same bits.
enum class Isa { portable, avx2, avx512 };

inline std::string_view isa_name(Isa isa) {
  switch (isa) {
    case Isa::avx512:
      return "avx512";
    case Isa::avx2:
      return "avx2";
    default:
      return "portable";
  }
}

/// The best instruction set that this processor has.
inline Isa best_isa() {
#if defined(__x86_64__)
  __builtin_cpu_init();
#ifndef PAVISE_NO_AVX512
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512bw")) {
    return Isa::avx512;
  }
#endif
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    return Isa::avx2;
  }
#endif
  return Isa::portable;
}

namespace detail {
inline Isa initial_isa() {
  Isa isa = best_isa();
  if (const char* wanted = std::getenv("PAVISE_ISA")) {
    for (const Isa candidate : {Isa::portable, Isa::avx2, Isa::avx512}) {
      if (isa_name(candidate) == wanted && candidate < isa) {
        isa = candidate;
      }
    }
  }
  return isa;
}
inline std::atomic<Isa>& isa_setting() {
  static std::atomic<Isa> setting{initial_isa()};
  return setting;
}
}  // namespace detail

/// The instruction set in use: the processor's best one, or a weaker one named by the environment variable PAVISE_ISA
/// (portable, avx2, avx512).
inline Isa isa() { return detail::isa_setting().load(std::memory_order_relaxed); }

/// Uses a weaker instruction set from now on (a stronger one than the processor has is not taken). For tests.
inline void set_isa(Isa wanted) {
  detail::isa_setting().store(wanted < best_isa() ? wanted : best_isa(), std::memory_order_relaxed);
}

}  // namespace pavise::kernels
