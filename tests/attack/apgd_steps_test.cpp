// SPDX-License-Identifier: MIT
// Auto-PGD step by step against its algorithms written out in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>
#include <vector>

#include "attack/objective.hpp"
#include "pavise/attack/apgd.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Norm;
using attack_checks::Doubles;
using attack_checks::norm_of;
using attack_checks::Objective;
using attack_checks::quadratic;

namespace {

/// The points that Auto-PGD visits: all that it asked about but the judged one.
std::vector<Doubles> trace(Objective& f, attack::Threat threat, attack::ApgdOptions options,
                           const std::vector<float>& clean) {
  options.custom = Objective::loss();
  auto asked = f.trace(attack::Apgd(threat, options), clean);
  asked.pop_back();
  return asked;
}

/// The nearest point of ball and box (L2: of the ball, then of the box); L1 by bisection of the threshold.
Doubles project(const attack::Threat& threat, double epsilon, const Doubles& x, const Doubles& c) {
  Doubles out = x;
  const double length = norm_of(threat.norm, x, c);
  const auto at = [&](double threshold) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double d = x[i] - c[i];
      const double moved = threat.norm == Norm::linf ? std::clamp(d, -epsilon, epsilon)
                           : threat.norm == Norm::l2 ? d * std::min(1.0, epsilon / length)
                                                     : std::copysign(std::max(std::abs(d) - threshold, 0.0), d);
      out[i] = std::clamp(c[i] + moved, threat.low, threat.high);
    }
    return norm_of(threat.norm, out, c);
  };
  if (length == 0 || at(0) <= epsilon || threat.norm != Norm::l1) {
    return out;
  }
  double below = 0;
  double above = length;
  for (int round = 0; round < 100; ++round) {
    const double middle = 0.5 * (below + above);
    (at(middle) > epsilon ? below : above) = middle;
  }
  at(above);
  return out;
}

/// Algorithm 1 of Croce and Hein (2020) for Linf and L2, in double, from x: the points that it visits.
std::vector<Doubles> written_out(const Objective& f, const attack::Threat& threat, const Doubles& clean, Doubles x,
                                 int steps) {
  std::vector<int> checkpoints{0};  // w_j = p_j N, rounded down as in the authors' code
  for (int window = std::max(22 * steps / 100, 1); checkpoints.back() < steps;) {
    checkpoints.push_back(checkpoints.back() + window);
    window = std::max({window - std::max(3 * steps / 100, 1), 6 * steps / 100, 1});
  }
  std::vector<Doubles> visited{x};
  Doubles best = x, previous = x;
  double best_value = f.value(x, nullptr);
  double last = best_value;
  double best_before = best_value;
  double eta = 2 * threat.epsilon;
  bool halved = true;
  int increases = 0;
  std::size_t next = 1;
  for (int k = 0; k < steps; ++k) {
    Doubles g(x.size());
    f.value(x, &g);
    const double length = norm_of(Norm::l2, g, Doubles(g.size()));
    Doubles z = x;
    for (std::size_t i = 0; i < x.size(); ++i) {
      z[i] += eta * (threat.norm == Norm::linf ? (g[i] > 0) - (g[i] < 0) : g[i] / length);
    }
    z = project(threat, threat.epsilon, z, clean);
    Doubles v = z;
    for (std::size_t i = 0; i < x.size() && k > 0; ++i) {
      v[i] = x[i] + 0.75 * (z[i] - x[i]) + 0.25 * (x[i] - previous[i]);
    }
    previous = x;
    x = project(threat, threat.epsilon, v, clean);
    visited.push_back(x);
    const double value = f.value(x, nullptr);
    increases += value > last ? 1 : 0;
    last = value;
    if (value > best_value) {
      best_value = value;
      best = x;
    }
    if (k + 1 == checkpoints[next]) {
      const double window = checkpoints[next] - checkpoints[next - 1];
      const bool first = increases <= 0.75 * window;
      const bool second = !halved && best_value == best_before;
      halved = first || second;
      if (halved) {
        eta /= 2;
        x = best;
      }
      best_before = best_value;
      increases = 0;
      ++next;
    }
  }
  return visited;
}

/// L1-APGD of Croce and Hein (2021) for one radius, in double, from x. Returns its best point.
Doubles written_out_l1(const Objective& f, const attack::Threat& threat, double epsilon, const Doubles& clean,
                       Doubles x, int steps, bool fresh, std::vector<Doubles>& visited) {
  const auto moved = [&](const Doubles& p) {
    double count = 0;
    for (std::size_t i = 0; i < p.size(); ++i) {
      count += p[i] != clean[i] ? 1 : 0;
    }
    return count;
  };
  const auto n = static_cast<double>(x.size());
  double count = fresh ? std::ceil(0.2 * n) : std::max(1.0, std::ceil(moved(x) / 1.5));
  double moved_before = fresh ? n : moved(x);
  double eta = epsilon;
  visited.push_back(x);
  Doubles best = x;
  double best_value = f.value(x, nullptr);
  for (int k = 0; k < steps; ++k) {
    Doubles g(x.size());
    f.value(x, &g);
    std::vector<std::size_t> order(x.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(), [&](auto a, auto b) { return std::abs(g[a]) > std::abs(g[b]); });
    for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
      x[order[i]] += std::copysign(eta / count, g[order[i]]);
    }
    x = project(threat, epsilon, x, clean);
    visited.push_back(x);
    const double value = f.value(x, nullptr);
    if (value > best_value) {
      best_value = value;
      best = x;
    }
    if ((k + 1) % std::max(4 * steps / 100, 1) == 0) {
      const double now = moved(best);
      if (now < 0.95 * moved_before) {
        eta = epsilon;
        x = best;
      } else {
        eta = std::max(eta / 1.5, epsilon / 10);
      }
      count = std::max(1.0, std::ceil(now / 1.5));
      moved_before = now;
    }
  }
  return best;
}

double farthest(const std::vector<Doubles>& a, const std::vector<Doubles>& b) {
  REQUIRE(a.size() == b.size());
  double worst = 0;
  for (std::size_t k = 0; k < a.size(); ++k) {
    worst = std::max(worst, norm_of(Norm::linf, a[k], b[k]));
  }
  return worst;
}

std::vector<float> drawn_image(std::int64_t n, std::uint64_t seed) {
  const auto drawn = attack_checks::drawn_images(1, {1, 1, n}, seed);
  return {drawn.begin(), drawn.end()};
}

}  // namespace

TEST_CASE("apgd: checkpoints after 22, 41, 57, 70, 80, 87, 93 and 99 of 100 steps") {
  // The gradient leads away from the best point, the clean one: every checkpoint brings the search back to it and halves
  // the step, so that the next point is nearer than the one before. Within a window the points only move away.
  Objective away(1, [](const Doubles& x, Doubles* gradient) {
    if (gradient != nullptr) {
      (*gradient)[0] = 1;
    }
    return -std::abs(x[0] - 0.5);
  });
  const auto returns = [&](std::int64_t steps) {
    const auto points = trace(away, attack::linf(0.25), {.steps = steps, .random_start = false}, {0.5f});
    CHECK(points.size() == static_cast<std::size_t>(steps) + 1);
    CHECK(points[0][0] == 0.5);
    CHECK(points[1][0] == 0.75);
    std::vector<std::size_t> out;
    for (std::size_t k = 1; k < points.size(); ++k) {
      if (points[k][0] < points[k - 1][0]) {
        out.push_back(k - 1);
      }
    }
    return out;
  };
  CHECK(returns(100) == std::vector<std::size_t>{22, 41, 57, 70, 80, 87, 93, 99});
  CHECK(returns(50) == std::vector<std::size_t>{11, 21, 30, 38, 45});  // the next would be the last step
  CHECK(returns(5).front() == 1);
  // The first point after a checkpoint: 0.75 min(eta, epsilon) - 0.25 epsilon from the wall behind it, eta 1/2, 1/4, 1/8.
  const auto points = trace(away, attack::linf(0.25), {.steps = 100, .random_start = false}, {0.5f});
  CHECK(points[23][0] == doctest::Approx(0.5 + 0.75 * 0.25 - 0.25 * 0.25));
  CHECK(points[42][0] == doctest::Approx(0.5 + 0.75 * 0.125 - 0.25 * 0.25));
}

TEST_CASE("apgd: a best point that stands halves the step at every other checkpoint, though the loss rises") {
  // Less than at the start, but more with every step: only the second condition holds, which the checkpoint after a
  // halving leaves out, and the first one.
  int asked = 0;
  Objective rising(1, [&](const Doubles&, Doubles* gradient) {
    if (gradient != nullptr) {
      (*gradient)[0] = 1;
      return 0.0;
    }
    return ++asked <= 2 ? 0.0 : -1000.0 + asked;  // the clean image and the start
  });
  const auto points = trace(rising, attack::linf(0.25), {.steps = 100, .random_start = false}, {0.5f});
  std::vector<std::size_t> returns;
  for (std::size_t k = 1; k < points.size(); ++k) {
    if (points[k][0] < points[k - 1][0]) {
      returns.push_back(k - 1);
    }
  }
  CHECK(returns == std::vector<std::size_t>{41, 70, 87, 99});
}

TEST_CASE("apgd: step by step the published algorithm, in Linf and L2") {
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
      auto f = quadratic(7, seed);
      const auto clean = drawn_image(7, seed);
      const attack::Threat threat(norm, norm == Norm::linf ? 0.35 : 0.6);
      constexpr int kSteps = 40;
      const auto points = trace(f, threat, {.steps = kSteps}, clean);
      const Doubles center(clean.begin(), clean.end());
      CHECK(norm_of(norm, points[0], center) <= threat.epsilon * (1 + 1e-6));
      const double worst = farthest(points, written_out(f, threat, center, points[0], kSteps));
      MESSAGE(attack::norm_name(norm), " seed ", seed, ": ", worst);
      CHECK(worst < 2e-4);
    }
  }
}

TEST_CASE("apgd: step by step the published algorithm, in L1") {
  for (const bool larger : {true, false}) {
    for (const std::uint64_t seed : {1, 2, 3, 4, 5, 6}) {
      auto f = quadratic(23, seed);
      const auto clean = drawn_image(23, seed);
      const attack::Threat threat = attack::l1(1.2);
      constexpr int kSteps = 50;
      const auto points = trace(f, threat, {.steps = kSteps, .larger_radii = larger}, clean);
      const Doubles center(clean.begin(), clean.end());
      std::vector<Doubles> visited;
      if (larger) {
        Doubles x = points[0];
        CHECK(norm_of(Norm::l1, x, center) <= 3 * threat.epsilon * (1 + 1e-6));
        x = written_out_l1(f, threat, 3 * threat.epsilon, center, x, 15, false, visited);
        x = project(threat, 2 * threat.epsilon, x, center);
        x = written_out_l1(f, threat, 2 * threat.epsilon, center, x, 15, false, visited);
        x = project(threat, threat.epsilon, x, center);
        written_out_l1(f, threat, threat.epsilon, center, x, 20, false, visited);
      } else {
        written_out_l1(f, threat, threat.epsilon, center, points[0], kSteps, true, visited);
      }
      const double worst = farthest(points, visited);
      MESSAGE("larger radii ", larger, ", seed ", seed, ": ", worst);
      CHECK(worst < 2e-4);
    }
  }
}

TEST_CASE("apgd: a step in L1 has the length of its step size, whatever gradients are zero or equal") {
  constexpr std::int64_t kN = 12;
  for (const int lanes : {16, 1}) {
    CAPTURE(lanes);
    pv::AlignedVector<float> x(static_cast<std::size_t>(kN * lanes) + 16, 0.5f);
    pv::AlignedVector<float> gradient(x.size());
    const auto center = x;
    // Lane 0: fewer gradients than coordinates to move; 1: all equal; 2: none; 3: of very different sizes; the others as
    // lane 3, rotated.
    for (std::int64_t e = 0; e < kN; ++e) {
      for (int lane = 0; lane < lanes; ++lane) {
        const auto rotated = static_cast<double>((e + lane) % kN);
        const double g = lane == 0   ? (e == 3   ? -2.0
                                        : e == 9 ? 1e-20
                                                 : 0.0)
                         : lane == 1 ? (e % 2 == 0 ? 0.25 : -0.25)
                         : lane == 2 ? 0.0
                                     : std::pow(-10.0, rotated - 6.0);
        gradient[static_cast<std::size_t>(e * lanes + lane)] = static_cast<float>(g);
      }
    }
    alignas(64) attack::PerLane<float> count, eta, radius;
    count.fill(5.0f);
    eta.fill(0.6f);
    radius.fill(1.0f);
    pv::kernels::run_light([&](auto isa) {
      apgd_l1_step<float>(isa, x.data(), gradient.data(), center.data(), kN, lanes, count.data(), eta.data(),
                          radius.data(), 0.0f, 1.0f);
    });
    for (int lane = 0; lane < lanes; ++lane) {
      CAPTURE(lane);
      const int moving = lane == 0 ? 2 : lane == 1 ? 12 : lane == 2 ? 0 : 5;
      for (std::int64_t e = 0; e < kN; ++e) {
        const auto at = static_cast<std::size_t>(e * lanes + lane);
        const float g = gradient[at];
        const bool moves = lane < 3 ? g != 0.0f : (e + lane) % kN >= kN - 5;
        const double want = moves ? std::copysign(0.6 / moving, g) : 0.0;
        CHECK(std::abs(static_cast<double>(x[at]) - 0.5 - want) < 1e-6);
      }
    }
  }
}
