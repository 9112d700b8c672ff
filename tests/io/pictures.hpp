// SPDX-License-Identifier: MIT
// Image files made in the tests, through stb_image_write.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb_image_write.h>
#pragma GCC diagnostic pop

#include "pavise/io/image.hpp"

namespace pavise_test {

/// A smooth picture, another for each `which`.
inline pavise::io::Image picture(int channels, int height, int width, int which = 0) {
  pavise::io::Image out{channels, height, width, {}};
  for (int c = 0; c < channels; ++c) {
    for (int y = 0; y < height; ++y) {
      for (int x = 0; x < width; ++x) {
        out.pixels.push_back(static_cast<std::uint8_t>((40 * c + 3 * y + 5 * x + 11 * which) % 256));
      }
    }
  }
  return out;
}

/// `image` as a file: "png", "jpg" or "bmp".
inline std::vector<std::uint8_t> encoded(const pavise::io::Image& image, const std::string& format) {
  const auto area = static_cast<std::size_t>(image.height * image.width);
  const auto n = static_cast<std::size_t>(image.channels);
  std::vector<std::uint8_t> interleaved(area * n);
  for (std::size_t i = 0; i < area; ++i) {
    for (std::size_t c = 0; c < n; ++c) {
      interleaved[i * n + c] = image.pixels[c * area + i];
    }
  }
  std::vector<std::uint8_t> out;
  const auto append = [](void* context, void* data, int size) {
    auto& to = *static_cast<std::vector<std::uint8_t>*>(context);
    to.insert(to.end(), static_cast<std::uint8_t*>(data), static_cast<std::uint8_t*>(data) + size);
  };
  const auto w = static_cast<int>(image.width);
  const auto h = static_cast<int>(image.height);
  const auto comp = static_cast<int>(n);
  if (format == "png") {
    stbi_write_png_to_func(append, &out, w, h, comp, interleaved.data(), w * comp);
  } else if (format == "jpg") {
    stbi_write_jpg_to_func(append, &out, w, h, comp, interleaved.data(), 90);
  } else {
    stbi_write_bmp_to_func(append, &out, w, h, comp, interleaved.data());
  }
  return out;
}

}  // namespace pavise_test
