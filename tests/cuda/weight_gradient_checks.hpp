// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>

#include "cuda/support.hpp"

namespace cuda_checks {

/// Sums over images in the order that weight_gradient.cu states, in plain loops: term(image, position, sum) adds to a
/// lane's sum.
template <class Term>
float sum_over_images(std::int64_t images, std::int64_t positions, const Term& term) {
  const std::int64_t groups = groups_of(images, 32);
  const std::int64_t slice = positions >= 64 ? 1 : positions >= 32 ? 2 : positions >= 16 ? 4 : 8;
  float total = 0.0f;
  for (std::int64_t first = 0; first < groups; first += slice) {
    float lane[32] = {};
    for (std::int64_t g = first; g < std::min(groups, first + slice); ++g) {
      for (std::int64_t p = 0; p < positions; ++p) {
        for (std::int64_t l = 0; l < 32; ++l) {
          lane[l] = term(std::min(g * 32 + l, images - 1), p, g * 32 + l < images, lane[l]);
        }
      }
    }
    for (int half = 16; half > 0; half /= 2) {
      for (int l = 0; l < half; ++l) {
        lane[l] += lane[l + half];
      }
    }
    total = first == 0 ? lane[0] : total + lane[0];
  }
  return total;
}

/// dy as the tape has it: 0 in lanes behind the last image.
inline std::vector<float> gradient_lanes(const Rows& dy, std::int64_t images, std::int64_t n) {
  std::vector<float> out = to_lanes(dy, images, n, 32);
  for (std::int64_t slot = images; slot < groups_of(images, 32) * 32; ++slot) {
    for (std::int64_t e = 0; e < n; ++e) {
      out[static_cast<std::size_t>((slot / 32 * n + e) * 32 + slot % 32)] = 0.0f;
    }
  }
  return out;
}

inline void compare_weight_gradient(Report& report, const Table& t, const kernels::ConvGeometry& g, std::int64_t images,
                                    bool matrix) {
  const std::int64_t in = g.in_channels * g.in_height * g.in_width;
  const std::int64_t positions = g.out_height * g.out_width;
  const std::int64_t out = g.out_channels * positions;
  const std::int64_t channels = g.in_channels / g.groups;
  const std::int64_t kernel = g.kernel_height * g.kernel_width;
  const Rows x = numbers(images * in, 1);
  const Rows dy = numbers(images * out, 2);
  const Rows before = numbers(g.out_channels * channels * kernel, 3);
  const Rows bias_before = numbers(g.out_channels, 4);
  Rows expected = before;
  Rows bias_expected = bias_before;
  double worst = 0.0;
  std::vector<double> sums;
  std::vector<double> sizes;
  for (std::int64_t o = 0; o < g.out_channels; ++o) {
    const auto dy_at = [&](std::int64_t image, std::int64_t p) {
      return dy[static_cast<std::size_t>(image * out + o * positions + p)];
    };
    for (std::int64_t tap = 0; tap < channels * kernel; ++tap) {
      const std::int64_t c = o / (g.out_channels / g.groups) * channels + tap / kernel;
      double exact = 0.0;
      double size = 0.0;
      const float sum =
          sum_over_images(images, positions, [&](std::int64_t image, std::int64_t p, bool valid, float s) {
            const std::int64_t y = p / g.out_width * g.stride - g.padding + tap % kernel / g.kernel_width * g.dilation;
            const std::int64_t x0 = p % g.out_width * g.stride - g.padding + tap % kernel % g.kernel_width * g.dilation;
            const bool inside = y >= 0 && y < g.in_height && x0 >= 0 && x0 < g.in_width;
            const float value =
                inside ? x[static_cast<std::size_t>(image * in + (c * g.in_height + y) * g.in_width + x0)] : 0.0f;
            const float d = valid ? dy_at(image, p) : 0.0f;
            exact += static_cast<double>(d) * static_cast<double>(value);
            size += std::abs(static_cast<double>(d) * static_cast<double>(value));
            return std::fmaf(d, value, s);
          });
      worst = std::max(worst, std::abs(static_cast<double>(sum) - exact) / std::max(size, 1e-30));
      sums.push_back(exact);
      sizes.push_back(size);
      expected[static_cast<std::size_t>(o * channels * kernel + tap)] += sum;
    }
    bias_expected[static_cast<std::size_t>(o)] += sum_over_images(
        images, positions,
        [&](std::int64_t image, std::int64_t p, bool valid, float s) { return s + (valid ? dy_at(image, p) : 0.0f); });
  }
  const std::int64_t groups = groups_of(images, 32);
  const OnDevice<float> dx(t, to_lanes(x, images, in, 32));
  const OnDevice<float> ddy(t, gradient_lanes(dy, images, out));
  const OnDevice<float> scratch(t, static_cast<std::size_t>(t.conv_weight_gradient_scratch(g, groups)));
  const OnDevice<float> bias_scratch(
      t, static_cast<std::size_t>(t.bias_gradient_scratch(g.out_channels, positions, groups)));
  const auto n = static_cast<std::int64_t>(before.size());
  // The groups [first, last), added up as `sum` and `bias_sum` say.
  const auto add = [&](std::int64_t first, std::int64_t last, const kernels::cuda::SliceSum& sum,
                       const kernels::cuda::SliceSum& bias_sum, bool fast = false) {
    const float* px = dx.get() + first * in * 32;
    const float* pdy = ddy.get() + first * out * 32;
    const std::int64_t slices = matrix
                                    ? (fast ? t.linear_weight_gradient_fast : t.linear_weight_gradient)(
                                          nullptr, g.out_channels, g.in_channels, px, pdy, scratch.get(), last - first)
                                    : (fast ? t.conv_weight_gradient_fast : t.conv_weight_gradient)(
                                          nullptr, g, px, pdy, scratch.get(), last - first);
    t.add_slices(nullptr, scratch.get(), n, slices, sum);
    t.add_slices(nullptr, bias_scratch.get(), g.out_channels,
                 t.bias_gradient(nullptr, g.out_channels, positions, pdy, bias_scratch.get(), last - first), bias_sum);
  };
  const OnDevice<float> dw(t, before);
  const OnDevice<float> db(t, bias_before);
  add(0, groups, {nullptr, dw.get(), true}, {nullptr, db.get(), true});
  const std::string what = "weight gradient " + name_of(g);
  report.equal(what, dw.values().data(), expected.data(), n);
  report.equal(what + " bias", db.values().data(), bias_expected.data(), g.out_channels);
  // One block of images, and the others behind its sums: the same bits.
  if (constexpr std::int64_t kBlock = kernels::cuda::kBlockImages / 32; groups > kBlock) {
    const OnDevice<float> again(t, before), again_bias(t, bias_before), carry(t, before.size());
    const OnDevice<float> carry_bias(t, bias_before.size());
    add(0, kBlock, {nullptr, carry.get(), false}, {nullptr, carry_bias.get(), false});
    add(kBlock, groups, {carry.get(), again.get(), true}, {carry_bias.get(), again_bias.get(), true});
    report.equal(what + ", shared", again.values().data(), expected.data(), n);
    report.equal(what + " bias, shared", again_bias.values().data(), bias_expected.data(), g.out_channels);
  }
  if (worst > 1e-5) {
    report.fail(pavise::concat(what, ": ", worst, " of the sum of magnitudes from the exact sum"));
  }
  // In the fast mode: within the rounding of both factors to TF32.
  const OnDevice<float> fast(t, before.size());
  add(0, groups, {nullptr, fast.get(), false}, {nullptr, db.get(), true}, true);
  const Rows got = fast.values();
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < got.size(); ++i) {
    wrong += std::abs(static_cast<double>(got[i]) - sums[i]) <= 0x1.1p-10 * sizes[i] + 1e-7 ? 0 : 1;
  }
  report.equal(what + ", fast: sums out of bounds", wrong, std::int64_t{0});
}

inline void check_weight_gradients(Report& report, const Table& t) {
  for (const kernels::ConvGeometry& g : geometries()) {
    compare_weight_gradient(report, t, g, 45, false);
  }
  compare_weight_gradient(report, t, geometry(2, 9, 9, 3, 2, 1, 0, 1, 1), 100, false);
  compare_weight_gradient(report, t, geometry(2, 5, 5, 3, 2, 1, 0, 1, 1), 300, false);
  for (const std::int64_t images : {1, 33, 200, 600}) {
    compare_weight_gradient(report, t, geometry(37, 1, 1, 11, 1, 1, 0, 1, 1), images, true);
  }
}

}  // namespace cuda_checks
