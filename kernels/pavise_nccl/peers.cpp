// SPDX-License-Identifier: MIT
#include "pavise_nccl/peers.hpp"

#include <nccl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "pavise/core/error.hpp"

namespace pavise::nccl {
namespace {

void check(ncclResult_t status, const char* what) {
  require<DeviceError>(status == ncclSuccess, "nccl: ", what, ": ", ncclGetErrorString(status));
}

cudaStream_t native(const device::Stream& stream) { return static_cast<cudaStream_t>(stream.get()); }

class NcclPeers : public device::Peers {
 public:
  NcclPeers(Communicator& team, Device device) : rank_(team.rank()), size_(team.size()) {
    ncclUniqueId key{};
    if (team.first()) {
      check(ncclGetUniqueId(&key), "key");
    }
    broadcast_key(team, key);
    device.kernels().set_device(device.index());
    check(ncclCommInitRank(&communicator_, size_, key, rank_), "start");
  }
  ~NcclPeers() override { (void)ncclCommDestroy(communicator_); }

  std::string name() const override { return "nccl"; }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  void send(const device::Stream& stream, const float* values, std::int64_t n, int to) override {
    check(ncclSend(values, static_cast<std::size_t>(n), ncclFloat32, to, communicator_, native(stream)), "send");
  }
  void receive(const device::Stream& stream, float* values, std::int64_t n, int from) override {
    check(ncclRecv(values, static_cast<std::size_t>(n), ncclFloat32, from, communicator_, native(stream)), "receive");
  }
  void broadcast(const device::Stream& stream, float* values, std::int64_t n, int from) override {
    check(ncclBroadcast(values, values, static_cast<std::size_t>(n), ncclFloat32, from, communicator_, native(stream)),
          "broadcast");
  }

 private:
  static void broadcast_key(Communicator& team, ncclUniqueId& key) {
    team.broadcast(std::as_writable_bytes(std::span(&key, 1)), 0);
  }

  int rank_, size_;
  ncclComm_t communicator_ = nullptr;
};

}  // namespace

std::unique_ptr<device::Peers> join(Communicator& team, Device device) {
  return std::make_unique<NcclPeers>(team, device);
}

}  // namespace pavise::nccl
