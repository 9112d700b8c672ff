// SPDX-License-Identifier: MIT
// Residual blocks of ResNets for small images, with the parameter names that PyTorch code commonly gives them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "pavise/nn/linear.hpp"
#include "pavise/nn/norm.hpp"

namespace pavise::nn {

/// a + b, or max(0, a + b): the end of a residual block, in one pass. Both of the same shape.
template <class T>
Var<T> residual_sum(Var<T> a, Var<T> b, bool relu) {
  require<ShapeError>(a.shape() == b.shape() && !a.shared() && !b.shared(), "residual_sum: shapes ", a.shape(), " and ",
                      b.shape(), " differ, or one is a parameter");
  Tape<T>& tape = a.tape();
  Var<T> y = tape.result("residual_sum", a.shape(), {a, b});
  tape.node(y).relu = relu;
  if (auto* trace = tape.trace()) {
    trace->push_back(
        {.kind = TracedOperation<T>::Kind::sum, .output = y.id(), .inputs = {a.id(), b.id()}, .relu = relu});
  }
  const std::int64_t step = a.size() * tape.lanes();
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) { add_values<T>(isa, a.data(g), b.data(g), y.data(g), step, relu); });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    pavise::detail::mask_own_gradient(t, y);
    for (const Var<T>& v : {a, b}) {
      if (t.needs_gradient(v)) {
        const auto target = t.target(v, true);
        t.each_group([&](std::int64_t g) {
          kernels::run_light([&](auto isa) {
            pass_gradient<T>(isa, t.gradient(y, g), target.data + g * step, step, target.accumulate,
                             target.mask != nullptr ? target.mask + g * step : nullptr);
          });
        });
      }
    }
  });
  return y;
}

namespace detail {

/// The way of a block's input to its sum where the shape changes: shortcut.0 (1x1 convolution) and, `with_norm`,
/// shortcut.1 (batch norm). Where it does not change there is none.
template <class T>
class Shortcut {
 public:
  Shortcut(std::int64_t in, std::int64_t out, std::int64_t stride, Init init, bool with_norm) {
    if (stride != 1 || in != out) {
      conv_ = std::make_unique<Conv2d<T>>(in, out, 1, ConvOptions{.stride = stride}, false, init);
      norm_ = with_norm ? std::make_unique<BatchNorm2d<T>>(out) : nullptr;
    }
  }
  explicit operator bool() const { return conv_ != nullptr; }

  void build(const Shape& in, ParameterStore<T>& store, const std::string& block) {
    if (conv_ != nullptr) {
      const Shape s = conv_->build(in, store, child_name(block, "shortcut.0"));
      if (norm_ != nullptr) {
        norm_->build(s, store, child_name(block, "shortcut.1"));
      }
    }
  }
  Var<T> forward(Var<T> x) const {
    return norm_ != nullptr ? forward_pair<T>(*conv_, *norm_, x, false) : conv_->forward(x, false);
  }

 private:
  std::unique_ptr<Conv2d<T>> conv_;
  std::unique_ptr<BatchNorm2d<T>> norm_;
};

inline Spec block_spec(const char* type, std::int64_t in, std::int64_t out, std::int64_t stride, Init init) {
  return {.name = "",
          .type = type,
          .options = {{"in", std::to_string(in)},
                      {"out", std::to_string(out)},
                      {"stride", std::to_string(stride)},
                      {"init", init_name(init)}},
          .children = {}};
}

}  // namespace detail

/// The basic block of ResNet-18 (He et al. 2016a, figure 5 left): conv1 3x3 (stride), bn1, ReLU, conv2 3x3, bn2, plus
/// the input, ReLU. Where the shape changes the input goes through shortcut.0 (1x1 convolution) and shortcut.1 (batch
/// norm).
template <class T>
class BasicBlock : public Layer<T> {
 public:
  BasicBlock(std::int64_t in, std::int64_t out, std::int64_t stride = 1, Init init = Init::torch)
      : conv1_(in, out, 3, {.stride = stride, .padding = 1}, false, init),
        bn1_(out),
        conv2_(out, out, 3, {.padding = 1}, false, init),
        bn2_(out),
        shortcut_(in, out, stride, init, true),
        spec_(detail::block_spec("basic_block", in, out, stride, init)) {}

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    Shape s = conv1_.build(in, store, child_name(name, "conv1"));
    s = bn1_.build(s, store, child_name(name, "bn1"));
    s = conv2_.build(s, store, child_name(name, "conv2"));
    s = bn2_.build(s, store, child_name(name, "bn2"));
    shortcut_.build(in, store, name);
    return s;
  }
  Var<T> forward(Var<T> x, bool) override {
    const Var<T> h = forward_pair<T>(conv1_, bn1_, x, true);
    const Var<T> y = forward_pair<T>(conv2_, bn2_, h, false);
    return residual_sum(y, shortcut_ ? shortcut_.forward(x) : x, true);
  }
  bool fuses_relu() const override { return true; }  // its last operation is one
  Spec spec() const override { return spec_; }

 private:
  Conv2d<T> conv1_;
  BatchNorm2d<T> bn1_;
  Conv2d<T> conv2_;
  BatchNorm2d<T> bn2_;
  detail::Shortcut<T> shortcut_;
  Spec spec_;
};

/// The block of the pre-activation ResNet-18 (He et al. 2016b, figure 1 b): bn1, ReLU, conv1 3x3 (stride), bn2, ReLU,
/// conv2 3x3, plus the input. Where the shape changes shortcut.0 (1x1 convolution) takes the activated input to the
/// sum.
template <class T>
class PreActBlock : public Layer<T> {
 public:
  PreActBlock(std::int64_t in, std::int64_t out, std::int64_t stride = 1, Init init = Init::torch)
      : bn1_(in),
        conv1_(in, out, 3, {.stride = stride, .padding = 1}, false, init),
        bn2_(out),
        conv2_(out, out, 3, {.padding = 1}, false, init),
        shortcut_(in, out, stride, init, false),
        spec_(detail::block_spec("preact_block", in, out, stride, init)) {}

  Shape build(const Shape& in, ParameterStore<T>& store, const std::string& name) override {
    Shape s = bn1_.build(in, store, child_name(name, "bn1"));
    s = conv1_.build(s, store, child_name(name, "conv1"));
    s = bn2_.build(s, store, child_name(name, "bn2"));
    s = conv2_.build(s, store, child_name(name, "conv2"));
    shortcut_.build(in, store, name);
    return s;
  }
  Var<T> forward(Var<T> x, bool relu) override {
    const Var<T> active = bn1_.forward(x, true);
    const Var<T> side = shortcut_ ? shortcut_.forward(active) : x;
    const Var<T> h = forward_pair<T>(conv1_, bn2_, active, true);
    return residual_sum(conv2_.forward(h, false), side, relu);
  }
  bool fuses_relu() const override { return true; }
  Spec spec() const override { return spec_; }

 private:
  BatchNorm2d<T> bn1_;
  Conv2d<T> conv1_;
  BatchNorm2d<T> bn2_;
  Conv2d<T> conv2_;
  detail::Shortcut<T> shortcut_;
  Spec spec_;
};

}  // namespace pavise::nn
