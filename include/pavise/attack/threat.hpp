// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <cstdint>
#include <string>
#include <string_view>

#include "pavise/core/error.hpp"
#include "pavise/core/philox.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::attack {

enum class Norm { linf = 0, l1 = 1, l2 = 2 };

inline std::string_view norm_name(Norm norm) { return norm == Norm::linf ? "linf" : norm == Norm::l1 ? "l1" : "l2"; }

/// The norm of that name; ValueError lists the valid ones.
inline Norm parse_norm(std::string_view name) {
  for (const Norm norm : {Norm::linf, Norm::l2, Norm::l1}) {
    if (norm_name(norm) == name) {
      return norm;
    }
  }
  throw ValueError(concat("unknown norm ", name, ", expected linf, l2 or l1"));
}

/// What an adversary may do: move an image by at most `epsilon` in a norm, within the pixel box. Distances are in the
/// units of the pixels (a Linf radius of 8/255 for pixels in [0,1]); normalisation is a layer of the model and plays no
/// part.
struct Threat {
  Norm norm = Norm::linf;
  double epsilon = 0.0;
  double low = 0.0;  ///< the pixel box [low, high]
  double high = 1.0;

  /// The same adversary with another radius.
  Threat with_epsilon(double other) const { return Threat(norm, other, low, high); }

  Threat() = default;
  /// Throws ValueError where epsilon is negative or not finite, the box is empty, or a Linf radius exceeds the box
  /// (which is a radius in other units: 8 where 8/255 was meant).
  Threat(Norm norm_, double epsilon_, double low_ = 0.0, double high_ = 1.0)
      : norm(norm_), epsilon(epsilon_), low(low_), high(high_) {
    require(std::isfinite(low) && std::isfinite(high) && low < high, "threat: pixel box [", low, ",", high,
            "], expected low < high");
    require(std::isfinite(epsilon) && epsilon >= 0.0, "threat: epsilon ", epsilon,
            ", expected a finite radius of 0 or more");
    require(norm != Norm::linf || epsilon <= high - low, "threat: Linf epsilon ", epsilon, " exceeds the pixel box [",
            low, ",", high, "]; epsilon is in the units of the pixels: for 8-bit steps write ", epsilon, "/255");
  }
};

inline Threat linf(double epsilon, double low = 0.0, double high = 1.0) { return {Norm::linf, epsilon, low, high}; }
inline Threat l2(double epsilon, double low = 0.0, double high = 1.0) { return {Norm::l2, epsilon, low, high}; }
inline Threat l1(double epsilon, double low = 0.0, double high = 1.0) { return {Norm::l1, epsilon, low, high}; }

/// Share of the coordinates that a sparse L1 step moves.
inline constexpr float kL1Sparsity = 0.1f;

/// x <- projection on the ball around `center` and the box of x moved by `alpha` along the steepest direction of
/// `gradient` (null: projection only). Arrays of one group: [n][lanes].
///   Linf: alpha * sign(g);  L2: alpha * g / ||g||_2;  L1: alpha spread over the largest coordinates (`sparsity` of
///   them)
inline void step(const Threat& threat, float* x, const float* gradient, const float* center, std::int64_t n, int lanes,
                 double alpha, float sparsity = kL1Sparsity) {
  const auto a = static_cast<float>(alpha);
  const auto e = static_cast<float>(threat.epsilon);
  const auto lo = static_cast<float>(threat.low);
  const auto hi = static_cast<float>(threat.high);
  kernels::run_light([&](auto isa) {
    switch (threat.norm) {
      case Norm::linf:
        return linf_step<float>(isa, x, gradient, center, n, lanes, a, e, lo, hi);
      case Norm::l2:
        return l2_step<float>(isa, x, gradient, center, n, lanes, a, e, lo, hi);
      case Norm::l1:
        return l1_step<float>(isa, x, gradient, center, n, lanes, a, sparsity, e, lo, hi);
    }
  });
}

/// Elements that `random_start` needs for n pixels.
inline std::int64_t random_start_size(const Threat& threat, std::int64_t n) {
  return n + (threat.norm == Norm::l2 ? 2 : threat.norm == Norm::l1 ? 1 : 0);
}

/// x <- a uniformly random point of the ball around `center`, clipped to the box. x has random_start_size(n) * lanes
/// elements.
inline void random_start(const Threat& threat, float* x, const float* center, std::int64_t n, int lanes,
                         const kernels::LaneKeys& keys) {
  const auto e = static_cast<float>(threat.epsilon);
  const auto lo = static_cast<float>(threat.low);
  const auto hi = static_cast<float>(threat.high);
  const std::int64_t draws = random_start_size(threat, n);
  kernels::run_light([&](auto isa) {
    switch (threat.norm) {
      case Norm::linf:
        random_uniform<float>(isa, x, draws, lanes, keys);
        return linf_start<float>(isa, x, center, n, lanes, e, lo, hi);
      case Norm::l2:
        random_normal<float>(isa, x, draws, lanes, keys);
        return l2_start<float>(isa, x, center, n, lanes, e, lo, hi);
      case Norm::l1:
        random_uniform<float>(isa, x, draws, lanes, keys);
        return l1_start<float>(isa, x, center, n, lanes, e, lo, hi);
    }
  });
}

/// The norm in which a gradient bounds what a step of that norm gains.
inline Norm dual_norm(Norm norm) { return norm == Norm::linf ? Norm::l1 : norm == Norm::l1 ? Norm::linf : Norm::l2; }

/// out[lane] = distance of the lane's image from its center, in the threat's norm.
inline void distances(const Threat& threat, const float* x, const float* center, std::int64_t n, int lanes,
                      float* out) {
  kernels::run_light([&](auto isa) { distance<float>(isa, x, center, n, lanes, static_cast<int>(threat.norm), out); });
}

}  // namespace pavise::attack
