// SPDX-License-Identifier: MIT
// Checks of the CUDA kernels against their CPU twins, bit for bit. They call the kernels through the table alone, so that
// the same checks run on the host model of the execution model (tests) and on a GPU (benchmarks/gpu.sh). They need no
// test framework: a Report collects what differs.
#pragma once

#include <algorithm>
#include <bit>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "pavise/core/error.hpp"
#include "pavise/core/philox.hpp"
#include "pavise/core/tensor.hpp"
#include "pavise_kernels/cpu/cpu.hpp"
#include "pavise_kernels/cuda/table.hpp"

namespace cuda_checks {

namespace kernels = pavise::kernels;
using kernels::cuda::Table;
using Rows = std::vector<float>;  ///< of images, one after another

/// What was compared, and the first differences in words.
class Report {
 public:
  /// Compares bit for bit; one NaN is as good as another.
  void equal(const std::string& what, const float* got, const float* expected, std::int64_t n) {
    ++comparisons_;
    std::int64_t wrong = 0;
    std::int64_t first = -1;
    for (std::int64_t i = 0; i < n; ++i) {
      const bool both_nan = got[i] != got[i] && expected[i] != expected[i];
      if (!both_nan && std::bit_cast<std::uint32_t>(got[i]) != std::bit_cast<std::uint32_t>(expected[i])) {
        first = wrong == 0 ? i : first;
        ++wrong;
      }
    }
    if (wrong > 0) {
      fail(pavise::concat(what, ": ", wrong, " of ", n, " differ, the first at ", first, ": ", got[first],
                          ", expected ", expected[first]));
    }
  }
  template <class T>
  void equal(const std::string& what, const T& got, const T& expected) {
    ++comparisons_;
    if (!(got == expected)) {
      fail(pavise::concat(what, ": got ", got, ", expected ", expected));
    }
  }
  void fail(const std::string& text) {
    ++failures_;
    if (failures_ <= 20) {
      text_ += text + "\n";
    }
  }
  std::int64_t comparisons() const { return comparisons_; }
  std::int64_t failures() const { return failures_; }
  const std::string& text() const { return text_; }

 private:
  std::int64_t comparisons_ = 0;
  std::int64_t failures_ = 0;
  std::string text_;
};

/// An array on the device.
template <class T>
class OnDevice {
 public:
  OnDevice(const Table& t, std::size_t n) : t_(t), n_(n), p_(static_cast<T*>(t.allocate(n * sizeof(T), nullptr))) {}
  OnDevice(const Table& t, const std::vector<T>& values) : OnDevice(t, values.size()) {
    t.copy_to_device(p_, values.data(), n_ * sizeof(T), nullptr);
    t.synchronize(nullptr);
  }
  OnDevice(OnDevice&& other) noexcept : t_(other.t_), n_(other.n_), p_(std::exchange(other.p_, nullptr)) {}
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;
  ~OnDevice() { t_.release(p_, nullptr); }
  T* get() const { return p_; }
  std::vector<T> values() const {
    std::vector<T> out(n_);
    t_.copy_to_host(out.data(), p_, n_ * sizeof(T), nullptr);
    t_.synchronize(nullptr);
    return out;
  }

 private:
  const Table& t_;
  std::size_t n_;
  T* p_;
};

/// n numbers in [low, high), different for each `what`.
inline Rows numbers(std::int64_t n, std::uint32_t what, float low = -1.0f, float high = 1.0f) {
  pavise::RandomSequence random({.seed = 6, .purpose = pavise::Purpose::test, .image = what});
  Rows out(static_cast<std::size_t>(n));
  for (float& v : out) {
    v = static_cast<float>(random.uniform(low, high));
  }
  return out;
}

inline std::int64_t groups_of(std::int64_t images, int lanes) { return (images + lanes - 1) / lanes; }

/// [image][n] -> [group][n][lanes]; lanes behind the last image repeat it.
template <class T>
std::vector<T> to_lanes(const std::vector<T>& rows, std::int64_t images, std::int64_t n, int lanes) {
  std::vector<T> out(static_cast<std::size_t>(groups_of(images, lanes) * n * lanes));
  for (std::int64_t slot = 0; slot < groups_of(images, lanes) * lanes; ++slot) {
    const std::int64_t image = std::min(slot, images - 1);
    for (std::int64_t e = 0; e < n; ++e) {
      out[static_cast<std::size_t>((slot / lanes * n + e) * lanes + slot % lanes)] =
          rows[static_cast<std::size_t>(image * n + e)];
    }
  }
  return out;
}

/// [group][n][lanes] -> [image][n]
template <class T>
std::vector<T> from_lanes(const T* values, std::int64_t images, std::int64_t n, int lanes) {
  std::vector<T> out(static_cast<std::size_t>(images * n));
  for (std::int64_t image = 0; image < images; ++image) {
    for (std::int64_t e = 0; e < n; ++e) {
      out[static_cast<std::size_t>(image * n + e)] = values[(image / lanes * n + e) * lanes + image % lanes];
    }
  }
  return out;
}

/// Arrays of an operation that works lane by lane: `size` numbers of every image.
struct LaneArray {
  Rows rows;  ///< [image][size]
  std::int64_t size;
};

/// Runs an operation on the CPU, one group of sixteen at a time, and on the device, all groups of 32 at once, and
/// compares all arrays afterwards. cpu(pointers of the group, group) and gpu(device pointers, groups).
inline void compare_lanes(Report& report, const Table& t, const std::string& what, std::int64_t images,
                          const std::vector<LaneArray>& arrays,
                          const std::function<void(const std::vector<float*>&, std::int64_t)>& cpu,
                          const std::function<void(const std::vector<float*>&, std::int64_t)>& gpu) {
  std::vector<pavise::AlignedVector<float>> host;
  std::vector<OnDevice<float>> device;
  std::vector<float*> pointers;
  for (const LaneArray& a : arrays) {
    const auto lanes = to_lanes(a.rows, images, a.size, 16);
    host.emplace_back(lanes.begin(), lanes.end());
    host.back().resize(lanes.size() + 64);
    device.emplace_back(t, to_lanes(a.rows, images, a.size, 32));
    pointers.push_back(device.back().get());
  }
  for (std::int64_t g = 0; g < groups_of(images, 16); ++g) {
    std::vector<float*> at;
    for (std::size_t i = 0; i < arrays.size(); ++i) {
      at.push_back(host[i].data() + g * arrays[i].size * 16);
    }
    cpu(at, g);
  }
  gpu(pointers, groups_of(images, 32));
  for (std::size_t i = 0; i < arrays.size(); ++i) {
    const auto expected = from_lanes(host[i].data(), images, arrays[i].size, 16);
    const auto got = from_lanes(device[i].values().data(), images, arrays[i].size, 32);
    report.equal(pavise::concat(what, ", array ", i), got.data(), expected.data(),
                 static_cast<std::int64_t>(expected.size()));
  }
}

inline kernels::ConvGeometry geometry(std::int64_t c, std::int64_t h, std::int64_t w, std::int64_t o, std::int64_t k,
                                      std::int64_t stride, std::int64_t padding, std::int64_t dilation,
                                      std::int64_t groups) {
  const auto extent = [&](std::int64_t in) { return (in + 2 * padding - dilation * (k - 1) - 1) / stride + 1; };
  return {.in_channels = c,
          .in_height = h,
          .in_width = w,
          .out_channels = o,
          .kernel_height = k,
          .kernel_width = k,
          .stride = stride,
          .padding = padding,
          .dilation = dilation,
          .groups = groups,
          .out_height = extent(h),
          .out_width = extent(w)};
}

inline std::string name_of(const kernels::ConvGeometry& g) {
  return pavise::concat("(", g.in_channels, ",", g.in_height, ",", g.in_width, ") to ", g.out_channels, " ",
                        g.kernel_height, "x", g.kernel_width, " stride ", g.stride, " padding ", g.padding,
                        " dilation ", g.dilation, " groups ", g.groups);
}

/// Odd, prime, size-1, strided, dilated and grouped convolutions.
inline std::vector<kernels::ConvGeometry> geometries() {
  return {geometry(1, 1, 1, 1, 1, 1, 0, 1, 1),  geometry(3, 5, 7, 13, 3, 1, 1, 1, 1),
          geometry(2, 9, 8, 7, 4, 2, 1, 1, 1),  geometry(5, 6, 17, 25, 1, 1, 0, 1, 1),
          geometry(4, 7, 7, 6, 3, 2, 2, 2, 2),  geometry(11, 4, 5, 11, 3, 1, 1, 1, 11),
          geometry(1, 33, 2, 2, 2, 3, 1, 1, 1), geometry(17, 2, 19, 31, 2, 1, 0, 1, 1),
          geometry(6, 5, 5, 3, 5, 1, 0, 1, 3),  geometry(16, 7, 7, 50, 4, 2, 1, 1, 1)};
}

}  // namespace cuda_checks
