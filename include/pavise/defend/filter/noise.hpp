// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <string>

#include "pavise/autodiff/noise.hpp"
#include "pavise/defend/filter/filter.hpp"

namespace pavise::defend {

/// x + N(0, sigma^2), drawn for every query and not clipped to the pixels' box. Random and differentiable. Throws
/// ValueError for a sigma that is not more than 0.
template <class T>
class GaussianNoise : public Filter<T> {
 public:
  explicit GaussianNoise(double sigma) : sigma_(sigma) {
    require(std::isfinite(sigma) && sigma > 0, "gaussian-noise: sigma ", sigma, ", expected more than 0");
  }
  std::string text() const override { return concat("gaussian-noise:", sigma_); }
  Var<T> apply(Var<T> x) const override {
    return gaussian_noise(x, static_cast<T>(sigma_), Purpose::defense, this->layer());
  }
  nn::Declaration declaration() const override { return detail::drawn(); }

 private:
  double sigma_;
};

/// x + U(-a, a), drawn for every query and not clipped to the pixels' box. Random and differentiable. Throws ValueError
/// for an a that is not more than 0.
template <class T>
class UniformNoise : public Filter<T> {
 public:
  explicit UniformNoise(double a) : a_(a) {
    require(std::isfinite(a) && a > 0, "uniform-noise: amplitude ", a, ", expected more than 0");
  }
  std::string text() const override { return concat("uniform-noise:", a_); }
  Var<T> apply(Var<T> x) const override {
    return uniform_noise(x, static_cast<T>(a_), Purpose::defense, this->layer());
  }
  nn::Declaration declaration() const override { return detail::drawn(); }

 private:
  double a_;
};

}  // namespace pavise::defend
