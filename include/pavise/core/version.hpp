// SPDX-License-Identifier: MIT
#pragma once

#include <string>
#include <string_view>

#include "pavise/core/error.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise_kernels/cpu/isa.hpp"

namespace pavise {

inline constexpr std::string_view kVersion = "0.1.0";

/// What made a result: compiler, instruction set, threads.
struct Build {
  std::string compiler;
  std::string isa;
  int threads = 1;
  bool openmp = false;
};

inline Build build() {
  Build b;
#if defined(__clang__)
  b.compiler = concat("clang++ ", __clang_major__, ".", __clang_minor__);
#elif defined(__GNUC__)
  b.compiler = concat("g++ ", __GNUC__, ".", __GNUC_MINOR__);
#else
  b.compiler = "unknown";
#endif
  b.openmp = has_threads();
  b.isa = std::string(kernels::isa_name(kernels::isa()));
  b.threads = thread_count();
  return b;
}

}  // namespace pavise
