// SPDX-License-Identifier: MIT
// What models and images are called in certificates: their SHA-256.
#pragma once

#include <bit>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "pavise/core/sha256.hpp"
#include "pavise/core/shape.hpp"
#include "pavise/nn/model.hpp"
#include "pavise/nn/spec.hpp"

namespace pavise::certify {

/// What a model is called in certificates: the hash of its architecture, its input's shape, and the name, shape and bits
/// of every parameter.
template <class T>
std::string model_hash(const nn::BasicModel<T>& model) {
  static_assert(std::endian::native == std::endian::little, "the bytes of parameters are hashed as they lie");
  Sha256 hash;
  hash.add("pavise model 1").add(nn::to_text(model.net().spec())).add(model.input_shape().to_string());
  for (const auto& p : std::as_const(model.parameters()).parameters()) {
    hash.add(p.name()).add(p.shape().to_string()).add(p.value().data(), p.value().size_bytes());
  }
  return hash.hex();
}

/// What several models together are called.
inline std::string ensemble_hash(const std::vector<std::string>& models) {
  if (models.size() == 1) {
    return models.front();
  }
  Sha256 hash;
  hash.add("pavise ensemble 1");
  for (const auto& model : models) {
    hash.add(model);
  }
  return hash.hex();
}

/// What an image (C,H,W) of bytes is called.
inline std::string image_hash(const Shape& shape, const std::uint8_t* pixels) {
  return Sha256()
      .add("pavise image 1")
      .add(shape.to_string())
      .add(pixels, static_cast<std::size_t>(shape.numel()))
      .hex();
}

}  // namespace pavise::certify
