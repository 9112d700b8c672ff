// SPDX-License-Identifier: MIT
// The random probes of attacks without gradients, against the random numbers drawn one by one.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <numbers>
#include <vector>

#include "pavise/core/philox.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pv = pavise;

namespace {

constexpr std::int64_t kSize = 275;  // neither a multiple of 4 nor of 128

/// Sixteen lanes whose keys, sizes and iterations all differ; lane `only` of them alone where lanes is 1.
struct Probes {
  explicit Probes(int lanes, int only = 0) : width(lanes) {
    for (std::size_t l = 0; l < 16; ++l) {
      const auto which = static_cast<std::uint32_t>(lanes == 16 ? static_cast<int>(l) : only);
      image[l] = 100 + which * 7;
      restart[l] = which % 3;
      iteration[l] = which * which;
      size[l] = 0.05f + 0.01f * static_cast<float>(which);
      factor[l] = which == 5 ? 0.0f : 1.0f - 0.25f * static_cast<float>(which);
    }
    for (std::int64_t i = 0; i < kSize * lanes; ++i) {
      const std::int64_t lane = lanes == 16 ? i % 16 : only;
      x.push_back(static_cast<float>((i / lanes * 37 + lane * 11) % 101) / 100.0f);
    }
    out.assign(x.size(), 0.0f);
    sums.assign(x.size(), 0.0f);
  }
  pv::kernels::LaneKeys keys() const {
    return {.seed = 12345678901ull, .purpose = 9, .iteration = 77, .image = image.data(), .restart = restart.data()};
  }
  pv::RandomKey key(int lane) const {
    const auto l = static_cast<std::size_t>(lane);
    return {.seed = 12345678901ull,
            .purpose = pv::Purpose::attack_step,
            .image = image[l],
            .restart = restart[l],
            .iteration = iteration[l]};
  }
  int width;
  alignas(64) std::array<std::uint32_t, 16> image{}, restart{}, iteration{};
  alignas(64) std::array<float, 16> size{}, factor{};
  pv::AlignedVector<float> x, out, sums;
};

float clip(double v) { return static_cast<float>(std::min(std::max(v, 0.0), 1.0)); }

double sign_of(const pv::RandomKey& key, std::int64_t e) {
  const auto word = pv::random_block(key, static_cast<std::uint32_t>(e / 128))[static_cast<std::size_t>(e % 128 / 32)];
  return (word >> (31 - e % 32) & 1) != 0 ? -1.0 : 1.0;
}

template <class Run>
void same_alone(const Probes& together, const Run& run) {
  for (const int only : {0, 5, 15}) {
    Probes one(1, only);
    run(one);
    bool same = true;
    for (std::int64_t e = 0; e < kSize; ++e) {
      const auto a = static_cast<std::size_t>(e);
      const auto b = static_cast<std::size_t>(e * 16 + only);
      same = same && one.out[a] == together.out[b] && one.sums[a] == together.sums[b];
    }
    CHECK(same);
  }
}

}  // namespace

TEST_CASE("probes: signs, and the slope between a pair of them") {
  const auto run = [](Probes& p) {
    pv::kernels::run_light([&](auto isa) {
      sign_probe<float>(isa, p.out.data(), p.x.data(), kSize, p.width, p.keys(), p.iteration.data(), p.size.data(),
                        0.0f, 1.0f);
      sign_slope<float>(isa, p.sums.data(), p.x.data(), kSize, p.width, p.keys(), p.iteration.data(), p.size.data(),
                        p.factor.data(), 0.0f, 1.0f);
    });
  };
  Probes p(16);
  run(p);
  double total = 0;
  for (int lane = 0; lane < 16; ++lane) {
    for (std::int64_t e = 0; e < kSize; ++e) {
      const auto i = static_cast<std::size_t>(e * 16 + lane);
      const auto l = static_cast<std::size_t>(lane);
      const double s = sign_of(p.key(lane), e);
      const double move = s * static_cast<double>(p.size[l]);
      total += s;
      const double x = static_cast<double>(p.x[i]);
      CHECK(std::abs(p.out[i] - clip(x + move)) < 1e-6f);
      const double apart = static_cast<double>(clip(x + move) - clip(x - move));
      CHECK(std::abs(static_cast<double>(p.sums[i]) - static_cast<double>(p.factor[l]) * apart) < 1e-6);
    }
  }
  CHECK(std::abs(total) < 5 * std::sqrt(16.0 * kSize));
  same_alone(p, run);
}

TEST_CASE("probes: points on a sphere, and their sums") {
  for (const auto distribution : {pv::kernels::Distribution::normal, pv::kernels::Distribution::uniform}) {
    const auto run = [&](Probes& p) {
      pv::AlignedVector<float> weighted(p.x.size());
      const std::array<float, 16> ones = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1};
      pv::kernels::run_light([&](auto isa) {
        sphere_probe<float>(isa, p.out.data(), p.x.data(), kSize, p.width, distribution, p.keys(), p.iteration.data(),
                            p.size.data(), 0.0f, 1.0f);
        probe_sums<float>(isa, p.sums.data(), weighted.data(), p.out.data(), p.x.data(), kSize, p.width,
                          p.factor.data(), ones.data());
      });
      bool differences = true;
      for (std::size_t i = 0; i < p.x.size(); ++i) {
        differences = differences && std::abs(weighted[i] - (p.out[i] - p.x[i])) < 1e-6f;
        differences = differences && std::abs(p.sums[i] - p.factor[i % static_cast<std::size_t>(p.width)] *
                                                              (p.out[i] - p.x[i])) < 1e-5f;
      }
      CHECK(differences);
    };
    Probes p(16);
    run(p);
    for (int lane = 0; lane < 16; ++lane) {
      std::vector<double> u;
      double squares = 0;
      for (std::int64_t e = 0; e < kSize; ++e) {
        const auto block = pv::random_block(p.key(lane), static_cast<std::uint32_t>(e / 4));
        const auto unit = [&](std::int64_t w) {
          return (static_cast<double>(block[static_cast<std::size_t>(w)] >> 9) + 0.5) * 0x1p-23;
        };
        const std::int64_t w = e % 4;
        double v = 2.0 * unit(w) - 1.0;
        if (distribution == pv::kernels::Distribution::normal) {
          const double angle = 2.0 * std::numbers::pi * block[static_cast<std::size_t>(w / 2 * 2 + 1)] * 0x1p-32;
          v = std::sqrt(-2.0 * std::log(unit(w / 2 * 2))) * (w % 2 == 0 ? std::cos(angle) : std::sin(angle));
        }
        u.push_back(v);
        squares += v * v;
      }
      bool right = true;
      for (std::int64_t e = 0; e < kSize; ++e) {
        const auto i = static_cast<std::size_t>(e * 16 + lane);
        const double move = static_cast<double>(p.size[static_cast<std::size_t>(lane)]) / std::sqrt(squares);
        right = right &&
                std::abs(p.out[i] - clip(static_cast<double>(p.x[i]) + u[static_cast<std::size_t>(e)] * move)) < 1e-6f;
      }
      CHECK(right);
    }
    same_alone(p, run);
  }
}
