// SPDX-License-Identifier: MIT
#include "pavise/data/idx.hpp"

#include <doctest/doctest.h>

#include <cstdio>
#include <numeric>

#include "io/archives.hpp"
#include "io/scratch.hpp"

using namespace pavise_test;
namespace data = pavise::data;
using pavise::Shape;

namespace {

const Bytes kImages = idx({3, 2, 2}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 255});
const Bytes kLabels = idx({3}, {1, 0, 1});

}  // namespace

TEST_CASE("idx: a small data set") {
  const Scratch scratch;
  for (const std::string part : {"train", "t10k"}) {
    scratch.write(part + "-images-idx3-ubyte", kImages);
    scratch.write(part + "-labels.idx1-ubyte", kLabels);  // both spellings are in use
  }
  const auto split = data::read_idx_directory("tiny", scratch.path(), {"a", "b"});
  CHECK(split.train.size() == 3);
  CHECK(split.train.image_shape() == Shape{1, 2, 2});
  CHECK(split.test.label(2) == 1);
  CHECK(split.test.pixels(2)[3] == 255);
  CHECK(contains(io_error([&] { data::read_idx_directory("tiny", scratch / "nowhere", {"a"}, " (a hint)"); }),
                 " (a hint)"));
}

TEST_CASE("idx: what does not belong together is refused, and the byte named") {
  const Scratch scratch;
  const auto read = [&](const Bytes& images, const Bytes& labels) {
    const auto i = scratch.write("images", images);
    const auto l = scratch.write("labels", labels);
    return io_error([&] { data::read_idx_dataset("tiny", i, l, {"a", "b"}); });
  };
  CHECK(read(kImages, kLabels).empty());
  CHECK(contains(read(kLabels, kLabels), "images: byte 0: "));
  CHECK(contains(read(kImages, kImages), "labels: byte 0: "));
  CHECK(contains(read(kImages, idx({2}, {1, 0})), "3 images, but 2 labels"));
  CHECK(contains(read(kImages, idx({3}, {1, 0, 2})), "labels: byte 10: idx: label 2, expected 0 to 1"));
  CHECK(contains(read(idx({3, 0, 2}, {}), kLabels), "images: byte 8: "));
  CHECK(contains(read(idx({3, 2, 40000}, {}), kLabels), "images: byte 12: "));
  auto longer = kImages;
  longer.push_back(0);
  CHECK(contains(read(longer, kLabels), "images: byte 28: expected the end"));
  // Four billion images of 32,768 by 32,768 pixels in 116 bytes: refused where the file ends, not where memory does.
  CHECK(contains(read(idx({0xFFFFFFFF, 32768, 32768}, Bytes(100)), kLabels), "images: byte 116: "));
}

TEST_CASE("idx: truncated and damaged files") {
  const Scratch scratch;
  const auto images = [&](const Bytes& b) { data::read_idx(scratch.write("images", b), 3); };
  check_truncations(kImages, images);
  check_truncations(kLabels, [&](const Bytes& b) { data::read_idx(scratch.write("labels", b), 1); });
  CHECK(fuzz(kImages, 3000, images) > 2000);
  scratch.write("labels", kLabels);
  fuzz(kImages, 1000, [&](const Bytes& b) {
    data::read_idx_dataset("tiny", scratch.write("images", b), scratch / "labels", {"a", "b"});
  });
}

TEST_CASE("idx: Fashion-MNIST as Debian installs it") {
  if (!pavise::io::is_directory("/usr/share/datasets/fashion-mnist")) {
    std::puts("SKIPPED: Fashion-MNIST is not installed (Debian: apt-get install dataset-fashion-mnist)");
    return;
  }
  const auto [train, test] = data::fashion_mnist();
  CHECK(train.size() == 60000);
  CHECK(test.size() == 10000);
  CHECK(train.image_shape() == Shape{1, 28, 28});
  const std::vector<std::int32_t> first = {9, 0, 0, 3, 0, 2, 7, 2, 5, 5};
  CHECK(std::vector<std::int32_t>(train.labels().begin(), train.labels().begin() + 10) == first);
  CHECK(test.class_names()[static_cast<std::size_t>(test.label(0))] == "Ankle boot");
  std::vector<int> count(10);
  for (const auto label : train.labels()) {
    ++count[static_cast<std::size_t>(label)];
  }
  CHECK(count == std::vector<int>(10, 6000));
}

TEST_CASE("idx: MNIST, unaltered") {
  if (data::locate_or_empty("mnist").empty()) {
    std::puts("SKIPPED: MNIST is not in a data directory (set PAVISE_DATA)");
    return;
  }
  const auto [train, test] = data::mnist();
  CHECK(train.size() == 60000);
  CHECK(test.size() == 10000);
  const std::vector<std::int32_t> first = {5, 0, 4, 1, 9, 2, 1, 3, 1, 4};
  CHECK(std::vector<std::int32_t>(train.labels().begin(), train.labels().begin() + 10) == first);
  CHECK(test.label(0) == 7);
  // CRC-32 of the pixels, of files whose MD5 is the published one (6bbc9ace898e44ae57da46a324031adb and
  // 2646ac647ad5339dbf082846283269ea, headers included).
  CHECK(::crc32_z(0, train.pixels(0), 60000 * 784) == 0xF3639B56U);
  CHECK(::crc32_z(0, test.pixels(0), 10000 * 784) == 0xE4CA5F57U);
}

TEST_CASE("idx: a set that is not there says where it was looked for") {
  const auto message = io_error([] { data::fashion_mnist("/nowhere"); });
  CHECK(contains(message, "/nowhere"));
  CHECK(contains(message, "apt-get install dataset-fashion-mnist"));
  CHECK(contains(io_error([] { data::locate("no such data set"); }), "../shared/data, data"));
}
