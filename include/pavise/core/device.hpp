// SPDX-License-Identifier: MIT
#pragma once

#include <charconv>
#include <string>
#include <string_view>
#include <system_error>

#include "pavise/core/error.hpp"
#include "pavise_kernels/cuda/table.hpp"

namespace pavise {

/// Where work runs: the CPU, or one CUDA device.
class Device {
 public:
  /// This program's processor.
  static Device cpu() { return Device(-1); }

  /// CUDA device number `index`. Throws DeviceError where the program was built without the CUDA kernels, or there is
  /// no such device; ValueError for a negative index.
  static Device cuda(int index = 0) {
    require(index >= 0, "cuda: device ", index, ", expected 0 or more");
    const int count = kernels_of(index).device_count();
    require<DeviceError>(index < count, "cuda:", index, ": there is no such device, this machine has ", count);
    return Device(index);
  }

  /// The device of that name: "cpu", "cuda" (the first one) or "cuda:1". Throws ValueError for any other name, and what
  /// `cuda` throws.
  static Device named(std::string_view name) {
    if (name == "cpu") {
      return cpu();
    }
    int index = 0;
    if (name.substr(0, 5) == "cuda:") {
      const auto [end, error] = std::from_chars(name.data() + 5, name.data() + name.size(), index);
      require(error == std::errc() && end == name.data() + name.size(), "device ", name,
              ", expected cpu, cuda or cuda:N");
    } else {
      require(name == "cuda", "device ", name, ", expected cpu, cuda or cuda:N");
    }
    return cuda(index);
  }

  bool is_cuda() const { return index_ >= 0; }
  /// Number of the CUDA device; -1 for the CPU.
  int index() const { return index_; }
  /// "cpu", or "cuda:0".
  std::string to_string() const { return is_cuda() ? concat("cuda:", index_) : "cpu"; }
  /// The CUDA kernels. Throws DeviceError for the CPU.
  const kernels::cuda::Table& kernels() const {
    require<DeviceError>(is_cuda(), "cpu: it has no CUDA kernels");
    return kernels_of(index_);
  }

  friend bool operator==(const Device&, const Device&) = default;

 private:
  explicit Device(int index) : index_(index) {}

  static const kernels::cuda::Table& kernels_of(int index) {
    const auto* table = kernels::cuda::table.load(std::memory_order_acquire);
    require<DeviceError>(table != nullptr, "cuda:", index,
                         ": this program was built without the CUDA kernels; configure with -DPAVISE_CUDA=ON and link "
                         "pavise::cuda");
    return *table;
  }

  int index_;
};

}  // namespace pavise
