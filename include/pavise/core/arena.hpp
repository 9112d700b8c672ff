// SPDX-License-Identifier: MIT
#pragma once

#include <cstddef>
#include <cstdint>
#include <new>
#include <type_traits>
#include <utility>
#include <vector>

#include "pavise/core/tensor.hpp"

namespace pavise {

/// A bump allocator: memory is handed out in order and given back all at once, by rewinding to a mark. After the first
/// pass through a network the blocks are there and nothing is allocated any more; what a thread touches stays in its
/// cache. Two cache lines behind every allocation may be read (kernels load whole packs). Not thread-safe: each
/// thread has its own.
class Arena {
 public:
  struct Mark {
    std::size_t block = 0;
    std::size_t used = 0;
  };

  /// `n` uninitialised elements of a trivial type, aligned to a cache line.
  template <class T>
  T* allocate(std::size_t n) {
    static_assert(std::is_trivially_destructible_v<T>);
    return static_cast<T*>(bytes(n * sizeof(T)));
  }

  /// A copy of `value` that lives until the arena is rewound.
  template <class T>
  T* store(T value) {
    static_assert(std::is_trivially_destructible_v<T>, "what the arena stores is never destroyed");
    return ::new (bytes(sizeof(T))) T(std::move(value));
  }

  Mark mark() const { return {block_, used_}; }
  void rewind(Mark mark) {
    block_ = mark.block;
    used_ = mark.used;
  }
  void reset() { rewind({}); }

  /// Bytes of all blocks that the arena holds.
  std::size_t capacity() const {
    std::size_t sum = 0;
    for (const auto& block : blocks_) {
      sum += block.size();
    }
    return sum;
  }

 private:
  static constexpr std::size_t kFirstBlock = std::size_t{1} << 20;

  void* bytes(std::size_t n) {
    n = (n + kAlignment - 1) / kAlignment * kAlignment;
    while (block_ < blocks_.size() && used_ + n > blocks_[block_].size()) {
      ++block_;
      used_ = 0;
    }
    if (block_ == blocks_.size()) {
      const std::size_t last = blocks_.empty() ? kFirstBlock / 2 : blocks_.back().size();
      blocks_.emplace_back(n > 2 * last ? n : 2 * last);
      used_ = 0;
    }
    void* p = blocks_[block_].data() + used_;
    used_ += n;
    return p;
  }

  struct Block {  // uninitialised: a vector would zero it
    explicit Block(std::size_t n)
        : bytes(static_cast<std::byte*>(::operator new(n + 2 * kAlignment, std::align_val_t(kAlignment)))), n(n) {}
    Block(Block&& other) noexcept : bytes(std::exchange(other.bytes, nullptr)), n(std::exchange(other.n, 0)) {}
    Block& operator=(Block&&) = delete;
    ~Block() { ::operator delete(bytes, std::align_val_t(kAlignment)); }
    std::byte* data() { return bytes; }
    std::size_t size() const { return n; }
    std::byte* bytes;
    std::size_t n;
  };

  std::vector<Block> blocks_;
  std::size_t block_ = 0;
  std::size_t used_ = 0;
};

}  // namespace pavise
