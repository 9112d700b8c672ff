// SPDX-License-Identifier: MIT
// Compiled twice, under the names `first` and `second`. everything.hpp is generated: it includes every public header.
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "everything.hpp"

#define PAVISE_JOIN_(a, b) a##b
#define PAVISE_JOIN(a, b) PAVISE_JOIN_(a, b)

namespace kernels = pavise::kernels;

/// Normal random numbers for sixteen lanes, from the kernels of one instruction set, as a hash of their bits (FNV-1a).
inline std::uint64_t random_bits(kernels::Isa isa) {
  std::uint32_t image[kernels::kLanes];
  std::uint32_t restart[kernels::kLanes] = {};
  for (int lane = 0; lane < kernels::kLanes; ++lane) {
    image[lane] = static_cast<std::uint32_t>(7 * lane);
  }
  const kernels::LaneKeys keys{.seed = 3, .purpose = 11, .iteration = 1, .image = image, .restart = restart};
  pavise::AlignedVector<float> out(40 * kernels::kLanes);
  kernels::set_isa(isa);
  kernels::run([&](auto tag) { random_normal(tag, out.data(), 40, kernels::kLanes, keys); });
  std::uint64_t hash = 14695981039346656037u;
  for (const float value : out) {
    std::uint32_t bits;
    std::memcpy(&bits, &value, sizeof bits);
    hash = (hash ^ bits) * 1099511628211u;
  }
  return hash;
}

std::string UNIT() {
  pavise::Tensor<float> tensor(pavise::Shape{3, 5}, 0.5F);
  pavise::parallel_for(tensor.size(), [&](std::int64_t i) { tensor[i] *= static_cast<float>(i); });
  std::string out = pavise::concat("tensor ", tensor.shape(), ", last ", tensor[14], "; permutation");
  for (const auto i : pavise::random_permutation(8, {.seed = 1, .purpose = pavise::Purpose::test})) {
    out += ' ' + std::to_string(i);
  }
  out += pavise::concat("; threads ", pavise::thread_count());
  const std::uint64_t bits = random_bits(kernels::Isa::portable);
  out += "; normal " + std::to_string(bits);
  for (const auto isa : {kernels::Isa::avx2, kernels::Isa::avx512}) {
    if (random_bits(isa) != bits) {
      out += pavise::concat(" but not with ", kernels::isa_name(isa), " in " PAVISE_UNIT_NAME);
    }
  }
  return out;
}

const void* PAVISE_JOIN(UNIT, _address)() { return reinterpret_cast<const void*>(&pavise::random_permutation); }
