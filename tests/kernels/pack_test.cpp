// SPDX-License-Identifier: MIT
// Packs against scalars, exp, log and cos/sin against the C library, Philox against its published vectors: under each
// instruction set, with 16 lanes and with 1.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>
#include <numbers>
#include <string>
#include <vector>

#include "kernels/each_isa.hpp"
#include "pavise/core/error.hpp"
#include "pavise/core/philox.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic ignored "-Wpsabi"
#endif

namespace pavise::kernels::portable {
#include "kernels/pack_tests.inl"
}
#if defined(__x86_64__)
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#endif
namespace pavise::kernels::avx2 {
#include "kernels/pack_tests.inl"
}
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#ifndef PAVISE_NO_AVX512
#ifdef __clang__
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw"))), \
                             apply_to = function)
#else
#pragma GCC push_options
#pragma GCC target("avx2,fma,avx512f,avx512vl,avx512dq,avx512bw")
#endif
namespace pavise::kernels::avx512 {
#include "kernels/pack_tests.inl"
}
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif
#endif
#endif

namespace kernels = pavise::kernels;

namespace {

const float kInfinite = std::numeric_limits<float>::infinity();
const float kNotANumber = std::numeric_limits<float>::quiet_NaN();

/// exp (0) or log (1) of every element.
std::vector<float> math(int function, int lanes, const std::vector<float>& x) {
  std::vector<float> y(x.size());
  for (std::size_t i = 0; i < x.size(); i += static_cast<std::size_t>(lanes)) {
    kernels::run([&](auto isa) { test_math(isa, function, lanes, x.data() + i, y.data() + i); });
  }
  return y;
}

/// Distance from the exact value in units of its last place.
double ulps(float got, double exact) {
  const float nearest = static_cast<float>(exact);
  const double unit =
      std::max(static_cast<double>(std::nextafter(std::abs(nearest), kInfinite) - std::abs(nearest)), 1e-45);
  return std::abs(static_cast<double>(got) - exact) / unit;
}

}  // namespace

TEST_CASE("packs: every operator is the scalar one in every lane") {
  each_isa([] {
    pavise::RandomSequence random({.purpose = pavise::Purpose::test});
    std::vector<std::string> wrong;
    for (int round = 0; round < 20; ++round) {
      alignas(64) float f[48];
      alignas(64) double d[48];
      for (int i = 0; i < 48; ++i) {
        d[i] = random.uniform(-3, 3);
        f[i] = static_cast<float>(d[i]);
      }
      if (round > 0) {  // equal values, zeros of both signs, infinities
        f[3] = f[19];
        d[3] = d[19];
        f[5] = 0.0f;
        f[21] = -0.0f;
        d[5] = -0.0;
        f[7] = kInfinite;
        d[7] = -std::numeric_limits<double>::infinity();
      }
      kernels::run([&](auto isa) {
        test_packs(isa, f, d,
                   [&](const char* name, int lane) { wrong.push_back(pavise::concat(name, " in lane ", lane)); });
      });
    }
    CHECK_MESSAGE(wrong.empty(), (wrong.empty() ? std::string() : wrong[0]));
  });
}

TEST_CASE("packs: the sum over lanes has one order, in halves") {
  each_isa([] {
    alignas(64) float x[16];
    for (int i = 0; i < 16; ++i) {
      x[i] = std::ldexp(1.0f + static_cast<float>(i) / 7, i % 3 * 12);
    }
    float v[16];
    std::copy(x, x + 16, v);
    for (int half = 8; half > 0; half /= 2) {
      for (int i = 0; i < half; ++i) {
        v[i] = v[i] + v[i + half];
      }
    }
    CHECK(kernels::run([&](auto isa) { return test_sum(isa, x); }) == v[0]);
  });
}

TEST_CASE("exp: within 2 units in the last place, and its ends") {
  std::vector<float> x;
  for (int i = 0; i < 16 * 4000; ++i) {
    x.push_back(-87.3f + 176.0f * static_cast<float>(i) / 64000);
  }
  std::vector<float> first;
  each_isa([&] {
    const auto y = math(0, 16, x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      worst = std::max(worst, ulps(y[i], std::exp(static_cast<double>(x[i]))));
    }
    CHECK(worst < 2);
    CHECK(math(0, 1, x) == y);
    first = first.empty() ? y : first;
    CHECK(first == y);
    std::vector<float> ends{0, -0.0f, -88, -kInfinite, 89, kInfinite, kNotANumber, 1};
    ends.resize(16, 0.0f);
    const auto e = math(0, 16, ends);
    CHECK(e[0] == 1);
    CHECK(e[1] == 1);
    CHECK(e[2] == 0);
    CHECK(e[3] == 0);
    CHECK(e[4] == kInfinite);
    CHECK(e[5] == kInfinite);
    CHECK(std::isnan(e[6]));
  });
}

TEST_CASE("log: within 2 units in the last place, and its ends") {
  std::vector<float> x;
  for (int i = 0; i < 16 * 4000; ++i) {
    const float exponent = -126.0f + 253.5f * static_cast<float>(i) / 64000;
    x.push_back(i % 2 == 0 ? std::exp2(exponent) : 0.5f + static_cast<float>(i) / 64000);
  }
  std::vector<float> first;
  each_isa([&] {
    const auto y = math(1, 16, x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double exact = std::log(static_cast<double>(x[i]));
      worst = std::max(worst, exact == 0 ? std::abs(static_cast<double>(y[i])) * 1e9 : ulps(y[i], exact));
    }
    CHECK(worst < 2);
    CHECK(math(1, 1, x) == y);
    first = first.empty() ? y : first;
    CHECK(first == y);
    std::vector<float> ends{1, 0, -1, kInfinite, kNotANumber, -kInfinite};
    ends.resize(16, 1.0f);
    const auto e = math(1, 16, ends);
    CHECK(e[0] == 0);
    CHECK(e[1] == -kInfinite);
    CHECK(std::isnan(e[2]));
    CHECK(e[3] == kInfinite);
    CHECK(std::isnan(e[4]));
    CHECK(std::isnan(e[5]));
  });
}

TEST_CASE("cos_sin_turn: within 2e-7 of the exact values all the way round") {
  std::vector<float> first;
  each_isa([&] {
    double worst = 0;
    int differ = 0;
    std::vector<float> all;
    for (std::uint32_t i = 0; i < 4096; ++i) {
      alignas(64) std::uint32_t word[16];
      alignas(64) float c[16], s[16];
      for (std::uint32_t k = 0; k < 16; ++k) {
        word[k] = (i * 16 + k) * 65537u;
      }
      kernels::run([&](auto isa) { test_turn(isa, 16, word, c, s); });
      for (int k = 0; k < 16; ++k) {
        const double angle = 2 * std::numbers::pi * static_cast<double>(word[k]) / 4294967296.0;
        worst = std::max({worst, std::abs(static_cast<double>(c[k]) - std::cos(angle)),
                          std::abs(static_cast<double>(s[k]) - std::sin(angle))});
        float c1 = 0, s1 = 0;
        kernels::run([&](auto isa) { test_turn(isa, 1, word + k, &c1, &s1); });
        differ += c1 == c[k] && s1 == s[k] ? 0 : 1;
      }
      all.insert(all.end(), c, c + 16);
      all.insert(all.end(), s, s + 16);
    }
    CHECK(worst < 2e-7);
    CHECK(differ == 0);
    first = first.empty() ? all : first;
    CHECK(first == all);
  });
}

TEST_CASE("Philox4x32-10: the known answers of Random123") {
  struct Known {
    std::array<std::uint32_t, 4> counter;
    std::uint32_t k0, k1;
    std::array<std::uint32_t, 4> out;
  };
  const Known known[] = {
      {{0, 0, 0, 0}, 0, 0, {0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}},
      {{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff},
       0xffffffff,
       0xffffffff,
       {0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}},
      {{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344},
       0xa4093822,
       0x299f31d0,
       {0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}},
  };
  for (const auto& k : known) {
    CHECK(pavise::philox4x32(k.counter, k.k0, k.k1) == k.out);
    each_isa([&] {
      for (const int lanes : {16, 1}) {
        std::uint32_t c[4] = {k.counter[0], k.counter[1], k.counter[2], k.counter[3]};
        kernels::run([&](auto isa) { test_philox(isa, lanes, c, std::uint64_t{k.k1} << 32 | k.k0); });
        CHECK(std::equal(c, c + 4, k.out.begin()));
      }
    });
  }
}
