// SPDX-License-Identifier: MIT
#pragma once

#include <utility>

#include "pavise/device/memory.hpp"

namespace pavise::device {

/// Work of a stream recorded once, to be launched as a whole as often as wanted. What it asks for once (memory, a
/// kernel's limits) cannot be recorded: the same work has run before.
class RecordedWork {
 public:
  /// Records what `work()` queues instead of doing it.
  template <class Work>
  RecordedWork(const Stream& stream, const Work& work) : stream_(&stream) {
    const auto& k = stream.kernels();
    k.begin_graph(stream.get());
    try {
      work();
    } catch (...) {  // the stream works on, whatever became of the recording
      try {
        k.destroy_graph(k.end_graph(stream.get()));
      } catch (const DeviceError&) {
      }
      throw;
    }
    graph_ = k.end_graph(stream.get());
  }
  RecordedWork(RecordedWork&& other) noexcept : stream_(other.stream_), graph_(std::exchange(other.graph_, nullptr)) {}
  RecordedWork& operator=(RecordedWork&&) = delete;
  ~RecordedWork() {
    if (graph_ != nullptr) {
      try {
        stream_->kernels().destroy_graph(graph_);
      } catch (const DeviceError&) {  // whoever queued the work has been told
      }
    }
  }

  /// Queues it.
  void launch() const { stream_->kernels().launch_graph(graph_, stream_->get()); }

 private:
  const Stream* stream_;
  kernels::cuda::Graph graph_ = nullptr;
};

}  // namespace pavise::device
