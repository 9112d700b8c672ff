// SPDX-License-Identifier: MIT
// Image folders, tar archives of them, CIFAR's binary files, and the catalogue that finds them by name.
#include "pavise/data/image_folder.hpp"

#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>

#include "io/archives.hpp"
#include "io/pictures.hpp"
#include "io/scratch.hpp"
#include "pavise/data/catalog.hpp"

using namespace pavise_test;
namespace data = pavise::data;
namespace io = pavise::io;
using pavise::Shape;

namespace {

/// Images of two classes for training and for testing, and a file that is none.
Files files(const std::string& format = "png") {
  return {{"train/cat/2." + format, encoded(picture(3, 4, 5, 2), format)},
          {"train/cat/1." + format, encoded(picture(3, 4, 5, 1), format)},
          {"train/ant/3." + format, encoded(picture(3, 4, 5, 3), format)},
          {"train/ant/.hidden." + format, bytes_of("not an image")},
          {"train/readme.txt", bytes_of("not an image")},
          {"test/cat/4." + format, encoded(picture(3, 4, 5, 4), format)}};
}

void check_set(const pavise::data::Split& split) {
  CHECK(split.train.image_shape() == Shape{3, 4, 5});
  CHECK(split.train.class_names() == std::vector<std::string>{"ant", "cat"});
  CHECK(split.train.labels() == std::vector<std::int32_t>{0, 1, 1});
  CHECK(split.test.labels() == std::vector<std::int32_t>{1});
  const int order[] = {3, 1, 2};
  for (int i = 0; i < 3; ++i) {
    const auto expected = picture(3, 4, 5, order[i]);
    CHECK(std::equal(expected.pixels.begin(), expected.pixels.end(), split.train.pixels(i)));
  }
}

}  // namespace

TEST_CASE("image folder: train and test, sorted, other files passed over") {
  const Scratch scratch;
  for (const auto& [name, bytes] : files()) {
    scratch.write("set/" + name, bytes);
  }
  const auto split = data::image_folder_split(scratch / "set/");
  check_set(split);
  CHECK(split.train.name() == "set");
  CHECK(data::image_folder(scratch / "set/train").labels() == split.train.labels());
  CHECK(contains(io_error([&] { data::image_folder(scratch / "set"); }), "divided into train and test"));
  CHECK(contains(io_error([&] { data::image_folder_split(scratch / "set/train"); }),
                 "expected the folders train and test"));
  CHECK(data::load("folder:" + scratch / "set").test.size() == 1);

  data::ImageFolderOptions small;
  small.channels = 1;
  small.height = 2;
  small.width = 3;
  CHECK(data::image_folder_split(scratch / "set", small).test.image_shape() == Shape{1, 2, 3});
  small.width = 0;
  CHECK_THROWS_AS(data::image_folder_split(scratch / "set", small), pavise::ValueError);

  const auto odd = scratch.write("set/train/cat/odd.png", encoded(picture(3, 4, 6), "png"));
  const auto message = io_error([&] { data::image_folder_split(scratch / "set"); });
  CHECK(contains(message, "odd.png"));
  CHECK(contains(message, "6 by 4 pixels, the first image has 5 by 4"));
  std::filesystem::remove(odd);
  scratch.write("set/test/dog/5.png", encoded(picture(3, 4, 5), "png"));
  CHECK(contains(io_error([&] { data::image_folder_split(scratch / "set"); }), "class 'dog'"));
  std::filesystem::remove_all(scratch / "set/test/dog");
  scratch.write("set/train/cat/broken.png", bytes_of("no image"));
  CHECK(contains(io_error([&] { data::image_folder_split(scratch / "set"); }), "broken.png: byte 0: "));
  CHECK(contains(io_error([&] { data::image_folder(scratch / "nowhere"); }), "nowhere"));
  std::filesystem::create_directories(scratch / "empty");
  CHECK(contains(io_error([&] { data::image_folder(scratch / "empty"); }), "no PNG, JPEG or BMP image"));
  data::ImageFolderOptions little;
  little.max_pixel_bytes = 100;
  std::filesystem::remove(scratch / "set/train/cat/broken.png");
  CHECK(contains(io_error([&] { data::image_folder_split(scratch / "set", little); }), "need more than 100 bytes"));
}

TEST_CASE("image folder: read from a tar archive, under any name and with a folder around it") {
  const Scratch scratch;
  check_set(data::image_folder_split(scratch.write("set.tar", tar(files()))));
  for (const std::string around : {"./", "photos/", "a/rather/long/way/down/"}) {
    Files inside = files();
    for (auto& file : inside) {
      file.first = around + file.first;
    }
    for (const auto names : {LongNames::none, LongNames::gnu, LongNames::pax}) {
      check_set(data::image_folder_split(scratch.write("set.tar", tar(inside, names))));
    }
  }
  auto mixed = files();
  mixed.back().first = "elsewhere/" + mixed.back().first;
  CHECK(contains(io_error([&] { data::image_folder_split(scratch.write("set.tar", tar(mixed))); }), "elsewhere/test"));
  CHECK(contains(io_error([&] { data::image_folder(scratch.write("set.tar", tar({{"1.png", {}}}))); }), "class/image"));
}

TEST_CASE("tar: truncated, damaged and oversized archives") {
  const Scratch scratch;
  const auto bytes = tar(files("bmp"), LongNames::pax);
  const auto read = [&](const Bytes& b) { data::image_folder_split(scratch.write("set.tar", b)); };
  // An archive may do without its last block of zeros, but not without the first.
  check_truncations(Bytes(bytes.begin(), bytes.end() - 512), read);
  CHECK(fuzz(bytes, 2000, read) > 300);
  data::ImageFolderOptions little;
  little.max_file_bytes = 10;
  CHECK(contains(io_error([&] { data::image_folder_split(scratch.write("set.tar", bytes), little); }), "at most 10"));
  // A file of eight gigabytes less one byte in an archive of 1 KiB.
  Bytes huge = tar_header("train/a/b.png", std::size_t{077777777777}, '0');
  huge.resize(1024);
  CHECK(contains(io_error([&] { read(huge); }), "at most"));
  data::ImageFolderOptions any;
  any.max_file_bytes = std::uint64_t{1} << 60;
  CHECK(contains(io_error([&] { data::image_folder_split(scratch.write("set.tar", huge), any); }), "byte 1024: "));
}

TEST_CASE("cifar: records of both kinds") {
  const Scratch scratch;
  const auto records = [](std::size_t n, const Bytes& label) {
    Bytes out;
    for (std::size_t i = 0; i < n; ++i) {
      out.insert(out.end(), label.begin(), label.end());
      out.insert(out.end(), 3072, static_cast<std::uint8_t>(i + 1));
    }
    return out;
  };
  for (int i = 1; i <= 5; ++i) {
    scratch.write("cifar-10-batches-bin/data_batch_" + std::to_string(i) + ".bin",
                  records(2, {static_cast<std::uint8_t>(i)}));
  }
  scratch.write("cifar-10-batches-bin/test_batch.bin", records(1, {9}));
  const auto ten = data::load("cifar10:" + scratch.path());
  CHECK(ten.train.size() == 10);
  CHECK(ten.train.label(9) == 5);
  CHECK(ten.train.pixels(9)[3071] == 2);
  CHECK(ten.test.class_names()[static_cast<std::size_t>(ten.test.label(0))] == "truck");
  scratch.write("cifar-10-batches-bin/test_batch.bin", records(2, {10}));
  CHECK(contains(io_error([&] { data::cifar10(scratch.path()); }), "test_batch.bin: byte 0: cifar: label 10"));

  scratch.write("train.bin", records(3, {1, 99}));
  scratch.write("test.bin", records(1, {1, 0}));
  const auto hundred = data::load("cifar100:" + scratch.path());
  CHECK(hundred.train.classes() == 100);
  CHECK(hundred.train.class_names()[static_cast<std::size_t>(hundred.train.label(2))] == "worm");
  CHECK(std::is_sorted(hundred.train.class_names().begin(), hundred.train.class_names().end()));
  for (const std::size_t cut : {1, 2, 3073}) {
    auto bytes = records(2, {1, 99});
    bytes.resize(bytes.size() - cut);
    scratch.write("train.bin", bytes);
    CHECK(
        contains(io_error([&] { data::cifar100(scratch.path()); }), "train.bin: byte " + std::to_string(bytes.size())));
  }
}

TEST_CASE("catalogue: names, and what an unknown one is answered") {
  CHECK(data::load("drawn-digits").train.size() == 20000);
  for (const std::string name : {"nothing", "", "cifar10", "folder:", "npz:one.npz", "drawn-digits:x", "mnist:"}) {
    CAPTURE(name);
    try {
      data::load(name);
      FAIL("accepted");
    } catch (const pavise::ValueError& error) {
      CHECK(contains(error.what(), "fashion-mnist, mnist, drawn-digits"));
    }
  }
  CHECK(contains(io_error([] { data::load("mnist:/nowhere"); }), "/nowhere"));
}

TEST_CASE("catalogue: CIFAR-10 from its archive of JPEG files") {
  if (data::locate_or_empty("cifar10/cifar10-jpeg.tar.gz").empty()) {
    std::puts("SKIPPED: cifar10/cifar10-jpeg.tar.gz is not in a data directory (set PAVISE_DATA)");
    return;
  }
  const auto [train, test] = data::load("cifar10-jpeg");
  CHECK(train.name() == "CIFAR-10 (JPEG)");
  CHECK(train.size() == 50000);
  CHECK(test.size() == 10000);
  CHECK(train.image_shape() == Shape{3, 32, 32});
  CHECK(train.class_names().front() == "airplane");
  std::vector<int> count(10);
  double mean = 0;
  for (std::int64_t i = 0; i < test.size(); ++i) {
    ++count[static_cast<std::size_t>(test.label(i))];
    for (int k = 0; k < 1024; ++k) {
      mean += test.pixels(i)[k] / (255.0 * 1024 * 10000);
    }
  }
  CHECK(count == std::vector<int>(10, 1000));
  CHECK(mean == doctest::Approx(0.4942).epsilon(0.01));  // red, of the original's test images
}
