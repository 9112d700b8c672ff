// SPDX-License-Identifier: MIT
// NCCL as the carrier between GPUs. Programs that link pavise::nccl need neither its header nor CUDA's.
#pragma once

#include <memory>

#include "pavise/core/communicator.hpp"
#include "pavise/core/device.hpp"
#include "pavise/device/peers.hpp"

namespace pavise::nccl {

/// The GPUs of a team's processes, each with its own `device`; NCCL does not take one GPU twice. Every rank calls it;
/// the team itself only carries NCCL's key. Throws DeviceError where NCCL cannot.
std::unique_ptr<device::Peers> join(Communicator& team, Device device);

}  // namespace pavise::nccl
