// SPDX-License-Identifier: MIT
// The rounding attack of Jin, Ohrimenko and Rubinstein ("Getting a-round guarantees: floating-point attacks on certified
// robustness", 2022) on linear classifiers, whose exact radius everybody knows: |w.x + b| / ||w||, computed in floating
// point, is sometimes too large by a rounding, and a search over the neighbours of the nearest point of the plane finds an
// image within it that the network, in floating point, classifies otherwise. Bounds that are rounded outwards have none.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <memory>
#include <vector>

#include "pavise/certify/propagation/propagation.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/nn/linear.hpp"
#include "pavise/nn/model.hpp"

namespace {

namespace pv = pavise;
namespace pc = pavise::certify;

constexpr std::int64_t kNumbers = 48;

/// Two classes, random weights, and an image in the middle of the box.
struct Trial {
  pv::nn::Model model;
  std::vector<float> image;
  std::vector<double> difference;  ///< weights of class 1 minus those of class 0, exactly
  double size = 0;                 ///< its Euclidean norm

  explicit Trial(std::uint64_t seed) : model(make(seed)) {
    pv::RandomSequence random({.seed = seed, .purpose = pv::Purpose::test});
    auto& weight = model.parameters()["fc.weight"];
    for (std::int64_t e = 0; e < 2 * kNumbers; ++e) {
      weight.edit()[static_cast<std::size_t>(e)] = static_cast<float>(random.normal());
    }
    double at_half = 0;
    for (std::size_t e = 0; e < kNumbers; ++e) {
      difference.push_back(static_cast<double>(weight.value()[e + kNumbers]) - static_cast<double>(weight.value()[e]));
      size += difference.back() * difference.back();
      image.push_back(static_cast<float>(random.uniform(0.3, 0.7)));
      at_half += difference.back() * static_cast<double>(image.back());
    }
    size = std::sqrt(size);
    // A plane at a distance of 0.1 to 0.6.
    model.parameters()["fc.bias"].edit()[1] = static_cast<float>(-at_half + size * random.uniform(0.1, 0.6));
    model.parameters()["fc.bias"].edit()[0] = 0;
  }

  static pv::nn::Model make(std::uint64_t seed) {
    auto net = std::make_unique<pv::nn::Sequential<float>>();
    net->add<pv::nn::Linear>("fc", kNumbers, 2);
    return {"linear", std::move(net), pv::Shape{1, 1, kNumbers}, seed};
  }

  /// The usual radius, in the floats that the network computes in.
  double usual_radius() const {
    pv::Tape<float> tape;
    tape.begin(1, 1);
    pv::Var<float> x = tape.input(model.input_shape());
    std::copy(image.begin(), image.end(), x.data());
    const pv::Var<float> z = model(x);
    return static_cast<double>(std::abs(z.data()[1] - z.data()[0]) / static_cast<float>(size));
  }

  /// Looks for an image within `radius`, by exact arithmetic on its pixels, that is classified otherwise.
  bool broken_within(double radius, std::uint64_t seed) const {
    const std::int32_t own = pc::predict(model, image.data());
    const double sign = own == 1 ? -1 : 1;
    pv::RandomSequence random({.seed = seed, .purpose = pv::Purpose::test, .image = 1});
    std::vector<float> near(image.size());
    for (int attempt = 0; attempt < 400; ++attempt) {
      const double length = radius * (1 - 1e-9 * attempt);
      long double squared = 0;
      for (std::size_t e = 0; e < near.size(); ++e) {
        const double target = static_cast<double>(image[e]) + sign * length * difference[e] / size;
        near[e] = static_cast<float>(target);
        const auto step = random.below(4);  // a neighbouring float, in half of the cases
        near[e] = step == 0 ? std::nextafter(near[e], 2.0f) : step == 1 ? std::nextafter(near[e], -1.0f) : near[e];
        const long double moved = static_cast<long double>(near[e]) - static_cast<long double>(image[e]);
        squared += moved * moved;
      }
      const auto most = static_cast<long double>(radius);
      // 64 bits of mantissa, some 100 roundings: what is within 1e-17 of the radius is left alone.
      if (squared < most * most * (1 - 1e-16L) && pc::predict(model, near.data()) != own) {
        return true;
      }
    }
    return false;
  }
};

TEST_CASE("rounding attack: breaks the usual radius of linear classifiers, and none that is rounded outwards") {
  int usual = 0;
  double lost = 0;
  constexpr int kTrials = 200;
  for (int i = 0; i < kTrials; ++i) {
    CAPTURE(i);
    const Trial trial(static_cast<std::uint64_t>(i));
    const double radius = trial.usual_radius();
    usual += trial.broken_within(radius, 7) ? 1 : 0;
    const pc::Network network(trial.model);
    const auto sound = pc::verify_image(network, trial.image.data(),
                                        {.method = pc::Propagation::crown, .threat = pv::attack::l2(1), .search = 50});
    REQUIRE(sound.verified);
    CHECK_FALSE(trial.broken_within(sound.radius, 7));
    lost += 1 - sound.radius / radius;
  }
  CHECK(usual > kTrials / 10);
  CHECK(lost / kTrials < 1e-4);  // and it costs next to nothing
}

}  // namespace
