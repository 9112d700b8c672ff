// SPDX-License-Identifier: MIT
// The arithmetic of attacks whose lanes each have factors of their own, against loops in double; the same bits with one
// lane and with sixteen, and on every instruction set.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/minimum_norm_checks.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pv = pavise;

namespace {

constexpr std::int64_t kElements = 37;
constexpr float kNaN = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

using Array = std::vector<float>;  // [kElements][16]

Array drawn(std::uint32_t name, double low = -2, double high = 2) {
  return attack_checks::drawn<float>(kElements * 16, name, low, high);
}
std::size_t place(std::int64_t e, std::size_t lane) { return static_cast<std::size_t>(e) * 16 + lane; }
double at(const Array& a, std::int64_t e, std::size_t lane) { return static_cast<double>(a[place(e, lane)]); }

/// One image of sixteen by itself, with the room that a pass with one lane needs.
Array lane_of(const Array& a, std::size_t lane) {
  Array out(static_cast<std::size_t>(kElements) + 16);
  for (std::int64_t e = 0; e < kElements; ++e) {
    out[static_cast<std::size_t>(e)] = a[place(e, lane)];
  }
  return out;
}

/// `make(isa, out, lanes, lane)` writes [kElements][lanes]: what sixteen lanes give, after each lane by itself and every
/// instruction set have been found to give the same bits.
template <class Make>
Array all_ways(const Make& make) {
  const attack_checks::RestoreSettings restore;
  Array wide(static_cast<std::size_t>(kElements * 16));
  pv::kernels::run_light([&](auto isa) { make(isa, wide.data(), 16, std::size_t{0}); });
  for (const auto isa : {pv::kernels::Isa::avx2, pv::kernels::Isa::portable}) {
    pv::kernels::set_isa(isa);
    Array other(wide.size());
    pv::kernels::run_light([&](auto tag) { make(tag, other.data(), 16, std::size_t{0}); });
    CHECK(std::memcmp(wide.data(), other.data(), wide.size() * sizeof(float)) == 0);
    for (std::size_t lane = 0; lane < 16; ++lane) {
      Array alone(static_cast<std::size_t>(kElements) + 16);
      pv::kernels::run_light([&](auto tag) { make(tag, alone.data(), 1, lane); });
      const Array expected = lane_of(wide, lane);
      CHECK(std::memcmp(alone.data(), expected.data(), sizeof(float) * static_cast<std::size_t>(kElements)) == 0);
    }
  }
  return wide;
}

struct Factors {
  alignas(64) std::array<float, 16> value{};
  explicit Factors(std::uint32_t name, double low = -2, double high = 2) {
    const auto numbers = attack_checks::drawn<float>(16, name, low, high);
    std::copy(numbers.begin(), numbers.end(), value.begin());
  }
  /// Those from a lane on.
  std::array<float, 16> from(std::size_t lane) const {
    std::array<float, 16> out{};
    std::copy(value.begin() + static_cast<std::ptrdiff_t>(lane), value.end(), out.begin());
    return out;
  }
};

/// The array itself, or one lane of it.
Array part(const Array& a, int lanes, std::size_t lane) { return lanes == 16 ? a : lane_of(a, lane); }

}  // namespace

TEST_CASE("lane state: sums of multiples") {
  const Array a = drawn(1);
  const Array b = drawn(2);
  const Array c = drawn(3);
  const Factors fa(4);
  const Factors fb(5);
  const Factors fc(6);
  for (const bool three : {false, true}) {
    const Array got = all_ways([&](auto isa, float* out, int lanes, std::size_t lane) {
      const Array x = part(a, lanes, lane);
      const Array y = part(b, lanes, lane);
      const Array z = part(c, lanes, lane);
      alignas(64) const auto sx = fa.from(lane);
      alignas(64) const auto sy = fb.from(lane);
      alignas(64) const auto sz = fc.from(lane);
      lane_combine<float>(isa, out, kElements, lanes, x.data(), sx.data(), y.data(), sy.data(),
                          three ? z.data() : nullptr, three ? sz.data() : nullptr);
    });
    for (std::int64_t e = 0; e < kElements; ++e) {
      for (std::size_t l = 0; l < 16; ++l) {
        const double want = static_cast<double>(fa.value[l]) * at(a, e, l) +
                            static_cast<double>(fb.value[l]) * at(b, e, l) +
                            (three ? static_cast<double>(fc.value[l]) * at(c, e, l) : 0.0);
        CHECK(std::abs(at(got, e, l) - want) < 3e-6);
      }
    }
  }
}

TEST_CASE("lane state: lanes that are chosen, and numbers that are finite") {
  Array a = drawn(1);
  const Array b = drawn(2);
  const Factors chosen(3);
  const Array got = all_ways([&](auto isa, float* out, int lanes, std::size_t lane) {
    const Array x = part(a, lanes, lane);
    const Array y = part(b, lanes, lane);
    std::copy_n(x.begin(), kElements * lanes, out);
    alignas(64) const auto c = chosen.from(lane);
    lane_select<float>(isa, out, y.data(), kElements, lanes, c.data());
  });
  for (std::int64_t e = 0; e < kElements; ++e) {
    for (std::size_t l = 0; l < 16; ++l) {
      CHECK(got[place(e, l)] == (chosen.value[l] > 0 ? b : a)[place(e, l)]);
    }
  }
  a[place(0, 3)] = kNaN;
  a[place(5, 15)] = kInfinity;
  a[place(36, 0)] = -kInfinity;
  a[place(7, 7)] = std::numeric_limits<float>::max();
  const Array finite = all_ways([&](auto isa, float* out, int lanes, std::size_t lane) {
    const Array x = part(a, lanes, lane);
    lane_finite<float>(isa, out, x.data(), kElements, lanes);
  });
  for (std::size_t i = 0; i < a.size(); ++i) {
    CHECK(finite[i] == (std::isfinite(a[i]) ? a[i] : 0.0f));
  }
}

TEST_CASE("lane state: products and norms") {
  const Array a = drawn(1);
  const Array b = drawn(2);
  for (const int what : {0, 1, 2, 3}) {  // the norm, or the product
    const Array got = all_ways([&](auto isa, float* out, int lanes, std::size_t lane) {
      const Array x = part(a, lanes, lane);
      const Array y = part(b, lanes, lane);
      alignas(64) std::array<float, 16> sums{};
      what == 3 ? lane_dot<float>(isa, x.data(), y.data(), kElements, lanes, sums.data())
                : lane_norm<float>(isa, x.data(), kElements, lanes, what, sums.data());
      std::copy_n(sums.begin(), lanes, out);
    });
    for (std::size_t l = 0; l < 16; ++l) {
      double sum = 0;
      for (std::int64_t e = 0; e < kElements; ++e) {
        const double v = at(a, e, l);
        sum = what == 0 ? std::max(sum, std::abs(v))
                        : sum + (what == 1 ? std::abs(v) : v * (what == 2 ? v : at(b, e, l)));
      }
      CHECK(static_cast<double>(got[l]) == doctest::Approx(what == 2 ? std::sqrt(sum) : sum).epsilon(1e-5));
    }
  }
}

TEST_CASE("lane state: directions of gradients of any size, and of none") {
  Array g = drawn(1);
  for (std::int64_t e = 0; e < kElements; ++e) {
    g[place(e, 2)] *= 1e-30f;
    g[place(e, 3)] *= 1e30f;
    g[place(e, 4)] = 0.0f;
  }
  g[place(1, 5)] = kNaN;
  g[place(1, 6)] = kInfinity;
  for (const int norm : {0, 1, 2}) {
    const Array got = all_ways([&](auto isa, float* out, int lanes, std::size_t lane) {
      const Array x = part(g, lanes, lane);
      lane_direction<float>(isa, out, x.data(), kElements, lanes, norm);
    });
    for (std::size_t l = 0; l < 16; ++l) {
      double length = 0;
      for (std::int64_t e = 0; e < kElements; ++e) {
        const double v = at(g, e, l);
        length += norm == 1 ? std::abs(v) : v * v;
      }
      length = norm == 0 ? 1.0 : norm == 1 ? length : std::sqrt(length);
      for (std::int64_t e = 0; e < kElements; ++e) {
        const double v = at(g, e, l);
        if (l < 4 || l > 6) {
          const double want = norm == 0 ? (v > 0 ? 1.0 : v < 0 ? -1.0 : 0.0) : v / length;
          CHECK(std::abs(at(got, e, l) - want) < 1e-6);
        } else if (l == 4 || norm != 0) {
          CHECK(at(got, e, l) == 0.0);
        }
      }
    }
  }
}

TEST_CASE("lane state: projections on balls of radii of their own") {
  const Array x = drawn(1, -0.5, 1.5);
  const Array center = drawn(2, 0.0, 1.0);
  for (const int norm : {0, 2}) {
    const Factors radius(3, 0.0, norm == 0 ? 0.5 : 5.0);
    const Array got = all_ways([&](auto isa, float* out, int lanes, std::size_t lane) {
      const Array from = part(x, lanes, lane);
      const Array c = part(center, lanes, lane);
      std::copy_n(from.begin(), kElements * lanes, out);
      alignas(64) const auto r = radius.from(lane);
      lane_project<float>(isa, out, c.data(), kElements, lanes, norm, r.data(), 0.0f, 1.0f);
    });
    for (std::size_t l = 0; l < 16; ++l) {
      const auto r = static_cast<double>(radius.value[l]);
      double length = 0;
      for (std::int64_t e = 0; e < kElements; ++e) {
        length += std::pow(at(x, e, l) - at(center, e, l), 2);
      }
      for (std::int64_t e = 0; e < kElements; ++e) {
        const double d = at(x, e, l) - at(center, e, l);
        const double moved = norm == 0 ? std::clamp(d, -r, r) : d * std::min(1.0, r / std::sqrt(length));
        CHECK(std::abs(at(got, e, l) - std::clamp(at(center, e, l) + moved, 0.0, 1.0)) < 1e-6);
      }
    }
  }
}
