// SPDX-License-Identifier: MIT
// Small pictures as PNG (W3C, Portable Network Graphics, second edition) and as data URIs, which a page carries in
// itself.
#pragma once

#include <zlib.h>

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pavise/core/error.hpp"

namespace pavise::report {

/// An 8-bit picture: `channels` 1 (grey) or 3 (RGB), pixels row-major with the channels innermost,
/// (height,width,channels).
struct Image {
  std::int64_t width = 0;
  std::int64_t height = 0;
  std::int64_t channels = 1;
  std::vector<std::uint8_t> pixels;
};

namespace detail {

inline constexpr std::int64_t kLargestImage = std::int64_t{1} << 28;

inline void validate(const Image& image, std::string_view operation) {
  require<ShapeError>(image.channels == 1 || image.channels == 3, operation, ": ", image.channels,
                      " channels, expected 1 (grey) or 3 (RGB)");
  require<ShapeError>(image.width >= 1 && image.height >= 1 && image.width <= kLargestImage &&
                          image.height <= kLargestImage && image.width * image.height <= kLargestImage,
                      operation, ": ", image.width, " x ", image.height, " pixels, expected 1 to 2^28 in all");
  const std::int64_t bytes = image.width * image.height * image.channels;
  require<ShapeError>(static_cast<std::int64_t>(image.pixels.size()) == bytes, operation, ": ", image.width, " x ",
                      image.height, " x ", image.channels, " is ", bytes, " bytes, got ", image.pixels.size());
}

inline void append_u32(std::string& out, std::uint32_t value) {
  for (const int shift : {24, 16, 8, 0}) {
    out.push_back(static_cast<char>(value >> shift & 0xFFU));
  }
}

/// A chunk: length, type, data, and the CRC of type and data.
inline void append_chunk(std::string& out, std::string_view type, std::string_view data) {
  append_u32(out, static_cast<std::uint32_t>(data.size()));
  const std::size_t start = out.size();
  out.append(type).append(data);
  const auto* bytes = reinterpret_cast<const Bytef*>(out.data() + start);
  append_u32(out, static_cast<std::uint32_t>(crc32(0, bytes, static_cast<uInt>(out.size() - start))));
}

}  // namespace detail

/// The bytes of a PNG file with the pixels of `image`, without loss. Throws ShapeError where the image's extents,
/// channels and number of bytes do not fit together.
inline std::string encode_png(const Image& image) {
  detail::validate(image, "encode_png");
  const auto row = static_cast<std::size_t>(image.width * image.channels);
  std::string filtered;  // each row after the number of its filter: 0, none
  filtered.reserve((row + 1) * static_cast<std::size_t>(image.height));
  for (std::size_t y = 0; y < static_cast<std::size_t>(image.height); ++y) {
    filtered.push_back('\0');
    filtered.append(reinterpret_cast<const char*>(image.pixels.data()) + y * row, row);
  }
  uLongf size = compressBound(static_cast<uLong>(filtered.size()));
  std::string compressed(size, '\0');
  const int status = compress2(reinterpret_cast<Bytef*>(compressed.data()), &size,
                               reinterpret_cast<const Bytef*>(filtered.data()), static_cast<uLong>(filtered.size()), 9);
  require<Error>(status == Z_OK, "encode_png: zlib failed with status ", status);
  compressed.resize(size);

  std::string header;
  detail::append_u32(header, static_cast<std::uint32_t>(image.width));
  detail::append_u32(header, static_cast<std::uint32_t>(image.height));
  header.push_back(8);                                               // bits a sample
  header.push_back(static_cast<char>(image.channels == 3 ? 2 : 0));  // colour type: RGB or grey
  header.append(3, '\0');                                            // deflate, adaptive filters, not interlaced
  std::string out("\x89PNG\r\n\x1A\n", 8);
  detail::append_chunk(out, "IHDR", header);
  detail::append_chunk(out, "IDAT", compressed);
  detail::append_chunk(out, "IEND", "");
  return out;
}

/// `bytes` in base64 with padding (RFC 4648, section 4).
inline std::string base64(std::string_view bytes) {
  constexpr char kDigits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  std::string out;
  out.reserve((bytes.size() + 2) / 3 * 4);
  for (std::size_t i = 0; i < bytes.size(); i += 3) {
    const std::size_t have = bytes.size() - i < 3 ? bytes.size() - i : 3;
    std::uint32_t word = 0;
    for (std::size_t j = 0; j < 3; ++j) {
      word = word << 8 | (j < have ? static_cast<unsigned char>(bytes[i + j]) : 0U);
    }
    for (std::size_t j = 0; j < 4; ++j) {
      out.push_back(j <= have ? kDigits[word >> (18 - 6 * j) & 63U] : '=');
    }
  }
  return out;
}

/// `image` as a PNG in a data URI, as HTML takes for the source of a picture.
inline std::string png_data_uri(const Image& image) { return "data:image/png;base64," + base64(encode_png(image)); }

/// `image` with every pixel repeated `factor` times each way (nearest neighbour). Throws ValueError where factor < 1.
inline Image upscale(const Image& image, std::int64_t factor) {
  detail::validate(image, "upscale");
  require(factor >= 1 && factor <= 1024 && image.width * image.height <= detail::kLargestImage / (factor * factor),
          "upscale: factor ", factor, " for ", image.width, " x ", image.height,
          " pixels, expected 1 to 1024 and at most 2^28 pixels in all");
  Image out{image.width * factor, image.height * factor, image.channels, {}};
  out.pixels.reserve(static_cast<std::size_t>(out.width * out.height * out.channels));
  for (std::int64_t y = 0; y < out.height; ++y) {
    for (std::int64_t x = 0; x < out.width; ++x) {
      const auto* pixel = image.pixels.data() + (y / factor * image.width + x / factor) * image.channels;
      out.pixels.insert(out.pixels.end(), pixel, pixel + image.channels);
    }
  }
  return out;
}

}  // namespace pavise::report
