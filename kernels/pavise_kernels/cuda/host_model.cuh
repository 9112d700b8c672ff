// SPDX-License-Identifier: MIT
// The CUDA execution model, played by a plain C++ compiler, so that the kernels' own sources run in ordinary tests on
// machines without a GPU. Blocks run one after another; a block's threads are fibres (contexts of their own on one
// thread of the host) that run until they meet a barrier or an operation of their warp. What it finds:
//   - a missing barrier: threads and blocks run in an order that the test chooses (forward, backward, shuffled), shared
//     memory holds NaN when a block starts, and copies in the background arrive only when they are waited for; a kernel
//     that lacks a barrier gives other results in one of the orders;
//   - a barrier that some threads of a block never reach, and operations of a warp that some of its lanes miss: an Error;
//   - accesses out of bounds: "device memory" ends at a page that must not be touched, and under the address sanitizer
//     every allocation is one of its own.
// It does not play what has no meaning here: caches, alignment beyond 16 bytes, registers, time.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <new>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise_kernels/cuda/table.hpp"

#ifndef __x86_64__
#include <ucontext.h>
#endif

#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline __attribute__((always_inline))
#define __restrict__ __restrict
#define __launch_bounds__(...)
#define PAVISE_UNROLL
#define PAVISE_NO_UNROLL
#define PAVISE_UNROLL_4

namespace pavise::kernels::cuda {

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};
struct alignas(8) int2 {
  int x, y;
};
struct alignas(16) int4 {
  int x, y, z, w;
};
struct alignas(8) uint2 {
  unsigned x, y;
};
struct alignas(16) uint4 {
  unsigned x, y, z, w;
};
struct alignas(8) float2 {
  float x, y;
};
struct alignas(16) float4 {
  float x, y, z, w;
};

inline thread_local dim3 threadIdx, blockIdx, blockDim, gridDim;

namespace host_model {

/// In which order the threads of a block, and blocks, get their turns.
enum class Order { forward, backward, shuffled };

inline Order order = Order::forward;

#ifdef __x86_64__
/// Saves the caller's registers on its stack and its stack's top in *from, and goes on with the stack `to`. By hand,
/// because swapcontext asks the system for the signal mask each time.
[[gnu::naked, gnu::noinline]] inline void switch_stacks(void** /*from*/, void* /*to*/) {
  asm("pushq %rbp\n pushq %rbx\n pushq %r12\n pushq %r13\n pushq %r14\n pushq %r15\n"
      "movq %rsp, (%rdi)\n movq %rsi, %rsp\n"
      "popq %r15\n popq %r14\n popq %r13\n popq %r12\n popq %rbx\n popq %rbp\n ret\n");
}
#endif

/// Where a fibre, or the host's own thread, goes on.
class Context {
 public:
  /// Makes the next switch here call entry() on a stack of its own; entry never returns.
  void prepare(std::byte* stack, std::size_t size, void (*entry)()) {
#ifdef __x86_64__
    auto* top = reinterpret_cast<void**>(stack + size - 64);
    top[0] = reinterpret_cast<void*>(entry);
    top_ = top - 6;  // for six registers
#else
    getcontext(&context_);
    context_.uc_stack.ss_sp = stack;
    context_.uc_stack.ss_size = size;
    context_.uc_link = nullptr;
    makecontext(&context_, entry, 0);
#endif
  }
  void switch_to(Context& other) {
#ifdef __x86_64__
    switch_stacks(&top_, other.top_);
#else
    swapcontext(&context_, &other.context_);
#endif
  }

 private:
#ifdef __x86_64__
  void* top_ = nullptr;
#else
  ucontext_t context_;
#endif
};

/// A block whose threads are fibres.
class Block {
 public:
  static constexpr std::size_t kStack = std::size_t{1} << 16;

  Block(unsigned threads, std::size_t shared, const std::function<void()>& body)
      : body_(body), fibres_(threads), shared_(new (std::align_val_t{16}) std::byte[shared]) {
    std::memset(static_cast<void*>(shared_.get()), 0xFF, shared);  // NaN
  }

  /// Runs all threads to their end. Throws Error where they part.
  void run() {
    current_ = this;
    turns_.resize(fibres_.size());
    std::iota(turns_.begin(), turns_.end(), 0u);
    for (unsigned i = 0; i < fibres_.size(); ++i) {
      fibres_[i].context.prepare(stack(i), kStack, &Block::enter);
    }
    std::minstd_rand random(1);
    while (count(State::done) < fibres_.size()) {
      if (order == Order::backward) {
        std::sort(turns_.begin(), turns_.end(), std::greater<>());
      } else if (order == Order::shuffled) {
        std::shuffle(turns_.begin(), turns_.end(), random);
      }
      for (const unsigned i : turns_) {
        if (fibres_[i].state == State::ready) {
          resume(i);
        }
      }
      release();
    }
    current_ = nullptr;
  }

  static Block& current() { return *current_; }
  std::byte* shared() { return shared_.get(); }

  void wait_for_block() { suspend(State::at_barrier); }

  /// Gives `value` to the warp and returns lane `from`'s, once every lane of it is here.
  template <class T>
  T exchange(T value, unsigned from) {
    static_assert(sizeof(T) <= 8);
    Fibre& me = fibres_[self_];
    const unsigned slot = me.exchanges++ % 2;
    std::memcpy(static_cast<void*>(&me.given[slot]), &value, sizeof value);
    suspend(State::at_warp);
    T out;
    std::memcpy(static_cast<void*>(&out), &fibres_[self_ / 32 * 32 + from % 32].given[slot], sizeof out);
    return out;
  }

  void copy_later(void* to, const void* from) { fibres_[self_].copies.push_back({to, from}); }
  void commit_copies() {
    Fibre& me = fibres_[self_];
    me.batches.push_back(std::move(me.copies));
    me.copies.clear();
  }
  void finish_copies(std::size_t left) {
    auto& batches = fibres_[self_].batches;
    while (batches.size() > left) {
      for (const auto& [to, from] : batches.front()) {
        std::memcpy(to, from, 16);
      }
      batches.erase(batches.begin());
    }
  }

 private:
  enum class State { ready, at_barrier, at_warp, done };
  using Copies = std::vector<std::pair<void*, const void*>>;
  struct Fibre {
    Context context;
    State state = State::ready;
    std::uint64_t given[2];
    unsigned exchanges = 0;
    Copies copies;
    std::vector<Copies> batches;
    void* fake_stack = nullptr;
  };
  struct Free {
    void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{16}); }
  };

  static std::byte* stack(unsigned i) {
    static thread_local std::vector<std::unique_ptr<std::byte[]>> stacks;
    while (stacks.size() <= i) {
      stacks.push_back(std::make_unique<std::byte[]>(kStack));
    }
    return stacks[i].get();
  }

  static void enter() {
    Block& block = *current_;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &block.host_stack_, &block.host_size_);
#endif
    block.body_();
    Fibre& me = block.fibres_[block.self_];
    me.state = State::done;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(nullptr, block.host_stack_, block.host_size_);
#endif
    me.context.switch_to(block.scheduler_);
  }

  void resume(unsigned i) {
    self_ = i;
    threadIdx = dim3(i, 0, 0);
#ifdef __SANITIZE_ADDRESS__
    void* fake = nullptr;
    __sanitizer_start_switch_fiber(&fake, stack(i), kStack);
#endif
    scheduler_.switch_to(fibres_[i].context);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(fake, nullptr, nullptr);
#endif
  }

  void suspend(State state) {
    Fibre& me = fibres_[self_];
    me.state = state;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&me.fake_stack, host_stack_, host_size_);
#endif
    me.context.switch_to(scheduler_);
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(me.fake_stack, &host_stack_, &host_size_);
#endif
  }

  std::size_t count(State state) const {
    return static_cast<std::size_t>(
        std::count_if(fibres_.begin(), fibres_.end(), [&](const Fibre& f) { return f.state == state; }));
  }

  /// Nobody can go on: lets through whoever waits for what has come about.
  void release() {
    if (count(State::done) == fibres_.size()) {
      return;
    }
    bool any = false;
    for (std::size_t first = 0; first < fibres_.size(); first += 32) {
      const std::size_t last = std::min(fibres_.size(), first + 32);
      std::size_t here = 0;
      for (std::size_t i = first; i < last; ++i) {
        here += fibres_[i].state == State::at_warp ? 1 : 0;
      }
      if (here == last - first) {
        for (std::size_t i = first; i < last; ++i) {
          fibres_[i].state = State::ready;
        }
        any = true;
      }
    }
    if (any) {
      return;
    }
    const std::size_t waiting = count(State::at_barrier);
    require<Error>(waiting == fibres_.size(), "cuda: block (", blockIdx.x, ",", blockIdx.y, ",", blockIdx.z,
                   "): ", waiting, " of ", fibres_.size(), " threads wait at a barrier, ", count(State::at_warp),
                   " for their warp, and ", count(State::done), " have left the kernel");
    for (Fibre& f : fibres_) {
      f.state = State::ready;
    }
  }

  inline static thread_local Block* current_ = nullptr;
  const std::function<void()>& body_;
  std::vector<Fibre> fibres_;
  std::vector<unsigned> turns_;
  std::unique_ptr<std::byte[], Free> shared_;
  Context scheduler_;
  unsigned self_ = 0;
  const void* host_stack_ = nullptr;
  std::size_t host_size_ = 0;
};

/// Work that a stream records between begin_graph and end_graph.
using Recording = std::vector<std::function<void()>>;
inline thread_local Recording* recording = nullptr;

/// Does the work, or records it.
inline void submit(std::function<void()> work) {
  recording != nullptr ? recording->push_back(std::move(work)) : work();
}

inline void run_grid(dim3 blocks, unsigned threads, std::size_t shared, const std::function<void()>& body) {
  const std::uint64_t total = std::uint64_t{blocks.x} * blocks.y * blocks.z;
  std::vector<std::uint64_t> turns(total);
  std::iota(turns.begin(), turns.end(), std::uint64_t{0});
  if (order == Order::backward) {
    std::reverse(turns.begin(), turns.end());
  } else if (order == Order::shuffled) {
    std::shuffle(turns.begin(), turns.end(), std::minstd_rand(2));
  }
  gridDim = blocks;
  blockDim = dim3(threads);
  for (const std::uint64_t i : turns) {
    blockIdx = dim3(static_cast<unsigned>(i % blocks.x), static_cast<unsigned>(i / blocks.x % blocks.y),
                    static_cast<unsigned>(i / blocks.x / blocks.y));
    Block(threads, shared, body).run();
  }
}

/// Memory whose end is the end of a page, with a page behind it that must not be touched.
class DeviceMemory {
 public:
  static void* allocate(std::size_t bytes) {
    if (bytes == 0) {
      return nullptr;
    }
#ifdef __SANITIZE_ADDRESS__
    void* p = ::operator new (bytes, std::align_val_t{16});
#else
    const auto page = static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
    const std::size_t body = (bytes + page - 1) / page * page;
    void* base = mmap(nullptr, body + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    require<DeviceError>(base != MAP_FAILED, "cuda: out of memory: ", bytes, " bytes");
    mprotect(static_cast<std::byte*>(base) + body, page, PROT_NONE);
    void* p = static_cast<std::byte*>(base) + body - (bytes + 15) / 16 * 16;
    const std::lock_guard lock(mutex_);
    sizes()[p] = {base, body + page};
#endif
    std::memset(p, 0xFF, bytes);  // NaN
    return p;
  }

  static void release(void* p) {
    if (p == nullptr) {
      return;
    }
#ifdef __SANITIZE_ADDRESS__
    ::operator delete (p, std::align_val_t{16});
#else
    const std::lock_guard lock(mutex_);
    const auto [base, size] = sizes().at(p);
    munmap(base, size);
    sizes().erase(p);
#endif
  }

 private:
  static std::map<void*, std::pair<void*, std::size_t>>& sizes() {
    static std::map<void*, std::pair<void*, std::size_t>> all;
    return all;
  }
  inline static std::mutex mutex_;
};

}  // namespace host_model

/// Queues kernel<<<blocks, threads, shared>>>(arguments...).
template <class... Parameters, class... Arguments>
void launch(Stream, const char*, void (*kernel)(Parameters...), dim3 blocks, unsigned threads, std::size_t shared,
            const Arguments&... arguments) {
  if (blocks.x == 0 || blocks.y == 0 || blocks.z == 0) {
    return;
  }
  host_model::submit(
      [=] { host_model::run_grid(blocks, threads, shared, [=] { kernel(static_cast<Parameters>(arguments)...); }); });
}

inline void __syncthreads() { host_model::Block::current().wait_for_block(); }
inline void __syncwarp(unsigned = 0xFFFFFFFFu) { (void)host_model::Block::current().exchange(0, 0); }
template <class T>
T __shfl_xor_sync(unsigned, T value, int mask) {
  return host_model::Block::current().exchange(value, (threadIdx.x % 32) ^ static_cast<unsigned>(mask));
}
template <class T>
T __shfl_sync(unsigned, T value, int lane) {
  return host_model::Block::current().exchange(value, static_cast<unsigned>(lane));
}
inline unsigned __ballot_sync(unsigned, bool predicate) {
  unsigned all = 0;
  for (unsigned lane = 0; lane < 32; ++lane) {
    all |= static_cast<unsigned>(host_model::Block::current().exchange(predicate ? 1 : 0, lane)) << lane;
  }
  return all;
}
inline int __popc(unsigned v) { return __builtin_popcount(v); }
template <class T>
T atomicAdd(T* at, T value) {
  const T before = *at;
  *at = before + value;
  return before;
}
template <class T>
T __ldg(const T* p) {
  return *p;
}
inline void copy_async(void* to_shared, const void* from) { host_model::Block::current().copy_later(to_shared, from); }
inline void commit_copies() { host_model::Block::current().commit_copies(); }
template <int Left>
void wait_for_copies() {
  host_model::Block::current().finish_copies(Left);
}
inline float* dynamic_shared() { return reinterpret_cast<float*>(host_model::Block::current().shared()); }

}  // namespace pavise::kernels::cuda
