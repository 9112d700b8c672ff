// SPDX-License-Identifier: MIT
// Devices of several processes that train together: the weights are those of one device, to the last bit, whoever carries
// the sums. The ranks are threads, the devices are the host model's, and NCCL is played by cuda/nccl/nccl.h.
#include "cuda/nccl/nccl.h"
//
#include "cuda/orders.hpp"
#include "cuda/peers_checks.hpp"
#include "pavise_nccl/peers.cpp"

#ifndef __SANITIZE_ADDRESS__  // as training_test.cpp
namespace {

using cuda_checks::PeersOf;

std::shared_ptr<pavise::device::Peers> by_nccl(pavise::Communicator& team) {
  return pavise::nccl::join(team, pavise::Device::cuda(0));
}

}  // namespace

TEST_CASE("device: training on the devices of several processes has the bits of one") {
  for (const PeersOf& peers_of : {PeersOf(cuda_checks::through_hosts), PeersOf(by_nccl)}) {
    cuda_checks::Report report;
    cuda_checks::check_peers(report, peers_of);
    CHECK(report.text() == "");
    CHECK(report.comparisons() > 0);
  }
  CHECK(nccl_model::messages > 0);
}
#endif

TEST_CASE("device: a team whose devices do not know each other is refused") {
  CHECK_THROWS_WITH_AS(
      thread_team::run(2,
                       [](pavise::Communicator& team) {
                         cuda_checks::train_together(&team, nullptr, cuda_checks::pgd_together(false, 1.0, 40));
                       }),
      "trainer: 2 processes, and cuda:0 was set up to share minibatches with 1 (device::training takes its peers)",
      pavise::ValueError);
}
