// SPDX-License-Identifier: MIT
// Filters, steps of attacks and group normalisation on images of kImage. Bytes: what a kernel takes once, and what it
// makes once; what it adds to counts as both.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "measure.hpp"
#include "pavise/defend/filter/catalog.hpp"
#include "pavise/device/functions.hpp"

namespace gpu_bench {

inline constexpr std::int64_t kBatch = 4096;
inline const pavise::Shape kImage{3, 32, 32};
inline constexpr double kFilterBudget = 60.0;  ///< milliseconds a row

namespace traced = pavise::traced;

/// What a filter is made of: its functions, as its trace on one image has them.
struct TracedFunction {
  std::shared_ptr<const traced::Function> what;
  std::int64_t in, out;  ///< elements of one image
};

inline std::vector<TracedFunction> functions_of(const pavise::defend::Filter<float>& filter) {
  pavise::Tape<float> tape;
  tape.begin(1, kernels::kLanes, pavise::Mode::evaluation);
  pavise::Trace<float> trace;
  tape.set_trace(&trace);
  pavise::Var<float> x = tape.input(kImage, true);
  std::fill_n(x.data(), x.size() * kernels::kLanes, 0.0f);
  filter.apply(x);
  std::vector<TracedFunction> out;
  for (const auto& op : trace) {
    if (op.what != nullptr && !std::holds_alternative<traced::Substitute>(*op.what)) {
      out.push_back({op.what, tape.node({&tape, op.inputs[0]}).size, tape.node({&tape, op.output}).size});
    }
  }
  return out;
}

/// The kernel's name behind that of a filter of several.
inline std::string part_name(const traced::Function& what) {
  if (const auto* r = std::get_if<traced::Resample>(&what)) {
    return r->inner == 1 ? " resampled columns" : " resampled rows";
  }
  return std::holds_alternative<traced::Boxes>(what)         ? " boxes"
         : std::holds_alternative<traced::MixChannels>(what) ? " mixed channels"
         : std::holds_alternative<traced::SoftRound>(what)   ? " soft rounding"
                                                             : "";
}

/// Elements that the derivative takes besides that of the result.
inline std::int64_t taken_back(const TracedFunction& f) {
  if (std::holds_alternative<traced::Median>(*f.what) || std::holds_alternative<traced::Bilateral>(*f.what)) {
    return f.in + f.out;
  }
  return std::holds_alternative<traced::Thermometer>(*f.what) || std::holds_alternative<traced::SoftRound>(*f.what)
             ? f.in
             : 0;
}

inline void time_function(const Bench& b, const pavise::device::Stream& stream, const std::string& name,
                          const TracedFunction& f) {
  const std::int64_t groups = cuda_checks::groups_of(kBatch, 32);
  Noise noise(b, groups);
  const auto x = noise.uniform(f.in, groups);
  const auto dx = noise.uniform(f.in, groups);
  const auto y = noise.uniform(f.out, groups);
  const auto dy = noise.uniform(f.out, groups);
  const pavise::device::Array<std::uint32_t> ids(stream, groups * 32);
  std::vector<std::uint32_t> names(static_cast<std::size_t>(kBatch));
  for (std::size_t i = 0; i < names.size(); ++i) {
    names[i] = static_cast<std::uint32_t>(i);
  }
  const auto key = pavise::device::make_draw_key(ids, names.data(), kBatch, 1, 0);
  const auto function = pavise::device::make_function(stream, *f.what, {f.in, 0}, f.out, groups);
  const pavise::device::FunctionPass pass{{x.get(), nullptr}, y.get(), groups, key};
  const auto bytes = [](std::int64_t elements) { return 4.0 * static_cast<double>(kBatch * elements); };
  const bool boxes = std::holds_alternative<traced::Boxes>(*f.what);  // what it copies
  const bool resizes = std::holds_alternative<traced::ResizePad>(*f.what);
  b.line("filters", name + (resizes ? " forward, drawn on the host" : " forward"),
         b.time([&] { function->forward(stream, pass); }, kFilterBudget), 0,
         bytes((boxes ? std::min(f.in, f.out) : f.in) + f.out));
  const bool straight = dynamic_cast<pavise::device::detail::StraightThrough*>(function.get()) != nullptr;
  if (function->differentiates(0) && (!straight || std::holds_alternative<traced::Quantise>(*f.what))) {
    const std::int64_t made = function->adds() ? 2 * f.in : f.in;
    b.line("filters", name + " backward",
           b.time([&] { function->backward(stream, pass, 0, dy.get(), dx.get(), false); }, kFilterBudget), 0,
           bytes(f.out + taken_back(f) + made));
  }
  stream.finish();
}

/// The kernels that a function calls beside others, each alone.
inline void time_parts(const Bench& b, const TracedFunction& resize) {
  const std::int64_t groups = cuda_checks::groups_of(kBatch, 32);
  const std::int64_t n = kImage.numel();
  const double bytes = 4.0 * static_cast<double>(kBatch * n);
  Noise noise(b, groups);
  const auto x = noise.uniform(n, groups);
  const auto y = noise.uniform(n, groups);
  const auto& what = std::get<traced::ResizePad>(*resize.what);
  std::vector<std::int32_t> drawn(static_cast<std::size_t>(groups * 32 * (what.out[1] + what.out[2])));
  pavise::defend::detail::draw_places(what, {}, groups * 32, 32, drawn.data());
  const OnDevice<std::int32_t> places(b.t, drawn);
  const kernels::LaneGather gather{what.in[0], what.in[1], what.in[2], what.out[1], what.out[2], places.get()};
  b.line("filters", "resize-pad:24 forward, drawn before",
         b.time([&] { b.t.gather_pixels(b.stream, gather, x.get(), y.get(), groups); }, kFilterBudget), 0,
         4.0 * static_cast<double>(kBatch * (resize.in + resize.out)));
  b.line("filters", "lab from rgb",
         b.time([&] { b.t.lab_from_rgb(b.stream, x.get(), y.get(), n / 3, groups); }, kFilterBudget), 0, 2 * bytes);
  b.line("filters", "rgb from lab",
         b.time([&] { b.t.rgb_from_lab(b.stream, x.get(), y.get(), n / 3, groups); }, kFilterBudget), 0, 2 * bytes);
}

/// Steps of attacks: of Auto-PGD one in which every image's best point is the current one.
inline void time_steps(const Bench& b) {
  const std::int64_t groups = cuda_checks::groups_of(kBatch, 32);
  const std::int64_t n = kImage.numel();
  const double bytes = 4.0 * static_cast<double>(kBatch * n);
  Noise noise(b, groups);
  std::vector<OnDevice<float>> a;
  for (int i = 0; i < 6; ++i) {
    a.push_back(noise.uniform(n, groups));
  }
  b.line("filters", "l1 step",
         b.time(
             [&] {
               b.t.attack_step(b.stream, a[0].get(), a[1].get(), a[2].get(), n, groups,
                               {1, 1.0f, 12.0f, 0.0f, 1.0f, 0.05f});
             },
             kFilterBudget),
         0, 4 * bytes);
  const auto slots = static_cast<std::size_t>(groups * 32);
  const OnDevice<std::int32_t> yes(b.t, std::vector<std::int32_t>(slots, 1));
  const OnDevice<std::int32_t> no(b.t, std::vector<std::int32_t>(slots, 0));
  const OnDevice<float> eta(b.t, std::vector<float>(slots, 0.05f));
  const OnDevice<float> weight(b.t, std::vector<float>(slots, 0.75f));
  const kernels::cuda::ApgdLanes lanes{.state = nullptr,
                                       .active = yes.get(),
                                       .passes = nullptr,
                                       .improved = yes.get(),
                                       .restart = no.get(),
                                       .take_best = no.get(),
                                       .eta = eta.get(),
                                       .weight = weight.get()};
  for (const int norm : {0, 2}) {
    const kernels::cuda::AttackStep step{norm, 0.0f, norm == 0 ? 0.1f : 0.5f, 0.0f, 1.0f};
    b.line("filters", norm == 0 ? "apgd step in linf" : "apgd step in l2",
           b.time(
               [&] {
                 b.t.apgd_step(b.stream, lanes, a[0].get(), a[1].get(), a[2].get(), a[3].get(), a[4].get(), a[5].get(),
                               n, groups, step);
               },
               kFilterBudget),
           0, 9 * bytes);
  }
}

/// Sixteen channels in four groups.
inline void time_row_norm(const Bench& b) {
  const kernels::RowNorm rows{4, 4, kImage[1] * kImage[2], 4};
  const std::int64_t groups = cuda_checks::groups_of(kBatch, 32);
  const std::int64_t n = rows.rows * rows.blocks * rows.positions;
  const double bytes = 4.0 * static_cast<double>(kBatch * n);
  Noise noise(b, groups);
  const auto x = noise.uniform(n, groups);
  const auto y = noise.uniform(n, groups);
  const auto z = noise.uniform(n, groups);
  const auto f = noise.uniform(rows.rows * rows.row_parameters, 1);
  const auto mean = noise.uniform(rows.rows, groups);
  const auto inverse = noise.uniform(rows.rows, groups);
  b.line("filters", "group norm (16,32,32) forward",
         b.time(
             [&] {
               b.t.row_norm(b.stream, rows, x.get(), y.get(), f.get(), f.get(), 1e-5f, false, mean.get(), inverse.get(),
                            groups);
             },
             kFilterBudget),
         0, 2 * bytes);
  b.line("filters", "group norm (16,32,32) backward",
         b.time(
             [&] {
               b.t.row_norm_backward(b.stream, rows, x.get(), y.get(), f.get(), mean.get(), inverse.get(), z.get(),
                                     false, nullptr, groups);
             },
             kFilterBudget),
         0, 3 * bytes);
}

inline void filters(Bench& b) {
  const pavise::device::Stream stream(pavise::Device::cuda(0));
  const Bench own{b.t, b.out, stream.get(), b.peak_flops, b.peak_bytes};
  for (const char* text : {"bit-depth:4", "median:2", "median:3", "median:5", "median:7", "gaussian-blur:1",
                           "bilateral:5-0.1-2", "nlm:11-3-4", "jpeg:75", "gaussian-noise:0.1", "uniform-noise:0.1",
                           "resize-pad:24", "thermometer:16", "tv:0.03"}) {
    std::set<std::string> seen;
    for (const auto& f : functions_of(*pavise::defend::make_filter(text))) {
      const std::string name = text + part_name(*f.what);
      if (seen.insert(name).second) {
        time_function(own, stream, name, f);
      }
    }
  }
  time_parts(own, functions_of(*pavise::defend::make_filter("resize-pad:24")).front());
  time_steps(own);
  time_row_norm(own);
  stream.finish();
}

}  // namespace gpu_bench
