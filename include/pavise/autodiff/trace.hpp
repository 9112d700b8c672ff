// SPDX-License-Identifier: MIT
// What the operations of a pass compute, noted while it runs: from the trace of one image a network can be run elsewhere
// (device/network.hpp runs it on a GPU).
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "pavise/autodiff/parameter.hpp"
#include "pavise/autodiff/trace_functions.hpp"
#include "pavise/core/shape.hpp"
#include "pavise_kernels/cpu/cpu.hpp"
#include "pavise_kernels/cpu/row_norm.hpp"

namespace pavise {

/// Parameters (C) of a batch normalisation in an evaluation pass: gamma and beta, which may be null, and the running
/// statistics. mean null: none.
template <class T>
struct NormParameters {
  Parameter<T>* gamma = nullptr;
  Parameter<T>* beta = nullptr;
  Parameter<T>* mean = nullptr;
  Parameter<T>* variance = nullptr;
  double epsilon = 0;
};

/// An operation of a pass. Values go by their number on the tape (Var::id).
template <class T>
struct TracedOperation {
  enum class Kind {
    linear,      ///< convolution or fully connected layer, or its derivative (`transposed`), with bias and ReLU
    unary,       ///< `function` of every element, with arguments a and b
    sum,         ///< of two values of one shape, and ReLU
    max_pool,    ///< windows of `geometry`
    avg_pool,    ///< the same; `include_padding`
    reshape,     ///< the same elements under another shape
    channels,    ///< y = (x - mean[c]) * scale[c] + shift[c], and ReLU
    batch_norm,  ///< of a training pass: by `weight` and `bias`, which may be null, and ReLU
    row_norm,    ///< within the image, as kernels::RowNorm `rows`: by `weight` and `bias`, which may be null, and ReLU
    dropout,     ///< of a training pass: 0 where a draw of 24 bits is below `threshold`, else times a
    function,    ///< what `what` says
    magnitude,   ///< `derived` holds the sizes of the elements of `weight`
  };
  Kind kind = Kind::reshape;
  std::int32_t output = -1;
  std::int32_t inputs[2] = {-1, -1};
  bool relu = false;
  bool matrix = false;
  bool transposed = false;
  bool include_padding = false;
  kernels::ConvGeometry geometry{};
  Parameter<T>* weight = nullptr;
  Parameter<T>* bias = nullptr;
  Parameter<T>* derived = nullptr;
  kernels::Unary function{};
  T a{}, b{};
  std::vector<T> mean{}, scale{}, shift{};
  NormParameters<T> norm{};  ///< what the channels' factors are made of; or what is folded into a product's weights:
  Parameter<T>* unfolded_weight = nullptr;
  Parameter<T>* unfolded_bias = nullptr;
  Parameter<T>* running_mean = nullptr;
  Parameter<T>* running_var = nullptr;
  double momentum = 0, epsilon = 0;
  kernels::RowNorm rows{};
  std::int32_t threshold = 0;
  std::uint32_t layer = 0;
  std::shared_ptr<const traced::Function> what{};
};

template <class T>
using Trace = std::vector<TracedOperation<T>>;

}  // namespace pavise
