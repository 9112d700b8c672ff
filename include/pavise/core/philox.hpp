// SPDX-License-Identifier: MIT
// Counter-based random numbers: Philox4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011).
// A random number is a function of (seed, purpose, image, restart, iteration, position), not the state of a generator,
// so results do not depend on threads, batches or the order of the work, and any of them can be drawn again on its own.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <utility>
#include <vector>

namespace pavise {

/// What a number is drawn for. Two purposes never share numbers. Values are part of the file formats: append only.
enum class Purpose : std::uint32_t {
  initialization = 1,
  shuffle = 2,
  augmentation = 3,
  label_noise = 4,
  random_start = 5,
  dropout = 6,
  gaussian_noise = 7,
  synthetic_data = 8,
  attack_step = 9,
  defense = 10,
  test = 11,
  smoothing = 12,
  user = 1024,
};

/// The name of a random sequence; position within it is the remaining coordinate.
struct RandomKey {
  std::uint64_t seed = 0;
  Purpose purpose = Purpose::user;
  std::uint32_t image = 0;      ///< index of the image in its data set (not in the batch)
  std::uint32_t restart = 0;    ///< at most 65,535
  std::uint32_t iteration = 0;  ///< step, epoch or draw
};

/// One block of Philox4x32-10: four uniform 32-bit words from a 128-bit counter and a 64-bit key.
constexpr std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> c, std::uint32_t k0, std::uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53} * c[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57} * c[2];
    c = {static_cast<std::uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<std::uint32_t>(p1),
         static_cast<std::uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<std::uint32_t>(p0)};
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return c;
}

/// Layout of the counter: (block, image, iteration, restart and purpose); the key is the seed. The lane kernels use the
/// same, so that a number drawn there and here is the same number.
constexpr std::array<std::uint32_t, 4> philox_counter(const RandomKey& key, std::uint32_t block) {
  return {block, key.image, key.iteration, key.restart << 16 ^ static_cast<std::uint32_t>(key.purpose)};
}

/// The four words of block `block` of the sequence `key`.
constexpr std::array<std::uint32_t, 4> random_block(const RandomKey& key, std::uint32_t block) {
  return philox4x32(philox_counter(key, block), static_cast<std::uint32_t>(key.seed),
                    static_cast<std::uint32_t>(key.seed >> 32));
}

/// Reads a sequence word by word, for code that draws a varying count: shuffles, augmentation, synthetic data.
class RandomSequence {
 public:
  constexpr explicit RandomSequence(RandomKey key) : key_(key) {}

  constexpr std::uint32_t word() {
    if (next_ == 4) {
      block_ = random_block(key_, position_++);
      next_ = 0;
    }
    const unsigned i = next_++;  // chosen by comparisons: on a GPU an array that is indexed is not in registers
    return i == 0 ? block_[0] : i == 1 ? block_[1] : i == 2 ? block_[2] : block_[3];
  }
  /// Uniform in (0,1): the centre of one of 2^23 cells, so that neither 0 nor 1 occurs.
  double uniform() { return (static_cast<double>(word() >> 9) + 0.5) * 0x1p-23; }
  double uniform(double low, double high) { return low + (high - low) * uniform(); }
  /// Uniform in {0, ..., n-1}, without bias (rejection); n >= 1.
  constexpr std::uint32_t below(std::uint32_t n) {
    const std::uint32_t limit = static_cast<std::uint32_t>((std::uint64_t{1} << 32) / n * n - 1);
    std::uint32_t w = word();
    while (w > limit) {
      w = word();
    }
    return w % n;
  }
  /// Standard normal by Box and Muller, in double.
  double normal() {
    const double radius = std::sqrt(-2.0 * std::log(uniform()));
    return radius * std::cos(2.0 * std::numbers::pi * uniform());
  }

 private:
  RandomKey key_;
  std::array<std::uint32_t, 4> block_{};
  std::uint32_t position_ = 0;
  unsigned next_ = 4;
};

/// A uniformly random permutation of 0 ... n-1 (Fisher and Yates) that depends on nothing but the key.
inline std::vector<std::int64_t> random_permutation(std::int64_t n, const RandomKey& key) {
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  for (std::int64_t i = 0; i < n; ++i) {
    order[static_cast<std::size_t>(i)] = i;
  }
  RandomSequence random(key);
  for (std::int64_t i = n - 1; i > 0; --i) {
    std::swap(order[static_cast<std::size_t>(i)],
              order[static_cast<std::size_t>(random.below(static_cast<std::uint32_t>(i + 1)))]);
  }
  return order;
}

}  // namespace pavise
