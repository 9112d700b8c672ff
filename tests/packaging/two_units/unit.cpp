// SPDX-License-Identifier: MIT
// Compiled twice, under the names `first` and `second`. everything.hpp is generated: it includes every public header.
#include "everything.hpp"

#include <cstdint>
#include <string>

#define PAVISE_JOIN_(a, b) a##b
#define PAVISE_JOIN(a, b) PAVISE_JOIN_(a, b)

std::string UNIT() {
  pavise::Tensor<float> tensor(pavise::Shape{3, 5}, 0.5F);
  pavise::parallel_for(tensor.size(), [&](std::int64_t i) { tensor[i] *= static_cast<float>(i); });
  std::string out = pavise::concat("tensor ", tensor.shape(), ", last ", tensor[14], "; permutation");
  for (const auto i : pavise::random_permutation(8, {.seed = 1, .purpose = pavise::Purpose::test})) {
    out += ' ' + std::to_string(i);
  }
  return out;
}

const void* PAVISE_JOIN(UNIT, _address)() { return reinterpret_cast<const void*>(&pavise::random_permutation); }
