// SPDX-License-Identifier: MIT
#include "pavise/core/thread_loops.hpp"

#include <doctest/doctest.h>

#include <set>
#include <string>

#include "pavise/core/error.hpp"

namespace {

/// The loops of a scope use so many threads of the standard library.
class StandardThreads {
 public:
  explicit StandardThreads(int n) {
    pavise::use_standard_threads();
    threads_ = pavise::thread_count();
    pavise::set_thread_count(n);
  }
  StandardThreads(const StandardThreads&) = delete;
  StandardThreads& operator=(const StandardThreads&) = delete;
  ~StandardThreads() {
    pavise::set_thread_count(threads_);
    pavise::detail::loop_runner.store(before_);
  }

 private:
  const pavise::detail::LoopRunner* before_ = pavise::detail::loop_runner.load();
  int threads_ = 1;
};

}  // namespace

TEST_CASE("thread loops: every index once, on as many threads as asked for") {
  for (const int threads : {1, 2, 5, 3}) {
    CAPTURE(threads);
    const StandardThreads set(threads);
    CHECK(pavise::has_threads());
    CHECK(pavise::thread_count() == threads);
    for (const std::int64_t n : {0, 1, 2, 7, 1000}) {
      std::vector<int> calls(static_cast<std::size_t>(n), 0);
      pavise::parallel_for(n, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
      CHECK(calls == std::vector<int>(static_cast<std::size_t>(n), 1));
    }
    // A loop whose iterations wait for each other ends only where each has a thread.
    std::mutex mutex;
    std::condition_variable all;
    std::set<std::thread::id> met;
    pavise::parallel_for(threads, [&](std::int64_t) {
      std::unique_lock lock(mutex);
      met.insert(std::this_thread::get_id());
      all.notify_all();
      all.wait(lock, [&] { return met.size() == static_cast<std::size_t>(threads); });
    });
    CHECK(met.size() == static_cast<std::size_t>(threads));
  }
}

TEST_CASE("thread loops: exceptions reach the caller, the lowest of those thrown, and the next loop runs") {
  const StandardThreads set(3);
  for (int round = 0; round < 200; ++round) {
    std::vector<std::atomic<bool>> ran(1000);
    std::string message;
    try {
      pavise::parallel_for(1000, [&](std::int64_t i) {
        ran[static_cast<std::size_t>(i)] = true;
        throw pavise::ValueError(pavise::concat("iteration ", i));
      });
    } catch (const pavise::ValueError& e) {
      message = e.what();
    }
    CHECK(message == pavise::concat("iteration ", std::find(ran.begin(), ran.end(), true) - ran.begin()));
    CHECK(std::count(ran.begin(), ran.end(), true) <= 3);
    std::atomic<int> after{0};
    pavise::parallel_for(20, [&](std::int64_t) { ++after; });
    CHECK(after == 20);
  }
}

TEST_CASE("thread loops: a loop inside a loop stays on its thread; loops of several threads take turns") {
  const StandardThreads set(3);
  std::vector<int> inner(40, 0);
  std::atomic<int> wrong{0};
  pavise::parallel_for(4, [&](std::int64_t i) {
    wrong += pavise::in_parallel() && pavise::thread_count() == 1 ? 0 : 1;
    const auto self = std::this_thread::get_id();
    pavise::parallel_for(10, [&](std::int64_t j) {
      wrong += std::this_thread::get_id() == self ? 0 : 1;
      inner[static_cast<std::size_t>(i * 10 + j)] += 1;
    });
  });
  CHECK(wrong == 0);
  CHECK(inner == std::vector<int>(40, 1));
  CHECK_FALSE(pavise::in_parallel());

  std::vector<std::int64_t> sums(4, 0);
  std::vector<std::thread> callers;
  for (auto& sum : sums) {
    callers.emplace_back([&sum] {
      for (int round = 0; round < 50; ++round) {
        std::vector<std::int64_t> parts(64);
        pavise::parallel_for(64, [&](std::int64_t i) { parts[static_cast<std::size_t>(i)] = i; });
        for (const auto part : parts) {
          sum += part;
        }
      }
    });
  }
  for (auto& caller : callers) {
    caller.join();
  }
  CHECK(sums == std::vector<std::int64_t>(4, 50 * 2016));
}
