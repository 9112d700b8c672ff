// SPDX-License-Identifier: MIT
// What every section of the benchmark measures with.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "cuda/network.hpp"
#include "pavise/core/error.hpp"

namespace gpu_bench {

namespace kernels = pavise::kernels;
using cuda_checks::NetworkLayer;
using cuda_checks::OnDevice;
using cuda_checks::Table;
using kernels::cuda::Stream;

struct Bench {
  const Table& t;
  std::FILE* out;
  Stream stream;
  double peak_flops = 0;  ///< measured
  double peak_bytes = 0;

  /// Median time of one call, in milliseconds.
  double time(const std::function<void()>& work, double budget_ms = 150.0) const {
    for (int i = 0; i < 2; ++i) {
      work();
    }
    t.synchronize(stream);
    cudaEvent_t begin{};
    cudaEvent_t end{};
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    std::vector<float> times;
    double total = 0;
    while ((total < budget_ms && times.size() < 100) || times.size() < 5) {
      cudaEventRecord(begin, static_cast<cudaStream_t>(stream));
      work();
      cudaEventRecord(end, static_cast<cudaStream_t>(stream));
      cudaEventSynchronize(end);
      float ms = 0;
      cudaEventElapsedTime(&ms, begin, end);
      times.push_back(ms);
      total += static_cast<double>(ms);
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    const cudaError_t status = cudaGetLastError();
    pavise::require<pavise::DeviceError>(status == cudaSuccess, "bench: ", cudaGetErrorString(status));
    std::nth_element(times.begin(), times.begin() + static_cast<std::ptrdiff_t>(times.size() / 2), times.end());
    return static_cast<double>(times[times.size() / 2]);
  }

  void line(const std::string& section, const std::string& name, double ms, double flops, double bytes,
            const std::string& more = "") const {
    std::fprintf(out, "{\"section\":\"%s\",\"name\":\"%s\",\"ms\":%.6g,\"flops\":%.6g,\"bytes\":%.6g", section.c_str(),
                 name.c_str(), ms, flops, bytes);
    if (flops > 0 && peak_flops > 0) {
      std::fprintf(out, ",\"share_of_fma\":%.4f", flops / (ms * 1e-3) / peak_flops);
    }
    if (bytes > 0 && peak_bytes > 0) {
      std::fprintf(out, ",\"share_of_copy\":%.4f", bytes / (ms * 1e-3) / peak_bytes);
    }
    std::fprintf(out, "%s}\n", more.c_str());
    std::fflush(out);
  }
};

using pavise::device::Arithmetic;
inline constexpr Arithmetic kArithmetics[] = {Arithmetic::exact, Arithmetic::fast, Arithmetic::bf16};

/// What the name of a row ends with.
inline std::string suffix(std::int64_t images, Arithmetic arithmetic) {
  return pavise::concat(" b", images,
                        arithmetic == Arithmetic::exact ? "" : ", " + pavise::device::arithmetic_name(arithmetic));
}

inline double plan_flops(const kernels::GatherPlan& plan) {
  double flops = 0;
  for (const auto& run : plan.runs) {
    flops += 2.0 * run.count * static_cast<double>(plan.classes[static_cast<std::size_t>(run.tap_class)].offset.size());
  }
  return flops * static_cast<double>(plan.rows * plan.channel_groups);
}

inline kernels::GatherPlan plan_of(const NetworkLayer& l, bool backward) {
  if (l.matrix) {
    return backward ? kernels::matrix_plan(l.in(), l.out(), true) : kernels::matrix_plan(l.out(), l.in(), false);
  }
  return backward ? backward_plan(l.geometry) : forward_plan(l.geometry);
}

/// Random numbers on the device, names of images 0, 1, 2, ...
class Noise {
 public:
  Noise(const Bench& b, std::int64_t groups) : b_(b), image_(b.t, ramp(groups)), restart_(b.t, zeros(groups)) {}
  kernels::LaneKeys keys(std::uint32_t iteration) const {
    return {.seed = 1, .purpose = 11, .iteration = iteration, .image = image_.get(), .restart = restart_.get()};
  }
  OnDevice<float> uniform(std::int64_t n, std::int64_t groups) {
    OnDevice<float> out(b_.t, static_cast<std::size_t>(n * groups * 32));
    b_.t.synchronize(nullptr);
    b_.t.random_lanes(b_.stream, kernels::Distribution::uniform, out.get(), n, groups, keys(++draws_));
    b_.t.synchronize(b_.stream);
    return out;
  }

 private:
  static std::vector<std::uint32_t> ramp(std::int64_t groups) {
    std::vector<std::uint32_t> out(static_cast<std::size_t>(groups * 32));
    for (std::size_t i = 0; i < out.size(); ++i) {
      out[i] = static_cast<std::uint32_t>(i);
    }
    return out;
  }
  static std::vector<std::uint32_t> zeros(std::int64_t groups) {
    return std::vector<std::uint32_t>(static_cast<std::size_t>(groups * 32));
  }
  const Bench& b_;
  OnDevice<std::uint32_t> image_, restart_;
  std::uint32_t draws_ = 0;
};

}  // namespace gpu_bench
