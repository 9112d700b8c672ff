// SPDX-License-Identifier: MIT
// Filters over windows and JPEG, for images down to one pixel and windows larger than they are. Oracles:
// kernels::median_filter, median_backward, bilateral_forward, bilateral_backward, jpeg_round_trip, mix_channels and
// soft_round, bit for bit.
#pragma once

#include <array>
#include <cmath>
#include <utility>

#include "cuda/lane_checks.hpp"
#include "pavise/defend/filter/border.hpp"
#include "pavise/defend/filter/soft_jpeg.hpp"

namespace cuda_checks {

using Extent = std::pair<std::int64_t, std::int64_t>;  ///< rows, columns

inline std::string name_of(Extent e) { return pavise::concat(e.first, "x", e.second); }

/// Windows in both memories.
struct WindowTables {
  Extent image, window;
  std::vector<std::int64_t> y, x;
  OnDevice<std::int64_t> device_y, device_x;

  static std::vector<std::int64_t> places(std::int64_t n, std::int64_t extent, pavise::defend::Border border) {
    return pavise::defend::border_places(n, extent / 2, extent - 1 - extent / 2, border);
  }
  WindowTables(const Table& t, Extent image_, Extent window_, pavise::defend::Border border)
      : image(image_),
        window(window_),
        y(places(image_.first, window_.first, border)),
        x(places(image_.second, window_.second, border)),
        device_y(t, y),
        device_x(t, x) {}
  kernels::Windows host() const { return {image.first, image.second, window.first, window.second, y.data(), x.data()}; }
  kernels::Windows device() const {
    return {image.first, image.second, window.first, window.second, device_y.get(), device_x.get()};
  }
};

/// Rounded to multiples of 1/levels: full of ties.
inline Rows rounded(Rows values, float levels) {
  for (float& v : values) {
    v = std::isfinite(v) && std::abs(v) < 2.0f ? std::nearbyint(v * levels) / levels : v;
  }
  return values;
}

inline void compare_medians(Report& report, const Table& t, Extent image, Extent window, bool special) {
  constexpr std::int64_t kChannels = 2;
  const WindowTables tables(t, image, window, pavise::defend::Border::reflect);
  const std::int64_t pixels = image.first * image.second;
  const std::int64_t n = kChannels * pixels;
  const Rows x = special ? special_numbers(kImages * n, 1, -1.0f, 1.0f) : numbers(kImages * n, 1);
  pavise::AlignedVector<float> host_scratch(
      static_cast<std::size_t>((window.first * window.second / 2 + 2) * kernels::kLanes));
  const OnDevice<float> scratch(t, static_cast<std::size_t>(t.median_scratch(tables.device())));
  const OnDevice<float> shares(t, static_cast<std::size_t>(groups_of(kImages, 32) * n * 32));
  compare_lanes(
      report, t,
      pavise::concat("median ", name_of(window), " of ", name_of(image), special ? " with special numbers" : ""),
      kImages,
      {{rounded(x, 3.0f), n}, {numbers(kImages * n, 2), n}, {numbers(kImages * n, 3), n}, {numbers(kImages * n, 4), n}},
      [&](const std::vector<float*>& a, std::int64_t) {
        kernels::run([&](auto isa) {
          for (std::int64_t c = 0; c < kChannels; ++c) {
            const std::int64_t at = c * pixels * 16;
            median_filter<float>(isa, a[0] + at, a[1] + at, tables.host(), host_scratch.data(), 16);
            median_backward<float>(isa, a[0] + at, a[1] + at, a[2] + at, a[3] + at, tables.host(), 16);
          }
        });
      },
      [&](const std::vector<float*>& a, std::int64_t groups) {
        t.median(nullptr, tables.device(), kChannels, a[0], a[1], scratch.get(), groups);
        t.median_backward(nullptr, tables.device(), kChannels, a[0], a[1], a[2], a[3], shares.get(), groups);
      });
}

inline void check_medians(Report& report, const Table& t) {
  for (const Extent& image : {Extent{1, 1}, Extent{2, 3}, Extent{5, 7}, Extent{9, 8}}) {
    for (const Extent& window : {Extent{1, 1}, Extent{1, 2}, Extent{2, 2}, Extent{3, 3}, Extent{4, 4}, Extent{5, 5},
                                 Extent{3, 5}, Extent{6, 2}, Extent{7, 7}}) {
      compare_medians(report, t, image, window, false);
      compare_medians(report, t, image, window, true);
    }
  }
}

inline void compare_bilateral(Report& report, const Table& t, std::int64_t channels, Extent image,
                              std::int64_t diameter, bool ties) {
  const WindowTables tables(t, image, {diameter, diameter}, pavise::defend::Border::reflect_101);
  const std::int64_t radius = diameter / 2;
  std::vector<float> space;
  for (std::int64_t r = -radius; r <= radius; ++r) {
    for (std::int64_t c = -radius; c <= radius; ++c) {
      const std::int64_t square = r * r + c * c;
      space.push_back(square <= radius * radius ? 1.0f / static_cast<float>(1 + square) : 0.0f);
    }
  }
  const OnDevice<float> device_space(t, space);
  const std::int64_t n = channels * image.first * image.second;
  const OnDevice<float> shares(t, static_cast<std::size_t>(groups_of(kImages, 32) * n * 32));
  const float slope = -3.0f;
  const Rows x = numbers(kImages * n, 1);
  compare_lanes(
      report, t, pavise::concat("bilateral ", diameter, " of ", channels, " channels of ", name_of(image)), kImages,
      {{ties ? rounded(x, 4.0f) : x, n},
       {numbers(kImages * n, 2), n},
       {numbers(kImages * n, 3), n},
       {numbers(kImages * n, 4), n}},
      [&](const std::vector<float*>& a, std::int64_t) {
        kernels::run([&](auto isa) {
          bilateral_forward<float>(isa, a[0], a[1], tables.host(), space.data(), channels, slope, 16);
          bilateral_backward<float>(isa, a[0], a[2], a[3], tables.host(), space.data(), channels, slope, 16);
        });
      },
      [&](const std::vector<float*>& a, std::int64_t groups) {
        const kernels::Windows w = tables.device();
        t.bilateral(nullptr, w, device_space.get(), channels, slope, a[0], a[1], groups);
        t.bilateral_backward(nullptr, w, device_space.get(), channels, slope, a[0], a[1], a[2], a[3], shares.get(),
                             groups);
      });
}

inline void check_bilateral(Report& report, const Table& t) {
  for (const std::int64_t channels : {1, 3}) {
    for (const Extent& image : {Extent{1, 1}, Extent{2, 3}, Extent{5, 7}, Extent{9, 8}}) {
      for (const std::int64_t diameter : {1, 3, 5, 9}) {
        compare_bilateral(report, t, channels, image, diameter, diameter == 3);
      }
    }
  }
}

inline void compare_jpeg(Report& report, const Table& t, const pavise::Shape& image,
                         const pavise::defend::JpegOptions& options) {
  const kernels::JpegPlan plan = pavise::defend::detail::jpeg_plan("jpeg", image, options);
  const std::int64_t n = plan.channels * plan.height * plan.width;
  pavise::AlignedVector<std::int32_t> host_scratch(static_cast<std::size_t>(plan.scratch() * kernels::kLanes));
  const OnDevice<std::int32_t> scratch(t, static_cast<std::size_t>(groups_of(kImages, 32) * plan.scratch() * 32));
  compare_lanes(
      report, t, pavise::concat("jpeg of ", image, " at ", options.quality, plan.halved ? ", 4:2:0" : ""), kImages,
      {{special_numbers(kImages * n, 1, -0.1f, 1.1f), n}, {numbers(kImages * n, 2), n}},
      [&](const std::vector<float*>& a, std::int64_t) {
        kernels::run([&](auto isa) { jpeg_round_trip<float>(isa, a[0], a[1], plan, host_scratch.data(), 16); });
      },
      [&](const std::vector<float*>& a, std::int64_t groups) {
        t.jpeg(nullptr, plan, a[0], a[1], scratch.get(), groups);
      });
}

inline void check_jpeg(Report& report, const Table& t) {
  using pavise::defend::Chroma;
  for (const Extent& image :
       {Extent{1, 1}, Extent{2, 3}, Extent{11, 4}, Extent{5, 7}, Extent{9, 8}, Extent{16, 16}, Extent{17, 19}}) {
    compare_jpeg(report, t, {1, image.first, image.second}, {.quality = 50});
    compare_jpeg(report, t, {3, image.first, image.second}, {.quality = 90, .chroma = Chroma::full});
    compare_jpeg(report, t, {3, image.first, image.second}, {.quality = 75, .chroma = Chroma::halved});
  }
  // The pieces of the differentiable one.
  const kernels::cuda::ChannelMix mix{{0.3f, -0.6f, 0.1f, 1.4f, -0.2f, 0.7f, -1.1f, 0.9f, 0.4f}, {-128.0f, 0.5f, 3.0f}};
  for (const std::int64_t pixels : {1, 7, 35}) {
    compare_lanes(
        report, t, pavise::concat("mix_channels of ", pixels), kImages,
        {{special_numbers(kImages * 3 * pixels, 1, -1.0f, 1.0f), 3 * pixels},
         {numbers(kImages * 3 * pixels, 2), 3 * pixels},
         {numbers(kImages * 3 * pixels, 3), 3 * pixels}},
        [&](const std::vector<float*>& a, std::int64_t) {
          kernels::run_light([&](auto isa) {
            mix_channels<float>(isa, a[0], a[1], pixels * 16, mix.matrix, mix.offset, false);
            mix_channels<float>(isa, a[0], a[2], pixels * 16, mix.matrix, mix.offset, true);
          });
        },
        [&](const std::vector<float*>& a, std::int64_t groups) {
          t.mix_channels(nullptr, a[0], a[1], pixels, mix, false, groups);
          t.mix_channels(nullptr, a[0], a[2], pixels, mix, true, groups);
        });
  }
  const Rows table = numbers(64, 9, 0.5f, 20.0f);
  const OnDevice<float> device_table(t, table);
  for (const Extent& e : {Extent{8, 8}, Extent{16, 8}, Extent{8, 24}}) {
    const std::int64_t n = e.first * e.second;
    compare_lanes(
        report, t, "soft_round of " + name_of(e), kImages,
        {{special_numbers(kImages * n, 1, -99.0f, 99.0f), n},
         {numbers(kImages * n, 2), n},
         {numbers(kImages * n, 3), n},
         {numbers(kImages * n, 4), n}},
        [&](const std::vector<float*>& a, std::int64_t) {
          kernels::run_light([&](auto isa) {
            soft_round<float>(isa, a[0], nullptr, a[1], e.first, e.second, table.data(), 16);
            soft_round<float>(isa, a[0], a[2], a[3], e.first, e.second, table.data(), 16);
          });
        },
        [&](const std::vector<float*>& a, std::int64_t groups) {
          t.soft_round(nullptr, a[0], nullptr, a[1], e.first, e.second, device_table.get(), groups);
          t.soft_round(nullptr, a[0], a[2], a[3], e.first, e.second, device_table.get(), groups);
        });
  }
}

}  // namespace cuda_checks
