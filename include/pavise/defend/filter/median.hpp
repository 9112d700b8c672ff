// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "pavise/autodiff/keep.hpp"
#include "pavise/autodiff/tape.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/defend/filter/border.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::defend {

namespace detail {

inline void check_median(std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t kLargest = 127;
  require(rows >= 1 && columns >= 1 && rows <= kLargest && columns <= kLargest, "median: a window of ", rows, " x ",
          columns, ", expected 1 to ", kLargest);
}

}  // namespace detail

/// The median of each window of rows x columns pixels, channel by channel, as scipy.ndimage.median_filter with mode
/// `reflect` (which Xu, Evans and Qi 2018, "Feature squeezing", use): the window of pixel (i,j) begins at (i - rows/2,
/// j - columns/2), and of an even number of pixels the upper median is taken. The derivative goes to the pixel that is
/// the median, in equal shares where several are: images of bytes are full of ties, at which there is none. Where a
/// window holds NaN, the result is one of its pixels. x: (C,H,W); rows, columns: 1 to 127.
template <class T>
Var<T> median(Var<T> x, std::int64_t rows, std::int64_t columns) {
  detail::check_median(rows, columns);
  const Shape s = x.shape();
  require<ShapeError>(s.rank() == 3 && !x.shared(), "median: the input is (C,H,W), got ", s);
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result("median", s, {x});
  const auto row_places = border_places(s[1], rows / 2, rows - 1 - rows / 2, Border::reflect);
  const auto column_places = border_places(s[2], columns / 2, columns - 1 - columns / 2, Border::reflect);
  trace_function(y, {x}, [&] { return traced::Median{{s[1], s[2], rows, columns, row_places, column_places}}; });
  const kernels::Windows windows{
      s[1], s[2], rows, columns, pavise::detail::keep(tape, row_places), pavise::detail::keep(tape, column_places)};
  const std::int64_t plane = s[1] * s[2] * tape.lanes();
  tape.each_group([&](std::int64_t g) {
    thread_local AlignedVector<T> window;
    window.resize(static_cast<std::size_t>((rows * columns / 2 + 2) * tape.lanes()));
    kernels::run([&](auto isa) {
      for (std::int64_t c = 0; c < s[0]; ++c) {
        median_filter<T>(isa, std::as_const(x).data(g) + c * plane, y.data(g) + c * plane, windows, window.data(),
                         tape.lanes());
      }
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    T* dx = t.add_target(x);
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        for (std::int64_t c = 0; c < s[0]; ++c) {
          median_backward<T>(isa, std::as_const(x).data(g) + c * plane, std::as_const(y).data(g) + c * plane,
                             t.gradient(y, g) + c * plane, dx + (g * s[0] + c) * plane, windows, t.lanes());
        }
      });
    });
  });
  return y;
}

/// See median.
template <class T>
class Median : public Filter<T> {
 public:
  explicit Median(std::int64_t window) : Median(window, window) {}
  Median(std::int64_t rows, std::int64_t columns) : rows_(rows), columns_(columns) {
    detail::check_median(rows, columns);
  }
  std::string text() const override {
    return rows_ == columns_ ? concat("median:", rows_) : concat("median:", rows_, "-", columns_);
  }
  Var<T> apply(Var<T> x) const override { return median(x, rows_, columns_); }
  nn::Declaration declaration() const override { return detail::substituted(); }

 private:
  std::int64_t rows_;
  std::int64_t columns_;
};

}  // namespace pavise::defend
