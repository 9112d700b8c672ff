// SPDX-License-Identifier: MIT
// Gradients of weights on a GPU: sums over the images of a minibatch, which the devices of several processes may share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "pavise/device/memory.hpp"
#include "pavise/device/peers.hpp"

namespace pavise::device {

/// The gradients of all parameters, one behind another. Devices that share a minibatch (share_of, by blocks of
/// kBlockImages) take turns at each parameter: a device goes on with the sum of the one before it and hands it on, so that
/// the last one's are those of one device with all images, to the last bit. While one waits for a sum the others are at
/// other layers.
class GradientSums {
 public:
  GradientSums() = default;
  /// `count` gradients, `largest` of a parameter; `partial`: elements of the slices' sums of one (Table::add_slices).
  GradientSums(const Stream& stream, std::int64_t count, std::int64_t largest, std::int64_t partial)
      : values_(stream, count), carry_(stream, largest), partial_(stream, partial) {}

  const Array<float>& values() const { return values_; }
  float* partial() const { return partial_.get(); }

  /// Queues zeros for all gradients. `peers`: who shares the minibatch of `images_of_all` images, or null.
  void begin(const Stream& stream, Peers* peers, std::int64_t images_of_all) {
    stream.kernels().fill_bytes(values_.get(), 0, static_cast<std::size_t>(values_.size()) * sizeof(float),
                                stream.get());
    peers_ = peers;
    last_ = 0;
    while (peers != nullptr && share(last_, images_of_all).second < images_of_all) {
      ++last_;  // the last rank that has images
    }
  }
  /// Images of the minibatch that are this device's.
  std::int64_t own_images(std::int64_t images_of_all) const {
    const auto [begin, end] = share(peers_->rank(), images_of_all);
    return end - begin;
  }

  /// Queues the addition of the slices in partial() to n gradients, the first at `offset`.
  void add(const Stream& stream, std::int64_t offset, std::int64_t n, std::int64_t slices) const {
    const int rank = peers_ != nullptr ? peers_->rank() : 0;
    if (rank > 0) {
      peers_->receive(stream, carry_.get(), n, rank - 1);
    }
    const bool last = rank == last_;
    stream.kernels().add_slices(stream.get(), partial_.get(), n, slices,
                                {.before = rank > 0 ? carry_.get() : nullptr,
                                 .out = last ? values_.get() + offset : carry_.get(),
                                 .add = last});
    if (!last) {
      peers_->send(stream, carry_.get(), n, rank + 1);
    }
  }

  /// Queues what gives all devices the sums.
  void finish(const Stream& stream) const {
    if (peers_ != nullptr) {
      peers_->broadcast(stream, values_.get(), values_.size(), last_);
    }
  }

 private:
  std::pair<std::int64_t, std::int64_t> share(int rank, std::int64_t images_of_all) const {
    return share_of(images_of_all, rank, peers_->size(), kernels::cuda::kBlockImages);
  }

  Array<float> values_, carry_, partial_;
  Peers* peers_ = nullptr;
  int last_ = 0;
};

}  // namespace pavise::device
