// SPDX-License-Identifier: MIT
#pragma once

#include <array>
#include <cmath>

#include "cuda/support.hpp"

namespace cuda_checks {

constexpr std::int64_t kImages = 45;  ///< two groups on a GPU, the last one not full

/// Numbers with the special ones among them: zeros of both signs, infinities, NaN, huge and tiny ones.
inline Rows special_numbers(std::int64_t n, std::uint32_t what, float low, float high) {
  Rows out = numbers(n, what, low, high);
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  const std::array special = {0.0f,   -0.0f, kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN(),
                              1e-42f, 3e38f, -3e38f,    1e-30f};
  for (std::size_t i = 0; i < out.size(); i += 13) {
    out[i] = special[i / 13 % special.size()];
  }
  return out;
}

inline std::vector<std::int32_t> labels(std::int64_t images, std::int64_t classes, std::uint32_t what) {
  pavise::RandomSequence random({.purpose = pavise::Purpose::test, .image = what});
  std::vector<std::int32_t> out(static_cast<std::size_t>(images));
  for (auto& l : out) {
    l = static_cast<std::int32_t>(random.below(static_cast<std::uint32_t>(classes)));
  }
  return out;
}

/// Labels in both layouts.
struct Labels {
  std::vector<std::int32_t> host;
  OnDevice<std::int32_t> device;
  Labels(const Table& t, std::int64_t images, std::int64_t classes, std::uint32_t what)
      : host(to_lanes(labels(images, classes, what), images, 1, 16)),
        device(t, to_lanes(labels(images, classes, what), images, 1, 32)) {}
  const std::int32_t* at(std::int64_t group) const { return host.data() + group * 16; }
};

inline void check_losses(Report& report, const Table& t) {
  for (const std::int64_t classes : {1, 2, 10, 37}) {
    const Labels label(t, kImages, classes, 1);
    const Labels target(t, kImages, classes, 2);
    for (const float smoothing : {0.0f, 0.1f}) {
      compare_lanes(
          report, t, pavise::concat("cross_entropy of ", classes), kImages,
          {{numbers(kImages * classes, 1, -9.0f, 9.0f), classes},
           {numbers(kImages, 2), 1},
           {numbers(kImages * (classes + 2), 3), classes + 2},
           {numbers(kImages, 4), 1},
           {numbers(kImages * classes, 5), classes},
           {numbers(kImages * classes, 6), classes}},
          [&](const std::vector<float*>& a, std::int64_t g) {
            kernels::run_light([&](auto isa) {
              cross_entropy_forward<float>(isa, a[0], label.at(g), a[1], a[2], classes, smoothing, 0.7f, 16);
              cross_entropy_backward<float>(isa, a[2], label.at(g), a[3], a[4], classes, smoothing, 0.7f, false, 16);
              cross_entropy_backward<float>(isa, a[2], label.at(g), a[3], a[5], classes, smoothing, 0.7f, true, 16);
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            const std::int32_t* l = label.device.get();
            t.cross_entropy_forward(nullptr, a[0], l, a[1], a[2], classes, smoothing, 0.7f, groups);
            t.cross_entropy_backward(nullptr, a[2], l, a[3], a[4], classes, smoothing, 0.7f, false, groups);
            t.cross_entropy_backward(nullptr, a[2], l, a[3], a[5], classes, smoothing, 0.7f, true, groups);
          });
    }
    // Losses whose gradient has few entries, with and without targets, and what spreads those.
    for (const int kind : {0, 1, 2}) {
      if (kind > 0 && classes < 4) {
        continue;
      }
      std::vector<std::int32_t> host_index(static_cast<std::size_t>(groups_of(kImages, 16) * 5 * 16));
      const OnDevice<std::int32_t> index(t, static_cast<std::size_t>(groups_of(kImages, 32) * 5 * 32));
      compare_lanes(
          report, t, pavise::concat(kind == 0 ? "margin of " : "dlr of ", classes), kImages,
          {{numbers(kImages * classes, 1, -9.0f, 9.0f), classes},
           {numbers(kImages, 2), 1},
           {numbers(kImages * 5, 3), 5},
           {numbers(kImages, 4), 1},
           {numbers(kImages * classes, 5), classes}},
          [&](const std::vector<float*>& a, std::int64_t g) {
            kernels::run_light([&](auto isa) {
              std::int32_t* where = host_index.data() + g * 5 * 16;
              if (kind == 0) {
                margin_forward<float>(isa, a[0], label.at(g), a[1], where, a[2], classes, 1.0f, -1.0f, 2.0f, 16);
              } else {
                dlr_forward<float>(isa, a[0], label.at(g), kind == 2 ? target.at(g) : nullptr, a[1], where, a[2],
                                   classes, 16);
              }
              sparse_backward<float>(isa, where, a[2], a[3], a[4], classes, true, 16);
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            if (kind == 0) {
              t.margin_forward(nullptr, a[0], label.device.get(), a[1], index.get(), a[2], classes, 1.0f, -1.0f, 2.0f,
                               groups);
            } else {
              t.dlr_forward(nullptr, a[0], label.device.get(), kind == 2 ? target.device.get() : nullptr, a[1],
                            index.get(), a[2], classes, groups);
            }
            t.sparse_backward(nullptr, index.get(), a[2], a[3], a[4], classes, true, groups);
          });
    }
    // The largest class, also among NaN and ties.
    for (const bool votes : {false, true}) {
      const std::string what = votes ? "vote" : "argmax";
      std::vector<std::int32_t> host_best(static_cast<std::size_t>(groups_of(kImages, 16) * 16));
      const OnDevice<std::int32_t> best(t, static_cast<std::size_t>(groups_of(kImages, 32) * 32));
      compare_lanes(
          report, t, what, kImages, {{special_numbers(kImages * classes, 1, -2.0f, 2.0f), classes}},
          [&](const std::vector<float*>& a, std::int64_t g) {
            std::int32_t* out = host_best.data() + g * 16;
            kernels::run_light([&](auto isa) {
              votes ? vote<float>(isa, a[0], out, classes, 16) : argmax<float>(isa, a[0], out, classes, 16);
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            (votes ? t.vote : t.argmax)(nullptr, a[0], best.get(), classes, groups);
          });
      const auto got = from_lanes(best.values().data(), kImages, 1, 32);
      const auto expected = from_lanes(host_best.data(), kImages, 1, 16);
      report.equal(pavise::concat(what, " of ", classes), got == expected, true);
    }
  }
}

inline void check_softmax(Report& report, const Table& t) {
  for (const std::int64_t classes : {1, 10}) {
    for (const std::int64_t inner : {1, 3}) {
      const std::int64_t n = classes * inner;
      const auto both = [&](auto log) {
        constexpr bool kLog = log();
        compare_lanes(
            report, t, pavise::concat(kLog ? "log_softmax " : "softmax ", classes, "x", inner), kImages,
            {{numbers(kImages * n, 1, -9.0f, 9.0f), n},
             {numbers(kImages * n, 2), n},
             {numbers(kImages * n, 3), n},
             {numbers(kImages * n, 4), n}},
            [&](const std::vector<float*>& a, std::int64_t) {
              kernels::run_light([&](auto isa) {
                softmax_forward<kLog, float>(isa, a[0], a[1], classes, inner, 0.5f, 16);
                softmax_backward<kLog, float>(isa, a[1], a[2], a[3], classes, inner, 0.5f, true, 16);
              });
            },
            [&](const std::vector<float*>& a, std::int64_t groups) {
              t.softmax_forward(nullptr, kLog, a[0], a[1], classes, inner, 0.5f, groups);
              t.softmax_backward(nullptr, kLog, a[1], a[2], a[3], classes, inner, 0.5f, true, groups);
            });
      };
      both(std::true_type{});
      both(std::false_type{});
    }
  }
}

/// Names of the images' random sequences in both layouts.
struct Keys {
  std::vector<std::uint32_t> image, restart, image16, restart16;
  OnDevice<std::uint32_t> device_image, device_restart;
  kernels::LaneKeys base{.seed = 0x123456789ABCull, .purpose = 5, .iteration = 3, .image = nullptr, .restart = nullptr};

  static std::vector<std::uint32_t> ramp(std::int64_t images, std::uint32_t first, std::uint32_t step) {
    std::vector<std::uint32_t> out(static_cast<std::size_t>(images));
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = first + step * static_cast<std::uint32_t>(i);
    }
    return out;
  }
  Keys(const Table& t, std::int64_t images)
      : image(ramp(images, 1000, 7)),
        restart(ramp(images, 0, 1)),
        image16(to_lanes(image, images, 1, 16)),
        restart16(to_lanes(restart, images, 1, 16)),
        device_image(t, to_lanes(image, images, 1, 32)),
        device_restart(t, to_lanes(restart, images, 1, 32)) {}
  kernels::LaneKeys host(std::int64_t group) const {
    auto keys = base;
    keys.image = image16.data() + group * 16;
    keys.restart = restart16.data() + group * 16;
    return keys;
  }
  kernels::LaneKeys device() const {
    auto keys = base;
    keys.image = device_image.get();
    keys.restart = device_restart.get();
    return keys;
  }
};

inline void check_random(Report& report, const Table& t) {
  const Keys keys(t, kImages);
  for (const std::int64_t n : {1, 4, 9, 35}) {
    compare_lanes(
        report, t, pavise::concat("random ", n), kImages,
        {{numbers(kImages * n, 1), n},
         {numbers(kImages * n, 2), n},
         {numbers(kImages * n, 3), n},
         {numbers(kImages * n, 4), n}},
        [&](const std::vector<float*>& a, std::int64_t g) {
          kernels::run_light([&](auto isa) {
            random_uniform<float>(isa, a[0], n, 16, keys.host(g));
            random_normal<float>(isa, a[1], n, 16, keys.host(g));
            random_normal<float>(isa, a[3], n, 16, keys.host(g));
            scale_values<float>(isa, a[3], n * 16, 0.25f);
            add_values<float>(isa, a[2], a[3], a[3], n * 16, false);
          });
        },
        [&](const std::vector<float*>& a, std::int64_t groups) {
          t.random_lanes(nullptr, kernels::Distribution::uniform, a[0], n, groups, keys.device());
          t.random_lanes(nullptr, kernels::Distribution::normal, a[1], n, groups, keys.device());
          t.add_noise(nullptr, a[2], n * 32, 0.25f, a[3], n, groups, keys.device());
        });
    for (const int norm : {0, 2}) {
      const kernels::cuda::AttackStep step{norm, 0.0f, 0.3f, 0.0f, 1.0f};
      const OnDevice<float> draws(t, static_cast<std::size_t>(groups_of(kImages, 32) * (n + 2) * 32));
      compare_lanes(
          report, t, pavise::concat("random start ", norm, " of ", n), kImages,
          {{numbers(kImages * n, 1), n}, {numbers(kImages * n, 2, 0.0f, 1.0f), n}},
          [&](const std::vector<float*>& a, std::int64_t g) {
            kernels::run_light([&](auto isa) {
              pavise::AlignedVector<float> x(static_cast<std::size_t>((n + 2) * 16));
              if (norm == 0) {
                random_uniform<float>(isa, x.data(), n, 16, keys.host(g));
                linf_start<float>(isa, x.data(), a[1], n, 16, step.epsilon, step.low, step.high);
              } else {
                random_normal<float>(isa, x.data(), n + 2, 16, keys.host(g));
                l2_start<float>(isa, x.data(), a[1], n, 16, step.epsilon, step.low, step.high);
              }
              std::copy_n(x.begin(), n * 16, a[0]);
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            t.random_start(nullptr, a[0], a[1], n, groups, step, keys.device(), draws.get());
            t.synchronize(nullptr);
          });
    }
  }
}

template <kernels::Unary F>
void compare_unary(Report& report, const Table& t) {
  constexpr bool kPositive = F == kernels::Unary::log || F == kernels::Unary::sqrt || F == kernels::Unary::reciprocal;
  const std::int64_t n = 35;
  const float a = 0.3f;
  const float b = 0.6f;
  const Rows x = kPositive ? numbers(kImages * n, 1, 0.01f, 9.0f) : special_numbers(kImages * n, 1, -9.0f, 9.0f);
  compare_lanes(
      report, t, pavise::concat("unary ", static_cast<int>(F)), kImages,
      {{x, n},
       {numbers(kImages * n, 2), n},
       {numbers(kImages * n, 3), n},
       {numbers(kImages * n, 4), n},
       {numbers(kImages * n, 5), n}},
      [&](const std::vector<float*>& p, std::int64_t) {
        kernels::run_light([&](auto isa) {
          unary_forward<F, float>(isa, p[0], p[1], n * 16, a, b);
          unary_backward<F, float>(isa, p[0], p[1], p[2], p[3], n * 16, a, b, false);
          unary_backward<F, float>(isa, p[0], p[1], p[2], p[4], n * 16, a, b, true);
        });
      },
      [&](const std::vector<float*>& p, std::int64_t groups) {
        t.unary_forward(nullptr, F, p[0], p[1], n * 32 * groups, a, b);
        t.unary_backward(nullptr, F, p[0], p[1], p[2], p[3], n * 32 * groups, a, b, false);
        t.unary_backward(nullptr, F, p[0], p[1], p[2], p[4], n * 32 * groups, a, b, true);
      });
}

template <int... F>
void compare_all_unary(Report& report, const Table& t, std::integer_sequence<int, F...>) {
  (compare_unary<static_cast<kernels::Unary>(F)>(report, t), ...);
}

template <kernels::Binary F>
void compare_binary(Report& report, const Table& t) {
  const std::int64_t n = 12;
  compare_lanes(
      report, t, pavise::concat("binary ", static_cast<int>(F)), kImages,
      {{special_numbers(kImages * n, 1, -2.0f, 2.0f), n},
       {numbers(kImages * n, 2, 0.5f, 2.0f), n},
       {numbers(kImages * n, 3), n},
       {numbers(kImages * n, 4), n},
       {numbers(kImages * n, 5), n},
       {numbers(kImages * n, 6), n}},
      [&](const std::vector<float*>& a, std::int64_t) {
        kernels::run_light([&](auto isa) {
          binary_forward_contiguous<F, float>(isa, a[0], a[1], a[2], n * 16);
          binary_backward_contiguous<F, 1, float>(isa, a[0], a[1], a[3], a[4], n * 16, false);
          binary_backward_contiguous<F, 2, float>(isa, a[0], a[1], a[3], a[5], n * 16, true);
        });
      },
      [&](const std::vector<float*>& a, std::int64_t groups) {
        kernels::StridedLoop loop;
        loop.push(3, 4, 4, 4);
        loop.push(4, 1, 1, 1);
        t.binary_forward(nullptr, F, loop, a[0], n * 32, a[1], n * 32, a[2], groups);
        t.binary_backward(nullptr, F, 1, a[0], a[1], a[3], a[4], n * 32 * groups, false);
        t.binary_backward(nullptr, F, 2, a[0], a[1], a[3], a[5], n * 32 * groups, true);
      });
  // (3,4) with (4), and with a shared (3,1).
  kernels::StridedLoop loop;
  loop.push(3, 4, 4, 0);
  loop.push(4, 1, 1, 1);
  kernels::StridedLoop shared_loop;
  shared_loop.push(3, 4, 4, 1);
  shared_loop.push(4, 1, 1, 0);
  const Rows shared = numbers(3, 7, 0.5f, 2.0f);
  const OnDevice<float> device_shared(t, shared);
  compare_lanes(
      report, t, pavise::concat("broadcast binary ", static_cast<int>(F)), kImages,
      {{numbers(kImages * n, 1), n},
       {numbers(kImages * 4, 2, 0.5f, 2.0f), 4},
       {numbers(kImages * n, 3), n},
       {numbers(kImages * n, 4), n}},
      [&](const std::vector<float*>& a, std::int64_t) {
        kernels::run_light([&](auto isa) {
          binary_forward<F, float>(isa, loop, a[0], false, a[1], false, a[2], 16);
          binary_forward<F, float>(isa, shared_loop, a[0], false, shared.data(), true, a[3], 16);
        });
      },
      [&](const std::vector<float*>& a, std::int64_t groups) {
        t.binary_forward(nullptr, F, loop, a[0], n * 32, a[1], 4 * 32, a[2], groups);
        t.binary_forward(nullptr, F, shared_loop, a[0], n * 32, device_shared.get(), 0, a[3], groups);
      });
}

inline void check_elementwise(Report& report, const Table& t) {
  compare_all_unary(report, t, std::make_integer_sequence<int, static_cast<int>(kernels::Unary::affine) + 1>{});
  compare_binary<kernels::Binary::add>(report, t);
  compare_binary<kernels::Binary::sub>(report, t);
  compare_binary<kernels::Binary::mul>(report, t);
  compare_binary<kernels::Binary::div>(report, t);
  compare_binary<kernels::Binary::maximum>(report, t);
  compare_binary<kernels::Binary::minimum>(report, t);
  const std::int64_t n = 5;
  compare_lanes(
      report, t, "residual", kImages,
      {{special_numbers(kImages * n, 1, -1.0f, 1.0f), n},
       {numbers(kImages * n, 2), n},
       {numbers(kImages * n, 3), n},
       {numbers(kImages * n, 4), n},
       {numbers(kImages * n, 5), n}},
      [&](const std::vector<float*>& a, std::int64_t) {
        kernels::run_light([&](auto isa) {
          add_values<float>(isa, a[0], a[1], a[2], n * 16, true);
          pass_gradient<float>(isa, a[1], a[3], n * 16, true, a[0]);
          pass_gradient<float>(isa, a[1], a[4], n * 16, false, nullptr);
        });
      },
      [&](const std::vector<float*>& a, std::int64_t groups) {
        t.add_values(nullptr, a[0], a[1], a[2], n * 32 * groups, true);
        t.pass_gradient(nullptr, a[1], a[3], n * 32 * groups, true, a[0]);
        t.pass_gradient(nullptr, a[1], a[4], n * 32 * groups, false, nullptr);
      });
}

inline void check_pools(Report& report, const Table& t) {
  for (kernels::ConvGeometry g :
       {geometry(3, 6, 8, 3, 2, 2, 0, 1, 1), geometry(2, 7, 5, 2, 3, 2, 1, 1, 1), geometry(1, 1, 1, 1, 1, 1, 0, 1, 1),
        geometry(2, 9, 9, 2, 3, 1, 1, 2, 1), geometry(5, 4, 4, 5, 4, 4, 0, 1, 1)}) {
    const std::int64_t in = g.in_channels * g.in_height * g.in_width;
    const std::int64_t out = g.in_channels * g.out_height * g.out_width;
    for (const int form : {0, 1, 2}) {
      const bool accumulate = form == 1;
      compare_lanes(
          report, t, "pooling " + name_of(g), kImages,
          {{form == 0 ? special_numbers(kImages * in, 1, -1.0f, 1.0f) : numbers(kImages * in, 1), in},
           {numbers(kImages * out, 2), out},
           {numbers(kImages * out, 3), out},
           {numbers(kImages * in, 4), in},
           {numbers(kImages * out, 5), out},
           {numbers(kImages * in, 6), in}},
          [&](const std::vector<float*>& a, std::int64_t) {
            const float* mask = form == 2 ? a[0] : nullptr;
            kernels::run_light([&](auto isa) {
              max_pool<float>(isa, g, a[0], a[1], 16);
              max_pool_backward<float>(isa, g, a[0], a[1], a[2], a[3], accumulate, mask, 16);
              avg_pool<float>(isa, g, form == 1, a[0], a[4], 16);
              avg_pool_backward<float>(isa, g, form == 1, a[2], a[5], accumulate, mask, 16);
            });
          },
          [&](const std::vector<float*>& a, std::int64_t groups) {
            const float* mask = form == 2 ? a[0] : nullptr;
            t.max_pool(nullptr, g, a[0], a[1], groups);
            t.max_pool_backward(nullptr, g, a[0], a[1], a[2], a[3], accumulate, mask, groups);
            t.avg_pool(nullptr, g, form == 1, a[0], a[4], groups);
            t.avg_pool_backward(nullptr, g, form == 1, a[2], a[5], accumulate, mask, groups);
          });
    }
  }
}

inline void check_optimizers(Report& report, const Table& t) {
  const std::int64_t n = 16 * 13;  // as ParameterStore pads it
  const Rows value = numbers(n, 1);
  const Rows gradient = numbers(n, 2);
  const OnDevice<float> g(t, gradient);
  for (const int kind : {0, 1, 2, 3}) {
    pavise::AlignedVector<float> w(value.begin(), value.end());
    pavise::AlignedVector<float> m(static_cast<std::size_t>(n), 0.0f);
    pavise::AlignedVector<float> v(static_cast<std::size_t>(n), 0.0f);
    const OnDevice<float> dw(t, value);
    const OnDevice<float> dm(t, Rows(static_cast<std::size_t>(n)));
    const OnDevice<float> dv(t, Rows(static_cast<std::size_t>(n)));
    for (int step = 0; step < 3; ++step) {
      kernels::run_light([&](auto isa) {
        if (kind == 3) {
          adam_update<float>(isa, w.data(), gradient.data(), m.data(), v.data(), n, 0.01f, 1.5f, 0.1f, 0.001f, 1e-8f,
                             0.01f, 0.99f, 0.25f);
        } else {
          sgd_update<float>(isa, w.data(), gradient.data(), kind == 0 ? nullptr : m.data(), n, 0.1f, 0.9f, 5e-4f, 0.25f,
                            kind == 2);
        }
      });
      if (kind == 3) {
        t.adam_update(nullptr, dw.get(), g.get(), dm.get(), dv.get(), n,
                      {0.01f, 1.5f, 0.1f, 0.001f, 1e-8f, 0.01f, 0.99f, 0.25f});
      } else {
        t.sgd_update(nullptr, dw.get(), g.get(), kind == 0 ? nullptr : dm.get(), n,
                     {0.1f, 0.9f, 5e-4f, 0.25f, kind == 2});
      }
    }
    report.equal(pavise::concat("optimizer ", kind), dw.values().data(), w.data(), n);
    report.equal(pavise::concat("optimizer ", kind, " first"), dm.values().data(), m.data(), n);
    report.equal(pavise::concat("optimizer ", kind, " second"), dv.values().data(), v.data(), n);
  }
}

inline void check_counts(Report& report, const Table& t) {
  for (const std::int64_t images : {1, 45, 700}) {
    const auto a = labels(images, 5, 1);
    const auto b = labels(images, 5, 2);
    std::uint32_t equal = 0;
    std::vector<std::uint32_t> votes(5);
    for (std::size_t i = 0; i < a.size(); ++i) {
      equal += a[i] == b[i] ? 1 : 0;
      ++votes[static_cast<std::size_t>(a[i])];
    }
    const OnDevice<std::int32_t> da(t, to_lanes(a, images, 1, 32));
    const OnDevice<std::int32_t> db(t, to_lanes(b, images, 1, 32));
    const OnDevice<std::uint32_t> count(t, std::vector<std::uint32_t>(1));
    const OnDevice<std::uint32_t> vote(t, std::vector<std::uint32_t>(5));
    t.count_equal(nullptr, da.get(), db.get(), images, count.get());
    t.count_votes(nullptr, da.get(), images, vote.get());
    report.equal(pavise::concat("count_equal of ", images), count.values()[0], equal);
    report.equal(pavise::concat("count_votes of ", images), vote.values() == votes, true);
    const std::int64_t groups = groups_of(images, 32);
    const OnDevice<float> seed(t, static_cast<std::size_t>(groups * 32));
    t.seed_gradient(nullptr, seed.get(), images, groups);
    Rows ones(static_cast<std::size_t>(groups * 32));
    std::fill_n(ones.begin(), images, 1.0f);
    report.equal("seed_gradient", seed.values().data(), ones.data(), groups * 32);

    const std::int64_t n = 3;
    const Rows x = numbers(images * n, 1);
    const Rows loss = special_numbers(images, 2, -1.0f, 1.0f);
    Rows best = numbers(images * n, 3);
    Rows best_loss = numbers(images, 4);
    const OnDevice<float> dx(t, to_lanes(x, images, n, 32));
    const OnDevice<float> dl(t, to_lanes(loss, images, 1, 32));
    const OnDevice<float> dbx(t, to_lanes(best, images, n, 32));
    const OnDevice<float> dbl(t, to_lanes(best_loss, images, 1, 32));
    t.keep_best(nullptr, dx.get(), dl.get(), dbx.get(), dbl.get(), n, groups);
    for (std::size_t i = 0; i < loss.size(); ++i) {
      if (loss[i] > best_loss[i] || std::isnan(loss[i])) {
        best_loss[i] = loss[i];
        std::copy_n(x.begin() + static_cast<std::ptrdiff_t>(i) * n, n,
                    best.begin() + static_cast<std::ptrdiff_t>(i) * n);
      }
    }
    report.equal("keep_best", from_lanes(dbx.values().data(), images, n, 32).data(), best.data(), images * n);
    report.equal("keep_best loss", from_lanes(dbl.values().data(), images, 1, 32).data(), best_loss.data(), images);
  }
}

/// Work that a graph holds is done once for each launch.
inline void check_graphs(Report& report, const Table& t) {
  const kernels::cuda::Stream stream = t.make_stream();
  const OnDevice<float> x(t, Rows(64, 1.0f));
  t.begin_graph(stream);
  t.unary_forward(stream, kernels::Unary::affine, x.get(), x.get(), 64, 2.0f, 0.0f);
  const kernels::cuda::Graph graph = t.end_graph(stream);
  for (int i = 0; i < 3; ++i) {
    t.launch_graph(graph, stream);
  }
  t.synchronize(stream);
  report.equal("graph", x.values()[63], 8.0f);
  t.destroy_graph(graph);
  t.destroy_stream(stream);
}

}  // namespace cuda_checks
