// SPDX-License-Identifier: MIT
// DeepFool: the closed form on linear classifiers, and what it takes on a network.
#include "pavise/attack/deepfool.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <utility>
#include <vector>

#include "attack/attack_checks.hpp"
#include "attack/undefined_checks.hpp"
#include "pavise/attack/smoothed.hpp"

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Norm;
using attack_checks::LinearProblem;

namespace {

/// `small_network` in double: the pixels' and the logits' arithmetic written out, and DeepFool on it as published.
class Reference {
 public:
  explicit Reference(const pv::nn::Model& model) : classes_(static_cast<std::size_t>(model.classes())) {
    for (const char* name : {"fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias"}) {
      const auto value = model.parameters()[name].value();
      parameters_.emplace_back(value.begin(), value.end());
    }
  }

  /// The distance at which it ends, in L2 or Linf; infinite where it does not fool the network.
  double deepfool(Norm norm, std::span<const float> image, std::int32_t label, double overshoot, int steps, double low,
                  double high) const {
    const std::vector<double> clean(image.begin(), image.end());
    const auto own = static_cast<std::size_t>(label);
    std::vector<double> x = clean;
    std::vector<double> r(x.size(), 0.0);
    for (int step = 0; step < steps; ++step) {
      const auto [z, rows] = linearise(x);
      double nearest = std::numeric_limits<double>::infinity();
      std::vector<double> move;
      for (std::size_t k = 0; k < classes_; ++k) {
        double l1 = 0;
        double squares = 0;
        std::vector<double> w(x.size());
        for (std::size_t e = 0; e < x.size(); ++e) {
          w[e] = rows[k][e] - rows[own][e];
          l1 += std::abs(w[e]);
          squares += w[e] * w[e];
        }
        const double f = std::abs(z[k] - z[own]);
        const double ratio = f / (norm == Norm::l2 ? std::sqrt(squares) : l1);
        if (k == own || ratio >= nearest) {
          continue;
        }
        nearest = ratio;
        move = w;
        for (double& m : move) {
          m = norm == Norm::l2 ? (f + 1e-4) / squares * m : std::copysign((f + 1e-4) / l1, m);
        }
      }
      double distance = 0;
      for (std::size_t e = 0; e < x.size(); ++e) {
        r[e] += move[e];
        x[e] = std::clamp(clean[e] + (1.0 + overshoot) * r[e], low, high);
        const double d = std::abs(x[e] - clean[e]);
        distance = norm == Norm::l2 ? distance + d * d : std::max(distance, d);
      }
      const auto logits = linearise(x).first;
      if (std::max_element(logits.begin(), logits.end()) - logits.begin() != label) {
        return norm == Norm::l2 ? std::sqrt(distance) : distance;
      }
    }
    return std::numeric_limits<double>::infinity();
  }

 private:
  /// Logits, and the gradient of each.
  std::pair<std::vector<double>, std::vector<std::vector<double>>> linearise(const std::vector<double>& x) const {
    const std::size_t hidden = parameters_[1].size();
    std::vector<double> z = parameters_[3];
    std::vector<std::vector<double>> rows(classes_, std::vector<double>(x.size(), 0.0));
    for (std::size_t h = 0; h < hidden; ++h) {
      const double* w = parameters_[0].data() + h * x.size();
      double a = parameters_[1][h];
      for (std::size_t e = 0; e < x.size(); ++e) {
        a += w[e] * x[e];
      }
      for (std::size_t k = 0; a > 0 && k < classes_; ++k) {
        const double out = parameters_[2][k * hidden + h];
        z[k] += out * a;
        for (std::size_t e = 0; e < x.size(); ++e) {
          rows[k][e] += out * w[e];
        }
      }
    }
    return {z, rows};
  }

  std::size_t classes_;
  std::vector<std::vector<double>> parameters_;
};

}  // namespace

TEST_CASE("deepfool: linear classifiers, exact distances times 1 + overshoot") {
  for (const std::int32_t classes : {2, 10}) {
    const LinearProblem problem(classes);
    for (const Norm norm : {Norm::linf, Norm::l2}) {
      const attack::Threat threat(norm, 15.0, -20.0, 20.0);
      for (const double overshoot : {0.02, 1e-4}) {
        const auto result = attack::run(attack::DeepFool(threat, {.overshoot = overshoot}), problem.model,
                                        problem.images, problem.labels);
        double worst = 0;
        for (std::int64_t i = 0; i < problem.size(); ++i) {
          const auto at = static_cast<std::size_t>(i);
          double exact = std::numeric_limits<double>::infinity();
          double margin = 0;  // of the nearest class
          for (std::int32_t k = 0; k < classes; ++k) {
            const double distance = problem.distance_to(norm, i, k, -20.0, 20.0);
            if (k != problem.labels[at] && distance < exact) {
              exact = distance;
              margin = problem.margin(problem.images.row(i), i, k);
            }
          }
          CHECK(result.fooled[at] == 1);
          // The 1e-4 on the difference of the logits is a part of the length.
          const double expected = exact * (1.0 + 1e-4 / margin) * (1.0 + overshoot);
          worst = std::max(worst, std::abs(static_cast<double>(result.distance[at]) / expected - 1.0));
          CHECK(result.backward[at] == classes);  // one step
        }
        MESSAGE(classes, " classes, ", attack::norm_name(norm), ", overshoot ", overshoot, ": worst relative error ",
                worst);
        CHECK(worst < 1e-4);
      }
    }
  }
}

TEST_CASE("deepfool: a network is fooled in a few steps, and images end where the label changes") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    const auto result = attack::run(attack::DeepFool(attack::Threat(norm, 5.0, -10.0, 10.0)), model, images, labels);
    CHECK(std::count(result.fooled.begin(), result.fooled.end(), 1) == 40);
    CHECK(result.backward_passes < 40 * 5 * 6);
    // A tenth less of the perturbation and the label has not changed yet: the boundary is close.
    pv::Tensor<float> nearer = images;
    for (std::int64_t i = 0; i < 40; ++i) {
      for (std::size_t e = 0; e < images.row(i).size(); ++e) {
        nearer.row(i)[e] += 0.9f * (result.adversarial.row(i)[e] - images.row(i)[e]);
      }
    }
    const auto still = attack_checks::predictions(model, nearer);
    std::int64_t same = 0;
    for (std::size_t i = 0; i < 40; ++i) {
      same += still[i] == labels[i] ? 1 : 0;
    }
    CHECK(same >= 36);
    // Too few steps: the last iterate comes back, and nothing is claimed.
    const auto box = attack::run(attack::DeepFool(attack::linf(1e-4)), model, images, labels);
    CHECK(box.robust_correct >= 38);
  }
}

TEST_CASE("deepfool: the distances of the algorithm in double, step by step") {
  const auto model = attack_checks::small_network();
  const Reference reference(model);
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  // A box that is in the way, and one that is not; one step, and all that it takes.
  for (const Norm norm : {Norm::linf, Norm::l2}) {
    for (const attack::Threat& threat : {attack::Threat(norm, 1.0), attack::Threat(norm, 5.0, -10.0, 10.0)}) {
      for (const int steps : {1, 50}) {
        const auto result = attack::run(attack::DeepFool(threat, {.steps = steps}), model, images, labels);
        std::int64_t fooled = 0;
        double worst = 0;
        for (std::int64_t i = 0; i < 40; ++i) {
          const auto at = static_cast<std::size_t>(i);
          const double expected =
              reference.deepfool(norm, images.row(i), labels[at], 0.02, steps, threat.low, threat.high);
          CHECK((result.fooled[at] != 0) == std::isfinite(expected));
          if (result.fooled[at] != 0 && std::isfinite(expected)) {
            ++fooled;
            worst = std::max(worst, std::abs(static_cast<double>(result.distance[at]) / expected - 1.0));
          }
        }
        MESSAGE(attack::norm_name(norm), " in [", threat.low, ",", threat.high, "], ", steps, " steps: ", fooled,
                " fooled, worst relative error ", worst);
        CHECK(worst < 1e-4);
        CHECK(fooled > (steps == 1 ? 0 : 30));
      }
    }
  }
}

TEST_CASE("deepfool: images whose logits become NaN leave the others alone") {
  attack_checks::check_undefined_images(attack::DeepFool(attack::linf(0.3)));
  attack_checks::check_undefined_images(attack::DeepFool(attack::l2(2.0)));
}

TEST_CASE("deepfool: of a smoothed classifier it linearises the mean over the draws") {
  const auto network = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(16, network.input_shape());
  const auto labels = attack_checks::predictions(network, images);
  const auto smoothed = attack::smoothed(network, 0.25, {.draws = 6});
  // The rows against differences of the logits along a direction, with the same noise.
  const attack::Work work{images, labels, nullptr, {}, 0, {}};
  std::vector<attack::Attempt> attempts(16);
  for (std::int64_t i = 0; i < 16; ++i) {
    attempts[static_cast<std::size_t>(i)].image = i;
  }
  const auto batch = work.pack(attempts, 16);
  const auto size = static_cast<std::size_t>(batch.size());
  const pv::AlignedVector<float> x(batch.values(0), batch.values(0) + size * 16);
  pv::RandomSequence random({.seed = 8, .purpose = pv::Purpose::test});
  std::vector<float> along(size);
  for (float& v : along) {
    v = static_cast<float>(random.normal());
  }
  pv::AlignedVector<float> rows(5 * size * 16);
  attack::Answer answer;
  auto at = x;
  std::vector<float*> row(static_cast<std::size_t>(smoothed.classes()));
  for (std::size_t k = 0; k < row.size(); ++k) {
    row[k] = rows.data() + k * static_cast<std::size_t>(smoothed.input_shape().numel()) * 16;
  }
  attack::query_jacobian(smoothed, at.data(), 16, nullptr, row, {}, answer);
  std::vector<std::vector<float>> sides;
  for (const float h : {1e-3f, -1e-3f}) {
    for (std::size_t i = 0; i < x.size(); ++i) {
      at[i] = x[i] + h * along[i / 16];
    }
    attack::query(smoothed, at.data(), 16, 16, nullptr, {}, false, {}, answer);
    sides.emplace_back(answer.logits.begin(), answer.logits.end());
  }
  for (std::size_t k = 0; k < 5; ++k) {
    for (std::size_t lane = 0; lane < 16; ++lane) {
      double slope = 0;
      for (std::size_t e = 0; e < size; ++e) {
        slope += static_cast<double>(rows[(k * size + e) * 16 + lane]) * static_cast<double>(along[e]);
      }
      const double difference = static_cast<double>(sides[0][k * 16 + lane] - sides[1][k * 16 + lane]) / 2e-3;
      CHECK(slope == doctest::Approx(difference).epsilon(0.02).scale(0.2));
    }
  }
  const attack::Threat threat = attack::l2(5.0, -10.0, 10.0);
  const auto result = attack::run(attack::DeepFool(threat, {.overshoot = 0.2}), smoothed.with_draws(32, true), images,
                                  labels, {.judging_draws = 500});
  CHECK(std::count(result.fooled.begin(), result.fooled.end(), 1) >= 12);
  for (std::size_t i = 0; i < 16; ++i) {
    CHECK(result.backward[i] % (5 * 32) == 0);  // of every class and draw
  }
}

TEST_CASE("deepfool: a classifier without gradients ends at once") {
  const attack::Classifier flat("flat", {1, 2, 2}, 3, [](pv::Var<float> x) {
    thread_local float logits[3 * 16] = {};
    for (int i = 0; i < 3 * 16; ++i) {
      logits[i] = i < x.tape().lanes() ? 1.0f : 0.0f;
    }
    return x.tape().view({3}, logits);
  });
  const auto images = attack_checks::drawn_images(3, {1, 2, 2});
  const std::vector<std::int32_t> labels(3, 0);
  const auto result = attack::run(attack::DeepFool(attack::l2(1.0)), flat, images, labels);
  CHECK(result.robust_correct == 3);
  CHECK(result.backward_passes == 9);
}

TEST_CASE("deepfool: the same bits for any batch, order, number of threads and instruction set") {
  const auto model = attack_checks::small_network();
  const auto images = attack_checks::drawn_images(40, model.input_shape());
  const auto labels = attack_checks::predictions(model, images);
  attack_checks::check_independence(attack::DeepFool(attack::linf(0.03)), model, images, labels);
  attack_checks::check_independence(attack::DeepFool(attack::l2(0.2)), model, images, labels);
}

TEST_CASE("deepfool: options out of range are refused") {
  CHECK_THROWS_WITH_AS(attack::DeepFool(attack::l1(1.0)), "deepfool: norm l1, expected linf or l2", pv::ValueError);
  CHECK_THROWS_WITH_AS(attack::DeepFool(attack::l2(1.0), {.steps = 0}), "deepfool: 0 steps, expected 1 or more",
                       pv::ValueError);
  CHECK_THROWS_AS(attack::DeepFool(attack::l2(1.0), {.overshoot = -0.1}), pv::ValueError);
}
