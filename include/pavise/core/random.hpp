// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <cstring>
#include <span>

#include "pavise/core/error.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/philox.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise {

/// Fills `values` with independent standard normals, a function of `key` alone (Philox4x32-10 and Box-Muller; the tails
/// reach to 5.7). In parallel; the numbers depend neither on the threads nor on the instruction set. At most 2^34
/// values.
template <class T>
void random_normal(std::span<T> values, const RandomKey& key) {
  const auto n = static_cast<std::int64_t>(values.size());
  require(n <= (std::int64_t{1} << 34), "random_normal: ", n, " values, at most 2^34");
  const auto counter = philox_counter(key, 0);
  const std::uint32_t c[4] = {counter[0], counter[1], counter[2], counter[3]};
  constexpr std::int64_t kGrain = 1 << 16;
  parallel_chunks(n, kGrain, [&](std::int64_t begin, std::int64_t end) {
    kernels::run([&](auto isa) {
      const std::int64_t whole = (end - begin) / 64 * 64;
      fill_normal<T>(isa, values.data() + begin, whole, key.seed, c, static_cast<std::uint32_t>(begin / 4));
      if (begin + whole < end) {  // the last, ragged chunk of 64
        alignas(64) T rest[64];
        fill_normal<T>(isa, rest, 64, key.seed, c, static_cast<std::uint32_t>((begin + whole) / 4));
        std::memcpy(values.data() + begin + whole, rest, static_cast<std::size_t>(end - begin - whole) * sizeof(T));
      }
    });
  });
}

}  // namespace pavise
