// SPDX-License-Identifier: MIT
// What operations of images and of shapes compute, as a trace notes it (TracedOperation::function): the plans of their
// kernels, with the tables that these point to.
#pragma once

#include <array>
#include <cstdint>
#include <variant>
#include <vector>

#include "pavise/core/philox.hpp"
#include "pavise/core/shape.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::traced {

/// Elements of each input copied to the result, which they cover.
struct Boxes {
  struct Box {
    kernels::StridedLoop loop{};  ///< array 0: the result, array 1: the input
    std::int64_t y_begin = 0, x_begin = 0;
    bool covers_input = false;
  };
  std::array<Box, 2> box;
};

/// A function of two values of one shape, element by element.
struct Elementwise {
  kernels::Binary function;
};

/// Sums of elements: for every step of `kept` (array 0: the input, array 1: the result) over those of `reduced`.
struct Sum {
  kernels::StridedLoop kept, reduced;
};

/// The value of input 0 with the derivative of input 1.
struct Substitute {};

struct Quantise {
  double steps;
};

/// A window's places along both axes, as kernels::Windows.
struct Windows {
  std::int64_t height, width, rows, columns;
  std::vector<std::int64_t> y, x;

  kernels::Windows plan(const std::int64_t* rows_at, const std::int64_t* columns_at) const {
    return {height, width, rows, columns, rows_at, columns_at};
  }
};

struct Median {
  Windows windows;
};

struct Bilateral {
  Windows windows;
  std::vector<double> space;
  double slope;
};

struct Jpeg {
  kernels::JpegPlan plan;
};

/// y = m x + offset of three channels.
struct MixChannels {
  std::array<double, 9> matrix;
  std::array<double, 3> offset;
};

struct SoftRound {
  std::int64_t height, width;
  std::array<std::int32_t, 64> table;
};

/// In CIE L*a*b* where there are three channels.
struct NonLocalMeans {
  std::int64_t channels;
  std::array<kernels::NlmPlan, 2> plans;  ///< without tables; of the light and of the colours, or the first for all
  std::vector<std::int64_t> y, x;
};

struct Thermometer {
  std::int64_t channels, pixels, levels;
};

/// A linear map along an axis, as kernels::AxisTaps.
struct Resample {
  std::int64_t outer, in, out, inner, taps;
  std::vector<std::int64_t> places;
  std::vector<double> weights;
};

/// x + scale r + shift, r drawn.
struct Noise {
  kernels::Distribution distribution;
  double scale, shift;
  Purpose purpose;
  std::uint32_t layer;
};

/// Random resizing and padding; see defend::resize_pad.
struct ResizePad {
  Shape in, out;
  std::int64_t smallest;
  std::uint32_t layer;
};

struct TotalVariation {
  Shape shape;
  double weight, drop;
  std::int64_t steps;
  std::uint32_t layer;
};

using Function = std::variant<Boxes, Elementwise, Sum, Substitute, Quantise, Median, Bilateral, Jpeg, MixChannels,
                              SoftRound, NonLocalMeans, Thermometer, Resample, Noise, ResizePad, TotalVariation>;

}  // namespace pavise::traced
