// SPDX-License-Identifier: MIT
// Queues of work and arrays on a GPU, freed by themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "pavise/core/device.hpp"
#include "pavise/core/error.hpp"

namespace pavise::device {

using kernels::cuda::Table;

/// Warps of that many images: values and gradients of a pass lie as [group][size][32].
inline std::int64_t groups_of(std::int64_t images) {
  return (images + kernels::cuda::kLanes - 1) / kernels::cuda::kLanes;
}

/// A queue of work of one device. Not thread-safe: one thread at a time.
class Stream {
 public:
  /// Throws DeviceError for the CPU.
  explicit Stream(Device device) : device_(device), kernels_(device.kernels()) {
    kernels_.set_device(device.index());
    stream_ = kernels_.make_stream();
  }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  ~Stream() {
    try {
      kernels_.synchronize(stream_);
      kernels_.destroy_stream(stream_);
    } catch (const DeviceError&) {  // whoever queued the work has been told
    }
  }

  Device device() const { return device_; }
  const Table& kernels() const { return kernels_; }
  kernels::cuda::Stream get() const { return stream_; }
  /// The calling thread's work goes to this device from now on: each thread that queues work says so first.
  void use() const { kernels_.set_device(device_.index()); }
  /// Waits until all that was queued is done.
  void finish() const { kernels_.synchronize(stream_); }

 private:
  Device device_;
  const Table& kernels_;
  kernels::cuda::Stream stream_ = nullptr;
};

/// An array on the device of a stream, uninitialised, which must outlive it.
template <class T>
class Array {
 public:
  Array() = default;
  /// Throws DeviceError, with the sizes, where the device has not enough memory.
  Array(const Stream& stream, std::int64_t n)
      : stream_(&stream),
        n_(n),
        p_(static_cast<T*>(stream.kernels().allocate(static_cast<std::size_t>(n) * sizeof(T), stream.get()))) {}
  Array(const Stream& stream, std::span<const T> values) : Array(stream, static_cast<std::int64_t>(values.size())) {
    upload(values.data(), n_);
    stream.finish();
  }
  Array(Array&& other) noexcept
      : stream_(other.stream_), n_(std::exchange(other.n_, 0)), p_(std::exchange(other.p_, nullptr)) {}
  Array& operator=(Array&& other) noexcept {
    std::swap(stream_, other.stream_);
    std::swap(n_, other.n_);
    std::swap(p_, other.p_);
    return *this;
  }
  ~Array() {
    if (p_ != nullptr) {
      try {
        stream_->kernels().release(p_, stream_->get());
      } catch (const DeviceError&) {  // of work that failed before
      }
    }
  }

  T* get() const { return p_; }
  std::int64_t size() const { return n_; }
  /// Queues a copy of the first n elements from the host, which may change `from` once it returns.
  void upload(const T* from, std::int64_t n) const {
    stream_->kernels().copy_to_device(p_, from, static_cast<std::size_t>(n) * sizeof(T), stream_->get());
  }
  /// Queues a copy of the first n elements to the host; they are there after Stream::finish.
  void download(T* to, std::int64_t n) const {
    stream_->kernels().copy_to_host(to, p_, static_cast<std::size_t>(n) * sizeof(T), stream_->get());
  }

 private:
  const Stream* stream_ = nullptr;
  std::int64_t n_ = 0;
  T* p_ = nullptr;
};

}  // namespace pavise::device
