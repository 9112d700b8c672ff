// SPDX-License-Identifier: MIT
#include "pavise/autodiff/loss.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "autodiff/check.hpp"

namespace pv = pavise;

namespace {

using Images = std::vector<std::vector<double>>;

std::int32_t label_of(std::int64_t image, std::int64_t classes) {
  return static_cast<std::int32_t>((image * 7 + 3) % classes);
}
/// Labels of a pass whose first image is `first`.
std::vector<std::int32_t> labels_from(std::int64_t first, std::int64_t classes) {
  std::vector<std::int32_t> out;
  for (std::int64_t n = 0; n < 32; ++n) {
    out.push_back(label_of(first + n, classes));
  }
  return out;
}

std::vector<double> log_softmax(const std::vector<double>& z, double temperature = 1) {
  double largest = -std::numeric_limits<double>::infinity();
  for (const double v : z) {
    largest = std::max(largest, v / temperature);
  }
  double sum = 0;
  for (const double v : z) {
    sum += std::exp(v / temperature - largest);
  }
  std::vector<double> out;
  for (const double v : z) {
    out.push_back(v / temperature - largest - std::log(sum));
  }
  return out;
}

}  // namespace

TEST_CASE("cross_entropy: value, gradient, bits") {
  for (const std::int64_t classes : {1, 2, 7, 10}) {
    for (const double smoothing : {0.0, 0.1}) {
      for (const double temperature : {1.0, 3.5}) {
        CAPTURE(classes);
        const auto f = [=](auto& x, std::int64_t first) {
          return pv::cross_entropy(x[0], labels_from(first, classes).data(), smoothing, temperature);
        };
        const auto reference = [=](Images& x, std::int64_t n) {
          const auto p = log_softmax(x[0], temperature);
          double loss = 0;
          for (std::size_t i = 0; i < p.size(); ++i) {
            const double q = smoothing / static_cast<double>(classes) +
                             (static_cast<std::int32_t>(i) == label_of(n, classes) ? 1 - smoothing : 0.0);
            loss -= q * p[i];
          }
          return std::vector{loss};
        };
        const check::Options o{.low = -4, .high = 4};
        check::forward_check<float>(f, {{classes}}, reference, 1e-6, o);
        check::forward_check<double>(f, {{classes}}, reference, 1e-14, o);
        if (classes > 1) {
          check::gradient_check(f, {{classes}}, o);
        }
        check::same_bits(f, {{classes}}, o);
      }
    }
  }
}

TEST_CASE("cross_entropy: confident logits keep their loss and gradient") {
  pv::Tape<float> tape;
  tape.begin(2);
  auto z = tape.input({3}, true);
  const float logits[2][3] = {{30, 0, 1}, {-200, 0, 100}};
  for (int e = 0; e < 3; ++e) {
    for (int lane = 0; lane < 16; ++lane) {
      z.data()[e * 16 + lane] = logits[lane == 1][e];
    }
  }
  const std::int32_t labels[2] = {0, 0};
  auto loss = pv::cross_entropy(z, labels);
  const double rest = std::exp(-30.0) + std::exp(-29.0);
  CHECK(loss.data()[0] == doctest::Approx(rest).epsilon(1e-6));
  CHECK(loss.data()[1] == doctest::Approx(300.0));
  tape.backward(loss);
  const float* g = tape.input_gradient(z);
  CHECK(g[0] == doctest::Approx(-rest).epsilon(1e-6));
  CHECK(g[16] == doctest::Approx(std::exp(-30.0)).epsilon(1e-6));
  CHECK(g[1] == -1.0f);
  CHECK(g[2 * 16 + 1] == 1.0f);
}

TEST_CASE("cross_entropy: what it refuses") {
  pv::Tape<float> tape;
  tape.begin(2);
  auto z = tape.input({3});
  auto image = tape.input({1, 2, 2});
  const std::int32_t labels[2] = {0, 3};
  CHECK_THROWS_WITH_AS(pv::cross_entropy(z, labels), "cross_entropy: label 3 of image 1, expected 0 to 2",
                       pv::ValueError);
  CHECK_THROWS_WITH_AS(pv::cross_entropy(image, labels),
                       "cross_entropy: the logits are (classes) with at least 1 classes, got (1,2,2)", pv::ShapeError);
  const std::int32_t fine[2] = {0, 2};
  CHECK_THROWS_AS(pv::cross_entropy(z, fine, 1.5f), pv::ValueError);
  CHECK_THROWS_AS(pv::cross_entropy(z, fine, 0.0f, 0.0f), pv::ValueError);
}

TEST_CASE("argmax and votes: ties, NaN, infinities") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float inf = std::numeric_limits<float>::infinity();
  const float cases[6][4] = {{1, 3, 3, 2},     {nan, -inf, 0, nan},   {nan, nan, nan, nan}, {-inf, -inf, -inf, -inf},
                             {0, 1, nan, inf}, {nan, -inf, -inf, nan}};
  const std::int32_t expected[6] = {1, 2, 0, 0, 3, 1};
  for (const int lanes : {16, 1}) {
    pv::Tape<float> tape;
    tape.begin(6, lanes);
    auto z = tape.input({4});
    for (int n = 0; n < 6; ++n) {
      for (int e = 0; e < 4; ++e) {
        z.data(n / lanes)[e * lanes + n % lanes] = cases[n][e];
      }
    }
    std::vector<std::int32_t> out(16);
    pv::argmax(z, out.data());
    for (std::size_t n = 0; n < 6; ++n) {
      CHECK(out[n] == expected[n]);
    }
    // A vote is the same, but that NaN has none.
    tape.each_group([&](std::int64_t g) {
      pv::kernels::run_light([&](auto isa) { vote<float>(isa, z.data(g), out.data() + g * lanes, 4, lanes); });
    });
    for (std::size_t n = 0; n < 6; ++n) {
      CHECK(out[n] == (n == 0 || n == 3 ? expected[n] : -1));
    }
  }
}

namespace {

/// Indices of the logits, largest first.
std::vector<std::size_t> ranking(const std::vector<double>& z) {
  std::vector<std::size_t> order(z.size());
  for (std::size_t i = 0; i < z.size(); ++i) {
    order[i] = i;
  }
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return z[a] > z[b]; });
  return order;
}

double largest_other(const std::vector<double>& z, std::size_t label) {
  const auto order = ranking(z);
  return z[order[0] == label ? order[1] : order[0]];
}

std::vector<std::int32_t> targets_from(std::int64_t first, std::int64_t classes) {
  auto out = labels_from(first, classes);
  for (auto& t : out) {
    t = static_cast<std::int32_t>((t + 2) % classes);
  }
  return out;
}

template <class F, class Reference>
void loss_check(const char* name, const F& f, const Reference& reference, std::int64_t classes) {
  CAPTURE(name);
  const check::Options o{.low = -3, .high = 3, .step = 1e-6, .tolerance = 1e-6};
  check::forward_check<float>(f, {{classes}}, reference, 2e-5, o);
  check::forward_check<double>(f, {{classes}}, reference, 1e-13, o);
  check::gradient_check(f, {{classes}}, o);
  check::same_bits(f, {{classes}}, o);
}

}  // namespace

TEST_CASE("margin, DLR and boosted losses: value, gradient, bits") {
  for (const std::int64_t c : {4, 7, 10}) {
    const auto label = [=](std::int64_t n) { return static_cast<std::size_t>(label_of(n, c)); };
    const auto wanted = [=](std::int64_t n) { return (label(n) + 2) % static_cast<std::size_t>(c); };
    loss_check(
        "margin", [=](auto& x, std::int64_t n) { return pv::margin_loss(x[0], labels_from(n, c).data()); },
        [=](Images& x, std::int64_t n) { return std::vector{largest_other(x[0], label(n)) - x[0][label(n)]}; }, c);
    loss_check(
        "margin, bounded", [=](auto& x, std::int64_t n) { return pv::margin_loss(x[0], labels_from(n, c).data(), 2); },
        [=](Images& x, std::int64_t n) {
          return std::vector{std::min(2.0, largest_other(x[0], label(n)) - x[0][label(n)])};
        },
        c);
    loss_check(
        "margin, targeted",
        [=](auto& x, std::int64_t n) { return pv::margin_loss_targeted(x[0], targets_from(n, c).data()); },
        [=](Images& x, std::int64_t n) { return std::vector{x[0][wanted(n)] - largest_other(x[0], wanted(n))}; }, c);
    loss_check(
        "dlr", [=](auto& x, std::int64_t n) { return pv::dlr_loss(x[0], labels_from(n, c).data()); },
        [=](Images& x, std::int64_t n) {
          const auto r = ranking(x[0]);
          return std::vector{-(x[0][label(n)] - largest_other(x[0], label(n))) / (x[0][r[0]] - x[0][r[2]] + 1e-12)};
        },
        c);
    loss_check(
        "dlr, targeted",
        [=](auto& x, std::int64_t n) {
          return pv::dlr_loss_targeted(x[0], labels_from(n, c).data(), targets_from(n, c).data());
        },
        [=](Images& x, std::int64_t n) {
          const auto r = ranking(x[0]);
          return std::vector{-(x[0][label(n)] - x[0][wanted(n)]) /
                             (x[0][r[0]] - (x[0][r[2]] + x[0][r[3]]) / 2 + 1e-12)};
        },
        c);
    loss_check(
        "boosted", [=](auto& x, std::int64_t n) { return pv::boosted_cross_entropy(x[0], labels_from(n, c).data()); },
        [=](Images& x, std::int64_t n) {
          const auto p = log_softmax(x[0]);
          return std::vector{-p[label(n)] - std::log(1.0001 - std::exp(largest_other(p, label(n))))};
        },
        c);
    loss_check(
        "pick", [=](auto& x, std::int64_t n) { return pv::pick(x[0], labels_from(n, c).data()); },
        [=](Images& x, std::int64_t n) { return std::vector{x[0][label(n)]}; }, c);
  }
}

TEST_CASE("soft cross-entropy, KL divergence, mean squared error: value, gradients to both, bits") {
  for (const std::int64_t c : {2, 10}) {
    for (const double temperature : {1.0, 4.0}) {
      const check::Options o{.low = 0.1, .high = 3};
      const std::vector<pv::Shape> shapes = {{c}, {c}};
      const auto soft = [=](auto& x) { return pv::cross_entropy_soft(x[0], x[1], temperature); };
      const auto kl = [=](auto& x) { return pv::kl_divergence(x[0], x[1], temperature); };
      const auto soft_reference = [=](Images& x) {
        const auto p = log_softmax(x[0], temperature);
        double sum = 0;
        for (std::size_t i = 0; i < p.size(); ++i) {
          sum -= x[1][i] * p[i];
        }
        return std::vector{sum};
      };
      const auto kl_reference = [=](Images& x) {
        const auto p = log_softmax(x[0], temperature);
        const auto q = log_softmax(x[1], temperature);
        double sum = 0;
        for (std::size_t i = 0; i < p.size(); ++i) {
          sum += std::exp(p[i]) * (p[i] - q[i]);
        }
        return std::vector{sum};
      };
      check::forward_check<float>(soft, shapes, soft_reference, 1e-6, o);
      check::forward_check<double>(soft, shapes, soft_reference, 1e-14, o);
      check::forward_check<float>(kl, shapes, kl_reference, 1e-6, o);
      check::forward_check<double>(kl, shapes, kl_reference, 1e-14, o);
      check::gradient_check(soft, shapes, o);
      check::gradient_check(kl, shapes, o);
      check::same_bits(soft, shapes, o);
      check::same_bits(kl, shapes, o);
      auto shared = o;
      shared.shared = {false, true};
      check::gradient_check(soft, shapes, shared);
    }
  }
  const auto mse = [](auto& x) { return pv::mse(x[0], x[1]); };
  check::forward_check<double>(
      mse, {{1, 2, 2}, {1, 2, 2}},
      [](Images& x) {
        double sum = 0;
        for (std::size_t i = 0; i < 4; ++i) {
          sum += (x[0][i] - x[1][i]) * (x[0][i] - x[1][i]) / 4;
        }
        return std::vector{sum};
      },
      1e-14);
  check::gradient_check(mse, {{1, 2, 2}, {1, 2, 2}});
  check::same_bits(mse, {{1, 2, 2}, {1, 2, 2}});
}

TEST_CASE("losses: impossible classes have no weight; what they refuse") {
  pv::Tape<double> tape;
  tape.begin(1, 1);
  const double inf = std::numeric_limits<double>::infinity();
  auto p = tape.input({3});
  auto q = tape.input({3});
  const double a[3] = {1, 2, -inf};
  const double b[3] = {0, 1, 5};
  std::copy(a, a + 3, p.data());
  std::copy(b, b + 3, q.data());
  CHECK(std::isfinite(*pv::kl_divergence(p, q).data()));
  const double targets[3] = {0.5, 0.5, 0};
  CHECK(*pv::cross_entropy_soft(p, targets).data() == doctest::Approx(0.5 + std::log1p(std::exp(-1.0))));
  const std::int32_t label = 0;
  CHECK_THROWS_AS(pv::dlr_loss_targeted(p, &label, &label), pv::ShapeError);
  CHECK_THROWS_AS(pv::margin_loss(tape.input({1}), &label), pv::ShapeError);
  CHECK_THROWS_AS(pv::kl_divergence(p, tape.input({4})), pv::ShapeError);
  CHECK_THROWS_AS(pv::mse(p, tape.input({4})), pv::ShapeError);
  CHECK_THROWS_AS(pv::kl_divergence(p, q, 0), pv::ValueError);
}
