// SPDX-License-Identifier: MIT
// Filters that draw: noise, random resizing.
#include <doctest/doctest.h>

#include <cmath>
#include <vector>

#include "filter/filter_checks.hpp"
#include "pavise/defend/filter/noise.hpp"
#include "pavise/defend/filter/resize_pad.hpp"

using namespace filter_checks;

namespace {

/// The sequence of an image in the passes of the table of operations, for a filter that stands alone.
pv::RandomSequence sequence(std::uint32_t image) {
  return pv::RandomSequence({.seed = 5, .purpose = pv::Purpose::defense, .image = image, .iteration = 3});
}

auto naive_uniform(double a) {
  return [a](const Values& x, Shape, std::uint32_t image) {
    auto random = sequence(image);
    Values out;
    for (const double v : x) {
      out.push_back(v + a * (2 * random.uniform() - 1));
    }
    return out;
  };
}

auto naive_gaussian(double sigma) {
  return [sigma](const Values& x, Shape, std::uint32_t image) {
    auto random = sequence(image);
    Values out;
    for (std::size_t i = 0; i < x.size(); i += 2) {
      const double radius = std::sqrt(-2 * std::log(random.uniform()));
      const double turn = 2 * M_PI * std::ldexp(static_cast<double>(random.word()), -32);
      out.push_back(x[i] + sigma * radius * std::cos(turn));
      if (i + 1 < x.size()) {
        out.push_back(x[i + 1] + sigma * radius * std::sin(turn));
      }
    }
    return out;
  };
}

/// Xie et al.: nearest neighbour into a random rectangle.
auto naive_resize(std::int64_t smallest, std::int64_t out) {
  return [=](const Values& x, Shape s, std::uint32_t image) {
    auto random = sequence(image);
    const std::int64_t oh = out > 0 ? out : s[1];
    const auto ow = std::max<std::int64_t>(
        1, static_cast<std::int64_t>(std::floor(static_cast<double>(s[2] * oh) / static_cast<double>(s[1]) + 0.5)));
    const std::int64_t h = smallest + random.below(static_cast<std::uint32_t>(oh > smallest ? oh - smallest : 1));
    const auto w = std::min(
        ow, std::max<std::int64_t>(
                1, static_cast<std::int64_t>(std::floor(static_cast<double>(ow * h) / static_cast<double>(oh) + 0.5))));
    const std::int64_t top = random.below(static_cast<std::uint32_t>(oh - h + 1));
    const std::int64_t left = random.below(static_cast<std::uint32_t>(ow - w + 1));
    Values y(static_cast<std::size_t>(s[0] * oh * ow));
    for (std::int64_t c = 0; c < s[0]; ++c) {
      for (std::int64_t i = 0; i < h; ++i) {
        for (std::int64_t j = 0; j < w; ++j) {
          y[static_cast<std::size_t>((c * oh + top + i) * ow + left + j)] =
              x[static_cast<std::size_t>((c * s[1] + i * s[1] / h) * s[2] + j * s[2] / w)];
        }
      }
    }
    return y;
  };
}

}  // namespace

TEST_CASE("noise: the scalar numbers, derivatives, lanes, threads, instruction sets") {
  auto uniform = row("uniform-noise:0.25", {2, 3, 5}, naive_uniform(0.25));
  uniform.tolerance = 1e-6;
  INFO(uniform.name);
  CHECK(op_table::check_forward<float>(uniform) == "");
  CHECK(op_table::check_gradient(uniform) == "");
  CHECK(op_table::check_lanes<float>(uniform) == "");
  CHECK(op_table::check_lanes<double>(uniform) == "");
  CHECK(op_table::check_instruction_sets<float>(uniform) == "");
  CHECK(op_table::check_threads<float>(uniform) == "");
  const auto normal = row("gaussian-noise:0.5", {1, 3, 7}, naive_gaussian(0.5)).within(4e-6);
  CHECK(op_table::check_forward<float>(normal) == "");
  CHECK(op_table::check_gradient(normal) == "");
  CHECK(op_table::check_lanes<float>(normal) == "");
  CHECK(op_table::check_instruction_sets<float>(normal) == "");
  CHECK(op_table::check_threads<float>(normal) == "");
}

TEST_CASE("random resizing: the naive loops, derivatives, lanes, threads, instruction sets") {
  op_table::check_rows(
      {row("resize-pad:3", {2, 7, 7}, naive_resize(3, 0)), row("resize-pad:4-9", {1, 5, 7}, naive_resize(4, 9)),
       row("resize-pad:1", {3, 1, 1}, naive_resize(1, 0)), row("resize-pad:5-6", {1, 6, 4}, naive_resize(5, 6))});
  CHECK(defend::ResizePad<float>(299, 331).output_shape({3, 299, 299}) == Shape{3, 331, 331});
  CHECK(defend::ResizePad<float>(24).output_shape({1, 28, 28}) == Shape{1, 28, 28});
}

TEST_CASE("random filters: refuse what cannot be") {
  CHECK_THROWS_AS(defend::GaussianNoise<float>(0), pv::ValueError);
  CHECK_THROWS_AS(defend::UniformNoise<float>(-1), pv::ValueError);
  CHECK_THROWS_AS(defend::ResizePad<float>(9, 8), pv::ValueError);
  CHECK_THROWS_WITH_AS(defend::ResizePad<float>(9).output_shape({1, 8, 8}),
                       "resize-pad: smallest height 9, expected 1 to 8", pv::ValueError);
}
