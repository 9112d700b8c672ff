// SPDX-License-Identifier: MIT
// Normalisation: of a channel over the batch, or of groups of channels or whole layers within an image.
#pragma once

#include <algorithm>
#include <cstdint>

#include "pavise/autodiff/linear.hpp"
#include "pavise/autodiff/over_batch.hpp"
#include "pavise/autodiff/tape.hpp"

namespace pavise {

struct BatchNormOptions {
  double momentum = 0.1;  ///< share of this pass in the running statistics
  double epsilon = 1e-5;  ///< added to the variance
  bool relu = false;      ///< applies max(0, .) to the result, at no cost of its own
};

struct GroupNormOptions {
  std::int64_t groups = 1;  ///< of channels
  double epsilon = 1e-5;
  bool relu = false;
};

struct LayerNormOptions {
  double epsilon = 1e-5;
  bool relu = false;
};

namespace detail {

template <class T>
void check_affine(const char* name, Var<T> x, Var<T> p, const char* what, std::int64_t count) {
  require<ShapeError>(!p || (p.shared() && p.size() == count), name, ": input ", x.shape(), " expects ", count,
                      " values of ", what, ", a parameter, got ", p ? p.shape() : Shape{});
}

/// What a batch normalisation keeps for its backward pass: of each channel, the mean and the inverse deviation.
template <class T>
struct ChannelStatistics {
  T* mean;
  double* inverse;
};

template <class T>
void batch_norm_backward(Tape<T>& t, Var<T> x, Var<T> gamma, Var<T> beta, Var<T> y, ChannelStatistics<T> s,
                         bool training) {
  mask_own_gradient(t, y);
  const int lanes = t.lanes();
  const std::int64_t channels = x.shape()[0];
  const std::int64_t positions = x.size() / channels;
  const std::int64_t step = x.size() * lanes;
  const T* dy = t.gradient(y);
  const auto target = t.needs_gradient(x) ? t.target(x, true) : typename Tape<T>::Target{};
  T* dgamma = t.needs_gradient(gamma) ? t.target(gamma).data : nullptr;
  T* dbeta = t.needs_gradient(beta) ? t.target(beta).data : nullptr;
  const auto write = [&](auto isa, std::int64_t g, std::int64_t c, T a, T b, T shift) {
    const std::int64_t at = g * step + c * positions * lanes;
    channel_backward<T>(isa, training ? x.data() + at : nullptr, dy + at, target.data + at, positions, s.mean[c], a, b,
                        shift, target.accumulate, target.mask != nullptr ? target.mask + at : nullptr,
                        training ? t.images() - g * lanes : lanes, lanes);
  };
  if (training || dgamma != nullptr || dbeta != nullptr) {
    const double count = static_cast<double>(t.images_of_all()) * static_cast<double>(positions);
    const auto add = [&](auto isa, std::int64_t c, BatchSums& sums) {
      const std::int64_t at = c * positions * lanes;
      channel_gradient_sums<T>(isa, {t.groups(), t.images(), positions, step}, x.data() + at, dy + at, s.mean[c], lanes,
                               sums[0], sums[1]);
    };
    const auto use = [&](auto isa, std::int64_t c, const BatchSums& sums) {
      add_channel_gradients<T>(isa, sums[0], sums[1], s.inverse[c], dgamma != nullptr ? dgamma + c : nullptr,
                               dbeta != nullptr ? dbeta + c : nullptr);
      if (training && target.data != nullptr) {
        T a, b, shift;
        batch_norm_factors<T>(isa, sums[0], sums[1], count, s.inverse[c], gamma ? gamma.data()[c] : T{1}, a, b, shift);
        for (std::int64_t g = 0; g < t.groups(); ++g) {
          write(isa, g, c, a, b, shift);
        }
      }
    };
    sum_over_batch(t, channels, 1, BatchSum{add, use});
  }
  if (!training && target.data != nullptr) {
    t.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        for (std::int64_t c = 0; c < channels; ++c) {
          write(isa, g, c, channel_scale<T>(isa, s.inverse[c], gamma ? gamma.data()[c] : T{1}), T{0}, T{0});
        }
      });
    });
  }
}

template <class T>
Var<T> row_norm_map(const char* name, Var<T> x, Var<T> gamma, Var<T> beta, std::int64_t rows, std::int64_t blocks,
                    std::int64_t positions, std::int64_t row_parameters, double epsilon, bool relu) {
  Tape<T>& tape = x.tape();
  Var<T> y = tape.result(name, x.shape(), {x, gamma, beta});
  tape.node(y).relu = relu;
  if (auto* trace = tape.trace()) {
    trace->push_back({.kind = TracedOperation<T>::Kind::row_norm,
                      .output = y.id(),
                      .inputs = {x.id(), -1},
                      .relu = relu,
                      .weight = gamma ? tape.node(gamma).parameter : nullptr,
                      .bias = beta ? tape.node(beta).parameter : nullptr,
                      .epsilon = epsilon,
                      .rows = {rows, blocks, positions, row_parameters}});
  }
  const int lanes = tape.lanes();
  const auto count = static_cast<std::size_t>(tape.groups() * rows * lanes);
  T* mean = tape.arena().template allocate<T>(count);
  T* inverse = tape.arena().template allocate<T>(count);
  tape.each_group([&](std::int64_t g) {
    kernels::run_light([&](auto isa) {
      row_norm<T>(isa, {rows, blocks, positions, row_parameters}, x.data(g), y.data(g), gamma ? gamma.data() : nullptr,
                  beta ? beta.data() : nullptr, static_cast<T>(epsilon), relu, mean + g * rows * lanes,
                  inverse + g * rows * lanes, lanes);
    });
  });
  tape.on_backward(y, [=](Tape<T>& t) {
    mask_own_gradient(t, y);
    const T* scale = gamma ? gamma.data() : nullptr;
    if (t.needs_gradient(gamma) || t.needs_gradient(beta)) {
      T* dgamma = t.needs_gradient(gamma) ? t.target(gamma).data : nullptr;
      T* dbeta = t.needs_gradient(beta) ? t.target(beta).data : nullptr;
      const auto add = [&](auto isa, std::int64_t k, BatchSums& sums) {
        row_norm_parameters<T>(isa, {rows, blocks, positions, row_parameters}, x.data(), t.gradient(y), mean, inverse,
                               t.groups(), t.images(), k, sums[0], sums[1]);
      };
      const auto use = [&](auto, std::int64_t k, const BatchSums& sums) {
        if (dgamma != nullptr) {
          dgamma[k] += static_cast<T>(sums[0]);
        }
        if (dbeta != nullptr) {
          dbeta[k] += static_cast<T>(sums[1]);
        }
      };
      sum_over_batch(t, gamma ? gamma.size() : beta.size(), 8, BatchSum{add, use});
    }
    if (t.needs_gradient(x)) {
      const auto target = t.target(x, true);
      const std::int64_t step = x.size() * t.lanes();
      t.each_group([&](std::int64_t g) {
        kernels::run_light([&](auto isa) {
          row_norm_backward<T>(isa, {rows, blocks, positions, row_parameters}, x.data(g), t.gradient(y, g), scale,
                               mean + g * rows * t.lanes(), inverse + g * rows * t.lanes(), target.data + g * step,
                               target.accumulate, target.mask != nullptr ? target.mask + g * step : nullptr, t.lanes());
        });
      });
    }
  });
  return y;
}

}  // namespace detail

/// Batch normalisation (Ioffe and Szegedy, 2015), as torch.nn.functional.batch_norm:
/// y = (x - mean[c]) / sqrt(variance[c] + epsilon) * gamma[c] + beta[c].
/// In a training pass mean and (biased) variance of a channel are those of all images of the pass, and the running
/// statistics move towards them (the variance's towards the unbiased one); lanes behind the last image take no part and
/// get no gradient. In an evaluation pass they are the running statistics, and an image's result does not depend on the
/// others. x: (C,H,W), (C,L) or (C); gamma, beta: parameters (C), or none for 1 and 0; running_mean, running_var:
/// buffers (C). Throws ShapeError where they do not fit, ValueError for a training pass with one value a channel.
template <class T>
Var<T> batch_norm(Var<T> x, Var<T> gamma, Var<T> beta, Parameter<T>& running_mean, Parameter<T>& running_var,
                  BatchNormOptions options = {}) {
  constexpr const char* kName = "batch_norm";
  const Shape s = x.shape();
  require<ShapeError>(s.rank() >= 1 && !x.shared(), kName, ": the input is (C,H,W), (C,L) or (C), got ", s);
  const std::int64_t channels = s[0];
  require<ShapeError>(x.size() > 0, kName, ": the input ", s, " is empty");
  detail::check_affine(kName, x, gamma, "gamma", channels);
  detail::check_affine(kName, x, beta, "beta", channels);
  require<ShapeError>(running_mean.size() == channels && running_var.size() == channels, kName, ": input ", s,
                      " expects ", channels, " running statistics, got ", running_mean.shape(), " and ",
                      running_var.shape());
  require(options.epsilon > 0, kName, ": epsilon ", options.epsilon, ", expected more than 0");
  Tape<T>& tape = x.tape();
  const bool training = tape.mode() == Mode::training;
  const int lanes = tape.lanes();
  const std::int64_t positions = x.size() / channels;
  const std::int64_t step = x.size() * lanes;
  const double count = static_cast<double>(tape.images_of_all()) * static_cast<double>(positions);
  require(!training || count > 1 || tape.trace() != nullptr, kName,
          ": training needs more than one value a channel, got one image of shape ", s);

  Var<T> y = tape.result(kName, s, {x, gamma, beta});
  tape.node(y).relu = options.relu;
  if (auto* trace = tape.trace(); training && trace != nullptr) {  // of the shapes: there are no statistics
    trace->push_back({.kind = TracedOperation<T>::Kind::batch_norm,
                      .output = y.id(),
                      .inputs = {x.id(), -1},
                      .relu = options.relu,
                      .weight = gamma ? tape.node(gamma).parameter : nullptr,
                      .bias = beta ? tape.node(beta).parameter : nullptr,
                      .running_mean = &running_mean,
                      .running_var = &running_var,
                      .momentum = options.momentum,
                      .epsilon = options.epsilon});
    std::fill_n(y.data(), tape.groups() * step, T{0});
    return y;
  }
  const auto n = static_cast<std::size_t>(channels);
  const detail::ChannelStatistics<T> statistics{tape.arena().template allocate<T>(n),
                                                tape.arena().template allocate<double>(n)};
  const auto normalize = [&](auto isa, std::int64_t g, std::int64_t c) {
    const std::int64_t at = g * step + c * positions * lanes;
    channel_affine<T>(isa, x.data() + at, y.data() + at, positions, statistics.mean[c],
                      channel_scale<T>(isa, statistics.inverse[c], gamma ? gamma.data()[c] : T{1}),
                      beta ? beta.data()[c] : T{0}, options.relu, lanes);
  };
  if (training) {
    const auto new_mean = running_mean.edit();
    const auto new_var = running_var.edit();
    const kernels::ChannelView view{tape.groups(), tape.images(), positions, step};
    const auto add_values = [&](auto isa, std::int64_t c, detail::BatchSums& sums) {
      channel_sum<T>(isa, view, x.data() + c * positions * lanes, lanes, sums[0]);
    };
    const auto use_values = [&](auto isa, std::int64_t c, const detail::BatchSums& sums) {
      const auto i = static_cast<std::size_t>(c);
      const double mean = sums[0] / count;
      new_mean[i] = running_value<T>(isa, new_mean[i], mean, options.momentum);
      statistics.mean[c] = static_cast<T>(mean);
    };
    const auto add_squares = [&](auto isa, std::int64_t c, detail::BatchSums& sums) {
      channel_squares<T>(isa, view, x.data() + c * positions * lanes, statistics.mean[c], lanes, sums[0]);
    };
    const auto use_squares = [&](auto isa, std::int64_t c, const detail::BatchSums& sums) {
      const auto i = static_cast<std::size_t>(c);
      const double variance = sums[0] / count;
      new_var[i] = running_value<T>(isa, new_var[i], variance * (count / (count - 1)), options.momentum);
      statistics.inverse[c] = inverse_deviation(isa, variance, options.epsilon);
      for (std::int64_t g = 0; g < tape.groups(); ++g) {
        normalize(isa, g, c);
      }
    };
    detail::sum_over_batch(tape, channels, 1, detail::BatchSum{add_values, use_values},
                           detail::BatchSum{add_squares, use_squares});
  } else {
    kernels::run_light([&](auto isa) {
      for (std::int64_t c = 0; c < channels; ++c) {
        const auto i = static_cast<std::size_t>(c);
        statistics.mean[c] = running_mean.value()[i];
        statistics.inverse[c] = inverse_deviation(isa, static_cast<double>(running_var.value()[i]), options.epsilon);
      }
    });
    if (auto* trace = tape.trace()) {
      TracedOperation<T> op{.kind = TracedOperation<T>::Kind::channels,
                            .output = y.id(),
                            .inputs = {x.id(), -1},
                            .relu = options.relu,
                            .mean = {statistics.mean, statistics.mean + channels},
                            .scale = {},
                            .shift = std::vector<T>(n),
                            .norm = {.gamma = gamma ? tape.node(gamma).parameter : nullptr,
                                     .beta = beta ? tape.node(beta).parameter : nullptr,
                                     .mean = &running_mean,
                                     .variance = &running_var,
                                     .epsilon = options.epsilon}};
      for (std::size_t c = 0; c < n; ++c) {
        op.scale.push_back(kernels::run_light(
            [&](auto isa) { return channel_scale<T>(isa, statistics.inverse[c], gamma ? gamma.data()[c] : T{1}); }));
        op.shift[c] = beta ? beta.data()[c] : T{0};
      }
      trace->push_back(std::move(op));
    }
    tape.each_group([&](std::int64_t g) {
      kernels::run_light([&](auto isa) {
        for (std::int64_t c = 0; c < channels; ++c) {
          normalize(isa, g, c);
        }
      });
    });
  }
  tape.on_backward(y, [=](Tape<T>& t) { detail::batch_norm_backward(t, x, gamma, beta, y, statistics, training); });
  return y;
}

/// Group normalisation (Wu and He, 2018), as torch.nn.functional.group_norm for each image: the C/groups channels of a
/// group are normalised by their own mean and biased variance, then scaled by gamma[c] and shifted by beta[c]. x:
/// (C,...); gamma, beta: parameters (C), or none for 1 and 0. Throws ShapeError where the groups do not divide C.
template <class T>
Var<T> group_norm(Var<T> x, Var<T> gamma, Var<T> beta, GroupNormOptions options = {}) {
  constexpr const char* kName = "group_norm";
  const Shape s = x.shape();
  require<ShapeError>(s.rank() >= 1 && !x.shared() && x.size() > 0, kName, ": the input is (C,...), got ", s);
  require(options.groups >= 1 && options.epsilon > 0, kName, ": ", options.groups, " groups, epsilon ", options.epsilon,
          ": expected at least one group and epsilon > 0");
  require<ShapeError>(s[0] % options.groups == 0, kName, ": ", options.groups, " groups do not divide the channels of ",
                      s);
  detail::check_affine(kName, x, gamma, "gamma", s[0]);
  detail::check_affine(kName, x, beta, "beta", s[0]);
  const std::int64_t blocks = s[0] / options.groups;
  return detail::row_norm_map(kName, x, gamma, beta, options.groups, blocks, x.size() / s[0], blocks, options.epsilon,
                              options.relu);
}

/// Layer normalisation (Ba, Kiros and Hinton, 2016), as torch.nn.functional.layer_norm for each image: the trailing
/// axes that gamma (or beta) has are normalised by their own mean and biased variance, then scaled and shifted element
/// by element. gamma, beta: parameters of the shape of the trailing axes; without both, the whole image is normalised.
/// Throws ShapeError where the parameters' shape is not that of trailing axes.
template <class T>
Var<T> layer_norm(Var<T> x, Var<T> gamma, Var<T> beta, LayerNormOptions options = {}) {
  constexpr const char* kName = "layer_norm";
  const Shape s = x.shape();
  require<ShapeError>(!x.shared() && x.size() > 0, kName, ": the input is empty or a parameter: ", s);
  require(options.epsilon > 0, kName, ": epsilon ", options.epsilon, ", expected more than 0");
  const Shape trailing = gamma ? gamma.shape() : beta ? beta.shape() : s;
  require<ShapeError>(
      trailing.rank() <= s.rank() && std::equal(trailing.begin(), trailing.end(), s.end() - trailing.rank()), kName,
      ": input ", s, " does not end in the parameters' axes ", trailing);
  const std::int64_t size = trailing.numel();
  detail::check_affine(kName, x, gamma, "gamma", size);
  detail::check_affine(kName, x, beta, "beta", size);
  return detail::row_norm_map(kName, x, gamma, beta, x.size() / size, size, 1, 0, options.epsilon, options.relu);
}

}  // namespace pavise
