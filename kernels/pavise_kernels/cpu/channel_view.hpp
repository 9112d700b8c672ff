// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace pavise::kernels {

/// One channel of a batch: group g's elements are at data + g*step, `positions` of them; `images` lanes hold an image.
struct ChannelView {
  std::int64_t groups, images, positions, step;
};

}  // namespace pavise::kernels
