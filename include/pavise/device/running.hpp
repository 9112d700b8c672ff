// SPDX-License-Identifier: MIT
// The running statistics of batch normalisations, moved towards those of a network's last pass.
#pragma once

#include <vector>

#include "pavise/device/memory.hpp"
#include "pavise/device/steps.hpp"
#include "pavise/device/weights.hpp"

namespace pavise::device {

/// Queues the move among the weights on the device; returns whether there are any statistics.
inline bool move_running_statistics(const std::vector<Step>& steps, const Weights& weights, const Stream& stream) {
  bool any = false;
  for (const Step& s : steps) {
    if (s.norm != nullptr) {
      s.norm->move_running(stream, weights.at(*s.op.running_mean), weights.at(*s.op.running_var), s.op.momentum);
      any = true;
    }
  }
  return any;
}

/// Moves those of the model, on the host, when the pass is done.
inline void update_running_statistics(const std::vector<Step>& steps, const Stream& stream) {
  bool any = false;
  for (const Step& s : steps) {
    if (s.norm != nullptr) {
      s.norm->fetch();
      any = true;
    }
  }
  if (!any) {
    return;
  }
  stream.finish();
  for (const Step& s : steps) {
    if (s.norm != nullptr) {
      s.norm->update_running(s.op);
    }
  }
}

}  // namespace pavise::device
