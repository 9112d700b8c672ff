// SPDX-License-Identifier: MIT
// Linear maps along one axis, [group](outer,in,inner)[32] to [group](outer,out,inner)[32], and their transposes. A warp
// takes an element of the result, or one element of both other axes of the transpose: sums have the CPU's order.
// Oracles: kernels::resample_axis and resample_axis_adjoint, bit for bit.
#include "pavise_kernels/cuda/elements.cuh"

namespace pavise::kernels::cuda {

namespace {

struct Resample {
  AxisTaps<float> m;
  const float* x;
  float* y;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t k = e % m.inner;
    const std::int64_t i = e / m.inner % m.out;
    const std::int64_t o = g * m.outer + e / (m.inner * m.out);
    tap_sum<float, 32>(x + (o * m.in * m.inner + k) * 32, m.inner, m.places + i * m.taps, m.weights + i * m.taps,
                       m.taps)
        .store(y + ((o * m.out + i) * m.inner + k) * 32);
  }
};

struct ResampleAdjoint {
  AxisTaps<float> m;
  const float* dy;
  float* dx;
  __device__ void operator()(std::int64_t g, std::int64_t e) const {
    const std::int64_t k = e % m.inner;
    const std::int64_t o = g * m.outer + e / m.inner;
    resample_adjoint_part<float, 32>(dy + (o * m.out * m.inner + k) * 32, dx + (o * m.in * m.inner + k) * 32, m, 1);
  }
};

}  // namespace

void fill_resample(Table& t) {
  t.resample = [](Stream stream, const AxisTaps<float>& m, const float* x, float* y, std::int64_t groups) {
    each_warp(stream, "resample", groups, m.outer * m.out * m.inner, Resample{m, x, y});
  };
  t.resample_adjoint = [](Stream stream, const AxisTaps<float>& m, const float* dy, float* dx, std::int64_t groups) {
    each_warp(stream, "resample_adjoint", groups, m.outer * m.inner, ResampleAdjoint{m, dy, dx});
  };
}

}  // namespace pavise::kernels::cuda
