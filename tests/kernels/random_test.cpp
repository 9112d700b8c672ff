// SPDX-License-Identifier: MIT
// The random numbers of lanes: the same as core/philox.hpp's, the same bits everywhere, and of the right distribution.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <numbers>
#include <vector>

#include "kernels/each_isa.hpp"
#include "pavise/core/philox.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace kernels = pavise::kernels;
using kernels::Distribution;

namespace {

constexpr std::uint64_t kSeed = 0x123456789abcdefull;

/// n numbers of each of 16 images (numbered from `first`, restart = image mod 3): [image][n].
template <class T>
std::vector<std::vector<T>> draw(Distribution d, std::int64_t n, int lanes, std::uint32_t first = 100) {
  std::vector<std::vector<T>> out;
  for (std::uint32_t begin = 0; begin < 16; begin += static_cast<std::uint32_t>(lanes)) {
    alignas(64) std::uint32_t image[16];
    alignas(64) std::uint32_t restart[16];
    for (std::uint32_t i = 0; i < 16; ++i) {
      image[i] = first + begin + i;
      restart[i] = image[i] % 3;
    }
    const kernels::LaneKeys keys{kSeed, static_cast<std::uint32_t>(pavise::Purpose::test), 7, image, restart};
    std::vector<T> raw(static_cast<std::size_t>(n * lanes));
    kernels::run([&](auto isa) {
      d == Distribution::uniform ? random_uniform<T>(isa, raw.data(), n, lanes, keys)
                                 : random_normal<T>(isa, raw.data(), n, lanes, keys);
    });
    for (int lane = 0; lane < lanes; ++lane) {
      out.emplace_back();
      for (std::int64_t e = 0; e < n; ++e) {
        out.back().push_back(raw[static_cast<std::size_t>(e * lanes + lane)]);
      }
    }
  }
  return out;
}

/// The Kolmogorov-Smirnov statistic times sqrt(n): above 1.95 with probability 0.001.
template <class Cdf>
double kolmogorov_smirnov(std::vector<float> x, const Cdf& cdf) {
  std::sort(x.begin(), x.end());
  const double n = static_cast<double>(x.size());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double p = cdf(static_cast<double>(x[i]));
    worst = std::max({worst, p - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - p});
  }
  return worst * std::sqrt(n);
}

std::vector<float> flat(const std::vector<std::vector<float>>& x) {
  std::vector<float> out;
  for (const auto& v : x) {
    out.insert(out.end(), v.begin(), v.end());
  }
  return out;
}

double gaussian_cdf(double x) { return 0.5 * std::erfc(-x / std::numbers::sqrt2); }

}  // namespace

TEST_CASE("random_uniform: element e is word e of the image's own sequence") {
  each_isa([] {
    const auto x = draw<double>(Distribution::uniform, 13, 16);
    for (std::uint32_t i = 0; i < 16; ++i) {
      pavise::RandomSequence sequence({.seed = kSeed,
                                       .purpose = pavise::Purpose::test,
                                       .image = 100 + i,
                                       .restart = (100 + i) % 3,
                                       .iteration = 7});
      for (const double v : x[i]) {
        CHECK(v == static_cast<double>(static_cast<float>(sequence.uniform())));
      }
    }
  });
}

TEST_CASE("random_normal: Box and Muller's transform of the image's words") {
  each_isa([] {
    const auto x = draw<float>(Distribution::normal, 64, 16);
    double worst = 0;
    for (std::uint32_t i = 0; i < 16; ++i) {
      for (std::uint32_t e = 0; e < 64; e += 2) {
        const auto w = pavise::random_block({.seed = kSeed,
                                             .purpose = pavise::Purpose::test,
                                             .image = 100 + i,
                                             .restart = (100 + i) % 3,
                                             .iteration = 7},
                                            e / 4);
        const double u = (static_cast<double>(w[e % 4] >> 9) + 0.5) * 0x1p-23;
        const double angle = 2 * std::numbers::pi * static_cast<double>(w[e % 4 + 1]) * 0x1p-32;
        const double radius = std::sqrt(-2 * std::log(u));
        worst = std::max({worst, std::abs(static_cast<double>(x[i][e]) - radius * std::cos(angle)),
                          std::abs(static_cast<double>(x[i][e + 1]) - radius * std::sin(angle))});
      }
    }
    CHECK(worst < 2e-6);
  });
}

TEST_CASE("random numbers: 16 lanes, 1 lane, float, double and every instruction set give the same") {
  for (const auto d : {Distribution::uniform, Distribution::normal}) {
    const auto expected = draw<float>(d, 37, 16);
    each_isa([&] {
      CHECK(draw<float>(d, 37, 16) == expected);
      CHECK(draw<float>(d, 37, 1) == expected);
      for (const int lanes : {16, 1}) {
        const auto wide = draw<double>(d, 37, lanes);
        for (std::size_t i = 0; i < 16; ++i) {
          CHECK(std::equal(wide[i].begin(), wide[i].end(), expected[i].begin(), expected[i].end()));
        }
      }
    });
  }
}

TEST_CASE("random_uniform: moments and distribution") {
  const auto x = flat(draw<float>(Distribution::uniform, 1 << 14, 16));
  const double n = static_cast<double>(x.size());
  double mean = 0, square = 0;
  int outside = 0;
  for (const float v : x) {
    outside += v > 0.0f && v < 1.0f ? 0 : 1;
    mean += v / n;
    square += (v - 0.5) * (v - 0.5) / n;
  }
  CHECK(outside == 0);
  CHECK(std::abs(mean - 0.5) < 4 / std::sqrt(12 * n));
  CHECK(std::abs(square - 1.0 / 12) < 4 * std::sqrt(1.0 / 180 / n));
  CHECK(kolmogorov_smirnov(x, [](double v) { return v; }) < 1.95);
}

TEST_CASE("random_normal: moments, tails, distribution, and no correlation of neighbours and lanes") {
  const auto images = draw<float>(Distribution::normal, 1 << 14, 16);
  const auto x = flat(images);
  const double n = static_cast<double>(x.size());
  double mean = 0, square = 0, cube = 0, fourth = 0, neighbour = 0, beyond = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double v = static_cast<double>(x[i]);
    mean += v / n;
    square += v * v / n;
    cube += v * v * v / n;
    fourth += v * v * v * v / n;
    neighbour += v * static_cast<double>(x[(i + 1) % x.size()]) / n;
    beyond += std::abs(v) > 3 ? 1 : 0;
  }
  CHECK(std::abs(mean) < 4 / std::sqrt(n));
  CHECK(std::abs(square - 1) < 4 * std::sqrt(2 / n));
  CHECK(std::abs(cube) < 4 * std::sqrt(15 / n));
  CHECK(std::abs(fourth - 3) < 4 * std::sqrt(96 / n));
  CHECK(std::abs(neighbour) < 4 / std::sqrt(n));
  const double expected = n * 2 * gaussian_cdf(-3);
  CHECK(std::abs(beyond - expected) < 4 * std::sqrt(expected));
  CHECK(kolmogorov_smirnov(x, gaussian_cdf) < 1.95);
  double between = 0;
  for (std::size_t e = 0; e < images[0].size(); ++e) {
    between += static_cast<double>(images[0][e]) * static_cast<double>(images[1][e]);
  }
  CHECK(std::abs(between) < 4 * std::sqrt(static_cast<double>(images[0].size())));
}

TEST_CASE("fill_normal: standard normal, the same under every instruction set and in parts") {
  const std::uint32_t counter[4] = {0, 3, 5, 9};
  std::vector<float> whole(1 << 16);
  kernels::run([&](auto isa) {
    fill_normal<float>(isa, whole.data(), static_cast<std::int64_t>(whole.size()), kSeed, counter, 0);
  });
  CHECK(kolmogorov_smirnov(whole, gaussian_cdf) < 1.95);
  each_isa([&] {
    std::vector<float> parts(whole.size());
    for (std::size_t at = 0; at < whole.size(); at += whole.size() / 4) {
      kernels::run([&](auto isa) {
        fill_normal<float>(isa, parts.data() + at, static_cast<std::int64_t>(whole.size() / 4), kSeed, counter,
                           static_cast<std::uint32_t>(at / 4));
      });
    }
    CHECK(parts == whole);
  });
}
