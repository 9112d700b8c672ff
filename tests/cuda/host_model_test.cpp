// SPDX-License-Identifier: MIT
// The host model of the CUDA execution model finds what it is there to find: mistakes are planted, and seen.
#include <doctest/doctest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <functional>
#include <set>

#include "pavise/core/device.hpp"
#include "pavise_kernels/cuda/runtime.cuh"

using namespace pavise::kernels::cuda;
using host_model::Order;

namespace {

constexpr unsigned kBlock = 96;  ///< threads: three warps

/// Each thread reads its neighbour's number from shared memory, after a barrier or without one.
template <bool Barrier>
__global__ void neighbour_kernel(const float* x, float* y) {
  float* shared = dynamic_shared();
  shared[threadIdx.x] = x[threadIdx.x];
  if constexpr (Barrier) {
    __syncthreads();
  }
  y[threadIdx.x] = shared[(threadIdx.x + 1) % blockDim.x];
}

/// Rotates through shared memory twice; without the second barrier a fast thread overwrites what a slow one reads.
template <bool Barrier>
__global__ void reuse_kernel(const float* x, float* y) {
  float* shared = dynamic_shared();
  float v = x[threadIdx.x];
  for (int round = 0; round < 2; ++round) {
    shared[threadIdx.x] = v;
    __syncthreads();
    v = shared[(threadIdx.x + 5) % blockDim.x];
    if constexpr (Barrier) {
      __syncthreads();
    }
  }
  y[threadIdx.x] = v;
}

/// Copies in the background, and waits for them or does not.
template <bool Wait>
__global__ void copy_kernel(const float* x, float* y) {
  float* shared = dynamic_shared();
  if (threadIdx.x % 4 == 0) {
    copy_async(shared + threadIdx.x, x + threadIdx.x);
  }
  commit_copies();
  if constexpr (Wait) {
    wait_for_copies<0>();
  }
  __syncthreads();
  y[threadIdx.x] = shared[threadIdx.x];
}

/// Writes `past` elements behind the end.
__global__ void write_past_kernel(float* y, int past) { y[threadIdx.x + static_cast<unsigned>(past)] = 1.0f; }
__global__ void read_past_kernel(const float* x, float* y, int past) { y[0] = x[kBlock - 1 + past]; }

/// Half of the block goes to a barrier.
__global__ void parting_kernel() {
  if (threadIdx.x < blockDim.x / 2) {
    __syncthreads();
  }
}
/// Half of each warp shuffles.
__global__ void parting_warp_kernel(float* y) {
  if (threadIdx.x % 32 < 16) {
    y[threadIdx.x] = __shfl_xor_sync(0xFFFFFFFFu, 1.0f, 1);
  }
}

__global__ void warp_kernel(const float* x, float* y, unsigned* votes) {
  float sum = x[threadIdx.x];
  PAVISE_UNROLL
  for (int distance = 16; distance > 0; distance /= 2) {
    sum += __shfl_xor_sync(0xFFFFFFFFu, sum, distance);
  }
  y[threadIdx.x] = sum;
  votes[threadIdx.x] = __ballot_sync(0xFFFFFFFFu, lane_id() % 3 == 0);
}

/// An array on the "device".
struct Memory {
  float* p = static_cast<float*>(host_model::DeviceMemory::allocate(kBlock * sizeof(float)));
  Memory() = default;
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;
  ~Memory() { host_model::DeviceMemory::release(p); }
};

/// The kernel's results in the three orders, each as often as it came out. Comparing by bits: NaN counts.
std::set<std::vector<std::uint32_t>> results_of(void (*kernel)(const float*, float*)) {
  std::set<std::vector<std::uint32_t>> out;
  const Memory x;
  for (unsigned i = 0; i < kBlock; ++i) {
    x.p[i] = static_cast<float>(i);
  }
  for (const Order order : {Order::forward, Order::backward, Order::shuffled}) {
    host_model::order = order;
    const Memory y;
    launch(nullptr, "planted", kernel, dim3(1), kBlock, kBlock * sizeof(float), x.p, y.p);
    std::vector<std::uint32_t> bits(kBlock);
    std::memcpy(bits.data(), y.p, kBlock * sizeof(float));
    out.insert(bits);
  }
  host_model::order = Order::forward;
  return out;
}

/// Whether `work` ends its process: an access to memory that must not be touched, or a sanitizer's report of one.
bool dies(const std::function<void()>& work) {
  std::fflush(nullptr);
  const pid_t child = fork();
  if (child == 0) {
    if (std::freopen("/dev/null", "w", stderr) == nullptr) {
      _exit(0);
    }
    signal(SIGSEGV, SIG_DFL);  // not the test framework's
    work();
    _exit(0);
  }
  int status = 0;
  waitpid(child, &status, 0);
  return !WIFEXITED(status) || WEXITSTATUS(status) != 0;
}

}  // namespace

TEST_CASE("host model: a missing barrier gives other results in another order") {
  CHECK(results_of(neighbour_kernel<true>).size() == 1);
  CHECK(results_of(neighbour_kernel<false>).size() > 1);
  CHECK(results_of(reuse_kernel<true>).size() == 1);
  CHECK(results_of(reuse_kernel<false>).size() > 1);
}

TEST_CASE("host model: copies in the background arrive when they are waited for") {
  const auto good = results_of(copy_kernel<true>);
  const auto bad = results_of(copy_kernel<false>);
  REQUIRE(good.size() == 1);
  CHECK(*good.begin() != *bad.begin());
}

TEST_CASE("host model: threads that part at a barrier are an error") {
  CHECK_THROWS_WITH_AS(
      launch(nullptr, "planted", parting_kernel, dim3(1), kBlock, 0),
      "cuda: block (0,0,0): 48 of 96 threads wait at a barrier, 0 for their warp, and 48 have left the "
      "kernel",
      pavise::Error);
  const Memory y;
  CHECK_THROWS_AS(launch(nullptr, "planted", parting_warp_kernel, dim3(1), kBlock, 0, y.p), pavise::Error);
}

TEST_CASE("host model: accesses out of bounds end the program") {
  const Memory x;
  const Memory y;
  CHECK_FALSE(dies([&] { launch(nullptr, "sound", write_past_kernel, dim3(1), kBlock, 0, y.p, 0); }));
  CHECK(dies([&] { launch(nullptr, "planted", write_past_kernel, dim3(1), kBlock, 0, y.p, 1); }));
  CHECK_FALSE(dies([&] { launch(nullptr, "sound", read_past_kernel, dim3(1), 1u, 0, x.p, y.p, 0); }));
  CHECK(dies([&] { launch(nullptr, "planted", read_past_kernel, dim3(1), 1u, 0, x.p, y.p, 1); }));
}

TEST_CASE("host model: operations of a warp") {
  const Memory x;
  const Memory y;
  std::array<unsigned, kBlock> votes{};
  for (unsigned i = 0; i < kBlock; ++i) {
    x.p[i] = static_cast<float>(i);
  }
  launch(nullptr, "warp", warp_kernel, dim3(1), kBlock, 0, x.p, y.p, votes.data());
  CHECK(y.p[0] == 31.0f * 16.0f);
  CHECK(y.p[95] == (64.0f + 95.0f) * 16.0f);
  CHECK(votes[40] == 0x49249249u);
}

TEST_CASE("device: with the kernels in the program") {
  CHECK(pavise::Device::cuda(0).to_string() == "cuda:0");
  CHECK(pavise::Device::cuda(0).index() == 0);
  CHECK(pavise::Device::cuda(0).kernels().device_count() == 1);
  CHECK_THROWS_WITH_AS((void)pavise::Device::cuda(1), "cuda:1: there is no such device, this machine has 1",
                       pavise::DeviceError);
}
