// SPDX-License-Identifier: MIT
// The derivatives with respect to weights against naive loops. Values are small integers, so that every sum is exact.
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "kernels/each_isa.hpp"
#include "kernels/integers.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace kernels = pavise::kernels;

namespace {

struct Job {
  std::int64_t groups, rows, channels, height, width, kernel, stride, padding;
};

template <class T>
void check_convolution(const Job& j) {
  CAPTURE(j.rows);
  CAPTURE(j.channels);
  const std::int64_t ph = j.height + 2 * j.padding;
  const std::int64_t pw = j.width + 2 * j.padding;
  const std::int64_t oh = (ph - j.kernel) / j.stride + 1;
  const std::int64_t ow = (pw - j.kernel) / j.stride + 1;
  const std::int64_t x_size = j.channels * j.height * j.width;
  const auto x = integers<T>(j.groups * x_size * 16, 1);
  const auto dy = integers<T>(j.groups * j.rows * oh * ow * 16, 2);
  pavise::AlignedVector<T> padded(static_cast<std::size_t>(j.groups * j.channels * ph * pw * 16), T{9});
  std::vector<std::int32_t> offset;
  for (std::int64_t c = 0; c < j.channels; ++c) {
    for (std::int64_t u = 0; u < j.kernel; ++u) {
      for (std::int64_t v = 0; v < j.kernel; ++v) {
        offset.push_back(static_cast<std::int32_t>((c * ph + u) * pw + v));
      }
    }
  }
  const auto taps = static_cast<std::int64_t>(offset.size());
  auto dw = integers<T>(j.rows * taps, 3);
  auto expected = dw;
  auto db = integers<T>(j.rows, 4);
  auto expected_db = db;
  for (std::int64_t g = 0; g < j.groups; ++g) {
    for (std::int64_t r = 0; r < j.rows; ++r) {
      for (std::int64_t i = 0; i < oh; ++i) {
        for (std::int64_t k = 0; k < ow; ++k) {
          for (std::int64_t lane = 0; lane < 16; ++lane) {
            const T d = dy[static_cast<std::size_t>((((g * j.rows + r) * oh + i) * ow + k) * 16 + lane)];
            expected_db[static_cast<std::size_t>(r)] += d;
            for (std::int64_t t = 0; t < taps; ++t) {
              const std::int64_t c = t / (j.kernel * j.kernel);
              const std::int64_t yy = i * j.stride - j.padding + t / j.kernel % j.kernel;
              const std::int64_t xx = k * j.stride - j.padding + t % j.kernel;
              if (yy >= 0 && yy < j.height && xx >= 0 && xx < j.width) {
                expected[static_cast<std::size_t>(r * taps + t)] +=
                    d *
                    x[static_cast<std::size_t>((((g * j.channels + c) * j.height + yy) * j.width + xx) * 16 + lane)];
              }
            }
          }
        }
      }
    }
  }
  const kernels::WeightGradientJob job{.groups = j.groups,
                                       .dy_size = j.rows * oh * ow,
                                       .x_size = j.channels * ph * pw,
                                       .out_height = oh,
                                       .out_width = ow,
                                       .x_row = j.stride * pw,
                                       .x_step = j.stride};
  kernels::run([&](auto isa) {
    for (std::int64_t g = 0; g < j.groups; ++g) {
      pad_image<T>(isa, x.data() + g * x_size * 16, padded.data() + g * j.channels * ph * pw * 16, j.channels, j.height,
                   j.width, j.padding);
    }
    const auto [tile_rows, tile_taps] = weight_gradient_tile_size(isa);
    for (std::int64_t r = 0; r < j.rows; r += tile_rows) {
      std::int64_t together = 1;  // tiles of one call: as many as there may be, and fewer
      for (std::int64_t t = 0; t < taps; t += tile_taps * together) {
        together = together % kernels::kGradientTiles + 1;
        weight_gradient<T>(isa, job, dy.data(), padded.data(), offset, dw.data(), j.rows, r, t,
                           t + tile_taps * together);
      }
      for (std::int64_t row = r; row < std::min<std::int64_t>(r + tile_rows, j.rows); ++row) {
        bias_gradient<T>(isa, dy.data(), j.groups, j.rows * oh * ow, oh * ow, db.data(), row);
      }
    }
  });
  CHECK(dw == expected);
  CHECK(db == expected_db);
}

template <class T>
void check_matrix(std::int64_t groups, std::int64_t rows, std::int64_t columns) {
  CAPTURE(rows);
  CAPTURE(columns);
  const auto x = integers<T>(groups * columns * 16, 1);
  const auto dy = integers<T>(groups * rows * 16, 2);
  auto dw = integers<T>(rows * columns, 3);
  auto expected = dw;
  for (std::int64_t g = 0; g < groups; ++g) {
    for (std::int64_t r = 0; r < rows; ++r) {
      for (std::int64_t c = 0; c < columns; ++c) {
        for (std::int64_t lane = 0; lane < 16; ++lane) {
          expected[static_cast<std::size_t>(r * columns + c)] +=
              dy[static_cast<std::size_t>((g * rows + r) * 16 + lane)] *
              x[static_cast<std::size_t>((g * columns + c) * 16 + lane)];
        }
      }
    }
  }
  pavise::AlignedVector<T> scratch(static_cast<std::size_t>(groups * 256));
  kernels::run([&](auto isa) {
    for (std::int64_t tile = 0; tile < (columns + 15) / 16; ++tile) {
      matrix_gradient<T>(isa, dy.data(), x.data(), groups, rows, columns, tile, scratch.data(), dw.data());
    }
  });
  CHECK(dw == expected);
}

}  // namespace

TEST_CASE("weight_gradient, bias_gradient: convolutions, exactly") {
  each_isa([] {
    for (const Job& job : {Job{1, 1, 1, 1, 1, 1, 1, 0}, Job{2, 5, 3, 5, 7, 3, 1, 1}, Job{3, 2, 1, 9, 8, 4, 2, 1},
                           Job{1, 13, 7, 3, 3, 1, 1, 0}, Job{2, 3, 2, 7, 11, 5, 3, 2}, Job{1, 4, 2, 2, 2, 2, 1, 1},
                           Job{2, 9, 4, 33, 29, 4, 2, 1}}) {
      check_convolution<float>(job);
      check_convolution<double>(job);
    }
  });
}

TEST_CASE("matrix_gradient: fully connected layers, exactly") {
  each_isa([] {
    for (const std::int64_t rows : {1, 2, 11, 12, 13, 25}) {
      for (const std::int64_t columns : {1, 15, 16, 17, 47}) {
        check_matrix<float>(3, rows, columns);
        check_matrix<double>(1, rows, columns);
      }
    }
  });
}
