// SPDX-License-Identifier: MIT
#include "pavise/optim/schedule.hpp"

#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

using namespace pavise;

namespace {

void check_points(const optim::Schedule& s, const std::vector<std::pair<std::int64_t, double>>& points) {
  for (const auto& [step, rate] : points) {
    CAPTURE(step);
    CHECK(std::abs(s(step) - rate) < 1e-14);
    CHECK(s(step) == s(step));
  }
}

}  // namespace

// The numbers are those of torch.optim.lr_scheduler 2.13.
TEST_CASE("schedules give PyTorch's learning rates") {
  check_points(optim::constant(0.2), {{0, 0.2}, {1000000, 0.2}});
  check_points(optim::step_decay(0.2, 30, 0.5), {{0, 0.2}, {29, 0.2}, {30, 0.1}, {59, 0.1}, {60, 0.05}, {99, 0.025}});
  check_points(optim::multi_step(0.2, {50, 75}),
               {{0, 0.2}, {49, 0.2}, {50, 0.02}, {74, 0.02}, {75, 0.002}, {99, 0.002}});
  check_points(optim::cosine(0.2, 100, 0.001), {{0, 0.2},
                                                {10, 0.19513012337136776},
                                                {50, 0.1005},
                                                {77, 0.02586394857176928},
                                                {99, 0.001049097243609706},
                                                {100, 0.001}});
  check_points(optim::one_cycle(0.2, 100), {{0, 0.008},
                                            {1, 0.008562756113181497},
                                            {15, 0.10919733522420008},
                                            {28, 0.19943724388681852},
                                            {29, 0.2},
                                            {30, 0.19989930705690487},
                                            {64, 0.1000004},
                                            {98, 0.0001014929430951576},
                                            {99, 8e-07}});
  check_points(optim::one_cycle(0.2, 37, 0.4, 10.0, 100.0), {{0, 0.02},
                                                             {1, 0.022322082559386863},
                                                             {13, 0.1985115531470368},
                                                             {14, 0.19995999076112034},
                                                             {20, 0.16395277918741522},
                                                             {36, 0.0002}});
  check_points(optim::cyclic(0.2, 100, 0.4), {{0, 0.0},
                                              {1, 0.005},
                                              {20, 0.1},
                                              {39, 0.195},
                                              {40, 0.2},
                                              {41, 0.2 * 59 / 60},
                                              {70, 0.1},
                                              {99, 0.2 / 60},
                                              {100, 0.0}});
}

TEST_CASE("schedules keep their last rate, and never leave 0 to the peak") {
  CHECK(optim::cosine(0.2, 100, 0.001)(5000) == doctest::Approx(0.001));
  CHECK(optim::cyclic(0.2, 100)(5000) == 0.0);
  CHECK(optim::one_cycle(0.2, 100)(5000) == doctest::Approx(8e-7));
  for (const auto name : optim::schedule_names()) {
    CAPTURE(std::string(name));
    for (const std::int64_t steps : {1, 2, 3, 7, 100}) {
      CAPTURE(steps);
      const auto s = optim::make_schedule(name, 0.2, steps);
      double most = 0;
      for (std::int64_t t = 0; t <= steps; ++t) {
        CHECK(s(t) >= 0.0);
        CHECK(s(t) <= 0.2 * (1 + 1e-15));
        most = std::max(most, s(t));
      }
      CHECK((most > 0.0 || (name == "cyclic" && steps == 1)));
    }
  }
}

TEST_CASE("schedules refuse what makes no sense") {
  CHECK_THROWS_WITH_AS(
      optim::make_schedule("linear", 0.1, 10),
      "schedule: there is no 'linear', expected one of constant, step, multi-step, cosine, cyclic, one-cycle",
      ValueError);
  CHECK_THROWS_AS(optim::constant(-0.1), ValueError);
  CHECK_THROWS_AS(optim::constant(0.1)(-1), ValueError);
  CHECK_THROWS_AS(optim::step_decay(0.1, 0), ValueError);
  CHECK_THROWS_AS(optim::multi_step(0.1, {75, 50}), ValueError);
  CHECK_THROWS_AS(optim::cosine(0.1, 10, 0.2), ValueError);
  CHECK_THROWS_AS(optim::cyclic(0.1, 10, 1.0), ValueError);
  CHECK_THROWS_AS(optim::one_cycle(0.1, 10, 1.5), ValueError);
}
