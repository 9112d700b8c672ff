// SPDX-License-Identifier: MIT
// libFuzzer harnesses for every reader of the library, in one program:
//
//   pavise_fuzz --list                       the targets
//   pavise_fuzz TARGET --seeds FOLDER        writes the files to begin with
//   pavise_fuzz TARGET [OPTION...] FOLDER... fuzzes, with libFuzzer's options
//
// Besides what the sanitizers find, a target fails where its reader throws anything but pavise::Error, or holds more
// memory at a time than the target's multiple of the file.
#include <sanitizer/allocator_interface.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <utility>

#include "fuzz/target.hpp"
#include "pavise/core/error.hpp"

namespace {

using namespace pavise_fuzz;

std::int64_t live = 0;
std::int64_t peak = 0;

void allocated(const volatile void*, std::size_t n) {
  live += static_cast<std::int64_t>(n);
  peak = std::max(peak, live);
}
void freed(const volatile void* p) {
  if (p != nullptr) {
    live -= static_cast<std::int64_t>(__sanitizer_get_allocated_size(p));
  }
}

std::vector<std::function<std::vector<Target>()>>& makers() {
  static std::vector<std::function<std::vector<Target>()>> all;
  return all;
}

const Target* target = nullptr;

void write_seeds(const std::filesystem::path& folder) {
  std::filesystem::create_directories(folder);
  int number = 0;
  for (const auto& seed : target->seeds()) {
    target->read(seed);  // throws where it is not well-formed
    std::ofstream file(folder / ("seed-" + std::to_string(number++)), std::ios::binary);
    file.write(reinterpret_cast<const char*>(seed.data()), static_cast<std::streamsize>(seed.size()));
  }
}

}  // namespace

pavise_fuzz::Targets::Targets(std::function<std::vector<Target>()> make) { makers().push_back(std::move(make)); }

std::vector<Target> pavise_fuzz::Targets::all() {
  std::vector<Target> out;
  for (const auto& make : makers()) {
    auto part = make();
    std::move(part.begin(), part.end(), std::back_inserter(out));
  }
  return out;
}

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  static const auto targets = Targets::all();
  const std::string name = *argc > 1 ? (*argv)[1] : "";
  if (name == "--list") {
    for (const auto& t : targets) {
      std::puts(t.name.c_str());
    }
    std::exit(0);
  }
  const auto found = std::find_if(targets.begin(), targets.end(), [&](const Target& t) { return t.name == name; });
  if (found == targets.end()) {
    std::fprintf(stderr, "pavise_fuzz: no target '%s'; --list lists them\n", name.c_str());
    std::exit(2);
  }
  target = &*found;
  if (*argc == 4 && std::strcmp((*argv)[2], "--seeds") == 0) {
    write_seeds((*argv)[3]);
    std::exit(0);
  }
  // libFuzzer sees what follows the target's name; it starts itself again by argv[0] for -jobs and -merge.
  std::rotate(*argv + 1, *argv + 2, *argv + *argc);
  --*argc;
  (*argv)[*argc] = nullptr;
  __sanitizer_install_malloc_and_free_hooks(allocated, freed);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const Bytes file(data, data + size);
  const auto before = live;
  peak = live;
  try {
    target->read(file);
  } catch (const pavise::Error&) {  // refused, as it may be; whatever else comes out ends the program
  }
  const auto took = static_cast<std::uint64_t>(peak - before);
  if (took > target->multiple * size + target->constant) {
    std::fprintf(stderr, "pavise_fuzz: %s took %llu bytes for a file of %zu\n", target->name.c_str(),
                 static_cast<unsigned long long>(took), size);
    std::abort();
  }
  return 0;
}
