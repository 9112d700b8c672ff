// SPDX-License-Identifier: MIT
#include "pavise/io/image.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "io/pictures.hpp"
#include "io/scratch.hpp"

using namespace pavise_test;
namespace io = pavise::io;

TEST_CASE("image: PNG and BMP come back exactly, JPEG nearly") {
  for (const int channels : {1, 3}) {
    const auto image = picture(channels, 7, 12);
    for (const std::string format : {"png", "jpg", "bmp"}) {
      CAPTURE(format);
      CAPTURE(channels);
      const auto bytes = encoded(image, format);
      const auto info = io::image_info(bytes, "file");
      CHECK(info.height == 7);
      CHECK(info.width == 12);
      const auto back = io::decode_image(bytes, "file", channels);
      REQUIRE(back.pixels.size() == image.pixels.size());
      int worst = 0;
      for (std::size_t i = 0; i < image.pixels.size(); ++i) {
        worst = std::max(worst, std::abs(int{back.pixels[i]} - int{image.pixels[i]}));
      }
      CHECK(worst <= (format == "jpg" ? 12 : 0));
    }
  }
}

TEST_CASE("image: grey becomes colour, colour becomes grey") {
  const auto grey = io::decode_image(encoded(picture(1, 4, 5), "png"), "file", 3);
  REQUIRE(grey.pixels.size() == 60);
  CHECK(std::equal(grey.pixels.begin(), grey.pixels.begin() + 20, grey.pixels.begin() + 40));
  CHECK(io::decode_image(encoded(picture(3, 4, 5), "png"), "file", 1).pixels.size() == 20);
  CHECK(io::decode_image(encoded(picture(3, 4, 5), "png"), "file").channels == 3);
  CHECK_THROWS_AS(io::decode_image(encoded(picture(3, 4, 5), "png"), "file", 2), pavise::ValueError);
}

TEST_CASE("image: truncated files are refused") {
  for (const std::string format : {"png", "jpg", "bmp"}) {
    CAPTURE(format);
    auto bytes = encoded(picture(3, 9, 10), format);
    if (format == "png") {
      bytes.resize(bytes.size() - 12);  // without the end chunk, which holds nothing
      const auto whole = io_error([&] { io::decode_image(bytes, "file"); });
      CHECK(!whole.empty());
      bytes.resize(bytes.size() - 1);
    }
    check_truncations(bytes, [](const Bytes& b) { io::decode_image(b, "file"); });
  }
}

TEST_CASE("image: damaged files are refused or decoded, and nothing else") {
  for (const std::string format : {"png", "jpg", "bmp"}) {
    CAPTURE(format);
    const int refused = fuzz(encoded(picture(3, 9, 10), format), 3000, [](const Bytes& b) {
      // Damage may make an image larger; a picture of many millions of pixels is only slow.
      const auto info = io::image_info(b, "file");
      if (info.height * info.width < 100'000) {
        io::decode_image(b, "file");
      }
    });
    CHECK(refused > 300);
  }
}

TEST_CASE("image: a size that the file cannot hold is refused before anything is allocated") {
  auto png = encoded(picture(3, 9, 10), "png");
  png[18] = 0x3F;  // a width of 16,138
  png[22] = 0x3F;
  CHECK(contains(io_error([&] { io::decode_image(png, "file"); }), "for each byte"));
  png[18] = 0x50;  // 20,490 by 9
  png[22] = 0;
  CHECK(contains(io_error([&] { io::decode_image(png, "file"); }), "a side"));
  CHECK(contains(io_error([&] { io::decode_image({}, "file"); }), "not a PNG"));
  CHECK(contains(io_error([&] { io::decode_image(bytes_of("GIF89a, which is not supported"), "file"); }), "not a PNG"));
}

TEST_CASE("image: a chunk that is longer than the file is refused before anything is allocated") {
  auto png = encoded(picture(3, 9, 10), "png");
  const auto chunk = std::size_t{8 + 25};  // behind the signature and the header's chunk come the pixels
  REQUIRE(png[chunk + 4] == 'I');
  REQUIRE(png[chunk + 5] == 'D');
  png[chunk] = 0x5A;  // 1.5 GB
  const auto message = io_error([&] { io::decode_image(png, "file"); });
  CHECK(contains(message, "file: byte 33: image: PNG: a chunk of 15"));
}

TEST_CASE("image: a JPEG is looked through also where bytes FF stand before it, which its decoder skips") {
  auto jpeg = encoded(picture(3, 9, 10), "jpg");
  jpeg.insert(jpeg.begin(), 0xFF);
  CHECK(contains(io_error([&] { io::decode_image(jpeg, "file"); }), "expected the marker that begins an image"));
}

TEST_CASE("image: a JPEG of thousands of scans, each of which goes over the whole image, is refused") {
  const auto jpeg = encoded(picture(3, 9, 10), "jpg");
  const std::uint8_t begin[] = {0xFF, 0xDA};
  const auto scan = std::search(jpeg.begin(), jpeg.end(), std::begin(begin), std::end(begin));
  REQUIRE(scan != jpeg.end());
  const auto with = [&](int scans) {
    Bytes out(jpeg.begin(), scan);
    for (int i = 0; i < scans; ++i) {
      out.insert(out.end(), scan, jpeg.end() - 2);
    }
    out.insert(out.end(), jpeg.end() - 2, jpeg.end());
    return io_error([&] { io::image_info(out, "file"); });
  };
  CHECK(with(256).empty());
  CHECK(contains(with(257), "more than 256 scans"));
}

TEST_CASE("image: resizing keeps a constant, a mean and a size") {
  io::Image flat{3, 5, 6, std::vector<std::uint8_t>(90, 77)};
  for (const auto& [h, w] : {std::pair{5, 6}, std::pair{1, 1}, std::pair{11, 4}, std::pair{2, 13}}) {
    const auto out = io::resized(flat, h, w);
    CHECK(out.height == h);
    CHECK(out.width == w);
    CHECK(out.pixels == std::vector<std::uint8_t>(static_cast<std::size_t>(3 * h * w), 77));
  }
  const auto image = picture(1, 8, 8);
  CHECK(io::resized(image, 8, 8).pixels == image.pixels);
  // A ramp of 0, 10, ..., 150 halved: the triangle is symmetric, so that inside each pixel is the mean of its two.
  io::Image ramp{1, 1, 16, {}};
  for (int x = 0; x < 16; ++x) {
    ramp.pixels.push_back(static_cast<std::uint8_t>(10 * x));
  }
  const auto half = io::resized(ramp, 1, 8);
  for (int x = 1; x < 7; ++x) {
    CHECK(half.pixels[static_cast<std::size_t>(x)] == 20 * x + 5);
  }
  CHECK_THROWS_AS(io::resized(ramp, 0, 8), pavise::ValueError);
}
