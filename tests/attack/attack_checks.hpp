// SPDX-License-Identifier: MIT
// What the tests of attacks share: linear classifiers whose exact distances are known, a small network, and the check
// that an image's outcome depends on nothing but the image, its label and its key.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "pavise/attack/run.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/nn/activations.hpp"
#include "pavise/nn/linear.hpp"
#include "pavise/nn/model.hpp"

namespace attack_checks {

namespace pv = pavise;
namespace attack = pavise::attack;
using attack::Norm;

inline constexpr Norm kNorms[] = {Norm::linf, Norm::l2, Norm::l1};

/// ||v||.
inline double norm_of(Norm norm, const std::vector<double>& v) {
  double sum = 0;
  for (const double e : v) {
    sum = norm == Norm::linf ? std::max(sum, std::abs(e)) : sum + (norm == Norm::l1 ? std::abs(e) : e * e);
  }
  return norm == Norm::l2 ? std::sqrt(sum) : sum;
}

/// Images (n, shape) with pixels uniform in (low, high).
inline pv::Tensor<float> drawn_images(std::int64_t n, const pv::Shape& shape, std::uint64_t seed = 21, double low = 0,
                                      double high = 1) {
  pv::Tensor<float> images(pv::Shape{n, shape[0], shape[1], shape[2]});
  for (std::int64_t i = 0; i < n; ++i) {
    pv::RandomSequence random({.seed = seed, .purpose = pv::Purpose::test, .image = static_cast<std::uint32_t>(i)});
    for (float& v : images.row(i)) {
      v = static_cast<float>(random.uniform(low, high));
    }
  }
  return images;
}

/// The classes that a model gives.
inline std::vector<std::int32_t> predictions(const attack::Classifier& model, const pv::Tensor<float>& images) {
  const std::vector<std::int32_t> any(static_cast<std::size_t>(images.shape()[0]), 0);
  const attack::Work work{images, any, nullptr, {}, 0, {}};
  std::vector<attack::Attempt> attempts(any.size());
  for (std::size_t i = 0; i < any.size(); ++i) {
    attempts[i].image = static_cast<std::int64_t>(i);
  }
  std::vector<std::int32_t> out;
  for (const auto& j : attack::judge(
           model, work, attempts, [&](const attack::Attempt& a) { return images.row(a.image).data(); }, 1, 0)) {
    out.push_back(j.prediction);
  }
  return out;
}

/// A linear classifier W x + b with images that it classifies, labels as it gives them, and the exact distance of each
/// from being misclassified.
struct LinearProblem {
  explicit LinearProblem(std::int32_t classes, std::int64_t n = 37, pv::Shape shape = {1, 3, 5},
                         std::uint64_t seed = 11)
      : model(make(classes, shape, seed)), images(drawn_images(n, shape)), labels(predictions(model, images)) {}

  std::int64_t size() const { return images.shape()[0]; }
  std::int64_t pixels() const { return model.input_shape().numel(); }

  /// w_k - w_label, in double.
  std::vector<double> direction(std::int64_t i, std::int32_t k) const {
    const auto w = model.parameters()["fc.weight"].value();
    const auto own = static_cast<std::int64_t>(labels[static_cast<std::size_t>(i)]);
    std::vector<double> out;
    for (std::int64_t e = 0; e < pixels(); ++e) {
      out.push_back(static_cast<double>(w[static_cast<std::size_t>(k * pixels() + e)]) -
                    static_cast<double>(w[static_cast<std::size_t>(own * pixels() + e)]));
    }
    return out;
  }
  /// z_label - z_k of an image given by its pixels, in double; 0 or less where class k is preferred.
  double margin(std::span<const float> x, std::int64_t i, std::int32_t k) const {
    const auto b = model.parameters()["fc.bias"].value();
    const auto w = direction(i, k);
    double sum = static_cast<double>(b[static_cast<std::size_t>(labels[static_cast<std::size_t>(i)])]) -
                 static_cast<double>(b[static_cast<std::size_t>(k)]);
    for (std::size_t e = 0; e < w.size(); ++e) {
      sum -= w[e] * static_cast<double>(x[e]);
    }
    return sum;
  }

  /// The exact distance of image i from where class k is preferred to its label, within the box [low,high]; infinite
  /// where the box has no such point. In a wide box it is |margin| over the dual norm of w_k - w_label. With two
  /// classes it is the distance from target k, too.
  double distance_to(Norm norm, std::int64_t i, std::int32_t k, double low, double high) const {
    const double wanted = margin(images.row(i), i, k);
    if (wanted <= 0) {
      return 0;
    }
    const auto w = direction(i, k);
    std::vector<std::pair<double, double>> moves;  // gain of a unit, units that the box allows
    double reach = 0;
    for (std::size_t e = 0; e < w.size(); ++e) {
      const auto x = static_cast<double>(images.row(i)[e]);
      moves.emplace_back(std::abs(w[e]), w[e] > 0 ? high - x : x - low);
      reach += moves.back().first * moves.back().second;
    }
    if (reach < wanted) {
      return std::numeric_limits<double>::infinity();
    }
    if (norm == Norm::l1) {  // the steepest coordinates first, each up to the wall
      std::sort(moves.rbegin(), moves.rend());
      double left = wanted;
      double spent = 0;
      for (const auto& [gain, room] : moves) {
        const double used = std::min(room, gain > 0 ? left / gain : room);
        left -= used * gain;
        spent += used;
        if (left <= 1e-15) {
          break;
        }
      }
      return spent;
    }
    // |d_e| = min(t, room) in Linf and min(t |w_e|, room) in L2; the gain grows with t.
    const auto move = [&](double t, const std::pair<double, double>& m) {
      return std::min(norm == Norm::linf ? t : t * m.first, m.second);
    };
    double below = 0;
    double above = 1;
    const auto gain = [&](double t) {
      double sum = 0;
      for (const auto& m : moves) {
        sum += m.first * move(t, m);
      }
      return sum;
    };
    while (gain(above) < wanted && above < 1e12) {
      above *= 2;
    }
    for (int round = 0; round < 200; ++round) {
      const double middle = 0.5 * (below + above);
      (gain(middle) < wanted ? below : above) = middle;
    }
    double sum = 0;
    for (const auto& m : moves) {
      const double d = move(above, m);
      sum = norm == Norm::linf ? std::max(sum, d) : sum + d * d;
    }
    return norm == Norm::linf ? sum : std::sqrt(sum);
  }

  /// The exact distance of image i from being misclassified.
  double distance(Norm norm, std::int64_t i, double low, double high) const {
    double best = std::numeric_limits<double>::infinity();
    for (std::int32_t k = 0; k < model.classes(); ++k) {
      if (k != labels[static_cast<std::size_t>(i)]) {
        best = std::min(best, distance_to(norm, i, k, low, high));
      }
    }
    return best;
  }

  pv::nn::Model model;
  pv::Tensor<float> images;  ///< pixels in (0,1)
  std::vector<std::int32_t> labels;

 private:
  static pv::nn::Model make(std::int32_t classes, const pv::Shape& shape, std::uint64_t seed) {
    auto net = std::make_unique<pv::nn::Sequential<float>>();
    net->add<pv::nn::Linear>("fc", shape.numel(), classes);
    return {"linear", std::move(net), shape, seed};
  }
};

/// A network with one hidden layer, as it is initialised.
inline pv::nn::Model small_network(std::int32_t classes = 5, pv::Shape shape = {1, 4, 6}, std::uint64_t seed = 3) {
  auto net = std::make_unique<pv::nn::Sequential<float>>();
  net->add<pv::nn::Linear>("fc1", shape.numel(), 40);
  net->add<pv::nn::ReLU>("relu");
  net->add<pv::nn::Linear>("fc2", 40, classes);
  return {"small", std::move(net), shape, seed};
}

/// Puts the thread count and the instruction set back.
struct RestoreSettings {
  int threads = pv::thread_count();
  pv::kernels::Isa isa = pv::kernels::isa();
  RestoreSettings() = default;
  RestoreSettings(const RestoreSettings&) = delete;
  RestoreSettings& operator=(const RestoreSettings&) = delete;
  ~RestoreSettings() {
    pv::set_thread_count(threads);
    pv::kernels::set_isa(isa);
  }
};

/// Checks that outcome and cost of every image are the same bits for any number of threads, any batch, any order and
/// any instruction set. Give it some 20 images or more, an attack that succeeds on some of them, and few steps.
inline void check_independence(const attack::Attack& attack, const attack::Classifier& model,
                               const pv::Tensor<float>& images, std::span<const std::int32_t> labels,
                               const attack::RunOptions& options = {}) {
  const RestoreSettings restore;
  const std::int64_t n = images.shape()[0];
  REQUIRE(n >= 2);
  std::vector<std::uint32_t> ids;
  for (std::int64_t i = 0; i < n; ++i) {
    ids.push_back(static_cast<std::uint32_t>(i) * 7 + 1);
  }
  pv::set_thread_count(2);
  const auto reference = attack::run(attack, model, images, labels, options, ids.data());
  // An attack that moves nothing would pass everything below.
  CHECK_MESSAGE(std::memcmp(reference.adversarial.data(), images.data(), images.span().size_bytes()) != 0,
                attack.name(), " moved no image");
  const auto compare = [&](std::span<const std::int64_t> part, const char* what, int detail) {
    const auto count = static_cast<std::int64_t>(part.size());
    pv::Tensor<float> some(pv::Shape{count, images.shape()[1], images.shape()[2], images.shape()[3]});
    std::vector<std::int32_t> some_labels;
    std::vector<std::uint32_t> some_ids;
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t from = part[static_cast<std::size_t>(i)];
      std::copy(images.row(from).begin(), images.row(from).end(), some.row(i).begin());
      some_labels.push_back(labels[static_cast<std::size_t>(from)]);
      some_ids.push_back(ids[static_cast<std::size_t>(from)]);
    }
    const auto result = attack::run(attack, model, some, some_labels, options, some_ids.data());
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t from = part[static_cast<std::size_t>(i)];
      const auto a = static_cast<std::size_t>(i);
      const auto b = static_cast<std::size_t>(from);
      const bool pixels = std::memcmp(result.adversarial.row(i).data(), reference.adversarial.row(from).data(),
                                      images.row(from).size_bytes()) == 0;
      const bool outcome = result.success[a] == reference.success[b] && result.fooled[a] == reference.fooled[b] &&
                           result.attempt[a] == reference.attempt[b] &&
                           result.prediction[a] == reference.prediction[b] &&
                           std::memcmp(&result.distance[a], &reference.distance[b], sizeof(float)) == 0;
      const bool cost = result.forward[a] == reference.forward[b] && result.backward[a] == reference.backward[b];
      CHECK_MESSAGE((pixels && outcome && cost), attack.name(), ": image ", from, " differs with ", what, " ", detail,
                    " (pixels ", pixels, ", outcome ", outcome, ", cost ", cost, ")");
    }
  };
  std::vector<std::int64_t> all;
  for (std::int64_t i = n; i-- > 0;) {
    all.push_back(i);
  }
  for (const int threads : {1, 3}) {
    pv::set_thread_count(threads);
    compare(all, "backwards, threads", threads);
  }
  for (const std::int64_t size : {1, 5}) {
    for (std::int64_t begin = 0; begin < n; begin += size * 6 + 1) {
      std::vector<std::int64_t> part;
      for (std::int64_t i = begin; i < std::min(n, begin + size); ++i) {
        part.push_back(i);
      }
      pv::set_thread_count(2);
      compare(part, "a batch of", static_cast<int>(size));
    }
  }
  for (const auto isa : {pv::kernels::Isa::portable, pv::kernels::Isa::avx2}) {
    pv::kernels::set_isa(isa);
    compare(all, "instruction set", static_cast<int>(isa));
  }
}

}  // namespace attack_checks
