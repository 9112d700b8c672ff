// SPDX-License-Identifier: MIT
// The IDX format of MNIST and its successors, gzipped or not: a magic number (0, 0, type, rank), the extents as
// big-endian 32-bit numbers, then the elements. Images are of rank 3 (number, rows, columns), labels of rank 1, both of
// bytes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/shape.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/data/locate.hpp"
#include "pavise/io/file.hpp"

namespace pavise::data {

/// The content of an IDX file of bytes.
struct IdxArray {
  Shape shape;
  std::vector<std::uint8_t> bytes;
};

/// Reads the IDX file of bytes at `path`, gzipped or not, of rank `rank` (3: images, 1: labels). Throws IoError where
/// it is something else, is truncated or goes on after its last element.
inline IdxArray read_idx(const std::string& path, int rank) {
  io::GzipReader reader(path);
  std::array<std::uint8_t, 4> word{};
  reader.read(word.data(), 4, "the magic number");
  io::require_at(word[0] == 0 && word[1] == 0 && word[2] == 8 && word[3] == rank, path, 0, "idx: the magic number is ",
                 int{word[0]}, " ", int{word[1]}, " ", int{word[2]}, " ", int{word[3]}, ", expected 0 0 8 ", rank,
                 rank == 3 ? " (images of bytes)" : " (labels of bytes)");
  std::array<std::int64_t, Shape::kMaxRank> extents{};
  for (int axis = 0; axis < rank; ++axis) {
    reader.read(word.data(), 4, "the extents");
    const auto extent = std::int64_t{word[0]} << 24 | word[1] << 16 | word[2] << 8 | word[3];
    const bool ok = axis == 0 || (extent >= 1 && extent <= 1 << 15);  // so that the product fits in 63 bits
    io::require_at(ok, path, reader.offset() - 4, "idx: images have ", extent, axis == 1 ? " rows" : " columns",
                   ", expected 1 to ", 1 << 15);
    extents[static_cast<std::size_t>(axis)] = extent;
  }
  IdxArray out{Shape(extents.begin(), static_cast<std::size_t>(rank)), {}};
  out.bytes = reader.read_bytes(static_cast<std::uint64_t>(out.shape.numel()), rank == 3 ? "the images" : "the labels");
  reader.expect_end();
  return out;
}

/// The data set of a file of images (N,H,W) and one of labels (N), as (1,H,W). Throws IoError where they do not belong
/// together or a label is not a class.
inline Dataset read_idx_dataset(std::string name, const std::string& images_path, const std::string& labels_path,
                                std::vector<std::string> class_names) {
  auto labels = read_idx(labels_path, 1);
  auto images = read_idx(images_path, 3);
  io::require_at(images.shape[0] == labels.shape[0], images_path, 4, "idx: ", images.shape[0], " images, but ",
                 labels.shape[0], " labels in ", labels_path);
  for (std::size_t i = 0; i < labels.bytes.size(); ++i) {
    io::require_at(labels.bytes[i] < class_names.size(), labels_path, 8 + i, "idx: label ", int{labels.bytes[i]},
                   ", expected 0 to ", static_cast<std::int64_t>(class_names.size()) - 1);
  }
  return {std::move(name), Shape{1, images.shape[1], images.shape[2]}, std::move(images.bytes),
          std::vector<std::int32_t>(labels.bytes.begin(), labels.bytes.end()), std::move(class_names)};
}

namespace detail {

/// "directory/stem.gz" or "directory/stem", whichever is there (also in the spelling "train-images.idx3-ubyte"), or "".
inline std::string find_idx(const std::string& directory, std::string stem) {
  std::string dotted = stem;
  dotted[dotted.find("-idx")] = '.';
  for (const auto& name : {stem, dotted}) {
    for (const char* ending : {".gz", ""}) {
      if (auto path = concat(directory, "/", name, ending); io::is_file(path)) {
        return path;
      }
    }
  }
  return {};
}

}  // namespace detail

/// Reads the four files that MNIST and its successors come as (train-images-idx3-ubyte, train-labels-idx1-ubyte and the
/// same with t10k, gzipped or not) from `directory`. Throws IoError; `hint` ends the message where a file is not there.
inline Split read_idx_directory(const std::string& name, const std::string& directory,
                                const std::vector<std::string>& class_names, std::string_view hint = "") {
  const auto part = [&](const std::string& prefix) {
    const auto find = [&](const std::string& stem) {
      auto path = detail::find_idx(directory, stem);
      require<IoError>(!path.empty(), name, ": looked for ", stem, ".gz and ", stem, " in ", directory,
                       ", neither is there", hint);
      return path;
    };
    return read_idx_dataset(name, find(prefix + "-images-idx3-ubyte"), find(prefix + "-labels-idx1-ubyte"),
                            class_names);
  };
  return {part("train"), part("t10k")};
}

/// MNIST (LeCun et al.): 60,000 + 10,000 images (1,28,28) of digits, from `directory`, or from `mnist` in one of the
/// data directories where none is given. Throws IoError that lists where it was looked for.
inline Split mnist(const std::string& directory = "") {
  return read_idx_directory("MNIST", directory.empty() ? locate("mnist") : directory,
                            {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"});
}

/// Fashion-MNIST (Xiao et al., 2017): 60,000 + 10,000 images (1,28,28) of ten kinds of clothing, by default where
/// Debian's package dataset-fashion-mnist installs it. Throws IoError that names the place and the package.
inline Split fashion_mnist(const std::string& directory = "/usr/share/datasets/fashion-mnist") {
  return read_idx_directory(
      "Fashion-MNIST", directory,
      {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"},
      " (Debian: apt-get install dataset-fashion-mnist)");
}

}  // namespace pavise::data
