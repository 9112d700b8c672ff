// SPDX-License-Identifier: MIT
#include "pavise/core/version.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <fstream>
#include <string>

TEST_CASE("version: the header's is that of the CMake project") {
  CHECK(std::string(pavise::kVersion) == PAVISE_PROJECT_VERSION);
  CHECK(std::string(pavise::kVersion).find_first_not_of("0123456789.") == std::string::npos);
}

TEST_CASE("version: the citation has it, and the changelog's newest entry") {
  const auto line_of = [](const char* path, const std::string& start) {
    std::ifstream file(path);
    REQUIRE_MESSAGE(file, path << " is not in the working directory, the project's root");
    for (std::string line; std::getline(file, line);) {
      if (line.starts_with(start)) {
        return line;
      }
    }
    return std::string();
  };
  const std::string version(pavise::kVersion);
  CHECK(line_of("CITATION.cff", "version:") == "version: " + version);
  CHECK(line_of("CHANGELOG.md", "## [").starts_with("## [" + version + "] - "));
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
