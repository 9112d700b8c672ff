// SPDX-License-Identifier: MIT
// Randomized smoothing on a GPU: noise, network and each sample's vote there, counts and stopping on the host. A sample's
// noise and its logits have the CPU's bits, so a certificate made here verifies anywhere.
//
//   certify::certify(base, sampler, images, plan, emit, progress, device::sampling(model, sampler, Device::cuda(0)));
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "pavise/certify/smoothing.hpp"
#include "pavise/device/network.hpp"

namespace pavise::device {

class Samples : public certify::SampleBatch {
 public:
  /// Room for `capacity` samples. Throws DeviceError for noise in floats, which is not drawn there.
  Samples(const nn::Model& model, const certify::Sampler& sampler, Device device, std::int64_t capacity,
          std::uint64_t seed)
      : network_(model, device, capacity, Use::logits), seed_(seed), capacity_(network_.capacity()) {
    require<DeviceError>(sampler.grid().has_value(), device.to_string(), ": noise ",
                         certify::noise_name(sampler.noise().kind), " is not drawn there, only noise on the grid");
    const auto table = sampler.grid()->table();
    least_ = sampler.grid()->least();
    most_ = sampler.grid()->most();
    const Stream& stream = network_.stream();
    buckets_ = Array<std::uint32_t>(stream, std::span(table.buckets, std::size_t{1} << 16));
    thresholds_ = Array<kernels::Threshold>(stream, std::span(table.thresholds, static_cast<std::size_t>(table.count)));
    table_ = {buckets_.get(), thresholds_.get(), table.count, table.lowest};
    keys_ = Array<std::uint32_t>(stream, 4 * capacity_);
    x_ = Array<float>(stream, capacity_ * network_.size());
    votes_ = Array<std::int32_t>(stream, groups_of(capacity_) * 32);
    host_keys_.resize(static_cast<std::size_t>(4 * capacity_));
    classes_.resize(static_cast<std::size_t>(capacity_));
  }

  std::int64_t capacity() const override { return capacity_; }
  std::int64_t share() const override { return std::max<std::int64_t>(1, capacity_ / 16); }
  std::int64_t filled() const override { return filled_; }
  void clear() override {
    filled_ = 0;
    held_ = -1;
    pixels_.clear();
  }
  void add(std::int64_t position, const std::uint8_t* image, std::uint32_t id,
           std::pair<std::uint32_t, std::uint32_t> key) override {
    if (position != held_) {
      pixels_.insert(pixels_.end(), image, image + network_.size());
      held_ = position;
    }
    const auto row = static_cast<std::uint32_t>(static_cast<std::int64_t>(pixels_.size()) / network_.size() - 1);
    const auto at = static_cast<std::size_t>(filled_++);
    const auto step = static_cast<std::size_t>(capacity_);
    host_keys_[at] = row;
    host_keys_[at + step] = id;
    host_keys_[at + 2 * step] = key.first;
    host_keys_[at + 3 * step] = key.second;
  }

  std::span<const std::int32_t> classify() override {
    const Stream& stream = network_.stream();
    stream.use();
    network_.refresh();
    const auto bytes = static_cast<std::int64_t>(pixels_.size());
    if (images_.size() < bytes) {
      images_ = Array<std::uint8_t>(stream, 2 * bytes);
    }
    images_.upload(pixels_.data(), bytes);
    for (std::int64_t i = filled_; i < groups_of(filled_) * 32; ++i) {  // lanes behind the last sample repeat it
      for (std::int64_t part = 0; part < 4; ++part) {
        host_keys_[static_cast<std::size_t>(part * capacity_ + i)] =
            host_keys_[static_cast<std::size_t>(part * capacity_ + filled_ - 1)];
      }
    }
    keys_.upload(host_keys_.data(), 4 * capacity_);
    const auto& k = stream.kernels();
    const std::uint32_t* keys = keys_.get();
    k.grid_noise(stream.get(), images_.get(), reinterpret_cast<const std::int32_t*>(keys), x_.get(), network_.size(),
                 groups_of(filled_), least_, most_, table_,
                 {seed_, static_cast<std::uint32_t>(Purpose::smoothing), keys + capacity_, keys + 2 * capacity_,
                  keys + 3 * capacity_});
    const float* z = network_.forward(x_.get(), filled_);
    k.vote(stream.get(), z, votes_.get(), network_.classes(), groups_of(filled_));
    votes_.download(classes_.data(), filled_);
    stream.finish();
    return {classes_.data(), static_cast<std::size_t>(filled_)};
  }

 private:
  Network network_;
  std::uint64_t seed_;
  std::int64_t capacity_;
  std::int32_t least_ = 0, most_ = 0;
  std::int64_t filled_ = 0, held_ = -1;
  kernels::GridTable table_{};
  Array<std::uint32_t> buckets_, keys_;
  Array<kernels::Threshold> thresholds_;
  Array<std::uint8_t> images_;
  Array<float> x_;
  Array<std::int32_t> votes_;
  std::vector<std::uint8_t> pixels_;
  std::vector<std::uint32_t> host_keys_;
  std::vector<std::int32_t> classes_;
};

/// Where `certify` takes its samples: two threads, so that one fills a batch while the other's is on the device. Model
/// and sampler must outlive it.
inline certify::SampleEngine sampling(const nn::Model& model, const certify::Sampler& sampler, Device device,
                                      std::int64_t capacity = 16384) {
  return {.threads = 2, .make = [&model, &sampler, device, capacity](std::uint64_t seed) {
            return std::make_unique<Samples>(model, sampler, device, capacity, seed);
          }};
}

}  // namespace pavise::device
