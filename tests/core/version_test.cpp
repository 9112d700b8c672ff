// SPDX-License-Identifier: MIT
#include "pavise/core/version.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <string>

TEST_CASE("version: the header's is that of the CMake project") {
  CHECK(std::string(pavise::kVersion) == PAVISE_PROJECT_VERSION);
  CHECK(std::string(pavise::kVersion).find_first_not_of("0123456789.") == std::string::npos);
}

TEST_CASE("build: compiler, instruction set and threads of this program") {
  const auto build = pavise::build();
  CHECK((build.compiler.starts_with("g++ ") || build.compiler.starts_with("clang++ ")));
  CHECK(build.threads == pavise::thread_count());
#ifdef _OPENMP
  CHECK(build.openmp);
#else
  CHECK_FALSE(build.openmp);
  CHECK(build.threads == 1);
#endif
  namespace kernels = pavise::kernels;
  const auto before = kernels::isa();
  for (const auto isa : {kernels::Isa::portable, kernels::Isa::avx2, kernels::Isa::avx512}) {
    kernels::set_isa(isa);
    CHECK(pavise::build().isa == kernels::isa_name(std::min(isa, kernels::best_isa())));
  }
  kernels::set_isa(before);
}
