// SPDX-License-Identifier: MIT
// Parallel loops on threads of the standard library, for programs whose compiler has no OpenMP, and for the thread
// sanitizer, which does not see how GNU's OpenMP waits. Not in the umbrella: a program that wants them calls
// `use_standard_threads` where it begins.
#pragma once

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <thread>
#include <vector>

#include "pavise/core/parallel.hpp"

namespace pavise {

namespace detail {

/// Threads that wait for loops. They are started by the first loop that needs them and end with the program.
class ThreadPool {
 public:
  static ThreadPool& instance() {
    static ThreadPool pool;
    return pool;
  }
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;
  ~ThreadPool() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    begin_.notify_all();
    for (auto& thread : threads_) {
      thread.join();
    }
  }

  int wanted() const { return wanted_.load(std::memory_order_relaxed); }
  void want(int n) { wanted_.store(n, std::memory_order_relaxed); }
  /// Whether the caller runs the body of a loop.
  static bool& inside() {
    thread_local bool in = false;
    return in;
  }

  /// Calls call(body, i) for i in [0, n). Loops that are started at the same time by several threads take turns.
  void run(std::int64_t n, void (*call)(const void*, std::int64_t), const void* body) {
    const std::lock_guard turn(turn_);
    Loop loop{.n = n, .call = call, .body = body};
    const auto helpers = static_cast<std::size_t>(std::min<std::int64_t>(wanted() - 1, n - 1));
    {
      const std::lock_guard lock(mutex_);
      while (threads_.size() < helpers) {
        threads_.emplace_back([this, seen = loops_] { serve(seen); });
      }
      loop_ = &loop;
      open_ = helpers;
      ++loops_;
    }
    begin_.notify_all();
    work(loop);
    std::unique_lock lock(mutex_);
    open_ = 0;  // who has not begun yet need not
    end_.wait(lock, [&] { return working_ == 0; });
    loop_ = nullptr;
    if (loop.error) {
      std::rethrow_exception(loop.error);
    }
  }

 private:
  struct Loop {
    std::int64_t n;
    void (*call)(const void*, std::int64_t);
    const void* body;
    std::atomic<std::int64_t> next{0};
    std::mutex mutex{};
    std::int64_t failed_at = 0;
    std::exception_ptr error{};
  };

  ThreadPool() = default;

  static void work(Loop& loop) {
    inside() = true;
    for (std::int64_t i = 0; (i = loop.next.fetch_add(1, std::memory_order_relaxed)) < loop.n;) {
      try {
        loop.call(loop.body, i);
      } catch (...) {
        const std::lock_guard lock(loop.mutex);
        if (!loop.error || i < loop.failed_at) {
          loop.failed_at = i;
          loop.error = std::current_exception();
        }
        loop.next.store(loop.n, std::memory_order_relaxed);  // no more are handed out
      }
    }
    inside() = false;
  }

  void serve(std::uint64_t seen) {
    std::unique_lock lock(mutex_);
    for (;;) {
      begin_.wait(lock, [&] { return ending_ || loops_ != seen; });
      if (ending_) {
        return;
      }
      seen = loops_;
      if (open_ == 0) {
        continue;
      }
      --open_;
      ++working_;
      Loop& loop = *loop_;
      lock.unlock();
      work(loop);
      lock.lock();
      if (--working_ == 0) {
        end_.notify_one();
      }
    }
  }

  std::atomic<int> wanted_{std::max(1, static_cast<int>(std::thread::hardware_concurrency()))};
  std::mutex turn_;   // held by the loop that runs
  std::mutex mutex_;  // of all below
  std::condition_variable begin_, end_;
  std::vector<std::thread> threads_;
  Loop* loop_ = nullptr;
  std::uint64_t loops_ = 0;  // begun so far
  std::size_t open_ = 0;     // threads that the loop still takes
  std::size_t working_ = 0;  // and those that it has, besides its own
  bool ending_ = false;
};

inline constexpr LoopRunner kThreadLoops{
    .run = [](std::int64_t n, void (*call)(const void*, std::int64_t),
              const void* body) { ThreadPool::instance().run(n, call, body); },
    .threads = [] { return ThreadPool::inside() ? 1 : ThreadPool::instance().wanted(); },
    .inside = [] { return ThreadPool::inside(); },
    .set_threads = [](int n) { ThreadPool::instance().want(n); },
};

}  // namespace detail

/// From here on all loops of the program use threads of the standard library, as many as the processor has unless
/// `set_thread_count` says otherwise, in place of OpenMP's. Results are the same bits. Call it where the program begins.
inline void use_standard_threads() { detail::loop_runner.store(&detail::kThreadLoops, std::memory_order_relaxed); }

}  // namespace pavise
