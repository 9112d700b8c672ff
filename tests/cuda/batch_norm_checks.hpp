// SPDX-License-Identifier: MIT
// Checks of layers in training mode: normalisation by the batch's statistics, and dropout.
#pragma once

#include <cmath>
#include <span>

#include "cuda/lane_checks.hpp"
#include "cuda/weight_gradient_checks.hpp"
#include "pavise/autodiff/norm.hpp"

namespace cuda_checks {

/// [group][n][lanes] with `value` in the lanes behind the last image.
inline std::vector<float> fill_behind(std::vector<float> values, std::int64_t images, std::int64_t n, int lanes,
                                      float value) {
  for (std::int64_t slot = images; slot < groups_of(images, lanes) * lanes; ++slot) {
    for (std::int64_t e = 0; e < n; ++e) {
      values[static_cast<std::size_t>((slot / lanes * n + e) * lanes + slot % lanes)] = value;
    }
  }
  return values;
}

/// Every difference in units of `size` (of what was added up, at least 1) must be at most `bound`.
inline void check_close(Report& report, const std::string& what, const std::vector<float>& got,
                        const std::vector<double>& expected, const std::vector<double>& size, double bound) {
  std::int64_t wrong = 0;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double difference = std::abs(static_cast<double>(got[i]) - expected[i]) / std::max(1.0, size[i]);
    wrong += difference <= bound ? 0 : 1;  // also where it is NaN
  }
  report.equal(pavise::concat(what, ": values further off than ", bound), wrong, std::int64_t{0});
}
inline void check_close(Report& report, const std::string& what, const std::vector<float>& got,
                        const std::vector<double>& expected, double bound) {
  std::vector<double> size;
  for (const double v : expected) {
    size.push_back(std::abs(v));
  }
  check_close(report, what, got, expected, size, bound);
}

inline std::vector<double> in_double(std::span<const float> values) { return {values.begin(), values.end()}; }

/// A batch of images (channels, positions) and what a normalisation makes of it by the formulas, in double.
struct NormalizedBatch {
  static constexpr double kEpsilon = 1e-5;
  std::int64_t images, channels, positions;
  bool affine;
  Rows x, dy, gamma, beta;
  std::vector<double> mean, variance, inverse, dgamma, dbeta, size_of_dgamma, size_of_dbeta, y, dx;

  NormalizedBatch(std::int64_t images_, std::int64_t channels_, std::int64_t positions_, bool affine_)
      : images(images_),
        channels(channels_),
        positions(positions_),
        affine(affine_),
        x(numbers(images * channels * positions, 1, -1.0f, 3.0f)),
        dy(numbers(images * channels * positions, 2)),
        gamma(affine ? numbers(channels, 3, 0.5f, 2.0f) : Rows(static_cast<std::size_t>(channels), 1.0f)),
        beta(affine ? numbers(channels, 4) : Rows(static_cast<std::size_t>(channels))),
        y(x.size()),
        dx(x.size()) {
    for (std::int64_t c = 0; c < channels; ++c) {
      normalize(c);
    }
  }

  double count() const { return static_cast<double>(images * positions); }
  std::int64_t size() const { return channels * positions; }

 private:
  /// body(index) for the elements of a channel.
  template <class Body>
  void each(std::int64_t c, const Body& body) const {
    for (std::int64_t image = 0; image < images; ++image) {
      for (std::int64_t p = 0; p < positions; ++p) {
        body(static_cast<std::size_t>((image * channels + c) * positions + p));
      }
    }
  }

  void normalize(std::int64_t c) {
    double sum = 0.0, squares = 0.0, sum_dy = 0.0, sum_dy_x = 0.0, size_dy = 0.0, size_dy_x = 0.0;
    each(c, [&](std::size_t i) { sum += static_cast<double>(x[i]); });
    const double m = sum / count();
    const auto from_mean = [&](std::size_t i) { return static_cast<double>(x[i]) - m; };
    each(c, [&](std::size_t i) { squares += from_mean(i) * from_mean(i); });
    const double inv = 1.0 / std::sqrt(squares / count() + kEpsilon);
    each(c, [&](std::size_t i) {
      const double d = static_cast<double>(dy[i]);
      sum_dy += d;
      sum_dy_x += d * from_mean(i) * inv;
      size_dy += std::abs(d);
      size_dy_x += std::abs(d * from_mean(i) * inv);
    });
    const auto k = static_cast<std::size_t>(c);
    const double g = static_cast<double>(gamma[k]);
    each(c, [&](std::size_t i) {
      const double normal = from_mean(i) * inv;
      y[i] = normal * g + static_cast<double>(beta[k]);
      dx[i] = g * inv * (static_cast<double>(dy[i]) - sum_dy / count() - normal * sum_dy_x / count());
    });
    mean.push_back(m);
    variance.push_back(squares / (count() - 1.0));
    inverse.push_back(inv);
    dgamma.push_back(sum_dy_x);
    dbeta.push_back(sum_dy);
    size_of_dgamma.push_back(size_dy_x);
    size_of_dbeta.push_back(size_dy);
  }
};

/// The slices of each sum, in turn, of the groups [0, first) and then of the others.
template <class Sums>
std::vector<float> sum_slices(const Table& t, std::int64_t n, std::int64_t first, std::int64_t groups,
                              const float* partial, const Sums& sums) {
  const OnDevice<float> carry(t, static_cast<std::size_t>(n));
  const OnDevice<float> out(t, static_cast<std::size_t>(n));
  if (first > 0) {
    t.add_slices(nullptr, partial, n, sums(std::int64_t{0}, first), {nullptr, carry.get(), false});
  }
  t.add_slices(nullptr, partial, n, sums(first, groups), {first > 0 ? carry.get() : nullptr, out.get(), false});
  return out.values();
}

/// The sums over the batch, bit for bit; x behind the last image is NaN.
inline void check_channel_sums(Report& report, const Table& t, const NormalizedBatch& b) {
  const std::string what = pavise::concat("channel sums of ", b.images, " images, ", b.positions, " positions");
  const std::int64_t groups = groups_of(b.images, 32);
  const Rows mean = numbers(b.channels, 5);
  Rows sums, squares, sums_dy, products;
  for (std::int64_t c = 0; c < b.channels; ++c) {
    const float m = mean[static_cast<std::size_t>(c)];
    const auto sum = [&](const auto& term) {
      return sum_over_images(b.images, b.positions, [&](std::int64_t image, std::int64_t p, bool valid, float s) {
        return valid ? term(static_cast<std::size_t>((image * b.channels + c) * b.positions + p), s) : s;
      });
    };
    sums.push_back(sum([&](std::size_t i, float s) { return s + b.x[i]; }));
    squares.push_back(sum([&](std::size_t i, float s) { return std::fmaf(b.x[i] - m, b.x[i] - m, s); }));
    sums_dy.push_back(sum([&](std::size_t i, float s) { return s + b.dy[i]; }));
    products.push_back(sum([&](std::size_t i, float s) { return std::fmaf(b.dy[i], b.x[i] - m, s); }));
  }
  Rows gradient_sums = sums_dy;
  gradient_sums.insert(gradient_sums.end(), products.begin(), products.end());

  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const OnDevice<float> x(t, fill_behind(to_lanes(b.x, b.images, b.size(), 32), b.images, b.size(), 32, kNan));
  const OnDevice<float> dy(t, gradient_lanes(b.dy, b.images, b.size()));
  const OnDevice<float> means(t, mean);
  const auto scratch = static_cast<std::size_t>(t.bias_gradient_scratch(b.channels, b.positions, groups));
  const OnDevice<float> partial(t, scratch), two(t, 2 * scratch);
  const std::int64_t step = b.size() * 32;
  const auto add_values = [&](const float* m) {
    return [&, m](std::int64_t first, std::int64_t last) {
      return t.channel_sums(nullptr, b.channels, b.positions, x.get() + first * step, m, partial.get(),
                            b.images - first * 32, last - first);
    };
  };
  const auto add_gradients = [&](std::int64_t first, std::int64_t last) {
    return t.channel_gradient_sums(nullptr, b.channels, b.positions, x.get() + first * step, means.get(),
                                   dy.get() + first * step, two.get(), last - first);
  };
  // All groups at once, and, where there are more, a block of them and then the others: the same bits.
  constexpr std::int64_t kBlock = kernels::cuda::kBlockImages / 32;
  for (std::int64_t first = 0; first < groups; first += kBlock) {
    const std::int64_t c = b.channels;
    report.equal(what, sum_slices(t, c, first, groups, partial.get(), add_values(nullptr)).data(), sums.data(), c);
    report.equal(what + ", squares", sum_slices(t, c, first, groups, partial.get(), add_values(means.get())).data(),
                 squares.data(), c);
    report.equal(what + ", gradient", sum_slices(t, 2 * c, first, groups, two.get(), add_gradients).data(),
                 gradient_sums.data(), 2 * c);
  }
}

/// What follows from the sums of a channel has the bits of the CPU's functions.
inline void check_channel_factors(Report& report, const Table& t, const NormalizedBatch& b) {
  const std::int64_t n = b.channels;
  const double count = b.count();
  const Rows sums = numbers(2 * n, 6, -50.0f, 50.0f);
  const Rows squares = numbers(n, 7, 0.0f, 90.0f);
  const Rows before = numbers(2 * n, 8);
  Rows mean(static_cast<std::size_t>(n)), scale(mean), inverse(mean), variance(mean), factors(3 * mean.size());
  Rows gradients = before;
  for (std::size_t c = 0; c < mean.size(); ++c) {
    kernels::run_light([&](auto isa) {
      const float g = b.affine ? b.gamma[c] : 1.0f;
      const auto sum = [&](std::size_t i) { return static_cast<double>(sums[i]); };
      const double biased = static_cast<double>(squares[c]) / count;
      const double inv = inverse_deviation(isa, biased, NormalizedBatch::kEpsilon);
      mean[c] = static_cast<float>(sum(c) / count);
      inverse[c] = static_cast<float>(inv);
      scale[c] = channel_scale<float>(isa, inv, g);
      variance[c] = static_cast<float>(biased * (count / (count - 1.0)));
      const auto kept = static_cast<double>(inverse[c]);
      add_channel_gradients<float>(isa, sum(c), sum(mean.size() + c), kept, &gradients[c], &gradients[mean.size() + c]);
      batch_norm_factors<float>(isa, sum(c), sum(mean.size() + c), count, kept, static_cast<double>(g), factors[c],
                                factors[mean.size() + c], factors[2 * mean.size() + c]);
    });
  }
  const OnDevice<float> d_sums(t, sums), d_squares(t, squares), d_gamma(t, b.gamma), d_gradients(t, before);
  const OnDevice<float> d_mean(t, mean.size()), d_scale(t, mean.size()), d_inverse(t, mean.size());
  const OnDevice<float> d_variance(t, mean.size()), d_factors(t, 3 * mean.size());
  const float* gamma = b.affine ? d_gamma.get() : nullptr;
  t.batch_norm_mean(nullptr, d_sums.get(), d_mean.get(), n, count);
  t.batch_norm_scale(nullptr, d_squares.get(), gamma, d_scale.get(), d_inverse.get(), d_variance.get(), n, count,
                     NormalizedBatch::kEpsilon);
  // Without a place for them the gradients are left out.
  t.batch_norm_gradients(nullptr, d_sums.get(), d_inverse.get(), gamma, nullptr, nullptr, d_factors.get(), n, count);
  report.equal("batch_norm_gradients without gradients", d_gradients.values().data(), before.data(), 2 * n);
  report.equal("factors of batch_norm_backward", d_factors.values().data(), factors.data(), 3 * n);
  t.batch_norm_gradients(nullptr, d_sums.get(), d_inverse.get(), gamma, d_gradients.get(), d_gradients.get() + n,
                         d_factors.get(), n, count);
  report.equal("batch_norm_gradients", d_gradients.values().data(), gradients.data(), 2 * n);
  report.equal("factors of batch_norm_backward again", d_factors.values().data(), factors.data(), 3 * n);
  report.equal("batch_norm_mean", d_mean.values().data(), mean.data(), n);
  report.equal("batch_norm_scale", d_scale.values().data(), scale.data(), n);
  report.equal("inverse of batch_norm_scale", d_inverse.values().data(), inverse.data(), n);
  report.equal("variance of batch_norm_scale", d_variance.values().data(), variance.data(), n);
}

/// batch_norm_backward: the CPU's bits with and without mask and what is there already, and 0 behind the last image,
/// where x and the mask are NaN.
inline void check_batch_norm_backward(Report& report, const Table& t, const NormalizedBatch& b) {
  const Rows mean = numbers(b.channels, 10);
  const Rows factors = numbers(3 * b.channels, 11);
  const OnDevice<float> d_mean(t, mean), d_factors(t, factors);
  const std::int64_t n = b.size();
  const std::int64_t groups = groups_of(b.images, 32);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (const int form : {0, 1, 2, 3}) {
    const bool accumulate = form % 2 == 1;
    const bool masked = form / 2 == 1;
    const std::string what = pavise::concat("batch_norm_backward of ", b.images, " images, ", b.positions, " positions",
                                            accumulate ? ", added" : "", masked ? ", masked" : "");
    const Rows mask = numbers(b.images * n, 12);
    const Rows before = numbers(b.images * n, 13);
    compare_lanes(
        report, t, what, b.images, {{b.x, n}, {b.dy, n}, {mask, n}, {before, n}},
        [&](const std::vector<float*>& a, std::int64_t g) {
          kernels::run_light([&](auto isa) {
            for (std::int64_t c = 0; c < b.channels; ++c) {
              const std::int64_t at = c * b.positions * 16;
              const auto factor = [&](std::int64_t row) {
                return factors[static_cast<std::size_t>(row * b.channels + c)];
              };
              channel_backward<float>(isa, a[0] + at, a[1] + at, a[3] + at, b.positions,
                                      mean[static_cast<std::size_t>(c)], factor(0), factor(1), factor(2), accumulate,
                                      masked ? a[2] + at : nullptr, b.images - g * 16, 16);
            }
          });
        },
        [&](const std::vector<float*>& a, std::int64_t all) {
          t.batch_norm_backward(nullptr, a[0], a[1], a[3], b.channels, b.positions, d_mean.get(), d_factors.get(),
                                accumulate, masked ? a[2] : nullptr, b.images, all);
        });
    const OnDevice<float> x(t, fill_behind(to_lanes(b.x, b.images, n, 32), b.images, n, 32, kNan));
    const OnDevice<float> dy(t, gradient_lanes(b.dy, b.images, n));
    const OnDevice<float> nan_mask(t, fill_behind(to_lanes(mask, b.images, n, 32), b.images, n, 32, kNan));
    const OnDevice<float> dx(t, fill_behind(to_lanes(before, b.images, n, 32), b.images, n, 32, 7.0f));
    t.batch_norm_backward(nullptr, x.get(), dy.get(), dx.get(), b.channels, b.positions, d_mean.get(), d_factors.get(),
                          accumulate, masked ? nan_mask.get() : nullptr, b.images, groups);
    const auto got = dx.values();
    report.equal(what + ", behind the last image", got.data(),
                 fill_behind(got, b.images, n, 32, accumulate ? 7.0f : 0.0f).data(), groups * n * 32);
  }
}

/// A whole layer through the table, forward and backward, against the formulas in double and against the tape.
inline void check_batch_norm_layer(Report& report, const Table& t, const NormalizedBatch& b) {
  const std::string what = pavise::concat("batch_norm of ", b.images, " images, ", b.positions, " positions: ");
  const std::int64_t n = b.channels;
  const std::int64_t groups = groups_of(b.images, 32);
  const auto channels = static_cast<std::size_t>(n);
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  const OnDevice<float> x(t, fill_behind(to_lanes(b.x, b.images, b.size(), 32), b.images, b.size(), 32, kNan));
  const OnDevice<float> dy(t, gradient_lanes(b.dy, b.images, b.size()));
  const OnDevice<float> gamma(t, b.gamma), beta(t, b.beta);
  const float* given = b.affine ? gamma.get() : nullptr;
  const OnDevice<float> y(t, b.x.size() / static_cast<std::size_t>(b.images) * static_cast<std::size_t>(groups * 32));
  const OnDevice<float> dx(t, y.values().size());
  const auto scratch = static_cast<std::size_t>(t.bias_gradient_scratch(n, b.positions, groups));
  const OnDevice<float> partial(t, 2 * scratch), sums(t, 2 * channels);
  const OnDevice<float> mean(t, channels), scale(t, channels), inverse(t, channels), variance(t, channels);
  const OnDevice<float> factors(t, 3 * channels), dgamma(t, Rows(channels)), dbeta(t, Rows(channels));
  const auto add = [&](std::int64_t count, std::int64_t slices) {
    t.add_slices(nullptr, partial.get(), count, slices, {nullptr, sums.get(), false});
  };
  add(n, t.channel_sums(nullptr, n, b.positions, x.get(), nullptr, partial.get(), b.images, groups));
  t.batch_norm_mean(nullptr, sums.get(), mean.get(), n, b.count());
  add(n, t.channel_sums(nullptr, n, b.positions, x.get(), mean.get(), partial.get(), b.images, groups));
  t.batch_norm_scale(nullptr, sums.get(), given, scale.get(), inverse.get(), variance.get(), n, b.count(),
                     NormalizedBatch::kEpsilon);
  t.channel_affine(nullptr, x.get(), y.get(), n, b.positions, {mean.get(), scale.get(), beta.get()}, false, groups);
  add(2 * n, t.channel_gradient_sums(nullptr, n, b.positions, x.get(), mean.get(), dy.get(), partial.get(), groups));
  t.batch_norm_gradients(nullptr, sums.get(), inverse.get(), given, dgamma.get(), dbeta.get(), factors.get(), n,
                         b.count());
  t.batch_norm_backward(nullptr, x.get(), dy.get(), dx.get(), n, b.positions, mean.get(), factors.get(), false, nullptr,
                        b.images, groups);
  const Rows got_y = from_lanes(y.values().data(), b.images, b.size(), 32);
  const Rows got_dx = from_lanes(dx.values().data(), b.images, b.size(), 32);
  check_close(report, what + "mean", mean.values(), b.mean, 1e-5);
  check_close(report, what + "variance", variance.values(), b.variance, 1e-5);
  check_close(report, what + "inverse", inverse.values(), b.inverse, 1e-5);
  check_close(report, what + "dgamma", dgamma.values(), b.dgamma, b.size_of_dgamma, 1e-5);
  check_close(report, what + "dbeta", dbeta.values(), b.dbeta, b.size_of_dbeta, 1e-5);
  check_close(report, what + "y", got_y, b.y, 1e-5);
  check_close(report, what + "dx", got_dx, b.dx, 1e-5);

  pavise::ParameterStore<float> store;
  auto& p_gamma = store.add("gamma", {n}, [&](auto v, auto, auto) { std::copy_n(b.gamma.begin(), n, v.begin()); });
  auto& p_beta = store.add("beta", {n}, [&](auto v, auto, auto) { std::copy_n(b.beta.begin(), n, v.begin()); });
  auto& running_mean = store.add("running_mean", {n}, {}, false);
  auto& running_var = store.add("running_var", {n}, {}, false);
  store.allocate(0);
  pavise::Tape<float> tape;
  tape.begin(b.images, 16, pavise::Mode::training, true);
  auto in = tape.input({n, b.positions}, true);
  const auto in_lanes = fill_behind(to_lanes(b.x, b.images, b.size(), 16), b.images, b.size(), 16, kNan);
  std::copy(in_lanes.begin(), in_lanes.end(), in.data());
  const auto out = pavise::batch_norm(in, tape.parameter(p_gamma), tape.parameter(p_beta), running_mean, running_var,
                                      {.momentum = 1.0, .epsilon = NormalizedBatch::kEpsilon});
  const auto seed = fill_behind(to_lanes(b.dy, b.images, b.size(), 16), b.images, b.size(), 16, 0.0f);
  tape.backward(out, seed.data());
  constexpr double kBound = 1e-4;
  check_close(report, what + "mean, the tape's", mean.values(), in_double(running_mean.value()), kBound);
  check_close(report, what + "variance, the tape's", variance.values(), in_double(running_var.value()), kBound);
  check_close(report, what + "dgamma, the tape's", dgamma.values(), in_double(p_gamma.gradient()), b.size_of_dgamma,
              kBound);
  check_close(report, what + "dbeta, the tape's", dbeta.values(), in_double(p_beta.gradient()), b.size_of_dbeta,
              kBound);
  check_close(report, what + "y, the tape's", got_y, in_double(from_lanes(out.data(), b.images, b.size(), 16)), kBound);
  check_close(report, what + "dx, the tape's", got_dx,
              in_double(from_lanes(tape.input_gradient(in), b.images, b.size(), 16)), kBound);
}

/// A device's share of a batch may have no images: nothing is read or written.
inline void check_no_groups(Report& report, const Table& t) {
  const Rows values = numbers(64, 1);
  const OnDevice<float> v(t, values);
  const OnDevice<std::uint32_t> keys(t, std::vector<std::uint32_t>(32));
  float* p = v.get();
  const kernels::LaneKeys lane_keys{1, 2, 3, keys.get(), keys.get()};
  report.equal("slices of no images", t.channel_sums(nullptr, 2, 3, p, nullptr, p, 0, 0), std::int64_t{0});
  report.equal("slices of no images", t.channel_sums(nullptr, 2, 3, p, p, p, 0, 0), std::int64_t{0});
  report.equal("slices of no images", t.channel_gradient_sums(nullptr, 2, 3, p, p, p, p, 0), std::int64_t{0});
  report.equal("slices of no images", t.bias_gradient(nullptr, 2, 3, p, p, 0), std::int64_t{0});
  report.equal("slices of no images", t.linear_weight_gradient(nullptr, 2, 3, p, p, p, 0), std::int64_t{0});
  t.add_slices(nullptr, p, 2, 0, {nullptr, p, false});
  t.batch_norm_backward(nullptr, p, p, p, 2, 3, p, p, false, nullptr, 0, 0);
  t.channel_affine(nullptr, p, p, 2, 3, {p, p, p}, false, 0);
  t.channel_backward(nullptr, p, p, 2, 3, p, false, nullptr, 0, 0);
  t.dropout(nullptr, p, p, 5, 0, 1 << 23, 2.0f, lane_keys, false, nullptr);
  t.random_lanes(nullptr, kernels::Distribution::normal, p, 5, 0, lane_keys);
  t.attack_step(nullptr, p, p, p, 5, 0, {2, 0.1f, 1.0f, 0.0f, 1.0f});
  t.seed_gradient(nullptr, p, 0, 0);
  t.count_votes(nullptr, nullptr, 0, keys.get());
  t.change_lanes(nullptr, p, 1, p, 32, 5, 0);
  t.add_values(nullptr, p, p, p, 0, true);
  t.max_pool(nullptr, geometry(1, 2, 2, 1, 2, 2, 0, 1, 1), p, p, 0);
  // Work without images is not recorded either.
  const kernels::cuda::Stream stream = t.make_stream();
  t.begin_graph(stream);
  t.dropout(stream, p, p, 5, 0, 1 << 23, 2.0f, lane_keys, false, nullptr);
  t.unary_forward(stream, kernels::Unary::affine, p, p, 64, 2.0f, 0.0f);
  const kernels::cuda::Graph graph = t.end_graph(stream);
  report.equal("no images", v.values().data(), values.data(), 64);
  t.launch_graph(graph, stream);
  t.synchronize(stream);
  report.equal("a graph with work without images", v.values()[0], 2.0f * values[0]);
  t.destroy_graph(graph);
  t.destroy_stream(stream);
}

inline void check_batch_norm(Report& report, const Table& t) {
  bool affine = false;
  for (const std::int64_t positions : {1, 5, 40, 70}) {
    for (const std::int64_t images : {1, 33, 45, 300}) {
      affine = !affine;
      const NormalizedBatch b(images, positions == 70 ? 2 : 3, positions, affine);
      check_channel_sums(report, t, b);
      if (images * positions > 1) {
        check_channel_factors(report, t, b);
        check_batch_norm_layer(report, t, b);
      }
      if (images < 300) {
        check_batch_norm_backward(report, t, b);
      }
    }
  }
  check_no_groups(report, t);
}

inline void check_dropout(Report& report, const Table& t) {
  struct Case {
    std::int64_t images, n;
    double rate;
    std::uint32_t layer, iteration;
    std::uint64_t seed;
  };
  constexpr std::int64_t kMostImages = 70;
  std::vector<std::uint32_t> names;
  for (std::uint32_t i = 0; i < kMostImages; ++i) {
    names.push_back(i * 2654435761u % 60000u);
  }
  for (const Case& c :
       {Case{1, 1, 0.5, 0, 0, 0}, Case{45, 7, 0.25, 3, 11, 1}, Case{33, 8, 0.5, 2, 1, 0x123456789ABCull},
        Case{kMostImages, 29, 0.875, 65535, 4000000000u, 5}, Case{16, 64, 0x1p-24, 1, 2, 3}}) {
    const std::vector<std::uint32_t> images(names.begin(), names.begin() + c.images);
    const auto host_images = to_lanes(images, c.images, 1, 16);
    const std::vector<std::uint32_t> host_layers(host_images.size(), c.layer);
    const OnDevice<std::uint32_t> device_images(t, to_lanes(images, c.images, 1, 32));
    const OnDevice<std::uint32_t> device_layers(t, std::vector<std::uint32_t>(device_images.values().size(), c.layer));
    const auto purpose = static_cast<std::uint32_t>(pavise::Purpose::dropout);
    const auto threshold = static_cast<std::int32_t>(c.rate * 0x1p24);
    const auto scale = static_cast<float>(1.0 / (1.0 - c.rate));
    for (const int form : {0, 1, 2, 3}) {  // forward, and what backward may ask for
      const bool accumulate = form % 2 == 1;
      const bool masked = form / 2 == 1;
      compare_lanes(
          report, t,
          pavise::concat("dropout ", c.rate, " of ", c.images, " images of ", c.n, accumulate ? ", added" : "",
                         masked ? ", masked" : ""),
          c.images,
          {{special_numbers(c.images * c.n, 1, -1.0f, 1.0f), c.n},
           {numbers(c.images * c.n, 2), c.n},
           {special_numbers(c.images * c.n, 3, -1.0f, 1.0f), c.n}},
          [&](const std::vector<float*>& a, std::int64_t g) {
            const kernels::LaneKeys keys{c.seed, purpose, c.iteration, host_images.data() + g * 16,
                                         host_layers.data() + g * 16};
            kernels::run_light([&](auto isa) {
              dropout<float>(isa, a[0], a[1], c.n, threshold, scale, keys, accumulate, masked ? a[2] : nullptr, 16);
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            const kernels::LaneKeys keys{c.seed, purpose, c.iteration, device_images.get(), device_layers.get()};
            t.dropout(nullptr, a[0], a[1], c.n, groups, threshold, scale, keys, accumulate, masked ? a[2] : nullptr);
          });
    }
  }
}

}  // namespace cuda_checks
