// SPDX-License-Identifier: MIT
// Decoding PNG, JPEG and BMP. Opt-in: compiles stb_image into this translation unit, in a namespace of Pavise's own and
// with internal linkage, so that it meets no other copy of stb_image that a program may have, in this unit or in
// another.
#pragma once

#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/io/file.hpp"

// stb_image is configured by macros; the program's own settings, if it has any, are put back below.
#pragma push_macro("STBI_INCLUDE_STB_IMAGE_H")
#pragma push_macro("STB_IMAGE_IMPLEMENTATION")
#pragma push_macro("STB_IMAGE_STATIC")
#pragma push_macro("STBIDEF")
#pragma push_macro("STBI_ASSERT")
#pragma push_macro("stbi_inline")
#pragma push_macro("STBI_THREAD_LOCAL")
#pragma push_macro("STBI_REALLOC_SIZED")
#pragma push_macro("STBI_MALLOC")
#pragma push_macro("STBI_REALLOC")
#pragma push_macro("STBI_FREE")
#pragma push_macro("STBI_NO_STDIO")
#pragma push_macro("STBI_NO_SIMD")
#pragma push_macro("STBI_NO_LINEAR")
#pragma push_macro("STBI_NO_HDR")
#pragma push_macro("STBI_NO_PSD")
#pragma push_macro("STBI_NO_TGA")
#pragma push_macro("STBI_NO_GIF")
#pragma push_macro("STBI_NO_PIC")
#pragma push_macro("STBI_NO_PNM")
#undef STBI_INCLUDE_STB_IMAGE_H
#undef stbi__err
#undef STB_IMAGE_IMPLEMENTATION
#undef STB_IMAGE_STATIC
#undef STBIDEF
#undef STBI_ASSERT
#undef stbi_inline
#undef STBI_THREAD_LOCAL
#undef STBI_REALLOC_SIZED
#undef STBI_MALLOC
#undef STBI_REALLOC
#undef STBI_FREE
#undef STBI_NO_STDIO
#undef STBI_NO_SIMD
#undef STBI_NO_LINEAR
#undef STBI_NO_HDR
#undef STBI_NO_PSD
#undef STBI_NO_TGA
#undef STBI_NO_GIF
#undef STBI_NO_PIC
#undef STBI_NO_PNM
#define STB_IMAGE_IMPLEMENTATION
#define STB_IMAGE_STATIC
#define STBI_NO_STDIO
#define STBI_NO_SIMD  // the same pixels on every machine
#define STBI_NO_LINEAR
#define STBI_NO_HDR
#define STBI_NO_PSD
#define STBI_NO_TGA
#define STBI_NO_GIF
#define STBI_NO_PIC
#define STBI_NO_PNM
#define STBI_MALLOC(n) calloc(1, n)  // what a corrupt file leaves out is zero, not what was in memory before
#define STBI_REALLOC(p, n) realloc(p, n)
#define STBI_FREE(p) free(p)
#define stbi_inline inline
#define STBI_THREAD_LOCAL thread_local
#define STBI_ASSERT(x) ((x) ? (void)0 : ::pavise::io::detail::image_invariant_broken())

namespace pavise::io::detail {

[[noreturn]] inline void image_invariant_broken() {
  throw IoError("image: the decoder met corrupt data that it did not expect");
}

// The inverse DCT of a corrupt JPEG overflows its integers: harmless where they wrap around, so that is what they do.
#ifdef __clang__
#pragma clang attribute push(__attribute__((no_sanitize("signed-integer-overflow", "shift"))), apply_to = function)
#else
#pragma GCC push_options
#pragma GCC optimize("wrapv")
#endif
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wunused-parameter"
#pragma GCC diagnostic ignored "-Wsign-compare"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#ifndef __clang__
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
// stb_image gives these C names, which an assembler would take for those of another copy.
#define stbi_load_from_memory pavise_stbi_load_from_memory
#define stbi_info_from_memory pavise_stbi_info_from_memory
#define stbi_failure_reason pavise_stbi_failure_reason
#define stbi_image_free pavise_stbi_image_free
#define stbi_zlib_decode_malloc_guesssize_headerflag pavise_stbi_zlib_decode_malloc_guesssize_headerflag
#define stbi_load_from_callbacks pavise_stbi_load_from_callbacks
#define stbi_load_16_from_memory pavise_stbi_load_16_from_memory
#define stbi_load_16_from_callbacks pavise_stbi_load_16_from_callbacks
#define stbi_info_from_callbacks pavise_stbi_info_from_callbacks
#define stbi_is_16_bit_from_memory pavise_stbi_is_16_bit_from_memory
#define stbi_is_16_bit_from_callbacks pavise_stbi_is_16_bit_from_callbacks
#define stbi_is_hdr_from_memory pavise_stbi_is_hdr_from_memory
#define stbi_is_hdr_from_callbacks pavise_stbi_is_hdr_from_callbacks
#define stbi_hdr_to_ldr_gamma pavise_stbi_hdr_to_ldr_gamma
#define stbi_hdr_to_ldr_scale pavise_stbi_hdr_to_ldr_scale
#define stbi_ldr_to_hdr_gamma pavise_stbi_ldr_to_hdr_gamma
#define stbi_ldr_to_hdr_scale pavise_stbi_ldr_to_hdr_scale
#define stbi_set_unpremultiply_on_load pavise_stbi_set_unpremultiply_on_load
#define stbi_set_unpremultiply_on_load_thread pavise_stbi_set_unpremultiply_on_load_thread
#define stbi_convert_iphone_png_to_rgb pavise_stbi_convert_iphone_png_to_rgb
#define stbi_convert_iphone_png_to_rgb_thread pavise_stbi_convert_iphone_png_to_rgb_thread
#define stbi_set_flip_vertically_on_load pavise_stbi_set_flip_vertically_on_load
#define stbi_set_flip_vertically_on_load_thread pavise_stbi_set_flip_vertically_on_load_thread
#define stbi_zlib_decode_malloc pavise_stbi_zlib_decode_malloc
#define stbi_zlib_decode_malloc_guesssize pavise_stbi_zlib_decode_malloc_guesssize
#define stbi_zlib_decode_buffer pavise_stbi_zlib_decode_buffer
#define stbi_zlib_decode_noheader_malloc pavise_stbi_zlib_decode_noheader_malloc
#define stbi_zlib_decode_noheader_buffer pavise_stbi_zlib_decode_noheader_buffer
namespace stb {
using std::abs;  // not the library's own, which takes values on a tape
#include <stb_image.h>
}  // namespace stb
#undef stbi_load_from_memory
#undef stbi_info_from_memory
#undef stbi_failure_reason
#undef stbi_image_free
#undef stbi_zlib_decode_malloc_guesssize_headerflag
#undef stbi_load_from_callbacks
#undef stbi_load_16_from_memory
#undef stbi_load_16_from_callbacks
#undef stbi_info_from_callbacks
#undef stbi_is_16_bit_from_memory
#undef stbi_is_16_bit_from_callbacks
#undef stbi_is_hdr_from_memory
#undef stbi_is_hdr_from_callbacks
#undef stbi_hdr_to_ldr_gamma
#undef stbi_hdr_to_ldr_scale
#undef stbi_ldr_to_hdr_gamma
#undef stbi_ldr_to_hdr_scale
#undef stbi_set_unpremultiply_on_load
#undef stbi_set_unpremultiply_on_load_thread
#undef stbi_convert_iphone_png_to_rgb
#undef stbi_convert_iphone_png_to_rgb_thread
#undef stbi_set_flip_vertically_on_load
#undef stbi_set_flip_vertically_on_load_thread
#undef stbi_zlib_decode_malloc
#undef stbi_zlib_decode_malloc_guesssize
#undef stbi_zlib_decode_buffer
#undef stbi_zlib_decode_noheader_malloc
#undef stbi_zlib_decode_noheader_buffer
#pragma GCC diagnostic pop
#ifdef __clang__
#pragma clang attribute pop
#else
#pragma GCC pop_options
#endif

}  // namespace pavise::io::detail

#undef stbi__err
#pragma pop_macro("STBI_INCLUDE_STB_IMAGE_H")
#pragma pop_macro("STB_IMAGE_IMPLEMENTATION")
#pragma pop_macro("STB_IMAGE_STATIC")
#pragma pop_macro("STBIDEF")
#pragma pop_macro("STBI_ASSERT")
#pragma pop_macro("stbi_inline")
#pragma pop_macro("STBI_THREAD_LOCAL")
#pragma pop_macro("STBI_REALLOC_SIZED")
#pragma pop_macro("STBI_MALLOC")
#pragma pop_macro("STBI_REALLOC")
#pragma pop_macro("STBI_FREE")
#pragma pop_macro("STBI_NO_STDIO")
#pragma pop_macro("STBI_NO_SIMD")
#pragma pop_macro("STBI_NO_LINEAR")
#pragma pop_macro("STBI_NO_HDR")
#pragma pop_macro("STBI_NO_PSD")
#pragma pop_macro("STBI_NO_TGA")
#pragma pop_macro("STBI_NO_GIF")
#pragma pop_macro("STBI_NO_PIC")
#pragma pop_macro("STBI_NO_PNM")

namespace pavise::io {

/// A decoded image: (channels, height, width) row-major, 1 channel (grey) or 3 (red, green, blue).
struct Image {
  std::int64_t channels = 0, height = 0, width = 0;
  std::vector<std::uint8_t> pixels;
};

namespace detail {

/// Walks a JPEG file from marker to marker, to its end, and throws IoError unless every table is well-formed and there
/// before a scan uses it. stb_image (to 2.27, Debian 12's) writes and reads outside its tables where they are not.
class JpegCheck {
 public:
  JpegCheck(std::span<const std::uint8_t> file, const std::string& path) : file_(file), path_(path) {}

  void run() {
    check(byte() == 0xFF && byte() == 0xD8, "expected the marker that begins an image");
    for (;;) {
      check(byte() == 0xFF, "expected a marker");
      int marker = byte();
      while (marker == 0xFF) {
        marker = byte();
      }
      if (marker == 0xD9) {
        return;
      }
      const bool frame = marker >= 0xC0 && marker <= 0xC2;
      const bool known =
          frame || marker == 0xC4 || marker >= 0xE0 || (marker >= 0xDA && marker <= 0xDD && marker != 0xDC);
      check(known && (marker <= 0xEF || marker == 0xFE), "marker ", marker, " is not supported");
      const auto start = at_;
      const int length = byte() << 8 | byte();
      check(length >= 2, "a segment's length is ", length);
      end_ = start + static_cast<std::size_t>(length);
      check(end_ <= file_.size(), "the file ends in a segment of ", length, " bytes");
      if (marker == 0xC4) {
        huffman_tables();
      } else if (marker == 0xDB) {
        quantization_tables();
      } else if (frame) {
        frame_header(marker == 0xC2);
      } else if (marker == 0xDA) {
        scan_header();
      }
      at_ = end_;
      if (marker == 0xDA) {
        skip_scan();
      }
    }
  }

 private:
  template <class... Pieces>
  void check(bool condition, const Pieces&... pieces) const {
    require_at(condition, path_, at_, "image: JPEG: ", pieces...);
  }
  int byte() {
    check(at_ < file_.size(), "the file is truncated");
    return file_[at_++];
  }
  void huffman_tables() {
    while (at_ < end_) {
      const int which = byte();
      check((which & 15) < 4 && which >> 4 < 2, "Huffman table ", which, " does not exist");
      int codes = 0;
      int room = 1;  // codes of this length that are still free
      for (int bits = 1; bits <= 16; ++bits) {
        const int n = byte();
        codes += n;
        room = 2 * room - n;
        check(room >= 0 && codes <= 256, "a Huffman table has too many codes");
      }
      at_ += static_cast<std::size_t>(codes);
      check(at_ <= end_, "a Huffman table is longer than its segment");
      defined_[which >> 4] |= 1U << (which & 15);
    }
  }
  void quantization_tables() {
    while (at_ < end_) {
      const int which = byte();
      check((which & 15) < 4 && which >> 4 < 2, "quantization table ", which, " does not exist");
      at_ += which >> 4 == 0 ? 64 : 128;
      check(at_ <= end_, "a quantization table is longer than its segment");
      quantization_ |= 1U << (which & 15);
    }
  }
  void frame_header(bool progressive) {
    check(components_ == 0, "there are two frames");
    check(end_ - at_ >= 6, "the frame's header is too short");
    progressive_ = progressive;
    at_ += 5;
    components_ = byte();
    check(components_ >= 1 && components_ <= 4 && end_ - at_ == 3 * static_cast<std::size_t>(components_),
          "the frame has ", components_, " components");
    for (int c = 0; c < components_; ++c) {
      at_ += 2;
      tables_ |= 1U << (byte() & 15);
    }
  }
  void scan_header() {
    constexpr int kMaxScans = 256;  // each goes over the whole image, however little it says
    check(components_ > 0, "a scan comes before the frame");
    check(++scans_ <= kMaxScans, "more than ", kMaxScans, " scans");
    check((tables_ & ~quantization_) == 0, "a quantization table is missing");
    const int n = byte();
    check(n >= 1 && n <= components_ && end_ - at_ == 2 * static_cast<std::size_t>(n) + 3, "a scan has ", n,
          " components");
    unsigned used[2] = {0, 0};
    for (int c = 0; c < n; ++c) {
      byte();
      const int which = byte();
      used[0] |= 1U << (which >> 4);
      used[1] |= 1U << (which & 15);
    }
    const int first = byte();
    byte();
    const int approximation = byte();
    check((approximation & 15) <= 13 && approximation >> 4 <= 13, "a scan's approximation is ", approximation);
    const bool dc = !progressive_ || first == 0;
    const bool ac = !progressive_ || first != 0;
    check((!dc || (used[0] & ~defined_[0]) == 0) && (!ac || (used[1] & ~defined_[1]) == 0),
          "a Huffman table is missing");
  }
  /// To the next marker that is none of those within a scan: FF 00 (a byte FF) and the restarts.
  void skip_scan() {
    for (;; ++at_) {
      check(at_ + 1 < file_.size(), "the file is truncated in a scan");
      const int next = file_[at_ + 1];
      if (file_[at_] == 0xFF && next != 0 && next != 0xFF && !(next >= 0xD0 && next <= 0xD7)) {
        return;
      }
    }
  }

  std::span<const std::uint8_t> file_;
  const std::string& path_;
  std::size_t at_ = 0;
  std::size_t end_ = 0;  // of the segment
  int components_ = 0;
  int scans_ = 0;
  bool progressive_ = false;
  unsigned defined_[2] = {0, 0};  // Huffman tables, of DC and AC, a bit each
  unsigned quantization_ = 0;
  unsigned tables_ = 0;  // the quantization tables that the frame asks for
};

/// Walks a PNG file from chunk to chunk and throws IoError where one is longer than the file: the decoder allocates what a
/// chunk of pixels announces, up to 2 GiB.
inline void check_png(std::span<const std::uint8_t> file, const std::string& path) {
  constexpr std::size_t kSignature = 8;
  constexpr std::uint64_t kAround = 12;  // length, type and checksum
  for (std::uint64_t at = kSignature; at + kAround <= file.size();) {
    std::uint64_t length = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      length = length << 8 | file[static_cast<std::size_t>(at) + i];
    }
    require_at(length <= file.size() - at - kAround, path, at, "image: PNG: a chunk of ", length,
               " bytes, the file has ", file.size() - at - kAround, " more");
    at += kAround + length;
  }
}

/// Bytes that a BMP file of this width and height has at least; the decoder itself reads missing ones as zero.
inline std::uint64_t bmp_size(std::span<const std::uint8_t> file, std::int64_t width, std::int64_t height) {
  const auto number = [&](std::size_t at, int bytes) {
    std::uint64_t out = 0;
    for (int i = 0; i < bytes && at + static_cast<std::size_t>(i) < file.size(); ++i) {
      out |= std::uint64_t{file[at + static_cast<std::size_t>(i)]} << 8 * i;
    }
    return out;
  };
  const auto bits = number(number(14, 4) == 12 ? 24 : 28, 2);
  return number(10, 4) + (static_cast<std::uint64_t>(width) * bits + 31) / 32 * 4 * static_cast<std::uint64_t>(height);
}

}  // namespace detail

/// Channels, height and width of a PNG, JPEG or BMP file in memory, without decoding it; `path` is its name in
/// messages. Alpha does not count as a channel. Throws IoError where it is none of them, is larger than 16,384 pixels a
/// side, cut off, or announces more pixels than 2^22 and than 256 for each byte of the file.
inline Image image_info(std::span<const std::uint8_t> file, const std::string& path) {
  constexpr int kMaxSide = 1 << 14;
  constexpr std::uint64_t kMaxPixelsPerByte = 256;  // an evenly grey JPEG has 85; PNG can have thousands, of nothing
  constexpr std::uint64_t kAlways = std::uint64_t{1} << 22;
  require_at(file.size() <= std::size_t{1} << 30, path, std::uint64_t{1} << 30, "image: more than 2^30 bytes");
  if (!file.empty() && file[0] == 0xFF) {  // whatever comes next: the decoder skips any number of these
    detail::JpegCheck(file, path).run();
  }
  if (file.size() > 2 && file[0] == 0x89 && file[1] == 'P') {
    detail::check_png(file, path);
  }
  int width = 0;
  int height = 0;
  int channels = 0;
  const int ok =
      detail::stb::pavise_stbi_info_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &channels);
  require_at(ok != 0, path, 0, "image: not a PNG, JPEG or BMP image, or its header is corrupt (", file.size(),
             " bytes)");
  const bool sides_ok = width >= 1 && width <= kMaxSide && height >= 1 && height <= kMaxSide;
  require_at(sides_ok, path, 0, "image: ", width, " by ", height, " pixels, expected 1 to ", kMaxSide, " a side");
  require_at(static_cast<std::uint64_t>(width) * static_cast<std::uint64_t>(height) <=
                 std::max<std::uint64_t>(kAlways, kMaxPixelsPerByte * file.size()),
             path, 0, "image: ", width, " by ", height, " pixels in ", file.size(), " bytes, at most ",
             kMaxPixelsPerByte, " for each byte are read");
  if (file[0] == 'B') {
    const auto expected = detail::bmp_size(file, width, height);
    require_at(expected <= file.size(), path, file.size(), "image: the BMP file is truncated, expected ", expected,
               " bytes");
  }
  return {channels <= 2 ? 1 : 3, height, width, {}};
}

/// Decodes a PNG, JPEG or BMP file in memory to `channels` channels: 1 (grey), 3 (colour) or 0 (as in the file). The
/// same bytes on every machine. Throws IoError as image_info does, or where the data are corrupt.
inline Image decode_image(std::span<const std::uint8_t> file, const std::string& path, std::int64_t channels = 0) {
  require(channels == 0 || channels == 1 || channels == 3, "decode_image: ", channels, " channels, expected 0, 1 or 3");
  Image out = image_info(file, path);
  out.channels = channels == 0 ? out.channels : channels;
  int width = 0;
  int height = 0;
  int in_file = 0;
  const auto release = [](std::uint8_t* p) { detail::stb::pavise_stbi_image_free(p); };
  const std::unique_ptr<std::uint8_t, decltype(release)> decoded(
      detail::stb::pavise_stbi_load_from_memory(file.data(), static_cast<int>(file.size()), &width, &height, &in_file,
                                                static_cast<int>(out.channels)),
      release);
  if (decoded == nullptr) {
    const char* why = detail::stb::pavise_stbi_failure_reason();
    fail_at(path, file.size(), "image: cannot be decoded: ", why == nullptr ? "corrupt" : why);
  }
  require_at(width == out.width && height == out.height, path, 0, "image: two different sizes in one file");
  const auto area = static_cast<std::size_t>(out.height * out.width);
  const auto n = static_cast<std::size_t>(out.channels);
  out.pixels.resize(area * n);
  for (std::size_t c = 0; c < n; ++c) {
    for (std::size_t i = 0; i < area; ++i) {
      out.pixels[c * area + i] = decoded.get()[i * n + c];
    }
  }
  return out;
}

/// `image` at another size: each new pixel is the mean of the old ones under it, weighted by a triangle as wide as two
/// new pixels (or two old ones where it is enlarged): anti-aliased bilinear interpolation. Throws ValueError for a size
/// below 1.
inline Image resized(const Image& image, std::int64_t height, std::int64_t width) {
  require(height >= 1 && width >= 1, "resized: ", width, " by ", height, " pixels, expected 1 or more a side");
  // One axis at a time: lines of `from` elements, `stride` apart, to lines of `to` elements.
  const auto along = [](const std::vector<float>& in, std::int64_t lines, std::int64_t from, std::int64_t to,
                        std::int64_t inner) {
    std::vector<float> out(static_cast<std::size_t>(lines * to * inner));
    const double scale = static_cast<double>(from) / static_cast<double>(to);
    const double reach = std::max(scale, 1.0);
    for (std::int64_t k = 0; k < to; ++k) {
      const double centre = (static_cast<double>(k) + 0.5) * scale;
      const auto first = std::max<std::int64_t>(0, static_cast<std::int64_t>(centre - reach));
      const auto last = std::min(from, static_cast<std::int64_t>(centre + reach) + 1);
      double total = 0;
      const auto weight = [&](std::int64_t j) {
        const double distance = static_cast<double>(j) + 0.5 - centre;
        return std::max(0.0, 1 - (distance < 0 ? -distance : distance) / reach);
      };
      for (auto j = first; j < last; ++j) {
        total += weight(j);
      }
      for (auto j = first; j < last; ++j) {
        const auto w = static_cast<float>(weight(j) / total);
        for (std::int64_t l = 0; l < lines; ++l) {
          for (std::int64_t i = 0; i < inner; ++i) {
            out[static_cast<std::size_t>((l * to + k) * inner + i)] +=
                w * in[static_cast<std::size_t>((l * from + j) * inner + i)];
          }
        }
      }
    }
    return out;
  };
  std::vector<float> values(image.pixels.begin(), image.pixels.end());
  values = along(values, image.channels, image.height, height, image.width);
  values = along(values, image.channels * height, image.width, width, 1);
  Image out{image.channels, height, width, std::vector<std::uint8_t>(values.size())};
  std::transform(values.begin(), values.end(), out.pixels.begin(),
                 [](float v) { return static_cast<std::uint8_t>(std::clamp(v + 0.5F, 0.0F, 255.0F)); });
  return out;
}

}  // namespace pavise::io
