// SPDX-License-Identifier: MIT
// The loader, augmentation, label noise and synthetic data: functions of seed, epoch and image, and of nothing else.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <set>

#include "pavise/data/augment.hpp"
#include "pavise/data/label_noise.hpp"
#include "pavise/data/loader.hpp"
#include "pavise/data/synthetic.hpp"

namespace data = pavise::data;
using pavise::Shape;

namespace {

/// `n` images (2,h,w) whose pixels are all different from 0, of `classes` classes in turn.
data::Dataset images(std::int64_t n, std::int64_t h, std::int64_t w, std::int32_t classes) {
  std::vector<std::uint8_t> pixels(static_cast<std::size_t>(n * 2 * h * w));
  for (std::size_t i = 0; i < pixels.size(); ++i) {
    pixels[i] = static_cast<std::uint8_t>(1 + i * 7 % 255);
  }
  std::vector<std::int32_t> labels;
  for (std::int64_t i = 0; i < n; ++i) {
    labels.push_back(static_cast<std::int32_t>(i % classes));
  }
  return {"test", Shape{2, h, w}, pixels, labels, std::vector<std::string>(static_cast<std::size_t>(classes), "x")};
}

std::vector<float> loaded(const data::Dataset& set, std::int64_t i, data::Augmentation how, std::uint64_t seed,
                          std::int64_t epoch) {
  std::vector<float> out(static_cast<std::size_t>(set.image_size()));
  data::load_image(set, i, how, seed, epoch, out.data());
  return out;
}

}  // namespace

TEST_CASE("loader: every image once, in an order that is a function of seed and epoch") {
  data::Loader loader{images(103, 1, 1, 3), 10, 5};
  std::set<std::vector<std::int64_t>> orders;
  for (std::int64_t e = 0; e < 20; ++e) {
    const auto epoch = loader.epoch(e);
    REQUIRE(epoch.size() == 11);
    std::vector<std::int64_t> seen;
    for (std::int64_t b = 0; b < epoch.size(); ++b) {
      CHECK(epoch.batch(b).size() == (b < 10 ? 10 : 3));
      seen.insert(seen.end(), epoch.batch(b).begin(), epoch.batch(b).end());
    }
    CHECK(seen == loader.epoch(e).order());  // asked again: the same
    orders.insert(seen);
    std::sort(seen.begin(), seen.end());
    std::vector<std::int64_t> all(103);
    std::iota(all.begin(), all.end(), 0);
    CHECK(seen == all);
  }
  CHECK(orders.size() == 20);
  auto other = loader;
  other.seed = 6;
  CHECK(other.epoch(0).order() != loader.epoch(0).order());
  other = loader;
  other.batch_size = 7;  // how it is cut does not change the order
  other.drop_last = true;
  CHECK(other.epoch(3).order() == loader.epoch(3).order());
  CHECK(other.epoch(3).size() == 14);
  CHECK(other.epoch(3).batch(13).size() == 7);
  CHECK_THROWS_AS(other.epoch(3).batch(14), pavise::ValueError);
  other.shuffle = false;
  CHECK(other.epoch(3).batch(1)[2] == 9);
  other.batch_size = 0;
  CHECK_THROWS_AS(other.epoch(0), pavise::ValueError);
  CHECK_THROWS_AS(loader.epoch(-1), pavise::ValueError);
  CHECK(data::Loader{images(0, 1, 1, 1), 10, 5}.epoch(0).size() == 0);
}

TEST_CASE("augmentation: none is byte / 255, exactly") {
  const auto set = images(3, 5, 7, 2);
  std::vector<float> floats(70);
  std::vector<double> doubles(70);
  data::load_image(set, 1, floats.data());
  data::load_image(set, 1, doubles.data());
  for (std::size_t k = 0; k < 70; ++k) {
    CHECK(floats[k] == static_cast<float>(set.pixels(1)[k]) / 255.0F);
    CHECK(doubles[k] == set.pixels(1)[k] / 255.0);
  }
  CHECK_THROWS_AS(data::load_image(set, 3, floats.data()), pavise::ValueError);
  CHECK_THROWS_AS(loaded(set, 0, {.cutout = -1}, 0, 0), pavise::ValueError);
}

TEST_CASE("augmentation: each is what it says, about as often as it says") {
  const std::int64_t h = 6, w = 5;
  const auto set = images(400, h, w, 2);
  int flipped = 0;
  std::set<std::pair<std::int64_t, std::int64_t>> shifts;
  for (std::int64_t i = 0; i < set.size(); ++i) {
    const auto plain = loaded(set, i, {}, 3, 1);
    const auto at = [&](const std::vector<float>& v, std::int64_t c, std::int64_t y, std::int64_t x) {
      return y < 0 || y >= h || x < 0 || x >= w ? 0.0F : v[static_cast<std::size_t>((c * h + y) * w + x)];
    };
    const auto equals = [&](const std::vector<float>& v, auto&& expected) {
      for (std::int64_t c = 0; c < 2; ++c) {
        for (std::int64_t y = 0; y < h; ++y) {
          for (std::int64_t x = 0; x < w; ++x) {
            if (at(v, c, y, x) != expected(c, y, x)) {
              return false;
            }
          }
        }
      }
      return true;
    };
    // Either the image or its mirror image.
    const auto flip = loaded(set, i, {.flip = true}, 3, 1);
    const bool mirrored = equals(flip, [&](auto c, auto y, auto x) { return at(plain, c, y, w - 1 - x); });
    CHECK((mirrored || flip == plain));
    flipped += mirrored ? 1 : 0;
    // Shifted by at most the padding, black where there was nothing.
    const auto crop = loaded(set, i, {.crop_padding = 2}, 3, 1);
    int found = 0;
    for (std::int64_t dy = -2; dy <= 2; ++dy) {
      for (std::int64_t dx = -2; dx <= 2; ++dx) {
        if (equals(crop, [&](auto c, auto y, auto x) { return at(plain, c, y + dy, x + dx); })) {
          ++found;
          shifts.emplace(dy, dx);
        }
      }
    }
    CHECK(found == 1);
    // A hole of at most 3 by 3, the same in each channel, and nothing else changed.
    const auto hole = loaded(set, i, {.cutout = 3}, 3, 1);
    int black = 0;
    for (std::size_t k = 0; k < hole.size(); ++k) {
      CHECK((hole[k] == plain[k] || hole[k] == 0));
      black += hole[k] == 0 ? 1 : 0;
    }
    CHECK(black % 2 == 0);
    CHECK(black / 2 >= 4);  // its centre is in the image
    CHECK(black / 2 <= 9);
    // Options do not change each other's numbers.
    const auto all = loaded(set, i, {.flip = true, .crop_padding = 2, .cutout = 3}, 3, 1);
    const auto two = loaded(set, i, {.flip = true, .crop_padding = 2}, 3, 1);
    for (std::size_t k = 0; k < all.size(); ++k) {
      CHECK(all[k] == (hole[k] == 0 ? 0.0F : two[k]));
    }
  }
  CHECK(std::abs(flipped - 200) < 50);  // five standard deviations
  CHECK(shifts.size() == 25);
}

TEST_CASE("augmentation: a function of seed, epoch and source index") {
  const auto set = images(50, 8, 8, 2);
  const data::Augmentation how{.flip = true, .crop_padding = 3, .cutout = 2};
  const auto view = set.subset({40, 7, 9});
  CHECK(loaded(view, 1, how, 5, 2) == loaded(set, 7, how, 5, 2));
  int by_epoch = 0;
  int by_seed = 0;
  for (std::int64_t i = 0; i < 50; ++i) {
    by_epoch += loaded(set, i, how, 5, 2) != loaded(set, i, how, 5, 3) ? 1 : 0;
    by_seed += loaded(set, i, how, 5, 2) != loaded(set, i, how, 6, 2) ? 1 : 0;
  }
  CHECK(by_epoch > 40);
  CHECK(by_seed > 40);
}

TEST_CASE("label noise: its rate, to other classes only, each equally likely") {
  const auto set = images(20000, 1, 1, 5);
  const auto [noisy, flipped] = data::label_noise(set, 0.4, 11);
  std::int64_t different = 0;
  std::array<int, 5> shift{};
  for (std::int64_t i = 0; i < set.size(); ++i) {
    different += noisy.label(i) != set.label(i) ? 1 : 0;
    ++shift[static_cast<std::size_t>((noisy.label(i) - set.label(i) + 5) % 5)];
  }
  CHECK(different == flipped);
  CHECK(std::abs(static_cast<double>(flipped) - 8000) < 5 * std::sqrt(20000 * 0.4 * 0.6));
  for (std::size_t s = 1; s < 5; ++s) {
    CHECK(std::abs(shift[s] - 2000) < 5 * std::sqrt(2000 * 0.9));
  }
  // A subset's labels are those of the whole; the images stay.
  const auto part = data::label_noise(set.subset({17, 3, 19999}), 0.4, 11).dataset;
  CHECK(part.label(0) == noisy.label(17));
  CHECK(part.label(2) == noisy.label(19999));
  CHECK(noisy.pixels(17) == set.pixels(17));
  CHECK(data::label_noise(set, 0, 11).flipped == 0);
  CHECK(data::label_noise(set, 1, 11).flipped == 20000);
  CHECK(data::label_noise(set, 0.4, 12).dataset.labels() != noisy.labels());
  CHECK_THROWS_AS(data::label_noise(set, 1.1, 0), pavise::ValueError);
  CHECK_THROWS_AS(data::label_noise(set, std::nan(""), 0), pavise::ValueError);
  CHECK_THROWS_AS(data::label_noise(images(3, 1, 1, 1), 0.5, 0), pavise::ValueError);
}

TEST_CASE("drawn digits: image i depends on seed and i alone") {
  const auto many = data::drawn_digits({.train = 300, .test = 40, .seed = 3});
  const auto few = data::drawn_digits({.train = 70, .test = 20, .seed = 3});
  CHECK(few.train.image_shape() == Shape{1, 28, 28});
  CHECK(std::equal(few.train.pixels(0), few.train.pixels(0) + 70 * 784, many.train.pixels(0)));
  CHECK(std::equal(few.test.pixels(0), few.test.pixels(0) + 20 * 784, many.test.pixels(0)));
  CHECK(std::equal(few.test.labels().begin(), few.test.labels().end(), many.test.labels().begin()));
  const auto other = data::drawn_digits({.train = 70, .test = 0, .seed = 4});
  CHECK(!std::equal(few.train.pixels(0), few.train.pixels(0) + 784, other.train.pixels(0)));
  CHECK(other.test.size() == 0);
  CHECK_THROWS_AS(data::drawn_digits({.train = -1}), pavise::ValueError);
}

TEST_CASE("drawn digits: dark paper, bright strokes, learnable but not by eye of a template") {
  const auto [train, test] = data::drawn_digits({.train = 3000, .test = 600});
  std::vector<double> mean(10 * 784);
  std::vector<int> count(10);
  for (std::int64_t i = 0; i < train.size(); ++i) {
    const auto c = static_cast<std::size_t>(train.label(i));
    ++count[c];
    for (std::size_t k = 0; k < 784; ++k) {
      mean[c * 784 + k] += train.pixels(i)[k] / 255.0;
    }
    const auto brightest = *std::max_element(train.pixels(i), train.pixels(i) + 784);
    CHECK(brightest > 100);
  }
  for (std::size_t c = 0; c < 10; ++c) {
    CHECK(std::abs(count[c] - 300) < 5 * std::sqrt(270.0));
    for (std::size_t k = 0; k < 784; ++k) {
      mean[c * 784 + k] /= count[c];
    }
  }
  int right = 0;
  for (std::int64_t i = 0; i < test.size(); ++i) {
    std::array<double, 10> distance{};
    for (std::size_t c = 0; c < 10; ++c) {
      for (std::size_t k = 0; k < 784; ++k) {
        const double d = test.pixels(i)[k] / 255.0 - mean[c * 784 + k];
        distance[c] += d * d;
      }
    }
    right += std::min_element(distance.begin(), distance.end()) - distance.begin() == test.label(i) ? 1 : 0;
  }
  MESSAGE("nearest mean: ", right, " of 600 right");
  CHECK(right > 240);  // ten times chance would be all
  CHECK(right < 540);
}

TEST_CASE("two gaussians: their means and deviation") {
  const auto set = data::two_gaussians(2000, 4, 0.2, 0.05, 1);
  double sum[2] = {0, 0};
  double squares = 0;
  for (std::int64_t i = 0; i < set.size(); ++i) {
    for (int k = 0; k < 4; ++k) {
      const double v = set.pixels(i)[k] / 255.0;
      sum[set.label(i)] += v / 4000;
      squares += (v - (set.label(i) == 0 ? 0.4 : 0.6)) * (v - (set.label(i) == 0 ? 0.4 : 0.6)) / 8000;
    }
  }
  CHECK(std::abs(sum[0] - 0.4) < 0.005);
  CHECK(std::abs(sum[1] - 0.6) < 0.005);
  CHECK(std::abs(std::sqrt(squares) - 0.05) < 0.003);
  CHECK_THROWS_AS(data::two_gaussians(0, 4, 0.2, 0.05, 1), pavise::ValueError);
}
