// SPDX-License-Identifier: MIT
// The noise on the grid: its probabilities against Boost at 100 digits, the kernel against the scalar definition on every
// instruction set, and the draws against the probabilities.
#include <doctest/doctest.h>

#include <boost/math/special_functions/erf.hpp>
#include <boost/multiprecision/cpp_bin_float.hpp>
#include <cmath>
#include <cstdint>
#include <vector>

#include "certify/exact.hpp"
#include "kernels/each_isa.hpp"
#include "pavise/certify/noise.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/core/tensor.hpp"

namespace {

namespace pc = pavise::certify;
namespace pk = pavise::kernels;
using pavise_test::exact;
using pavise_test::Exact;

/// P(noise <= k) of the continuous noise rounded to the grid.
Exact cumulative(const pc::Noise& noise, std::int64_t k) {
  const Exact x = (Exact(k) + Exact(0.5)) / 255;
  const Exact scale(noise.scale);
  switch (noise.kind) {
    case pc::NoiseKind::uniform:
      return x <= -scale ? Exact(0) : x >= scale ? Exact(1) : (x + scale) / (2 * scale);
    case pc::NoiseKind::laplace:
      return x < 0 ? Exact(exp(x / scale) / 2) : Exact(1 - exp(-x / scale) / 2);
    default:
      return erfc(-x / scale / sqrt(Exact(2))) / 2;
  }
}

const pc::Noise kNoises[] = {{pc::NoiseKind::gaussian, 0.25}, {pc::NoiseKind::gaussian, 0.003},
                             {pc::NoiseKind::gaussian, 0.1},  {pc::NoiseKind::uniform, 0.3},
                             {pc::NoiseKind::uniform, 0.5},   {pc::NoiseKind::laplace, 0.2}};

TEST_CASE("noise on the grid: cell probabilities against 100 digits") {
  for (const auto& noise : kNoises) {
    INFO(pc::noise_name(noise.kind), " ", noise.scale);
    const pc::GridNoise grid(noise);
    const std::int32_t reach = grid.most();
    Exact sum_low = 0;
    Exact sum_high = 0;
    for (std::int32_t k = -reach; k <= reach; ++k) {
      const auto p = grid.probability(k);
      sum_low += exact(p.low);
      sum_high += exact(p.high);
      if (k % 61 != 0 && k > -reach && k < reach) {
        continue;
      }
      const Exact value = (k < reach ? cumulative(noise, k) : Exact(1)) - (k > -reach ? cumulative(noise, k - 1) : 0);
      CHECK(exact(p.low) <= value);
      CHECK(value <= exact(p.high));
      CHECK(exact(p.high) - exact(p.low) < 1e-32);
    }
    CHECK(sum_low <= 1);
    CHECK(sum_high >= 1);
    CHECK(grid.defect() >= 2.0 * reach * 0x1p-96);  // a number for each threshold, two where it is not known to 96 bits
    CHECK(grid.defect() <= 4.0 * reach * 0x1p-96 * (1 + 1e-9));
  }
}

struct Lanes {
  std::uint32_t image[16];
  std::uint32_t stage[16];
  std::uint32_t sample[16];
  explicit Lanes(std::uint32_t first) {
    for (std::uint32_t lane = 0; lane < 16; ++lane) {
      image[lane] = 7 + lane % 3;
      stage[lane] = lane % 2;
      sample[lane] = first + 1000 * lane;
    }
  }
  pk::SampleKeys keys(int lane = 0) const { return {99, 12, image + lane, stage + lane, sample + lane}; }
};

pavise::AlignedVector<float> draw(const pc::GridNoise& grid, const std::vector<std::int32_t>& pixels, std::int64_t n,
                                  int lanes, const pk::SampleKeys& keys) {
  pavise::AlignedVector<float> out(static_cast<std::size_t>(n * lanes));
  pk::run([&](auto isa) {
    grid_noise(isa, pixels.data(), out.data(), n, lanes, grid.least(), grid.most(), grid.table(), keys);
  });
  return out;
}

TEST_CASE("noise on the grid: every lane of every instruction set draws what the definition says") {
  for (const auto& noise : kNoises) {
    INFO(pc::noise_name(noise.kind), " ", noise.scale);
    const pc::GridNoise grid(noise);
    const Lanes lanes(5);
    for (const std::int64_t n : {1, 6, 1601}) {
      std::vector<std::int32_t> pixels(static_cast<std::size_t>(n * 16));
      for (std::size_t i = 0; i < pixels.size(); ++i) {
        pixels[i] = static_cast<std::int32_t>(i * 37 % 256);
      }
      // The definition: 96 bits against the exact thresholds, in 100 digits for a few and in integers for all.
      std::vector<float> expected(pixels.size());
      for (std::int64_t e = 0; e < n; ++e) {
        for (int lane = 0; lane < 16; ++lane) {
          const auto words = pavise::philox4x32(
              {static_cast<std::uint32_t>(e / 4), lanes.image[lane], lanes.sample[lane], lanes.stage[lane] << 16 ^ 12u},
              99, 0);
          const auto more = pavise::philox4x32({static_cast<std::uint32_t>(e), lanes.image[lane], lanes.sample[lane],
                                                (lanes.stage[lane] + 32768u) << 16 ^ 12u},
                                               99, 0);
          const std::uint32_t word = words[static_cast<std::size_t>(e % 4)];
          std::int32_t k = grid.table().lowest;
          for (std::int32_t t = 0; t < grid.table().count; ++t) {
            const auto& bound = grid.table().thresholds[t];
            k += bound.high < word || (bound.high == word && bound.low <= (std::uint64_t{more[0]} << 32 | more[1]));
          }
          if (e % 97 == lane) {
            const Exact u = (Exact(word) + Exact(more[0]) / 4294967296.0) / 4294967296.0;
            CHECK(u + ldexp(Exact(1), -64) >= (k > -grid.most() ? cumulative(noise, k - 1) : Exact(0)));
            CHECK(u <= (k < grid.most() ? cumulative(noise, k) : Exact(1)));
          }
          const auto at = static_cast<std::size_t>(e * 16 + lane);
          const std::int32_t v = std::max(grid.least(), std::min(grid.most(), pixels[at] + k));
          expected[at] = static_cast<float>(v) / 255.0f;
        }
      }
      each_isa([&] {
        const auto got = draw(grid, pixels, n, 16, lanes.keys());
        CHECK(std::equal(expected.begin(), expected.end(), got.begin()));
        for (const int lane : {0, 7, 15}) {  // alone
          std::vector<std::int32_t> one(static_cast<std::size_t>(n));
          for (std::size_t e = 0; e < one.size(); ++e) {
            one[e] = pixels[e * 16 + static_cast<std::size_t>(lane)];
          }
          const auto alone = draw(grid, one, n, 1, lanes.keys(lane));
          bool same = true;
          for (std::size_t e = 0; e < one.size(); ++e) {
            same = same && alone[e] == expected[e * 16 + static_cast<std::size_t>(lane)];
          }
          CHECK(same);
        }
      });
    }
  }
}

TEST_CASE("noise on the grid: a word that a threshold lies in is decided by 64 more bits") {
  const pc::GridNoise grid({pc::NoiseKind::gaussian, 0.25});
  const auto table = grid.table();
  for (const std::int32_t t : {400, 509, 510, 600}) {
    const auto& bound = table.thresholds[t];
    const auto word = static_cast<std::uint32_t>(bound.high);
    CHECK(pk::grid_noise_exact(table, word - 1, 1, 12, 0, 0, 0, 0) == table.lowest + t);
    CHECK(pk::grid_noise_exact(table, word + 1, 1, 12, 0, 0, 0, 0) == table.lowest + t + 1);
    int above = 0;
    for (std::uint32_t sample = 0; sample < 4000; ++sample) {
      const auto k = pk::grid_noise_exact(table, word, 1, 12, 0, 0, sample, 3);
      REQUIRE((k == table.lowest + t || k == table.lowest + t + 1));
      above += k == table.lowest + t + 1 ? 1 : 0;
    }
    const double share = 1 - std::ldexp(static_cast<double>(bound.low), -64);
    CHECK(std::abs(above / 4000.0 - share) < 5 * std::sqrt(0.25 / 4000));
  }
}

TEST_CASE("noise on the grid: chi-square over all cells, a thousand million draws each") {
  for (const auto& noise : {pc::Noise{pc::NoiseKind::gaussian, 0.5}, pc::Noise{pc::NoiseKind::uniform, 0.4},
                            pc::Noise{pc::NoiseKind::laplace, 0.1}}) {
    INFO(pc::noise_name(noise.kind));
    const pc::GridNoise grid(noise);
    const std::int64_t n = 20000;
    const int parts = 50;
    const int groups = 63;  // of each part
    const std::vector<std::int32_t> zero(static_cast<std::size_t>(n * 16));
    std::vector<std::vector<std::int64_t>> counts(parts);
    pavise::parallel_for(parts, [&](std::int64_t part) {
      auto& count = counts[static_cast<std::size_t>(part)];
      count.resize(static_cast<std::size_t>(2 * grid.most() + 1));
      const float middle = static_cast<float>(grid.most()) + 0.5f;
      for (int g = 0; g < groups; ++g) {
        const Lanes lanes(static_cast<std::uint32_t>(part * groups + g));
        for (const float v : draw(grid, zero, n, 16, lanes.keys())) {
          ++count[static_cast<std::size_t>(v * 255 + middle)];
        }
      }
    });
    std::vector<std::int64_t> count(counts.front().size());
    for (const auto& part : counts) {
      for (std::size_t i = 0; i < count.size(); ++i) {
        count[i] += part[i];
      }
    }
    const double draws = static_cast<double>(n) * 16 * groups * parts;
    double chi = 0;
    double expected = 0;
    double seen = 0;
    int cells = 0;
    for (std::int32_t v = -grid.most(); v <= grid.most(); ++v) {  // cells of little probability together
      const auto p = grid.probability(v);
      expected += draws * static_cast<double>(exact(p.low));
      const std::int64_t here = count[static_cast<std::size_t>(v + grid.most())];
      seen += static_cast<double>(here);
      if (expected > 20 && v >= grid.least()) {  // what is below was cut off to it
        chi += (seen - expected) * (seen - expected) / expected;
        ++cells;
        expected = seen = 0;
      }
    }
    CHECK(seen < expected + 40);  // what is left over
    CHECK(cells > 100);
    CHECK(chi < cells + 5 * std::sqrt(2.0 * cells));
    CHECK(chi > cells - 5 * std::sqrt(2.0 * cells));
  }
}

TEST_CASE("noise: radii and the probabilities that suffice for them") {
  for (const auto& noise : kNoises) {
    INFO(pc::noise_name(noise.kind), " ", noise.scale);
    for (const double p : {0.50001, 0.6, 0.9, 0.999, 0.99999}) {
      const double radius = noise.radius(p);
      const Exact scale(noise.scale);
      const Exact r(radius);
      const Exact needed = noise.kind == pc::NoiseKind::uniform   ? Exact((r / scale + 1) / 2)
                           : noise.kind == pc::NoiseKind::laplace ? Exact(1 - exp(-r / scale) / 2)
                                                                  : Exact(erfc(-r / scale / sqrt(Exact(2))) / 2);
      CHECK(needed <= Exact(p));
      CHECK(needed > Exact(p) - 1e-13);
      CHECK(noise.probability(radius) >= static_cast<double>(needed));
      CHECK(noise.probability(radius) < p + 1e-13);
      CHECK(Exact(noise.probability(radius)) >= needed);
    }
    CHECK(noise.radius(0.5) == 0);
    CHECK(noise.radius(0.2) == 0);
    CHECK(noise.probability(0) == 0.5);
    CHECK(noise.probability(1e6) == 1);
    CHECK(pc::parse_noise(pc::noise_name(noise.kind)) == noise.kind);
  }
  CHECK_THROWS_WITH_AS(pc::GridNoise({pc::NoiseKind::gaussian, -0.5}),
                       "noise gaussian: sigma -0.5, expected more than 0, in units of the pixels", pavise::ValueError);
  CHECK_THROWS_AS(pc::GridNoise({pc::NoiseKind::uniform, 0}), pavise::ValueError);
  CHECK_THROWS_AS(pc::GridNoise({pc::NoiseKind::laplace, std::nan("")}), pavise::ValueError);
  CHECK_THROWS_AS(pc::GridNoise({pc::NoiseKind::gaussian, 100}), pavise::ValueError);
  CHECK_THROWS_AS(pc::GridNoise({pc::NoiseKind::gaussian_unsound, 0.5}), pavise::ValueError);
  CHECK_THROWS_AS(pc::parse_noise("normal"), pavise::ValueError);
}

}  // namespace
