// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/shape.hpp"

namespace pavise::data {

/// Labelled images. Pixels are kept as bytes and read as byte/255, so that they lie in [0,1] and a data set takes a
/// quarter of the memory that floats would. Copies share the pixels; `first` and `subset` are views.
class Dataset {
 public:
  Dataset() = default;

  /// `pixels`: image after image, row-major (C,H,W); `labels`: one class for each image, 0 <= label <
  /// class_names.size().
  Dataset(std::string name, Shape image_shape, std::vector<std::uint8_t> pixels, std::vector<std::int32_t> labels,
          std::vector<std::string> class_names)
      : name_(std::move(name)),
        image_shape_(image_shape),
        image_size_(image_shape.numel()),
        pixels_(std::make_shared<const std::vector<std::uint8_t>>(std::move(pixels))),
        labels_(std::move(labels)),
        class_names_(std::move(class_names)) {
    const auto n = static_cast<std::int64_t>(labels_.size());
    require<ShapeError>(image_shape.rank() == 3, "dataset: images are (C,H,W), got ", image_shape);
    require<ShapeError>(static_cast<std::int64_t>(pixels_->size()) == n * image_size_, "dataset: ", n, " images of ",
                        image_shape, " have ", n * image_size_, " pixels, got ", pixels_->size());
    indices_.resize(labels_.size());
    for (std::int64_t i = 0; i < n; ++i) {
      require(labels_[static_cast<std::size_t>(i)] >= 0 && labels_[static_cast<std::size_t>(i)] < classes(),
              "dataset: image ", i, " has label ", labels_[static_cast<std::size_t>(i)], ", expected 0 to ",
              classes() - 1);
      indices_[static_cast<std::size_t>(i)] = i;
    }
  }

  const std::string& name() const { return name_; }
  const Shape& image_shape() const { return image_shape_; }
  std::int64_t image_size() const { return image_size_; }
  std::int64_t size() const { return static_cast<std::int64_t>(labels_.size()); }
  std::int32_t classes() const { return static_cast<std::int32_t>(class_names_.size()); }
  const std::vector<std::string>& class_names() const { return class_names_; }

  std::int32_t label(std::int64_t i) const { return labels_[static_cast<std::size_t>(i)]; }
  const std::vector<std::int32_t>& labels() const { return labels_; }

  /// Index of image `i` in the data set that it was loaded from: the name of its random numbers.
  std::int64_t source_index(std::int64_t i) const { return indices_[static_cast<std::size_t>(i)]; }

  /// The bytes of image `i`, (C,H,W) row-major.
  const std::uint8_t* pixels(std::int64_t i) const { return pixels_->data() + source_index(i) * image_size_; }

  /// The images at `positions`, in that order (a view).
  Dataset subset(const std::vector<std::int64_t>& positions) const {
    Dataset out = *this;
    out.labels_.clear();
    out.indices_.clear();
    for (const auto i : positions) {
      require(i >= 0 && i < size(), "dataset ", name_, ": no image ", i, " among ", size());
      out.labels_.push_back(label(i));
      out.indices_.push_back(source_index(i));
    }
    return out;
  }

  /// The first `n` images, or all where there are fewer (a view).
  Dataset first(std::int64_t n) const {
    require(n >= 0, "dataset ", name_, ": first(", n, "), expected 0 or more");
    Dataset out = *this;
    out.labels_.resize(static_cast<std::size_t>(std::min(n, size())));
    out.indices_.resize(out.labels_.size());
    return out;
  }

  /// The same images with other labels (label noise): one for each image.
  Dataset with_labels(std::vector<std::int32_t> labels) const {
    require<ShapeError>(labels.size() == labels_.size(), "dataset ", name_, ": ", labels.size(), " labels for ", size(),
                        " images");
    Dataset out = *this;
    out.labels_ = std::move(labels);
    return out;
  }

 private:
  std::string name_;
  Shape image_shape_;
  std::int64_t image_size_ = 0;
  std::shared_ptr<const std::vector<std::uint8_t>> pixels_;
  std::vector<std::int32_t> labels_;
  std::vector<std::int64_t> indices_;
  std::vector<std::string> class_names_;
};

/// A training set and a test set of the same images' shape and classes.
struct Split {
  Dataset train;
  Dataset test;
};

}  // namespace pavise::data
