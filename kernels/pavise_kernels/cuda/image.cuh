// SPDX-License-Identifier: MIT
// What convolutions of images (image_forward.cu) and their derivatives (image_gradient.cu) share.
#pragma once

#include <type_traits>

#include "pavise_kernels/cuda/gather_gemm.cuh"

namespace pavise::kernels::cuda {

inline constexpr int kImageWarps = 8;  ///< of a block

/// Calls take(channels, kernel, stride), three integral constants, with those for which kernels are compiled, until it
/// returns true; false: it never did.
template <class Take>
bool any_image_kernel(const Take& take) {
  constexpr std::integral_constant<int, 1> k1{};
  constexpr std::integral_constant<int, 2> k2{};
  constexpr std::integral_constant<int, 3> k3{};
  constexpr std::integral_constant<int, 4> k4{};
  constexpr std::integral_constant<int, 5> k5{};
  return take(k1, k3, k1) || take(k1, k4, k2) || take(k1, k5, k1) || take(k3, k3, k1) || take(k3, k4, k2) ||
         take(k3, k5, k1);
}

/// Whether they are those of a convolution of images.
inline bool is_image_kernel(const ConvGeometry& g, int channels, int kernel, int stride) {
  return g.groups == 1 && g.dilation == 1 && g.in_channels == channels && g.kernel_height == kernel &&
         g.kernel_width == kernel && g.stride == stride;
}

}  // namespace pavise::kernels::cuda
