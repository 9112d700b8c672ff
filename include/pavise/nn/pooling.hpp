// SPDX-License-Identifier: MIT
// Pooling layers.
#pragma once

#include <cstdint>
#include <string>

#include "pavise/autodiff/pool.hpp"
#include "pavise/nn/layer.hpp"

namespace pavise::nn {

/// The largest element of each window; see pavise::max_pool2d. (C,H,W) to (C,OH,OW).
template <class T>
class MaxPool2d : public Layer<T> {
 public:
  explicit MaxPool2d(PoolOptions options = {}) : options_(options) {}
  explicit MaxPool2d(std::int64_t kernel) : options_({.kernel = kernel}) {}

  Shape build(const Shape& in, ParameterStore<T>&, const std::string&) override {
    const auto g = pavise::detail::pool_geometry("max_pool2d", in, false, options_);
    return Shape{g.out_channels, g.out_height, g.out_width};
  }
  Var<T> forward(Var<T> x, bool) override { return max_pool2d(x, options_); }
  Spec spec() const override {
    return {.name = "",
            .type = "max_pool2d",
            .options = {{"kernel", std::to_string(options_.kernel)},
                        {"stride", std::to_string(options_.stride)},
                        {"padding", std::to_string(options_.padding)},
                        {"dilation", std::to_string(options_.dilation)}},
            .children = {}};
  }

 private:
  PoolOptions options_;
};

/// The mean of each window; see pavise::avg_pool2d. (C,H,W) to (C,OH,OW).
template <class T>
class AvgPool2d : public Layer<T> {
 public:
  explicit AvgPool2d(PoolOptions options = {}) : options_(options) {}
  explicit AvgPool2d(std::int64_t kernel) : options_({.kernel = kernel}) {}

  Shape build(const Shape& in, ParameterStore<T>&, const std::string&) override {
    require(options_.dilation == 1, "avg_pool2d: dilation ", options_.dilation, ", expected 1");
    const auto g = pavise::detail::pool_geometry("avg_pool2d", in, false, options_);
    return Shape{g.out_channels, g.out_height, g.out_width};
  }
  Var<T> forward(Var<T> x, bool) override { return avg_pool2d(x, options_); }
  Spec spec() const override {
    return {.name = "",
            .type = "avg_pool2d",
            .options = {{"kernel", std::to_string(options_.kernel)},
                        {"stride", std::to_string(options_.stride)},
                        {"padding", std::to_string(options_.padding)},
                        {"include_padding", options_.count_include_pad ? "1" : "0"}},
            .children = {}};
  }

 private:
  PoolOptions options_;
};

/// The mean of each channel. (C,H,W) to (C).
template <class T>
class GlobalAvgPool : public Layer<T> {
 public:
  Shape build(const Shape& in, ParameterStore<T>&, const std::string&) override {
    return Shape{pavise::detail::global_geometry("global_avg_pool", in, false).out_channels};
  }
  Var<T> forward(Var<T> x, bool) override { return global_avg_pool(x); }
  Spec spec() const override { return {.name = "", .type = "global_avg_pool", .options = {}, .children = {}}; }
};

/// The largest element of each channel. (C,H,W) to (C).
template <class T>
class GlobalMaxPool : public Layer<T> {
 public:
  Shape build(const Shape& in, ParameterStore<T>&, const std::string&) override {
    return Shape{pavise::detail::global_geometry("global_max_pool", in, false).out_channels};
  }
  Var<T> forward(Var<T> x, bool) override { return global_max_pool(x); }
  Spec spec() const override { return {.name = "", .type = "global_max_pool", .options = {}, .children = {}}; }
};

}  // namespace pavise::nn
