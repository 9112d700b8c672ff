// SPDX-License-Identifier: MIT
#include "pavise/core/arena.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <cstring>
#include <utility>
#include <vector>

using pavise::Arena;

namespace {

bool aligned(const void* p) { return reinterpret_cast<std::uintptr_t>(p) % pavise::kAlignment == 0; }

}  // namespace

TEST_CASE("arena: allocations are aligned, apart, and keep what is written to them") {
  Arena arena;
  std::vector<std::pair<unsigned char*, std::size_t>> pieces;
  // Sizes around a cache line, and enough of them for several blocks.
  for (std::size_t i = 0; i < 400; ++i) {
    const std::size_t n = (i * 7919) % 20011;
    auto* p = arena.allocate<unsigned char>(n);
    REQUIRE(aligned(p));
    std::memset(p, static_cast<int>(i % 251), n);
    pieces.emplace_back(p, n);
  }
  std::size_t wrong = 0;
  for (std::size_t i = 0; i < pieces.size(); ++i) {
    for (std::size_t e = 0; e < pieces[i].second; ++e) {
      wrong += pieces[i].first[e] == i % 251 ? 0 : 1;
    }
  }
  CHECK(wrong == 0);
  CHECK(arena.capacity() >= 400 * 10000);
}

TEST_CASE("arena: two cache lines behind every allocation may be read, at the end of a block too") {
  Arena arena;
  const std::size_t block = std::size_t{1} << 20;
  for (const std::size_t n : {block, block - 64, 3 * block, std::size_t{1}}) {
    auto* p = arena.allocate<unsigned char>(n);
    volatile unsigned char last = 0;
    for (std::size_t i = n; i < n + 2 * pavise::kAlignment; ++i) {
      last = p[i];
    }
    (void)last;
    CHECK(aligned(p));
  }
}

TEST_CASE("arena: rewinding gives the same memory again, and a second pass takes no more") {
  Arena arena;
  double* first = arena.allocate<double>(10);
  const auto mark = arena.mark();
  std::vector<double*> pass;
  for (int i = 0; i < 50; ++i) {
    pass.push_back(arena.allocate<double>(50000));
  }
  const std::size_t capacity = arena.capacity();
  for (int repeat = 0; repeat < 3; ++repeat) {
    arena.rewind(mark);
    for (double* p : pass) {
      CHECK(arena.allocate<double>(50000) == p);
    }
    CHECK(arena.capacity() == capacity);
  }
  arena.reset();
  CHECK(arena.allocate<double>(10) == first);
}

TEST_CASE("arena: what was allocated before a mark survives the rewinding") {
  Arena arena;
  auto* kept = arena.allocate<int>(3);
  kept[2] = 42;
  const auto mark = arena.mark();
  std::memset(arena.allocate<char>(3000000), 1, 3000000);
  arena.rewind(mark);
  std::memset(arena.allocate<char>(3000000), 2, 3000000);
  CHECK(kept[2] == 42);
}

TEST_CASE("arena: an allocation larger than the blocks gets one of its own") {
  Arena arena;
  CHECK(arena.capacity() == 0);
  arena.allocate<char>(1);
  const std::size_t first = arena.capacity();
  CHECK(first == std::size_t{1} << 20);
  auto* large = arena.allocate<char>(std::size_t{10} << 20);
  large[(std::size_t{10} << 20) - 1] = 1;
  CHECK(arena.capacity() == first + (std::size_t{10} << 20));
}

TEST_CASE("arena: an allocation of nothing is a place, and takes none") {
  Arena arena;
  auto* nothing = arena.allocate<float>(0);
  CHECK(nothing != nullptr);
  CHECK(static_cast<void*>(arena.allocate<float>(1)) == static_cast<void*>(nothing));
}

TEST_CASE("arena: stored objects are copies") {
  struct Pair {
    int a;
    double b;
  };
  Arena arena;
  Pair pair{1, 2.5};
  const Pair* stored = arena.store(pair);
  pair.a = 7;
  CHECK(stored->a == 1);
  CHECK(stored->b == 2.5);
  CHECK(aligned(stored));
}

TEST_CASE("arena: a moved arena owns the memory") {
  Arena arena;
  int* p = arena.store(5);
  const Arena other = std::move(arena);
  CHECK(*p == 5);
  CHECK(other.capacity() == std::size_t{1} << 20);
}
