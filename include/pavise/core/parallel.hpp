// SPDX-License-Identifier: MIT
// Parallel loops. With OpenMP they use its threads; without it they run serially, or on threads of the standard library
// where the program asks for them (thread_loops.hpp), and everything still works. No result in the library depends on
// how many threads there are: a loop's iterations write to places of their own, and whatever is summed across them is
// summed in index order.
//
// Whether OpenMP is on differs from one translation unit to the next, and an inline function must not: a unit compiled
// with OpenMP says so when the program starts, and from then on the loops of all units use its threads.
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>

#ifdef _OPENMP
#include <omp.h>
#endif

namespace pavise {

namespace detail {

/// Who runs the loops of a program.
struct LoopRunner {
  /// Calls call(body, i) for i in [0, n).
  void (*run)(std::int64_t n, void (*call)(const void*, std::int64_t), const void* body);
  int (*threads)();  ///< of a loop started here
  bool (*inside)();  ///< a loop
  void (*set_threads)(int n);
};

/// Null where no unit was compiled with OpenMP and nobody chose other threads (thread_loops.hpp).
inline constinit std::atomic<const LoopRunner*> loop_runner{nullptr};

}  // namespace detail

/// Whether loops can use threads: some unit of the program was compiled with OpenMP, or chose others.
inline bool has_threads() { return detail::loop_runner.load(std::memory_order_relaxed) != nullptr; }

/// Number of threads that a parallel loop started here would use: 1 inside another parallel loop.
inline int thread_count() {
  const auto* runner = detail::loop_runner.load(std::memory_order_relaxed);
  return runner != nullptr ? runner->threads() : 1;
}

/// Whether the caller runs inside a parallel loop.
inline bool in_parallel() {
  const auto* runner = detail::loop_runner.load(std::memory_order_relaxed);
  return runner != nullptr && runner->inside();
}

/// Sets the number of threads of later loops (at least 1). Without OpenMP it does nothing.
inline void set_thread_count(int n) {
  if (const auto* runner = detail::loop_runner.load(std::memory_order_relaxed)) {
    runner->set_threads(n < 1 ? 1 : n);
  }
}

/// Calls body(i) for i in [0, n), on as many threads as there are, in no particular order. An exception of one call
/// stops the handing out of further ones and is rethrown to the caller (the one with the lowest index of those that
/// were thrown).
template <class Body>
void parallel_for(std::int64_t n, const Body& body) {
  if (n > 1 && thread_count() > 1) {
    const auto call = [](const void* b, std::int64_t i) { (*static_cast<const Body*>(b))(i); };
    detail::loop_runner.load(std::memory_order_relaxed)->run(n, call, std::addressof(body));
    return;
  }
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

#ifdef _OPENMP
namespace {  // this unit's own: no inline function names any of it

void run_on_openmp(std::int64_t n, void (*call)(const void*, std::int64_t), const void* body) {
  std::atomic<bool> failed{false};
  std::int64_t failed_at = n;
  std::exception_ptr error;
#pragma omp parallel for schedule(dynamic, 1) default(none) shared(n, call, body, failed, failed_at, error)
  for (std::int64_t i = 0; i < n; ++i) {
    if (failed.load(std::memory_order_relaxed)) {
      continue;
    }
    try {
      call(body, i);
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
}

constexpr detail::LoopRunner kOpenmpLoops{
    .run = run_on_openmp,
    .threads = [] { return omp_in_parallel() ? 1 : omp_get_max_threads(); },
    .inside = [] { return omp_in_parallel() != 0; },
    .set_threads = omp_set_num_threads,
};

[[maybe_unused]] const bool kOpenmpLoopsAreOn = [] {
  const detail::LoopRunner* none = nullptr;
  return detail::loop_runner.compare_exchange_strong(none, &kOpenmpLoops);
}();

}  // namespace
#endif

}  // namespace pavise
