// SPDX-License-Identifier: MIT
// GPUs of processes that work together, one for each process. What they hand to each other goes from device to device
// (pavise::nccl, kernels/pavise_nccl, -DPAVISE_NCCL=ON) or through the hosts (HostPeers).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "pavise/core/communicator.hpp"
#include "pavise/device/memory.hpp"

namespace pavise::device {

/// A number of devices, the ranks 0 to size() - 1, of which this process has one. Calls queue the exchange of n floats on
/// a stream of that device, which a call to Stream::finish waits for; what one rank sends another must receive, in the
/// same order. One thread at a time. Throws DeviceError or the carrier's Error.
class Peers {
 public:
  Peers() = default;
  Peers(const Peers&) = delete;
  Peers& operator=(const Peers&) = delete;
  virtual ~Peers() = default;

  virtual std::string name() const = 0;  ///< of the carrier: "host", "nccl"
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual void send(const Stream& stream, const float* values, std::int64_t n, int to) = 0;
  virtual void receive(const Stream& stream, float* values, std::int64_t n, int from) = 0;
  /// Gives all ranks the values of rank `from`.
  virtual void broadcast(const Stream& stream, float* values, std::int64_t n, int from) = 0;
};

/// Through the hosts' memory, by whatever carries the processes' bytes: for any devices, one and the same among them. The
/// communicator must outlive it.
class HostPeers : public Peers {
 public:
  explicit HostPeers(Communicator& team) : team_(team) {}

  std::string name() const override { return "host"; }
  int rank() const override { return team_.rank(); }
  int size() const override { return team_.size(); }
  void send(const Stream& stream, const float* values, std::int64_t n, int to) override {
    team_.send(std::as_bytes(fetch(stream, values, n)), to);
  }
  void receive(const Stream& stream, float* values, std::int64_t n, int from) override {
    team_.receive(std::as_writable_bytes(room(n)), from);
    put(stream, values, n);
  }
  void broadcast(const Stream& stream, float* values, std::int64_t n, int from) override {
    const auto staged = rank() == from ? fetch(stream, values, n) : room(n);
    pavise::broadcast(team_, staged, from);
    if (rank() != from) {
      put(stream, values, n);
    }
  }

 private:
  std::span<float> room(std::int64_t n) {
    staged_.resize(static_cast<std::size_t>(n));
    return staged_;
  }
  std::span<float> fetch(const Stream& stream, const float* values, std::int64_t n) {
    const auto out = room(n);
    stream.kernels().copy_to_host(out.data(), values, out.size_bytes(), stream.get());
    stream.finish();
    return out;
  }
  void put(const Stream& stream, float* values, std::int64_t n) {
    stream.kernels().copy_to_device(values, staged_.data(), static_cast<std::size_t>(n) * sizeof(float), stream.get());
  }

  Communicator& team_;
  std::vector<float> staged_;
};

}  // namespace pavise::device
