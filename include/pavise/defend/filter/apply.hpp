// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "pavise/core/lane_batch.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/defend/filter/filter.hpp"

namespace pavise::defend {

/// What the filters make of images: from (N,C,H,W), pixels in [0,1], to (N, and the shape behind the filters). Image i
/// draws its random numbers by (seed, iteration, i). In parallel over groups of sixteen; an image's result depends on
/// nothing but itself. Throws ShapeError for what is no stack of images.
template <class T>
Tensor<T> filter_images(const FilterList<T>& filters, const Tensor<T>& images, std::uint64_t seed = 0,
                        std::uint32_t iteration = 0) {
  const Shape& s = images.shape();
  require<ShapeError>(s.rank() == 4, "filter_images: images are (N,C,H,W), got ", s);
  const std::int64_t count = s[0];
  const Shape in{s[1], s[2], s[3]};
  const Shape out = filters.output_shape(in);
  Tensor<T> result({count, out[0], out[1], out[2]});
  const std::int64_t n = in.numel();
  const std::int64_t m = out.numel();
  parallel_for((count + 15) / 16, [&](std::int64_t g) {
    const std::int64_t valid = std::min<std::int64_t>(16, count - g * 16);
    const int lanes = valid == 1 ? 1 : 16;  // a single image is no reason to work on fifteen more
    std::uint32_t ids[16];
    thread_local AlignedVector<T> rows;
    thread_local AlignedVector<T> packed;
    rows.resize(static_cast<std::size_t>(16 * std::max(n, m)));
    packed.resize(static_cast<std::size_t>(16 * n + 16));
    const T* from = images.data() + g * 16 * n;
    for (std::int64_t lane = 0; lane < 16; ++lane) {
      ids[lane] = static_cast<std::uint32_t>(g * 16 + std::min(lane, valid - 1));
    }
    if (lanes == 1) {
      std::copy_n(from, n, packed.data());
    } else if (valid == 16) {
      LaneBatch<T>::transpose_to_lanes(from, packed.data(), n);
    } else {
      for (std::int64_t lane = 0; lane < 16; ++lane) {
        std::copy_n(from + std::min(lane, valid - 1) * n, n, rows.data() + lane * n);
      }
      LaneBatch<T>::transpose_to_lanes(rows.data(), packed.data(), n);
    }
    auto& tape = thread_tape<T>();
    tape.begin(valid, lanes);
    tape.set_key({.seed = seed, .iteration = iteration, .images = ids});
    const Var<T> y = filters(tape.view(in, packed.data()));
    const T* values = y.data();
    T* to = result.data() + g * 16 * m;
    constexpr std::int64_t kBlock = 16;  // elements: what is read stays in the cache for all lanes
    for (std::int64_t e0 = 0; e0 < m; e0 += kBlock) {
      for (std::int64_t lane = 0; lane < valid; ++lane) {
        for (std::int64_t e = e0; e < std::min(m, e0 + kBlock); ++e) {
          to[lane * m + e] = values[e * lanes + lane];
        }
      }
    }
  });
  return result;
}

}  // namespace pavise::defend
