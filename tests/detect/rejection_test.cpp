// SPDX-License-Identifier: MIT
// Refusals that count as right: who fools the logits that come out, and their derivative.
#include "pavise/attack/rejection.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include "kernels/each_isa.hpp"
#include "pavise/attack/query.hpp"
#include "pavise/autodiff/loss.hpp"
#include "pavise/autodiff/shape_ops.hpp"
#include "pavise/core/philox.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;

namespace {

constexpr std::int64_t kKnown = 5;  // classes, beside that of the refused

/// Outputs of sixteen images in lanes, [classes + 1][16], some of them with equal logits and with refusals around 0.
template <class T>
std::vector<T> outputs(std::uint32_t which) {
  pv::RandomSequence random({.seed = 11, .purpose = pv::Purpose::test, .image = which});
  std::vector<T> z((kKnown + 1) * 16);
  for (T& v : z) {
    v = static_cast<T>(which % 3 == 0 ? std::floor(random.uniform(-3.0, 3.0)) : random.uniform(-3.0, 3.0));
  }
  for (std::size_t lane = 0; lane < 16; ++lane) {  // of every size, down to less than a rounding of the logits
    z[kKnown * 16 + lane] *= static_cast<T>(std::pow(10.0, -static_cast<double>(lane)));
  }
  return z;
}

std::vector<std::int32_t> labels() {
  std::vector<std::int32_t> out;
  for (int lane = 0; lane < 16; ++lane) {
    out.push_back(lane % kKnown);
  }
  return out;
}

/// Sum of weighted logits after the refusal is credited, in double: the function whose derivative is checked.
double weighted(const std::vector<double>& z, bool targeted, std::vector<double>* gradient) {
  pv::Tape<double> tape;
  tape.begin(16);
  auto values = z;
  const auto x = tape.view(pv::Shape{kKnown + 1}, values.data(), true);
  const auto own = labels();
  const auto y = attack::credit_rejection(x, own.data(), targeted);
  std::vector<double> seed(kKnown * 16);
  double sum = 0;
  for (std::size_t i = 0; i < seed.size(); ++i) {
    seed[i] = std::sin(static_cast<double>(i) + 1.0);
    sum += seed[i] * y.data()[i];
  }
  if (gradient != nullptr) {
    tape.backward(y, seed.data());
    gradient->assign(tape.input_gradient(x), tape.input_gradient(x) + z.size());
  }
  return sum;
}

}  // namespace

TEST_CASE("rejection: an image fools the credited logits if and only if it is misclassified and not refused") {
  std::int64_t fooled = 0;
  std::int64_t refused_mistakes = 0;
  for (std::uint32_t which = 0; which < 300; ++which) {
    auto z = outputs<float>(which);
    const auto own = labels();
    for (const bool targeted : {false, true}) {
      pv::Tape<float> tape;
      tape.begin(16);
      const auto x = tape.view(pv::Shape{kKnown + 1}, z.data());
      const auto y = attack::credit_rejection(x, own.data(), targeted);
      REQUIRE(y.shape() == pv::Shape{kKnown});
      std::vector<std::int32_t> before(16);
      std::vector<std::int32_t> after(16);
      pv::argmax(pv::slice(x, 0, 0, kKnown), before.data());
      pv::argmax(y, after.data());
      for (std::size_t lane = 0; lane < 16; ++lane) {
        float other = -std::numeric_limits<float>::infinity();
        for (std::int32_t k = 0; k < kKnown; ++k) {
          other = k != own[lane] ? std::max(other, z[static_cast<std::size_t>(k) * 16 + lane]) : other;
        }
        if (z[static_cast<std::size_t>(own[lane]) * 16 + lane] == other) {
          continue;  // a tie of the logits themselves: the lower class, by no margin
        }
        const bool refused = z[kKnown * 16 + lane] > 0.0f;
        const bool misses = (before[lane] == own[lane]) == targeted;
        CHECK(((after[lane] == own[lane]) == targeted) == (misses && !refused));
        fooled += misses && !refused ? 1 : 0;
        refused_mistakes += misses && refused ? 1 : 0;
        for (std::int32_t k = 0; k < kKnown; ++k) {  // the others stay as they are
          const auto at = static_cast<std::size_t>(k) * 16 + lane;
          CHECK((k == own[lane] || y.data()[at] == z[at]));
        }
      }
    }
  }
  CHECK(fooled > 1000);
  CHECK(refused_mistakes > 1000);
}

TEST_CASE("rejection: the margin of a refused image is what it lacks: to be misclassified, and not to be refused") {
  std::vector<float> z((kKnown + 1) * 16, 0.0f);
  const auto set = [&](std::size_t lane, std::vector<float> column) {
    for (std::size_t k = 0; k < column.size(); ++k) {
      z[k * 16 + lane] = column[k];
    }
  };
  const std::vector<std::int32_t> own(16, 0);
  set(0, {3, 1, 0, 0, 0, 2});     // right and refused: 2 + 2
  set(1, {3, 1, 0, 0, 0, -2});    // right and not refused: 2
  set(2, {1, 3, 0, 0, 0, 2});     // misclassified and refused: 2
  set(3, {1, 3, 0, 0, 0, -9});    // misclassified and not refused: -2, the logits' own
  set(4, {1, 3, 0, 0, 0, -0.5});  // the same, just so: -0.5
  set(5, {1, 3, 0, 0, 0, std::nanf("")});
  pv::Tape<float> tape;
  tape.begin(16);
  const auto y = attack::credit_rejection(tape.view(pv::Shape{kKnown + 1}, z.data()), own.data(), false);
  const auto margin = pv::margin_loss(y, own.data());
  CHECK(margin.data()[0] == -4.0f);
  CHECK(margin.data()[1] == -2.0f);
  CHECK(margin.data()[2] == -2.0f);
  CHECK(margin.data()[3] == 2.0f);
  CHECK(margin.data()[4] == 0.5f);
  CHECK(std::isnan(y.data()[5]));  // refused, and no success for an attack either: it is no finite number
}

TEST_CASE("rejection: the derivative is that of central differences, targeted or not") {
  for (const bool targeted : {false, true}) {
    for (const std::uint32_t which : {1u, 2u, 4u, 5u}) {
      auto z = outputs<double>(which);
      for (std::size_t lane = 0; lane < 16; ++lane) {  // away from the kinks
        z[kKnown * 16 + lane] = lane % 2 == 0 ? 0.7 + 0.1 * static_cast<double>(lane) : -0.4;
      }
      std::vector<double> gradient;
      weighted(z, targeted, &gradient);
      double largest = 0;
      for (std::size_t i = 0; i < z.size(); ++i) {
        constexpr double kStep = 1e-6;
        auto up = z;
        auto down = z;
        up[i] += kStep;
        down[i] -= kStep;
        const double expected = (weighted(up, targeted, nullptr) - weighted(down, targeted, nullptr)) / (2 * kStep);
        CHECK(gradient[i] == doctest::Approx(expected).epsilon(1e-6));
        largest = i >= kKnown * 16 ? std::max(largest, std::abs(gradient[i])) : largest;
      }
      CHECK(largest > 0.1);  // the refusal has a derivative
    }
  }
}

TEST_CASE("rejection: a query counts a refusal as right, and more than half of a random classifier's draws refuse") {
  // One pixel: logits (x, 1 - x), refused from 0.8 on. In lanes 0 to 15 the pixel is lane / 16.
  pv::nn::Declaration declaration;
  declaration.rejects = declaration.rejection_output = true;
  const attack::Classifier model(
      "pixel", pv::Shape{1, 1, 1}, 2,
      [](pv::Var<float> x) {
        const auto v = pv::reshape(x, pv::Shape{1});
        return pv::concat({v, 1.0f - v, v - 0.8f}, 0);
      },
      declaration);
  pv::AlignedVector<float> x(32);
  for (int lane = 0; lane < 16; ++lane) {
    x[static_cast<std::size_t>(lane)] = static_cast<float>(lane) / 16.0f;
  }
  const std::vector<std::int32_t> second(16, 1);
  attack::Answer answer;
  const attack::Loss loss = [](pv::Var<float> z, const std::int32_t* l) { return pv::margin_loss(z, l); };
  const float* gradient = attack::query(model, x.data(), 16, 16, second.data(), loss, true, {}, answer);
  for (std::size_t lane = 0; lane < 16; ++lane) {
    const bool refused = x[lane] > 0.8f;
    CHECK(answer.rejected[lane] == refused);
    CHECK(answer.prediction[lane] == (x[lane] >= 0.5f && !refused ? 0 : 1));
    // min(2x - 1, 0.8 - x): towards the first class, and from 0.6 on rather away from the refusal.
    CHECK(gradient[lane] == (x[lane] > 0.6f ? -1.0f : 2.0f));
  }
  attack::query(model, x.data(), 16, 16, nullptr, {}, false, {}, answer);  // without labels: the class as it is
  CHECK(answer.prediction[15] == 0);
  CHECK(answer.rejected[15]);
  CHECK_THROWS_AS(model.with_mean(attack::Mean::softmax), pv::ValueError);

  declaration.random = true;  // refuses in draws below the share that the pixel is
  const attack::Classifier random(
      "random", pv::Shape{1, 1, 1}, 2,
      [](pv::Var<float> in) {
        const auto v = pv::reshape(in, pv::Shape{1});
        const auto share = static_cast<float>(in.tape().key().iteration) / 10.0f + 0.05f;
        return pv::concat({v, 1.0f - v, v - share}, 0);
      },
      declaration);
  attack::query(random.with_draws(10), x.data(), 16, 16, nullptr, {}, false, {}, answer);
  for (std::size_t lane = 0; lane < 16; ++lane) {
    std::int64_t refusals = 0;
    for (int draw = 0; draw < 10; ++draw) {
      refusals += x[lane] > static_cast<float>(draw) / 10.0f + 0.05f ? 1 : 0;
    }
    CHECK(answer.rejected[lane] == (refusals > 5));
  }
}

TEST_CASE("rejection: a classifier that gives another number of outputs than it declares is refused") {
  pv::nn::Declaration declaration;
  declaration.rejects = declaration.rejection_output = true;
  const attack::Classifier model(
      "short", pv::Shape{1, 1, 2}, 2, [](pv::Var<float> x) { return pv::reshape(x, pv::Shape{2}); }, declaration);
  pv::AlignedVector<float> x(48);
  attack::Answer answer;
  try {
    attack::query(model, x.data(), 16, 16, nullptr, {}, false, {}, answer);
    FAIL("nothing was refused");
  } catch (const pv::ShapeError& error) {
    CHECK(std::string(error.what()) == "classifier short: gives (2), expected (3)");
  }
}
