// SPDX-License-Identifier: MIT
// The matrix micro-kernel against naive loops. Values are small integers, so that every sum is exact and the comparison
// too.
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include "kernels/each_isa.hpp"
#include "kernels/integers.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace kernels = pavise::kernels;
using kernels::ConvGeometry;

namespace {

constexpr std::int64_t kSlack = 16;  // kernels may read a cache line further

ConvGeometry geometry(std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t o, std::int64_t k,
                      std::int64_t stride, std::int64_t padding, std::int64_t dilation, std::int64_t groups) {
  const auto extent = [&](std::int64_t in) { return (in + 2 * padding - dilation * (k - 1) - 1) / stride + 1; };
  return {.in_channels = c,
          .in_height = h,
          .in_width = w,
          .out_channels = o,
          .kernel_height = k,
          .kernel_width = k,
          .stride = stride,
          .padding = padding,
          .dilation = dilation,
          .groups = groups,
          .out_height = extent(h),
          .out_width = extent(w)};
}

/// Calls f(output element, weight element, input element) for every product of the convolution.
template <class F>
void each_product(const ConvGeometry& g, const F& f) {
  const std::int64_t channels = g.in_channels / g.groups;
  const std::int64_t rows = g.out_channels / g.groups;
  for (std::int64_t o = 0; o < g.out_channels; ++o) {
    for (std::int64_t i = 0; i < g.out_height; ++i) {
      for (std::int64_t j = 0; j < g.out_width; ++j) {
        for (std::int64_t c = 0; c < channels; ++c) {
          for (std::int64_t u = 0; u < g.kernel_height; ++u) {
            for (std::int64_t v = 0; v < g.kernel_width; ++v) {
              const std::int64_t y = i * g.stride - g.padding + u * g.dilation;
              const std::int64_t x = j * g.stride - g.padding + v * g.dilation;
              if (y >= 0 && y < g.in_height && x >= 0 && x < g.in_width) {
                f(static_cast<std::size_t>((o * g.out_height + i) * g.out_width + j),
                  static_cast<std::size_t>(((o * channels + c) * g.kernel_height + u) * g.kernel_width + v),
                  static_cast<std::size_t>(((o / rows * channels + c) * g.in_height + y) * g.in_width + x));
              }
            }
          }
        }
      }
    }
  }
}

/// A plan with every epilogue against `expected` (the sums without bias); returns the number of wrong elements.
template <class T>
int wrong_elements(const kernels::GatherPlan& plan, const T* weight, const pavise::AlignedVector<T>& in, int lanes,
                   const std::vector<T>& expected) {
  kernels::PackedWeights<pavise::AlignedVector<T>> packed;
  kernels::pack_weights(plan, weight, kernels::run([&](auto isa) { return tile_rows(isa, lanes); }), lanes == 1, packed,
                        [](std::int64_t n, const auto& body) {
                          for (std::int64_t i = 0; i < n; ++i) {
                            body(i);
                          }
                        });
  const std::int64_t size = plan.out_size * lanes;
  const auto bias = integers<T>(plan.rows * plan.channel_groups, 3, kSlack);
  const auto mask = integers<T>(size, 4, kSlack);
  int wrong = 0;
  for (int form = 0; form < 16; ++form) {
    const kernels::Epilogue<T> e{.bias = (form & 1) != 0 ? bias.data() : nullptr,
                                 .mask = (form & 2) != 0 ? mask.data() : nullptr,
                                 .relu = (form & 4) != 0,
                                 .accumulate = (form & 8) != 0};
    auto out = integers<T>(size, 5, kSlack);
    const auto before = out;
    kernels::run([&](auto isa) { gather_gemm<T>(isa, plan, packed, in.data(), out.data(), e, lanes); });
    for (std::size_t i = 0; i < static_cast<std::size_t>(size); ++i) {
      T y = expected[i];
      if (e.bias != nullptr) {
        y += bias[i / static_cast<std::size_t>(lanes * plan.out_row)];
      }
      y = e.relu && y < 0 ? T{0} : y;
      y = e.mask != nullptr && !(mask[i] > 0) ? T{0} : y;
      y = e.accumulate ? y + before[i] : y;
      wrong += out[i] == y ? 0 : 1;
    }
    for (std::size_t i = static_cast<std::size_t>(size); i < out.size(); ++i) {
      wrong += out[i] == 0 ? 0 : 1;  // nothing is written behind the end
    }
  }
  return wrong;
}

const ConvGeometry kGeometries[] = {
    geometry(1, 1, 1, 1, 1, 1, 0, 1, 1),  geometry(3, 5, 7, 13, 3, 1, 1, 1, 1),
    geometry(2, 9, 8, 7, 4, 2, 1, 1, 1),  geometry(5, 6, 17, 25, 1, 1, 0, 1, 1),
    geometry(4, 7, 7, 6, 3, 2, 2, 2, 2),  geometry(11, 4, 5, 11, 3, 1, 1, 1, 11),
    geometry(1, 33, 2, 2, 2, 3, 1, 1, 1), geometry(17, 2, 19, 31, 2, 1, 0, 1, 1),
    geometry(6, 5, 5, 3, 5, 1, 0, 1, 3),
};

template <class T>
void check_convolutions() {
  for (const ConvGeometry& g : kGeometries) {
    for (const int lanes : {16, 1}) {
      CAPTURE(g.in_channels);
      CAPTURE(g.out_channels);
      CAPTURE(lanes);
      const auto n = static_cast<std::size_t>(lanes);
      const std::int64_t in_size = g.in_channels * g.in_height * g.in_width;
      const std::int64_t out_size = g.out_channels * g.out_height * g.out_width;
      const auto x = integers<T>(in_size * lanes, 1, kSlack);
      const auto dy = integers<T>(out_size * lanes, 6, kSlack);
      const auto weight =
          integers<T>(g.out_channels * g.in_channels / g.groups * g.kernel_height * g.kernel_width, 2, kSlack);
      std::vector<T> y(static_cast<std::size_t>(out_size) * n, T{0});
      std::vector<T> dx(static_cast<std::size_t>(in_size) * n, T{0});
      each_product(g, [&](std::size_t o, std::size_t w, std::size_t i) {
        for (std::size_t lane = 0; lane < n; ++lane) {
          y[o * n + lane] += weight[w] * x[i * n + lane];
          dx[i * n + lane] += weight[w] * dy[o * n + lane];
        }
      });
      CHECK(wrong_elements<T>(kernels::forward_plan(g), weight.data(), x, lanes, y) == 0);
      CHECK(wrong_elements<T>(kernels::backward_plan(g), weight.data(), dy, lanes, dx) == 0);
    }
  }
}

template <class T>
void check_matrices() {
  for (const std::int64_t rows : {1, 2, 3, 5, 12, 13, 16, 37}) {
    for (const std::int64_t columns : {1, 7, 31}) {
      for (const int lanes : {16, 1}) {
        CAPTURE(rows);
        CAPTURE(columns);
        CAPTURE(lanes);
        const auto weight = integers<T>(rows * columns, 2, kSlack);
        const auto n = static_cast<std::size_t>(lanes);
        for (const bool transposed : {false, true}) {
          const auto x = integers<T>((transposed ? rows : columns) * lanes, 1, kSlack);
          std::vector<T> y(static_cast<std::size_t>(transposed ? columns : rows) * n, T{0});
          for (std::size_t r = 0; r < static_cast<std::size_t>(rows); ++r) {
            for (std::size_t c = 0; c < static_cast<std::size_t>(columns); ++c) {
              for (std::size_t lane = 0; lane < n; ++lane) {
                const T w = weight[r * static_cast<std::size_t>(columns) + c];
                y[(transposed ? c : r) * n + lane] += w * x[(transposed ? r : c) * n + lane];
              }
            }
          }
          const auto plan =
              transposed ? kernels::matrix_plan(columns, rows, true) : kernels::matrix_plan(rows, columns, false);
          CHECK(wrong_elements<T>(plan, weight.data(), x, lanes, y) == 0);
        }
      }
    }
  }
}

}  // namespace

TEST_CASE("gather_gemm: convolutions and their derivatives, exactly, with every epilogue") {
  each_isa([] {
    check_convolutions<float>();
    check_convolutions<double>();
  });
}

TEST_CASE("gather_gemm: matrices and their transposes, exactly, with every epilogue") {
  each_isa([] {
    check_matrices<float>();
    check_matrices<double>();
  });
}
