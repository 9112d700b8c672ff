// SPDX-License-Identifier: MIT
#include <doctest/doctest.h>

#include "pavise/core/device.hpp"

using pavise::Device;

TEST_CASE("device: the CPU") {
  CHECK(Device::cpu() == Device::cpu());
  CHECK_FALSE(Device::cpu().is_cuda());
  CHECK(Device::cpu().to_string() == "cpu");
  CHECK_THROWS_AS((void)Device::cpu().kernels(), pavise::DeviceError);
}

TEST_CASE("device: a program without the CUDA kernels says so") {
  REQUIRE(pavise::kernels::cuda::table.load() == nullptr);
  CHECK_THROWS_WITH_AS((void)Device::cuda(0),
                       "cuda:0: this program was built without the CUDA kernels; configure with -DPAVISE_CUDA=ON and "
                       "link pavise::cuda",
                       pavise::DeviceError);
  CHECK_THROWS_AS((void)Device::cuda(-1), pavise::ValueError);
}

TEST_CASE("device: by name") {
  CHECK(Device::named("cpu") == Device::cpu());
  CHECK_THROWS_WITH_AS((void)Device::named("gpu"), "device gpu, expected cpu, cuda or cuda:N", pavise::ValueError);
  CHECK_THROWS_WITH_AS((void)Device::named("cuda:x"), "device cuda:x, expected cpu, cuda or cuda:N",
                       pavise::ValueError);
  CHECK_THROWS_AS((void)Device::named("cuda:1"), pavise::DeviceError);
}
