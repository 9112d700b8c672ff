// SPDX-License-Identifier: MIT
// Bounds of networks: closed forms, a network computed by hand, and no point of any ball outside of them, in the
// arithmetic that the model really uses.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "certify/networks.hpp"
#include "defend/small.hpp"
#include "kernels/each_isa.hpp"
#include "pavise/certify/propagation/propagation.hpp"
#include "pavise/nn/models.hpp"

namespace {

namespace pv = pavise;
namespace pc = pavise::certify;
using pc::Propagation;
using pv::attack::Norm;
using pv::attack::Threat;

constexpr Propagation kMethods[] = {Propagation::ibp, Propagation::crown};

std::vector<double> margins(const pv::nn::Model& model, const std::vector<float>& image, const Threat& threat,
                            Propagation method, std::int32_t label) {
  const pc::Network network(model);
  return pc::ImageBounds(network, image.data(), threat, method).margins(label);
}

TEST_CASE("bounds: those of a linear model are the dual norm, and the box where it is nearer") {
  const std::vector<double> a = {0.5, -1.25, 2.0, 0.75};
  const auto model = pavise_test::linear_model(4, {0.5f, -1.25f, 2.0f, 0.75f, 0, 0, 0, 0, 1, 1, 1, 1}, {0.25f, 0, -1});
  const std::vector<float> inside = {0.5f, 0.25f, 0.75f, 0.5f};
  const std::vector<float> at_walls = {0.0f, 1.0f, 0.75f, 0.5f};
  const double value = 0.25 + 0.25 - 0.3125 + 1.5 + 0.375;
  const double l1 = 4.5;
  const double l2 = std::sqrt(0.25 + 1.5625 + 4 + 0.5625);
  for (const Propagation method : kMethods) {
    const auto bound = [&](const std::vector<float>& image, Norm norm, double radius) {
      return margins(model, image, Threat(norm, radius), method, 0)[1];
    };
    for (const double radius : {0.0, 0.01, 0.125}) {
      for (const auto& [norm, dual] : {std::pair{Norm::linf, l1}, {Norm::l2, l2}, {Norm::l1, 2.0}}) {
        const double exact = value - radius * dual;
        const double got = bound(inside, norm, radius);
        CHECK(got <= exact);
        CHECK(got > exact - 3e-6);
      }
    }
    // The first pixel cannot fall, the second cannot grow.
    const double exact = 0.25 - 1.25 + 1.5 + 0.375 - 0.125 * (2.0 + 0.75);
    CHECK(bound(at_walls, Norm::linf, 0.125) <= exact);
    CHECK(bound(at_walls, Norm::linf, 0.125) > exact - 3e-6);
  }
}

TEST_CASE("bounds: a network of two ReLUs, by hand") {
  // z = (x1 - x2, x1 + x2 - 1/2), logits (1 + relu(z2), 2 relu(z1)), x in [0,1]^2.
  auto n = pavise_test::net();
  n->add<pv::nn::Linear>("fc1", 2, 2).add<pv::nn::ReLU>("relu").add<pv::nn::Linear>("fc2", 2, 2);
  const pv::nn::Model model("by hand", std::move(n), pv::Shape{1, 1, 2}, 0);
  pavise_test::set(model, "fc1.weight", {1, -1, 1, 1});
  pavise_test::set(model, "fc1.bias", {0, -0.5f});
  pavise_test::set(model, "fc2.weight", {0, 1, 2, 0});
  pavise_test::set(model, "fc2.bias", {1, 0});
  const std::vector<float> image = {0.5f, 0.5f};
  const pc::Network network(model);
  const pc::ImageBounds ibp(network, image.data(), pv::attack::linf(0.5), Propagation::ibp);
  const pc::ImageBounds crown(network, image.data(), pv::attack::linf(0.5), Propagation::crown);
  for (const auto* bounds : {&ibp, &crown}) {
    const auto& z = bounds->boxes()[1];
    CHECK(z.low[0] == doctest::Approx(-1).epsilon(1e-5));
    CHECK(z.high[0] == doctest::Approx(1).epsilon(1e-5));
    CHECK(z.low[1] == doctest::Approx(-0.5).epsilon(1e-5));
    CHECK(z.high[1] == doctest::Approx(1.5).epsilon(1e-5));
    CHECK(z.low[0] <= -1);
    CHECK(z.high[1] >= 1.5);
  }
  // Intervals: 1 + 0 - 2. CROWN: relu(z1) <= (z1 + 1)/2 and relu(z2) >= z2, which leaves 2 x2 - 1/2, attained at (1,0).
  CHECK(ibp.margins(0)[1] == doctest::Approx(-1).epsilon(1e-5));
  CHECK(crown.margins(0)[1] == doctest::Approx(-0.5).epsilon(1e-5));
  CHECK(crown.margins(0)[1] <= -0.5);
  CHECK(crown.margins(0)[0] == 0);
  // The other way intervals know 0 - 1 - 3/2; the lines 2 relu(z1) >= 2 z1 and relu(z2) <= 3/4 z2 + 3/8 leave
  // 5/4 x1 - 11/4 x2 - 1, at (0,1) less than that.
  CHECK(ibp.margins(1)[0] == doctest::Approx(-2.5).epsilon(1e-5));
  CHECK(crown.margins(1)[0] == doctest::Approx(-2.5).epsilon(1e-5));
}

/// The least difference between bound and float margin over many points; below 0, a bound is wrong.
double least_room(const pv::nn::Model& model, const std::vector<float>& image, const Threat& threat,
                  const std::vector<double>& bounds, std::int32_t label, std::uint32_t rounds) {
  double least = std::numeric_limits<double>::infinity();
  for (std::uint32_t round = 0; round < rounds; ++round) {
    const auto z = pavise_test::logits_of(model, pavise_test::points(image, threat, round));
    for (std::size_t j = 0; j < bounds.size(); ++j) {
      for (std::size_t lane = 0; lane < 16 && static_cast<std::int32_t>(j) != label; ++lane) {
        const double margin =
            static_cast<double>(z[static_cast<std::size_t>(label) * 16 + lane]) - static_cast<double>(z[j * 16 + lane]);
        least = std::min(least, margin - bounds[j]);
      }
    }
  }
  return least;
}

TEST_CASE("bounds: hold for all kinds of stages, and CROWN's are never looser") {
  for (const auto& model : pavise_test::every_kind()) {
    CAPTURE(model.name());
    for (std::uint32_t number = 0; number < 3; ++number) {
      const auto image = pavise_test::random_image(model.input_shape(), number);
      const std::int32_t label = pc::predict(model, image.data());
      for (const Threat& threat : {pv::attack::linf(0), pv::attack::linf(0.01), pv::attack::linf(0.1),
                                   pv::attack::l2(0.3), pv::attack::l1(1)}) {
        CAPTURE(threat.epsilon);
        CAPTURE(static_cast<int>(threat.norm));
        const auto ibp = margins(model, image, threat, Propagation::ibp, label);
        const auto crown = margins(model, image, threat, Propagation::crown, label);
        for (std::size_t j = 0; j < ibp.size(); ++j) {
          CHECK(crown[j] >= ibp[j]);
        }
        const double room = least_room(model, image, threat, crown, label, 40);
        CHECK(room >= 0);
        CHECK(least_room(model, image, threat, ibp, label, 10) >= 0);
        if (threat.epsilon == 0) {  // what is left is the error of rounding
          CHECK(room < (model.name() == "winograd" ? 3e-2 : 1e-4));
        }
      }
    }
  }
}

TEST_CASE("bounds: a float error that turns the answer is part of them") {
  // In exact arithmetic z0 - z1 = 0.3 - 0.1; in float the 0.3 is lost between two numbers of 5e7.
  const auto model = pavise_test::linear_model(3, {1e8f, 1, -1e8f, 0, 0, 0}, {0, 0.1f});
  const std::vector<float> image = {0.5f, 0.3f, 0.5f};
  CHECK(pc::predict(model, image.data()) == 1);
  const double exact = 1e8 * 0.5 + 0.3 - 1e8 * 0.5 - 0.1;
  REQUIRE(exact > 0.19);  // a bound of real numbers would certify class 0
  const auto z = pavise_test::logits_of(model, pavise_test::points(image, pv::attack::linf(0), 0));
  const double computed = static_cast<double>(z[0]) - static_cast<double>(z[16]);
  REQUIRE(computed < 0);
  for (const Propagation method : kMethods) {
    const double bound = margins(model, image, pv::attack::linf(0), method, 0)[1];
    CHECK(bound <= computed);
    CHECK(bound > -100);  // some ulps of 5e7
  }
}

TEST_CASE("bounds: nothing is said where a sum may overflow") {
  const auto model = pavise_test::linear_model(2, {3e38f, 3e38f, 0, 0}, {0, 0});
  const auto m = margins(model, {1, 1}, pv::attack::linf(0.1), Propagation::crown, 0);
  CHECK(m[1] == std::numeric_limits<double>::lowest());
  CHECK_FALSE(pc::all_positive(m, 0));
}

TEST_CASE("bounds: what cannot be bounded is refused, with the layer's name") {
  const auto message = [](const pv::nn::Model& model) {
    try {
      const pc::Network network(model);
    } catch (const pv::ValueError& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(message(pv::nn::resnet18()).find("layer layer1.0 (basic_block) of model resnet18 has no bounds") !=
        std::string::npos);
  auto n = pavise_test::net();
  n->add<pv::nn::Linear>("fc1", 2, 2).add<pv::nn::GELU>("act").add<pv::nn::Linear>("fc2", 2, 2);
  CHECK(message({"smooth", std::move(n), pv::Shape{1, 1, 2}, 0}).find("act (gelu)") != std::string::npos);
  CHECK(message(pavise_test::linear_model(2, {1, NAN, 0, 0}, {0, 0})).find("fc.weight holds nan") != std::string::npos);
  for (const auto& name : {"small-cnn", "mlp", "lenet", "madry-cnn", "carlini-cnn"}) {
    CHECK(message(pv::nn::make_model(name)).empty());
  }
  CHECK_THROWS_AS(pv::attack::linf(-0.1), pv::ValueError);
  CHECK_THROWS_AS(pv::attack::linf(1.5), pv::ValueError);
  const auto model = pavise_test::linear_model(2, {1, 0, 0, 0}, {0, 0});
  CHECK_THROWS_WITH_AS(margins(model, {2, 0}, pv::attack::linf(0.1), Propagation::ibp, 0),
                       "bounds: a pixel is 2, expected one in the box [0,1]", pv::ValueError);
  CHECK_THROWS_AS(margins(model, {1, 0}, pv::attack::linf(0.1), Propagation::ibp, 2), pv::ValueError);
  const pc::Network network(model);
  const std::vector<float> image = {1, 0};
  CHECK_THROWS_AS(pc::verify_image(network, image.data(), {.search = -1}), pv::ValueError);
}

TEST_CASE("bounds: the search comes as near to the largest radius as its steps, from below") {
  const auto model = pavise_test::linear_model(2, {1, -1, 0, 0}, {0, 0});
  const std::vector<float> image = {0.75f, 0.25f};  // a margin of 1/2, which a Linf radius of 1/4 takes away
  const pc::Network network(model);
  for (const Propagation method : kMethods) {
    const auto r = pc::verify_image(network, image.data(), {method, pv::attack::linf(0.5), 12});
    CHECK(r.chosen == 0);
    CHECK(r.verified);
    CHECK(r.radius < 0.25);
    CHECK(r.radius >= 0.25 - 0.5 / 4096);
    CHECK(r.margins[1] > 0);
    const auto all = pc::verify_image(network, image.data(), {method, pv::attack::linf(0.2), 12});
    CHECK(all.radius == 0.2);
    const auto fixed = pc::verify_image(network, image.data(), {method, pv::attack::linf(0.3), 0});
    CHECK_FALSE(fixed.verified);
    CHECK(fixed.radius == 0.3);
    CHECK(fixed.margins[1] < 0);
  }
  const std::vector<float> tie = {0.5f, 0.5f};
  const auto none = pc::verify_image(network, tie.data(), {Propagation::ibp, pv::attack::linf(0.5), 12});
  CHECK_FALSE(none.verified);
  CHECK(none.radius == 0);
}

TEST_CASE("bounds: the same bits for any number of threads, on every instruction set") {
  const auto models = pavise_test::every_kind();
  const auto& model = models.front();
  std::vector<std::uint8_t> pixels;
  pv::RandomSequence random({.seed = 2, .purpose = pv::Purpose::test});
  for (std::int64_t i = 0; i < 35 * model.input_shape().numel(); ++i) {
    pixels.push_back(static_cast<std::uint8_t>(random.below(256)));
  }
  const pv::data::Dataset images("random", model.input_shape(), pixels, std::vector<std::int32_t>(35, 0),
                                 {"a", "b", "c", "d"});
  const auto results = [&] {
    const pc::Network network(model);
    std::vector<pc::PropagationResult> out;
    pc::verify_images(network, images, {Propagation::crown, pv::attack::linf(0.02), 3},
                      [&](std::int64_t i, const pc::PropagationResult& r) {
                        CHECK(i == static_cast<std::int64_t>(out.size()));
                        out.push_back(r);
                      });
    return out;
  };
  const auto expected = results();
  REQUIRE(expected.size() == 35);
  {
    const small::Threads one(1);
    CHECK(results() == expected);
  }
  {
    const small::Threads three(3);
    CHECK(results() == expected);
  }
  each_isa([&] { CHECK(results() == expected); });
}

}  // namespace
