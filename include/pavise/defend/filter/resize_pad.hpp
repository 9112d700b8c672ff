// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>

#include "pavise/autodiff/tape.hpp"
#include "pavise/core/parallel.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/defend/filter/filter.hpp"

namespace pavise::defend {

namespace detail {

/// `n` scaled by to/from, rounded to the nearest, at least 1.
inline std::int64_t scaled_extent(std::int64_t n, std::int64_t to, std::int64_t from) {
  return std::max<std::int64_t>(1, (2 * n * to + from) / (2 * from));
}

/// Where the pixels of one image behind a random resizing come from.
struct ResizeDraw {
  std::int64_t height, width;  ///< after resizing
  std::int64_t top, left;      ///< of the resized image within the padded one
};

/// Words of the image's own sequence: the height uniform in smallest ... max(smallest, out - 1), the width in
/// proportion, then top and left uniform among all places at which the resized image fits.
inline ResizeDraw draw_resize(const RandomKey& key, std::int64_t smallest, std::int64_t out_height,
                              std::int64_t out_width) {
  RandomSequence random(key);
  const auto below = [&](std::int64_t n) {
    return static_cast<std::int64_t>(random.below(static_cast<std::uint32_t>(n)));
  };
  ResizeDraw d{};
  d.height = smallest + below(std::max<std::int64_t>(1, out_height - smallest));
  d.width = std::min(out_width, scaled_extent(out_width, d.height, out_height));
  d.top = below(out_height - d.height + 1);
  d.left = below(out_width - d.width + 1);
  return d;
}

/// For every slot (group * lanes + lane) of a pass the row and the column that each row and column of the result shows,
/// or -1: [group][out rows + out columns][lanes].
inline void draw_places(const traced::ResizePad& what, const PassKey& key, std::int64_t slots, int lanes,
                        std::int32_t* places) {
  const std::int64_t oh = what.out[1];
  const std::int64_t ow = what.out[2];
  parallel_for(slots, [&](std::int64_t slot) {
    const auto d = draw_resize({.seed = key.seed,
                                .purpose = Purpose::defense,
                                .image = key.images != nullptr ? key.images[slot] : static_cast<std::uint32_t>(slot),
                                .restart = what.layer,
                                .iteration = key.iteration},
                               what.smallest, oh, ow);
    std::int32_t* at = places + slot / lanes * lanes * (oh + ow) + slot % lanes;
    for (std::int64_t i = 0; i < oh; ++i) {
      const std::int64_t r = i - d.top;
      at[i * lanes] = r >= 0 && r < d.height ? static_cast<std::int32_t>(r * what.in[1] / d.height) : -1;
    }
    for (std::int64_t j = 0; j < ow; ++j) {
      const std::int64_t c = j - d.left;
      at[(oh + j) * lanes] = c >= 0 && c < d.width ? static_cast<std::int32_t>(c * what.in[2] / d.width) : -1;
    }
  });
}

}  // namespace detail

/// Random resizing and padding (Xie et al. 2018, "Mitigating adversarial effects through randomization"): the image is
/// resized to a random height of smallest ... out-1 rows (nearest neighbour: row i comes from row floor(i H / height),
/// as in the authors' code; the width in proportion) and put at a random place of an image of out rows, black
/// elsewhere. Random, and differentiable for what is drawn: a pixel's gradient is the sum of its copies'. Drawn anew for
/// every query, from the pass's key and `layer`. x: (C,H,W); out: 0 for H. Returns (C, out, W out/H). ValueError for a
/// smallest that is not in 1 ... out.
template <class T>
Var<T> resize_pad(Var<T> x, std::int64_t smallest, std::int64_t out, std::uint32_t layer) {
  const Shape s = x.shape();
  require<ShapeError>(s.rank() == 3 && !x.shared(), "resize-pad: the input is (C,H,W), got ", s);
  const std::int64_t oh = out > 0 ? out : s[1];
  const std::int64_t ow = detail::scaled_extent(s[2], oh, s[1]);
  require(smallest >= 1 && smallest <= oh, "resize-pad: smallest height ", smallest, ", expected 1 to ", oh);
  Tape<T>& tape = x.tape();
  const int lanes = tape.lanes();
  Var<T> y = tape.result("resize_pad", Shape{s[0], oh, ow}, {x});
  const traced::ResizePad what{s, y.shape(), smallest, layer};
  trace_function(y, {x}, [&] { return what; });
  const std::int64_t span = oh + ow;
  auto* places = tape.arena().template allocate<std::int32_t>(static_cast<std::size_t>(tape.groups() * lanes * span));
  detail::draw_places(what, tape.key(), tape.groups() * lanes, lanes, places);
  const kernels::LaneGather gather{s[0], s[1], s[2], oh, ow, nullptr};
  const auto of = [=](std::int64_t g) {
    kernels::LaneGather one = gather;
    one.places = places + g * lanes * span;
    return one;
  };
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) { gather_lanes<T>(isa, std::as_const(x).data(g), y.data(g), of(g), lanes); });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    T* dx = t.add_target(x);
    t.each_group([&](std::int64_t g) {
      kernels::run_light(
          [&](auto isa) { gather_lanes_adjoint<T>(isa, t.gradient(y, g), dx + g * x.size() * lanes, of(g), lanes); });
    });
  });
  return y;
}

/// See resize_pad.
template <class T>
class ResizePad : public Filter<T> {
 public:
  /// `out`: 0 for images of the size that they have.
  explicit ResizePad(std::int64_t smallest, std::int64_t out = 0) : smallest_(smallest), out_(out) {
    require(smallest >= 1 && out >= 0 && out <= 65536 && (out == 0 || smallest <= out), "resize-pad: from ", smallest,
            " rows to ", out, ", expected 1 or more, and not more than the result has");
  }
  std::string text() const override {
    return out_ > 0 ? concat("resize-pad:", smallest_, "-", out_) : concat("resize-pad:", smallest_);
  }
  Var<T> apply(Var<T> x) const override { return resize_pad(x, smallest_, out_, this->layer()); }
  nn::Declaration declaration() const override { return detail::drawn(); }
  Shape output_shape(const Shape& in) const override {
    Filter<T>::output_shape(in);
    const std::int64_t out = out_ > 0 ? out_ : in[1];
    require(smallest_ <= out, "resize-pad: smallest height ", smallest_, ", expected 1 to ", out);
    return {in[0], out, detail::scaled_extent(in[2], out, in[1])};
  }
  Shape input_shape(const Shape& out) const override {
    require(out_ == 0, text(), ": images of several sizes become ", out, ", give the pipeline their shape");
    return out;
  }

 private:
  std::int64_t smallest_;
  std::int64_t out_;
};

}  // namespace pavise::defend
