// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>

#include "pavise/nn/layer.hpp"

namespace pavise::nn {

/// A network with its parameters: layers built for one shape of image, weights in one store. Movable, not copyable;
/// `clone` (models.hpp) makes a copy with memory of its own.
template <class T>
class BasicModel {
 public:
  /// Builds `net` for images of shape `input` and initialises it from `seed`. The last shape must be (classes).
  BasicModel(std::string name, std::unique_ptr<Sequential<T>> net, Shape input, std::uint64_t seed)
      : name_(std::move(name)),
        net_(std::move(net)),
        store_(std::make_unique<ParameterStore<T>>()),
        input_(input),
        seed_(seed) {
    output_ = net_->build(input, *store_, "");
    require<ShapeError>(output_.rank() == 1, "model ", name_, ": the last layer gives ", output_,
                        ", expected (classes)");
    store_->allocate(seed);
  }

  const std::string& name() const { return name_; }
  const Shape& input_shape() const { return input_; }
  std::int32_t classes() const { return static_cast<std::int32_t>(output_[0]); }
  std::uint64_t seed() const { return seed_; }
  Sequential<T>& net() const { return *net_; }
  ParameterStore<T>& parameters() const { return *store_; }

  /// Logits (classes) for x (C,H,W) in the tape's mode. Threads may call it at the same time, each with a tape of its
  /// own, as long as the mode is evaluation and nobody changes the parameters.
  Var<T> operator()(Var<T> x) const {
    require<ShapeError>(x.shape() == input_, "model ", name_, ": expects images of ", input_, ", got ", x.shape());
    return net_->forward(x, false);
  }

 private:
  std::string name_;
  std::unique_ptr<Sequential<T>> net_;
  std::unique_ptr<ParameterStore<T>> store_;
  Shape input_;
  Shape output_;
  std::uint64_t seed_ = 0;
};

using Model = BasicModel<float>;

}  // namespace pavise::nn
