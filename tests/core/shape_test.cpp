// SPDX-License-Identifier: MIT
#include "pavise/core/shape.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <limits>
#include <vector>

using pavise::Shape;
using pavise::ShapeError;

TEST_CASE("shape: extents, rank and the number of elements") {
  const Shape s{3, 5, 7};
  CHECK(s.rank() == 3);
  CHECK(s[0] == 3);
  CHECK(s[2] == 7);
  CHECK(s[-1] == 7);
  CHECK(s[-3] == 3);
  CHECK(s.numel() == 105);
  CHECK(std::vector<std::int64_t>(s.begin(), s.end()) == std::vector<std::int64_t>{3, 5, 7});
  CHECK(s.to_string() == "(3,5,7)");
}

TEST_CASE("shape: a scalar has one element, an empty axis none") {
  CHECK(Shape{}.rank() == 0);
  CHECK(Shape{}.empty_rank());
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{}.to_string() == "()");
  CHECK_FALSE(Shape{0}.empty_rank());
  CHECK(Shape{4, 0, 3}.numel() == 0);
  CHECK(Shape{4, 0, 3} == Shape{4, 0, 3});
}

TEST_CASE("shape: equality looks at rank and extents, and not at what an extent was before") {
  CHECK(Shape{2, 3} == Shape{2, 3});
  CHECK_FALSE(Shape{2, 3} == Shape{3, 2});
  CHECK_FALSE(Shape{2, 3} == Shape{2, 3, 1});
  CHECK_FALSE(Shape{} == Shape{1});
  const std::vector<int> extents{2, 9, 4};
  Shape s(extents.begin(), extents.size());
  s.set(-2, 3);
  CHECK(s == Shape{2, 3, 4});
  CHECK(Shape(extents.begin(), 1) == Shape{2});
}

TEST_CASE("shape: what it refuses") {
  CHECK_NOTHROW(Shape{1, 1, 1, 1, 1, 1});
  CHECK_THROWS_WITH_AS((Shape{1, 1, 1, 1, 1, 1, 1}), "shape: 7 axes, at most 6 are supported", ShapeError);
  CHECK_THROWS_WITH_AS((Shape{2, -1}), "shape: an extent is -1, expected 0 or more", ShapeError);
  Shape s{2, 3};
  CHECK_THROWS_WITH_AS(s.set(0, -4), "shape: an extent is -4, expected 0 or more", ShapeError);
  CHECK_THROWS_WITH_AS(s.set(2, 1), "shape (2,3): no axis 2", ShapeError);
  CHECK_THROWS_WITH_AS(s[-3], "shape (2,3): no axis -3", ShapeError);
  CHECK_THROWS_WITH_AS(Shape{}[0], "shape (): no axis 0", ShapeError);
  CHECK(s == Shape{2, 3});
}

TEST_CASE("shape: a number of elements that does not fit in 63 bits is refused, the largest that does is not") {
  constexpr std::int64_t kLargest = std::numeric_limits<std::int64_t>::max();
  CHECK(Shape{kLargest}.numel() == kLargest);
  CHECK(Shape{1, kLargest, 1}.numel() == kLargest);
  CHECK(Shape{std::int64_t{1} << 31, std::int64_t{1} << 31}.numel() == std::int64_t{1} << 62);
  const Shape s{std::int64_t{1} << 32, std::int64_t{1} << 31};
  CHECK_THROWS_WITH_AS(s.numel(), "shape (4294967296,2147483648): the number of elements overflows", ShapeError);
  CHECK_THROWS_AS((Shape{kLargest, 2}.numel()), ShapeError);
}
