// SPDX-License-Identifier: MIT
// Steps, projections and random starts (attack/threat.hpp, kernels attack_step.inl) against plain loops in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

#include "attack/attack_checks.hpp"
#include "pavise/attack/run.hpp"
#include "pavise/attack/threat.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/core/tensor.hpp"

namespace pv = pavise;
using attack_checks::norm_of;
using pv::attack::Norm;
using pv::attack::Threat;

namespace {

using Doubles = std::vector<double>;

double draw(std::uint32_t which, std::int64_t lane, std::int64_t e, double low, double high) {
  const pv::RandomKey key{
      .seed = 7, .purpose = pv::Purpose::test, .image = static_cast<std::uint32_t>(lane), .iteration = which};
  return low + (high - low) *
                   (static_cast<double>(pv::random_block(key, static_cast<std::uint32_t>(e))[0] >> 8) + 0.5) * 0x1p-24;
}

/// The point of the ball and the box [0,1] that projection is to give for center c moved by d. Linf and L2: the nearest
/// of the ball, clipped. L1: the nearest of both together, c + sign(d_i) min(room_i, max(|d_i| - t, 0)) with the least
/// t >= 0 that the ball admits, exact: the length is linear in t between the sorted breakpoints |d_i| and
/// |d_i| - room_i. That this form is the nearest point is the brute-force test's to show.
Doubles project(Norm norm, const Doubles& c, const Doubles& d, double epsilon, double low = 0, double high = 1) {
  Doubles out = c;
  if (norm != Norm::l1) {
    const double n = norm_of(norm, d);
    for (std::size_t i = 0; i < d.size(); ++i) {
      const double moved = norm == Norm::linf ? std::clamp(d[i], -epsilon, epsilon)
                           : n > epsilon      ? d[i] * epsilon / n
                                              : d[i];
      out[i] = std::clamp(c[i] + moved, low, high);
    }
    return out;
  }
  const auto move = [&](std::size_t i, double t) {
    return std::min(d[i] > 0 ? high - c[i] : c[i] - low, std::max(std::abs(d[i]) - t, 0.0));
  };
  const auto length = [&](double t) {
    double sum = 0;
    for (std::size_t i = 0; i < d.size(); ++i) {
      sum += move(i, t);
    }
    return sum;
  };
  double threshold = 0;
  if (length(0) > epsilon) {
    Doubles points{0.0};
    for (std::size_t i = 0; i < d.size(); ++i) {
      points.push_back(std::abs(d[i]));
      points.push_back(std::max(std::abs(d[i]) - (d[i] > 0 ? high - c[i] : c[i] - low), 0.0));
    }
    std::sort(points.begin(), points.end());
    std::size_t k = 0;
    while (length(points[k + 1]) > epsilon) {
      ++k;
    }
    const double above = length(points[k]);
    const double below = length(points[k + 1]);
    threshold = points[k] + (points[k + 1] - points[k]) * (above - epsilon) / (above - below);
  }
  for (std::size_t i = 0; i < d.size(); ++i) {
    out[i] = c[i] + std::copysign(move(i, threshold), d[i]);
  }
  return out;
}

/// One group of images: [n][lanes].
struct Group {
  Group(std::int64_t n_, int lanes_) : n(n_), lanes(lanes_), values(static_cast<std::size_t>((n_ + 2) * lanes_) + 16) {}
  template <class F>
  Group& fill(const F& f) {
    for (std::int64_t e = 0; e < n; ++e) {
      for (int lane = 0; lane < lanes; ++lane) {
        values[static_cast<std::size_t>(e * lanes + lane)] = static_cast<float>(f(lane, e));
      }
    }
    return *this;
  }
  Doubles image(int lane) const {
    Doubles out;
    for (std::int64_t e = 0; e < n; ++e) {
      out.push_back(static_cast<double>(values[static_cast<std::size_t>(e * lanes + lane)]));
    }
    return out;
  }
  float* data() { return values.data(); }
  std::int64_t n;
  int lanes;
  pv::AlignedVector<float> values;
};

Doubles minus(const Doubles& a, const Doubles& b) {
  Doubles out;
  for (std::size_t i = 0; i < a.size(); ++i) {
    out.push_back(a[i] - b[i]);
  }
  return out;
}

}  // namespace

TEST_CASE("projection: the nearest point of the ball, clipped to the box; in L1 the nearest of both together") {
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    for (const int lanes : {16, 1}) {
      for (const std::int64_t n : {1, 2, 7, 48}) {
        for (const double epsilon : {0.0, 0.05, 0.4, 0.9}) {
          CAPTURE(std::string(pv::attack::norm_name(norm)));
          CAPTURE(lanes);
          CAPTURE(n);
          CAPTURE(epsilon);
          const Threat threat(norm, epsilon);
          Group center(n, lanes), x(n, lanes);
          center.fill([](auto lane, auto e) { return draw(0, lane, e, 0, 1); });
          x.fill([](auto lane, auto e) { return draw(1, lane, e, -0.5, 1.5); });
          const Group before = x;
          pv::attack::step(threat, x.data(), nullptr, center.data(), n, lanes, 0);
          for (int lane = 0; lane < lanes; ++lane) {
            const auto c = center.image(lane);
            const auto want = project(norm, c, minus(before.image(lane), c), epsilon);
            const auto got = x.image(lane);
            double worst = 0;
            for (std::size_t e = 0; e < want.size(); ++e) {
              worst = std::max(worst, std::abs(got[e] - want[e]));
              CHECK((got[e] >= 0 && got[e] <= 1));
            }
            CHECK(worst < 3e-6);
            CHECK(norm_of(norm, minus(got, c)) <= epsilon + 2e-6);
          }
        }
      }
    }
  }
}

TEST_CASE("projection: no point of the ball is nearer") {
  // Brute force in two dimensions, in a wide box.
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    CAPTURE(std::string(pv::attack::norm_name(norm)));
    const Threat threat(norm, 0.5, -10, 10);
    Group center(2, 16), x(2, 16);
    center.fill([](auto, auto) { return 0.0; });
    x.fill([](auto lane, auto e) { return draw(2, lane, e, -1.5, 1.5); });
    const Group before = x;
    pv::attack::step(threat, x.data(), nullptr, center.data(), 2, 16, 0);
    for (int lane = 0; lane < 16; ++lane) {
      const auto from = before.image(lane);
      const double got = norm_of(Norm::l2, minus(x.image(lane), from));
      double best = 1e9;
      for (int i = -100; i <= 100; ++i) {
        for (int j = -100; j <= 100; ++j) {
          const Doubles p{0.005 * i, 0.005 * j};
          best = norm_of(norm, p) <= 0.5 ? std::min(best, norm_of(Norm::l2, minus(p, from))) : best;
        }
      }
      CHECK(got <= best + 1e-6);
      CHECK(got >= best - 0.01);  // the grid's resolution
    }
  }
}

TEST_CASE("projection: in L1 no point of ball and box is nearer") {
  // Brute force in two dimensions, with centers near the walls and at them.
  const Threat threat(Norm::l1, 0.5);
  Group center(2, 16), x(2, 16);
  center.fill([](auto lane, auto e) { return lane == e ? 0.0 : lane == e + 4 ? 1.0 : draw(8, lane, e, 0, 1); });
  x.fill([](auto lane, auto e) { return draw(9, lane, e, -1, 2); });
  const Group before = x;
  pv::attack::step(threat, x.data(), nullptr, center.data(), 2, 16, 0);
  int on_wall = 0;
  for (int lane = 0; lane < 16; ++lane) {
    CAPTURE(lane);
    const auto from = before.image(lane);
    const auto c = center.image(lane);
    const auto got = x.image(lane);
    on_wall += std::any_of(got.begin(), got.end(), [](double v) { return v == 0.0 || v == 1.0; }) ? 1 : 0;
    double best = 1e9;
    for (int i = -200; i <= 200; ++i) {
      for (int j = -200; j <= 200; ++j) {
        const Doubles d{0.0025 * i, 0.0025 * j};
        const Doubles p{std::clamp(c[0] + d[0], 0.0, 1.0), std::clamp(c[1] + d[1], 0.0, 1.0)};
        best = norm_of(Norm::l1, minus(p, c)) <= 0.5 ? std::min(best, norm_of(Norm::l2, minus(p, from))) : best;
      }
    }
    const double distance = norm_of(Norm::l2, minus(got, from));
    CHECK(distance <= best + 1e-6);
    CHECK(distance >= best - 0.005);  // the grid's resolution
  }
  CHECK(on_wall >= 4);
}

TEST_CASE("projection: in L1 exact at the extremes, and never outside the ball by more than rounding") {
  constexpr double kUnit = std::numeric_limits<float>::epsilon();
  struct Case {
    const char* what;
    std::int64_t n;
    double epsilon;
    double (*center)(std::int64_t lane, std::int64_t e);
    double (*x)(std::int64_t lane, std::int64_t e);
  };
  const auto inner = [](std::int64_t lane, std::int64_t e) { return draw(10, lane, e, 0.4, 0.6); };
  const auto any = [](std::int64_t lane, std::int64_t e) { return draw(11, lane, e, 0, 1); };
  const auto far = [](std::int64_t lane, std::int64_t e) { return draw(12, lane, e, -3, 4); };
  const Case cases[] = {
      {"radius 0", 31, 0.0, any, far},
      {"a radius near the smallest numbers", 31, 1e-30, any, far},
      {"a tiny radius", 31, 1e-6, any, far},
      {"inside the ball", 31, 5.0, inner, [](auto lane, auto e) { return draw(13, lane, e, 0.35, 0.65); }},
      {"inside the ball, outside the box", 31, 40.0, any, far},
      {"the point is the center", 31, 0.5, any, any},
      {"every coordinate at a wall, moved outwards", 31, 0.5, [](auto, auto e) { return e % 2 == 0 ? 0.0 : 1.0; },
       [](auto lane, auto e) { return e % 2 == 0 ? draw(14, lane, e, -2, 0) : draw(14, lane, e, 1, 3); }},
      {"every coordinate at a wall, moved anywhere", 31, 0.5, [](auto, auto e) { return e % 2 == 0 ? 0.0 : 1.0; }, far},
      {"moved to a wall each", 31, 7.0, any, [](auto, auto e) { return e % 3 == 0 ? -50.0 : 50.0; }},
      {"all moved alike", 31, 0.5, [](auto, auto) { return 0.5; }, [](auto, auto e) { return e % 2 == 0 ? 0.4 : 0.6; }},
      {"one coordinate", 1, 0.25, any, far},
      {"one far coordinate among near ones", 31, 0.3, inner,
       [](auto lane, auto e) { return e == 7 ? 1e6 : draw(15, lane, e, 0.39, 0.61); }},
      {"magnitudes from 1e-6 to 1", 64, 0.01, inner,
       [](auto lane, auto e) {
         return 0.5 + draw(16, lane, e, -1, 1) * std::pow(10.0, -0.1 * static_cast<double>(e));
       }},
      {"many coordinates", 3072, 12.0, any, far},
      {"many small moves", 3072, 12.0, inner, [](auto lane, auto e) { return draw(10, lane, e, 0.4, 0.6) + 0.005; }},
  };
  for (const Case& k : cases) {
    for (const int lanes : {16, 1}) {
      CAPTURE(k.what);
      CAPTURE(lanes);
      Group center(k.n, lanes), x(k.n, lanes);
      center.fill(k.center);
      x.fill(k.x);
      const Group before = x;
      pv::attack::step(Threat(Norm::l1, k.epsilon), x.data(), nullptr, center.data(), k.n, lanes, 0);
      for (int lane = 0; lane < lanes; ++lane) {
        const auto c = center.image(lane);
        const auto from = before.image(lane);
        const auto got = x.image(lane);
        const auto epsilon = static_cast<double>(static_cast<float>(k.epsilon));
        const auto want = project(Norm::l1, c, minus(from, c), epsilon);
        double worst = 0;
        double sum = 0;
        double wanted = 0;
        float in_float = 0;
        for (std::size_t e = 0; e < got.size(); ++e) {
          worst = std::max(worst, std::abs(got[e] - want[e]));
          sum += std::abs(got[e] - c[e]);
          wanted += std::abs(want[e] - c[e]);
          in_float += std::abs(static_cast<float>(got[e]) - static_cast<float>(c[e]));
          CHECK((got[e] >= 0 && got[e] <= 1));
        }
        // The threshold errs by a few units of the last place of what it is taken from; a stored pixel by half of one.
        const double size = std::max(1.0, norm_of(Norm::linf, minus(from, c)));
        CHECK(worst <= 8 * kUnit * size);
        CHECK(sum <= epsilon * (1 + 1e-6) + kUnit * static_cast<double>(k.n) / 2);
        CHECK(pv::attack::within(Threat(Norm::l1, k.epsilon), in_float));
        CHECK(sum >= wanted * (1 - 1e-4) - kUnit * size * static_cast<double>(k.n));
        if (k.epsilon == 0.0) {
          CHECK(got == c);
        } else if (std::string(k.what) == "inside the ball") {
          CHECK(got == from);  // not a bit
        }
      }
    }
  }
}

TEST_CASE("projection: what is not a number in one lane leaves its neighbours as they are, and no lane outside") {
  constexpr std::int64_t kN = 33;
  const double inf = std::numeric_limits<double>::infinity();
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    CAPTURE(std::string(pv::attack::norm_name(norm)));
    const Threat threat(norm, norm == Norm::linf ? 0.1 : 0.6);
    Group center(kN, 16), x(kN, 16);
    center.fill([](auto lane, auto e) { return draw(17, lane, e, 0, 1); });
    x.fill([](auto lane, auto e) { return draw(18, lane, e, -1, 2); });
    Group spoilt = x;
    pv::attack::step(threat, x.data(), nullptr, center.data(), kN, 16, 0);
    for (const double bad : {std::nan(""), inf, -inf}) {
      CAPTURE(bad);
      Group y = spoilt;
      for (const std::int64_t e : {0, 5, 32}) {
        y.values[static_cast<std::size_t>(e * 16 + 3)] = static_cast<float>(bad);
      }
      pv::attack::step(threat, y.data(), nullptr, center.data(), kN, 16, 0);
      for (int lane = 0; lane < 16; ++lane) {
        if (lane != 3) {
          CHECK(y.image(lane) == x.image(lane));
        }
        for (const double v : y.image(lane)) {
          CHECK((v >= 0 && v <= 1));
        }
      }
    }
  }
}

TEST_CASE("step: along the sign, the gradient, the largest coordinate") {
  constexpr std::int64_t kN = 9;
  for (const int lanes : {16, 1}) {
    CAPTURE(lanes);
    Group center(kN, lanes), gradient(kN, lanes);
    center.fill([](auto lane, auto e) { return draw(3, lane, e, 0.3, 0.7); });
    gradient.fill([](auto lane, auto e) { return e == 4 ? 0.0 : draw(4, lane, e, -1, 1); });
    for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
      CAPTURE(std::string(pv::attack::norm_name(norm)));
      Group x = center;
      pv::attack::step(Threat(norm, 0.2), x.data(), gradient.data(), center.data(), kN, lanes, 0.1);
      for (int lane = 0; lane < lanes; ++lane) {
        const auto g = gradient.image(lane);
        const auto d = minus(x.image(lane), center.image(lane));
        std::size_t largest = 0;
        for (std::size_t e = 0; e < g.size(); ++e) {
          largest = std::abs(g[e]) > std::abs(g[largest]) ? e : largest;
        }
        for (std::size_t e = 0; e < g.size(); ++e) {
          const double sign = g[e] > 0 ? 1 : g[e] < 0 ? -1 : 0;
          const double expected = norm == Norm::linf ? 0.1 * sign
                                  : norm == Norm::l2 ? 0.1 * g[e] / norm_of(Norm::l2, g)
                                                     : (e == largest ? 0.1 * sign : 0.0);
          CHECK(d[e] == doctest::Approx(expected).epsilon(1e-5).scale(1));
        }
      }
    }
  }
}

TEST_CASE("step: in L1 the steepest coordinate that can still move, then the nearest point of ball and box") {
  constexpr std::int64_t kN = 12;
  const Threat threat(Norm::l1, 0.6);
  Group center(kN, 16), gradient(kN, 16), x(kN, 16);
  center.fill([](auto lane, auto e) { return (lane + e) % 3 == 0 ? 1.0 : draw(20, lane, e, 0, 1); });
  gradient.fill([](auto lane, auto e) { return draw(21, lane, e, -1, 1); });
  x.fill([](auto lane, auto e) { return (lane + e) % 4 == 0 ? 1.0 : draw(22, lane, e, 0, 1); });
  const Group before = x;
  pv::attack::step(threat, x.data(), gradient.data(), center.data(), kN, 16, 0.3, 0.0f);
  for (int lane = 0; lane < 16; ++lane) {
    const auto c = center.image(lane);
    const auto g = gradient.image(lane);
    auto moved = before.image(lane);
    std::size_t steepest = moved.size();
    for (std::size_t e = 0; e < moved.size(); ++e) {
      const bool free = g[e] > 0 ? moved[e] < 1 : moved[e] > 0;
      steepest = free && (steepest == moved.size() || std::abs(g[e]) > std::abs(g[steepest])) ? e : steepest;
    }
    REQUIRE(steepest < moved.size());
    moved[steepest] += std::copysign(0.3, g[steepest]);
    const auto want = project(Norm::l1, c, minus(moved, c), 0.6);
    const auto got = x.image(lane);
    for (std::size_t e = 0; e < want.size(); ++e) {
      CHECK(std::abs(got[e] - want[e]) < 1e-6);
    }
  }
}

TEST_CASE(
    "step: a gradient that is not finite moves nothing out of the ball, a small one moves as far as a large one") {
  constexpr std::int64_t kN = 9;
  const double inf = std::numeric_limits<double>::infinity();
  for (const int lanes : {16, 1}) {
    CAPTURE(lanes);
    Group center(kN, lanes), gradient(kN, lanes);
    center.fill([](auto lane, auto e) { return draw(3, lane, e, 0.3, 0.7); });
    for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
      CAPTURE(std::string(pv::attack::norm_name(norm)));
      const Threat threat(norm, 0.1);
      for (const double bad : {std::nan(""), inf, -inf}) {
        CAPTURE(bad);
        gradient.fill([&](auto lane, auto e) { return e == 4 ? bad : draw(4, lane, e, -1, 1); });
        Group x = center;
        pv::attack::step(threat, x.data(), gradient.data(), center.data(), kN, lanes, 0.05);
        for (int lane = 0; lane < lanes; ++lane) {
          CHECK(norm_of(norm, minus(x.image(lane), center.image(lane))) <= 0.1 + 1e-6);
        }
      }
      for (const double size : {1e-30, 1e-10, 1e10, 1e30}) {
        CAPTURE(size);
        gradient.fill([&](auto lane, auto e) { return size * draw(4, lane, e, -1, 1); });
        Group x = center;
        pv::attack::step(threat, x.data(), gradient.data(), center.data(), kN, lanes, 0.05);
        for (int lane = 0; lane < lanes; ++lane) {
          CHECK(norm_of(norm, minus(x.image(lane), center.image(lane))) == doctest::Approx(0.05).epsilon(1e-4));
        }
      }
    }
  }
}

TEST_CASE("random start: within ball and box, mean 0, keyed by the image and not by its lane") {
  constexpr std::int64_t kN = 12;
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    CAPTURE(std::string(pv::attack::norm_name(norm)));
    const Threat wide(norm, 0.3, -5, 5);
    Group center(kN, 16);
    center.fill([](auto, auto) { return 0.5; });
    double sum = 0, largest = 0, mean_norm = 0;
    constexpr std::uint32_t kGroups = 200;
    for (std::uint32_t group = 0; group < kGroups; ++group) {
      std::uint32_t ids[16];
      std::uint32_t restarts[16] = {};
      for (std::uint32_t lane = 0; lane < 16; ++lane) {
        ids[lane] = group * 16 + lane;
      }
      Group x(kN, 16);
      pv::attack::random_start(wide, x.data(), center.data(), kN, 16, {3, 5, 1, ids, restarts});
      for (int lane = 0; lane < 16; ++lane) {
        const auto d = minus(x.image(lane), center.image(lane));
        const double size = norm_of(norm, d);
        CHECK(size <= 0.3 + 1e-6);
        largest = std::max(largest, size);
        mean_norm += size / (16 * kGroups);
        for (const double v : d) {
          sum += v;
        }
      }
      if (group == 0) {
        // The same image alone, and in another lane beside others.
        for (int lane = 0; lane < 16; ++lane) {
          Group alone(kN, 1), one(kN, 1);
          one.fill([](auto, auto) { return 0.5; });
          pv::attack::random_start(wide, alone.data(), one.data(), kN, 1, {3, 5, 1, ids + lane, restarts});
          CHECK(alone.image(0) == x.image(lane));
        }
        std::uint32_t reversed[16];
        std::reverse_copy(ids, ids + 16, reversed);
        Group y(kN, 16);
        pv::attack::random_start(wide, y.data(), center.data(), kN, 16, {3, 5, 1, reversed, restarts});
        CHECK(y.image(3) == x.image(12));
        restarts[2] = 1;
        Group z(kN, 16);
        pv::attack::random_start(wide, z.data(), center.data(), kN, 16, {3, 5, 1, ids, restarts});
        CHECK(z.image(2) != x.image(2));
        CHECK(z.image(1) == x.image(1));
      }
    }
    // 38,400 draws of at most 0.3: four standard errors of the mean are at most 0.0062, in L1 much less.
    CHECK(std::abs(sum / (16.0 * kGroups * kN)) < 0.004);
    CHECK(largest > 0.28);
    // A uniform point of a ball in n dimensions has a mean distance of n/(n+1) radii, in any of the norms.
    CHECK(mean_norm == doctest::Approx(0.3 * kN / (kN + 1)).epsilon(0.01));

    const Threat tight(norm, 0.3);
    Group corner(kN, 16), x(kN, 16);
    corner.fill([](auto, auto e) { return e % 2 == 0 ? 0.0 : 1.0; });
    std::uint32_t ids[16] = {};
    const std::uint32_t restarts[16] = {};
    ids[5] = 9;
    pv::attack::random_start(tight, x.data(), corner.data(), kN, 16, {3, 5, 1, ids, restarts});
    for (int lane = 0; lane < 16; ++lane) {
      for (const double v : x.image(lane)) {
        CHECK((v >= 0 && v <= 1));
      }
    }
  }
}

TEST_CASE("distances: of each lane, in the threat's norm") {
  Group center(7, 16), x(7, 16);
  center.fill([](auto lane, auto e) { return draw(5, lane, e, 0, 1); });
  x.fill([](auto lane, auto e) { return draw(6, lane, e, 0, 1); });
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    alignas(64) float out[16];
    pv::attack::distances(Threat(norm, 0.1), x.data(), center.data(), 7, 16, out);
    for (int lane = 0; lane < 16; ++lane) {
      CHECK(static_cast<double>(out[lane]) == doctest::Approx(norm_of(norm, minus(x.image(lane), center.image(lane)))));
    }
  }
}

TEST_CASE("threat: what is not a radius of these pixels is refused") {
  CHECK_THROWS_WITH_AS(pv::attack::linf(8), doctest::Contains("8/255"), pv::ValueError);
  CHECK_NOTHROW(pv::attack::linf(8, 0, 255));
  CHECK_NOTHROW(pv::attack::l2(8));  // an L2 radius may exceed the box
  CHECK_THROWS_AS(pv::attack::linf(-0.1), pv::ValueError);
  CHECK_THROWS_AS(pv::attack::l2(std::nan("")), pv::ValueError);
  CHECK_THROWS_AS(pv::attack::l1(0.1, 1, 0), pv::ValueError);
  CHECK_THROWS_AS(pv::attack::linf(0.5).with_epsilon(2), pv::ValueError);
  CHECK(pv::attack::parse_norm("l2") == Norm::l2);
  CHECK_THROWS_WITH_AS(pv::attack::parse_norm("l3"), "unknown norm l3, expected linf, l2 or l1", pv::ValueError);
}
