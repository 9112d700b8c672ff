// SPDX-License-Identifier: MIT
#include "pavise/core/random.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <numbers>
#include <span>
#include <vector>

using pavise::Purpose;
using pavise::RandomKey;

namespace {

constexpr RandomKey kKey{.seed = 11, .purpose = Purpose::test, .image = 3, .restart = 1, .iteration = 2};

template <class T>
std::vector<T> normals(std::size_t n, const RandomKey& key = kKey) {
  std::vector<T> out(n);
  pavise::random_normal(std::span(out), key);
  return out;
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace

TEST_CASE("random_normal: a longer array begins with the shorter one, whatever their lengths") {
  const auto longest = normals<float>(200003);
  for (const std::size_t n : {1, 63, 64, 65, 65536, 65537, 131073}) {
    CAPTURE(n);
    const auto shorter = normals<float>(n);
    CHECK(std::memcmp(shorter.data(), longest.data(), n * sizeof(float)) == 0);
  }
  CHECK(normals<float>(0).empty());
}

TEST_CASE("random_normal: the same bits on any number of threads and any instruction set; other keys, other numbers") {
  namespace kernels = pavise::kernels;
  const int threads = pavise::thread_count();
  const auto isa = kernels::isa();
  const auto expected = normals<float>(150001);
  const auto expected_double = normals<double>(10001);
  for (const auto other : {kernels::Isa::portable, kernels::Isa::avx2, kernels::Isa::avx512}) {
    for (const int n : {1, 3}) {
      kernels::set_isa(other);
      pavise::set_thread_count(n);
      CHECK(same_bits(normals<float>(150001), expected));
      CHECK(same_bits(normals<double>(10001), expected_double));
    }
  }
  kernels::set_isa(isa);
  pavise::set_thread_count(threads);
  auto key = kKey;
  key.image = 4;
  CHECK_FALSE(same_bits(normals<float>(64, key), normals<float>(64)));
}

TEST_CASE("random_normal: the moments of a standard normal, in float and double") {
  const auto check = [](const auto& values) {
    double sum = 0;
    double squares = 0;
    double fourth = 0;
    double within = 0;
    for (const auto x : values) {
      const auto v = static_cast<double>(x);
      sum += v;
      squares += v * v;
      fourth += v * v * v * v;
      within += std::abs(v) < 1 ? 1 : 0;
    }
    const auto n = static_cast<double>(values.size());
    CHECK(std::abs(sum / n) < 4 / std::sqrt(n));
    CHECK(std::abs(squares / n - 1) < 4 * std::sqrt(2 / n));
    CHECK(std::abs(fourth / n - 3) < 4 * std::sqrt(96 / n));
    const double p = std::erf(std::sqrt(0.5));
    CHECK(std::abs(within / n - p) < 4 * std::sqrt(p * (1 - p) / n));
  };
  check(normals<float>(400000));
  check(normals<double>(400000));
}
