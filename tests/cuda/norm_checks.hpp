// SPDX-License-Identifier: MIT
// Normalisation of every image by itself, and by factors that all have.
#pragma once

#include "cuda/lane_checks.hpp"

namespace cuda_checks {

inline void check_channels(Report& report, const Table& t) {
  const std::int64_t channels = 5;
  for (const std::int64_t positions : {1, 12}) {
    const std::int64_t n = channels * positions;
    const Rows mean = numbers(channels, 7);
    const Rows scale = numbers(channels, 8, 0.5f, 2.0f);
    const Rows shift = numbers(channels, 9);
    const OnDevice<float> device_mean(t, mean);
    const OnDevice<float> device_scale(t, scale);
    const OnDevice<float> device_shift(t, shift);
    for (const bool flag : {false, true}) {
      compare_lanes(
          report, t, pavise::concat("channels of ", positions), kImages,
          {{numbers(kImages * n, 1), n},
           {numbers(kImages * n, 2), n},
           {numbers(kImages * n, 3), n},
           {numbers(kImages * n, 4), n}},
          [&](const std::vector<float*>& a, std::int64_t g) {
            kernels::run_light([&](auto isa) {
              for (std::int64_t c = 0; c < channels; ++c) {
                const auto k = static_cast<std::size_t>(c);
                const std::int64_t at = c * positions * 16;
                channel_affine<float>(isa, a[0] + at, a[1] + at, positions, mean[k], scale[k], shift[k], flag, 16);
                channel_backward<float>(isa, static_cast<const float*>(nullptr), a[2] + at, a[3] + at, positions, 0.0f,
                                        scale[k], 0.0f, 0.0f, flag, flag ? a[0] + at : nullptr, kImages - g * 16, 16);
              }
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            t.channel_affine(nullptr, a[0], a[1], channels, positions,
                             {device_mean.get(), device_scale.get(), device_shift.get()}, flag, groups);
            t.channel_backward(nullptr, a[2], a[3], channels, positions, device_scale.get(), flag,
                               flag ? a[0] : nullptr, kImages, groups);
          });
    }
  }
}

/// Group and layer normalisation: rows of their own statistics, parameters for each of their blocks, or for all rows.
inline void check_row_norms(Report& report, const Table& t) {
  for (const kernels::RowNorm& rows :
       {kernels::RowNorm{1, 1, 1, 0}, kernels::RowNorm{3, 2, 7, 2}, kernels::RowNorm{1, 35, 1, 35},
        kernels::RowNorm{4, 5, 3, 0}, kernels::RowNorm{2, 1, 70, 1}}) {
    const std::int64_t n = rows.rows * rows.blocks * rows.positions;
    const std::int64_t parameters = rows.row_parameters > 0 ? rows.rows * rows.row_parameters : rows.blocks;
    const Rows gamma = numbers(parameters, 7);
    const Rows beta = numbers(parameters, 8);
    const OnDevice<float> device_gamma(t, gamma);
    const OnDevice<float> device_beta(t, beta);
    for (const bool flag : {false, true}) {
      std::vector<double> expected(static_cast<std::size_t>(2 * parameters));
      std::vector<double> got(expected.size());
      compare_lanes(
          report, t, pavise::concat("row norm of ", rows.rows, " x ", rows.blocks, " x ", rows.positions), kImages,
          {{numbers(kImages * n, 1), n},
           {numbers(kImages * n, 2), n},
           {numbers(kImages * n, 3), n},
           {numbers(kImages * n, 4), n},
           {numbers(kImages * rows.rows, 5), rows.rows},
           {numbers(kImages * rows.rows, 6), rows.rows}},
          [&](const std::vector<float*>& a, std::int64_t g) {
            kernels::run_light([&](auto isa) {
              row_norm<float>(isa, rows, a[0], a[1], flag ? gamma.data() : nullptr, flag ? beta.data() : nullptr, 1e-5f,
                              flag, a[4], a[5], 16);
              row_norm_backward<float>(isa, rows, a[0], a[2], flag ? gamma.data() : nullptr, a[4], a[5], a[3], flag,
                                       flag ? a[0] : nullptr, 16);
              for (std::int64_t k = 0; k < parameters; ++k) {
                row_norm_parameters<float>(isa, rows, a[0], a[2], a[4], a[5], 1, kImages - g * 16, k,
                                           expected[static_cast<std::size_t>(k)],
                                           expected[static_cast<std::size_t>(parameters + k)]);
              }
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            const float* scale = flag ? device_gamma.get() : nullptr;
            t.row_norm(nullptr, rows, a[0], a[1], scale, flag ? device_beta.get() : nullptr, 1e-5f, flag, a[4], a[5],
                       groups);
            t.row_norm_backward(nullptr, rows, a[0], a[2], scale, a[4], a[5], a[3], flag, flag ? a[0] : nullptr,
                                groups);
            const OnDevice<float> partial(
                t, static_cast<std::size_t>(t.row_norm_parameters_scratch(rows, parameters, groups)));
            for (const bool of_gamma : {true, false}) {
              const std::int64_t slices = t.row_norm_parameters(nullptr, rows, of_gamma, a[0], a[2], a[4], a[5],
                                                                partial.get(), parameters, kImages, groups);
              const auto sums = partial.values();
              for (std::int64_t i = 0; i < slices * parameters; ++i) {
                got[static_cast<std::size_t>((of_gamma ? 0 : parameters) + i % parameters)] +=
                    static_cast<double>(sums[static_cast<std::size_t>(i)]);
              }
            }
          });
      double worst = 0;
      for (std::size_t i = 0; i < got.size(); ++i) {
        worst = std::max(worst, std::abs(got[i] - expected[i]));
      }
      report.equal(pavise::concat("sums over images of the parameters: differ by ", worst), worst < 1e-3, true);
    }
  }
}

}  // namespace cuda_checks
