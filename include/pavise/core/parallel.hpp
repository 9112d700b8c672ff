// SPDX-License-Identifier: MIT
// Parallel loops. With OpenMP they use its threads; without it they run serially and everything still works. No result
// in the library depends on how many threads there are: a loop's iterations write to places of their own, and whatever
// is summed across them is summed in index order.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace pavise {

/// Number of threads that a parallel loop started here would use: 1 inside another parallel loop.
inline int thread_count() {
#ifdef _OPENMP
  return omp_in_parallel() ? 1 : omp_get_max_threads();
#else
  return 1;
#endif
}

/// Whether the caller runs inside a parallel loop.
inline bool in_parallel() {
#ifdef _OPENMP
  return omp_in_parallel() != 0;
#else
  return false;
#endif
}

/// Sets the number of threads of later loops (at least 1). Without OpenMP it does nothing.
inline void set_thread_count([[maybe_unused]] int n) {
#ifdef _OPENMP
  omp_set_num_threads(n < 1 ? 1 : n);
#endif
}

/// Calls body(i) for i in [0, n), on as many threads as there are, in no particular order. An exception of one call
/// stops the handing out of further ones and is rethrown to the caller (the one with the lowest index of those that
/// were thrown).
template <class Body>
void parallel_for(std::int64_t n, const Body& body) {
#ifdef _OPENMP
  if (n > 1 && thread_count() > 1) {
    std::atomic<bool> failed{false};
    std::int64_t failed_at = n;
    std::exception_ptr error;
#pragma omp parallel for schedule(dynamic, 1) default(none) shared(n, body, failed, failed_at, error)
    for (std::int64_t i = 0; i < n; ++i) {
      if (failed.load(std::memory_order_relaxed)) {
        continue;
      }
      try {
        body(i);
      } catch (...) {
#pragma omp critical(pavise_parallel_for)
        if (i < failed_at) {
          failed_at = i;
          error = std::current_exception();
        }
        failed.store(true, std::memory_order_relaxed);
      }
    }
    if (error) {
      std::rethrow_exception(error);
    }
    return;
  }
#endif
  for (std::int64_t i = 0; i < n; ++i) {
    body(i);
  }
}

/// Splits [0, n) into chunks of `grain` and calls body(begin, end) for each, in parallel.
template <class Body>
void parallel_chunks(std::int64_t n, std::int64_t grain, const Body& body) {
  const std::int64_t chunks = (n + grain - 1) / grain;
  parallel_for(chunks, [&](std::int64_t i) { body(i * grain, i * grain + grain < n ? i * grain + grain : n); });
}

}  // namespace pavise
