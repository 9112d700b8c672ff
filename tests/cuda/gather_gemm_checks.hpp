// SPDX-License-Identifier: MIT
#pragma once

#include <cmath>
#include <memory>

#include "cuda/support.hpp"

namespace cuda_checks {

/// An operator on the device with its weights.
class OnDeviceOperator {
 public:
  OnDeviceOperator(const Table& t, const kernels::GatherPlan& plan, const Rows& weight)
      : t_(t), op_(t.make_operator(plan)) {
    const OnDevice<float> w(t, weight);
    t.pack_operator(nullptr, op_, w.get());
    t.synchronize(nullptr);
  }
  OnDeviceOperator(const OnDeviceOperator&) = delete;
  OnDeviceOperator& operator=(const OnDeviceOperator&) = delete;
  ~OnDeviceOperator() { t_.destroy_operator(op_); }
  const kernels::cuda::Operator* get() const { return op_; }
  kernels::cuda::Operator* get() { return op_; }

 private:
  const Table& t_;
  kernels::cuda::Operator* op_;
};

/// A plan on both sides, with the epilogue's parts that `form`'s bits name; `tile`: as Table::operator_tiles, 0: the
/// operator's own choice.
inline void compare_plan(Report& report, const Table& t, const std::string& what, const kernels::GatherPlan& plan,
                         const Rows& weight, std::int64_t images, int form, int tile) {
  kernels::PackedWeights<pavise::AlignedVector<float>> packed;
  kernels::pack_weights(plan, weight.data(), kernels::run_light([&](auto isa) { return tile_rows(isa, 16); }), false,
                        packed, [](std::int64_t n, const auto& body) {
                          for (std::int64_t i = 0; i < n; ++i) {
                            body(i);
                          }
                        });
  const Rows bias = numbers(plan.rows * plan.channel_groups, 3);
  const OnDevice<float> device_bias(t, bias);
  const OnDeviceOperator op(t, plan, weight);
  const bool relu = (form & 4) != 0;
  const bool accumulate = (form & 8) != 0;
  compare_lanes(
      report, t, pavise::concat(what, ", epilogue ", form, ", tile ", tile), images,
      {{numbers(images * plan.in_size, 1), plan.in_size},
       {numbers(images * plan.out_size, 5), plan.out_size},
       {numbers(images * plan.out_size, 4), plan.out_size}},
      [&](const std::vector<float*>& a, std::int64_t) {
        const kernels::Epilogue<float> e{.bias = (form & 1) != 0 ? bias.data() : nullptr,
                                         .mask = (form & 2) != 0 ? a[2] : nullptr,
                                         .relu = relu,
                                         .accumulate = accumulate};
        kernels::run_light([&](auto isa) { gather_gemm<float>(isa, plan, packed, a[0], a[1], e, 16); });
      },
      [&](const std::vector<float*>& a, std::int64_t groups) {
        const kernels::Epilogue<float> e{.bias = (form & 1) != 0 ? device_bias.get() : nullptr,
                                         .mask = (form & 2) != 0 ? a[2] : nullptr,
                                         .relu = relu,
                                         .accumulate = accumulate};
        if (tile == 0) {
          t.apply_operator(nullptr, op.get(), a[0], a[1], e, groups);
        } else {
          t.apply_operator_tiled(nullptr, op.get(), a[0], a[1], e, groups, tile / 100, tile % 100);
        }
      });
}

inline Rows weights_of(const kernels::ConvGeometry& g) {
  return numbers(g.out_channels * (g.in_channels / g.groups) * g.kernel_height * g.kernel_width, 2);
}

/// Convolutions and their derivatives with every epilogue.
inline void check_convolutions(Report& report, const Table& t) {
  for (const kernels::ConvGeometry& g : geometries()) {
    for (const int form : {0, 1, 5, 2, 8, 15}) {
      compare_plan(report, t, "conv2d " + name_of(g), forward_plan(g), weights_of(g), 45, form, 0);
      compare_plan(report, t, "conv2d backward " + name_of(g), backward_plan(g), weights_of(g), 45, form, 0);
    }
  }
}

/// Gradients of images, whose kernels are compiled for a kernel and a stride, and some that are none of them.
inline void check_image_gradients(Report& report, const Table& t) {
  for (const kernels::ConvGeometry& g :
       {geometry(1, 9, 18, 7, 4, 2, 1, 1, 1), geometry(3, 8, 9, 5, 4, 2, 1, 1, 1), geometry(1, 5, 9, 6, 3, 1, 1, 1, 1),
        geometry(3, 7, 17, 4, 3, 1, 1, 1, 1), geometry(1, 6, 7, 3, 5, 1, 2, 1, 1), geometry(3, 9, 5, 2, 5, 1, 0, 1, 1),
        geometry(1, 7, 6, 5, 4, 2, 2, 1, 1), geometry(3, 7, 7, 4, 3, 2, 1, 1, 1), geometry(1, 8, 8, 4, 4, 2, 3, 1, 1),
        geometry(3, 5, 6, 37, 3, 1, 1, 1, 1)}) {
    for (const int form : {0, 2, 12, 1}) {
      compare_plan(report, t, "gradient of an image " + name_of(g), backward_plan(g), weights_of(g), 37, form, 0);
    }
  }
}

/// Every register tile gives the same bits, on shapes that do not fit it.
inline void check_tiles(Report& report, const Table& t) {
  for (int i = 0; const int tile = t.operator_tiles(i); ++i) {
    for (const kernels::ConvGeometry& g : {geometry(3, 5, 7, 13, 3, 1, 1, 1, 1), geometry(16, 7, 7, 50, 4, 2, 1, 1, 1),
                                           geometry(6, 5, 5, 3, 5, 1, 0, 1, 3)}) {
      compare_plan(report, t, "conv2d " + name_of(g), forward_plan(g), weights_of(g), 33, 15, tile);
      compare_plan(report, t, "conv2d backward " + name_of(g), backward_plan(g), weights_of(g), 1, 3, tile);
    }
    compare_plan(report, t, "linear 37x100", kernels::matrix_plan(37, 100, false), numbers(3700, 2), 290, 13, tile);
  }
}

/// One plan in the fast mode, with all of the epilogue, against the exact one: within the rounding of TF32 (half of 2^-10
/// for each factor) of the sum of the products' magnitudes. tile: as Table::fast_operator_tiles.
inline void compare_fast(Report& report, const Table& t, const std::string& what, const kernels::GatherPlan& plan,
                         const Rows& weight, std::int64_t images, int tile) {
  const auto magnitudes = [](Rows v) {
    for (float& x : v) {
      x = std::abs(x);
    }
    return v;
  };
  const Rows in = to_lanes(numbers(images * plan.in_size, 1), images, plan.in_size, 32);
  const Rows before = to_lanes(numbers(images * plan.out_size, 5), images, plan.out_size, 32);
  const OnDevice<float> x(t, in);
  const OnDevice<float> size(t, magnitudes(in));
  const OnDevice<float> mask(t, to_lanes(numbers(images * plan.out_size, 4), images, plan.out_size, 32));
  const OnDevice<float> bias(t, numbers(plan.rows * plan.channel_groups, 3));
  const OnDeviceOperator op(t, plan, weight);
  const OnDeviceOperator of_magnitudes(t, plan, magnitudes(weight));
  const std::int64_t groups = groups_of(images, 32);
  const kernels::Epilogue<float> e{.bias = bias.get(), .mask = mask.get(), .relu = true, .accumulate = true};
  const OnDevice<float> exact(t, before);
  const OnDevice<float> fast(t, before);
  const OnDevice<float> most(t, Rows(before.size()));
  t.apply_operator(nullptr, op.get(), x.get(), exact.get(), e, groups);
  t.apply_operator(nullptr, of_magnitudes.get(), size.get(), most.get(), {}, groups);
  if (tile == 0) {
    t.apply_operator_fast(nullptr, op.get(), x.get(), fast.get(), e, groups);
  } else {
    t.apply_operator_fast_tiled(nullptr, op.get(), x.get(), fast.get(), e, groups, tile / 100, tile % 100);
  }
  const Rows a = exact.values();
  const Rows b = fast.values();
  const Rows bound = most.values();
  std::int64_t wrong = 0;
  bool differs = false;
  for (std::size_t i = 0; i < a.size(); ++i) {
    wrong += std::abs(a[i] - b[i]) <= 0x1.1p-10f * bound[i] + 1e-6f ? 0 : 1;
    differs = differs || a[i] != b[i];
  }
  report.equal(pavise::concat(what, ", fast tile ", tile, ": sums out of bounds"), wrong, std::int64_t{0});
  if (plan.taps > 4 && (plan.rows > 4 || tile != 0)) {  // few rows live by memory and stay exact
    report.equal(pavise::concat(what, ", fast tile ", tile, ": it is TF32 that was computed"), differs, true);
  }
}

/// The fast mode: every tile, strides, padding, groups, ragged numbers of taps.
inline void check_fast(Report& report, const Table& t) {
  for (int i = 0; const int tile = t.fast_operator_tiles(i); ++i) {
    for (const kernels::ConvGeometry& g : {geometry(3, 5, 7, 13, 3, 1, 1, 1, 1), geometry(16, 4, 4, 50, 4, 2, 1, 1, 1),
                                           geometry(6, 5, 5, 3, 5, 1, 0, 1, 3)}) {
      compare_fast(report, t, "conv2d " + name_of(g), forward_plan(g), weights_of(g), 33, tile);
      compare_fast(report, t, "conv2d backward " + name_of(g), backward_plan(g), weights_of(g), 1, tile);
    }
    compare_fast(report, t, "linear 37x100", kernels::matrix_plan(37, 100, false), numbers(3700, 2), 290, tile);
  }
  for (const kernels::ConvGeometry& g : geometries()) {
    compare_fast(report, t, "conv2d " + name_of(g), forward_plan(g), weights_of(g), 45, 0);
  }
}

/// Fully connected layers both ways: few and many rows, columns and groups.
inline void check_matrices(Report& report, const Table& t) {
  for (const std::int64_t rows : {1, 3, 10, 37}) {
    for (const std::int64_t columns : {1, 7, 131}) {
      for (const std::int64_t images : {1, 33, 300}) {
        for (const bool transposed : {false, true}) {
          const auto plan =
              transposed ? kernels::matrix_plan(columns, rows, true) : kernels::matrix_plan(rows, columns, false);
          compare_plan(report, t, pavise::concat("linear ", rows, "x", columns, transposed ? " transposed" : ""), plan,
                       numbers(rows * columns, 2), images, transposed ? 10 : 5, 0);
        }
      }
    }
  }
}

/// Winograd's convolution: transforms, grouped products, transform.
inline void check_winograd(Report& report, const Table& t) {
  for (const kernels::WinogradShape& s :
       {kernels::WinogradShape{3, 5, 9, 7}, kernels::WinogradShape{32, 33, 4, 4}, kernels::WinogradShape{1, 1, 1, 1}}) {
    const kernels::ConvGeometry g = geometry(s.channels, s.height, s.width, s.rows, 3, 1, 1, 1, 1);
    const std::int64_t tiles = (s.height + 3) / 4 * ((s.width + 3) / 4);
    const std::int64_t images = 37;
    const Rows weight = weights_of(g);
    const auto serial = [](std::int64_t n, const auto& body) {
      for (std::int64_t i = 0; i < n; ++i) {
        body(i);
      }
    };
    kernels::PackedWeights<pavise::AlignedVector<float>> packed;
    pack_winograd(g, false, weight.data(), kernels::run_light([&](auto isa) { return tile_rows(isa, 16); }), false,
                  packed, serial);
    // The transformed weights as those of a grouped 1x1 convolution over the tiles: [36][row][channel].
    const auto grouped_by = [&](bool back) {
      const std::int64_t rows = back ? s.channels : s.rows;
      const std::int64_t channels = back ? s.rows : s.channels;
      kernels::PackedWeights<pavise::AlignedVector<float>> single;
      pack_winograd(g, back, weight.data(), 1, true, single, serial);
      Rows out(static_cast<std::size_t>(36 * rows * channels));
      for (std::int64_t xi = 0; xi < 36; ++xi) {
        for (std::int64_t r = 0; r < rows; ++r) {
          for (std::int64_t c = 0; c < channels; ++c) {
            out[static_cast<std::size_t>((xi * rows + r) * channels + c)] =
                single.data[static_cast<std::size_t>(single.tiles[static_cast<std::size_t>(r)].at + xi * channels + c)];
          }
        }
      }
      return out;
    };
    const Rows grouped = grouped_by(false);
    const OnDevice<float> device_weight(t, weight);
    for (const bool back : {false, true}) {
      const OnDevice<float> u(t, grouped.size());
      t.winograd_weights(nullptr, back ? s.channels : s.rows, back ? s.rows : s.channels, back, device_weight.get(),
                         u.get());
      report.equal(pavise::concat("winograd weights ", name_of(g), back ? " back" : ""), u.values().data(),
                   grouped_by(back).data(), static_cast<std::int64_t>(grouped.size()));
    }
    const kernels::ConvGeometry products{.in_channels = 36 * s.channels,
                                         .in_height = 1,
                                         .in_width = tiles,
                                         .out_channels = 36 * s.rows,
                                         .kernel_height = 1,
                                         .kernel_width = 1,
                                         .groups = 36,
                                         .out_height = 1,
                                         .out_width = tiles};
    const OnDeviceOperator op(t, forward_plan(products), grouped);
    kernels::TapClass taps;
    for (std::int32_t c = 0; c < s.channels; ++c) {
      taps.offset.push_back(c);
    }
    taps.segments.push_back({0, 0, static_cast<std::int32_t>(s.channels)});
    const Rows bias = numbers(s.rows, 3);
    const OnDevice<float> device_bias(t, bias);
    const std::int64_t size = s.rows * s.height * s.width;
    compare_lanes(
        report, t, "winograd " + name_of(g), images,
        {{numbers(images * s.channels * s.height * s.width, 1), s.channels * s.height * s.width},
         {numbers(images * size, 5), size},
         {numbers(images * size, 4), size}},
        [&](const std::vector<float*>& a, std::int64_t) {
          kernels::run_light([&](auto isa) {
            pavise::AlignedVector<float> scratch(static_cast<std::size_t>(winograd_scratch(isa, s.channels) * 16) + 16);
            winograd_conv(isa, s, packed, taps, a[0], a[1], {bias.data(), a[2], true, true}, scratch.data(), 16);
          });
        },
        [&](const std::vector<float*>& a, std::int64_t groups) {
          const OnDevice<float> v(t, static_cast<std::size_t>(groups * 36 * s.channels * tiles * 32));
          const OnDevice<float> m(t, static_cast<std::size_t>(groups * 36 * s.rows * tiles * 32));
          t.winograd_input(nullptr, s, a[0], v.get(), groups);
          t.apply_operator(nullptr, op.get(), v.get(), m.get(), {}, groups);
          t.winograd_output(nullptr, s, m.get(), a[1], {device_bias.get(), a[2], true, true}, groups);
          t.synchronize(nullptr);
        });
  }
}

}  // namespace cuda_checks
