// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>

#include "pavise/core/error.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/data/dataset.hpp"

namespace pavise::data {

/// Random changes of training images. Each is a function of (seed, epoch, source index of the image) and of its own
/// option alone: switching one on does not change what another draws.
struct Augmentation {
  bool flip = false;     ///< mirror left and right, with probability one half
  int crop_padding = 0;  ///< pad by so many black pixels on each side, then crop to the old size anywhere
  int cutout = 0;        ///< blacken a square of this side around a random pixel (DeVries and Taylor, 2017)

  bool none() const { return !flip && crop_padding == 0 && cutout == 0; }
};

/// Writes image `i` of `dataset` to `out`, (C,H,W) row-major: byte/255, computed as T(byte)/T(255), after
/// `augmentation` with the numbers of (seed, epoch). Throws ValueError where there is no such image or an option is
/// negative.
template <class T>
void load_image(const Dataset& dataset, std::int64_t i, const Augmentation& augmentation, std::uint64_t seed,
                std::int64_t epoch, T* out) {
  require(i >= 0 && i < dataset.size(), "load_image: no image ", i, " among ", dataset.size());
  require(augmentation.crop_padding >= 0 && augmentation.cutout >= 0, "load_image: crop_padding is ",
          augmentation.crop_padding, ", cutout is ", augmentation.cutout, ", expected 0 or more");
  const std::uint8_t* pixels = dataset.pixels(i);
  if (augmentation.none()) {
    for (std::int64_t k = 0; k < dataset.image_size(); ++k) {
      out[k] = static_cast<T>(pixels[k]) / T(255);
    }
    return;
  }

  const auto channels = dataset.image_shape()[0];
  const auto height = dataset.image_shape()[1];
  const auto width = dataset.image_shape()[2];
  const auto numbers = [&](std::uint32_t which) {
    return RandomSequence({.seed = seed,
                           .purpose = Purpose::augmentation,
                           .image = static_cast<std::uint32_t>(dataset.source_index(i)),
                           .restart = which,
                           .iteration = static_cast<std::uint32_t>(epoch)});
  };
  const bool mirrored = augmentation.flip && numbers(0).word() % 2 == 1;
  std::int64_t shift_y = 0;
  std::int64_t shift_x = 0;
  if (augmentation.crop_padding > 0) {
    auto random = numbers(1);
    const auto places = static_cast<std::uint32_t>(2 * std::int64_t{augmentation.crop_padding} + 1);
    shift_y = std::int64_t{random.below(places)} - augmentation.crop_padding;
    shift_x = std::int64_t{random.below(places)} - augmentation.crop_padding;
  }
  std::int64_t top = 0, bottom = 0, left = 0, right = 0;  // of the hole
  if (augmentation.cutout > 0) {
    auto random = numbers(2);
    top = std::int64_t{random.below(static_cast<std::uint32_t>(height))} - augmentation.cutout / 2;
    left = std::int64_t{random.below(static_cast<std::uint32_t>(width))} - augmentation.cutout / 2;
    bottom = top + augmentation.cutout;
    right = left + augmentation.cutout;
  }
  for (std::int64_t c = 0; c < channels; ++c) {
    for (std::int64_t y = 0; y < height; ++y) {
      for (std::int64_t x = 0; x < width; ++x, ++out) {
        const auto from_y = y + shift_y;
        const auto from_x = (mirrored ? width - 1 - x : x) + shift_x;
        const bool hole = y >= top && y < bottom && x >= left && x < right;
        const bool outside = from_y < 0 || from_y >= height || from_x < 0 || from_x >= width;
        *out = hole || outside ? T(0) : static_cast<T>(pixels[(c * height + from_y) * width + from_x]) / T(255);
      }
    }
  }
}

/// Writes image `i` as it is: byte/255.
template <class T>
void load_image(const Dataset& dataset, std::int64_t i, T* out) {
  load_image(dataset, i, {}, 0, 0, out);
}

}  // namespace pavise::data
