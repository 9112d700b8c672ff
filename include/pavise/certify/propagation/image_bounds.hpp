// SPDX-License-Identifier: MIT
// Bounds of every value of a network on a ball around one image.
//
// All bounds are of the values that the model computes, in float: what its layers round is part of the bounds, as is what
// the bounds themselves round, in double. Where layer k gives z = W x + b + e with |e| <= E_k (network.hpp), intervals are
// widened by E_k, and a linear function a.z is at least a.(W x + b) - |a|.E_k. Going backward, a W is itself rounded: its
// error is at most gamma |a||W|, which costs gamma |a|.(|W||x|), the same shape again, so that it is a part of E_k.
#pragma once

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string_view>
#include <utility>
#include <vector>

#include "pavise/attack/threat.hpp"
#include "pavise/autodiff/shape_ops.hpp"
#include "pavise/certify/propagation/network.hpp"

namespace pavise::certify {

/// How bounds go through a network:
///   ibp    interval bound propagation (Gowal et al., "Scalable verified training for provably robust image
///          classification", ICCV 2019)
///   crown  linear bounds by backward substitution, of every layer (Zhang et al., "Efficient neural network robustness
///          certification with general activation functions", NeurIPS 2018), and intervals where they are tighter
enum class Propagation { ibp, crown };

inline std::string_view propagation_name(Propagation p) { return p == Propagation::ibp ? "ibp" : "crown"; }
inline bool is_propagation(std::string_view name) { return name == "ibp" || name == "crown"; }

/// Closed intervals, one for each value.
struct Box {
  std::vector<double> low, high;
};

/// Bounds of one image's values. Not thread-safe; threads each make their own.
class ImageBounds {
 public:
  /// `image`: (C,H,W) row-major, as the model sees it. The threat's ball is all images of float numbers x' in the pixel
  /// box with a distance of at most epsilon from it, in exact arithmetic.
  ImageBounds(const Network& network, const float* image, const attack::Threat& threat, Propagation method)
      : network_(network), threat_(threat), method_(method) {
    const auto pixels = static_cast<std::size_t>(network.model().input_shape().numel());
    image_.assign(image, image + pixels);
    Box box;
    for (const double x : image_) {
      box.low.push_back(std::max(threat.low, next_below(x - threat.epsilon)));
      box.high.push_back(std::min(threat.high, next_above(x + threat.epsilon)));
      require(box.low.back() <= box.high.back(), "bounds: a pixel is ", x, ", expected one in the box [", threat.low,
              ",", threat.high, "]");
      if (threat.epsilon == 0) {
        box.low.back() = box.high.back() = x;
      }
    }
    boxes_.push_back(std::move(box));
    const std::size_t n = network.stages().size();
    errors_.resize(n);
    relaxations_.resize(n);
    maxima_.resize(n);
    for (std::size_t k = 0; k < n && finite_; ++k) {
      propagate(k);
    }
  }

  /// The intervals of the values in front of stage k, and behind the last one for k = stages: logits. Short where a bound
  /// was not finite.
  const std::vector<Box>& boxes() const { return boxes_; }

  /// Lower bounds of z[label] - z[j] for the logits z that the model computes, for every class j; 0 for the label
  /// itself, and the lowest number where nothing can be said.
  std::vector<double> margins(std::int32_t label) const {
    const std::int32_t classes = network_.model().classes();
    require(label >= 0 && label < classes, "bounds: label ", label, ", expected 0 to ", classes - 1);
    constexpr double kNothing = std::numeric_limits<double>::lowest();
    std::vector<double> out(static_cast<std::size_t>(classes), kNothing);
    out[static_cast<std::size_t>(label)] = 0;
    if (!finite_) {
      return out;
    }
    const std::size_t last = network_.stages().size();
    std::size_t affine = last;  // the affine stages at the end are taken together
    while (affine > 0 && network_.stages()[affine - 1].kind == Stage::Kind::affine) {
      --affine;
    }
    for (std::int32_t first = 0; first < classes; first += kernels::kLanes) {
      std::array<Row, kernels::kLanes> rows;
      for (std::int32_t j = 0; j < kernels::kLanes; ++j) {
        rows[static_cast<std::size_t>(j)] = {label, std::min(first + j, classes - 1)};
      }
      for (const std::size_t to : {affine, std::size_t{0}}) {
        if (to == affine || method_ == Propagation::crown) {
          const auto bounds = lower_bounds(last, rows, to);
          for (std::int32_t j = first; j < std::min(first + kernels::kLanes, classes); ++j) {
            double& best = out[static_cast<std::size_t>(j)];
            best = j == label ? 0 : std::max(best, bounds[static_cast<std::size_t>(j - first)]);
          }
        }
      }
    }
    return out;
  }

 private:
  /// The function v[plus] - v[minus] of the values behind a stage; one of them may be missing (-1).
  struct Row {
    std::int64_t plus = -1, minus = -1;
  };
  using Rows = std::array<Row, kernels::kLanes>;

  /// lower x <= max(0,x) <= upper x + intercept on an interval, and what a rounded coefficient costs.
  struct Relaxation {
    std::vector<double> lower, upper, intercept, error;
  };
  struct Maxima {
    std::vector<std::int64_t> winner;       ///< the input with the largest lower bound
    std::vector<double> exact, top, error;  ///< 1 where it is the maximum; the largest upper bound
  };

  const Stage& stage(std::size_t k) const { return network_.stages()[k]; }
  static std::size_t index(std::int64_t i) { return static_cast<std::size_t>(i); }

  void propagate(std::size_t k) {
    const Stage& s = stage(k);
    Box out;
    switch (s.kind) {
      case Stage::Kind::affine:
        out = affine(k);
        break;
      case Stage::Kind::relu:
        out = boxes_[k];
        relaxations_[k] = relax(out);
        for (auto* side : {&out.low, &out.high}) {
          for (double& v : *side) {
            v = std::max(v, 0.0);
          }
        }
        break;
      case Stage::Kind::max_pool:
        out = maximum(k);
        break;
    }
    boxes_.push_back(std::move(out));
    if (s.kind == Stage::Kind::affine && finite_) {
      refine(k);
    }
  }

  /// op(x, weight) without a bias, in double, for one image.
  static std::vector<double> apply(const Stage& s, const std::vector<double>& x, Parameter<double>& weight) {
    Tape<double>& tape = thread_tape<double>();
    tape.begin(1, 1);
    Var<double> in = tape.input(s.in);
    std::copy(x.begin(), x.end(), in.data());
    ConvOptions options = s.affine.options;
    options.output_padding = 0;
    const Var<double> w = tape.parameter(weight);
    const Var<double> y = s.affine.matrix ? linear(in, w, {}) : conv2d(in, w, {}, options);
    return {y.data(), y.data() + y.size()};
  }

  Box affine(std::size_t k) {
    const Stage& s = stage(k);
    const AffineStage& a = s.affine;
    const Box& x = boxes_[k];
    const std::size_t n = x.low.size();
    std::vector<double> center(n), radius(n), most(n);
    for (std::size_t i = 0; i < n; ++i) {
      center[i] = x.low[i] + (x.high[i] - x.low[i]) / 2;
      radius[i] = next_above(std::max(x.high[i] - center[i], center[i] - x.low[i]));
      most[i] = std::max(std::abs(x.low[i]), std::abs(x.high[i]));
    }
    Box out{apply(s, center, *a.weight), apply(s, radius, *a.absolute)};
    std::vector<double>& error = errors_[k];
    error = apply(s, most, *a.absolute);
    const std::int64_t positions = s.out.numel() / static_cast<std::int64_t>(a.bias.size());
    const auto channels = static_cast<std::int64_t>(a.bias.size());
    for (std::int64_t c = 0; c < channels; ++c) {
      const double growth = a.winograd.empty() ? 0 : winograd_terms(s, c, most);
      for (std::int64_t i = c * positions; i < (c + 1) * positions; ++i) {
        const std::size_t at = index(i);
        // |W||x| + |b|, and what the model's result and sums in double may be off by.
        const double terms = (error[at] + a.bias_magnitude[index(c)]) * (1 + 0x1p-20);
        const double own = std::max(terms, growth + a.bias_magnitude[index(c)]) * (1 + 0x1p-50);
        error[at] = std::fma(a.float_error, own, std::fma(3 * a.double_error, terms, a.underflow)) * (1 + 0x1p-50);
        const double middle = out.low[at] + a.bias[index(c)];
        const double wide = next_above(std::fma(out.high[at], 1 + 2 * a.double_error, error[at]));
        out.low[at] = next_below(middle - wide);
        out.high[at] = next_above(middle + wide);
        // No sum of the model overflows, in whatever order.
        finite_ = finite_ && own <= 1e37 && out.low[at] >= -1e37 && out.high[at] <= 1e37;
      }
    }
    return out;
  }

  /// Of output channel c: the sum over the input's channels of their largest elements times the growth of their kernels.
  static double winograd_terms(const Stage& s, std::int64_t c, const std::vector<double>& most) {
    const std::int64_t channels = s.in[0];
    const std::int64_t positions = s.in.numel() / channels;
    double sum = 0;
    for (std::int64_t i = 0; i < channels; ++i) {
      const auto from = most.begin() + i * positions;
      // 2^-100 stands for what underflows in the input's transform.
      const double largest = *std::max_element(from, from + positions) + 0x1p-100;
      sum = std::fma(s.affine.winograd[index(c * channels + i)], largest, sum);
    }
    return next_above(sum * (1 + 0x1p-30));
  }

  static Relaxation relax(const Box& x) {
    Relaxation r;
    for (std::size_t i = 0; i < x.low.size(); ++i) {
      const double l = x.low[i];
      const double u = x.high[i];
      const bool open = l < 0 && u > 0;
      // Any slope is sound, as long as the line lies above both ends: -s l at l, (1-s) u at u.
      const double s = open ? std::min(1.0, u / (u - l)) : l >= 0 ? 1.0 : 0.0;
      r.upper.push_back(s);
      r.lower.push_back(open ? (u >= -l ? 1.0 : 0.0) : s);
      r.intercept.push_back(open ? next_above(std::max(-s * l, next_above(1 - s) * u)) : 0.0);
      r.error.push_back(open ? 0x1p-52 * std::max(-l, u) : 0.0);
    }
    return r;
  }

  Box maximum(std::size_t k) {
    const Stage& s = stage(k);
    const Box& x = boxes_[k];
    const auto& g = s.window;
    Maxima& m = maxima_[k];
    Box out;
    const double roundings = static_cast<double>(g.kernel_height * g.kernel_width) * 0x1p-52;
    for (std::int64_t c = 0; c < g.in_channels; ++c) {
      for (std::int64_t oy = 0; oy < g.out_height; ++oy) {
        for (std::int64_t ox = 0; ox < g.out_width; ++ox) {
          std::vector<std::size_t> window;
          for (std::int64_t ky = 0; ky < g.kernel_height; ++ky) {
            for (std::int64_t kx = 0; kx < g.kernel_width; ++kx) {
              const std::int64_t y = oy * g.stride - g.padding + ky * g.dilation;
              const std::int64_t z = ox * g.stride - g.padding + kx * g.dilation;
              if (y >= 0 && y < g.in_height && z >= 0 && z < g.in_width) {
                window.push_back(index((c * g.in_height + y) * g.in_width + z));
              }
            }
          }
          const auto by = [](const std::vector<double>& v) {
            return [&v](std::size_t i, std::size_t j) { return v[i] < v[j]; };
          };
          const std::size_t winner = *std::max_element(window.begin(), window.end(), by(x.low));
          out.low.push_back(x.low[winner]);
          out.high.push_back(x.high[*std::max_element(window.begin(), window.end(), by(x.high))]);
          const bool exact = std::all_of(window.begin(), window.end(),
                                         [&](std::size_t i) { return i == winner || x.high[i] <= x.low[winner]; });
          m.winner.push_back(static_cast<std::int64_t>(winner));
          m.exact.push_back(exact ? 1 : 0);
          m.top.push_back(out.high.back());
          m.error.push_back(roundings * std::max(std::abs(x.low[winner]), std::abs(x.high[winner])));
        }
      }
    }
    return out;
  }

  /// Makes the intervals behind affine stage k those of linear bounds, where these are tighter.
  void refine(std::size_t k) {
    const bool ends = k + 1 == network_.stages().size() || stage(k + 1).kind == Stage::Kind::affine;
    bool linear_so_far = true;
    for (std::size_t i = 0; i < k; ++i) {
      linear_so_far = linear_so_far && stage(i).kind == Stage::Kind::affine;
    }
    // Of the first layer's values in an L2 or L1 ball the linear bound is the dual norm, in both methods.
    const bool dual = linear_so_far && threat_.norm != attack::Norm::linf;
    if (ends || !(dual || (method_ == Propagation::crown && k > 0))) {
      return;
    }
    Box& box = boxes_[k + 1];
    std::vector<std::int64_t> open;  // of the others ReLU's relaxation is exact already
    for (std::size_t i = 0; i < box.low.size(); ++i) {
      if (dual || stage(k + 1).kind != Stage::Kind::relu || (box.low[i] < 0 && box.high[i] > 0)) {
        open.push_back(static_cast<std::int64_t>(i));
      }
    }
    constexpr std::size_t kHalf = kernels::kLanes / 2;
    for (std::size_t first = 0; first < open.size(); first += kHalf) {
      Rows rows;
      for (std::size_t r = 0; r < kHalf; ++r) {
        const std::int64_t i = open[std::min(first + r, open.size() - 1)];
        rows[r] = {i, -1};
        rows[r + kHalf] = {-1, i};
      }
      const auto bounds = lower_bounds(k + 1, rows, 0);
      for (std::size_t r = 0; r < std::min(kHalf, open.size() - first); ++r) {
        const std::size_t i = index(open[first + r]);
        box.low[i] = std::max(box.low[i], bounds[r]);
        box.high[i] = std::min(box.high[i], -bounds[r + kHalf]);
      }
    }
  }

  /// Lower bounds of functions of the values behind stage `from` - 1, substituted backward until they are functions of
  /// the values in front of stage `to`, whose interval (or ball, for 0) they are bounded on.
  std::array<double, kernels::kLanes> lower_bounds(std::size_t from, const Rows& rows, std::size_t to) const {
    Tape<double>& tape = thread_tape<double>();
    tape.begin(kernels::kLanes, kernels::kLanes);
    kernels::RowBounds r;
    Var<double> a;
    if (from > to && stage(from - 1).kind == Stage::Kind::affine && rows[0].minus < 0) {
      a = first_step(tape, from - 1, rows, r);
      --from;
    } else {
      a = zeros(tape, Shape{static_cast<std::int64_t>(boxes_[from].low.size())});
      for (std::size_t lane = 0; lane < rows.size(); ++lane) {
        for (const auto& [i, sign] : {std::pair{rows[lane].plus, 1.0}, std::pair{rows[lane].minus, -1.0}}) {
          if (i >= 0) {
            a.data()[index(i) * rows.size() + lane] += sign;
          }
        }
      }
    }
    for (std::size_t k = from; k-- > to;) {
      a = step_back(tape, k, a, r);
    }
    return concretise(a, r, to);
  }

  static Var<double> zeros(Tape<double>& tape, const Shape& shape) {
    Var<double> a = tape.input(shape);
    std::fill_n(a.data(), a.size() * kernels::kLanes, 0.0);
    return a;
  }

  /// The first step of rows that are one value each, in front of affine stage k: rows of its weights, exactly.
  Var<double> first_step(Tape<double>& tape, std::size_t k, const Rows& rows, kernels::RowBounds& r) const {
    const Stage& s = stage(k);
    const AffineStage& affine = s.affine;
    const double* w = affine.weight->value().data();
    const Shape& shape = affine.weight->shape();
    Var<double> a = zeros(tape, s.in);
    for (std::size_t lane = 0; lane < rows.size(); ++lane) {
      const std::int64_t i = std::max(rows[lane].plus, rows[lane].minus);
      const double sign = rows[lane].plus >= 0 ? 1 : -1;
      const std::int64_t positions = s.out.numel() / shape[0];
      const std::int64_t o = i / positions;
      r.constant[lane] = sign * affine.bias[index(o)];
      r.magnitude[lane] = std::abs(affine.bias[index(o)]);
      r.error[lane] = errors_[k][index(i)];
      const auto set = [&](std::int64_t at, double value) { a.data()[index(at) * rows.size() + lane] = sign * value; };
      if (affine.matrix) {
        for (std::int64_t j = 0; j < shape[1]; ++j) {
          set(j, w[o * shape[1] + j]);
        }
        continue;
      }
      const ConvOptions& c = affine.options;
      const std::int64_t channels = shape[1];
      const std::int64_t first = o / (shape[0] / c.groups) * channels;
      for (std::int64_t t = 0; t < channels * shape[2] * shape[3]; ++t) {
        const std::int64_t y = i % positions / s.out[2] * c.stride - c.padding + t / shape[3] % shape[2] * c.dilation;
        const std::int64_t x = i % positions % s.out[2] * c.stride - c.padding + t % shape[3] * c.dilation;
        if (y >= 0 && y < s.in[1] && x >= 0 && x < s.in[2]) {
          set(((first + t / (shape[2] * shape[3])) * s.in[1] + y) * s.in[2] + x,
              w[o * channels * shape[2] * shape[3] + t]);
        }
      }
    }
    return a;
  }

  /// Functions of the values behind stage k as functions of those in front of it.
  Var<double> step_back(Tape<double>& tape, std::size_t k, Var<double> a, kernels::RowBounds& r) const {
    const Stage& s = stage(k);
    const std::int64_t n = s.out.numel();
    switch (s.kind) {
      case Stage::Kind::affine: {
        const AffineStage& affine = s.affine;
        const auto channels = static_cast<std::int64_t>(affine.bias.size());
        kernels::run([&](auto isa) {
          rows_bias<double>(isa, a.data(), n, n / channels, affine.bias.data(), errors_[k].data(), r);
        });
        const Var<double> w = tape.parameter(*affine.weight);
        return affine.matrix ? linear_transpose(a, w) : conv_transpose2d(reshape(a, s.out), w, {}, affine.options);
      }
      case Stage::Kind::relu: {
        const Relaxation& x = relaxations_[k];
        kernels::run([&](auto isa) {
          rows_relu<double>(isa, a.data(), n, x.lower.data(), x.upper.data(), x.intercept.data(), x.error.data(), r);
        });
        return a;
      }
      default: {
        const Maxima& m = maxima_[k];
        Var<double> in = zeros(tape, s.in);
        kernels::run([&](auto isa) {
          rows_max_pool<double>(isa, a.data(), n, m.winner.data(), m.exact.data(), m.top.data(), m.error.data(),
                                in.data(), r);
        });
        return in;
      }
    }
  }

  std::array<double, kernels::kLanes> concretise(Var<double> a, const kernels::RowBounds& so_far,
                                                 std::size_t to) const {
    const std::int64_t n = a.size();
    // All sums together have no more terms than this; the slack is also more than all that underflows.
    const double unit = detail::gamma_double(4 * network_.terms() + 100);
    const auto least = [&](const kernels::RowBounds& r, std::size_t lane, double beyond) {
      const double slack = std::fma(r.magnitude[lane], unit, r.error[lane]) + beyond;
      const double bound = next_below(r.constant[lane] - std::fma(slack, 1 + 0x1p-20, 0x1p-400));
      return std::isfinite(bound) ? bound : std::numeric_limits<double>::lowest();
    };
    std::array<double, kernels::kLanes> out;
    kernels::RowBounds box = so_far;
    kernels::run(
        [&](auto isa) { rows_box<double>(isa, a.data(), n, boxes_[to].low.data(), boxes_[to].high.data(), box); });
    for (std::size_t lane = 0; lane < out.size(); ++lane) {
      out[lane] = least(box, lane, 0);
    }
    if (to == 0 && threat_.norm != attack::Norm::linf) {
      kernels::RowBounds ball = so_far;
      alignas(64) double squares[kernels::kLanes];
      alignas(64) double largest[kernels::kLanes];
      kernels::run([&](auto isa) {
        rows_box<double>(isa, a.data(), n, image_.data(), image_.data(), ball);
        rows_norms<double>(isa, a.data(), n, squares, largest);
      });
      for (std::size_t lane = 0; lane < out.size(); ++lane) {
        const double dual = threat_.norm == attack::Norm::l2
                                ? std::fma(std::sqrt(squares[lane]), 1 + detail::gamma_double(n + 4), 0x1p-500)
                                : largest[lane];
        out[lane] = std::max(out[lane], least(ball, lane, next_above(threat_.epsilon * dual)));
      }
    }
    return out;
  }

  const Network& network_;
  attack::Threat threat_;
  Propagation method_;
  std::vector<double> image_;
  std::vector<Box> boxes_;
  std::vector<std::vector<double>> errors_;  ///< E of each affine stage
  std::vector<Relaxation> relaxations_;
  std::vector<Maxima> maxima_;
  bool finite_ = true;
};

}  // namespace pavise::certify
