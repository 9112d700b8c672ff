// SPDX-License-Identifier: MIT
// The image and the model that a certificate of any kind is of. Opt-in: includes nlohmann-json.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "pavise/certify/certificate_fields.hpp"
#include "pavise/data/dataset.hpp"

namespace pavise::certify {

namespace detail {

inline std::int64_t position_of(const data::Dataset& images, std::int64_t index) {
  if (index < images.size() && images.source_index(index) == index) {
    return index;
  }
  for (std::int64_t i = 0; i < images.size(); ++i) {
    if (images.source_index(i) == index) {
      return i;
    }
  }
  return -1;
}

}  // namespace detail

/// The position of a certificate's image in `images`. Throws CertificateError, naming the field, where it is of another run
/// than `first`, or of another model (`model`: the hash of the one that is there), version, image or label.
template <class C>
std::int64_t checked_position(const C& c, const C& first, const std::string& model, const data::Dataset& images) {
  require_field(same_run(c, first), "run", "image ", c.index, " is of another run than image ", first.index);
  require_field(c.model == model, "model", "made with model ", c.model, ", this one is ", model);
  require_field(c.version == kVersion, "version", "made by version ", c.version, ", this is ", kVersion);
  require_field(c.shape == images.image_shape(), "shape", "got ", c.shape, ", the images have ", images.image_shape());
  const std::int64_t position = detail::position_of(images, c.index);
  require_field(position >= 0, "index", "the data set has no image ", c.index);
  const std::string hash = image_hash(images.image_shape(), images.pixels(position));
  require_field(c.image == hash, "image", "made for image ", c.image, ", image ", c.index, " is ", hash);
  require_field(c.label == images.label(position), "label", "got ", c.label, ", image ", c.index, " has ",
                images.label(position));
  return position;
}

/// Throws CertificateError unless what a certificate says in `field` is what came out when it was `done` again.
template <class C, class T>
void require_same(const C& c, std::string_view field, const T& got, const T& again, std::string_view done) {
  require_field(got == again, field, "image ", c.index, ": got ", detail::field_json(got).dump(), ", ", done, " again ",
                detail::field_json(again).dump());
}

}  // namespace pavise::certify
