// SPDX-License-Identifier: MIT
#include "pavise/core/tensor.hpp"

#include <doctest/doctest.h>

#include <cstdint>
#include <new>
#include <numeric>
#include <utility>
#include <vector>

using pavise::Shape;
using pavise::Tensor;

TEST_CASE("tensor: shape, elements, fill") {
  Tensor<float> t({2, 3}, 0.5f);
  CHECK(t.shape() == Shape{2, 3});
  CHECK(t.size() == 6);
  CHECK(std::vector<float>(t.begin(), t.end()) == std::vector<float>(6, 0.5f));
  t.fill(-1);
  t[4] = 7;
  CHECK(std::as_const(t)[4] == 7);
  CHECK(t.span()[3] == -1);
  CHECK(std::accumulate(t.begin(), t.end(), 0.0f) == 2);
  CHECK(Tensor<double>(Shape{3})[2] == 0);
}

TEST_CASE("tensor: from values, which must be as many as the shape has") {
  const Tensor<int> t({2, 2}, {1, 2, 3, 4});
  CHECK(t[3] == 4);
  CHECK(t.span().size() == 4);
  CHECK_THROWS_WITH_AS((Tensor<int>({2, 2}, {1, 2, 3})), "tensor: shape (2,2) holds 4 elements, got 3",
                       pavise::ShapeError);
  CHECK(Tensor<int>(Shape{}, {9})[0] == 9);
}

TEST_CASE("tensor: without a shape it is empty; an axis of 0 has no elements") {
  CHECK(Tensor<float>().size() == 0);
  CHECK(Tensor<float>().shape() == Shape{0});
  const Tensor<float> none({0, 5});
  CHECK(none.size() == 0);
  CHECK(none.begin() == none.end());
}

TEST_CASE("tensor: rows are the entries of the first axis") {
  Tensor<int> t({3, 2, 2});
  std::iota(t.begin(), t.end(), 0);
  const auto row = std::as_const(t).row(2);
  CHECK(row.size() == 4);
  CHECK(row[0] == 8);
  CHECK(row.data() == t.data() + 8);
  t.row(0)[3] = -5;
  CHECK(t[3] == -5);
  CHECK(Tensor<int>({0, 4}).row(0).empty());
  CHECK(Tensor<int>(Shape{}).row(0).empty());
}

TEST_CASE("tensor: reshaped keeps the memory and leaves nothing behind") {
  Tensor<float> t({2, 3}, {1, 2, 3, 4, 5, 6});
  const float* data = t.data();
  const Tensor<float> r = std::move(t).reshaped({3, 2});
  CHECK(r.data() == data);
  CHECK(r.shape() == Shape{3, 2});
  CHECK(r[5] == 6);
  CHECK(t.size() == 0);  // NOLINT(bugprone-use-after-move): what is left is specified
  CHECK(t.shape() == Shape{0});
  Tensor<float> u({2, 3}, 1.0f);
  CHECK_THROWS_WITH_AS(std::move(u).reshaped({4}), "reshape: (2,3) has 6 elements, (4) has 4", pavise::ShapeError);
  CHECK(u.size() == 6);  // NOLINT(bugprone-use-after-move)
}

TEST_CASE("tensor: a copy is another array") {
  const Tensor<int> a(Shape{2}, {1, 2});
  Tensor<int> b = a;
  b[0] = 5;
  CHECK(a[0] == 1);
  CHECK(b.data() != a.data());
}

TEST_CASE("tensor: every array begins on a cache line, also after it has grown") {
  for (std::int64_t n = 1; n < 40; ++n) {
    const Tensor<float> t({n});
    CHECK(reinterpret_cast<std::uintptr_t>(t.data()) % pavise::kAlignment == 0);
  }
  pavise::AlignedVector<char> v;
  for (int i = 0; i < 200; ++i) {
    v.push_back('x');
    REQUIRE(reinterpret_cast<std::uintptr_t>(v.data()) % pavise::kAlignment == 0);
  }
}

TEST_CASE("tensor: a size that no memory has throws") {
  CHECK_THROWS_AS(pavise::AlignedAllocator<double>().allocate(static_cast<std::size_t>(-1) / 8), std::bad_alloc);
  CHECK_THROWS_AS(Tensor<float>({std::int64_t{1} << 40, std::int64_t{1} << 40}), pavise::ShapeError);
}
