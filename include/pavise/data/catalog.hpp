// SPDX-License-Identifier: MIT
// Data sets by name, for programs. Opt-in: includes stb_image.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/data/cifar.hpp"
#include "pavise/data/dataset.hpp"
#include "pavise/data/idx.hpp"
#include "pavise/data/image_folder.hpp"
#include "pavise/data/locate.hpp"
#include "pavise/data/npy.hpp"
#include "pavise/data/synthetic.hpp"

namespace pavise::data {

/// The names that `load` takes, as a user writes them.
inline std::vector<std::string> catalog() {
  return {"fashion-mnist", "mnist",       "drawn-digits", "cifar10-jpeg", "fashion-mnist:DIR",
          "mnist:DIR",     "cifar10:DIR", "cifar100:DIR", "folder:PATH",  "npz:TRAIN.npz,TEST.npz"};
}

/// The training and test set called `name`: one of `catalog()`. `folder:PATH` is a folder or tar archive that holds
/// train and test; `npz:A,B` two files with arrays `images` and `labels`. Throws ValueError that lists the names for an
/// unknown one, IoError where a file is missing or corrupt.
inline Split load(const std::string& name) {
  const auto colon = name.find(':');
  const auto kind = name.substr(0, colon);
  const bool has_path = colon != std::string::npos && colon + 1 < name.size();
  const auto path = has_path ? name.substr(colon + 1) : std::string();
  const bool plain = colon == std::string::npos;
  if (kind == "fashion-mnist" && (plain || has_path)) {
    return plain ? fashion_mnist() : fashion_mnist(path);
  }
  if (kind == "mnist" && (plain || has_path)) {
    return mnist(path);
  }
  if (name == "drawn-digits") {
    return drawn_digits();
  }
  if (name == "cifar10-jpeg") {
    ImageFolderOptions options;
    options.name = "CIFAR-10 (JPEG)";  // its pixels differ a little from the original's
    return image_folder_split(locate("cifar10/cifar10-jpeg.tar.gz"), options);
  }
  if (kind == "cifar10" && has_path) {
    return cifar10(path);
  }
  if (kind == "cifar100" && has_path) {
    return cifar100(path);
  }
  if (kind == "folder" && has_path) {
    return image_folder_split(path);
  }
  if (const auto comma = path.find(','); kind == "npz" && comma != std::string::npos) {
    auto train = read_npz_dataset(path.substr(0, comma));
    auto test = read_npz_dataset(path.substr(comma + 1), "images", "labels", train.classes());
    require<IoError>(train.image_shape() == test.image_shape(), path, ": npz: images of ", train.image_shape(),
                     " for training, of ", test.image_shape(), " for testing");
    return {std::move(train), std::move(test)};
  }
  throw ValueError(concat("data set '", name, "' is unknown, expected one of ", join(catalog())));
}

}  // namespace pavise::data
