// SPDX-License-Identifier: MIT
// Sums over the images of a pass on a GPU, which the devices of several processes may share.
#pragma once

#include <cstddef>
#include <cstdint>
#include <utility>

#include "pavise/device/memory.hpp"
#include "pavise/device/peers.hpp"

namespace pavise::device {

/// Devices that share a minibatch (share_of, by blocks of kBlockImages) take turns at each sum: a device goes on with the
/// sum of the one before it and hands it on, so that the last one's is that of one device with all images, to the last
/// bit. While one waits for a sum the others are at other layers.
class BatchSums {
 public:
  BatchSums() = default;
  /// `largest`: sums of one call of `add`; `partial`: elements of their slices (Table::add_slices).
  BatchSums(const Stream& stream, std::int64_t largest, std::int64_t partial)
      : carry_(stream, largest), partial_(stream, partial) {}

  float* partial() const { return partial_.get(); }

  /// Who shares the minibatch of `images_of_all` images; null: nobody.
  void begin(Peers* peers, std::int64_t images_of_all) {
    peers_ = peers;
    last_ = 0;
    while (peers != nullptr && share(last_, images_of_all).second < images_of_all) {
      ++last_;  // the last rank that has images
    }
    images_of_all_ = images_of_all;
  }
  std::int64_t images_of_all() const { return images_of_all_; }
  /// Images of the minibatch that are this device's.
  std::int64_t own_images() const {
    const auto [begin, end] =
        peers_ != nullptr ? share(peers_->rank(), images_of_all_) : std::pair(std::int64_t{0}, images_of_all_);
    return end - begin;
  }

  /// Queues the addition of the slices in partial() to the n numbers at `out`, on the last device that has images.
  void add(const Stream& stream, float* out, std::int64_t n, std::int64_t slices) const {
    const int rank = peers_ != nullptr ? peers_->rank() : 0;
    if (rank > last_) {
      return;
    }
    if (rank > 0) {
      peers_->receive(stream, carry_.get(), n, rank - 1);
    }
    const bool last = rank == last_;
    stream.kernels().add_slices(
        stream.get(), partial_.get(), n, slices,
        {.before = rank > 0 ? carry_.get() : nullptr, .out = last ? out : carry_.get(), .add = last});
    if (!last) {
      peers_->send(stream, carry_.get(), n, rank + 1);
    }
  }
  /// Queues what gives all devices the sums at `out`.
  void share_out(const Stream& stream, float* out, std::int64_t n) const {
    if (peers_ != nullptr) {
      peers_->broadcast(stream, out, n, last_);
    }
  }

 private:
  std::pair<std::int64_t, std::int64_t> share(int rank, std::int64_t images) const {
    return share_of(images, rank, peers_->size(), kernels::cuda::kBlockImages);
  }

  Array<float> carry_, partial_;
  Peers* peers_ = nullptr;
  int last_ = 0;
  std::int64_t images_of_all_ = 0;
};

}  // namespace pavise::device
