// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "pavise/autodiff/substitute.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise/defend/filter/filter.hpp"
#include "pavise/defend/filter/soft_jpeg.hpp"
#include "pavise_kernels/cpu/cpu.hpp"

namespace pavise::defend {

/// x as it comes back from a JPEG file: pixels become the nearest bytes, and the result is what libjpeg decodes, byte
/// for byte, over 255: its accurate integer transform, the standard tables at `quality`, 8x8 blocks behind repeated
/// edges, triangular up-sampling of chroma at half the resolution. The entropy code loses nothing and is left out. The
/// derivative is that of soft_jpeg. NaN becomes 0. x: (1,H,W), grey, or (3,H,W), red, green and blue, in [0,1]. Throws
/// ShapeError for other channels.
template <class T>
Var<T> jpeg(Var<T> x, const JpegOptions& options = {}) {
  const Shape s = x.shape();
  const kernels::JpegPlan plan = detail::jpeg_plan("jpeg", s, options);
  Tape<T>& tape = x.tape();
  const int lanes = tape.lanes();
  Var<T> y = tape.input(s);
  trace_function(y, {x}, [&] { return traced::Jpeg{plan}; });
  tape.each_group([&](std::int64_t g) {
    thread_local AlignedVector<std::int32_t> scratch;
    scratch.resize(static_cast<std::size_t>(plan.scratch() * lanes));
    kernels::run(
        [&](auto isa) { jpeg_round_trip<T>(isa, std::as_const(x).data(g), y.data(g), plan, scratch.data(), lanes); });
  });
  return tape.needs_gradient(x) ? with_gradient_of(y, soft_jpeg(x, options)) : y;
}

/// See jpeg.
template <class T>
class Jpeg : public Filter<T> {
 public:
  explicit Jpeg(JpegOptions options = {}) : options_(options) { detail::check_jpeg(options); }
  explicit Jpeg(std::int64_t quality) : Jpeg(JpegOptions{.quality = quality}) {}

  std::string text() const override {
    return concat("jpeg:", options_.quality, options_.chroma == Chroma::halved ? ":420" : ":444");
  }
  Var<T> apply(Var<T> x) const override { return jpeg(x, options_); }
  nn::Declaration declaration() const override { return detail::substituted(); }
  Shape output_shape(const Shape& in) const override {
    Filter<T>::output_shape(in);
    require<ShapeError>(in[0] == 1 || in[0] == 3, text(), ": expects 1 or 3 channels, got ", in);
    return in;
  }

 private:
  JpegOptions options_;
};

}  // namespace pavise::defend
