// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "pavise/autodiff/resample.hpp"
#include "pavise/defend/filter/border.hpp"
#include "pavise/defend/filter/filter.hpp"

namespace pavise::defend {

namespace detail {

inline void check_blur(double sigma) {
  require(std::isfinite(sigma) && sigma > 0 && sigma <= 100, "gaussian-blur: sigma ", sigma,
          ", expected more than 0 and at most 100 pixels");
}

template <class T>
AxisMap<T> blur_map(std::int64_t n, double sigma) {
  const auto radius = static_cast<std::int64_t>(4.0 * sigma + 0.5);
  std::vector<double> weight;
  double sum = 0;
  for (std::int64_t t = -radius; t <= radius; ++t) {
    const auto d = static_cast<double>(t);
    weight.push_back(std::exp(-0.5 * d * d / (sigma * sigma)));
    sum += weight.back();
  }
  AxisMap<T> map(n, n, 2 * radius + 1);
  for (std::int64_t i = 0; i < n; ++i) {
    for (std::int64_t t = 0; t <= 2 * radius; ++t) {
      map.set(i, t, border_place(i + t - radius, n, Border::reflect), weight[static_cast<std::size_t>(t)] / sum);
    }
  }
  return map;
}

}  // namespace detail

/// x convolved with a Gaussian, channel by channel, as scipy.ndimage.gaussian_filter with mode `reflect`: a window of
/// 2 floor(4 sigma + 0.5) + 1 weights with sum 1 along each axis. Differentiable. x: (C,H,W); sigma in pixels. Throws
/// ValueError for a sigma that is not in (0, 100].
template <class T>
Var<T> gaussian_blur(Var<T> x, double sigma) {
  detail::check_blur(sigma);
  const Shape s = x.shape();
  require<ShapeError>(s.rank() == 3, "gaussian-blur: the input is (C,H,W), got ", s);
  return resample(resample(x, 1, detail::blur_map<T>(s[1], sigma)), 2, detail::blur_map<T>(s[2], sigma));
}

/// See gaussian_blur.
template <class T>
class GaussianBlur : public Filter<T> {
 public:
  explicit GaussianBlur(double sigma) : sigma_(sigma) { detail::check_blur(sigma); }
  std::string text() const override { return concat("gaussian-blur:", sigma_); }
  Var<T> apply(Var<T> x) const override { return gaussian_blur(x, sigma_); }

 private:
  double sigma_;
};

}  // namespace pavise::defend
