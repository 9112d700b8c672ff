// SPDX-License-Identifier: MIT
// What tests share that compare bits, of one number of threads with another's.
#pragma once

#include <cstring>

#include "pavise/core/parallel.hpp"

namespace pavise_test {

/// Whether two spans, or vectors, of numbers are the same bits.
template <class A, class B>
bool same_bits(const A& a, const B& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof *a.data()) == 0;
}

/// The number of threads, put back at the end of a block.
struct Threads {
  explicit Threads(int n) { pavise::set_thread_count(n); }
  Threads(const Threads&) = delete;
  Threads& operator=(const Threads&) = delete;
  ~Threads() { pavise::set_thread_count(before); }
  int before = pavise::thread_count();
};

}  // namespace pavise_test
