// SPDX-License-Identifier: MIT
// Filters of images and copies of boxes. Oracles: the CPU kernels of the same names, bit for bit.
#pragma once

#include <array>
#include <utility>

#include "cuda/lane_checks.hpp"
#include "pavise/defend/filter/border.hpp"

namespace cuda_checks {

/// Height and width of the images that filters are tried on.
constexpr std::array<std::pair<std::int64_t, std::int64_t>, 4> kFilterSizes = {{{1, 1}, {2, 3}, {5, 7}, {9, 8}}};

inline void check_filter_elements(Report& report, const Table& t) {
  const std::int64_t n = 35;
  for (const float steps : {1.0f, 7.0f, 255.0f}) {
    compare_lanes(
        report, t, pavise::concat("quantise ", steps), kImages,
        {{special_numbers(kImages * n, 1, -0.2f, 1.2f), n},
         {numbers(kImages * n, 2), n},
         {special_numbers(kImages * n, 3, 0.0f, 1.0f), n}},
        [&](const std::vector<float*>& a, std::int64_t) {
          kernels::run_light([&](auto isa) {
            quantise<float>(isa, a[0], a[1], n * 16, steps);
            keep_above<float>(isa, a[2], n * 16, 0.5f);
          });
        },
        [&](const std::vector<float*>& a, std::int64_t groups) {
          t.quantise(nullptr, a[0], a[1], n * 32 * groups, steps);
          t.keep_above(nullptr, a[2], n * 32 * groups, 0.5f);
        });
  }
  for (const std::int64_t levels : {1, 5, 16}) {
    for (const std::int64_t pixels : {1, 6}) {
      const std::int64_t channels = pixels == 1 ? 1 : 3;
      const std::int64_t size = channels * pixels;
      compare_lanes(
          report, t, pavise::concat("thermometer of ", levels, ", ", channels, "x", pixels), kImages,
          {{special_numbers(kImages * size, 1, -0.2f, 1.2f), size},
           {numbers(kImages * size * levels, 2), size * levels},
           {numbers(kImages * size * levels, 3), size * levels},
           {numbers(kImages * size, 4), size},
           {numbers(kImages * size, 5), size}},
          [&](const std::vector<float*>& a, std::int64_t) {
            kernels::run_light([&](auto isa) {
              thermometer_forward<float>(isa, a[0], a[1], channels, pixels, levels, 16);
              thermometer_backward<float>(isa, a[0], a[2], a[3], channels, pixels, levels, false, 16);
              thermometer_backward<float>(isa, a[0], a[2], a[4], channels, pixels, levels, true, 16);
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            t.thermometer(nullptr, a[0], a[1], channels, pixels, levels, groups);
            t.thermometer_backward(nullptr, a[0], a[2], a[3], channels, pixels, levels, false, groups);
            t.thermometer_backward(nullptr, a[0], a[2], a[4], channels, pixels, levels, true, groups);
          });
    }
  }
  const Keys keys(t, kImages);
  for (const std::int64_t size : {1, 4, 9, 35}) {
    compare_lanes(
        report, t, pavise::concat("added noise of ", size), kImages,
        {{special_numbers(kImages * size, 1, 0.0f, 1.0f), size},
         {numbers(kImages * size, 2), size},
         {numbers(kImages * size, 3), size}},
        [&](const std::vector<float*>& a, std::int64_t g) {
          kernels::run_light([&](auto isa) {
            add_uniform<float>(isa, a[0], a[1], size, 0.3f, -0.15f, 16, keys.host(g));
            add_normal<float>(isa, a[0], a[2], size, 0.7f, 0.1f, 16, keys.host(g));
          });
        },
        [&](const std::vector<float*>& a, std::int64_t groups) {
          t.add_uniform(nullptr, a[0], a[1], size, 0.3f, -0.15f, groups, keys.device());
          t.add_normal(nullptr, a[0], a[2], size, 0.7f, 0.1f, groups, keys.device());
        });
  }
}

/// A plan of non-local means with the places on the host, and one with them on the device.
struct NlmPlans {
  kernels::NlmPlan host, device;
  std::vector<std::int64_t> rows, columns;
  OnDevice<std::int64_t> device_rows, device_columns;
  static std::vector<std::int64_t> places(std::int64_t n, std::int64_t border) {
    return pavise::defend::border_places(n, border, border, pavise::defend::Border::reflect_101);
  }
  NlmPlans(const Table& t, kernels::NlmPlan p)
      : host(p),
        device(p),
        rows(places(p.height, p.border())),
        columns(places(p.width, p.border())),
        device_rows(t, rows),
        device_columns(t, columns) {
    host.y = rows.data();
    host.x = columns.data();
    device.y = device_rows.get();
    device.x = device_columns.get();
  }
};

/// The first `first` channels of an image, and then all others, as the colours are filtered apart from the light.
inline void compare_nlm(Report& report, const Table& t, kernels::NlmPlan p, std::int64_t channels, std::int64_t first,
                        bool special) {
  const double side = static_cast<double>(2 * p.patch + 1);
  const std::int64_t pixels = p.height * p.width;
  const std::int64_t n = channels * pixels;
  p.channels = first;
  p.slope = -30.0 / (side * side * static_cast<double>(first));
  const NlmPlans head(t, p);
  p.channels = channels - first;
  p.slope = -1.0 / (side * side);
  const NlmPlans tail(t, p);
  compare_lanes(
      report, t,
      pavise::concat("nlm of (", channels, ",", p.height, ",", p.width, "), ", first, " first, patch ", p.patch,
                     ", search ", p.search),
      kImages,
      {{special ? special_numbers(kImages * n, 1, 0.0f, 1.0f) : numbers(kImages * n, 1, 0.0f, 1.0f), n},
       {numbers(kImages * n, 2), n}},
      [&](const std::vector<float*>& a, std::int64_t) {
        kernels::run_light([&](auto isa) {
          pavise::AlignedVector<float> scratch(
              static_cast<std::size_t>((head.host.scratch() + tail.host.scratch()) * 16));
          non_local_means<float>(isa, a[0], a[1], head.host, scratch.data(), 16);
          if (first < channels) {
            const std::int64_t at = first * pixels * 16;
            non_local_means<float>(isa, a[0] + at, a[1] + at, tail.host, scratch.data(), 16);
          }
        });
      },
      [&](const std::vector<float*>& a, std::int64_t groups) {
        t.non_local_means(nullptr, head.device, n, a[0], n, a[1], groups);
        if (first < channels) {
          const std::int64_t at = first * pixels * 32;
          t.non_local_means(nullptr, tail.device, n, a[0] + at, n, a[1] + at, groups);
        }
      });
}

inline void check_nlm(Report& report, const Table& t) {
  for (const auto& [height, width] : kFilterSizes) {
    for (const std::int64_t channels : {1, 2, 3, 4}) {
      for (const auto& [patch, search] : {std::pair{1, 0}, std::pair{0, 1}, std::pair{1, 3}}) {
        const kernels::NlmPlan p{channels, height, width, patch, search, 0.0, nullptr, nullptr};
        compare_nlm(report, t, p, channels, channels, search == 1);
      }
    }
    compare_nlm(report, t, {3, height, width, 2, 2, 0.0, nullptr, nullptr}, 3, 1, false);
  }
  for (const std::int64_t pixels : {1, 9, 35}) {
    const std::int64_t n = 3 * pixels;
    compare_lanes(
        report, t, pavise::concat("lab of ", pixels), kImages,
        {{special_numbers(kImages * n, 1, 0.0f, 1.0f), n},
         {numbers(kImages * n, 2), n},
         {numbers(kImages * n, 3, 0.0f, 0.02f), n},  // dark
         {numbers(kImages * n, 4), n},
         {special_numbers(kImages * n, 5, -0.2f, 1.1f), n},
         {numbers(kImages * n, 6), n}},
        [&](const std::vector<float*>& a, std::int64_t) {
          kernels::run_light([&](auto isa) {
            lab_from_rgb<float>(isa, a[0], a[1], pixels, 16);
            lab_from_rgb<float>(isa, a[2], a[3], pixels, 16);
            rgb_from_lab<float>(isa, a[4], a[5], pixels, 16);
            rgb_from_lab<float>(isa, a[3], a[2], pixels, 16);
          });
        },
        [&](const std::vector<float*>& a, std::int64_t groups) {
          t.lab_from_rgb(nullptr, a[0], a[1], pixels, groups);
          t.lab_from_rgb(nullptr, a[2], a[3], pixels, groups);
          t.rgb_from_lab(nullptr, a[4], a[5], pixels, groups);
          t.rgb_from_lab(nullptr, a[3], a[2], pixels, groups);
        });
  }
}

/// Taps at places that repeat and that some elements of the input lack.
inline void check_resample(Report& report, const Table& t) {
  for (const auto& [in, out, taps] : {std::array{1, 1, 1}, std::array{5, 9, 3}, std::array{9, 4, 2}}) {
    std::vector<std::int64_t> places(static_cast<std::size_t>(out * taps));
    for (std::size_t i = 0; i < places.size(); ++i) {
      places[i] = static_cast<std::int64_t>(i * i + 2 * i) % in;
    }
    const Rows weights = numbers(std::int64_t{out} * taps, 7);
    const OnDevice<std::int64_t> device_places(t, places);
    const OnDevice<float> device_weights(t, weights);
    for (const auto& [outer, inner] : {std::pair{1, 1}, std::pair{3, 1}, std::pair{2, 5}}) {
      const kernels::AxisTaps<float> m{outer, in, out, inner, taps, places.data(), weights.data()};
      auto device = m;
      device.places = device_places.get();
      device.weights = device_weights.get();
      const std::int64_t n = std::int64_t{outer} * inner;
      compare_lanes(
          report, t, pavise::concat("resample (", outer, ",", in, ",", inner, ") to ", out, " of ", taps), kImages,
          {{special_numbers(kImages * n * in, 1, -1.0f, 1.0f), n * in},
           {numbers(kImages * n * out, 2), n * out},
           {numbers(kImages * n * out, 3), n * out},
           {numbers(kImages * n * in, 4), n * in}},
          [&](const std::vector<float*>& a, std::int64_t) {
            kernels::run_light([&](auto isa) {
              resample_axis<float>(isa, a[0], a[1], m, 16);
              resample_axis_adjoint<float>(isa, a[2], a[3], m, 16);
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            t.resample(nullptr, device, a[0], a[1], groups);
            t.resample_adjoint(nullptr, device, a[2], a[3], groups);
          });
    }
  }
}

/// Places in any order, some of them -1, different for each image.
inline void check_gather_pixels(Report& report, const Table& t) {
  for (const auto& [height, width] : kFilterSizes) {
    for (const auto& [out_height, out_width] : {std::pair{1, 1}, std::pair{11, 4}, std::pair{6, 10}}) {
      const std::int64_t extent = out_height + out_width;
      std::vector<std::int32_t> places = labels(kImages * extent, 1000, 1);
      for (std::size_t i = 0; i < places.size(); ++i) {
        const bool row = static_cast<std::int64_t>(i) % extent < out_height;
        places[i] = places[i] % static_cast<std::int32_t>((row ? height : width) + 1) - 1;
      }
      const auto host_places = to_lanes(places, kImages, extent, 16);
      const OnDevice<std::int32_t> device_places(t, to_lanes(places, kImages, extent, 32));
      for (const std::int64_t channels : {1, 3}) {
        const kernels::LaneGather at{channels, height, width, out_height, out_width, device_places.get()};
        const std::int64_t in = channels * height * width;
        const std::int64_t out = channels * out_height * out_width;
        compare_lanes(
            report, t,
            pavise::concat("gather (", channels, ",", height, ",", width, ") to ", out_height, "x", out_width), kImages,
            {{special_numbers(kImages * in, 2, -1.0f, 1.0f), in},
             {numbers(kImages * out, 3), out},
             {numbers(kImages * out, 4), out},
             {numbers(kImages * in, 5), in}},
            [&](const std::vector<float*>& a, std::int64_t g) {
              kernels::run_light([&](auto isa) {
                auto host = at;
                host.places = host_places.data() + g * extent * 16;
                gather_lanes<float>(isa, a[0], a[1], host, 16);
                gather_lanes_adjoint<float>(isa, a[2], a[3], host, 16);
              });
            },
            [&](const std::vector<float*>& a, std::int64_t groups) {
              t.gather_pixels(nullptr, at, a[0], a[1], groups);
              t.gather_pixels_adjoint(nullptr, at, a[2], a[3], groups);
            });
      }
    }
  }
}

/// Images of which some, all or no pixels are kept.
inline void check_total_variation(Report& report, const Table& t) {
  for (const auto& [height, width] : kFilterSizes) {
    for (const std::int64_t channels : {1, 3}) {
      const std::int64_t n = channels * height * width;
      Rows kept(static_cast<std::size_t>(kImages * n));
      for (std::size_t i = 0; i < kept.size(); ++i) {
        const auto image = static_cast<std::int64_t>(i) / n;
        kept[i] = image == 0 || (image != 1 && i % 3 != 0) ? 1.0f : 0.0f;
      }
      for (const int form : {0, 1, 2}) {
        const kernels::cuda::TotalVariationStep s{channels, height, width, form == 1 ? 3.0f : 0.03f, form == 1 ? 1 : 4};
        const OnDevice<float> scratch(t, static_cast<std::size_t>(groups_of(kImages, 32) * 4 * n * 32));
        compare_lanes(
            report, t, pavise::concat("total variation of (", channels, ",", height, ",", width, "), form ", form),
            kImages,
            {{form == 2 ? special_numbers(kImages * n, 1, 0.0f, 1.0f) : numbers(kImages * n, 1, 0.0f, 1.0f), n},
             {kept, n},
             {numbers(kImages * n, 2), n}},
            [&](const std::vector<float*>& a, std::int64_t) {
              kernels::run_light([&](auto isa) {
                pavise::AlignedVector<float> room(static_cast<std::size_t>(3 * n * 16));
                total_variation<float>(isa, a[0], a[1], a[2], s.channels, s.height, s.width, s.weight, s.steps,
                                       room.data(), 16);
              });
            },
            [&](const std::vector<float*>& a, std::int64_t groups) {
              t.total_variation(nullptr, s, a[0], a[1], a[2], scratch.get(), groups);
            });
      }
    }
  }
}

/// Whole arrays, boxes in the middle of larger ones and transposed ones.
inline void check_strided_copy(Report& report, const Table& t) {
  struct Copy {
    kernels::StridedLoop loop;  ///< of array 0 and array 1
    std::int64_t to_size, to_first, from_size, from_first;
  };
  std::vector<Copy> copies(4);
  copies[0].loop.push(1, 0, 0);
  copies[0].to_size = copies[0].from_size = 1;
  copies[1].loop.push(35, 1, 1);
  copies[1].to_size = copies[1].from_size = 35;
  copies[2] = {{}, 2 * 4 * 6, 1, 3 * 5 * 7, 40};  // (2,3,2) at (0,0,1) of (2,4,6), from (1,0,5) of (3,5,7)
  copies[2].loop.push(2, 24, 35);
  copies[2].loop.push(3, 6, 7);
  copies[2].loop.push(2, 1, 1);
  copies[3] = {{}, 12, 0, 12, 0};  // (3,4) to (4,3)
  copies[3].loop.push(4, 3, 1);
  copies[3].loop.push(3, 1, 4);
  for (const Copy& c : copies) {
    for (const bool add : {false, true}) {
      compare_lanes(
          report, t, pavise::concat("strided copy of ", c.loop.count(), add ? ", added" : ""), kImages,
          {{numbers(kImages * c.to_size, 1), c.to_size},
           {special_numbers(kImages * c.from_size, 2, -1.0f, 1.0f), c.from_size}},
          [&](const std::vector<float*>& a, std::int64_t) {
            kernels::run_light([&](auto isa) {
              strided_copy<float>(isa, c.loop, a[1] + c.from_first * 16, a[0] + c.to_first * 16, add, 16);
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            t.strided_copy(nullptr, c.loop, a[1] + c.from_first * 32, c.from_size, a[0] + c.to_first * 32, c.to_size,
                           add, groups);
          });
    }
  }
}

}  // namespace cuda_checks
