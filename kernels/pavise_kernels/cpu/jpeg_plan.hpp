// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace pavise::kernels {

/// A JPEG round trip of (channels,height,width): quantisation tables in row-major order, for luminance and for the two
/// chrominances; whether these have half the resolution along both axes (4:2:0).
struct JpegPlan {
  std::int64_t channels, height, width;
  bool halved;
  std::int32_t luminance[64];
  std::int32_t chrominance[64];

  constexpr std::int64_t chroma_height() const { return halved ? (height + 1) / 2 : height; }
  constexpr std::int64_t chroma_width() const { return halved ? (width + 1) / 2 : width; }
  static constexpr std::int64_t padded(std::int64_t n) { return (n + 7) / 8 * 8; }
  /// Integers of scratch for each lane: planes of whole blocks, and one block.
  constexpr std::int64_t scratch() const {
    const std::int64_t luma = padded(height) * padded(width);
    const std::int64_t chroma = padded(chroma_height()) * padded(chroma_width());
    // Full-size chroma planes before they are halved, whole planes, and one block.
    return luma + (channels == 3 ? 2 * chroma + 2 * height * width : 0) + 64;
  }
};

}  // namespace pavise::kernels
