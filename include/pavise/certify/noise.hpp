// SPDX-License-Identifier: MIT
// The noise of randomized smoothing, drawn so that the theorem is about what is really computed. A network that sees
// pixel values k/255 only is the function F(z) = f(clip(round(z))) of real z, and round(x + noise) = x + round(noise)
// for an image x on the grid: what has to be drawn is an integer with known probabilities (Voracek and Hein, "Sound
// randomized smoothing in floating-point arithmetic", ICLR 2023). Random bits are compared with thresholds that are
// known to 96 bits.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "pavise/certify/enclosure.hpp"
#include "pavise/certify/normal.hpp"
#include "pavise/core/error.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::certify {

enum class NoiseKind {
  gaussian,          ///< N(0, scale^2): L2 (Cohen, Rosenfeld and Kolter 2019)
  uniform,           ///< U(-scale, scale): L1 (Yang et al. 2020)
  laplace,           ///< density exp(-|x|/scale) / (2 scale): L1 (Teng et al. 2019)
  gaussian_unsound,  ///< x + scale * N(0,1) in floats, and no bound is valid: for comparison
};

/// "gaussian", "uniform", "laplace", "gaussian-unsound".
inline std::string_view noise_name(NoiseKind kind) {
  switch (kind) {
    case NoiseKind::uniform:
      return "uniform";
    case NoiseKind::laplace:
      return "laplace";
    case NoiseKind::gaussian_unsound:
      return "gaussian-unsound";
    default:
      return "gaussian";
  }
}
inline NoiseKind parse_noise(std::string_view name) {
  for (const auto kind : {NoiseKind::gaussian, NoiseKind::uniform, NoiseKind::laplace, NoiseKind::gaussian_unsound}) {
    if (noise_name(kind) == name) {
      return kind;
    }
  }
  throw ValueError(concat("unknown noise '", name, "', expected gaussian, uniform, laplace or gaussian-unsound"));
}

/// A kind of noise, and its scale in units of the pixels: sigma, half the width, or the mean absolute value.
struct Noise {
  NoiseKind kind = NoiseKind::gaussian;
  double scale = 0.5;

  /// The images and noise that a network sees are cut off at -clip() and clip() + 1, which is part of the network.
  std::int32_t clip() const {
    const double reach = kind == NoiseKind::uniform ? scale + 1 : (kind == NoiseKind::laplace ? 9 : 6) * scale;
    return std::max(1, static_cast<std::int32_t>(reach));
  }
  /// Throws ValueError for a scale for which it cannot be drawn.
  void check() const {
    require(std::isfinite(scale) && scale > 0, "noise ", noise_name(kind), ": ", scale_name(), " ", scale,
            ", expected more than 0, in units of the pixels");
    require(scale >= 0x1p-20 && scale <= 14, "noise ", noise_name(kind), ": ", scale_name(), " ", scale,
            ", expected 1e-6 to 14, in units of the pixels");
  }
  std::string_view scale_name() const {
    return kind == NoiseKind::uniform ? "half width" : kind == NoiseKind::laplace ? "mean deviation" : "sigma";
  }
  std::string_view norm() const { return kind == NoiseKind::uniform || kind == NoiseKind::laplace ? "l1" : "l2"; }

  /// The radius within which a class of probability p or more keeps the majority, rounded down:
  ///   sigma PhiInv(p);   lambda (2p - 1);   -b log(2 (1-p)).   0 for p <= 1/2; p < 1.
  double radius(double p) const {
    require(p >= 0 && p < 1, "radius: p ", p, ", expected 0 to 1");
    if (p <= 0.5) {
      return 0;
    }
    double unit = 0;  // of scale; 1 - p and 2p - 1 are exact
    if (kind == NoiseKind::uniform) {
      unit = 2 * p - 1;
    } else if (kind == NoiseKind::laplace) {
      unit = std::max(0.0, -log_bounds(2 * (1 - p)).high);
    } else {
      unit = normal_quantile_below(p);
    }
    return unit > 0 ? next_below(scale * unit) : 0;
  }

  /// A probability that suffices for a radius, rounded up; 1 where none does.
  double probability(double radius) const {
    require(std::isfinite(radius) && radius >= 0, "noise ", noise_name(kind), ": radius ", radius,
            ", expected 0 or more");
    if (radius == 0) {
      return 0.5;
    }
    const double unit = next_above(radius / scale);
    if (kind == NoiseKind::uniform) {
      return std::min(1.0, next_above(0.5 + unit / 2));
    }
    if (unit >= kNormalEnd) {
      return 1;
    }
    const FixedBounds x = FixedBounds::exactly(unit);
    const FixedBounds p =
        kind == NoiseKind::laplace ? FixedBounds::exactly(std::uint64_t{1}) - exp_minus(x) / 2 : normal_cdf(x);
    return std::min(1.0, double_above(p.high));
  }
};

/// Integer noise in units of 1/255, at most 255 (clip + 1) in size, ready to be drawn. Immutable; a light kind of table
/// that takes 0.3 MiB and up to a second to make.
class GridNoise {
 public:
  /// Throws ValueError for a scale that is not positive, or too large, and for the unsound kind.
  explicit GridNoise(Noise noise) : noise_(noise) {
    noise.check();
    require(noise.kind != NoiseKind::gaussian_unsound, "grid noise: ", noise_name(noise.kind),
            " is not drawn on the grid");
    const std::int32_t reach = 255 * (noise.clip() + 1);
    lowest_ = -reach;
    const auto half = static_cast<std::size_t>(reach);
    bounds_.resize(2 * half);
    const FixedBounds one = FixedBounds::exactly(std::uint64_t{1});
    parallel_for(reach, [&](std::int64_t k) {
      const auto i = static_cast<std::size_t>(k);
      bounds_[half + i] = cumulative(k);
      bounds_[half - 1 - i] = one - bounds_[half + i];  // P(noise <= -k-1) = 1 - P(noise <= k)
    });
    defect_ = 0;
    for (const FixedBounds& b : bounds_) {
      const Wide below = b.low.first_96_bits();
      thresholds_.push_back({static_cast<std::uint64_t>(below >> 64), static_cast<std::uint64_t>(below)});
      // Numbers of 96 bits that may be on the wrong side of the threshold.
      defect_ = next_above(defect_ + static_cast<double>(b.high.first_96_bits() - below + 1) * 0x1p-96);
    }
    fill_buckets();
  }

  const Noise& noise() const { return noise_; }
  kernels::GridTable table() const {
    return {buckets_.data(), thresholds_.data(), static_cast<std::int32_t>(thresholds_.size()), lowest_};
  }
  /// The smallest and the largest value of pixel and noise together, in units of 1/255.
  std::int32_t least() const { return -255 * noise_.clip(); }
  std::int32_t most() const { return 255 * (noise_.clip() + 1); }

  /// P(noise = k) in [low, high].
  FixedBounds probability(std::int32_t k) const {
    const std::int32_t i = k - lowest_;
    const auto count = static_cast<std::int32_t>(bounds_.size());
    require(i >= 0 && i <= count, "grid noise: ", k, ", expected ", lowest_, " to ", lowest_ + count);
    const FixedBounds up_to = i < count ? bounds_[static_cast<std::size_t>(i)] : FixedBounds::exactly(std::uint64_t{1});
    return i > 0 ? up_to - bounds_[static_cast<std::size_t>(i) - 1] : up_to;
  }
  /// By how much the distribution of one element that is drawn may differ from the exact one, in total variation: what
  /// is left undecided by 96 bits.
  double defect() const { return defect_; }

 private:
  /// P(noise <= k) = P(continuous noise < (k + 1/2)/255) for k >= 0.
  FixedBounds cumulative(std::int64_t k) const {
    const FixedBounds one = FixedBounds::exactly(std::uint64_t{1});
    const FixedBounds x = FixedBounds::exactly(static_cast<std::uint64_t>(2 * k + 1)) /
                          (FixedBounds::exactly(noise_.scale) * FixedBounds::exactly(std::uint64_t{510}));
    if (noise_.kind == NoiseKind::gaussian) {
      return normal_cdf(x);
    }
    if (noise_.kind == NoiseKind::laplace) {
      return one - exp_minus(x) / 2;
    }
    return {FixedPoint::from(0.5) + std::min(x.low, one.low) / 2,
            std::min(one.low, FixedPoint::from(0.5) + std::min(x.high, one.low) / 2 + FixedPoint::last_place())};
  }

  void fill_buckets() {
    buckets_.resize(std::size_t{1} << 16);
    std::size_t below = 0;  // thresholds whose first 16 bits are smaller
    for (std::size_t b = 0; b < buckets_.size(); ++b) {
      std::size_t next = below;
      while (next < thresholds_.size() && thresholds_[next].high >> 16 == b) {
        ++next;
      }
      const auto k = lowest_ + static_cast<std::int32_t>(below);
      const std::int32_t base = next - below > 1 ? kernels::kManyThresholds : k;
      // Without a threshold no lower bits are above the largest there are.
      const auto lower = next - below == 1 ? thresholds_[below].high & 0xFFFF : std::uint64_t{0xFFFF};
      buckets_[b] = static_cast<std::uint32_t>(base) << 16 | static_cast<std::uint32_t>(lower);
      below = next;
    }
  }

  Noise noise_;
  std::int32_t lowest_ = 0;
  double defect_ = 0;
  std::vector<FixedBounds> bounds_;  ///< P(noise <= lowest + i)
  std::vector<kernels::Threshold> thresholds_;
  std::vector<std::uint32_t> buckets_;
};

}  // namespace pavise::certify
