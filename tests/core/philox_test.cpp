// SPDX-License-Identifier: MIT
#include "pavise/core/philox.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <set>
#include <vector>

using pavise::Purpose;
using pavise::RandomKey;
using pavise::RandomSequence;
using Words = std::array<std::uint32_t, 4>;

// The known answers of Random123 (Salmon et al., 2011; its file kat_vectors, "philox4x32 10").
static_assert(pavise::philox4x32({0, 0, 0, 0}, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});

TEST_CASE("philox4x32: the published known answers") {
  CHECK(pavise::philox4x32({0, 0, 0, 0}, 0, 0) == Words{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
  CHECK(pavise::philox4x32({0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}, 0xffffffff, 0xffffffff) ==
        Words{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
  CHECK(pavise::philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0xa4093822, 0x299f31d0) ==
        Words{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("random_block: where seed, purpose, image, restart and iteration stand in counter and key") {
  const RandomKey key{.seed = 0x0123456789abcdef,
                      .purpose = Purpose::attack_step,
                      .image = 0x11223344,
                      .restart = 0x5566,
                      .iteration = 0x778899aa};
  CHECK(pavise::philox_counter(key, 5) == Words{5, 0x11223344, 0x778899aa, 0x55660009});
  CHECK(pavise::random_block(key, 5) ==
        pavise::philox4x32({5, 0x11223344, 0x778899aa, 0x55660009}, 0x89abcdef, 0x01234567));
}

TEST_CASE("random_block: another value of any coordinate gives other numbers") {
  const RandomKey base{.seed = 1, .purpose = Purpose::test, .image = 2, .restart = 3, .iteration = 4};
  std::vector<RandomKey> keys(6, base);
  keys[1].seed = 1 + (std::uint64_t{1} << 32);
  keys[2].purpose = Purpose::user;
  keys[3].image = 3;
  keys[4].restart = 4;
  keys[5].iteration = 5;
  std::set<Words> blocks;
  for (const auto& key : keys) {
    for (std::uint32_t block = 0; block < 3; ++block) {
      blocks.insert(pavise::random_block(key, block));
    }
  }
  CHECK(blocks.size() == 18);
}

TEST_CASE("purposes are part of the file formats: their values do not change") {
  CHECK(static_cast<int>(Purpose::initialization) == 1);
  CHECK(static_cast<int>(Purpose::shuffle) == 2);
  CHECK(static_cast<int>(Purpose::augmentation) == 3);
  CHECK(static_cast<int>(Purpose::label_noise) == 4);
  CHECK(static_cast<int>(Purpose::random_start) == 5);
  CHECK(static_cast<int>(Purpose::dropout) == 6);
  CHECK(static_cast<int>(Purpose::gaussian_noise) == 7);
  CHECK(static_cast<int>(Purpose::synthetic_data) == 8);
  CHECK(static_cast<int>(Purpose::attack_step) == 9);
  CHECK(static_cast<int>(Purpose::defense) == 10);
  CHECK(static_cast<int>(Purpose::test) == 11);
  CHECK(static_cast<int>(Purpose::user) == 1024);
}

TEST_CASE("random sequence: the words of the blocks in order, the same ones each time") {
  const RandomKey key{.seed = 9, .purpose = Purpose::test, .image = 1};
  RandomSequence random(key);
  for (std::uint32_t block = 0; block < 5; ++block) {
    const Words expected = pavise::random_block(key, block);
    for (const std::uint32_t w : expected) {
      CHECK(random.word() == w);
    }
  }
  RandomSequence again(key);
  CHECK(again.uniform() == (static_cast<double>(pavise::random_block(key, 0)[0] >> 9) + 0.5) / 8388608.0);
}

TEST_CASE("random sequence: uniform numbers lie inside the interval and have its mean and variance") {
  RandomSequence random({.seed = 3, .purpose = Purpose::test});
  const int n = 100000;
  double sum = 0;
  double squares = 0;
  double least = 1;
  double most = 0;
  for (int i = 0; i < n; ++i) {
    const double u = random.uniform();
    sum += u;
    squares += (u - 0.5) * (u - 0.5);
    least = std::min(least, u);
    most = std::max(most, u);
  }
  CHECK(least > 0);
  CHECK(most < 1);
  CHECK(std::abs(sum / n - 0.5) < 4 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(squares / n - 1.0 / 12) < 4 * std::sqrt(1.0 / 180 / n));
  for (int i = 0; i < 1000; ++i) {
    const double v = random.uniform(-2, 5);
    CHECK((v > -2 && v < 5));
  }
}

TEST_CASE("random sequence: below(n) is uniform, also where n does not divide 2^32") {
  for (const std::uint32_t n : {1u, 2u, 7u, 10u}) {
    CAPTURE(n);
    RandomSequence random({.seed = 4, .purpose = Purpose::test, .image = n});
    std::vector<int> count(n, 0);
    const int draws = 70000;
    for (int i = 0; i < draws; ++i) {
      const std::uint32_t v = random.below(n);
      REQUIRE(v < n);
      ++count[v];
    }
    const double expected = draws / static_cast<double>(n);
    for (const int c : count) {
      CHECK(std::abs(c - expected) <= 4.5 * std::sqrt(expected));
    }
  }
  // Two thirds of 2^32: the remainder alone would fall into the lower half two times in three.
  const std::uint32_t n = 0xaaaaaaab;
  RandomSequence random({.seed = 5, .purpose = Purpose::test});
  const int draws = 20000;
  int low = 0;
  for (int i = 0; i < draws; ++i) {
    low += random.below(n) < n / 2 ? 1 : 0;
  }
  CHECK(std::abs(low - draws / 2) < 4.5 * std::sqrt(draws / 4.0));
}

TEST_CASE("random sequence: normal numbers have mean 0, variance 1 and a fourth moment of 3") {
  RandomSequence random({.seed = 6, .purpose = Purpose::test});
  const int n = 100000;
  double sum = 0;
  double squares = 0;
  double fourth = 0;
  for (int i = 0; i < n; ++i) {
    const double v = random.normal();
    sum += v;
    squares += v * v;
    fourth += v * v * v * v;
  }
  CHECK(std::abs(sum / n) < 4 / std::sqrt(n));
  CHECK(std::abs(squares / n - 1) < 4 * std::sqrt(2.0 / n));
  CHECK(std::abs(fourth / n - 3) < 4 * std::sqrt(96.0 / n));
}

TEST_CASE("random permutation: each number once, a function of the key, and no place is preferred") {
  const RandomKey key{.seed = 7, .purpose = Purpose::shuffle};
  for (const std::int64_t n : {0, 1, 2, 100}) {
    auto order = pavise::random_permutation(n, key);
    CHECK(order == pavise::random_permutation(n, key));
    std::sort(order.begin(), order.end());
    std::vector<std::int64_t> all(static_cast<std::size_t>(n));
    std::iota(all.begin(), all.end(), 0);
    CHECK(order == all);
  }
  CHECK(pavise::random_permutation(100, key) !=
        pavise::random_permutation(100, {.seed = 8, .purpose = Purpose::shuffle}));
  int place[3][3] = {};
  const int draws = 9000;
  for (std::uint32_t i = 0; i < draws; ++i) {
    const auto order = pavise::random_permutation(3, {.seed = 7, .purpose = Purpose::test, .iteration = i});
    for (std::size_t p = 0; p < 3; ++p) {
      ++place[p][order[p]];
    }
  }
  for (const auto& row : place) {
    for (const int count : row) {
      CHECK(std::abs(count - draws / 3) < 4.5 * std::sqrt(draws * 2.0 / 9));
    }
  }
}
