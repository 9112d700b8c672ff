// SPDX-License-Identifier: MIT
// Initial values of parameters, drawn from (seed, index of the parameter), so that a model's weights depend on its
// architecture and seed alone.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "pavise/autodiff/parameter.hpp"
#include "pavise/core/philox.hpp"

namespace pavise::nn {

/// Uniform in [-bound, bound].
template <class T>
typename ParameterStore<T>::Initializer uniform_init(double bound) {
  return [bound](std::span<T> values, std::uint32_t index, std::uint64_t seed) {
    RandomSequence random({.seed = seed, .purpose = Purpose::initialization, .image = index});
    for (auto& v : values) {
      v = static_cast<T>(random.uniform(-bound, bound));
    }
  };
}

/// Normal with standard deviation `deviation`.
template <class T>
typename ParameterStore<T>::Initializer normal_init(double deviation) {
  return [deviation](std::span<T> values, std::uint32_t index, std::uint64_t seed) {
    RandomSequence random({.seed = seed, .purpose = Purpose::initialization, .image = index});
    for (auto& v : values) {
      v = static_cast<T>(deviation * random.normal());
    }
  };
}

template <class T>
typename ParameterStore<T>::Initializer constant_init(double value) {
  return [value](std::span<T> values, std::uint32_t, std::uint64_t) {
    std::fill(values.begin(), values.end(), static_cast<T>(value));
  };
}

/// How the weights of convolutions and fully connected layers begin.
///   torch:  U(-1/sqrt(fan_in), 1/sqrt(fan_in)), PyTorch's default (He et al. 2015 with a = sqrt 5)
///   he:     N(0, sqrt(2/fan_in)) (He et al. 2015, equation 10)
///   xavier: U(-b, b), b = sqrt(6/(fan_in + fan_out)) (Glorot and Bengio 2010, equation 16)
enum class Init { torch, he, xavier };

/// The name of an Init, as specs write it.
inline std::string init_name(Init init) { return init == Init::he ? "he" : init == Init::xavier ? "xavier" : "torch"; }

/// The Init of that name; ValueError lists the names there are.
inline Init init_named(std::string_view name) {
  require(name == "torch" || name == "he" || name == "xavier", "initialisation: there is no '", name,
          "', expected one of torch, he, xavier");
  return name == "he" ? Init::he : name == "xavier" ? Init::xavier : Init::torch;
}

template <class T>
typename ParameterStore<T>::Initializer weight_init(Init init, std::int64_t fan_in, std::int64_t fan_out) {
  const auto in = static_cast<double>(fan_in < 1 ? 1 : fan_in);
  switch (init) {
    case Init::he:
      return normal_init<T>(std::sqrt(2.0 / in));
    case Init::xavier:
      return uniform_init<T>(std::sqrt(6.0 / (in + static_cast<double>(fan_out))));
    default:
      return uniform_init<T>(1.0 / std::sqrt(in));
  }
}

}  // namespace pavise::nn
