// SPDX-License-Identifier: MIT
// Operations of images and of shapes on a GPU: filters, noise, slices. To the CPU's bits.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "pavise/autodiff/shape_ops.hpp"
#include "pavise/autodiff/trace.hpp"
#include "pavise/core/error.hpp"
#include "pavise/defend/filter/resize_pad.hpp"
#include "pavise/device/memory.hpp"

namespace pavise::device {

/// What a pass draws its random numbers by: seed, iteration, and the images' ids, padded to whole groups of 32.
struct DrawKey {
  std::uint64_t seed = 0;
  std::uint32_t iteration = 0;
  const std::uint32_t* ids = nullptr;  ///< on the device, [group][32]
  std::vector<std::uint32_t> host{};   ///< the same on the host
};

/// The key of a pass over images with those ids, which are copied to `room`, of whole groups.
inline DrawKey make_draw_key(const Array<std::uint32_t>& room, const std::uint32_t* ids, std::int64_t images,
                             std::uint64_t seed, std::uint32_t iteration) {
  DrawKey key{seed, iteration, room.get(), std::vector<std::uint32_t>(ids, ids + images)};
  if (images > 0) {
    key.host.resize(static_cast<std::size_t>(groups_of(images) * 32), ids[images - 1]);
    room.upload(key.host.data(), static_cast<std::int64_t>(key.host.size()));
  }
  return key;
}

/// The operands of a function, for all groups of a pass.
struct FunctionPass {
  std::array<const float*, 2> x;
  float* y;
  std::int64_t groups;
  const DrawKey& key;
};

/// An operation of a network: y = f(x), or f(x0, x1), and its derivative, or what stands for it.
class Function {
 public:
  Function() = default;
  Function(const Function&) = delete;
  Function& operator=(const Function&) = delete;
  virtual ~Function() = default;

  virtual void forward(const Stream& stream, const FunctionPass& p) = 0;
  /// dx (+)= the derivative by input `input` times dy, or += it where `adds`: dx then holds zeros at least.
  virtual void backward(const Stream& stream, const FunctionPass& p, std::size_t input, const float* dy, float* dx,
                        bool accumulate) = 0;
  virtual bool adds() const { return false; }
  /// Whether the gradient reaches input `input` at all.
  virtual bool differentiates(std::size_t input) const { return input == 0; }
};

namespace detail {

inline Array<float> to_floats(const Stream& stream, std::span<const double> values) {
  return {stream, std::vector<float>(values.begin(), values.end())};
}

/// Functions whose derivative is that of x itself.
class StraightThrough : public Function {
 public:
  explicit StraightThrough(std::int64_t size) : size_(size) {}
  void backward(const Stream& stream, const FunctionPass& p, std::size_t, const float* dy, float* dx,
                bool accumulate) override {
    stream.kernels().pass_gradient(stream.get(), dy, dx, p.groups * size_ * 32, accumulate, nullptr);
  }

 protected:
  std::int64_t size_;
};

class BoxesFunction : public Function {
 public:
  BoxesFunction(traced::Boxes what, std::array<std::int64_t, 2> in, std::int64_t out)
      : what_(std::move(what)), in_(in), out_(out) {}
  void forward(const Stream& stream, const FunctionPass& p) override {
    for (std::size_t i = 0; i < 2 && p.x[i] != nullptr; ++i) {
      const auto& b = what_.box[i];
      stream.kernels().strided_copy(stream.get(), b.loop, p.x[i] + b.x_begin * 32, in_[i], p.y + b.y_begin * 32, out_,
                                    false, p.groups);
    }
  }
  void backward(const Stream& stream, const FunctionPass& p, std::size_t input, const float* dy, float* dx,
                bool accumulate) override {
    const auto& b = what_.box[input];
    if (!accumulate && !b.covers_input) {  // what lies outside gets nothing
      stream.kernels().fill_bytes(dx, 0, static_cast<std::size_t>(p.groups * in_[input] * 32) * sizeof(float),
                                  stream.get());
      accumulate = true;
    }
    stream.kernels().strided_copy(stream.get(), pavise::detail::reversed(b.loop), dy + b.y_begin * 32, out_,
                                  dx + b.x_begin * 32, in_[input], accumulate, p.groups);
  }
  bool differentiates(std::size_t) const override { return true; }

 private:
  traced::Boxes what_;
  std::array<std::int64_t, 2> in_;
  std::int64_t out_;
};

class ElementwiseFunction : public Function {
 public:
  ElementwiseFunction(const traced::Elementwise& what, std::int64_t size) : function_(what.function), size_(size) {
    loop_.push(size, 1, 1, 1);
  }
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().binary_forward(stream.get(), function_, loop_, p.x[0], size_ * 32, p.x[1], size_ * 32, p.y,
                                    p.groups);
  }
  void backward(const Stream& stream, const FunctionPass& p, std::size_t input, const float* dy, float* dx,
                bool accumulate) override {
    stream.kernels().binary_backward(stream.get(), function_, static_cast<int>(input) + 1, p.x[0], p.x[1], dy, dx,
                                     p.groups * size_ * 32, accumulate);
  }
  bool differentiates(std::size_t) const override { return true; }

 private:
  kernels::Binary function_;
  std::int64_t size_;
  kernels::StridedLoop loop_;
};

class SumFunction : public Function {
 public:
  SumFunction(const traced::Sum& what, std::int64_t in, std::int64_t out) : what_(what), in_(in), out_(out) {
    for (const kernels::StridedLoop* loop : {&what.kept, &what.reduced}) {
      for (int d = 0; d < loop->rank; ++d) {
        back_.push(loop->extent[d], loop->stride[0][d], loop->stride[1][d]);
      }
    }
    back_ = back_.collapsed();
  }
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().sum_elements(stream.get(), what_.kept, what_.reduced, p.x[0], in_, p.y, out_, p.groups);
  }
  void backward(const Stream& stream, const FunctionPass& p, std::size_t, const float* dy, float* dx,
                bool accumulate) override {
    stream.kernels().strided_copy(stream.get(), back_, dy, out_, dx, in_, accumulate, p.groups);
  }

 private:
  traced::Sum what_;
  std::int64_t in_, out_;
  kernels::StridedLoop back_;  ///< array 0: the input, array 1: the result
};

class SubstituteFunction : public StraightThrough {
 public:
  using StraightThrough::StraightThrough;
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().copy(p.y, p.x[0], static_cast<std::size_t>(p.groups * size_ * 32) * sizeof(float), stream.get());
  }
  bool differentiates(std::size_t input) const override { return input == 1; }
};

class QuantiseFunction : public StraightThrough {
 public:
  QuantiseFunction(const traced::Quantise& what, std::int64_t size)
      : StraightThrough(size), steps_(static_cast<float>(what.steps)) {}
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().quantise(stream.get(), p.x[0], p.y, p.groups * size_ * 32, steps_);
  }

 private:
  float steps_;
};

/// Functions of windows, whose derivatives need as much scratch as there are pixels.
class WindowFunction : public Function {
 public:
  WindowFunction(const Stream& stream, const traced::Windows& w, std::int64_t channels, std::int64_t groups)
      : y_(stream, w.y),
        x_(stream, w.x),
        windows_(w.plan(y_.get(), x_.get())),
        channels_(channels),
        shares_(stream, groups * channels * w.height * w.width * 32) {}
  bool adds() const override { return true; }

 private:
  Array<std::int64_t> y_, x_;

 protected:
  kernels::Windows windows_;
  std::int64_t channels_;
  Array<float> shares_;
};

class MedianFunction : public WindowFunction {
 public:
  MedianFunction(const Stream& stream, const traced::Median& what, std::int64_t channels, std::int64_t groups)
      : WindowFunction(stream, what.windows, channels, groups),
        scratch_(stream, stream.kernels().median_scratch(windows_)) {}
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().median(stream.get(), windows_, channels_, p.x[0], p.y, scratch_.get(), p.groups);
  }
  void backward(const Stream& stream, const FunctionPass& p, std::size_t, const float* dy, float* dx, bool) override {
    stream.kernels().median_backward(stream.get(), windows_, channels_, p.x[0], p.y, dy, dx, shares_.get(), p.groups);
  }

 private:
  Array<float> scratch_;
};

class BilateralFunction : public WindowFunction {
 public:
  BilateralFunction(const Stream& stream, const traced::Bilateral& what, std::int64_t channels, std::int64_t groups)
      : WindowFunction(stream, what.windows, channels, groups),
        space_(to_floats(stream, what.space)),
        slope_(static_cast<float>(what.slope)) {}
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().bilateral(stream.get(), windows_, space_.get(), channels_, slope_, p.x[0], p.y, p.groups);
  }
  void backward(const Stream& stream, const FunctionPass& p, std::size_t, const float* dy, float* dx, bool) override {
    stream.kernels().bilateral_backward(stream.get(), windows_, space_.get(), channels_, slope_, p.x[0], p.y, dy, dx,
                                        shares_.get(), p.groups);
  }

 private:
  Array<float> space_;
  float slope_;
};

/// Its derivative is that of the soft JPEG beside it.
class JpegFunction : public Function {
 public:
  JpegFunction(const Stream& stream, const traced::Jpeg& what, std::int64_t groups)
      : plan_(what.plan), scratch_(stream, groups * what.plan.scratch() * 32) {}
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().jpeg(stream.get(), plan_, p.x[0], p.y, scratch_.get(), p.groups);
  }
  void backward(const Stream&, const FunctionPass&, std::size_t, const float*, float*, bool) override {}
  bool differentiates(std::size_t) const override { return false; }

 private:
  kernels::JpegPlan plan_;
  Array<std::int32_t> scratch_;
};

class MixChannelsFunction : public Function {
 public:
  MixChannelsFunction(const traced::MixChannels& what, std::int64_t pixels) : pixels_(pixels) {
    for (std::size_t i = 0; i < 9; ++i) {
      forward_.matrix[i] = static_cast<float>(what.matrix[i]);
      back_.matrix[i % 3 * 3 + i / 3] = static_cast<float>(what.matrix[i]);
    }
    for (std::size_t c = 0; c < 3; ++c) {
      forward_.offset[c] = static_cast<float>(what.offset[c]);
    }
  }
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().mix_channels(stream.get(), p.x[0], p.y, pixels_, forward_, false, p.groups);
  }
  void backward(const Stream& stream, const FunctionPass& p, std::size_t, const float* dy, float* dx, bool) override {
    stream.kernels().mix_channels(stream.get(), dy, dx, pixels_, back_, true, p.groups);
  }
  bool adds() const override { return true; }

 private:
  kernels::cuda::ChannelMix forward_{}, back_{};
  std::int64_t pixels_;
};

class SoftRoundFunction : public Function {
 public:
  SoftRoundFunction(const Stream& stream, const traced::SoftRound& what)
      : height_(what.height),
        width_(what.width),
        table_(stream, std::vector<float>(what.table.begin(), what.table.end())) {}
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().soft_round(stream.get(), p.x[0], nullptr, p.y, height_, width_, table_.get(), p.groups);
  }
  void backward(const Stream& stream, const FunctionPass& p, std::size_t, const float* dy, float* dx, bool) override {
    stream.kernels().soft_round(stream.get(), p.x[0], dy, dx, height_, width_, table_.get(), p.groups);
  }
  bool adds() const override { return true; }

 private:
  std::int64_t height_, width_;
  Array<float> table_;
};

class NlmFunction : public StraightThrough {
 public:
  NlmFunction(const Stream& stream, const traced::NonLocalMeans& what, std::int64_t size, std::int64_t groups)
      : StraightThrough(size), y_(stream, what.y), x_(stream, what.x), plans_(what.plans) {
    for (auto& plan : plans_) {
      plan.y = y_.get();
      plan.x = x_.get();
    }
    if (what.channels == 3) {
      lab_ = Array<float>(stream, groups * size * 32);
      mean_ = Array<float>(stream, groups * size * 32);
    }
  }
  void forward(const Stream& stream, const FunctionPass& p) override {
    const auto& k = stream.kernels();
    if (lab_.size() == 0) {
      return k.non_local_means(stream.get(), plans_[0], size_, p.x[0], size_, p.y, p.groups);
    }
    const std::int64_t pixels = size_ / 3;
    k.lab_from_rgb(stream.get(), p.x[0], lab_.get(), pixels, p.groups);
    for (std::size_t part = 0; part < 2; ++part) {  // light, and the two colours behind it
      const std::int64_t at = part == 0 ? 0 : pixels * 32;
      k.non_local_means(stream.get(), plans_[part], size_, lab_.get() + at, size_, mean_.get() + at, p.groups);
    }
    k.rgb_from_lab(stream.get(), mean_.get(), p.y, pixels, p.groups);
  }

 private:
  Array<std::int64_t> y_, x_;
  std::array<kernels::NlmPlan, 2> plans_;
  Array<float> lab_, mean_;
};

class ThermometerFunction : public Function {
 public:
  explicit ThermometerFunction(const traced::Thermometer& what) : what_(what) {}
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().thermometer(stream.get(), p.x[0], p.y, what_.channels, what_.pixels, what_.levels, p.groups);
  }
  void backward(const Stream& stream, const FunctionPass& p, std::size_t, const float* dy, float* dx,
                bool accumulate) override {
    stream.kernels().thermometer_backward(stream.get(), p.x[0], dy, dx, what_.channels, what_.pixels, what_.levels,
                                          accumulate, p.groups);
  }

 private:
  traced::Thermometer what_;
};

class ResampleFunction : public Function {
 public:
  ResampleFunction(const Stream& stream, const traced::Resample& what)
      : places_(stream, what.places), weights_(to_floats(stream, what.weights)) {
    map_ = {what.outer, what.in, what.out, what.inner, what.taps, places_.get(), weights_.get()};
  }
  void forward(const Stream& stream, const FunctionPass& p) override {
    stream.kernels().resample(stream.get(), map_, p.x[0], p.y, p.groups);
  }
  void backward(const Stream& stream, const FunctionPass& p, std::size_t, const float* dy, float* dx, bool) override {
    stream.kernels().resample_adjoint(stream.get(), map_, dy, dx, p.groups);
  }
  bool adds() const override { return true; }

 private:
  Array<std::int64_t> places_;
  Array<float> weights_;
  kernels::AxisTaps<float> map_{};
};

/// What every lane's random numbers of a layer are keyed by.
class LayerKeys {
 public:
  LayerKeys(const Stream& stream, Purpose purpose, std::uint32_t layer, std::int64_t groups)
      : purpose_(purpose), layers_(stream, std::vector<std::uint32_t>(static_cast<std::size_t>(groups * 32), layer)) {}
  kernels::LaneKeys of(const DrawKey& key) const {
    return {key.seed, static_cast<std::uint32_t>(purpose_), key.iteration, key.ids, layers_.get()};
  }

 private:
  Purpose purpose_;
  Array<std::uint32_t> layers_;
};

class NoiseFunction : public StraightThrough {
 public:
  NoiseFunction(const Stream& stream, const traced::Noise& what, std::int64_t size, std::int64_t groups)
      : StraightThrough(size), what_(what), keys_(stream, what.purpose, what.layer, groups) {}
  void forward(const Stream& stream, const FunctionPass& p) override {
    const auto& k = stream.kernels();
    (what_.distribution == kernels::Distribution::normal ? k.add_normal : k.add_uniform)(
        stream.get(), p.x[0], p.y, size_, static_cast<float>(what_.scale), static_cast<float>(what_.shift), p.groups,
        keys_.of(p.key));
  }

 private:
  traced::Noise what_;
  LayerKeys keys_;
};

class ResizePadFunction : public Function {
 public:
  ResizePadFunction(const Stream& stream, const traced::ResizePad& what, std::int64_t groups)
      : what_(what), places_(stream, groups * (what.out[1] + what.out[2]) * 32) {}
  void forward(const Stream& stream, const FunctionPass& p) override {
    const std::int64_t slots = p.groups * 32;
    drawn_.resize(static_cast<std::size_t>(slots * (what_.out[1] + what_.out[2])));
    defend::detail::draw_places(what_, {.seed = p.key.seed, .iteration = p.key.iteration, .images = p.key.host.data()},
                                slots, 32, drawn_.data());
    places_.upload(drawn_.data(), static_cast<std::int64_t>(drawn_.size()));
    stream.kernels().gather_pixels(stream.get(), gather(), p.x[0], p.y, p.groups);
  }
  void backward(const Stream& stream, const FunctionPass& p, std::size_t, const float* dy, float* dx, bool) override {
    stream.kernels().gather_pixels_adjoint(stream.get(), gather(), dy, dx, p.groups);
  }
  bool adds() const override { return true; }

 private:
  kernels::LaneGather gather() const {
    return {what_.in[0], what_.in[1], what_.in[2], what_.out[1], what_.out[2], places_.get()};
  }
  traced::ResizePad what_;
  Array<std::int32_t> places_;
  std::vector<std::int32_t> drawn_;
};

class TotalVariationFunction : public StraightThrough {
 public:
  TotalVariationFunction(const Stream& stream, const traced::TotalVariation& what, std::int64_t groups)
      : StraightThrough(what.shape.numel()),
        what_(what),
        keys_(stream, Purpose::defense, what.layer, groups),
        kept_(stream, groups * size_ * 32),
        scratch_(stream, groups * size_ * 32 * 4) {}
  void forward(const Stream& stream, const FunctionPass& p) override {
    const auto& k = stream.kernels();
    k.random_lanes(stream.get(), kernels::Distribution::uniform, kept_.get(), size_, p.groups, keys_.of(p.key));
    k.keep_above(stream.get(), kept_.get(), p.groups * size_ * 32, static_cast<float>(what_.drop));
    k.total_variation(stream.get(),
                      {what_.shape[0], what_.shape[1], what_.shape[2], static_cast<float>(what_.weight), what_.steps},
                      p.x[0], kept_.get(), p.y, scratch_.get(), p.groups);
  }

 private:
  traced::TotalVariation what_;
  LayerKeys keys_;
  Array<float> kept_, scratch_;
};

}  // namespace detail

/// Whether it draws random numbers in every pass.
inline bool draws(const traced::Function& what) {
  return std::holds_alternative<traced::Noise>(what) || std::holds_alternative<traced::ResizePad>(what) ||
         std::holds_alternative<traced::TotalVariation>(what);
}

/// The function on a device, for passes of up to `groups` groups of 32 images. in, out: elements of one image.
inline std::unique_ptr<Function> make_function(const Stream& stream, const traced::Function& what,
                                               std::array<std::int64_t, 2> in, std::int64_t out, std::int64_t groups) {
  using namespace detail;
  struct Make {
    const Stream& stream;
    std::array<std::int64_t, 2> in;
    std::int64_t out, groups;
    using Made = std::unique_ptr<Function>;
    Made operator()(const traced::Boxes& w) const { return std::make_unique<BoxesFunction>(w, in, out); }
    Made operator()(const traced::Elementwise& w) const { return std::make_unique<ElementwiseFunction>(w, out); }
    Made operator()(const traced::Sum& w) const { return std::make_unique<SumFunction>(w, in[0], out); }
    Made operator()(const traced::Substitute&) const { return std::make_unique<SubstituteFunction>(out); }
    Made operator()(const traced::Quantise& w) const { return std::make_unique<QuantiseFunction>(w, out); }
    Made operator()(const traced::Median& w) const {
      return std::make_unique<MedianFunction>(stream, w, in[0] / (w.windows.height * w.windows.width), groups);
    }
    Made operator()(const traced::Bilateral& w) const {
      return std::make_unique<BilateralFunction>(stream, w, in[0] / (w.windows.height * w.windows.width), groups);
    }
    Made operator()(const traced::Jpeg& w) const { return std::make_unique<JpegFunction>(stream, w, groups); }
    Made operator()(const traced::MixChannels& w) const { return std::make_unique<MixChannelsFunction>(w, out / 3); }
    Made operator()(const traced::SoftRound& w) const { return std::make_unique<SoftRoundFunction>(stream, w); }
    Made operator()(const traced::NonLocalMeans& w) const {
      return std::make_unique<NlmFunction>(stream, w, out, groups);
    }
    Made operator()(const traced::Thermometer& w) const { return std::make_unique<ThermometerFunction>(w); }
    Made operator()(const traced::Resample& w) const { return std::make_unique<ResampleFunction>(stream, w); }
    Made operator()(const traced::Noise& w) const { return std::make_unique<NoiseFunction>(stream, w, out, groups); }
    Made operator()(const traced::ResizePad& w) const { return std::make_unique<ResizePadFunction>(stream, w, groups); }
    Made operator()(const traced::TotalVariation& w) const {
      return std::make_unique<TotalVariationFunction>(stream, w, groups);
    }
  };
  return std::visit(Make{stream, in, out, groups}, what);
}

}  // namespace pavise::device
