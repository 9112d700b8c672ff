// SPDX-License-Identifier: MIT
// Rows of the table of operations: what applies weights, pooling, normalisation, dropout.
#pragma once

#include <vector>

#include "autodiff/op_reference.hpp"
#include "autodiff/op_table.hpp"
#include "pavise/autodiff/dropout.hpp"
#include "pavise/autodiff/linear.hpp"
#include "pavise/autodiff/norm.hpp"
#include "pavise/autodiff/pool.hpp"

namespace op_table {

using pavise::ConvOptions;
using pavise::PoolOptions;

/// A convolution of an image of shape `in` with a weight of shape `k`.
inline Case conv_case(std::string name, Shape in, Shape k, ConvOptions options, bool bias = true) {
  std::vector<Operand> parameters{{k}};
  if (bias) {
    parameters.push_back({{k[0]}});
  }
  return make(
      std::move(name), {{in}}, parameters,
      [=](auto& o) {
        using V = std::decay_t<decltype(o.x[0])>;
        return conv2d(o.x[0], o.p[0], bias ? o.p[1] : V{}, options);
      },
      [=](const Operation& o) {
        return reference::conv2d(o.x[0], {in[0], in[1], in[2]}, o.p[0], k, bias ? o.p[1] : Values{}, options);
      });
}

inline Case transposed_case(std::string name, Shape in, Shape k, ConvOptions options, bool bias = true) {
  std::vector<Operand> parameters{{k}};
  if (bias) {
    parameters.push_back({{k[1] * options.groups}});
  }
  return make(
      std::move(name), {{in}}, parameters,
      [=](auto& o) {
        using V = std::decay_t<decltype(o.x[0])>;
        return conv_transpose2d(o.x[0], o.p[0], bias ? o.p[1] : V{}, options);
      },
      [=](const Operation& o) {
        return reference::conv_transpose2d(o.x[0], {in[0], in[1], in[2]}, o.p[0], k, bias ? o.p[1] : Values{}, options);
      });
}

inline Case linear_case(std::string name, Shape in, std::int64_t rows, bool bias = true, bool relu = false) {
  std::vector<Operand> parameters{{{rows, in.numel()}}};
  if (bias) {
    parameters.push_back({{rows}});
  }
  return make(
      std::move(name), {{in}}, parameters,
      [=](auto& o) {
        using V = std::decay_t<decltype(o.x[0])>;
        return linear(o.x[0], o.p[0], bias ? o.p[1] : V{}, relu);
      },
      [=](const Operation& o) { return reference::linear(o.x[0], o.p[0], bias ? o.p[1] : Values{}, rows, relu); });
}

/// The transpose of a fully connected layer of weight (rows, columns).
inline Case linear_transpose_case(std::string name, std::int64_t rows, std::int64_t columns) {
  return make(
      std::move(name), {{{rows}}}, {{{rows, columns}}}, [](auto& o) { return linear_transpose(o.x[0], o.p[0]); },
      [=](const Operation& o) {
        Values turned;
        for (std::int64_t c = 0; c < columns; ++c) {
          for (std::int64_t r = 0; r < rows; ++r) {
            turned.push_back(o.p[0][static_cast<std::size_t>(r * columns + c)]);
          }
        }
        return reference::linear(o.x[0], turned, {}, columns, false);
      });
}

inline Case inner_product_case(std::string name, Shape shape) {
  return make(
      std::move(name), {{shape}}, {{shape}}, [](auto& o) { return inner_product(o.x[0], o.p[0]); },
      [](const Operation& o) { return reference::linear(o.x[0], o.p[0], {}, 1, false); });
}

inline std::vector<Case> linear_cases() {
  return {
      conv_case("conv2d 1x1", {5, 4, 3}, {7, 5, 1, 1}, {}),
      conv_case("conv2d 1x1, one element", {1, 1, 1}, {1, 1, 1, 1}, {}),
      conv_case("conv2d 1x1 stride 2, no bias", {3, 5, 7}, {4, 3, 1, 1}, {.stride = 2}, false),
      conv_case("conv2d 3x3 padding 1", {3, 7, 5}, {4, 3, 3, 3}, {.padding = 1}),
      conv_case("conv2d 3x3 padding 1, ReLU", {2, 6, 7}, {5, 2, 3, 3}, {.padding = 1, .relu = true}),
      conv_case("conv2d 3x3 stride 2 padding 1", {2, 7, 8}, {3, 2, 3, 3}, {.stride = 2, .padding = 1}),
      conv_case("conv2d 4x4 stride 2 padding 1", {1, 10, 10}, {13, 1, 4, 4}, {.stride = 2, .padding = 1}),
      conv_case("conv2d 5x5 stride 3 padding 2", {2, 11, 13}, {3, 2, 5, 5}, {.stride = 3, .padding = 2}),
      conv_case("conv2d 3x3 dilation 2", {2, 7, 9}, {3, 2, 3, 3}, {.padding = 1, .dilation = 2}),
      conv_case("conv2d 3x2 stride 2 dilation 3", {2, 11, 9}, {3, 2, 3, 2}, {.stride = 2, .padding = 2, .dilation = 3}),
      conv_case("conv2d 2 groups", {4, 5, 5}, {6, 2, 3, 3}, {.padding = 1, .groups = 2}),
      conv_case("conv2d depthwise", {7, 5, 6}, {7, 1, 3, 3}, {.padding = 1, .groups = 7}),
      conv_case("conv2d depthwise, two each, stride 2", {3, 6, 5}, {6, 1, 3, 3},
                {.stride = 2, .padding = 1, .groups = 3}),
      conv_case("conv2d kernel as large as the input", {3, 4, 5}, {17, 3, 4, 5}, {}),
      conv_case("conv2d padding of the whole kernel", {2, 3, 3}, {2, 2, 2, 2}, {.padding = 2}),
      conv_case("conv2d no output channels", {2, 4, 3}, {0, 2, 3, 3}, {.padding = 1}),
      conv_case("conv2d no input channels", {0, 4, 3}, {3, 0, 2, 2}, {}),
      conv_case("conv2d row", {2, 1, 13}, {3, 2, 1, 3}, {}),
      // Many channels: Winograd's algorithm, whose rounding is that of intermediate sums ten times as large as the
      // result.
      conv_case("conv2d 3x3 padding 1, 32 channels", {32, 8, 8}, {32, 32, 3, 3}, {.padding = 1}).within(3e-4),
      conv_case("conv2d 3x3 padding 1, 64 channels", {64, 9, 7}, {48, 64, 3, 3}, {.padding = 1, .relu = true})
          .within(3e-4),
      conv_case("conv2d 3x3 padding 1, 67 channels, no bias", {67, 4, 4}, {65, 67, 3, 3}, {.padding = 1}, false)
          .within(3e-4),
      transposed_case("conv_transpose2d 3x3", {2, 4, 5}, {2, 3, 3, 3}, {}),
      transposed_case("conv_transpose2d 4x4 stride 2 padding 1", {3, 4, 3}, {3, 5, 4, 4}, {.stride = 2, .padding = 1}),
      transposed_case("conv_transpose2d stride 3 output padding 1, no bias", {2, 3, 3}, {2, 2, 2, 3},
                      {.stride = 3, .output_padding = 1}, false),
      transposed_case("conv_transpose2d 2 groups, dilation 2, ReLU", {4, 3, 4}, {4, 3, 3, 3},
                      {.padding = 1, .dilation = 2, .groups = 2, .relu = true}),
      linear_case("linear", {37}, 11),
      linear_case("linear of an image, ReLU", {2, 3, 5}, 23, true, true),
      linear_case("linear, no bias", {16}, 16, false),
      linear_case("linear 1 to 1", {1}, 1),
      linear_case("linear to nothing", {5}, 0),
      linear_case("linear of nothing", {0, 3}, 4),
      linear_case("linear many", {131}, 97).within(1e-5),
      linear_transpose_case("linear_transpose", 11, 37),
      linear_transpose_case("linear_transpose 1 to 1", 1, 1),
      linear_transpose_case("linear_transpose many", 97, 131).within(1e-5),
      inner_product_case("inner_product", {19}),
      inner_product_case("inner_product of an image", {2, 3, 5}),
  };
}

inline Case max_case(std::string name, Shape in, PoolOptions options) {
  return make(
      std::move(name), {{.shape = in, .distinct = true}}, {}, [=](auto& o) { return max_pool2d(o.x[0], options); },
      [=](const Operation& o) {
        return reference::pool(o.x[0], {in[0], in[1], in[2]}, options.kernel, options.kernel, options, true);
      });
}
inline Case avg_case(std::string name, Shape in, PoolOptions options) {
  return make(
      std::move(name), {{in}}, {}, [=](auto& o) { return avg_pool2d(o.x[0], options); },
      [=](const Operation& o) {
        return reference::pool(o.x[0], {in[0], in[1], in[2]}, options.kernel, options.kernel, options, false);
      });
}

inline std::vector<Case> pool_cases() {
  const auto whole = [](const Operation& o, Shape in, bool maximum) {
    return reference::pool(o.x[0], {in[0], in[1], in[2]}, in[1], in[2], {}, maximum);
  };
  return {
      max_case("max_pool2d 2", {3, 8, 6}, {}),
      max_case("max_pool2d 2, odd", {2, 7, 5}, {}),
      max_case("max_pool2d 3 stride 2 padding 1", {2, 9, 8}, {.kernel = 3, .stride = 2, .padding = 1}),
      max_case("max_pool2d 3 stride 1", {1, 5, 6}, {.kernel = 3, .stride = 1}),
      max_case("max_pool2d 2 stride 3", {2, 8, 9}, {.kernel = 2, .stride = 3}),
      max_case("max_pool2d 3 dilation 2", {1, 9, 7}, {.kernel = 3, .stride = 2, .padding = 1, .dilation = 2}),
      max_case("max_pool2d 1", {2, 3, 3}, {.kernel = 1}),
      max_case("max_pool2d 5", {1, 5, 5}, {.kernel = 5}),
      max_case("max_pool2d no channels", {0, 4, 4}, {}),
      avg_case("avg_pool2d 2", {3, 6, 8}, {}),
      avg_case("avg_pool2d 3 stride 2 padding 1", {2, 7, 9}, {.kernel = 3, .stride = 2, .padding = 1}),
      avg_case("avg_pool2d 3 stride 2 padding 1, without it", {2, 8, 7},
               {.kernel = 3, .stride = 2, .padding = 1, .count_include_pad = false}),
      avg_case("avg_pool2d 4 stride 1", {1, 5, 7}, {.kernel = 4, .stride = 1}),
      avg_case("avg_pool2d 2 stride 3", {1, 7, 8}, {.kernel = 2, .stride = 3}),
      make(
          "global_max_pool", {{.shape = {3, 5, 7}, .distinct = true}}, {},
          [](auto& o) { return global_max_pool(o.x[0]); },
          [=](const Operation& o) {
            return whole(o, {3, 5, 7}, true);
          }),
      make(
          "global_avg_pool", {{{5, 3, 7}}}, {}, [](auto& o) { return global_avg_pool(o.x[0]); },
          [=](const Operation& o) {
            return whole(o, {5, 3, 7}, false);
          }),
      make(
          "global_avg_pool, one element", {{{3, 1, 1}}}, {}, [](auto& o) { return global_avg_pool(o.x[0]); },
          [=](const Operation& o) {
            return whole(o, {3, 1, 1}, false);
          }),
  };
}

/// Parameters gamma, beta, running mean and running variance of `channels` channels.
inline std::vector<Operand> batch_norm_parameters(std::int64_t channels) {
  return {{{channels}, 0.5, 1.5},
          {{channels}},
          {.shape = {channels}, .buffer = true},
          {.shape = {channels}, .low = 0.5, .high = 2, .buffer = true}};
}

inline Case batch_norm_case(std::string name, Shape in, bool training, pavise::BatchNormOptions options = {}) {
  const auto f = [=](auto& o) { return batch_norm(o.x[0], o.p[0], o.p[1], *o.parameter[2], *o.parameter[3], options); };
  if (training) {
    return make_across(
        std::move(name), {{in, -1, 3}}, batch_norm_parameters(in[0]), f, [=](const std::vector<Operation>& batch) {
          return reference::batch_norm(batch, in[0], batch[0].p[0], batch[0].p[1], options.epsilon, options.relu);
        });
  }
  return make(std::move(name), {{in, -1, 3}}, batch_norm_parameters(in[0]), f, [=](const Operation& o) {
    Values y = o.x[0];
    const std::size_t positions = y.size() / o.p[0].size();
    for (std::size_t i = 0; i < y.size(); ++i) {
      const std::size_t c = i / positions;
      y[i] = (y[i] - o.p[2][c]) / std::sqrt(o.p[3][c] + options.epsilon) * o.p[0][c] + o.p[1][c];
      y[i] = options.relu && !(y[i] > 0) ? 0 : y[i];
    }
    return y;
  });
}

/// `rank`: trailing axes that are normalised.
inline Case layer_norm_case(std::string name, Shape in, std::size_t rank, pavise::LayerNormOptions options = {}) {
  const Shape trailing(in.end() - rank, rank);
  return make(
      std::move(name), {{in, -1, 3}}, {{trailing, 0.5, 1.5}, {trailing}},
      [=](auto& o) { return layer_norm(o.x[0], o.p[0], o.p[1], options); },
      [=](const Operation& o) {
        return reference::row_norm(o.x[0], in.numel() / trailing.numel(), trailing.numel(), 1, 0, o.p[0], o.p[1],
                                   options.epsilon, options.relu);
      });
}

inline Case group_norm_case(std::string name, Shape in, pavise::GroupNormOptions options, bool affine = true) {
  const std::int64_t blocks = in[0] / options.groups;
  return make(
      std::move(name), {{in, -1, 3}},
      affine ? std::vector<Operand>{{{in[0]}, 0.5, 1.5}, {{in[0]}}} : std::vector<Operand>{},
      [=](auto& o) {
        using V = std::decay_t<decltype(o.x[0])>;
        return group_norm(o.x[0], affine ? o.p[0] : V{}, affine ? o.p[1] : V{}, options);
      },
      [=](const Operation& o) {
        return reference::row_norm(o.x[0], options.groups, blocks, in.numel() / in[0], blocks,
                                   affine ? o.p[0] : Values{}, affine ? o.p[1] : Values{}, options.epsilon,
                                   options.relu);
      });
}

inline std::vector<Case> norm_cases() {
  return {
      batch_norm_case("batch_norm, training", {3, 5, 3}, true),
      batch_norm_case("batch_norm, training, ReLU", {2, 3, 4}, true, {.relu = true}),
      batch_norm_case("batch_norm of features, training", {5}, true).within(1e-5),
      batch_norm_case("batch_norm, evaluation", {3, 5, 7}, false),
      batch_norm_case("batch_norm, evaluation, ReLU", {2, 1, 37}, false, {.epsilon = 1e-3, .relu = true}),
      batch_norm_case("batch_norm of features, evaluation", {7}, false),
      make_across(
          "batch_norm, training, no gamma", {{{2, 3, 3}}},
          {{.shape = {2}, .buffer = true}, {.shape = {2}, .buffer = true}},
          [](auto& o) { return batch_norm(o.x[0], {}, {}, *o.parameter[0], *o.parameter[1]); },
          [](const std::vector<Operation>& batch) { return reference::batch_norm(batch, 2, {}, {}, 1e-5, false); }),
      group_norm_case("group_norm 2", {6, 3, 5}, {.groups = 2}),
      group_norm_case("group_norm of each channel, ReLU", {3, 4, 5}, {.groups = 3, .relu = true}),
      group_norm_case("group_norm, no gamma", {4, 3, 3}, {.groups = 1, .epsilon = 1e-3}, false),
      group_norm_case("group_norm of 41x41", {2, 41, 41}, {}).within(1e-5),
      layer_norm_case("layer_norm", {3, 5, 2}, 3),
      layer_norm_case("layer_norm of the last axis", {3, 2, 7}, 1, {.relu = true}),
      layer_norm_case("layer_norm of two axes", {3, 2, 7}, 2),
      layer_norm_case("layer_norm of features", {13}, 1),
  };
}

inline Case dropout_case(std::string name, Shape in, double rate, std::uint32_t layer) {
  return make(
             std::move(name), {{in}}, {}, [=](auto& o) { return dropout(o.x[0], rate, layer); },
             [=](const Operation& o) {
               // The pass's key is the one of op_check.hpp.
               pavise::RandomSequence random({.seed = 5,
                                              .purpose = pavise::Purpose::dropout,
                                              .image = o.image,
                                              .restart = layer,
                                              .iteration = 3});
               Values y = o.x[0];
               for (auto& v : y) {
                 v = random.uniform() < rate ? 0 : v / (1 - rate);
               }
               return y;
             })
      .training();
}

inline std::vector<Case> dropout_cases() {
  return {
      dropout_case("dropout 0.25", {3, 5, 7}, 0.25, 0),
      dropout_case("dropout 0.5, layer 2", {129}, 0.5, 2),
      dropout_case("dropout 0.875", {2, 11}, 0.875, 65535),
  };
}

/// All rows of this header.
inline std::vector<Case> operation_cases() {
  std::vector<Case> all;
  for (auto& family : {linear_cases(), pool_cases(), norm_cases(), dropout_cases()}) {
    all.insert(all.end(), family.begin(), family.end());
  }
  return all;
}

/// Rows for benchmarks: the layers of real networks. Their references are those of the rows above.
inline std::vector<Case> benchmark_cases() {
  const auto conv = [](const char* name, Shape in, Shape k, ConvOptions o) {
    const double oh = static_cast<double>((in[1] + 2 * o.padding - k[2]) / o.stride + 1);
    const double ow = static_cast<double>((in[2] + 2 * o.padding - k[3]) / o.stride + 1);
    return conv_case(name, in, k, o).costs(2.0 * static_cast<double>(k.numel()) * oh * ow);
  };
  return {
      conv("conv2d 1-16 4x4 s2, 28x28", {1, 28, 28}, {16, 1, 4, 4}, {.stride = 2, .padding = 1, .relu = true}),
      conv("conv2d 16-32 4x4 s2, 14x14", {16, 14, 14}, {32, 16, 4, 4}, {.stride = 2, .padding = 1, .relu = true}),
      conv("conv2d 3-64 3x3, 32x32", {3, 32, 32}, {64, 3, 3, 3}, {.padding = 1}),
      conv("conv2d 64-64 3x3, 32x32", {64, 32, 32}, {64, 64, 3, 3}, {.padding = 1}),
      conv("conv2d 128-128 3x3, 16x16", {128, 16, 16}, {128, 128, 3, 3}, {.padding = 1}),
      conv("conv2d 256-256 3x3, 8x8", {256, 8, 8}, {256, 256, 3, 3}, {.padding = 1}),
      conv("conv2d 64-128 1x1 s2, 32x32", {64, 32, 32}, {128, 64, 1, 1}, {.stride = 2}),
      linear_case("linear 1568-100", {32, 7, 7}, 100, true, true).costs(2.0 * 1568 * 100),
      linear_case("linear 3136-1024", {64, 7, 7}, 1024, true, true).costs(2.0 * 3136 * 1024),
      max_case("max_pool2d 2, 32x28x28", {32, 28, 28}, {}),
      avg_case("avg_pool2d 2, 32x28x28", {32, 28, 28}, {}),
      batch_norm_case("batch_norm 64x32x32, evaluation, ReLU", {64, 32, 32}, false, {.relu = true}),
      batch_norm_case("batch_norm 64x32x32, training, ReLU", {64, 32, 32}, true, {.relu = true}),
      group_norm_case("group_norm 8, 64x32x32", {64, 32, 32}, {.groups = 8}),
      layer_norm_case("layer_norm 512", {512}, 1),
      dropout_case("dropout 0.5, 64x32x32", {64, 32, 32}, 0.5, 0),
  };
}

}  // namespace op_table
