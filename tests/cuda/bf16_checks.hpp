// SPDX-License-Identifier: MIT
// Products on tensor cores in bf16 against sums in double, written out from the definition of a convolution.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <string>

#include "cuda/support.hpp"
#include "pavise_kernels/cuda/patch_plan.hpp"

namespace cuda_checks {

/// The nearest number with seven bits behind the point, ties to even.
inline double rounded_to_bf16(float v) {
  int exponent = 0;
  const double fraction = std::frexp(static_cast<double>(v), &exponent);
  return std::ldexp(std::nearbyint(std::ldexp(fraction, 8)), exponent - 8);
}

/// One layer, or its derivative with respect to the input where `back`, with all of the epilogue, by kernel number
/// `kernel` (as Table::patch_kernels; -1: the layer's own choice).
inline void compare_bf16(Report& report, const Table& t, const kernels::ConvGeometry& g, bool back, std::int64_t images,
                         int kernel) {
  const auto plan = kernels::cuda::patch_plan(g, back);
  const std::string what = pavise::concat(back ? "bf16 backward " : "bf16 ", name_of(g), ", kernel ", kernel);
  const Rows weight = numbers(g.out_channels * g.in_channels * g.kernel_height * g.kernel_width, 2);
  const Rows in = numbers(images * plan.in_size, 1);
  const Rows before = numbers(images * plan.out_size, 5);
  const Rows mask = numbers(images * plan.out_size, 4);
  const Rows bias = numbers(plan.rows / plan.phases, 3);

  std::vector<double> sum(static_cast<std::size_t>(images * plan.out_size));
  std::vector<double> magnitude(sum.size());
  for (std::int64_t o = 0; o < g.out_channels; ++o) {
    for (std::int64_t c = 0; c < g.in_channels; ++c) {
      for (std::int64_t ky = 0; ky < g.kernel_height; ++ky) {
        for (std::int64_t kx = 0; kx < g.kernel_width; ++kx) {
          const double w = rounded_to_bf16(
              weight[static_cast<std::size_t>(((o * g.in_channels + c) * g.kernel_height + ky) * g.kernel_width + kx)]);
          for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
            for (std::int64_t ox = 0; ox < g.out_width; ++ox) {
              const std::int64_t iy = oy * g.stride - g.padding + ky * g.dilation;
              const std::int64_t ix = ox * g.stride - g.padding + kx * g.dilation;
              if (iy < 0 || iy >= g.in_height || ix < 0 || ix >= g.in_width) {
                continue;
              }
              const std::int64_t input = (c * g.in_height + iy) * g.in_width + ix;
              const std::int64_t output = (o * g.out_height + oy) * g.out_width + ox;
              for (std::int64_t i = 0; i < images; ++i) {
                const auto from = static_cast<std::size_t>(i * plan.in_size + (back ? output : input));
                const auto to = static_cast<std::size_t>(i * plan.out_size + (back ? input : output));
                const double product = w * rounded_to_bf16(in[from]);
                sum[to] += product;
                magnitude[to] += std::abs(product);
              }
            }
          }
        }
      }
    }
  }

  auto* patches = t.make_patches(plan);
  const OnDevice<float> w(t, weight);
  t.pack_patches(nullptr, patches, w.get());
  const OnDevice<float> x(t, to_lanes(in, images, plan.in_size, 32));
  const OnDevice<float> out(t, to_lanes(before, images, plan.out_size, 32));
  const OnDevice<float> device_mask(t, to_lanes(mask, images, plan.out_size, 32));
  const OnDevice<float> device_bias(t, bias);
  const kernels::Epilogue<float> e{
      .bias = device_bias.get(), .mask = device_mask.get(), .relu = true, .accumulate = true};
  if (kernel < 0) {
    t.apply_patches(nullptr, patches, x.get(), out.get(), e, groups_of(images, 32));
  } else {
    t.apply_patches_by(nullptr, patches, x.get(), out.get(), e, groups_of(images, 32), kernel);
  }
  const std::vector<float> lanes = out.values();
  t.destroy_patches(patches);

  const Rows bound = to_lanes(Rows(magnitude.begin(), magnitude.end()), images, plan.out_size, 32);
  Rows expected(sum.size());
  const std::int64_t plane = plan.out_plane;
  for (std::size_t i = 0; i < sum.size(); ++i) {
    const auto row = static_cast<std::size_t>(static_cast<std::int64_t>(i) % plan.out_size / plane);
    const double y = mask[i] > 0.0f ? std::max(0.0, sum[i] + static_cast<double>(bias[row])) : 0.0;
    expected[i] = static_cast<float>(y + static_cast<double>(before[i]));
  }
  const Rows right = to_lanes(expected, images, plan.out_size, 32);
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < right.size(); ++i) {
    wrong += std::abs(lanes[i] - right[i]) <= 0x1p-15f * bound[i] + 1e-6f ? 0 : 1;
  }
  report.equal(pavise::concat(what, ", ", images, " images: sums out of bounds"), wrong, std::int64_t{0});
}

/// Layers both ways, by every kernel.
inline void compare_layers(Report& report, const Table& t, const std::vector<kernels::ConvGeometry>& all) {
  for (const auto& g : all) {
    for (const bool back : {false, true}) {
      const std::int64_t images = g.in_height == 1 ? 300 : g.in_height == 3 ? 33 : 32;
      const auto plan = kernels::cuda::patch_plan(g, back);
      auto* patches = t.make_patches(plan);
      std::vector<int> numbers_of;
      for (int i = 0; const int shape = t.patch_kernels(patches, i); ++i) {
        if (shape > 0) {
          numbers_of.push_back(i);
        }
      }
      t.destroy_patches(patches);
      report.equal("bf16 " + name_of(g) + ": there are kernels", numbers_of.empty(), false);
      for (const int kernel : numbers_of) {
        compare_bf16(report, t, g, back, images, kernel);
      }
      compare_bf16(report, t, g, back, 1, -1);
    }
  }
}

/// Every kernel, on shapes that do not fit it: rows, channels, points and groups left over, strides, dilation, padding.
inline void check_bf16(Report& report, const Table& t) {
  compare_layers(report, t,
                 {geometry(16, 7, 7, 20, 4, 2, 1, 1, 1), geometry(20, 5, 3, 66, 3, 1, 1, 1, 1),
                  geometry(34, 5, 4, 18, 3, 2, 1, 1, 1), geometry(17, 4, 4, 16, 3, 1, 2, 2, 1),
                  geometry(40, 3, 3, 130, 1, 2, 0, 1, 1), geometry(150, 1, 1, 37, 1, 1, 0, 1, 1),
                  geometry(3, 7, 5, 16, 3, 3, 2, 2, 1)});
}
/// A few of them: where fibres are slow.
inline void check_few_bf16(Report& report, const Table& t) {
  compare_layers(report, t, {geometry(18, 5, 3, 17, 3, 2, 1, 1, 1)});
}

}  // namespace cuda_checks
