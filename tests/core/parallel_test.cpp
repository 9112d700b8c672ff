// SPDX-License-Identifier: MIT
#include "pavise/core/parallel.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/bits_checks.hpp"
#include "pavise/core/error.hpp"

using pavise_test::Threads;

TEST_CASE("parallel_for: every index once, for any number of threads") {
  for (const int threads : {1, 2, 3, 8}) {
    const Threads set(threads);
    for (const std::int64_t n : {0, 1, 2, 7, 1000}) {
      std::vector<std::atomic<int>> calls(static_cast<std::size_t>(n));
      pavise::parallel_for(n, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
      std::int64_t once = 0;
      for (const auto& c : calls) {
        once += c == 1 ? 1 : 0;
      }
      CHECK(once == n);
    }
  }
  pavise::parallel_for(-3, [](std::int64_t) { throw std::runtime_error("a loop of fewer than no iterations ran"); });
}

TEST_CASE("parallel_for: an exception reaches the caller, with its type and message, and the next loop runs") {
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    const Threads set(threads);
    CHECK_THROWS_WITH_AS(pavise::parallel_for(100,
                                              [](std::int64_t i) {
                                                if (i == 37) {
                                                  throw pavise::ShapeError("iteration 37");
                                                }
                                              }),
                         "iteration 37", pavise::ShapeError);
    std::atomic<int> ran{0};
    pavise::parallel_for(100, [&](std::int64_t) { ++ran; });
    CHECK(ran == 100);
  }
}

TEST_CASE("parallel_for: when all iterations throw the lowest of those that ran is reported, and few have run") {
  for (const int threads : {1, 2, 3}) {
    CAPTURE(threads);
    const Threads set(threads);
    std::vector<std::atomic<bool>> ran(100000);
    std::string message;
    try {
      pavise::parallel_for(100000, [&](std::int64_t i) {
        ran[static_cast<std::size_t>(i)] = true;
        throw pavise::ValueError(pavise::concat("iteration ", i));
      });
    } catch (const pavise::ValueError& e) {
      message = e.what();
    }
    const auto first = std::find(ran.begin(), ran.end(), true) - ran.begin();
    CHECK(message == pavise::concat("iteration ", first));
    CHECK(std::count(ran.begin(), ran.end(), true) <= threads);
  }
}

TEST_CASE("parallel_for: a throw that is no std::exception passes through") {
  const Threads set(2);
  CHECK_THROWS_AS(pavise::parallel_for(4, [](std::int64_t) { throw 7; }), int);
}

TEST_CASE("parallel_for: a loop inside a loop runs on its own thread, and its exceptions pass both") {
  const Threads set(3);
  std::vector<int> inner(40, 0);
  std::atomic<int> nested_threads{0};
  pavise::parallel_for(4, [&](std::int64_t i) {
    if (pavise::in_parallel() && pavise::thread_count() != 1) {
      ++nested_threads;
    }
    pavise::parallel_for(10, [&](std::int64_t j) { inner[static_cast<std::size_t>(i * 10 + j)] += 1; });
  });
  CHECK(nested_threads == 0);
  CHECK(inner == std::vector<int>(40, 1));
  CHECK_FALSE(pavise::in_parallel());
  CHECK_THROWS_WITH_AS(pavise::parallel_for(4,
                                            [](std::int64_t i) {
                                              pavise::parallel_for(4, [i](std::int64_t j) {
                                                pavise::require(i != 2 || j != 3, "inner 3 of outer 2");
                                              });
                                            }),
                       "inner 3 of outer 2", pavise::ValueError);
}

TEST_CASE("parallel_chunks: the chunks cover the range, once, in pieces of the grain") {
  for (const int threads : {1, 3}) {
    const Threads set(threads);
    for (const std::int64_t n : {0, 1, 5, 64, 65, 1000}) {
      for (const std::int64_t grain : {1, 3, 64, 2000}) {
        CAPTURE(n);
        CAPTURE(grain);
        std::vector<std::atomic<int>> covered(static_cast<std::size_t>(n));
        std::atomic<int> wrong{0};
        std::atomic<std::int64_t> chunks{0};
        pavise::parallel_chunks(n, grain, [&](std::int64_t begin, std::int64_t end) {
          ++chunks;
          const bool right = begin % grain == 0 && begin < end && (end - begin == grain || end == n);
          wrong += right ? 0 : 1;
          for (std::int64_t i = begin; i < end; ++i) {
            ++covered[static_cast<std::size_t>(i)];
          }
        });
        CHECK(wrong == 0);
        CHECK(chunks == (n + grain - 1) / grain);
        std::int64_t once = 0;
        for (const auto& c : covered) {
          once += c == 1 ? 1 : 0;
        }
        CHECK(once == n);
      }
    }
  }
}

TEST_CASE("set_thread_count: at least one") {
  const Threads set(0);
  CHECK(pavise::thread_count() == 1);
  pavise::set_thread_count(-5);
  CHECK(pavise::thread_count() == 1);
#ifdef _OPENMP
  pavise::set_thread_count(3);
  CHECK(pavise::thread_count() == 3);
#endif
}
