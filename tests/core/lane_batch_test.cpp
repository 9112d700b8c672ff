// SPDX-License-Identifier: MIT
#include "pavise/core/lane_batch.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <type_traits>
#include <vector>

using pavise::LaneBatch;
using pavise::Shape;

namespace {

/// Element e of image i, the same in float and double.
double value(std::int64_t i, std::int64_t e) { return static_cast<double>(i * 1000 + e); }

template <class T>
LaneBatch<T> packed(Shape shape, std::int64_t images, int lanes) {
  LaneBatch<T> batch(shape, images, lanes);
  batch.pack([&](std::int64_t i, T* out) {
    for (std::int64_t e = 0; e < batch.size(); ++e) {
      out[e] = static_cast<T>(value(i, e));
    }
  });
  return batch;
}

}  // namespace

TEST_CASE("lane batch: groups of lanes, and how many of them hold images") {
  const LaneBatch<float> batch({2, 3}, 35, 16);
  CHECK(batch.shape() == Shape{2, 3});
  CHECK(batch.size() == 6);
  CHECK(batch.images() == 35);
  CHECK(batch.groups() == 3);
  CHECK(batch.valid(0) == 16);
  CHECK(batch.valid(1) == 16);
  CHECK(batch.valid(2) == 3);
  CHECK(batch.values(2) == batch.values() + 2 * 6 * 16);
  CHECK(batch.labels(2) == batch.labels() + 32);
  const LaneBatch<float> alone({2, 3}, 35, 1);
  CHECK(alone.groups() == 35);
  CHECK(alone.valid(34) == 1);
  CHECK(alone.values(34) == alone.values() + 34 * 6);
  CHECK(LaneBatch<float>({2}, 0, 16).groups() == 0);
  CHECK(LaneBatch<float>({2}, 32, 16).groups() == 2);
}

TEST_CASE("lane batch: packed lane by lane; lanes behind the last image repeat it") {
  for (const std::int64_t images : {1, 15, 16, 17, 35}) {
    for (const Shape& shape : {Shape{1}, Shape{2, 3, 7}, Shape{16}, Shape{33}, Shape{}}) {
      CAPTURE(images);
      CAPTURE(shape.to_string());
      const auto batch = packed<float>(shape, images, 16);
      std::int64_t wrong = 0;
      for (std::int64_t g = 0; g < batch.groups(); ++g) {
        for (std::int64_t e = 0; e < batch.size(); ++e) {
          for (std::int64_t lane = 0; lane < 16; ++lane) {
            const std::int64_t i = std::min(g * 16 + lane, images - 1);
            wrong += static_cast<double>(batch.values(g)[e * 16 + lane]) == value(i, e) ? 0 : 1;
          }
        }
      }
      CHECK(wrong == 0);
    }
  }
}

TEST_CASE("lane batch: unpacked images are the packed ones, in 16 lanes and in 1, in float and double") {
  const auto check = [](const auto& batch) {
    std::int64_t wrong = 0;
    for (std::int64_t i = 0; i < batch.images(); ++i) {
      std::vector<std::remove_const_t<std::remove_pointer_t<decltype(batch.values())>>> out(
          static_cast<std::size_t>(batch.size()));
      batch.unpack(i, out.data());
      for (std::int64_t e = 0; e < batch.size(); ++e) {
        wrong += static_cast<double>(out[static_cast<std::size_t>(e)]) == value(i, e) ? 0 : 1;
      }
    }
    CHECK(wrong == 0);
  };
  for (const int lanes : {16, 1}) {
    check(packed<float>({3, 5}, 21, lanes));
    check(packed<double>({3, 5}, 21, lanes));
  }
}

TEST_CASE("lane batch: each image is written once") {
  LaneBatch<float> batch({4}, 18, 16);
  std::vector<int> calls(18, 0);
  batch.pack([&](std::int64_t i, float* out) {
    ++calls[static_cast<std::size_t>(i)];
    std::fill_n(out, 4, 0.0f);
  });
  CHECK(calls == std::vector<int>(18, 1));
}

TEST_CASE("lane batch: labels, names and restarts behind the last image are its own") {
  LaneBatch<float> batch({1}, 18, 16);
  for (std::int64_t i = 0; i < 18; ++i) {
    batch.labels()[i] = static_cast<std::int32_t>(i + 1);
    batch.ids()[i] = static_cast<std::uint32_t>(i + 100);
    batch.restarts()[i] = static_cast<std::uint32_t>(i % 3);
  }
  batch.repeat_last();
  for (std::int64_t lane = 2; lane < 16; ++lane) {
    CHECK(batch.labels(1)[lane] == 18);
    CHECK(batch.ids(1)[lane] == 117);
    CHECK(batch.restarts(1)[lane] == 2);
  }
  CHECK(batch.labels(1)[0] == 17);
  LaneBatch<float> none({1}, 0, 16);
  CHECK_NOTHROW(none.repeat_last());
}

TEST_CASE("lane batch: used again for another size, with labels at 0") {
  LaneBatch<float> batch({64}, 64, 16);
  const float* memory = batch.values();
  batch.labels()[3] = 5;
  batch.resize({32}, 20, 16);
  CHECK(batch.values() == memory);
  CHECK(batch.groups() == 2);
  CHECK(batch.labels()[3] == 0);
  CHECK(batch.ids()[3] == 0);
  batch.resize({32}, 20, 1);
  CHECK(batch.groups() == 20);
  CHECK(batch.lanes() == 1);
}

TEST_CASE("lane batch: an exception while an image is written reaches the caller") {
  LaneBatch<float> batch({4}, 40, 16);
  CHECK_THROWS_WITH_AS(batch.pack([](std::int64_t i, float*) { pavise::require(i != 20, "image ", i); }), "image 20",
                       pavise::ValueError);
}

TEST_CASE("lane batch: 16 lanes or 1") {
  CHECK_THROWS_WITH_AS(LaneBatch<float>({4}, 4, 8), "lane batch: 8 lanes, expected 16 or 1", pavise::ValueError);
}
