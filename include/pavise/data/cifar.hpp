// SPDX-License-Identifier: MIT
// The binary version of CIFAR-10 and CIFAR-100 (Krizhevsky, 2009): records of one label (CIFAR-100: a coarse and a fine
// one) and 3,072 bytes of an image (3,32,32), without a header.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/shape.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/io/file.hpp"

namespace pavise::data {

namespace detail {

/// Reads files of records, gzipped or not, one after another; the label is the last of `label_bytes` bytes.
inline Dataset read_cifar(const std::string& name, const std::vector<std::string>& paths, std::size_t label_bytes,
                          const std::vector<std::string>& class_names) {
  constexpr std::size_t kImage = 3072;
  const auto record = label_bytes + kImage;
  std::vector<std::uint8_t> pixels;
  std::vector<std::int32_t> labels;
  for (const auto& path : paths) {
    const auto bytes = io::read_gzip(path, std::uint64_t{1} << 32);
    io::require_at(bytes.size() % record == 0, path, bytes.size(),
                   "cifar: the file ends in a record: ", bytes.size() % record, " of ", record, " bytes");
    for (std::size_t at = 0; at < bytes.size(); at += record) {
      const auto label = bytes[at + label_bytes - 1];
      io::require_at(label < class_names.size(), path, at + label_bytes - 1, "cifar: label ", int{label},
                     ", expected 0 to ", class_names.size() - 1);
      labels.push_back(label);
      const auto image = bytes.begin() + static_cast<std::ptrdiff_t>(at + label_bytes);
      pixels.insert(pixels.end(), image, image + kImage);
    }
  }
  return {name, Shape{3, 32, 32}, std::move(pixels), std::move(labels), class_names};
}

/// `directory`, or its folder `inner` (as the archive unpacks) where that is there.
inline std::string cifar_root(const std::string& directory, const std::string& inner) {
  const auto nested = concat(directory, "/", inner);
  return io::is_directory(nested) ? nested : directory;
}

}  // namespace detail

/// CIFAR-10 from `directory` with data_batch_1.bin to data_batch_5.bin and test_batch.bin, or with the folder
/// cifar-10-batches-bin that holds them. Throws IoError.
inline Split cifar10(const std::string& directory) {
  const auto root = detail::cifar_root(directory, "cifar-10-batches-bin");
  const std::vector<std::string> names = {"airplane", "automobile", "bird",  "cat",  "deer",
                                          "dog",      "frog",       "horse", "ship", "truck"};
  std::vector<std::string> train;
  for (int i = 1; i <= 5; ++i) {
    train.push_back(concat(root, "/data_batch_", i, ".bin"));
  }
  return {detail::read_cifar("CIFAR-10", train, 1, names),
          detail::read_cifar("CIFAR-10", {root + "/test_batch.bin"}, 1, names)};
}

/// CIFAR-100 with its fine labels, from `directory` with train.bin and test.bin, or with the folder cifar-100-binary
/// that holds them. Throws IoError.
inline Split cifar100(const std::string& directory) {
  const auto root = detail::cifar_root(directory, "cifar-100-binary");
  const std::vector<std::string> names = {
      "apple",      "aquarium_fish", "baby",         "bear",       "beaver",      "bed",         "bee",
      "beetle",     "bicycle",       "bottle",       "bowl",       "boy",         "bridge",      "bus",
      "butterfly",  "camel",         "can",          "castle",     "caterpillar", "cattle",      "chair",
      "chimpanzee", "clock",         "cloud",        "cockroach",  "couch",       "crab",        "crocodile",
      "cup",        "dinosaur",      "dolphin",      "elephant",   "flatfish",    "forest",      "fox",
      "girl",       "hamster",       "house",        "kangaroo",   "keyboard",    "lamp",        "lawn_mower",
      "leopard",    "lion",          "lizard",       "lobster",    "man",         "maple_tree",  "motorcycle",
      "mountain",   "mouse",         "mushroom",     "oak_tree",   "orange",      "orchid",      "otter",
      "palm_tree",  "pear",          "pickup_truck", "pine_tree",  "plain",       "plate",       "poppy",
      "porcupine",  "possum",        "rabbit",       "raccoon",    "ray",         "road",        "rocket",
      "rose",       "sea",           "seal",         "shark",      "shrew",       "skunk",       "skyscraper",
      "snail",      "snake",         "spider",       "squirrel",   "streetcar",   "sunflower",   "sweet_pepper",
      "table",      "tank",          "telephone",    "television", "tiger",       "tractor",     "train",
      "trout",      "tulip",         "turtle",       "wardrobe",   "whale",       "willow_tree", "wolf",
      "woman",      "worm"};
  return {detail::read_cifar("CIFAR-100", {root + "/train.bin"}, 2, names),
          detail::read_cifar("CIFAR-100", {root + "/test.bin"}, 2, names)};
}

}  // namespace pavise::data
