// SPDX-License-Identifier: MIT
// A convolution or a fully connected layer on a GPU, in one of its directions, by the algorithm that the CPU takes for
// the same shape: the matrix micro-kernel by a plan, or Winograd's transforms around it.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/autodiff/linear.hpp"
#include "pavise/autodiff/trace.hpp"
#include "pavise/device/memory.hpp"
#include "pavise_kernels/cuda/patch_plan.hpp"

namespace pavise::device {

/// How convolutions and fully connected layers are computed.
enum class Arithmetic {
  exact,  ///< in single precision, to the CPU's bits
  fast,   ///< on tensor cores, factors rounded to TF32: a relative error of some 1e-3
  bf16,   ///< the same rounded to bf16, of some 1e-2, where a layer has channels enough; gradients of weights in TF32
};

/// "exact", "fast" or "bf16": as records name it.
inline std::string arithmetic_name(Arithmetic a) {
  return a == Arithmetic::exact ? "exact" : a == Arithmetic::fast ? "fast" : "bf16";
}
/// The arithmetic of that name. Throws ValueError for any other.
inline Arithmetic parse_arithmetic(std::string_view name) {
  for (const Arithmetic a : {Arithmetic::exact, Arithmetic::fast, Arithmetic::bf16}) {
    if (name == arithmetic_name(a)) {
      return a;
    }
  }
  throw ValueError(concat("arithmetic ", name, ": expected exact, fast or bf16"));
}

class Product {
 public:
  /// `back`: the derivative of the convolution or layer with respect to its input.
  Product(const Stream& stream, const TracedOperation<float>& op, bool back, Arithmetic arithmetic)
      : stream_(stream), back_(back), fast_(arithmetic != Arithmetic::exact) {
    const auto& g = op.geometry;
    if (arithmetic == Arithmetic::bf16) {
      const kernels::ConvGeometry points{.in_channels = g.in_channels,
                                         .in_height = 1,
                                         .in_width = 1,
                                         .out_channels = g.out_channels,
                                         .kernel_height = 1,
                                         .kernel_width = 1,
                                         .out_height = 1,
                                         .out_width = 1};
      const auto& layer = op.matrix ? points : g;
      if (kernels::cuda::has_patches(layer)) {
        patches_ = stream.kernels().make_patches(kernels::cuda::patch_plan(layer, back));
      }
      if (patches_ != nullptr) {
        return;
      }
    }
    winograd_ = !op.matrix && !fast_ && kernels::uses_winograd(g);
    kernels::GatherPlan plan;
    if (winograd_) {
      shape_ = {back ? g.out_channels : g.in_channels, back ? g.in_channels : g.out_channels, g.in_height, g.in_width};
      // One product for each of the 36 elements of a tile, over all tiles: a grouped convolution by single elements.
      const std::int64_t tiles = (shape_.height + 3) / 4 * ((shape_.width + 3) / 4);
      plan = kernels::forward_plan({.in_channels = 36 * shape_.channels,
                                    .in_height = 1,
                                    .in_width = tiles,
                                    .out_channels = 36 * shape_.rows,
                                    .kernel_height = 1,
                                    .kernel_width = 1,
                                    .groups = 36,
                                    .out_height = 1,
                                    .out_width = tiles});
      scratch_in_ = 36 * shape_.channels * tiles;
      scratch_out_ = 36 * shape_.rows * tiles;
      weight_ = Array<float>(stream, 36 * shape_.rows * shape_.channels);
    } else if (op.matrix) {
      plan = back ? kernels::matrix_plan(g.in_channels, g.out_channels, true)
                  : kernels::matrix_plan(g.out_channels, g.in_channels, false);
    } else {
      plan = back ? kernels::backward_plan(g) : kernels::forward_plan(g);
    }
    operator_ = stream.kernels().make_operator(plan);
  }
  Product(const Product&) = delete;
  Product& operator=(const Product&) = delete;
  ~Product() {
    try {
      stream_.finish();
      stream_.kernels().destroy_operator(operator_);
      stream_.kernels().destroy_patches(patches_);
    } catch (const DeviceError&) {
    }
  }

  /// Elements for each image that `apply` needs room for before and behind the products of Winograd's algorithm.
  std::int64_t scratch_in() const { return scratch_in_; }
  std::int64_t scratch_out() const { return scratch_out_; }

  /// Queues the packing of the weights, on the device.
  void pack(const float* weight) {
    if (patches_ != nullptr) {
      stream_.kernels().pack_patches(stream_.get(), patches_, weight);
      return;
    }
    if (winograd_) {
      stream_.kernels().winograd_weights(stream_.get(), shape_.rows, shape_.channels, back_, weight, weight_.get());
      weight = weight_.get();
    }
    stream_.kernels().pack_operator(stream_.get(), operator_, weight);
  }

  /// Queues out = product(in), with the epilogue; `scratch` as said above, for every image.
  void apply(const float* in, float* out, const kernels::Epilogue<float>& e, std::int64_t groups,
             const std::array<Array<float>, 2>& scratch) const {
    const auto& k = stream_.kernels();
    if (patches_ != nullptr) {
      k.apply_patches(stream_.get(), patches_, in, out, e, groups);
      return;
    }
    if (!winograd_) {
      (fast_ ? k.apply_operator_fast : k.apply_operator)(stream_.get(), operator_, in, out, e, groups);
      return;
    }
    k.winograd_input(stream_.get(), shape_, in, scratch[0].get(), groups);
    k.apply_operator(stream_.get(), operator_, scratch[0].get(), scratch[1].get(), {}, groups);
    k.winograd_output(stream_.get(), shape_, scratch[1].get(), out, e, groups);
  }

 private:
  const Stream& stream_;
  bool back_;
  bool fast_;
  bool winograd_ = false;
  kernels::WinogradShape shape_{};
  std::int64_t scratch_in_ = 0, scratch_out_ = 0;
  Array<float> weight_;
  kernels::cuda::Operator* operator_ = nullptr;
  kernels::cuda::Patches* patches_ = nullptr;  ///< in its place
};

}  // namespace pavise::device
