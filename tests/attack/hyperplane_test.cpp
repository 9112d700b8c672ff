// SPDX-License-Identifier: MIT
// The move to a hyperplane within the pixel box, in Linf, L2 and L1, against an oracle that sorts, in double.
#include "pavise/attack/hyperplane.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <vector>

#include "attack/attack_checks.hpp"
#include "pavise/core/philox.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Norm;
using attack_checks::kNorms;
using attack_checks::norm_of;

namespace {

/// The least norm of moves t, 0 <= t_e <= room_e, with sum slope_e t_e = gain, by sorting. Infinite where none is left.
double least_move(Norm norm, const std::vector<double>& slope, const std::vector<double>& room, double gain) {
  std::vector<std::size_t> order(slope.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::erase_if(order, [&](std::size_t e) { return slope[e] == 0.0; });
  const auto turn = [&](std::size_t e) {  // the multiplier at which element e meets its wall, or is taken
    return norm == Norm::linf ? room[e] : norm == Norm::l2 ? room[e] / slope[e] : -slope[e];
  };
  std::sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return turn(a) < turn(b); });
  double left = gain;
  double length = 0;
  for (std::size_t at = 0; at < order.size(); ++at) {
    const std::size_t e = order[at];
    if (norm == Norm::l1) {
      if (slope[e] * room[e] >= left) {
        return length + left / slope[e];
      }
      length += room[e];
    } else {
      double growth = 0;
      for (std::size_t later = at; later < order.size(); ++later) {
        growth += norm == Norm::l2 ? slope[order[later]] * slope[order[later]] : slope[order[later]];
      }
      const double multiplier = left / growth;
      if (multiplier <= turn(e)) {
        return norm == Norm::linf ? multiplier : std::sqrt(length + multiplier * multiplier * growth);
      }
      length += room[e] * room[e];
    }
    left -= slope[e] * room[e];
  }
  return std::numeric_limits<double>::infinity();
}

struct Found {
  double distance = 0;  ///< worst relative error
  double gain = 0;
};

/// Sixteen problems of n elements, solved side by side and one by one; the worst errors against the oracle.
Found check_moves(Norm norm, std::int64_t n, std::uint32_t kind) {
  const auto threat = attack::Threat(norm, 0.5, -0.25, 1.0);
  std::vector<float> x(static_cast<std::size_t>(n * 16)), w(x.size()), d(x.size());
  attack::PerLane<float> gain{};
  for (std::int64_t lane = 0; lane < 16; ++lane) {
    pv::RandomSequence random({.seed = kind, .purpose = pv::Purpose::test, .image = static_cast<std::uint32_t>(lane)});
    double reach = 0;
    for (std::int64_t e = 0; e < n; ++e) {
      const auto i = static_cast<std::size_t>(e * 16 + lane);
      x[i] = static_cast<float>(std::clamp(random.uniform(-0.5, 1.25), threat.low, threat.high));  // many at the walls
      const double u = random.normal();
      w[i] = static_cast<float>(kind == 0   ? u
                                : kind == 1 ? std::pow(u, 7) * 1e-12  // heavy tails, and very small
                                : kind == 2 ? std::round(u)           // ties and zeros
                                : kind == 3 ? std::copysign(std::exp(-20.0 * std::abs(u)), u) * 1e12
                                            : std::copysign(0.3, u));  // all equal
      reach += std::abs(static_cast<double>(w[i])) * static_cast<double>(w[i] > 0   ? 1.0f - x[i]
                                                                         : w[i] < 0 ? x[i] + 0.25f
                                                                                    : 0.0f);
    }
    const double share = lane == 0 ? 0.0 : lane == 15 ? 1.5 : std::pow(10.0, -0.4 * static_cast<double>(15 - lane));
    gain[static_cast<std::size_t>(lane)] = static_cast<float>((lane % 2 == 0 ? reach : -reach) * share);
  }
  Found worst;
  // The gains of odd lanes are negative: w.x has to fall.
  attack::hyperplane_move(threat, d.data(), x.data(), w.data(), n, 16, gain);
  for (std::int64_t lane = 0; lane < 16; ++lane) {
    std::vector<float> x1, w1, d1(static_cast<std::size_t>(n));
    std::vector<double> slope, room, move;
    const double wanted = static_cast<double>(gain[static_cast<std::size_t>(lane)]);
    double got = 0;
    double corner = 0;
    bool inside = true;
    for (std::int64_t e = 0; e < n; ++e) {
      const auto i = static_cast<std::size_t>(e * 16 + lane);
      x1.push_back(x[i]);
      w1.push_back(w[i]);
      const double g = static_cast<double>(w[i]) * (wanted < 0 ? -1.0 : 1.0);
      slope.push_back(std::abs(g));
      room.push_back(g > 0 ? 1.0 - static_cast<double>(x[i]) : static_cast<double>(x[i]) + 0.25);
      move.push_back(static_cast<double>(d[i]));
      got += static_cast<double>(w[i]) * static_cast<double>(d[i]);
      corner += slope.back() * room.back();
      inside = inside && x[i] + d[i] <= 1.0f + 1e-6f && x[i] + d[i] >= -0.25f - 1e-6f;
    }
    CHECK(inside);
    attack::PerLane<float> gain1{};
    gain1[0] = gain[static_cast<std::size_t>(lane)];
    attack::hyperplane_move(threat, d1.data(), x1.data(), w1.data(), n, 1, gain1);
    bool same = true;
    for (std::int64_t e = 0; e < n; ++e) {
      same = same && d1[static_cast<std::size_t>(e)] == d[static_cast<std::size_t>(e * 16 + lane)];
    }
    CHECK_MESSAGE(same, "lane ", lane, " alone, n = ", n);
    const double least = least_move(norm, slope, room, std::abs(wanted));
    if (corner < std::abs(wanted)) {
      CHECK(std::abs(got) == doctest::Approx(corner).epsilon(1e-5));  // all the way to the corner
    } else if (wanted == 0.0 || corner == 0.0) {
      CHECK(norm_of(norm, move) == 0.0);
    } else {
      worst.gain = std::max(worst.gain, std::abs(got / wanted - 1.0));
      worst.distance = std::max(worst.distance, std::abs(norm_of(norm, move) / least - 1.0));
    }
  }
  return worst;
}

}  // namespace

TEST_CASE("hyperplane: the move to a hyperplane within the box is the shortest") {
  for (const Norm norm : kNorms) {
    Found worst;
    for (const std::int64_t n : {1, 2, 7, 300, 3072}) {
      for (const std::uint32_t kind : {0u, 1u, 2u, 3u, 4u}) {
        const Found found = check_moves(norm, n, kind);
        worst = {std::max(worst.distance, found.distance), std::max(worst.gain, found.gain)};
      }
    }
    MESSAGE(attack::norm_name(norm), ": worst relative error of the length ", worst.distance, ", of the gain ",
            worst.gain);
    CHECK(worst.distance < 2e-5);
    CHECK(worst.gain < 2e-5);
  }
}

namespace {

/// The move of one image of n elements, alone.
std::vector<float> move_of(Norm norm, const std::vector<float>& x, const std::vector<float>& w, float gain) {
  std::vector<float> d(x.size() + 15), from(x), normal(w);
  from.resize(d.size());  // a kernel with one lane may read on
  normal.resize(d.size());
  attack::PerLane<float> gains{};
  gains[0] = gain;
  attack::hyperplane_move(attack::Threat(norm, 0.5), d.data(), from.data(), normal.data(),
                          static_cast<std::int64_t>(x.size()), 1, gains);
  d.resize(x.size());
  return d;
}

}  // namespace

TEST_CASE("hyperplane: answers that are known") {
  const std::vector<float> x{0.5f, 0.5f, 0.5f, 0.5f};
  const std::vector<float> w{3.0f, -1.0f, 0.0f, 2.0f};
  // Far from the walls: gain / ||w||_1 each, gain w / ||w||_2^2, and the steepest element alone.
  CHECK(move_of(Norm::linf, x, w, 1.2f)[0] == doctest::Approx(0.2));
  CHECK(move_of(Norm::linf, x, w, 1.2f)[1] == doctest::Approx(-0.2));
  CHECK(move_of(Norm::linf, x, w, 1.2f)[2] == 0.0f);
  CHECK(move_of(Norm::l2, x, w, 1.4f)[0] == doctest::Approx(0.3));
  CHECK(move_of(Norm::l2, x, w, 1.4f)[3] == doctest::Approx(0.2));
  CHECK(move_of(Norm::l1, x, w, -0.9f) == std::vector<float>{-0.3f, 0.0f, 0.0f, 0.0f});
  // The steepest at its wall, the next one takes the rest: 1.5 + 2 * 0.25.
  const auto two = move_of(Norm::l1, x, w, 2.0f);
  CHECK(two[0] == 0.5f);
  CHECK(two[3] == doctest::Approx(0.25));
  CHECK(two[1] == 0.0f);
  // Equals share what is left.
  CHECK(move_of(Norm::l1, x, {1, 1, -1, 0.5f}, 0.6f)[2] == doctest::Approx(-0.2));
}

TEST_CASE("hyperplane: where there is no move, no end, or no number") {
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  constexpr float kTiny = std::numeric_limits<float>::denorm_min();
  const std::vector<float> x{0.25f, 1.0f, 0.0f, 0.5f};
  const std::vector<float> none(4, 0.0f);
  const std::vector<float> corner{0.75f, 0.0f, 0.0f, -0.5f};
  for (const Norm norm : kNorms) {
    CAPTURE(attack::norm_name(norm));
    CHECK(move_of(norm, x, none, 1.0f) == none);                               // no normal
    CHECK(move_of(norm, x, {kTiny, 0, -kTiny, kTiny}, 1.0f) == none);          // one too small to divide by
    CHECK(move_of(norm, x, {1, 1, -1, -1}, 0.0f) == none);                     // there already
    CHECK(move_of(norm, x, {0, 1, -1, 0}, 1.0f) == none);                      // at the walls already
    CHECK(move_of(norm, x, {1, 1, -1, -1}, 1e30f) == corner);                  // beyond the box
    CHECK(move_of(norm, x, {2, 1, -5, -1e-3f}, kInfinity) == corner);          // infinitely far
    CHECK(move_of(norm, x, {1, 0, 0, -1e-30f}, 10.0f) == corner);              // slopes that differ beyond measure
    CHECK(move_of(norm, x, {1e30f, 1e20f, -1e38f, -1e38f}, 3e38f) == corner);  // near the end of the range
    const auto one = move_of(norm, {0.25f}, {-1e-6f}, 1e-7f);
    CHECK(one[0] == doctest::Approx(-0.1));
  }
}

TEST_CASE("hyperplane: lanes without numbers leave the others alone") {
  constexpr std::int64_t kSize = 40;
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  pv::RandomSequence random({.seed = 4, .purpose = pv::Purpose::test});
  std::vector<float> x(kSize * 16), w(x.size());
  attack::PerLane<float> gain{};
  for (std::size_t i = 0; i < x.size(); ++i) {
    x[i] = static_cast<float>(random.uniform());
    w[i] = static_cast<float>(random.normal());
  }
  for (std::size_t lane = 0; lane < 16; ++lane) {
    gain[lane] = static_cast<float>(lane) - 7.5f;
  }
  for (const Norm norm : kNorms) {
    const attack::Threat threat(norm, 0.5);
    std::vector<float> expected(x.size()), got(x.size());
    attack::hyperplane_move(threat, expected.data(), x.data(), w.data(), kSize, 16, gain);
    auto bad_x = x;
    auto bad_w = w;
    auto bad_gain = gain;
    bad_x[5 * 16 + 1] = kNan;
    bad_w[7 * 16 + 3] = kNan;
    bad_w[7 * 16 + 4] = kInfinity;
    bad_gain[6] = kNan;
    bad_gain[8] = -kInfinity;
    attack::hyperplane_move(threat, got.data(), bad_x.data(), bad_w.data(), kSize, 16, bad_gain);
    for (const std::size_t lane : {0, 2, 5, 7, 9, 10, 11, 12, 13, 14, 15}) {
      for (std::size_t i = lane; i < x.size(); i += 16) {
        CHECK(std::memcmp(&got[i], &expected[i], sizeof(float)) == 0);
      }
    }
  }
}
